"""What a call must satisfy. The compiled bindings make the same checks with the same words, in the same order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._checks import require, require_device, require_float, require_like, require_same_shape, require_shape

KINDS = ("iou", "giou", "diou", "ciou")
LOSS_KINDS = KINDS[1:]

#: Numbers that describe a box of each format.
FORMATS = {"xyxy": 4, "xywh": 4, "cxcywh": 4, "xywhr": 5, "cxcywhr": 5, "xyxyxyxy": 8}


def _require_rows(op: str, name: str, boxes: Tensor) -> None:
    """``[..., 4]``"""
    four = boxes.dim() >= 1 and boxes.shape[-1] == 4
    require(four, op, f"{name} must be [..., 4], got {list(boxes.shape)}")


def _check_pairwise(op: str, boxes1: Tensor, boxes2: Tensor) -> None:
    require_float(op, "boxes1", boxes1)
    require_like(op, "boxes2", boxes2, "boxes1", boxes1)
    for name, boxes, count in (("boxes1", boxes1, "N"), ("boxes2", boxes2, "M")):
        matrix = boxes.dim() >= 2 and boxes.shape[-1] == 4
        require(matrix, op, f"{name} must be [..., {count}, 4], got {list(boxes.shape)}")
    ours, theirs = list(boxes1.shape[:-2]), list(boxes2.shape[:-2])
    message = f"boxes2 must have the leading dimensions of boxes1 ({ours}), got {theirs}"
    require(len(ours) == len(theirs), op, message)
    for a, b in zip(ours, theirs, strict=True):
        require(a == b, op, message)


def check_box_iou(boxes1: Tensor, boxes2: Tensor) -> None:
    _check_pairwise("box_iou", boxes1, boxes2)


def check_generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> None:
    _check_pairwise("generalized_box_iou", boxes1, boxes2)


def check_distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> None:
    _check_pairwise("distance_box_iou", boxes1, boxes2)


def check_complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> None:
    _check_pairwise("complete_box_iou", boxes1, boxes2)


def wide_dtype(boxes: Tensor) -> torch.dtype:
    """Of overlaps and losses, which half types could not hold."""
    return torch.float64 if boxes.dtype == torch.float64 else torch.float32


def _check_grad_of_wide(op: str, grad: Tensor, boxes1: Tensor) -> None:
    wanted = wide_dtype(boxes1)
    require(grad.dtype == wanted, op, f"grad must have the dtype of the result ({wanted}), got {grad.dtype}")
    require_device(op, "grad", grad, "boxes1", boxes1)


def check_pairwise_box_iou_backward(grad: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> None:
    op = "pairwise_box_iou_backward"
    _check_pairwise(op, boxes1, boxes2)
    _check_grad_of_wide(op, grad, boxes1)
    shape = [*boxes1.shape[:-1], boxes2.shape[-2]]
    require_shape(op, grad, shape, f"grad must be [..., N, M] ({shape})")
    require(kind in KINDS, op, f"kind must be 'iou', 'giou', 'diou' or 'ciou', got '{kind}'")


def _check_loss(op: str, boxes1: Tensor, boxes2: Tensor) -> None:
    require_float(op, "boxes1", boxes1)
    require_like(op, "boxes2", boxes2, "boxes1", boxes1)
    _require_rows(op, "boxes1", boxes1)
    require_same_shape(op, "boxes2", boxes2, "boxes1", boxes1.shape)


def check_generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> None:
    _check_loss("generalized_box_iou_loss", boxes1, boxes2)


def check_distance_box_iou_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> None:
    _check_loss("distance_box_iou_loss", boxes1, boxes2)


def check_complete_box_iou_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> None:
    _check_loss("complete_box_iou_loss", boxes1, boxes2)


def check_box_iou_loss_backward(grad: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> None:
    op = "box_iou_loss_backward"
    _check_loss(op, boxes1, boxes2)
    _check_grad_of_wide(op, grad, boxes1)
    require_same_shape(op, "grad", grad, "the result", boxes1.shape[:-1])
    require(kind in LOSS_KINDS, op, f"kind must be 'giou', 'diou' or 'ciou', got '{kind}'")


def _require_weights(op: str, weights: Sequence[float]) -> None:
    require(len(weights) == 4, op, f"weights must be 4 numbers, got {len(weights)}")


def _check_grad(op: str, grad: Tensor, of: str, like: Tensor, shape: Sequence[int]) -> None:
    require_like(op, "grad", grad, of, like)
    require_same_shape(op, "grad", grad, "the result", shape)


def check_box_encode(
    reference_boxes: Tensor, proposals: Tensor, weights: Sequence[float], op: str = "box_encode"
) -> None:
    require_float(op, "reference_boxes", reference_boxes)
    require_like(op, "proposals", proposals, "reference_boxes", reference_boxes)
    _require_rows(op, "reference_boxes", reference_boxes)
    require_same_shape(op, "proposals", proposals, "reference_boxes", reference_boxes.shape)
    _require_weights(op, weights)


def check_box_encode_backward(
    grad: Tensor, reference_boxes: Tensor, proposals: Tensor, weights: Sequence[float]
) -> None:
    op = "box_encode_backward"
    check_box_encode(reference_boxes, proposals, weights, op)
    _check_grad(op, grad, "reference_boxes", reference_boxes, reference_boxes.shape)


def check_box_decode(
    deltas: Tensor, anchors: Tensor, weights: Sequence[float], clip: float, op: str = "box_decode"
) -> None:
    require_float(op, "deltas", deltas)
    require_like(op, "anchors", anchors, "deltas", deltas)
    rows = deltas.dim() == 2 and deltas.shape[1] % 4 == 0
    require(rows, op, f"deltas must be [N, 4 * C], got {list(deltas.shape)}")
    message = f"anchors must be [N, 4] with N = {deltas.shape[0]}, got {list(anchors.shape)}"
    require(anchors.dim() == 2 and anchors.shape[1] == 4, op, message)
    require(anchors.shape[0] == deltas.shape[0], op, message)
    _require_weights(op, weights)


def check_box_decode_backward(
    grad: Tensor, deltas: Tensor, anchors: Tensor, weights: Sequence[float], clip: float
) -> None:
    op = "box_decode_backward"
    check_box_decode(deltas, anchors, weights, clip, op)
    _check_grad(op, grad, "deltas", deltas, deltas.shape)


def check_clip_boxes(boxes: Tensor, size: Sequence[int], op: str = "clip_boxes") -> None:
    require_float(op, "boxes", boxes)
    _require_rows(op, "boxes", boxes)
    require(len(size) == 2, op, f"size must be (height, width), got {len(size)} numbers")
    height, width = size
    for side in (height, width):
        require(side >= 0, op, f"size must not be negative, got ({height}, {width})")


def check_clip_boxes_backward(grad: Tensor, boxes: Tensor, size: Sequence[int]) -> None:
    op = "clip_boxes_backward"
    check_clip_boxes(boxes, size, op)
    _check_grad(op, grad, "boxes", boxes, boxes.shape)


def check_remove_small_boxes(boxes: Tensor, min_size: float) -> None:
    op = "remove_small_boxes"
    require_float(op, "boxes", boxes)
    require(boxes.dim() == 2 and boxes.shape[1] == 4, op, f"boxes must be [N, 4], got {list(boxes.shape)}")


def _is_rotated(fmt: str) -> bool:
    return FORMATS[fmt] != 4


def check_box_convert(boxes: Tensor, in_fmt: str, out_fmt: str, op: str = "box_convert") -> None:
    require_float(op, "boxes", boxes)
    for name, fmt in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        require(fmt in FORMATS, op, f"{name} must be one of {', '.join(FORMATS)}, got '{fmt}'")
    require(_is_rotated(in_fmt) == _is_rotated(out_fmt), op, f"cannot convert from {in_fmt} to {out_fmt}")
    size = FORMATS[in_fmt]
    rows = boxes.dim() >= 1 and boxes.shape[-1] == size
    require(rows, op, f"boxes must be [..., {size}] for {in_fmt}, got {list(boxes.shape)}")


def check_box_convert_backward(grad: Tensor, boxes: Tensor, in_fmt: str, out_fmt: str) -> None:
    op = "box_convert_backward"
    check_box_convert(boxes, in_fmt, out_fmt, op)
    _check_grad(op, grad, "boxes", boxes, [*boxes.shape[:-1], FORMATS[out_fmt]])


def check_match_boxes(
    gt_boxes: Tensor,
    anchors: Tensor,
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> None:
    op = "match_boxes"
    require_float(op, "gt_boxes", gt_boxes)
    require_like(op, "anchors", anchors, "gt_boxes", gt_boxes)
    for name, boxes, count in (("gt_boxes", gt_boxes, "M"), ("anchors", anchors, "A")):
        require(boxes.dim() == 2 and boxes.shape[1] == 4, op, f"{name} must be [{count}, 4], got {list(boxes.shape)}")
    expected = f"low_threshold must not be greater than high_threshold ({high_threshold:g})"
    require(low_threshold <= high_threshold, op, f"{expected}, got {low_threshold:g}")
