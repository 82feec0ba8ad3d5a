"""The wing's truth in plain PyTorch; half types are computed in float32.

Channel ``(c * height + i) * width + j`` of a map serves bin ``(i, j)`` of channel c of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..regions import sound_regions


def _compute_dtype(t: Tensor) -> torch.dtype:
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def _of_regions(
    input: Tensor, boxes: Tensor, output_size: Sequence[int], pool: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """``pool`` gets a map ``[C, height, width, H, W]`` and a box ``[4]`` and gives ``[C, height, width]``."""
    height, width = output_size
    dtype = _compute_dtype(input)
    maps = input.to(dtype).unflatten(1, (input.shape[1] // (height * width), height, width))
    sound = sound_regions(boxes, input.shape[0])
    image = torch.where(sound, boxes[:, 0].detach(), 0).long()
    results = [pool(maps[image[k]], boxes[k, 1:].to(dtype)) for k in range(len(boxes)) if sound[k]]
    # The sum over nothing keeps the result in the graph where there is no region.
    rows = input.new_full((len(boxes), *maps.shape[1:4]), torch.nan, dtype=dtype) + maps[:0].sum()
    if results:
        rows = rows.index_put((sound.nonzero().squeeze(1),), torch.stack(results))
    return rows.to(input.dtype)


def _sample_points(low: Tensor, high: Tensor, bins: int, ratio: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis, of each bin ``[bins, samples]``: where they lie and which of them count; and how many there are.

    Of a bin that reaches far out of the map only samples near the map are looked at, since the others are 0.
    """
    extent = high - low
    step = extent / bins
    grid = extent.new_tensor(ratio) if ratio > 0 else (extent / bins).detach().ceil().clamp(min=0)
    start = torch.arange(bins, device=low.device) * step + low
    first, count = torch.zeros_like(start), grid.clamp(max=max(ratio, 0))
    if ratio <= 0 and grid > 0:
        spacing = (step / grid).detach()
        first = torch.clamp(((-1 - start.detach()) / spacing - 1.5).floor(), torch.zeros_like(grid), grid)
        count = torch.minimum(grid, ((size + 1) / spacing).ceil() + 4)
    sample = first[:, None] + torch.arange(int(count), device=low.device)
    points = start[:, None] + (sample + 0.5) * step / grid
    return points, (sample < grid) & (points >= -1) & (points <= size), grid


def _neighbours(points: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each point, and the weight of the one after."""
    points = torch.where(points <= 0, 0, points)
    before = points.detach().clamp(max=size - 1).long()
    last = before >= size - 1
    weight = torch.where(last, 0, points - before)
    return before, torch.where(last, before, before + 1), weight


def _align(map: Tensor, box: Tensor, spatial_scale: float, sampling_ratio: int) -> Tensor:
    channels, height, width, map_height, map_width = map.shape
    corners = box * spatial_scale - 0.5
    if not (corners[2:] - corners[:2]).isfinite().all():
        return map.new_full((channels, height, width), torch.nan)
    if map_height * map_width == 0:
        return map.sum((-1, -2))
    y, in_y, rows = _sample_points(corners[1], corners[3], height, sampling_ratio, map_height)
    x, in_x, columns = _sample_points(corners[0], corners[2], width, sampling_ratio, map_width)
    top, bottom, down = (t[:, None, :, None] for t in _neighbours(y, map_height))
    left, right, across = (t[None, :, None, :] for t in _neighbours(x, map_width))
    i = torch.arange(height, device=map.device)[:, None, None, None]
    j = torch.arange(width, device=map.device)[None, :, None, None]
    upper = (1 - across) * map[:, i, j, top, left] + across * map[:, i, j, top, right]
    lower = (1 - across) * map[:, i, j, bottom, left] + across * map[:, i, j, bottom, right]
    inside = in_y[:, None, :, None] & in_x[None, :, None, :]
    total = torch.where(inside, (1 - down) * upper + down * lower, 0).sum((-1, -2))
    return total / (rows * columns).clamp(min=1)


def ps_roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    differentiable_boxes: bool = False,
) -> Tensor:
    """The mean of samples between pixels; every channel of a map looks at one bin."""
    boxes = boxes if differentiable_boxes else boxes.detach()
    return _of_regions(input, boxes, output_size, lambda m, box: _align(m, box, spatial_scale, sampling_ratio))


def _rounded(x: Tensor) -> Tensor:
    """Halves away from zero. Beyond the range of int32 nothing changes."""
    whole = x.trunc()
    whole = whole + torch.where((x - whole).abs() >= 0.5, x.sign(), 0)
    return whole.clamp(-(2**31), 2**31).long()


def _bins(low: Tensor, high: Tensor, bins: int, size: int) -> Tensor:
    """Along one axis: which of the ``size`` pixels each bin covers, ``[bins, size]``.

    As in torchvision, the last pixel belongs to no bin.
    """
    start = _rounded(low)
    extent = (_rounded(high) - start).clamp(min=1).to(low.dtype) / bins
    edge = torch.arange(bins + 1, device=low.device) * extent
    first = (start + edge[:-1].floor().long()).clamp(0, max(size - 1, 0))
    end = (start + edge[1:].ceil().long()).clamp(0, max(size - 1, 0))
    pixel = torch.arange(size, device=low.device)
    return (pixel >= first[:, None]) & (pixel < end[:, None])


def _pool(map: Tensor, box: Tensor, spatial_scale: float) -> Tensor:
    height, width, map_height, map_width = map.shape[1:]
    corners = box * spatial_scale
    if not corners.isfinite().all():
        return map.new_full(map.shape[:3], torch.nan)
    rows = _bins(corners[1], corners[3], height, map_height)[:, None, :, None]
    columns = _bins(corners[0], corners[2], width, map_width)[None, :, None, :]
    area = rows.sum((-1, -2)) * columns.sum((-1, -2))
    return torch.where(rows & columns, map, 0).sum((-1, -2)) / area.clamp(min=1)


def ps_roi_pool(input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0) -> Tensor:
    """The mean over the pixels of a bin; every channel of a map looks at one bin."""
    return _of_regions(input, boxes.detach(), output_size, lambda m, box: _pool(m, box, spatial_scale))


def _gradient_of_input(run: Callable[..., Tensor], grad: Tensor, boxes: Tensor, input_size: Sequence[int]) -> Tensor:
    """Both operators are linear in the input."""
    zeros = grad.new_zeros(tuple(input_size), dtype=_compute_dtype(grad))
    sound = sound_regions(boxes, input_size[0])[:, None, None, None]
    (gradient,) = torch.func.vjp(run, zeros)[1](torch.where(sound, grad, 0).to(zeros.dtype))
    return gradient.to(grad.dtype)


def ps_roi_align_backward(
    grad: Tensor, boxes: Tensor, input_size: Sequence[int], spatial_scale: float, sampling_ratio: int
) -> Tensor:
    def run(input: Tensor) -> Tensor:
        return ps_roi_align(input, boxes, grad.shape[2:], spatial_scale, sampling_ratio, True)

    return _gradient_of_input(run, grad, boxes, input_size)


def ps_roi_pool_backward(grad: Tensor, boxes: Tensor, input_size: Sequence[int], spatial_scale: float) -> Tensor:
    def run(input: Tensor) -> Tensor:
        return ps_roi_pool(input, boxes, grad.shape[2:], spatial_scale)

    return _gradient_of_input(run, grad, boxes, input_size)


def ps_roi_align_boxes_backward(
    grad: Tensor, input: Tensor, boxes: Tensor, spatial_scale: float, sampling_ratio: int
) -> Tensor:
    """The gradient of the boxes, with the numbers of samples held fixed."""

    def run(boxes: Tensor) -> Any:
        return ps_roi_align(input, boxes, grad.shape[2:], spatial_scale, sampling_ratio, True)

    return torch.func.vjp(run, boxes)[1](grad)[0]
