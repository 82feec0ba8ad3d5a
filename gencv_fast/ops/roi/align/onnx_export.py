"""The wing in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

The mean is ONNX's RoiAlign, which samples as the reference does: a sample off the map by more than one cell is zero.
onnxruntime stops at numbers that are not finite and at indices of no image, and takes negative sizes for many samples:
such regions are replaced before it, and their results after it. It keeps a table of all samples of a region, so that a
huge region with adaptive sampling needs much memory. RoiAlign's own maximum is that of weighted corners: the maximum
of interpolated samples, which this room means, is written out as gathers.

Of a pyramid, each region is aligned once, on its own level. fp16 is computed in fp32; bf16 is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onnxscript import ir

from ....onnx.lowering import Value, cast, op, require_exportable, scalar, vector, work_dtype
from ..onnx_regions import SoundRegions
from .reference import level_range

_INT64 = ir.DataType.INT64


def _mean(
    maps: Value, corners: Value, images: Value, size: Sequence[int], scale: float, ratio: int, aligned: bool,
    dtype: ir.DataType,
) -> Value:  # fmt: skip
    if ratio <= 0 and aligned:
        # Without a size there are no samples; far off the map they are zeros, too.
        low, high = op.Split(corners, num_outputs=2, axis=1)
        proper = op.ReduceMin(op.Cast(op.Greater(high, low), to=_INT64), [1], keepdims=1)
        off = vector([-9.0 / scale, -9.0 / scale, -8.0 / scale, -8.0 / scale], dtype)
        corners = op.Where(op.Cast(proper, to=ir.DataType.BOOL), corners, off)
    return op.RoiAlign(
        cast(maps, dtype), corners, images, output_height=size[0], output_width=size[1], sampling_ratio=max(ratio, 0),
        spatial_scale=scale, coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )  # fmt: skip


def _axis(
    low: Value, high: Value, size: Value, bins: int, scale: float, ratio: int, aligned: bool, dtype: ir.DataType
) -> tuple[Value, ...]:
    """Of the samples [K, bins * ratio] of one axis: the cells before and after, their weights, who is on the map."""
    zero, one = scalar(0.0, dtype), scalar(1.0, dtype)
    factor, offset = scalar(scale, dtype), scalar(0.5 if aligned else 0.0, dtype)
    start = op.Sub(op.Mul(low, factor), offset)  # [K, 1]
    extent = op.Sub(op.Sub(op.Mul(high, factor), offset), start)
    if not aligned:
        extent = op.Where(op.Less(extent, one), one, extent)
    bin_size = op.Div(extent, scalar(float(bins), dtype))
    index = vector([float(i // ratio) for i in range(bins * ratio)], dtype)
    within = vector([i % ratio + 0.5 for i in range(bins * ratio)], dtype)
    at = op.Add(op.Add(start, op.Mul(index, bin_size)), op.Div(op.Mul(within, bin_size), scalar(float(ratio), dtype)))
    limit = op.Cast(size, to=dtype)
    inside = op.And(op.GreaterOrEqual(at, scalar(-1.0, dtype)), op.LessOrEqual(at, limit))
    at = op.Where(op.And(inside, op.Greater(at, zero)), at, zero)
    at = op.Min(at, op.Sub(limit, one))
    below = op.Floor(at)
    last = op.Sub(size, vector([1], _INT64))
    before = op.Cast(below, to=_INT64)
    after = op.Min(op.Add(before, vector([1], _INT64)), last)
    above = op.Sub(at, below)
    return before, after, op.Sub(one, above), above, inside


def _maximum(maps: Value, regions: SoundRegions, size: Sequence[int], scale: float, ratio: int, aligned: bool) -> Value:
    """Samples [K, rows, columns, C] gathered from maps with the channels last, then the greatest of each bin."""
    dtype = regions.dtype
    x1, y1, x2, y2 = op.Split(regions.corners, num_outputs=4, axis=1)
    height, width = op.Shape(maps, start=2, end=3), op.Shape(maps, start=3, end=4)
    rows = _axis(y1, y2, height, size[0], scale, ratio, aligned, dtype)
    columns = _axis(x1, x2, width, size[1], scale, ratio, aligned, dtype)
    places = op.Transpose(cast(maps, dtype), perm=[0, 2, 3, 1])
    images = op.Unsqueeze(regions.images, [1, 2])
    shape = op.Concat(
        op.Shape(regions.images), vector([size[0] * ratio, size[1] * ratio], _INT64), axis=0
    )  # fmt: skip

    def gathered(row: Value, column: Value) -> Value:
        parts = (images, op.Unsqueeze(row, [2]), op.Unsqueeze(column, [1]))
        return op.GatherND(places, op.Concat(*(op.Unsqueeze(op.Expand(p, shape), [3]) for p in parts), axis=3))

    def mixed(column: Value) -> Value:
        low, high = (op.Unsqueeze(weight, [2, 3]) for weight in rows[2:4])
        return op.Add(op.Mul(low, gathered(rows[0], column)), op.Mul(high, gathered(rows[1], column)))

    left, right = (op.Unsqueeze(weight, [1, 3]) for weight in columns[2:4])
    values = op.Add(op.Mul(left, mixed(columns[0])), op.Mul(right, mixed(columns[1])))
    inside = op.And(op.Unsqueeze(rows[4], [2, 3]), op.Unsqueeze(columns[4], [1, 3]))
    values = op.Where(inside, values, scalar(0.0, dtype))
    channels = op.Shape(maps, start=1, end=2)
    split = op.Concat(
        op.Shape(regions.images), vector([size[0], ratio, size[1], ratio], _INT64), channels, axis=0
    )  # fmt: skip
    best = op.ReduceMax(op.Reshape(values, split, allowzero=1), [2, 4], keepdims=0)
    return op.Transpose(best, perm=[0, 3, 1, 2])


def _fixed(name: str, output_size: Sequence[Any]) -> list[int]:
    if not all(isinstance(side, int) for side in output_size):
        raise RuntimeError(
            f"{name}: output_size must be known numbers to be exported, since they are attributes of ONNX's RoiAlign, "
            f"got {list(output_size)}."
        )
    return list(output_size)


def roi_align(
    input: Value,
    boxes: Value,
    output_size: Sequence[Any],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    mode: str = "avg",
    differentiable_boxes: bool = False,
    channels_last: bool = False,
) -> Value:
    require_exportable("roi_align", input, "input")
    size = _fixed("roi_align", output_size)
    dtype = work_dtype(input)
    regions = SoundRegions(boxes, input, dtype)
    rest = (size, spatial_scale, sampling_ratio, aligned)
    if mode == "max":
        if sampling_ratio <= 0:
            raise RuntimeError(
                "roi_align: sampling_ratio must be positive for mode 'max' to be exported, since ONNX's own maximum "
                f"means something else and gathers need a known number of samples, got {sampling_ratio}."
            )
        result = _maximum(input, regions, *rest)
    else:
        result = _mean(input, regions.corners, regions.images, *rest, dtype)
    return cast(regions.marked(result), input.dtype)


def _levels_of(
    boxes: Value, scales: Sequence[float], canonical_scale: int, canonical_level: int, dtype: ir.DataType
) -> Value:
    """[K]: `reference.map_levels`, in the precision of the boxes; -1 for none."""
    finest, coarsest = level_range(scales)
    _, x1, y1, x2, y2 = op.Split(cast(boxes, dtype), num_outputs=5, axis=1)
    side = op.Sqrt(op.Squeeze(op.Mul(op.Sub(x2, x1), op.Sub(y2, y1)), [1]))
    ratio = op.Div(op.Log(op.Div(side, scalar(float(canonical_scale), dtype))), scalar(math.log(2), dtype))
    level = op.Floor(op.Add(op.Add(scalar(float(canonical_level), dtype), ratio), scalar(1e-6, dtype)))
    level = op.Min(op.Max(level, scalar(float(finest), dtype)), scalar(float(coarsest), dtype))
    known = op.Not(op.IsNaN(side))
    return op.Cast(op.Where(known, op.Sub(level, scalar(float(finest), dtype)), scalar(-1.0, dtype)), to=_INT64)


def multiscale_roi_align(
    features: Sequence[Value],
    boxes: Value,
    output_size: Sequence[Any],
    scales: Sequence[float],
    sampling_ratio: int,
    canonical_scale: int = 224,
    canonical_level: int = 4,
    aligned: bool = False,
) -> Value:
    """A RoiAlign for each level over its own regions; their results, one after the other, in the regions' order."""
    name = "multiscale_roi_align"
    require_exportable(name, features[0], "features[0]")
    size = _fixed(name, output_size)
    dtype = work_dtype(features[0])
    regions = SoundRegions(boxes, features[0], dtype)
    rest = (sampling_ratio, aligned, dtype)
    if len(features) == 1:
        result = _mean(features[0], regions.corners, regions.images, size, scales[0], *rest)
        return cast(regions.marked(result), features[0].dtype)
    level_of = _levels_of(boxes, scales, canonical_scale, canonical_level, work_dtype(boxes))
    on_none = op.Or(op.Less(level_of, scalar(0, _INT64)), op.Not(op.Squeeze(regions.sound, [1])))
    level_of = op.Where(on_none, scalar(-1, _INT64), level_of)
    results, places = [], []
    for number, (maps, scale) in enumerate(zip(features, scales, strict=True)):
        own = op.Squeeze(op.NonZero(op.Equal(level_of, scalar(number, _INT64))), [0])
        corners, images = op.Gather(regions.corners, own), op.Gather(regions.images, own)
        results.append(_mean(maps, corners, images, size, scale, *rest))
        places.append(own)
    # One row of zeros more, for regions on no level.
    channels = op.Shape(features[0], start=1, end=2)
    row = op.Concat(vector([1], _INT64), channels, vector(size, _INT64), axis=0)
    results.append(op.Expand(scalar(0.0, dtype), row))
    order = op.Concat(*places, axis=0)
    count = op.Shape(order)
    found = op.Range(op.Constant(value_int=0), op.Squeeze(count, [0]), op.Constant(value_int=1))
    rank = op.ScatterElements(op.Expand(count, op.Shape(boxes, start=0, end=1)), order, found)
    return cast(regions.marked(op.Gather(op.Concat(*results, axis=0), rank)), features[0].dtype)
