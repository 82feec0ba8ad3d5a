"""The room in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

In onnxruntime the decisions are those of the reference, bit for bit in fp32 and fp16, because

- NonMaxSuppression compares with an fp32 threshold: it is given the greatest fp32 number that is not above
  the double threshold, which separates fp32 overlaps exactly as the double does;
- boxes that overlap nothing (reversed, empty, with a NaN coordinate) are made empty: ONNX reads reversed
  corners as a proper box and says nothing about NaN;
- order comes from TopK, where ONNX defines ties (lower index first). Only which of a class's equal scores
  goes first in `multiclass_nms` is left to NonMaxSuppression; onnxruntime takes the lower index.

fp16 is computed in fp32. NonMaxSuppression takes fp32 only: fp64 boxes are rounded to it, and overlaps within
that rounding of the threshold may decide otherwise; `soft_nms` stays in fp64. bf16 is refused. In `nms` and
`batched_nms` NaN scores rank with +inf, not above it.
"""

from __future__ import annotations

import math

import numpy as np
from onnxscript import ir, script
from onnxscript.onnx_types import TensorType
from onnxscript.values import Opset

from ...onnx.lowering import Value, cast, op, require_exportable, scalar, work_dtype

_LOOPS = Opset("gencv_fast.onnx", 1)  # local functions, which the exporter inlines

_UNLIMITED = 2**31 - 1
_NEVER = 2**62


def overlap_threshold(name: str, iou_threshold: float, boxes: Value, argument: str = "iou_threshold") -> float:
    """The fp32 threshold in [0, 1], as ONNX demands, that decides like ``iou_threshold``."""
    if iou_threshold < 0:
        raise RuntimeError(
            f"{name}: {argument} must not be negative to be exported, since ONNX's NonMaxSuppression "
            f"allows only [0, 1], got {iou_threshold:g}."
        )
    # No overlap is greater than 1.
    return _float32_threshold(iou_threshold, boxes) if iou_threshold < 1 else 1.0


def _float32_threshold(threshold: float, compared: Value) -> float:
    """Rounded down for fp32 numbers; to nearest for fp64 numbers, which are rounded so themselves."""
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
    if compared.dtype == ir.DataType.DOUBLE or not float(nearest) > threshold:
        return float(nearest)
    return float(np.nextafter(nearest, np.float32(-np.inf)))


def emptied(boxes: Value, dtype: ir.DataType) -> Value:
    """[..., 4] with zeros for each box that is reversed, empty or has a NaN coordinate."""
    boxes = cast(boxes, dtype)
    x1, y1, x2, y2 = op.Split(boxes, num_outputs=4, axis=-1)
    proper = op.And(op.Less(x1, x2), op.Less(y1, y2))  # False for NaN
    return op.Where(proper, boxes, scalar(0.0, dtype))


def _score_order(scores: Value) -> Value:
    """[N] -> indices by score, highest first, ties by lower index."""
    dtype = work_dtype(scores)
    scores = cast(scores, dtype)
    _, order = op.TopK(op.Where(op.IsNaN(scores), scalar(math.inf, dtype), scores), op.Shape(scores))
    return order


def _ascending(values: Value) -> Value:
    ordered, _ = op.TopK(values, op.Shape(values), largest=0)
    return ordered


def nms(boxes: Value, scores: Value, iou_threshold: float) -> Value:
    """Ranks the boxes by score, gives NonMaxSuppression ranks for scores, and takes ranks back to indices."""
    require_exportable("nms", boxes)
    threshold = overlap_threshold("nms", iou_threshold, boxes)
    order = _score_order(scores)
    ranked = op.Gather(emptied(boxes, ir.DataType.FLOAT), order)
    # Counting down, exact in fp32 up to 2^24 boxes.
    rank_scores = op.Neg(op.Cast(op.Range(0, op.Size(scores), 1), to=ir.DataType.FLOAT))
    selected = op.NonMaxSuppression(op.Unsqueeze(ranked, [0]), op.Unsqueeze(rank_scores, [0, 1]), _UNLIMITED, threshold)
    return op.Gather(order, _ascending(op.Gather(selected, 2, axis=1)))


@script(_LOOPS, default_opset=op)
def batched_nms_ranks(boxes: TensorType, idxs: TensorType, threshold: TensorType) -> TensorType:
    """The ranks that survive within their class, in no particular order; boxes [N, 4], idxs [N] by rank."""
    last = op.Shape(idxs) - 1
    _, by_class = op.TopK(idxs, op.Shape(idxs), largest=0)  # stable: by rank within a class
    _, _, _, sizes = op.Unique(idxs, sorted=1)
    starts = op.CumSum(sizes, 0, exclusive=1)
    padding = op.Constant(value_float=float("-inf"))
    kept = op.Slice(by_class, [0], [0])
    largest = op.ReduceMax(op.Concat(sizes, [0], axis=0), keepdims=0)
    above = op.Constant(value_int=0)
    unfinished = above < largest
    while unfinished:
        size = above * 4 + 1
        grouped = op.And(sizes > above, sizes <= size)
        group_starts = op.Unsqueeze(op.Compress(starts, grouped), [1])
        group_sizes = op.Unsqueeze(op.Compress(sizes, grouped), [1])
        column = op.Range(0, size, 1)
        ranks = op.Gather(by_class, op.Min(group_starts + column, last))  # [classes of the group, size]
        scores = op.Where(column < group_sizes, op.Neg(op.Cast(ranks, to=1)), padding)
        selected = op.NonMaxSuppression(
            op.Gather(boxes, ranks), op.Unsqueeze(scores, [1]), _UNLIMITED, threshold, -3.0e38
        )
        kept = op.Concat(kept, op.GatherND(ranks, op.Gather(selected, [0, 2], axis=1)), axis=0)
        above = op.Identity(size)
        unfinished = above < largest
    return kept


def batched_nms(boxes: Value, scores: Value, idxs: Value, iou_threshold: float) -> Value:
    """As `nms`, with one NonMaxSuppression for all classes of similar size; no coordinate is changed.

    A class is a batch entry, padded to a size that is at most 4 times its own. So no more than 4 N boxes are
    looked at, in log4(N) steps. One score row per class, [C, N], or one padded batch for all classes, would grow
    with C times N where classes differ much in size; a loop over classes would be slow where they are many.
    """
    require_exportable("batched_nms", boxes)
    threshold = overlap_threshold("batched_nms", iou_threshold, boxes)
    order = _score_order(scores)
    ranks = batched_nms_ranks(
        op.Gather(emptied(boxes, ir.DataType.FLOAT), order),
        op.Gather(cast(idxs, ir.DataType.INT64), order),
        scalar(threshold, ir.DataType.FLOAT),
    )
    return op.Gather(order, _ascending(ranks))


@script(_LOOPS, default_opset=op)
def soft_nms_loop(
    boxes: TensorType,
    scores: TensorType,
    iou_threshold: TensorType,
    sigma: TensorType,
    score_threshold: TensorType,
    gaussian: TensorType,
) -> tuple[TensorType, TensorType]:
    """The step at which each box is taken, or a huge number, and the score that it has by then."""
    lower = op.Slice(boxes, [0], [2], [1])
    upper = op.Slice(boxes, [2], [4], [1])
    areas = op.ReduceProd(upper - lower, [1], keepdims=0)
    never = op.Constant(value_int=_NEVER)
    lowest = op.CastLike(op.Constant(value_floats=[float("-inf")]), scores)
    step = op.Constant(value_int=0)
    steps = op.Expand(never, op.Shape(scores))
    remaining = op.Identity(scores)
    live = op.Where(op.IsNaN(scores), lowest, scores)
    unfinished = op.ReduceMax(op.Concat(live, lowest, axis=0), keepdims=0) > score_threshold
    while unfinished:
        best = op.ArgMax(live, axis=0)  # [1], the first among equals
        lower_corner = op.Max(op.Gather(lower, best), lower)
        upper_corner = op.Min(op.Gather(upper, best), upper)
        sides = op.Max(upper_corner - lower_corner, 0.0)
        intersection = op.Gather(sides, 0, axis=1) * op.Gather(sides, 1, axis=1)
        iou = intersection / (op.Gather(areas, best) + areas - intersection)
        if gaussian:
            factor = op.Where(iou > 0.0, op.Exp(op.Neg(iou * iou) / sigma), 1.0)
        else:
            factor = op.Where(iou > iou_threshold, 1.0 - iou, 1.0)
        steps = op.ScatterElements(steps, best, op.Unsqueeze(step, [0]))
        taken = steps < never
        remaining = op.Where(taken, remaining, remaining * factor)
        live = op.Where(op.Or(taken, op.IsNaN(remaining)), lowest, remaining)
        step = step + 1
        unfinished = op.ReduceMax(live, keepdims=0) > score_threshold
    return steps, remaining


def soft_nms(
    boxes: Value,
    scores: Value,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 1e-3,
    method: str = "linear",
) -> tuple[Value, Value]:
    """One Loop step per box taken; exp is ONNX's, which may differ from the reference's in the last digit."""
    require_exportable("soft_nms", boxes)
    dtype = work_dtype(boxes)
    if dtype == ir.DataType.FLOAT:
        iou_threshold = _float32_threshold(iou_threshold, boxes)
        score_threshold = _float32_threshold(score_threshold, scores)
    steps, decayed = soft_nms_loop(
        emptied(boxes, dtype),
        cast(scores, dtype),
        scalar(iou_threshold, dtype),
        scalar(sigma, dtype),
        scalar(score_threshold, dtype),
        op.Constant(value=ir.tensor(method == "gaussian")),
    )
    taken = op.Shape(op.Compress(steps, op.Less(steps, _NEVER)))
    _, indices = op.TopK(steps, taken, largest=0)
    return indices, cast(op.Gather(decayed, indices), scores.dtype)


def multiclass_nms(
    boxes: Value,
    scores: Value,
    iou_threshold: float,
    score_threshold: float,
    max_output_per_class: int,
    max_total: int,
) -> tuple[Value, Value, Value]:
    """NonMaxSuppression per class, its scores laid out by class and box, and the ``max_total`` highest."""
    require_exportable("multiclass_nms", boxes)
    threshold = overlap_threshold("multiclass_nms", iou_threshold, boxes)
    selected = op.NonMaxSuppression(
        emptied(boxes, ir.DataType.FLOAT),
        cast(scores, ir.DataType.FLOAT),
        max_output_per_class,
        threshold,
        _float32_threshold(score_threshold, scores),
    )
    image, class_id, box = op.Split(selected, num_outputs=3, axis=1)
    box_count = op.Shape(boxes, start=1, end=2)
    class_count = op.Shape(scores, start=1, end=2)

    # A row per image, each class's boxes in turn: TopK's ties are then ours. -inf is no candidate's score.
    dtype = work_dtype(scores)
    lowest = scalar(-math.inf, dtype)
    width = op.Add(op.Mul(class_count, box_count), max_total)  # always enough for TopK
    rows = op.Expand(lowest, op.Concat(op.Shape(scores, start=0, end=1), width, axis=0))
    places = op.Concat(image, op.Add(op.Mul(class_id, box_count), box), axis=1)
    rows = op.ScatterND(rows, places, op.GatherND(cast(scores, dtype), selected))
    best_scores, best = op.TopK(rows, [max_total])

    found = op.Greater(best_scores, lowest)
    best_class = op.Div(best, op.Max(box_count, op.Constant(value_ints=[1])))
    best_box = op.Sub(best, op.Mul(best_class, box_count))
    pairs = op.Concat(op.Unsqueeze(best_class, [2]), op.Unsqueeze(best_box, [2]), axis=2)
    return (
        op.Where(op.Unsqueeze(found, [2]), pairs, [-1]),
        cast(op.Where(found, best_scores, scalar(0.0, dtype)), scores.dtype),
        op.ReduceSum(op.Cast(found, to=ir.DataType.INT64), [1], keepdims=0),
    )
