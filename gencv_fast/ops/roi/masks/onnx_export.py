"""The wing in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

Interpolation is separable and linear: weights ``[K, height, h]`` and ``[K, width, w]``, two products. Every size may
be dynamic, that of the image too, and there may be no masks. In onnxruntime the images are those of the reference but
for rounding. fp16 is computed in fp32. bf16 is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onnxscript import ir

from ....onnx.lowering import Value, cast, op, require_exportable, scalar, vector, work_dtype
from .reference import MOST_PIXELS

_OP = "paste_masks"
_INTEGER = ir.DataType.INT64


def _integers(*numbers: int) -> Value:
    return vector(numbers, _INTEGER)


def _number(value: Any) -> Value:
    """A scalar of the graph."""
    return scalar(value, _INTEGER) if isinstance(value, int) else op.Reshape(cast(value, _INTEGER), _integers())


def _grown_boxes(boxes: Value, columns: Value, padding: int) -> Value:
    """`reference.grown_boxes`; `columns` is a scalar."""
    dtype, double = work_dtype(boxes), ir.DataType.DOUBLE
    width = op.Cast(columns, to=double)
    scale = cast(op.Div(op.Add(width, scalar(2.0 * padding, double)), width), dtype)
    half = scalar(0.5, dtype)
    near, far = op.Split(cast(boxes, dtype), num_outputs=2, axis=1)
    reach, center = op.Mul(op.Mul(op.Sub(far, near), half), scale), op.Mul(op.Add(far, near), half)
    return op.Concat(op.Sub(center, reach), op.Add(center, reach), axis=1)


def _weights(first: Value, last: Value, cells: Value, size: Value, padding: int, dtype: ir.DataType) -> Value:
    """``[K, 1, size, cells]``: what each pixel takes of each cell, from ends ``[K, 1, 1, 1]``; sizes are scalars."""
    one, half, zero = scalar(1.0, dtype), scalar(0.5, dtype), scalar(0.0, dtype)
    pixels = op.Unsqueeze(op.Range(scalar(0, _INTEGER), size, scalar(1, _INTEGER)), _integers(0, 1, 3))
    inside = op.And(op.GreaterOrEqual(pixels, first), op.LessOrEqual(pixels, last))
    extent = op.Max(op.Add(op.Sub(last, first), _integers(1)), _integers(1))
    padded = op.Cast(op.Add(cells, scalar(2 * padding, _INTEGER)), to=dtype)
    ratio = op.Div(padded, op.Cast(extent, to=dtype))
    position = op.Sub(op.Mul(op.Add(op.Cast(op.Sub(pixels, first), to=dtype), half), ratio), half)
    position = op.Min(op.Max(position, zero), op.Sub(padded, one))
    border = scalar(padding, _INTEGER)
    numbers = op.Cast(op.Range(border, op.Add(cells, border), scalar(1, _INTEGER)), to=dtype)
    distance = op.Abs(op.Sub(position, op.Unsqueeze(numbers, _integers(0, 1, 2))))
    return op.Where(inside, op.Max(op.Sub(one, distance), zero), zero)


def paste_masks(masks: Any, boxes: Any, image_size: Sequence[Any], padding: int = 1) -> Any:
    require_exportable(_OP, masks, "masks")
    require_exportable(_OP, boxes)
    dtype = work_dtype(masks)
    rows, columns = (op.Squeeze(op.Shape(masks, start=i, end=i + 1), _integers(0)) for i in (2, 3))
    height, width = (_number(side) for side in image_size)
    grown = _grown_boxes(boxes, columns, padding)
    none = scalar(0.0, work_dtype(boxes))
    finite = op.Equal(op.Sub(grown, grown), none)
    most = (scalar(-MOST_PIXELS, work_dtype(boxes)), scalar(MOST_PIXELS, work_dtype(boxes)))
    whole = op.Cast(op.Min(op.Max(op.Where(finite, grown, none), most[0]), most[1]), to=_INTEGER)
    x1, y1, x2, y2 = op.Split(op.Unsqueeze(whole, _integers(2, 3)), num_outputs=4, axis=1)
    down = _weights(y1, y2, rows, height, padding, dtype)
    across = _weights(x1, x2, columns, width, padding, dtype)
    images = op.MatMul(op.MatMul(down, cast(masks, dtype)), op.Transpose(across, perm=[0, 1, 3, 2]))
    unsound = op.ReduceMax(op.Cast(op.Not(finite), to=ir.DataType.FLOAT), _integers(1), keepdims=1)
    is_unsound = op.Unsqueeze(op.Cast(unsound, to=ir.DataType.BOOL), _integers(2, 3))
    images = op.Where(is_unsound, scalar(math.nan, dtype), images)
    return cast(images, masks.dtype)
