"""The room's truth in plain PyTorch, written to be checked by eye.

Sums run bin by bin and class by class, and exponentials are made of rounded sums and products, so that every backend
can find the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..nms.reference import batched_nms, compute_dtype
from ..rpn.reference import exponential, sigmoid


class Head(NamedTuple):
    """One level: rows are boxes, box ``a * H * W + y * W + x`` being the a-th of cell (y, x)."""

    boxes: Tensor  # [B, rows, 4] corners in pixels
    confidence: Tensor | None  # [B, 1, rows], what a class's probability is multiplied by
    classes: Tensor  # [B, classes, rows], as the network gives them


def _rows(per_anchor: Tensor) -> Tensor:
    """[B, A, C, H * W] -> [B, C, A * H * W]"""
    return per_anchor.transpose(1, 2).flatten(2)


def _corners(x: Tensor, y: Tensor, w: Tensor, h: Tensor) -> Tensor:
    half_w, half_h = 0.5 * w, 0.5 * h
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), dim=-1).flatten(1, -2)


def _grid(pred: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row of each cell, [H * W]."""
    height, width = pred.shape[2:]
    cells = torch.arange(height * width, device=pred.device)
    columns = torch.arange(width, device=pred.device).expand(height, width).flatten()
    return columns.to(pred.dtype), ((cells - columns) // max(width, 1)).to(pred.dtype)


def _grid_head(pred: Tensor, stride: int, boxes_per_cell: int) -> Head:
    """v1: channels (x, y, w, h, confidence) of each box, then the classes of the cell."""
    x_cell, y_cell = _grid(pred)
    height, width = pred.shape[2:]
    values = pred.flatten(2)
    boxes, classes = values[:, : 5 * boxes_per_cell], values[:, 5 * boxes_per_cell :]
    x, y, w, h, confidence = boxes.unflatten(1, (boxes_per_cell, 5)).unbind(2)
    corners = _corners(
        (x + x_cell) * stride, (y + y_cell) * stride, w * w * (width * stride), h * h * (height * stride)
    )
    return Head(corners, confidence.flatten(1)[:, None], classes.repeat(1, 1, boxes_per_cell))


def _anchor_head(pred: Tensor, stride: int, anchors: Sequence[tuple[float, float]], version: str) -> Head:
    """v2, v3, v5: channels (x, y, w, h, objectness, classes) of each anchor."""
    x_cell, y_cell = _grid(pred)
    values = pred.flatten(2).unflatten(1, (len(anchors), -1))
    x, y, w, h, objectness = values[:, :, :5].unbind(2)
    sides = values.new_tensor(anchors)[:, :, None]  # [A, 2, 1]
    if version == "v5":
        x, y = ((2 * sigmoid(t) - 0.5 + cell) * stride for t, cell in ((x, x_cell), (y, y_cell)))
        w, h = ((2 * sigmoid(t)) * (2 * sigmoid(t)) * sides[:, i] for i, t in enumerate((w, h)))
    else:
        x, y = ((sigmoid(t) + cell) * stride for t, cell in ((x, x_cell), (y, y_cell)))
        w, h = (exponential(t) * sides[:, i] for i, t in enumerate((w, h)))
    return Head(_corners(x, y, w, h), sigmoid(objectness).flatten(1)[:, None], _rows(values[:, :, 5:]))


def _distribution_head(pred: Tensor, stride: int, reg_max: int) -> Head:
    """v8: channels of a distribution for each distance (left, top, right, bottom), then the classes."""
    x_cell, y_cell = _grid(pred)
    values = pred.flatten(2)
    bins = values[:, : 4 * reg_max].unflatten(1, (4, reg_max))
    weights = exponential(bins - bins.detach().amax(2, keepdim=True))
    total, moment = torch.zeros_like(weights[:, :, 0]), torch.zeros_like(weights[:, :, 0])
    for i in range(reg_max):
        total = total + weights[:, :, i]
        moment = moment + i * weights[:, :, i]
    left, top, right, bottom = (moment / total).unbind(1)
    x, y = x_cell + 0.5, y_cell + 0.5
    corners = torch.stack((x - left, y - top, x + right, y + bottom), dim=2) * stride
    return Head(corners, None, values[:, 4 * reg_max :])


def _softmax(logits: Tensor) -> Tensor:
    """Over dimension 1."""
    weights = exponential(logits - logits.detach().amax(1, keepdim=True))
    total = torch.zeros_like(weights[:, :1])
    for c in range(weights.shape[1]):
        total = total + weights[:, c : c + 1]
    return weights / total


def _scores(head: Head, version: str) -> Tensor:
    """[B, classes, rows]"""
    if version == "v8":
        return sigmoid(head.classes)
    assert head.confidence is not None
    if version == "v1":
        return head.confidence * head.classes
    return head.confidence * (_softmax(head.classes) if version == "v2" else sigmoid(head.classes))


def _heads(
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str,
    boxes_per_cell: int,
    reg_max: int,
) -> list[Head]:
    wide = [pred.to(compute_dtype(pred.dtype)) for pred in preds]
    if version == "v1":
        return [_grid_head(p, stride, boxes_per_cell) for p, stride in zip(wide, strides, strict=True)]
    if version == "v8":
        return [_distribution_head(p, stride, reg_max) for p, stride in zip(wide, strides, strict=True)]
    assert anchors is not None  # checked
    pairs = list(zip(anchors[::2], anchors[1::2], strict=True))
    count = len(pairs) // len(wide)
    of_levels = [pairs[i * count : (i + 1) * count] for i in range(len(wide))]
    return [_anchor_head(p, stride, own, version) for p, stride, own in zip(wide, strides, of_levels, strict=True)]


def yolo_decode(
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    boxes_per_cell: int = 2,
    reg_max: int = 16,
) -> tuple[Tensor, Tensor]:
    heads = _heads(preds, anchors, strides, version, boxes_per_cell, reg_max)
    boxes = torch.cat([head.boxes for head in heads], dim=1)
    scores = torch.cat([_scores(head, version) for head in heads], dim=2)
    return boxes.to(preds[0].dtype), scores.to(preds[0].dtype).transpose(1, 2)


def yolo_decode_backward(
    grad_boxes: Tensor,
    grad_scores: Tensor,
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    boxes_per_cell: int = 2,
    reg_max: int = 16,
) -> Tensor:
    """[B, sum of C * H * W]: the gradients of each image's maps, one after the other."""
    with torch.enable_grad():
        leaves = [pred.detach().requires_grad_() for pred in preds]
        results = yolo_decode(leaves, anchors, strides, version, boxes_per_cell, reg_max)
        grads = torch.autograd.grad(
            results, leaves, (grad_boxes, grad_scores), allow_unused=True, materialize_grads=True
        )
    return torch.cat([grad.flatten(1) for grad in grads], dim=1)


def restore(boxes: Tensor, letterbox: Tensor) -> Tensor:
    """[n, 4] corners of the padded, scaled image -> those of the original one, clipped to it."""
    scale, pad_x, pad_y, height, width = letterbox.to(boxes.dtype)
    boxes = (boxes - torch.stack((pad_x, pad_y, pad_x, pad_y))) / scale
    most = torch.stack((width, height, width, height))
    boxes = torch.where(boxes < 0, 0, boxes)
    return torch.where(boxes > most, most, boxes)


def yolo_detect(
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    score_threshold: float = 0.25,
    iou_threshold: float = 0.45,
    max_detections: int = 300,
    class_agnostic: bool = False,
    multi_label: bool = False,
    max_candidates: int = 30000,
    letterbox: Tensor | None = None,
    boxes_per_cell: int = 2,
    reg_max: int = 16,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    heads = _heads(preds, anchors, strides, version, boxes_per_cell, reg_max)
    heads = [head._replace(classes=torch.where(head.classes.isnan(), -torch.inf, head.classes)) for head in heads]
    boxes = torch.cat([head.boxes for head in heads], dim=1)
    scores = torch.cat([_scores(head, version) for head in heads], dim=2)  # [B, classes, n]
    classes = torch.cat([head.classes for head in heads], dim=2)
    batch, class_count, n = scores.shape
    out_boxes = preds[0].new_zeros((batch, max_detections, 4))
    out_scores = preds[0].new_zeros((batch, max_detections))
    labels = preds[0].new_full((batch, max_detections), -1, dtype=torch.int64)
    counts = preds[0].new_zeros((batch,), dtype=torch.int64)
    numbers = torch.arange(class_count, device=boxes.device)[:, None]
    for b in range(batch):
        # A candidate has a number: class * n + box.
        if multi_label:
            number = torch.arange(class_count * n, device=boxes.device)
        else:
            is_best = classes[b] == classes[b].amax(0)
            best_class = torch.where(is_best, numbers, class_count).amin(0)
            number = best_class * n + torch.arange(n, device=boxes.device)
        score = scores[b].flatten()[number] + 0.0  # no negative zero
        chosen = torch.where(score.double() > score_threshold)[0]
        chosen = chosen[score[chosen].sort(descending=True, stable=True).indices[:max_candidates]]
        number, score = number[chosen], score[chosen]
        label, box = number // max(n, 1), boxes[b][number % max(n, 1)]
        sound = ~box.isnan().any(1)
        label, score, box = label[sound], score[sound], box[sound]
        group = torch.zeros_like(label) if class_agnostic else label
        keep = batched_nms(box, score, group, iou_threshold)[:max_detections]
        kept = box[keep] if letterbox is None else restore(box[keep], letterbox[b])
        counts[b] = len(keep)
        out_boxes[b, : len(keep)] = kept
        out_scores[b, : len(keep)] = score[keep]
        labels[b, : len(keep)] = label[keep]
    return out_boxes, out_scores, labels, counts
