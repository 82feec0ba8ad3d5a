"""The wing's truth in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..regions import sound_regions

# A bin starts here, and keeps it where it holds no larger number: torchvision's choice.
LOWEST = -3.4028234663852886e38

# What lies further out than this, in pixels, is cut off.
LIMIT = 2.0**31


class Maxima(NamedTuple):
    """The first maximum of each bin in the order of rows, ``[K, C, rows, columns]``."""

    pixel: Tensor  # y * width + x; -1 where there is none
    empty: Tensor  # the bin has no pixel
    sound: Tensor  # [K]: the region is one


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def rounded(x: Tensor) -> Tensor:
    """To the nearest integer as C's ``round`` does, halves away from zero."""
    x = torch.nan_to_num(x, nan=-LIMIT).clamp(-LIMIT, LIMIT)
    whole = x.trunc()
    rest = x - whole
    return whole.long() + (rest >= 0.5).long() - (rest <= -0.5).long()


def bins_of(first: Tensor, last: Tensor, spatial_scale: float, bins: int, length: int) -> Tensor:
    """``[K, bins, length]``: which pixels lie in which bin of each region's side from ``first`` to ``last``."""
    scale = torch.tensor(spatial_scale, dtype=first.dtype, device=first.device)
    start = rounded(first * scale)
    size = (rounded(last * scale) - start + 1).clamp(min=1).to(first.dtype)
    bin_size = size / torch.tensor(bins, dtype=first.dtype, device=first.device)
    edge = torch.arange(bins + 1, dtype=first.dtype, device=first.device) * bin_size[:, None]
    begin = start[:, None] + edge[:, :-1].floor().long()
    end = start[:, None] + edge[:, 1:].ceil().long()
    pixel = torch.arange(length, device=first.device)
    return (pixel >= begin[..., None]) & (pixel < end[..., None])


def _first_maximum(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of one region: maps ``[C, H, W]``, which rows ``[rows, H]`` and columns ``[columns, W]`` bins hold."""
    in_columns = torch.where(columns, maps[:, :, None, :], -torch.inf)  # [C, H, columns, W]
    column = in_columns.argmax(-1)
    largest = in_columns.gather(-1, column[..., None])[..., 0]
    in_rows = torch.where(rows[..., None], largest[:, None], -torch.inf)  # [C, rows, H, columns]
    row = in_rows.argmax(2, keepdim=True)
    found = in_rows.gather(2, row) > -torch.inf
    pixel = row * maps.shape[2] + column[:, None].expand(in_rows.shape).gather(2, row)
    return torch.where(found, pixel, -1)[:, :, 0]


def maxima(input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float) -> Maxima:
    images, channels, height, width = input.shape
    sound = sound_regions(boxes, images)
    at = torch.where(sound[:, None], _wide(boxes if input.dtype != torch.float64 else boxes.double()), 0)
    _, x1, y1, x2, y2 = at.unbind(1)
    rows = bins_of(y1, y2, spatial_scale, output_size[0], height)
    columns = bins_of(x1, x2, spatial_scale, output_size[1], width)
    empty = ~(rows.any(-1)[:, :, None] & columns.any(-1)[:, None, :])[:, None]
    if 0 in (images, channels, height, width, len(boxes)):
        pixel = boxes.new_full((len(boxes), channels, *output_size), -1, dtype=torch.int64)
        return Maxima(pixel, empty, sound)
    maps = _wide(input.detach())
    maps = torch.where(maps > LOWEST, maps, -torch.inf)  # NaN too
    image = at[:, 0].long()
    found = [_first_maximum(maps.index_select(0, image[k : k + 1])[0], rows[k], columns[k]) for k in range(len(boxes))]
    pixel = torch.where(sound[:, None, None, None], torch.stack(found), -1)
    return Maxima(pixel, empty, sound)


def _places(maxima: Maxima, boxes: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, channel and pixel of each maximum in maps that have another pixel before the first and another image."""
    image = torch.where(maxima.sound, boxes[:, 0].nan_to_num(), -1).long()
    channel = torch.arange(channels, device=boxes.device)
    return image[:, None, None], channel[:, None], 1 + maxima.pixel.flatten(2)


def _picked(maps: Tensor, maxima: Maxima, boxes: Tensor) -> Tensor:
    """What lies in the maps at the maxima; 0 where there is none."""
    padded = pad(maps.flatten(2), (1, 0, 0, 0, 0, 1))
    return padded[_places(maxima, boxes, maps.shape[1])].view(maxima.pixel.shape)


def roi_pool(input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0) -> Tensor:
    found = maxima(input, boxes, output_size, spatial_scale)
    lowest = torch.tensor(LOWEST, dtype=_wide(input).dtype, device=input.device).to(input.dtype)
    constant = torch.where(found.empty, torch.zeros_like(lowest), lowest)
    constant = torch.where(found.sound[:, None, None, None], constant, torch.nan)
    return torch.where(found.pixel >= 0, _picked(input, found, boxes), constant)


def roi_pool_pick(
    values: Tensor, input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """What lies in ``values`` where ``input`` is largest; 0 where nothing is."""
    return _picked(values, maxima(input, boxes, output_size, spatial_scale), boxes)


def roi_pool_backward(grad: Tensor, input: Tensor, boxes: Tensor, spatial_scale: float = 1.0) -> Tensor:
    found = maxima(input, boxes, grad.shape[2:], spatial_scale)
    images, channels, height, width = input.shape
    padded = _wide(grad).new_zeros(images + 1, channels, 1 + height * width)
    summed = padded.index_put(_places(found, boxes, channels), _wide(grad).flatten(2), accumulate=True)
    return summed[:images, :, 1:].reshape(input.shape).to(input.dtype)
