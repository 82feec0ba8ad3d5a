"""What the wing's operators refuse; csrc/roi/masks_checks.h makes the same checks in the same words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...._checks import require, require_device, require_float


def _check(op: str, name: str, maps: Tensor, boxes: Tensor, size_name: str, size: Sequence[int], padding: int) -> None:
    require_float(op, name, maps)
    require(maps.dim() == 4, op, f"{name} must be [K, C, H, W], got {list(maps.shape)}")
    expected = f"boxes must have the dtype of {name} ({maps.dtype}) or be float32"
    require(boxes.dtype in (maps.dtype, torch.float32), op, f"{expected}, got {boxes.dtype}")
    require_device(op, "boxes", boxes, name, maps)
    message = f"boxes must be [{maps.shape[0]}, 4], got {list(boxes.shape)}"
    require(boxes.dim() == 2 and boxes.shape[1] == 4, op, message)
    require(boxes.shape[0] == maps.shape[0], op, message)
    require(len(size) == 2, op, f"{size_name} must be two numbers, got {len(size)}")
    require(padding >= 0, op, f"padding must not be negative, got {padding}")


def check_paste_masks(masks: Tensor, boxes: Tensor, image_size: Sequence[int], padding: int = 1) -> None:
    op = "paste_masks"
    _check(op, "masks", masks, boxes, "image_size", image_size, padding)
    for side in masks.shape[2:]:
        require(side > 0, op, f"masks must have at least one row and one column, got {list(masks.shape)}")
    for side in image_size:
        require(side >= 0, op, f"image_size must not be negative, got {side}")


def check_paste_masks_backward(grad: Tensor, boxes: Tensor, mask_size: Sequence[int], padding: int = 1) -> None:
    op = "paste_masks_backward"
    _check(op, "grad", grad, boxes, "mask_size", mask_size, padding)
    for side in mask_size:
        require(side > 0, op, f"mask_size must be positive, got {side}")
