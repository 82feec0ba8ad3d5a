"""The wing in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

`ps_roi_align` is RoiAlign of all channels, of whose bins each channel keeps its own. `ps_roi_pool` reads the corners of
each bin from a summed-area table, in float64 so that the differences stay exact: a pixel that is not finite spoils all
behind it. fp16 is computed in fp32, bf16 is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxscript import ir

from ....onnx.lowering import Value, cast, op, require_exportable, scalar, vector, work_dtype
from ..onnx_regions import SoundRegions

_INT64 = ir.DataType.INT64
_DOUBLE = ir.DataType.DOUBLE


def _columns(boxes: Value, first: int, end: int) -> Value:
    return op.Slice(boxes, vector([first], _INT64), vector([end], _INT64), vector([1], _INT64))


def _reshaped(value: Value, *sizes: Value | int) -> Value:
    """Sizes are numbers or ``[1]``."""
    parts = [vector([size], _INT64) if isinstance(size, int) else size for size in sizes]
    return op.Reshape(value, op.Concat(*parts, axis=0), allowzero=1)


def _size(tensor: Value, dim: int) -> Value:
    """``[1]``"""
    return op.Shape(tensor, start=dim, end=dim + 1)


def ps_roi_align(
    input: Value,
    boxes: Value,
    output_size: Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    differentiable_boxes: bool = False,
) -> Value:
    require_exportable("ps_roi_align", input, "input")
    height, width = output_size
    bins = height * width
    dtype = work_dtype(input)
    sound = SoundRegions(boxes, input, dtype)
    every = op.RoiAlign(
        cast(input, dtype),
        sound.corners,
        sound.images,
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=height,
        output_width=width,
        sampling_ratio=max(sampling_ratio, 0),
        spatial_scale=spatial_scale,
    )
    regions = _size(boxes, 0)
    channels = op.Div(_size(input, 1), vector([bins], _INT64))
    # Of channel (c * bins + b), bin b.
    own = vector([bin * (bins + 1) for bin in range(bins)], _INT64)
    kept = op.Gather(_reshaped(every, regions, channels, bins * bins), own, axis=2)
    return cast(sound.marked(_reshaped(kept, regions, channels, height, width)), input.dtype)


def _rounded(x: Value, dtype: ir.DataType) -> Value:
    """Halves away from zero; ONNX's own Round takes them to the even neighbour."""
    size = op.Abs(x)
    whole = op.Floor(size)
    up = op.Cast(op.GreaterOrEqual(op.Sub(size, whole), scalar(0.5, dtype)), to=dtype)
    return op.Mul(op.Sign(x), op.Add(whole, up))


def _edges(low: Value, high: Value, bins: int, size: Value, dtype: ir.DataType) -> tuple[Value, Value]:
    """Along one axis: where each bin begins and ends, ``[K, bins]``; low and high are ``[K, 1]``."""
    start = _rounded(low, dtype)
    extent = op.Max(op.Sub(_rounded(high, dtype), start), scalar(1.0, dtype))
    step = op.Div(extent, scalar(float(bins), dtype))
    last = op.Sub(op.Cast(size, to=dtype), scalar(1.0, dtype))

    def on_map(offset: Value) -> Value:
        return op.Cast(op.Min(op.Max(op.Add(offset, start), scalar(0.0, dtype)), last), to=_INT64)

    first = on_map(op.Floor(op.Mul(vector(range(bins), dtype), step)))
    end = on_map(op.Ceil(op.Mul(vector(range(1, bins + 1), dtype), step)))
    return first, op.Max(first, end)


def _sums_before(input: Value, bins: int, channels: Value) -> Value:
    """Over all pixels above and left of each corner: ``[N, bins, (H + 1) * (W + 1), channels]``."""
    padded = op.Pad(cast(input, _DOUBLE), vector([0, 0, 1, 1, 0, 0, 0, 0], _INT64))
    sums = op.CumSum(op.CumSum(padded, scalar(2, _INT64)), scalar(3, _INT64))
    corners = op.Mul(_size(padded, 2), _size(padded, 3))
    return op.Transpose(_reshaped(sums, _size(input, 0), channels, bins, corners), perm=[0, 2, 3, 1])


def ps_roi_pool(input: Value, boxes: Value, output_size: Sequence[int], spatial_scale: float = 1.0) -> Value:
    require_exportable("ps_roi_pool", input, "input")
    height, width = output_size
    bins = height * width
    dtype = work_dtype(input)
    regions = _size(boxes, 0)
    channels = op.Div(_size(input, 1), vector([bins], _INT64))
    sums = _sums_before(input, bins, channels)
    sound = SoundRegions(boxes, input, dtype)
    corners = op.Mul(sound.corners, scalar(spatial_scale, dtype))
    x1, y1, x2, y2 = (_columns(corners, i, i + 1) for i in range(4))
    top, bottom = (op.Unsqueeze(y, [2]) for y in _edges(y1, y2, height, _size(input, 2), dtype))
    left, right = (op.Unsqueeze(x, [1]) for x in _edges(x1, x2, width, _size(input, 3), dtype))
    across = op.Add(_size(input, 3), vector([1], _INT64))
    shape = op.Concat(regions, vector([bins, 1], _INT64), axis=0)
    image = op.Expand(op.Unsqueeze(sound.images, [1, 2]), shape)
    bin = op.Expand(op.Constant(value=ir.tensor([[[b] for b in range(bins)]], dtype=_INT64)), shape)

    def sums_at(y: Value, x: Value) -> Value:
        corner = op.Reshape(op.Add(op.Mul(y, across), x), shape, allowzero=1)
        return op.GatherND(sums, op.Concat(image, bin, corner, axis=2))

    total = op.Add(
        op.Sub(sums_at(bottom, right), sums_at(top, right)), op.Sub(sums_at(top, left), sums_at(bottom, left))
    )
    area = op.Reshape(op.Mul(op.Sub(bottom, top), op.Sub(right, left)), shape, allowzero=1)
    mean = op.Div(total, op.Cast(op.Max(area, scalar(1, _INT64)), to=_DOUBLE))
    by_channel = cast(op.Transpose(mean, perm=[0, 2, 1]), dtype)
    return cast(sound.marked(_reshaped(by_channel, regions, channels, height, width)), input.dtype)
