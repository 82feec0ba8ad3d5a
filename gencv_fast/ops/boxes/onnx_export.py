"""The room in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

fp16 is computed in fp32, bf16 is refused. fp64 is refused where ONNX Runtime's CPU provider has no such kernel: arc
tangents and cosines. `match_boxes` holds the matrix of overlaps, for which ONNX has no other form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from onnxscript import ir

from ...onnx.lowering import Value, cast, op, refuse_double, require_exportable, scalar, vector, work_dtype
from .checks import FORMATS


def _int64(value: int) -> Value:
    """``[1]``"""
    return vector([value], ir.DataType.INT64)


def _split(boxes: Value, count: int = 4) -> Sequence[Value]:
    return op.Split(boxes, num_outputs=count, axis=-1)


def _widened(name: str, *tensors: Value) -> list[Value]:
    for tensor in tensors:
        require_exportable(name, tensor)
    return [cast(tensor, work_dtype(tensor)) for tensor in tensors]


class _Pair:
    """Two sets of corners that broadcast, and what all overlaps are made of; each value is ``[..., 1]``."""

    def __init__(self, a: Value, b: Value, dtype: ir.DataType) -> None:
        self.dtype = dtype
        self.a, self.b = _split(a), _split(b)

    def number(self, value: float) -> Value:
        return scalar(value, self.dtype)

    def area(self, box: Sequence[Value]) -> Value:
        return op.Mul(op.Sub(box[2], box[0]), op.Sub(box[3], box[1]))

    def common_sides(self) -> list[Value]:
        return [op.Sub(op.Min(self.a[i + 2], self.b[i + 2]), op.Max(self.a[i], self.b[i])) for i in (0, 1)]

    def enclosing_sides(self) -> list[Value]:
        return [op.Sub(op.Max(self.a[i + 2], self.b[i + 2]), op.Min(self.a[i], self.b[i])) for i in (0, 1)]

    def union(self, intersection: Value) -> Value:
        return op.Sub(op.Add(self.area(self.a), self.area(self.b)), intersection)

    def distance(self) -> Value:
        def centre(box: Sequence[Value], i: int) -> Value:
            return op.Div(op.Add(box[i], box[i + 2]), self.number(2.0))

        shifts = [op.Sub(centre(self.a, i), centre(self.b, i)) for i in (0, 1)]
        return op.Add(op.Mul(shifts[0], shifts[0]), op.Mul(shifts[1], shifts[1]))

    def aspect_penalty(self, iou: Value, eps: float) -> Value:
        def angle(box: Sequence[Value]) -> Value:
            return op.Atan(op.Div(op.Sub(box[2], box[0]), op.Sub(box[3], box[1])))

        turn = op.Sub(angle(self.a), angle(self.b))
        v = op.Mul(self.number(4 / math.pi**2), op.Mul(turn, turn))
        one = self.number(1.0)
        alpha = op.Div(v, op.Add(op.Add(op.Sub(one, iou), v), self.number(eps)))
        return op.Mul(alpha, v)


def _squares(sides: Sequence[Value]) -> Value:
    return op.Add(op.Mul(sides[0], sides[0]), op.Mul(sides[1], sides[1]))


def _clamped(sides: Sequence[Value], pair: _Pair) -> list[Value]:
    return [op.Max(side, pair.number(0.0)) for side in sides]


def _iou(pair: _Pair, eps: float) -> Value:
    w, h = _clamped(pair.common_sides(), pair)
    intersection = op.Mul(w, h)
    return op.Div(intersection, pair.union(intersection))


def _giou(pair: _Pair, eps: float) -> Value:
    w, h = _clamped(pair.common_sides(), pair)
    intersection = op.Mul(w, h)
    union = pair.union(intersection)
    around = op.Mul(*_clamped(pair.enclosing_sides(), pair))
    return op.Sub(op.Div(intersection, union), op.Div(op.Sub(around, union), around))


def _diou(pair: _Pair, eps: float) -> Value:
    diagonal = op.Add(_squares(_clamped(pair.enclosing_sides(), pair)), pair.number(eps))
    return op.Sub(_iou(pair, eps), op.Div(pair.distance(), diagonal))


def _ciou(pair: _Pair, eps: float) -> Value:
    return op.Sub(_diou(pair, eps), pair.aspect_penalty(_iou(pair, eps), eps))


def _pairwise(name: str, formula: Callable[[_Pair, float], Value], boxes1: Value, boxes2: Value, eps: float) -> Value:
    a, b = _widened(name, boxes1, boxes2)
    pair = _Pair(op.Unsqueeze(a, [-2]), op.Unsqueeze(b, [-3]), work_dtype(boxes1))
    return op.Squeeze(formula(pair, eps), [-1])


def box_iou(boxes1: Value, boxes2: Value) -> Value:
    return _pairwise("box_iou", _iou, boxes1, boxes2, 0.0)


def generalized_box_iou(boxes1: Value, boxes2: Value) -> Value:
    return _pairwise("generalized_box_iou", _giou, boxes1, boxes2, 0.0)


def distance_box_iou(boxes1: Value, boxes2: Value, eps: float = 1e-7) -> Value:
    return _pairwise("distance_box_iou", _diou, boxes1, boxes2, eps)


def complete_box_iou(boxes1: Value, boxes2: Value, eps: float = 1e-7) -> Value:
    refuse_double("complete_box_iou", boxes1, "Atan")
    return _pairwise("complete_box_iou", _ciou, boxes1, boxes2, eps)


def _loss_overlap(pair: _Pair, eps: float) -> tuple[Value, Value]:
    w, h = pair.common_sides()
    meet = op.And(op.Greater(w, pair.number(0.0)), op.Greater(h, pair.number(0.0)))
    intersection = op.Where(meet, op.Mul(w, h), pair.number(0.0))
    union = pair.union(intersection)
    return op.Div(intersection, op.Add(union, pair.number(eps))), union


def _giou_loss(pair: _Pair, eps: float) -> Value:
    iou, union = _loss_overlap(pair, eps)
    around = op.Mul(*pair.enclosing_sides())
    uncovered = op.Div(op.Sub(around, union), op.Add(around, pair.number(eps)))
    return op.Sub(pair.number(1.0), op.Sub(iou, uncovered))


def _diou_loss(pair: _Pair, eps: float) -> Value:
    iou, _ = _loss_overlap(pair, eps)
    diagonal = op.Add(_squares(pair.enclosing_sides()), pair.number(eps))
    return op.Add(op.Sub(pair.number(1.0), iou), op.Div(pair.distance(), diagonal))


def _ciou_loss(pair: _Pair, eps: float) -> Value:
    iou, _ = _loss_overlap(pair, eps)
    return op.Add(_diou_loss(pair, eps), pair.aspect_penalty(iou, eps))


def _loss(name: str, formula: Callable[[_Pair, float], Value], boxes1: Value, boxes2: Value, eps: float) -> Value:
    a, b = _widened(name, boxes1, boxes2)
    return op.Squeeze(formula(_Pair(a, b, work_dtype(boxes1)), eps), [-1])


def generalized_box_iou_loss(boxes1: Value, boxes2: Value, eps: float = 1e-7) -> Value:
    return _loss("generalized_box_iou_loss", _giou_loss, boxes1, boxes2, eps)


def distance_box_iou_loss(boxes1: Value, boxes2: Value, eps: float = 1e-7) -> Value:
    return _loss("distance_box_iou_loss", _diou_loss, boxes1, boxes2, eps)


def complete_box_iou_loss(boxes1: Value, boxes2: Value, eps: float = 1e-7) -> Value:
    refuse_double("complete_box_iou_loss", boxes1, "Atan")
    return _loss("complete_box_iou_loss", _ciou_loss, boxes1, boxes2, eps)


def _corners_and_sizes(boxes: Value) -> tuple[Value, Value]:
    """``[..., 2]`` each."""
    low, high = op.Split(boxes, num_outputs=2, axis=-1)
    return low, op.Sub(high, low)


def _centres(low: Value, sizes: Value, half: Value) -> Value:
    return op.Add(low, op.Mul(half, sizes))


def box_encode(reference_boxes: Value, proposals: Value, weights: Sequence[float]) -> Value:
    boxes, anchors = _widened("box_encode", reference_boxes, proposals)
    dtype = work_dtype(reference_boxes)
    half = scalar(0.5, dtype)
    (low, size), (anchor_low, anchor_size) = _corners_and_sizes(boxes), _corners_and_sizes(anchors)
    shift = op.Div(op.Sub(_centres(low, size, half), _centres(anchor_low, anchor_size, half)), anchor_size)
    growth = op.Log(op.Div(size, anchor_size))
    return cast(op.Mul(vector(weights, dtype), op.Concat(shift, growth, axis=-1)), reference_boxes.dtype)


def box_decode(deltas: Value, anchors: Value, weights: Sequence[float], clip: float) -> Value:
    given, boxes = _widened("box_decode", deltas, anchors)
    dtype = work_dtype(deltas)
    half = scalar(0.5, dtype)
    rows, columns = op.Split(op.Shape(deltas), num_outputs=2, axis=0)
    by_class = op.Reshape(given, op.Concat(rows, op.Div(columns, _int64(4)), _int64(4), axis=0), allowzero=1)
    shift, growth = op.Split(op.Div(by_class, vector(weights, dtype)), num_outputs=2, axis=-1)
    low, size = _corners_and_sizes(op.Unsqueeze(boxes, [1]))
    centre = op.Add(op.Mul(shift, size), _centres(low, size, half))
    reach = op.Mul(half, op.Mul(op.Exp(op.Min(growth, scalar(clip, dtype))), size))
    decoded = op.Concat(op.Sub(centre, reach), op.Add(centre, reach), axis=-1)
    return cast(op.Reshape(decoded, op.Shape(deltas), allowzero=1), deltas.dtype)


def _side(value: int | Value) -> Value:
    """``[1]``, int64: a number, or a size that is known when the model runs."""
    return _int64(value) if isinstance(value, int) else op.Reshape(value, [1])


def clip_boxes(boxes: Value, size: Sequence[int | Value]) -> Value:
    (wide,) = _widened("clip_boxes", boxes)
    height, width = map(_side, size)
    limits = op.Cast(op.Concat(width, height, width, height, axis=0), to=work_dtype(boxes))
    return cast(op.Min(op.Max(wide, scalar(0.0, work_dtype(boxes))), limits), boxes.dtype)


def remove_small_boxes(boxes: Value, min_size: float) -> Value:
    (wide,) = _widened("remove_small_boxes", boxes)
    _, sizes = _corners_and_sizes(wide)
    width, height = op.Split(op.GreaterOrEqual(sizes, scalar(min_size, work_dtype(boxes))), num_outputs=2, axis=-1)
    return op.Squeeze(op.NonZero(op.Squeeze(op.And(width, height), [-1])), [0])


def _turn(degrees: Value) -> tuple[Value, Value]:
    radians = op.Mul(degrees, scalar(math.pi / 180, ir.DataType.FLOAT))
    return op.Cos(radians), op.Sin(radians)


def _arc_tangent(y: Value, x: Value) -> Value:
    """Of y / x in the quadrant of (x, y): ONNX has no atan2."""
    zero, half_turn = scalar(0.0, ir.DataType.FLOAT), scalar(math.pi, ir.DataType.FLOAT)
    behind = op.Where(op.Less(x, zero), op.Where(op.Less(y, zero), op.Neg(half_turn), half_turn), zero)
    nowhere = op.And(op.Equal(x, zero), op.Equal(y, zero))
    return op.Where(nowhere, zero, op.Add(op.Atan(op.Div(y, x)), behind))


def _halves(dtype: ir.DataType, *values: Value) -> list[Value]:
    return [op.Mul(scalar(0.5, dtype), value) for value in values]


def _from_xywh(boxes: Value, dtype: ir.DataType) -> Value:
    x, y, w, h = _split(boxes)
    return op.Concat(x, y, op.Add(x, w), op.Add(y, h), axis=-1)


def _to_xywh(boxes: Value, dtype: ir.DataType) -> Value:
    x1, y1, x2, y2 = _split(boxes)
    return op.Concat(x1, y1, op.Sub(x2, x1), op.Sub(y2, y1), axis=-1)


def _from_cxcywh(boxes: Value, dtype: ir.DataType) -> Value:
    x, y, w, h = _split(boxes)
    w, h = _halves(dtype, w, h)
    return op.Concat(op.Sub(x, w), op.Sub(y, h), op.Add(x, w), op.Add(y, h), axis=-1)


def _to_cxcywh(boxes: Value, dtype: ir.DataType) -> Value:
    x1, y1, x2, y2 = _split(boxes)
    x, y = _halves(dtype, op.Add(x1, x2), op.Add(y1, y2))
    return op.Concat(x, y, op.Sub(x2, x1), op.Sub(y2, y1), axis=-1)


def _to_centre(w: Value, h: Value, r: Value) -> tuple[Value, Value]:
    """From the corner of a rotated box."""
    cos, sin = _turn(r)
    w, h = _halves(ir.DataType.FLOAT, w, h)
    return op.Add(op.Mul(w, cos), op.Mul(h, sin)), op.Sub(op.Mul(h, cos), op.Mul(w, sin))


def _centre_from_corner(boxes: Value, dtype: ir.DataType) -> Value:
    x, y, w, h, r = _split(boxes, 5)
    right, down = _to_centre(w, h, r)
    return op.Concat(op.Add(x, right), op.Add(y, down), w, h, r, axis=-1)


def _corner_from_centre(boxes: Value, dtype: ir.DataType) -> Value:
    x, y, w, h, r = _split(boxes, 5)
    right, down = _to_centre(w, h, r)
    return op.Concat(op.Sub(x, right), op.Sub(y, down), w, h, r, axis=-1)


def _corners_from_corner(boxes: Value, dtype: ir.DataType) -> Value:
    x, y, w, h, r = _split(boxes, 5)
    cos, sin = _turn(r)
    x2, y2 = op.Add(x, op.Mul(w, cos)), op.Sub(y, op.Mul(w, sin))
    right, down = op.Mul(h, sin), op.Mul(h, cos)
    return op.Concat(x, y, x2, y2, op.Add(x2, right), op.Add(y2, down), op.Add(x, right), op.Add(y, down), axis=-1)


def _corner_from_corners(boxes: Value, dtype: ir.DataType) -> Value:
    x1, y1, x2, y2, x3, y3, _, _ = _split(boxes, 8)
    r = op.Mul(_arc_tangent(op.Sub(y1, y2), op.Sub(x2, x1)), scalar(180 / math.pi, ir.DataType.FLOAT))
    w = op.Sqrt(_squares([op.Sub(x2, x1), op.Sub(y1, y2)]))
    h = op.Sqrt(_squares([op.Sub(x3, x2), op.Sub(y3, y2)]))
    return op.Concat(x1, y1, w, h, r, axis=-1)


#: To and from the format that all of a kind pass through.
_INWARD: dict[str, Callable[[Value, ir.DataType], Value]] = {
    "xywh": _from_xywh,
    "cxcywh": _from_cxcywh,
    "cxcywhr": _corner_from_centre,
    "xyxyxyxy": _corner_from_corners,
}
_OUTWARD: dict[str, Callable[[Value, ir.DataType], Value]] = {
    "xywh": _to_xywh,
    "cxcywh": _to_cxcywh,
    "cxcywhr": _centre_from_corner,
    "xyxyxyxy": _corners_from_corner,
}


def box_convert(boxes: Value, in_fmt: str, out_fmt: str) -> Value:
    (wide,) = _widened("box_convert", boxes)
    if in_fmt == out_fmt:
        return op.Identity(boxes)
    if FORMATS[in_fmt] != 4:
        refuse_double("box_convert", boxes, "Cos")
    for step in (_INWARD.get(in_fmt), _OUTWARD.get(out_fmt)):
        wide = step(wide, work_dtype(boxes)) if step else wide
    return cast(wide, boxes.dtype)


def match_boxes(
    gt_boxes: Value,
    anchors: Value,
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> Value:
    """A row of -1 below the overlaps stands for no box, so that there is always something to choose from."""
    overlaps = box_iou(gt_boxes, anchors)
    dtype = work_dtype(gt_boxes)
    count = op.Shape(anchors, start=0, end=1)
    nothing = op.Expand(scalar(-1.0, dtype), op.Concat(_int64(1), count, axis=0))
    padded = op.Concat(overlaps, nothing, axis=0)
    best = op.ReduceMax(padded, [0], keepdims=0)
    nearest = op.ArgMax(padded, axis=0, keepdims=0)
    background, ignored = scalar(-1, ir.DataType.INT64), scalar(-2, ir.DataType.INT64)
    matches = op.Where(op.Less(best, scalar(high_threshold, dtype)), ignored, nearest)
    no_match = op.Or(op.Less(best, scalar(low_threshold, dtype)), op.Less(best, scalar(0.0, dtype)))
    matches = op.Where(no_match, background, matches)
    if not allow_low_quality_matches:
        return matches
    rows = op.Concat(op.Shape(gt_boxes, start=0, end=1), _int64(1), axis=0)
    beside = op.Concat(overlaps, op.Expand(scalar(-1.0, dtype), rows), axis=1)
    is_best = op.Equal(overlaps, op.ReduceMax(beside, [1], keepdims=1))
    claims = op.ReduceSum(op.Cast(is_best, to=ir.DataType.INT64), [0], keepdims=0)
    return op.Where(op.Greater(claims, scalar(0, ir.DataType.INT64)), nearest, matches)
