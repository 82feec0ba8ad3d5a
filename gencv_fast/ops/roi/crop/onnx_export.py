"""The wing in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

Every size may be dynamic but that of the crops; there may be no boxes. In onnxruntime the crops are those of the
reference, to the bit where nothing is normalised. The four pixels around each position are gathered from images with
their channels last, so all channels of a pixel come at once.

fp16 and uint8 are computed in fp32. bf16 is refused. An index of no image fails in onnxruntime's Gather, but for
negative ones, which count from the end there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxscript import ir

from ....onnx.lowering import Value, cast, op, require_exportable, scalar, vector, work_dtype

_OP = "crop_and_resize"


@dataclass
class _Axis:
    """`reference.Axis`: ``[K, count]`` each."""

    inside: Value
    low: Value  # int64
    high: Value
    weight: Value


def _integers(*numbers: int) -> Value:
    return vector(numbers, ir.DataType.INT64)


def _positions(first: Value, last: Value, count: int, length: Value, dtype: ir.DataType) -> Value:
    """`reference._positions` of ends ``[K, 1]``; `length` is the last pixel's place."""
    if count == 1:
        return op.Mul(op.Mul(scalar(0.5, dtype), op.Add(first, last)), length)
    start, end = op.Mul(first, length), op.Mul(last, length)
    step = op.Div(op.Mul(op.Sub(last, first), length), scalar(float(count - 1), dtype))
    inner = op.Add(start, op.Mul(vector([float(i) for i in range(1, count - 1)], dtype), step))
    return op.Concat(start, inner, end, axis=1)


def _axis(first: Value, last: Value, count: int, size: Value, method: str, dtype: ir.DataType) -> _Axis:
    length = op.Cast(op.Sub(size, _integers(1)), to=dtype)
    zero = scalar(0.0, dtype)
    positions = _positions(first, last, count, length, dtype)
    inside = op.And(op.GreaterOrEqual(positions, zero), op.LessOrEqual(positions, length))
    positions = op.Where(inside, positions, zero)
    low = op.Floor(positions)
    weight = op.Sub(positions, low)
    if method == "nearest":
        nearest = op.Add(low, op.Cast(op.GreaterOrEqual(weight, scalar(0.5, dtype)), to=dtype))
        low, high = nearest, nearest
    else:
        high = op.Add(low, op.Cast(op.Greater(weight, zero), to=dtype))
    return _Axis(inside, cast(low, ir.DataType.INT64), cast(high, ir.DataType.INT64), weight)


def _lerp(low: Value, high: Value, weight: Value) -> Value:
    return op.Add(low, op.Mul(op.Sub(high, low), weight))


def _normalised(values: Value, mean: Sequence[float] | None, std: Sequence[float] | None, dtype: ir.DataType) -> Value:
    values = values if mean is None else op.Sub(values, vector(mean, dtype))
    return values if std is None else op.Div(values, vector(std, dtype))


def crop_and_resize(
    images: Any,
    boxes: Any,
    box_indices: Any,
    size: Sequence[int],
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    differentiable_boxes: bool = False,
) -> Any:
    require_exportable(_OP, images, "images")
    require_exportable(_OP, boxes)
    if not all(isinstance(side, int) for side in size):
        raise RuntimeError(f"{_OP}: size must be fixed numbers to be exported, got {size}.")
    double = ir.DataType.DOUBLE
    dtype = double if double in (work_dtype(images), boxes.dtype) else ir.DataType.FLOAT
    result = ir.DataType.FLOAT if images.dtype == ir.DataType.UINT8 else images.dtype
    corners = cast(boxes, dtype)
    y1, x1, y2, x2 = op.Split(corners, num_outputs=4, axis=1)
    shape = op.Shape(images)
    number, channels, height, width = (op.Slice(shape, _integers(i), _integers(i + 1)) for i in range(4))
    y = _axis(y1, y2, size[0], height, method, dtype)
    x = _axis(x1, x2, size[1], width, method, dtype)
    pixels = op.Transpose(cast(images, dtype), perm=[0, 2, 3, 1])
    flat = op.Reshape(pixels, op.Concat(op.Mul(number, op.Mul(height, width)), channels, axis=0), allowzero=1)
    first_rows = op.Mul(op.Unsqueeze(cast(box_indices, ir.DataType.INT64), _integers(1)), height)

    def at(row: Value, column: Value) -> Value:
        starts = op.Mul(op.Add(first_rows, row), width)
        return op.Gather(flat, op.Add(op.Unsqueeze(starts, _integers(2)), op.Unsqueeze(column, _integers(1))))

    values = at(y.low, x.low)
    if method == "bilinear":
        x_weight, y_weight = op.Unsqueeze(x.weight, _integers(1, 3)), op.Unsqueeze(y.weight, _integers(2, 3))
        top = _lerp(values, at(y.low, x.high), x_weight)
        values = _lerp(top, _lerp(at(y.high, x.low), at(y.high, x.high), x_weight), y_weight)
    inside = op.And(op.Unsqueeze(y.inside, _integers(2, 3)), op.Unsqueeze(x.inside, _integers(1, 3)))
    values = op.Where(inside, values, scalar(extrapolation_value, dtype))
    values = _normalised(values, mean, std, dtype)
    # Zero, but NaN for a box that is not finite.
    unsound = op.ReduceSum(op.Sub(corners, corners), _integers(1), keepdims=1)
    values = op.Add(values, op.Unsqueeze(unsound, _integers(2, 3)))
    return cast(op.Transpose(values, perm=[0, 3, 1, 2]), result)
