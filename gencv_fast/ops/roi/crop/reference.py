"""The wing's truth in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import is_channels_last, result_dtype


@dataclass
class Axis:
    """Where the samples of every crop lie along one axis of the image, ``[K, count]`` each."""

    inside: Tensor
    low: Tensor  # index of the pixel at or before the position
    high: Tensor  # and of the one at or after it
    weight: Tensor  # of `high`


def _positions(first: Tensor, last: Tensor, count: int, length: int) -> Tensor:
    """``[K, count]``, in pixels, from the normalised ends ``[K]``."""
    if count == 1:
        return (0.5 * (first + last) * (length - 1))[:, None]
    step = (last - first) * (length - 1) / (count - 1)
    start, end = first * (length - 1), last * (length - 1)
    inner = start[:, None] + torch.arange(1, count - 1, dtype=first.dtype, device=first.device) * step[:, None]
    # The last position is the box's end itself, lest rounding push it out of the image.
    return torch.cat((start[:, None], inner, end[:, None]), 1)


def _axis(first: Tensor, last: Tensor, count: int, length: int, method: str) -> Axis:
    positions = _positions(first, last, count, length)
    inside = (positions >= 0) & (positions <= length - 1)
    positions = torch.where(inside, positions, 0.0)
    low = positions.detach().floor()
    weight = positions - low
    if method == "nearest":
        low, weight = low + (weight >= 0.5), torch.zeros_like(weight)
    high = low + (weight > 0)
    return Axis(inside, low.long().clamp(max=length - 1), high.long().clamp(max=length - 1), weight)


def sound_boxes(boxes: Tensor, box_indices: Tensor, images: int) -> Tensor:
    """``[K]``: whether a box is finite and of one of the images. One that is not gives NaN."""
    return (box_indices >= 0) & (box_indices < images) & boxes.isfinite().all(1)


def compute_dtype(images: Tensor, boxes: Tensor) -> torch.dtype:
    return torch.float64 if torch.float64 in (images.dtype, boxes.dtype) else torch.float32


def _normalised(values: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """Channels are the last dimension."""
    if mean is not None:
        values = values - torch.tensor(mean, dtype=values.dtype, device=values.device)
    if std is not None:
        values = values / torch.tensor(std, dtype=values.dtype, device=values.device)
    return values


def crop_and_resize(
    images: Tensor,
    boxes: Tensor,
    box_indices: Tensor,
    size: Sequence[int],
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    differentiable_boxes: bool = False,
) -> Tensor:
    dtype = compute_dtype(images, boxes)
    number, _, height, width = images.shape
    boxes = (boxes if differentiable_boxes else boxes.detach()).to(dtype)
    y1, x1, y2, x2 = boxes.unbind(1)
    y = _axis(y1, y2, size[0], height, method)
    x = _axis(x1, x2, size[1], width, method)
    batch = box_indices.long().clamp(min=0, max=max(number - 1, 0))[:, None, None]
    pixels = images.to(dtype)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return pixels[batch, :, row[:, :, None], column[:, None, :]]  # [K, height, width, C]

    values = at(y.low, x.low)
    if method == "bilinear":
        x_weight, y_weight = x.weight[:, None, :, None], y.weight[:, :, None, None]
        top = values + (at(y.low, x.high) - values) * x_weight
        bottom_left = at(y.high, x.low)
        bottom = bottom_left + (at(y.high, x.high) - bottom_left) * x_weight
        values = top + (bottom - top) * y_weight
    inside = (y.inside[:, :, None] & x.inside[:, None, :])[..., None]
    values = _normalised(torch.where(inside, values, extrapolation_value), mean, std)
    values = torch.where(sound_boxes(boxes, box_indices, number)[:, None, None, None], values, torch.nan)
    crops = values.to(result_dtype(images)).permute(0, 3, 1, 2)
    return crops if is_channels_last(images) else crops.contiguous()


def crop_and_resize_backward(
    grad: Tensor,
    boxes: Tensor,
    box_indices: Tensor,
    image_size: Sequence[int],
    method: str,
    std: Sequence[float] | None,
) -> Tensor:
    """The gradient of the images; `image_size` is their number, height and width."""
    wide = grad.to(compute_dtype(grad, boxes))
    number, height, width = image_size
    images = wide.new_zeros(number, grad.shape[1], height, width)
    size = grad.shape[2:]
    gradient_of = torch.func.vjp(lambda i: crop_and_resize(i, boxes, box_indices, size, method, std=std), images)[1]
    (result,) = gradient_of(wide)
    layout = torch.channels_last if is_channels_last(grad) else torch.contiguous_format
    return result.to(grad.dtype).contiguous(memory_format=layout)


def crop_and_resize_boxes_backward(
    grad: Tensor, images: Tensor, boxes: Tensor, box_indices: Tensor, std: Sequence[float] | None
) -> Tensor:
    """The gradient of the boxes."""
    dtype = compute_dtype(images, boxes)
    size, wide = grad.shape[2:], images.to(dtype)
    gradient_of = torch.func.vjp(
        lambda b: crop_and_resize(wide, b, box_indices, size, std=std, differentiable_boxes=True), boxes.to(dtype)
    )[1]
    (result,) = gradient_of(grad.to(dtype))
    return result.to(boxes.dtype)
