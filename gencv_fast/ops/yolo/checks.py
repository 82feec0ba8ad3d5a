"""What the room's operators ask of their arguments, in the words of csrc/yolo/yolo_arguments.h."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._checks import require, require_device, require_float, require_like, require_shape

MOST_LEVELS = 8
MOST_BOXES_PER_CELL = 16
MOST_BINS = 64
VERSIONS = ("v1", "v2", "v3", "v5", "v8")
_MOST_CANDIDATES = 2**31 - 1


def boxes_in_cell(preds: Sequence[Tensor], anchors: Sequence[float] | None, version: str, boxes_per_cell: int) -> int:
    """Of checked arguments."""
    if version == "v1":
        return boxes_per_cell
    return len(anchors) // (2 * len(preds)) if anchors is not None else 1


def class_count(channels: int, boxes: int, version: str, reg_max: int) -> int:
    if version == "v8":
        return channels - 4 * reg_max
    return channels - 5 * boxes if version == "v1" else channels // boxes - 5


def box_count(preds: Sequence[Tensor], boxes: int) -> int:
    return sum(boxes * pred.shape[2] * pred.shape[3] for pred in preds)


def _check_level(op: str, i: int, pred: Tensor, first: Tensor) -> None:
    shape = list(pred.shape)
    require(len(shape) == 4, op, f"preds[{i}] must be [B, C, H, W], got {shape}")
    for name, dim in (("batch size", 0), ("channels", 1)):
        wanted = f"preds[{i}] must have the {name} of preds[0] ({first.shape[dim]})"
        require(shape[dim] == first.shape[dim], op, f"{wanted}, got {shape[dim]}")
    require_like(op, f"preds[{i}]", pred, "preds[0]", first)


def _check_anchors(op: str, levels: int, anchors: Sequence[float] | None, version: str) -> None:
    if version in ("v1", "v8"):
        require(anchors is None, op, f"anchors must be None for version {version}")
        return
    require(anchors is not None, op, f"anchors must be given for version {version}")
    numbers, step = len(anchors or ()), 2 * levels
    wanted = f"anchors must be pairs (width, height), 1 to {MOST_BOXES_PER_CELL} for each of the {levels} levels"
    require(0 < numbers <= MOST_BOXES_PER_CELL * step and numbers % step == 0, op, f"{wanted}, got {numbers} numbers")


def _check_channels(op: str, channels: int, boxes: int, version: str, reg_max: int) -> None:
    if version == "v8":
        wanted = f"preds[0] must have more than 4 * reg_max ({4 * reg_max}) channels"
        require(channels > 4 * reg_max, op, f"{wanted}, got {channels}")
    elif version == "v1":
        wanted = f"preds[0] must have more than 5 * boxes_per_cell ({5 * boxes}) channels"
        require(channels > 5 * boxes, op, f"{wanted}, got {channels}")
    else:
        wanted = f"preds[0] must have the same number of channels, more than 5, for each of {boxes} anchors"
        require(channels % boxes == 0, op, f"{wanted}, got {channels}")
        require(channels > 5 * boxes, op, f"{wanted}, got {channels}")


def _check_preds(
    op: str,
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str,
    boxes_per_cell: int,
    reg_max: int,
) -> None:
    levels = len(preds)
    require(1 <= levels <= MOST_LEVELS, op, f"preds must be 1 to {MOST_LEVELS} tensors, got {levels}")
    require(version in VERSIONS, op, f"version must be 'v1', 'v2', 'v3', 'v5' or 'v8', got '{version}'")
    require_float(op, "preds[0]", preds[0])
    for i, pred in enumerate(preds):
        _check_level(op, i, pred, preds[0])
    require(len(strides) == levels, op, f"strides must be one per level ({levels}), got {len(strides)}")
    for stride in strides:
        require(stride > 0, op, f"strides must be positive, got {stride}")
    inside = 1 <= boxes_per_cell <= MOST_BOXES_PER_CELL
    require(inside, op, f"boxes_per_cell must be 1 to {MOST_BOXES_PER_CELL}, got {boxes_per_cell}")
    require(1 <= reg_max <= MOST_BINS, op, f"reg_max must be 1 to {MOST_BINS}, got {reg_max}")
    _check_anchors(op, levels, anchors, version)
    boxes = boxes_in_cell(preds, anchors, version, boxes_per_cell)
    channels = preds[0].shape[1]
    _check_channels(op, channels, boxes, version, reg_max)
    n = box_count(preds, boxes) * class_count(channels, boxes, version, reg_max)
    wanted = f"preds must have at most {_MOST_CANDIDATES} boxes times classes per image"
    require(n <= _MOST_CANDIDATES, op, f"{wanted}, got {n}")


def check_yolo_decode(
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    boxes_per_cell: int = 2,
    reg_max: int = 16,
) -> None:
    _check_preds("yolo_decode", preds, anchors, strides, version, boxes_per_cell, reg_max)


def check_yolo_decode_backward(
    grad_boxes: Tensor,
    grad_scores: Tensor,
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    boxes_per_cell: int = 2,
    reg_max: int = 16,
) -> None:
    op = "yolo_decode_backward"
    _check_preds(op, preds, anchors, strides, version, boxes_per_cell, reg_max)
    boxes = boxes_in_cell(preds, anchors, version, boxes_per_cell)
    batch, n = preds[0].shape[0], box_count(preds, boxes)
    classes = class_count(preds[0].shape[1], boxes, version, reg_max)
    for name, grad, size in (("grad_boxes", grad_boxes, 4), ("grad_scores", grad_scores, classes)):
        require_like(op, name, grad, "preds[0]", preds[0])
        require_shape(op, grad, [batch, n, size], f"{name} must be [{batch}, {n}, {size}]")


def check_yolo_detect(
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
) -> None:
    op = "yolo_detect"
    _check_preds(op, preds, anchors, strides, version, boxes_per_cell, reg_max)
    for name, limit in (("max_detections", max_detections), ("max_candidates", max_candidates)):
        require(limit >= 0, op, f"{name} must not be negative, got {limit}")
    if letterbox is not None:
        batch = preds[0].shape[0]
        require_shape(op, letterbox, [batch, 5], f"letterbox must be [{batch}, 5]")
        require(letterbox.dtype == torch.float32, op, f"letterbox must be float32, got {letterbox.dtype}")
        require_device(op, "letterbox", letterbox, "preds[0]", preds[0])
