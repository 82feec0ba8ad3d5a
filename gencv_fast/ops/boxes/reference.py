"""The room's truth in plain PyTorch. Boxes are corners (x1, y1, x2, y2); half types are computed in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def widened(t: Tensor) -> Tensor:
    return t if t.dtype in (torch.float32, torch.float64) else t.float()


def _clamped(x: Tensor, least: float = -math.inf, most: float = math.inf) -> Tensor:
    """`torch.clamp` whose gradient is 0 at the bounds, as torch's own from 2.14 on."""
    return torch.where((x > least) & (x < most), x, x.detach().clamp(least, most))


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes [..., 4] that broadcast."""
    sides = _clamped(torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]), least=0)
    intersection = sides[..., 0] * sides[..., 1]
    return intersection, _area(a) + _area(b) - intersection


def _area(a: Tensor) -> Tensor:
    return (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])


def _enclosing(a: Tensor, b: Tensor) -> Tensor:
    """Sides [..., 2] of the smallest box around both; negative where boxes are reversed."""
    return torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the centres."""
    return ((a[..., :2] + a[..., 2:]) / 2 - (b[..., :2] + b[..., 2:]) / 2).square().sum(-1)


def _aspect(a: Tensor) -> Tensor:
    return torch.atan((a[..., 2] - a[..., 0]) / (a[..., 3] - a[..., 1]))


def _aspect_penalty(a: Tensor, b: Tensor, iou: Tensor, eps: float) -> Tensor:
    v = 4 / math.pi**2 * (_aspect(a) - _aspect(b)).square()
    alpha = v / (1 - iou + v + eps)
    return alpha.detach() * v


def _iou(a: Tensor, b: Tensor, eps: float) -> Tensor:
    intersection, union = _overlap(a, b)
    return intersection / union


def _giou(a: Tensor, b: Tensor, eps: float) -> Tensor:
    intersection, union = _overlap(a, b)
    sides = _clamped(_enclosing(a, b), least=0)
    around = sides[..., 0] * sides[..., 1]
    return intersection / union - (around - union) / around


def _diou(a: Tensor, b: Tensor, eps: float) -> Tensor:
    diagonal = _clamped(_enclosing(a, b), least=0).square().sum(-1) + eps
    return _iou(a, b, eps) - _distance(a, b) / diagonal


def _ciou(a: Tensor, b: Tensor, eps: float) -> Tensor:
    return _diou(a, b, eps) - _aspect_penalty(a, b, _iou(a, b, eps), eps)


PAIRWISE: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "iou": _iou,
    "giou": _giou,
    "diou": _diou,
    "ciou": _ciou,
}


def _pairwise(kind: str, boxes1: Tensor, boxes2: Tensor, eps: float) -> Tensor:
    return PAIRWISE[kind](widened(boxes1)[..., :, None, :], widened(boxes2)[..., None, :, :], eps)


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return _pairwise("iou", boxes1, boxes2, 0.0)


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return _pairwise("giou", boxes1, boxes2, 0.0)


def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    return _pairwise("diou", boxes1, boxes2, eps)


def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    return _pairwise("ciou", boxes1, boxes2, eps)


def _loss_overlap(a: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """IoU and union; reversed boxes have no overlap, and `eps` keeps empty ones finite."""
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    meet = (sides > 0).all(-1)
    intersection = torch.where(meet, sides[..., 0] * sides[..., 1], 0.0)
    union = _area(a) + _area(b) - intersection
    return intersection / (union + eps), union


def _giou_loss(a: Tensor, b: Tensor, eps: float) -> Tensor:
    iou, union = _loss_overlap(a, b, eps)
    sides = _enclosing(a, b)
    around = sides[..., 0] * sides[..., 1]
    return 1 - (iou - (around - union) / (around + eps))


def _diou_loss(a: Tensor, b: Tensor, eps: float) -> Tensor:
    iou, _ = _loss_overlap(a, b, eps)
    return 1 - iou + _distance(a, b) / (_enclosing(a, b).square().sum(-1) + eps)


def _ciou_loss(a: Tensor, b: Tensor, eps: float) -> Tensor:
    iou, _ = _loss_overlap(a, b, eps)
    return _diou_loss(a, b, eps) + _aspect_penalty(a, b, iou, eps)


LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "giou": _giou_loss,
    "diou": _diou_loss,
    "ciou": _ciou_loss,
}


def generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    return _giou_loss(widened(boxes1), widened(boxes2), eps)


def distance_box_iou_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    return _diou_loss(widened(boxes1), widened(boxes2), eps)


def complete_box_iou_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    return _ciou_loss(widened(boxes1), widened(boxes2), eps)


def box_encode(reference_boxes: Tensor, proposals: Tensor, weights: Sequence[float]) -> Tensor:
    boxes, anchors = widened(reference_boxes), widened(proposals)
    size, anchor_size = boxes[..., 2:] - boxes[..., :2], anchors[..., 2:] - anchors[..., :2]
    centre, anchor_centre = boxes[..., :2] + 0.5 * size, anchors[..., :2] + 0.5 * anchor_size
    shift = boxes.new_tensor(weights[:2]) * (centre - anchor_centre) / anchor_size
    growth = boxes.new_tensor(weights[2:]) * torch.log(size / anchor_size)
    return torch.cat((shift, growth), -1).to(reference_boxes.dtype)


def box_decode(deltas: Tensor, anchors: Tensor, weights: Sequence[float], clip: float) -> Tensor:
    given, boxes = widened(deltas).unflatten(1, (-1, 4)), widened(anchors)[:, None]
    size = boxes[..., 2:] - boxes[..., :2]
    shift = given[..., :2] / given.new_tensor(weights[:2])
    growth = _clamped(given[..., 2:] / given.new_tensor(weights[2:]), most=clip)
    centre = shift * size + (boxes[..., :2] + 0.5 * size)
    half = 0.5 * (torch.exp(growth) * size)
    return torch.cat((centre - half, centre + half), -1).flatten(1).to(deltas.dtype)


def clip_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    x1, x2 = _clamped(x1, 0, width), _clamped(x2, 0, width)
    y1, y2 = _clamped(y1, 0, height), _clamped(y2, 0, height)
    return torch.stack((x1, y1, x2, y2), -1)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    sides = widened(boxes)[:, 2:] - widened(boxes)[:, :2]
    return (sides >= min_size).all(1).nonzero().flatten()


def _angle(degrees: Tensor) -> tuple[Tensor, Tensor]:
    radians = degrees * math.pi / 180
    return torch.cos(radians), torch.sin(radians)


def _from_xywh(boxes: Tensor) -> Tensor:
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x, y, x + w, y + h), -1)


def _to_xywh(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1, y1, x2 - x1, y2 - y1), -1)


def _from_cxcywh(boxes: Tensor) -> Tensor:
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h), -1)


def _to_cxcywh(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), -1)


def _centre_from_corner(boxes: Tensor) -> Tensor:
    """From (x1, y1, w, h, degrees), counter-clockwise about the corner as the image shows it."""
    x, y, w, h, r = boxes.unbind(-1)
    cos, sin = _angle(r)
    return torch.stack((x + w / 2 * cos + h / 2 * sin, y - w / 2 * sin + h / 2 * cos, w, h, r), -1)


def _corner_from_centre(boxes: Tensor) -> Tensor:
    x, y, w, h, r = boxes.unbind(-1)
    cos, sin = _angle(r)
    return torch.stack((x - w / 2 * cos - h / 2 * sin, y - h / 2 * cos + w / 2 * sin, w, h, r), -1)


def _corners_from_corner(boxes: Tensor) -> Tensor:
    x, y, w, h, r = boxes.unbind(-1)
    cos, sin = _angle(r)
    x2, y2 = x + w * cos, y - w * sin
    return torch.stack((x, y, x2, y2, x2 + h * sin, y2 + h * cos, x + h * sin, y + h * cos), -1)


def _corner_from_corners(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2, x3, y3, _, _ = boxes.unbind(-1)
    r = torch.atan2(y1 - y2, x2 - x1) * 180 / math.pi
    w = ((x2 - x1).square() + (y1 - y2).square()).sqrt()
    h = ((x3 - x2).square() + (y3 - y2).square()).sqrt()
    return torch.stack((x1, y1, w, h, r), -1)


#: How boxes reach the format that all of their kind pass through, and how they leave it.
_INWARD: dict[str, Callable[[Tensor], Tensor]] = {
    "xyxy": lambda boxes: boxes,
    "xywh": _from_xywh,
    "cxcywh": _from_cxcywh,
    "xywhr": lambda boxes: boxes,
    "cxcywhr": _corner_from_centre,
    "xyxyxyxy": _corner_from_corners,
}
_OUTWARD: dict[str, Callable[[Tensor], Tensor]] = {
    "xyxy": lambda boxes: boxes,
    "xywh": _to_xywh,
    "cxcywh": _to_cxcywh,
    "xywhr": lambda boxes: boxes,
    "cxcywhr": _centre_from_corner,
    "xyxyxyxy": _corners_from_corner,
}


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    if in_fmt == out_fmt:
        return boxes.clone()
    return _OUTWARD[out_fmt](_INWARD[in_fmt](widened(boxes))).to(boxes.dtype)


def match_boxes(
    gt_boxes: Tensor,
    anchors: Tensor,
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> Tensor:
    if gt_boxes.shape[0] == 0 or anchors.shape[0] == 0:
        return gt_boxes.new_full((anchors.shape[0],), -1, dtype=torch.int64)
    overlaps = box_iou(gt_boxes, anchors)
    best, nearest = overlaps.max(0)
    matches = nearest.clone()
    matches[best < low_threshold] = -1
    matches[(best >= low_threshold) & (best < high_threshold)] = -2
    if allow_low_quality_matches:
        is_best_of_some = (overlaps == overlaps.max(1).values[:, None]).any(0)
        matches[is_best_of_some] = nearest[is_best_of_some]
    return matches


def gradients(run: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """Of the formulas above; the kernels have formulas of their own."""
    return torch.func.vjp(run, *inputs)[1](grad)


def pairwise_box_iou_backward(
    grad: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, eps: float
) -> tuple[Tensor, ...]:
    return gradients(lambda a, b: _pairwise(kind, a, b, eps), (boxes1, boxes2), grad)


def box_iou_loss_backward(grad: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> tuple[Tensor, ...]:
    return gradients(lambda a, b: LOSSES[kind](widened(a), widened(b), eps), (boxes1, boxes2), grad)


def box_encode_backward(
    grad: Tensor, reference_boxes: Tensor, proposals: Tensor, weights: Sequence[float]
) -> tuple[Tensor, ...]:
    return gradients(lambda a, b: box_encode(a, b, weights), (reference_boxes, proposals), grad)


def box_decode_backward(
    grad: Tensor, deltas: Tensor, anchors: Tensor, weights: Sequence[float], clip: float
) -> tuple[Tensor, ...]:
    return gradients(lambda a, b: box_decode(a, b, weights, clip), (deltas, anchors), grad)


def clip_boxes_backward(grad: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    return gradients(lambda a: clip_boxes(a, size), (boxes,), grad)[0]


def box_convert_backward(grad: Tensor, boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    return gradients(lambda a: box_convert(a, in_fmt, out_fmt), (boxes,), grad)[0]
