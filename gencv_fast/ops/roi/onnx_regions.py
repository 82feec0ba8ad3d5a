"""Regions in ONNX graphs: onnxruntime stops at numbers that are not finite and at indices of no image."""

from __future__ import annotations

import math

from onnxscript import ir

from ...onnx.lowering import Value, cast, op, scalar, vector

_INT64 = ir.DataType.INT64


class SoundRegions:
    """Regions [K, 5] of maps: coordinates and images that onnxruntime takes, and which of them are sound."""

    def __init__(self, boxes: Value, maps: Value, dtype: ir.DataType) -> None:
        boxes = cast(boxes, dtype)
        zero = scalar(0.0, dtype)
        image, corners = (
            op.Gather(boxes, vector([0], _INT64), axis=1),
            op.Gather(boxes, vector([1, 2, 3, 4], _INT64), axis=1),
        )
        images = op.Cast(op.Shape(maps, start=0, end=1), to=dtype)
        finite = op.Equal(op.Sub(corners, corners), zero)  # false for NaN and infinities
        finite = op.ReduceMin(op.Cast(finite, to=_INT64), [1], keepdims=1)
        known = op.And(op.Greater(image, scalar(-1.0, dtype)), op.Less(image, images))
        self.sound = op.And(op.Cast(finite, to=ir.DataType.BOOL), known)  # [K, 1]
        self.corners = op.Where(self.sound, corners, zero)
        self.images = op.Squeeze(op.Cast(op.Where(self.sound, image, zero), to=_INT64), [1])
        self.dtype = dtype

    def marked(self, result: Value) -> Value:
        """NaN where a region is not sound."""
        return op.Where(op.Unsqueeze(self.sound, [2, 3]), result, scalar(math.nan, self.dtype))
