"""The room in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

Every size may be dynamic but the number of levels and of boxes per cell. exp, sigmoid and softmax are ONNX's, so that
decoded numbers may differ from the reference's in the last digit, and detections where that decides. A class whose
output is NaN counts as -inf in the reference and is undefined here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from onnxscript import ir

from ...onnx.lowering import Value, cast, op, refuse_double, require_exportable, scalar, work_dtype
from ..nms.onnx_export import multiclass_nms

_END = 2**62


class _Level(NamedTuple):
    boxes: Value  # [B, 4, rows]
    confidence: Value | None  # [B, 1, rows]
    classes: Value  # [B, classes, rows]


def _ints(*values: int) -> Value:
    return op.Constant(value_ints=list(values))


def _size(tensor: Value, dim: int) -> Value:
    return op.Shape(tensor, start=dim, end=dim + 1)


def _reshaped(tensor: Value, *sizes: Value) -> Value:
    return op.Reshape(tensor, op.Concat(*sizes, axis=0), allowzero=1)


def _channels(tensor: Value, first: int, end: int, axis: int) -> Value:
    return op.Slice(tensor, [first], [end], [axis])


class _Map:
    """A level's map in the type that is computed in, and its grid."""

    def __init__(self, pred: Value, stride: int) -> None:
        self.dtype = work_dtype(pred)
        self.values = cast(pred, self.dtype)
        self.batch, self.channels = _size(pred, 0), _size(pred, 1)
        self.height, self.width = _size(pred, 2), _size(pred, 3)
        self.cells = op.Mul(self.height, self.width)
        self.stride = self.number(float(stride))

    def number(self, value: float) -> Value:
        return scalar(value, self.dtype)

    def flat(self) -> Value:
        return _reshaped(self.values, self.batch, self.channels, self.cells)

    def grid(self) -> Value:
        """[2, H * W]: column and row."""
        cell = op.Range(0, op.Squeeze(self.cells, [0]), 1)
        row = op.Div(cell, op.Max(self.width, _ints(1)))
        column = op.Sub(cell, op.Mul(row, self.width))
        both = op.Concat(op.Unsqueeze(column, [0]), op.Unsqueeze(row, [0]), axis=0)
        return op.Cast(both, to=self.dtype)


def _rows(level: _Map, per_anchor: Value, anchors: int, channels: Value) -> Value:
    """[B, A, C, H * W] -> [B, C, A * H * W]"""
    moved = op.Transpose(per_anchor, perm=[0, 2, 1, 3])
    return _reshaped(moved, level.batch, channels, op.Mul(level.cells, _ints(anchors)))


def _corners(level: _Map, centre: Value, length: Value) -> Value:
    half = op.Mul(length, level.number(0.5))
    return op.Concat(op.Sub(centre, half), op.Add(centre, half), axis=2)


def _v8_level(level: _Map, reg_max: int) -> _Level:
    values = level.flat()
    bins = _channels(values, 0, 4 * reg_max, 1)
    bins = _reshaped(bins, level.batch, _ints(4), _ints(reg_max), level.cells)
    numbers = op.Constant(value=ir.tensor([[float(i)] for i in range(reg_max)], dtype=level.dtype))
    distance = op.ReduceSum(op.Mul(op.Softmax(bins, axis=2), numbers), [2], keepdims=0)
    low, high = op.Split(distance, num_outputs=2, axis=1)
    cell = op.Add(level.grid(), level.number(0.5))
    corners = op.Concat(op.Sub(cell, low), op.Add(cell, high), axis=1)
    return _Level(op.Mul(corners, level.stride), None, _channels(values, 4 * reg_max, _END, 1))


def _v1_level(level: _Map, boxes: int) -> _Level:
    values = level.flat()
    own = _reshaped(_channels(values, 0, 5 * boxes, 1), level.batch, _ints(boxes), _ints(5), level.cells)
    centre = op.Mul(op.Add(_channels(own, 0, 2, 2), level.grid()), level.stride)
    root = _channels(own, 2, 4, 2)
    sides = op.Cast(op.Concat(level.width, level.height, axis=0), to=level.dtype)
    image = op.Reshape(op.Mul(sides, level.stride), [2, 1])
    corners = _corners(level, centre, op.Mul(op.Mul(root, root), image))
    confidence = _rows(level, _channels(own, 4, 5, 2), boxes, _ints(1))
    classes = op.Concat(*[_channels(values, 5 * boxes, _END, 1)] * boxes, axis=2)
    return _Level(_rows(level, corners, boxes, _ints(4)), confidence, classes)


def _anchor_level(level: _Map, anchors: Sequence[tuple[float, float]], version: str) -> _Level:
    count = len(anchors)
    channels = op.Div(level.channels, _ints(count))
    values = _reshaped(level.values, level.batch, _ints(count), channels, level.cells)
    sides = op.Constant(value=ir.tensor([[[w], [h]] for w, h in anchors], dtype=level.dtype))
    centre, length = op.Sigmoid(_channels(values, 0, 2, 2)), _channels(values, 2, 4, 2)
    if version == "v5":
        centre = op.Sub(op.Mul(centre, level.number(2.0)), level.number(0.5))
        twice = op.Mul(op.Sigmoid(length), level.number(2.0))
        length = op.Mul(op.Mul(twice, twice), sides)
    else:
        length = op.Mul(op.Exp(length), sides)
    centre = op.Mul(op.Add(centre, level.grid()), level.stride)
    confidence = op.Sigmoid(_rows(level, _channels(values, 4, 5, 2), count, _ints(1)))
    classes = _rows(level, _channels(values, 5, _END, 2), count, op.Sub(channels, _ints(5)))
    return _Level(_rows(level, _corners(level, centre, length), count, _ints(4)), confidence, classes)


def _decoded(
    preds: Sequence[Value],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str,
    boxes_per_cell: int,
    reg_max: int,
) -> tuple[Value, Value, Value]:
    """Boxes [B, n, 4], scores [B, classes, n] and the classes' outputs [B, classes, n]."""
    maps = [_Map(pred, stride) for pred, stride in zip(preds, strides, strict=True)]
    if version == "v8":
        levels = [_v8_level(level, reg_max) for level in maps]
    elif version == "v1":
        levels = [_v1_level(level, boxes_per_cell) for level in maps]
    else:
        assert anchors is not None
        pairs = list(zip(anchors[::2], anchors[1::2], strict=True))
        count = len(pairs) // len(maps)
        levels = [_anchor_level(level, pairs[i * count : (i + 1) * count], version) for i, level in enumerate(maps)]
    boxes = op.Transpose(op.Concat(*(level.boxes for level in levels), axis=2), perm=[0, 2, 1])
    classes = op.Concat(*(level.classes for level in levels), axis=2)
    scores = classes if version == "v1" else op.Softmax(classes, axis=1) if version == "v2" else op.Sigmoid(classes)
    if version != "v8":
        scores = op.Mul(op.Concat(*(level.confidence for level in levels), axis=2), scores)
    return boxes, scores, classes


def yolo_decode(
    preds: Sequence[Value],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    boxes_per_cell: int = 2,
    reg_max: int = 16,
) -> tuple[Value, Value]:
    require_exportable("yolo_decode", preds[0], "preds")
    boxes, scores, _ = _decoded(preds, anchors, strides, version, boxes_per_cell, reg_max)
    dtype = preds[0].dtype
    return op.Cast(boxes, to=dtype), op.Cast(op.Transpose(scores, perm=[0, 2, 1]), to=dtype)


def _best_candidates(scores: Value, most: int) -> Value:
    """[B, classes, n] with -inf for all but an image's highest."""
    lowest = scalar(-math.inf, ir.DataType.FLOAT)
    batch, per_image = _size(scores, 0), op.Mul(_size(scores, 1), _size(scores, 2))
    rows = _reshaped(scores, batch, per_image)
    values, places = op.TopK(rows, op.Min(per_image, _ints(most)))
    best = op.ScatterElements(op.Expand(lowest, op.Shape(rows)), places, values, axis=1)
    return op.Reshape(best, op.Shape(scores), allowzero=1)


def _restored(boxes: Value, letterbox: Value) -> Value:
    """[B, k, 4] corners in the original image, clipped to it."""
    columns = [op.Unsqueeze(_channels(letterbox, i, i + 1, 1), [1]) for i in range(5)]  # [B, 1, 1] each
    scale, pad_x, pad_y, height, width = columns
    padding = op.Concat(pad_x, pad_y, pad_x, pad_y, axis=2)
    most = op.Concat(width, height, width, height, axis=2)
    zero = scalar(0.0, ir.DataType.FLOAT)
    return op.Min(op.Max(op.Div(op.Sub(boxes, padding), scale), zero), most)


def yolo_detect(
    preds: Sequence[Value],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    score_threshold: float = 0.25,
    iou_threshold: float = 0.45,
    max_detections: int = 300,
    class_agnostic: bool = False,
    multi_label: bool = False,
    max_candidates: int = 30000,
    letterbox: Value | None = None,
    boxes_per_cell: int = 2,
    reg_max: int = 16,
) -> tuple[Value, Value, Value, Value]:
    """Decoding, TopK over candidates, NonMaxSuppression by class, TopK over its result."""
    require_exportable("yolo_detect", preds[0], "preds")
    refuse_double("yolo_detect", preds[0], "NonMaxSuppression")
    boxes, scores, classes = _decoded(preds, anchors, strides, version, boxes_per_cell, reg_max)
    lowest = scalar(-math.inf, ir.DataType.FLOAT)
    batch, n = _size(scores, 0), _size(scores, 2)
    nan = op.ReduceMax(op.Cast(op.IsNaN(boxes), to=ir.DataType.INT32), [2], keepdims=0)  # [B, n]
    scores = op.Where(
        op.Greater(op.Unsqueeze(nan, [1]), op.Constant(value=ir.tensor(0, ir.DataType.INT32))), lowest, scores
    )
    best = op.ArgMax(classes, axis=1, keepdims=1)  # [B, 1, n]
    if not multi_label:
        numbers = op.Unsqueeze(op.Range(0, op.Squeeze(_size(scores, 1), [0]), 1), [1])
        scores = op.Where(op.Equal(numbers, best), scores, lowest)
    scores = _best_candidates(scores, max_candidates)
    candidates = boxes
    if class_agnostic:  # a box for each class of each box
        class_count = _size(scores, 1)
        candidates = op.Tile(boxes, op.Concat(_ints(1), class_count, _ints(1), axis=0))
        scores = _reshaped(scores, batch, _ints(1), op.Mul(class_count, n))
    pairs, kept_scores, counts = multiclass_nms(
        candidates, scores, iou_threshold, score_threshold, max_detections, max_detections
    )
    label, index = op.Split(pairs, num_outputs=2, axis=2)
    label, index = op.Squeeze(label, [2]), op.Squeeze(index, [2])
    found = op.GreaterOrEqual(index, _ints(0))
    if class_agnostic:
        label = op.Div(index, op.Max(n, _ints(1)))
        index = op.Sub(index, op.Mul(label, n))
    # One more box of zeros, the last, stands where an image has too few.
    zero = scalar(0.0, ir.DataType.FLOAT)
    boxes = op.Concat(boxes, op.Expand(zero, op.Concat(batch, _ints(1, 4), axis=0)), axis=1)
    chosen = op.GatherND(boxes, op.Unsqueeze(op.Where(found, index, n), [2]), batch_dims=1)
    if letterbox is not None:
        chosen = op.Where(op.Unsqueeze(found, [2]), _restored(chosen, letterbox), zero)
    dtype = preds[0].dtype
    return op.Cast(chosen, to=dtype), op.Cast(kept_scores, to=dtype), op.Where(found, label, _ints(-1)), counts
