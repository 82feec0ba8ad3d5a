"""The room in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

Every size may be dynamic but the number of images and levels. In onnxruntime the proposals are those of the
reference, in its order, but where the last digit decides: exp and sigmoid are ONNX's. Candidates are ranked by logits,
not by scores, so different logits of two levels whose scores round to the same number may change places.

fp16 is computed in fp32; NonMaxSuppression takes fp32 only, to which fp64 boxes are rounded. bf16 is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxscript import ir

from ...onnx.lowering import Value, cast, op, require_exportable, scalar, work_dtype
from ..nms.onnx_export import emptied, overlap_threshold
from .reference import MOST_GROWTH

_OP = "rpn_proposals"


@dataclass
class _Level:
    """The chosen candidates of a level, k of them for each of B images, best first."""

    logits: Value  # [B, k]
    boxes: Value  # [B, k, 4]


def _vector(numbers: Sequence[Any]) -> Value:
    """int64 [n] from numbers, some of which may be values of the graph."""
    if all(isinstance(number, int) for number in numbers):
        return op.Constant(value=ir.tensor(list(numbers), dtype=ir.DataType.INT64))
    parts = [_vector([n]) if isinstance(n, int) else op.Reshape(cast(n, ir.DataType.INT64), [1]) for n in numbers]
    return op.Concat(*parts, axis=0)


def _size(tensor: Value, axis: int) -> Value:
    return op.Shape(tensor, start=axis, end=axis + 1)


def _comparable(logits: Value, dtype: ir.DataType) -> Value:
    return op.Where(op.IsNaN(logits), scalar(math.inf, dtype), logits)


def _ranked_logits(objectness: Value, pre_nms_top_n: int) -> tuple[Value, Value]:
    """[B, A, H, W] -> the best logits [B, k] and their indices in order of cells, then anchors."""
    by_cell = op.Transpose(objectness, perm=[0, 2, 3, 1])
    candidates = op.Mul(op.Mul(_size(objectness, 1), _size(objectness, 2)), _size(objectness, 3))
    flat = op.Reshape(by_cell, op.Concat(_size(objectness, 0), candidates, axis=0), allowzero=1)
    dtype = work_dtype(objectness)
    logits = cast(flat, dtype)
    _, indices = op.TopK(_comparable(logits, dtype), op.Min(candidates, _vector([pre_nms_top_n])))
    return op.GatherElements(logits, indices, axis=1), indices


def _chosen_deltas(deltas: Value, anchor: Value, cell: Value) -> Value:
    """[B, 4 * A, H, W] -> [B, k, 4]: gathered where they lie, for a transposed copy would be larger than all else."""
    cells = op.Mul(_size(deltas, 2), _size(deltas, 3))
    flat_size = op.Concat(_size(deltas, 0), op.Mul(_size(deltas, 1), cells), axis=0)
    flat = op.Reshape(deltas, flat_size, allowzero=1)
    channels = op.Add(op.Mul(op.Unsqueeze(anchor, [2]), 4), _vector([0, 1, 2, 3]))
    places = op.Add(op.Mul(channels, cells), op.Unsqueeze(cell, [2]))
    return cast(op.GatherND(flat, op.Unsqueeze(places, [3]), batch_dims=1), work_dtype(deltas))


def _rows(anchors: Value, by_image: bool, indices: Value) -> Value:
    """Rows [B, k, 4] of anchors that all images share, or that each has of its own."""
    rows = op.GatherND(anchors, op.Unsqueeze(indices, [2]), batch_dims=1) if by_image else op.Gather(anchors, indices)
    return cast(rows, work_dtype(anchors))


def _shift(cell: Value, width: Value, stride_h: Any, stride_w: Any, dtype: ir.DataType) -> Value:
    """[B, k, 4]: how far the anchors of each cell lie from those of the first."""
    row = op.Div(cell, op.Max(width, _vector([1])))
    column = op.Sub(cell, op.Mul(row, width))
    x, y = op.Mul(column, _vector([stride_w])), op.Mul(row, _vector([stride_h]))
    shift = op.Concat(*(op.Unsqueeze(v, [2]) for v in (x, y, x, y)), axis=2)
    return op.Cast(shift, to=dtype)


def _decode(anchors: Value, deltas: Value, dtype: ir.DataType) -> Value:
    """`reference.decode` with ONNX's exponential."""
    low, high = op.Split(anchors, num_outputs=2, axis=2)
    moved, grown = op.Split(deltas, num_outputs=2, axis=2)
    half = scalar(0.5, dtype)
    most = scalar(MOST_GROWTH, dtype)
    length = op.Sub(high, low)
    centre = op.Add(op.Mul(moved, length), op.Add(low, op.Mul(half, length)))
    bounded = op.Where(op.Greater(grown, most), most, grown)
    reach = op.Mul(half, op.Mul(op.Exp(bounded), length))
    return op.Concat(op.Sub(centre, reach), op.Add(centre, reach), axis=2)


def _clip(boxes: Value, image_sizes: Sequence[Any], dtype: ir.DataType) -> Value:
    sides = [side for pair in zip(image_sizes[1::2], image_sizes[::2], strict=True) for side in (*pair, *pair)]
    most = op.Reshape(op.Cast(_vector(sides), to=dtype), [len(image_sizes) // 2, 1, 4], allowzero=1)
    zero = scalar(0.0, dtype)
    floored = op.Where(op.Less(boxes, zero), zero, boxes)
    return op.Where(op.Greater(floored, most), most, floored)


def _levels(
    objectness: Sequence[Value],
    deltas: Sequence[Value],
    anchors: Value,
    image_sizes: Sequence[Any],
    pre_nms_top_n: int,
    strides: Sequence[Any] | None,
) -> list[_Level]:
    dtype = work_dtype(anchors)
    by_image = len(anchors.shape) == 3
    first = _vector([0])  # anchor of the level
    found = []
    for i, (level_objectness, level_deltas) in enumerate(zip(objectness, deltas, strict=True)):
        logits, indices = _ranked_logits(level_objectness, pre_nms_top_n)
        anchor_count, width = _size(level_objectness, 1), _size(level_objectness, 3)
        cell = op.Div(indices, op.Max(anchor_count, _vector([1])))
        anchor = op.Sub(indices, op.Mul(cell, anchor_count))
        chosen = _rows(anchors, by_image, op.Add(first, indices if strides is None else anchor))
        if strides is not None:
            chosen = op.Add(chosen, _shift(cell, width, strides[2 * i], strides[2 * i + 1], dtype))
        decoded = _decode(chosen, _chosen_deltas(level_deltas, anchor, cell), dtype)
        found.append(_Level(logits, _clip(decoded, image_sizes, dtype)))
        cells = op.Mul(_size(level_objectness, 2), width)
        first = op.Add(first, op.Mul(anchor_count, cells) if strides is None else anchor_count)
    return found


def _large_and_sure(boxes: Value, scores: Value, score_threshold: float, min_size: float, dtype: ir.DataType) -> Value:
    """[B, k]; False where a number is NaN."""
    low, high = op.Split(boxes, num_outputs=2, axis=2)
    large = op.Cast(op.GreaterOrEqual(op.Sub(high, low), scalar(min_size, dtype)), to=ir.DataType.INT64)
    both = op.Cast(op.ReduceMin(large, [2], keepdims=0), to=ir.DataType.BOOL)
    return op.And(both, op.GreaterOrEqual(scores, scalar(score_threshold, dtype)))


def _survivors(boxes: Value, good: Value, most: int, threshold: float) -> Value:
    """[m, 2]: image and rank of the boxes of one level that suppression leaves; the best rank first."""
    ranks = op.Cast(op.Range(0, op.Squeeze(_size(good, 1), [0]), 1), to=ir.DataType.FLOAT)
    scores = op.Where(good, op.Neg(ranks), scalar(-math.inf, ir.DataType.FLOAT))
    selected = op.NonMaxSuppression(
        emptied(boxes, ir.DataType.FLOAT), op.Unsqueeze(scores, [1]), most, threshold, -3.0e38
    )
    return op.Gather(selected, [0, 2], axis=1)


def _best(
    logits: Value, boxes: Value, places: Value, post_nms_top_n: int, dtype: ir.DataType
) -> tuple[Value, Value, Value]:
    """The first survivors in order of the logits: boxes [B, n, 4], scores [B, n] and counts [B].

    places [m, 2] are the survivors. Another candidate of zeros, the last, stands where an image has too few.
    """
    batch, candidates = _size(logits, 0), _size(logits, 1)
    _, order = op.TopK(_comparable(logits, dtype), candidates)
    zero = scalar(0.0, dtype)
    ones = op.Expand(scalar(1.0, dtype), _size(places, 0))
    survives = op.ScatterND(op.Expand(zero, op.Shape(logits)), places, ones)
    limit = _vector([post_nms_top_n])
    room = op.Concat(batch, limit, axis=0)
    survives = op.Concat(op.GatherElements(survives, order, axis=1), op.Expand(zero, room), axis=1)
    flags, ranks = op.TopK(survives, limit)  # ties, which all survivors are, stay in order
    found = op.Greater(flags, zero)
    order = op.Concat(order, op.Expand(candidates, room), axis=1)
    chosen = op.Where(found, op.GatherElements(order, ranks, axis=1), candidates)
    one_more = op.Concat(batch, _vector([1]), axis=0)
    scores = op.Concat(op.Sigmoid(logits), op.Expand(zero, one_more), axis=1)
    corners = op.Expand(zero, op.Concat(one_more, _vector([4]), axis=0))
    boxes = op.Concat(boxes, corners, axis=1)
    return (
        op.GatherND(boxes, op.Unsqueeze(chosen, [2]), batch_dims=1),
        op.GatherElements(scores, chosen, axis=1),
        op.ReduceSum(op.Cast(found, to=ir.DataType.INT64), [1], keepdims=0),
    )


def rpn_proposals(
    objectness: Sequence[Value],
    deltas: Sequence[Value],
    anchors: Value,
    image_sizes: Sequence[Any],
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    score_threshold: float = 0.0,
    min_size: float = 1e-3,
    strides: Sequence[Any] | None = None,
) -> tuple[Value, Value, Value]:
    """TopK per level, then a NonMaxSuppression per level whose batch is the images, then TopK over all levels."""
    require_exportable(_OP, anchors, "anchors")
    threshold = overlap_threshold(_OP, nms_threshold, anchors, "nms_threshold")
    levels = _levels(objectness, deltas, anchors, image_sizes, pre_nms_top_n, strides)
    dtype = work_dtype(anchors)
    first = _vector([0])  # of the level among the candidates of all
    survivors = []
    for level in levels:
        good = _large_and_sure(level.boxes, op.Sigmoid(level.logits), score_threshold, min_size, dtype)
        left = _survivors(level.boxes, good, post_nms_top_n, threshold)
        survivors.append(op.Add(left, op.Concat(_vector([0]), first, axis=0)))
        first = op.Add(first, _size(level.logits, 1))
    logits = op.Concat(*(level.logits for level in levels), axis=1)
    boxes = op.Concat(*(level.boxes for level in levels), axis=1)
    boxes, scores, counts = _best(logits, boxes, op.Concat(*survivors, axis=0), post_nms_top_n, dtype)
    return cast(boxes, anchors.dtype), cast(scores, anchors.dtype), counts
