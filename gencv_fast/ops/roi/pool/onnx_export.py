"""The wing in standard ONNX operators.

ONNX's MaxRoiPool rounds, cuts and clips as the reference does. It does not know of coordinates that are not finite:
those regions become a pixel, and their results NaN. fp16 is pooled in fp32, which holds the same maxima. bf16 and fp64
are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onnxscript import ir

from ....onnx.lowering import Value, cast, op, refuse_double, require_exportable, scalar

_OP = "roi_pool"


def roi_pool(input: Value, boxes: Value, output_size: Sequence[Any], spatial_scale: float = 1.0) -> Value:
    require_exportable(_OP, input, "input")
    refuse_double(_OP, input, "MaxRoiPool")
    float32 = ir.DataType.FLOAT
    rows = cast(boxes, float32)
    zero = scalar(0.0, float32)
    finite = op.Equal(op.Mul(rows, zero), zero)  # [K, 5]; infinities and NaN become NaN
    pooled = op.MaxRoiPool(
        cast(input, float32),
        op.Where(finite, rows, zero),
        pooled_shape=[int(size) for size in output_size],
        spatial_scale=float(spatial_scale),
    )
    wrong = op.ReduceMax(op.Cast(op.Not(finite), to=float32), [1], keepdims=1)  # [K, 1]
    unsound = op.Greater(op.Unsqueeze(wrong, [2, 3]), zero)
    return cast(op.Where(unsound, scalar(math.nan, float32), pooled), input.dtype)
