"""Spatial pyramid pooling in standard ONNX operators; every size may be dynamic, which torch's own adaptive pooling
cannot be: where bins begin and end is computed in the graph.

Whole maps: a Slice and a reduction for each bin of an axis. Regions: the cells of all bins are gathered, a level at a
time, which takes memory for as many cells as the largest region has, times the number of regions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxscript import ir

from ....onnx.lowering import Value, cast, op, require_exportable, scalar, vector, work_dtype

INT64 = ir.DataType.INT64


def _number(value: int) -> Value:
    return scalar(value, INT64)


def _bin_edges(size: Value, level: int, bins: str) -> tuple[Value, Value]:
    """Begin and end ``[..., level]`` of the bins of ``size [..., 1]`` cells, which are not negative."""
    i = vector(range(level), INT64)
    one, n = _number(1), _number(level)
    begin = op.Div(op.Mul(i, size), n)
    end = op.Div(op.Add(op.Mul(op.Add(i, one), size), _number(level - 1)), n)
    if bins == "paper":
        stride, window = op.Div(size, n), op.Div(op.Add(size, _number(level - 1)), n)
        start = op.Mul(i, stride)
        fits = op.GreaterOrEqual(size, n)
        begin, end = op.Where(fits, start, begin), op.Where(fits, op.Add(start, window), end)
    return begin, end


def _reduce(values: Value, axes: Sequence[int], mode: str, keepdims: int = 1) -> Value:
    reduce = op.ReduceMax if mode == "max" else op.ReduceMean
    return reduce(values, vector(axes, INT64), keepdims=keepdims)


def _pool_axis(maps: Value, axis: int, level: int, mode: str, bins: str) -> Value:
    begins, ends = _bin_edges(op.Shape(maps, start=axis, end=axis + 1), level, bins)
    pooled = []
    for i in range(level):
        at = vector([i], INT64)
        window = op.Slice(maps, op.Gather(begins, at), op.Gather(ends, at), vector([axis], INT64))
        pooled.append(_reduce(window, [axis], mode))
    return pooled[0] if level == 1 else op.Concat(*pooled, axis=axis)


def _pool_maps(maps: Value, levels: Sequence[int], mode: str, bins: str) -> Value:
    results = []
    for level in levels:
        rows = _pool_axis(maps, 2, level, mode, bins)
        results.append(op.Flatten(_pool_axis(rows, 3, level, mode, bins)))
    return results[0] if len(results) == 1 else op.Concat(*results, axis=1)


def _cells_between(low: Value, high: Value, size: Value, dtype: ir.DataType) -> tuple[Value, Value]:
    """Begin and end ``[K, 1]`` of a region along an axis, in cells."""
    one, zero, two = _number(1), _number(0), _number(2)
    most = scalar(2.0**40, dtype)

    def whole(x: Value) -> Value:
        known = op.Where(op.IsNaN(x), scalar(0.0, dtype), x)
        return op.Cast(op.Max(op.Min(known, most), op.Neg(most)), to=INT64)

    first = op.Add(whole(op.Floor(low)), one)
    last = op.Sub(whole(op.Ceil(high)), one)
    total = op.Add(first, last)
    # Integer division cuts towards zero.
    middle = op.Div(op.Sub(total, op.Mod(total, two)), two)
    thin = op.Less(last, first)
    first, last = op.Where(thin, middle, first), op.Where(thin, middle, last)
    begin = op.Max(first, zero)
    end = op.Max(op.Min(op.Add(last, one), size), begin)
    return begin, end


def _bin_cells(begin: Value, end: Value, size: Value, level: int, bins: str) -> tuple[Value, Value]:
    """Cells ``[K, level, m]`` of an axis with m those of the largest bin, and which of them are a bin's own."""
    one = _number(1)
    low, high = _bin_edges(op.Sub(end, begin), level, bins)
    low, high = (op.Unsqueeze(op.Add(x, begin), vector([2], INT64)) for x in (low, high))
    lengths = op.Reshape(op.Sub(high, low), vector([-1], INT64))
    most = op.ReduceMax(op.Concat(vector([1], INT64), lengths, axis=0), keepdims=0)
    cells = op.Add(low, op.Range(_number(0), most, one))
    own = op.Less(cells, high)
    last = op.Max(op.Min(op.Sub(high, one), op.Sub(size, one)), _number(0))
    return op.Min(cells, last), own


def _pool_level(
    rows: Value, image: Value, axes: Sequence[tuple[Value, Value, Value]], level: int, mode: str, bins: str
) -> Value:
    """``[K, C * level * level]`` of maps whose pixels are the rows ``[N * H * W, C]``."""
    (y, own_y), (x, own_x) = (_bin_cells(*axis, level, bins) for axis in axes)
    height, width = axes[0][2], axes[1][2]
    y = op.Unsqueeze(op.Add(y, op.Unsqueeze(op.Mul(image, height), vector([2], INT64))), vector([2, 4], INT64))
    x = op.Unsqueeze(x, vector([1, 3], INT64))
    values = op.Gather(rows, op.Add(op.Mul(y, width), x), axis=0)  # [K, level, level, my, mx, C]
    if mode == "max":
        # Cells beyond a bin repeat its last ones, which changes no maximum.
        pooled = _reduce(values, [3, 4], mode, keepdims=0)
    else:
        own = op.And(op.Unsqueeze(own_y, vector([2, 4], INT64)), op.Unsqueeze(own_x, vector([1, 3], INT64)))
        own = op.Unsqueeze(own, vector([5], INT64))
        dtype = rows.dtype
        total = op.ReduceSum(op.Where(own, values, scalar(0.0, dtype)), vector([3, 4], INT64), keepdims=0)
        count = op.ReduceSum(op.Cast(own, to=dtype), vector([3, 4], INT64), keepdims=0)
        pooled = op.Div(total, count)
    turned = op.Transpose(op.Reshape(pooled, _shape(rows, level)), perm=[0, 2, 1])
    return op.Reshape(turned, op.Concat(vector([-1], INT64), _features(rows, level * level), axis=0))


def _features(rows: Value, bins: int) -> Value:
    return op.Mul(op.Shape(rows, start=1, end=2), _number(bins))


def _shape(rows: Value, level: int) -> Value:
    return op.Concat(vector([-1, level * level], INT64), op.Shape(rows, start=1, end=2), axis=0)


def _pool_regions(
    maps: Value, levels: Sequence[int], mode: str, bins: str, boxes: Value, spatial_scale: float, dtype: ir.DataType
) -> Value:
    index, x1, y1, x2, y2 = op.Split(cast(boxes, dtype), num_outputs=5, axis=1)
    scale = scalar(spatial_scale, dtype)
    images = op.Shape(maps, start=0, end=1)
    height, width = op.Shape(maps, start=2, end=3), op.Shape(maps, start=3, end=4)
    y = (*_cells_between(op.Mul(y1, scale), op.Mul(y2, scale), height, dtype), height)
    x = (*_cells_between(op.Mul(x1, scale), op.Mul(x2, scale), width, dtype), width)
    corners = op.Slice(cast(boxes, dtype), vector([1], INT64), vector([5], INT64), vector([1], INT64))
    zeros = op.Sub(corners, corners)  # NaN where not finite
    finite = op.Not(op.IsNaN(op.ReduceSum(zeros, vector([1], INT64))))
    in_batch = op.And(op.Greater(index, scalar(-1.0, dtype)), op.Less(index, op.Cast(images, to=dtype)))
    sound = op.And(finite, in_batch)
    image = op.Cast(op.Where(in_batch, index, scalar(0.0, dtype)), to=INT64)
    rows = op.Transpose(maps, perm=[0, 2, 3, 1])
    rows = op.Reshape(rows, op.Concat(vector([-1], INT64), op.Shape(maps, start=1, end=2), axis=0))
    rows.dtype = dtype
    results = [_pool_level(rows, image, (y, x), level, mode, bins) for level in levels]
    result = results[0] if len(results) == 1 else op.Concat(*results, axis=1)
    empty = op.Or(op.Equal(y[0], y[1]), op.Equal(x[0], x[1]))
    result = op.Where(empty, scalar(0.0, dtype), result)
    return op.Where(sound, result, scalar(math.nan, dtype))


def spatial_pyramid_pool(
    input: Value,
    levels: Sequence[int],
    mode: str,
    bins: str,
    boxes: Value = None,
    spatial_scale: float = 1.0,
) -> Value:
    """fp16 is computed in fp32; maxima are exact."""
    require_exportable("spatial_pyramid_pool", input, "input")
    dtype = work_dtype(input)
    maps = cast(input, dtype)
    if boxes is None:
        result = _pool_maps(maps, levels, mode, bins)
    else:
        result = _pool_regions(maps, levels, mode, bins, boxes, spatial_scale, dtype)
    return cast(result, input.dtype)
