"""The wing's truth in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

#: No image is that large.
MOST_PIXELS = 2.0**40


def computed(tensor: Tensor) -> Tensor:
    """Half precision is computed in fp32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def grown_boxes(boxes: Tensor, columns: int, padding: int) -> Tensor:
    """``[K, 4]``: the boxes of padded masks, not yet whole pixels; both sides grow by the ratio of the widths."""
    x1, y1, x2, y2 = computed(boxes).unbind(1)
    scale = (columns + 2 * padding) / columns
    half_width, half_height = (x2 - x1) * 0.5 * scale, (y2 - y1) * 0.5 * scale
    x, y = (x2 + x1) * 0.5, (y2 + y1) * 0.5
    return torch.stack((x - half_width, y - half_height, x + half_width, y + half_height), 1)


def sound_boxes(boxes: Tensor, columns: int, padding: int) -> Tensor:
    """``[K]``: whether a box is finite, grown too. One that is not gives NaN."""
    return grown_boxes(boxes, columns, padding).isfinite().all(1)


def _places(first: Tensor, last: Tensor, cells: int, size: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """``[K, size]``: whether a pixel lies in the box, its two cells, and how far it is from the first."""
    pixels = torch.arange(size, device=first.device)
    first, last = first[:, None], last[:, None]
    inside = (pixels >= first) & (pixels <= last)
    ratio = cells / (last - first + 1).clamp(min=1).to(dtype)
    position = (((pixels - first).to(dtype) + 0.5) * ratio - 0.5).clamp(min=0)
    position = torch.where(inside, position, 0.0)
    below = position.long().clamp(max=cells - 1)
    return inside, below, (below + 1).clamp(max=cells - 1), position - below


def paste_masks(masks: Tensor, boxes: Tensor, image_size: Sequence[int], padding: int = 1) -> Tensor:
    _, channels, height_of_masks, columns = masks.shape
    height, width = image_size
    cells = pad(computed(masks), (padding,) * 4)
    grown = grown_boxes(boxes.detach(), columns, padding)
    sound = grown.isfinite().all(1)
    x1, y1, x2, y2 = grown.nan_to_num(0.0).clamp(-MOST_PIXELS, MOST_PIXELS).long().unbind(1)
    in_y, top, bottom, weight_y = _places(y1, y2, height_of_masks + 2 * padding, height, cells.dtype)
    in_x, left, right, weight_x = _places(x1, x2, columns + 2 * padding, width, cells.dtype)

    def rows(index: Tensor) -> Tensor:
        found = cells.gather(2, index[:, None, :, None].expand(-1, channels, -1, cells.shape[3]))
        low, high = (found.gather(3, i[:, None, None].expand(-1, channels, height, -1)) for i in (left, right))
        return low * (1 - weight_x[:, None, None]) + high * weight_x[:, None, None]

    values = rows(top) * (1 - weight_y[:, None, :, None]) + rows(bottom) * weight_y[:, None, :, None]
    values = torch.where((in_y[:, :, None] & in_x[:, None])[:, None], values, 0.0)
    return torch.where(sound[:, None, None, None], values, torch.nan).to(masks.dtype)


def paste_masks_backward(grad: Tensor, boxes: Tensor, mask_size: Sequence[int], padding: int = 1) -> Tensor:
    masks = computed(grad).new_zeros((*grad.shape[:2], *mask_size))

    def paste(masks: Tensor) -> Tensor:
        return paste_masks(masks, boxes, grad.shape[2:], padding)

    pull: Any = torch.func.vjp(paste, masks)[1]
    sound = sound_boxes(boxes, mask_size[1], padding)
    return torch.where(sound[:, None, None, None], pull(computed(grad))[0], 0.0).to(grad.dtype)
