"""Spatial pyramid pooling in plain PyTorch: every bin of every level of every region by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..regions import sound_regions


class Window(NamedTuple):
    """Cells ``begin <= x < end`` of one axis."""

    begin: int
    end: int


def bin_windows(size: int, level: int, bins: str) -> list[Window]:
    """What each of ``level`` bins takes of ``size`` cells."""
    if bins == "paper" and size >= level:
        stride, window = size // level, -(-size // level)
        return [Window(i * stride, i * stride + window) for i in range(level)]
    return [Window(i * size // level, -(-(i + 1) * size // level)) for i in range(level)]


def region_cells(boxes: Tensor, height: int, width: int, spatial_scale: float) -> Tensor:
    """``[K, 4]``: begin and end of the columns, then of the rows, of regions with finite coordinates."""
    work = torch.float64 if boxes.dtype == torch.float64 else torch.float32
    scaled = boxes[:, 1:].to(work) * spatial_scale
    scaled = scaled.nan_to_num(0.0).clamp(-(2.0**40), 2.0**40)
    first, last = scaled[:, :2].floor().long() + 1, scaled[:, 2:].ceil().long() - 1
    # Where no centre of a cell lies strictly inside: the one cell in the middle.
    middle = (first + last).div(2, rounding_mode="floor")
    thin = last < first
    first, last = torch.where(thin, middle, first), torch.where(thin, middle, last)
    end = torch.minimum(last + 1, torch.tensor([width, height], device=boxes.device))
    begin = first.clamp(min=0)
    end = torch.maximum(end, begin)
    return torch.stack((begin[:, 0], end[:, 0], begin[:, 1], end[:, 1]), 1)


def _regions(input: Tensor, boxes: Tensor | None, spatial_scale: float) -> list[tuple[int, Window, Window] | None]:
    """Image, rows and columns of each region; None for one that is not sound."""
    n, _, height, width = input.shape
    if boxes is None:
        return [(image, Window(0, height), Window(0, width)) for image in range(n)]
    boxes = boxes.detach().to(torch.float64 if input.dtype == torch.float64 else torch.float32)
    sound = sound_regions(boxes, n)
    cells = region_cells(boxes, height, width, spatial_scale).tolist()
    images = torch.where(sound, boxes[:, 0], 0).long().tolist()
    return [
        (image, Window(y1, y2), Window(x1, x2)) if fine else None
        for image, fine, (x1, x2, y1, y2) in zip(images, sound.tolist(), cells, strict=True)
    ]


def _bins(rows: Window, columns: Window, level: int, bins: str) -> Iterator[tuple[slice, slice]]:
    for y in bin_windows(rows.end - rows.begin, level, bins):
        for x in bin_windows(columns.end - columns.begin, level, bins):
            yield (
                slice(rows.begin + y.begin, rows.begin + y.end),
                slice(columns.begin + x.begin, columns.begin + x.end),
            )


def _wide(input: Tensor) -> Tensor:
    return input.float() if input.dtype in (torch.float16, torch.bfloat16) else input


def _is_empty(rows: Window, columns: Window) -> bool:
    return rows.begin == rows.end or columns.begin == columns.end


def spatial_pyramid_pool(
    input: Tensor, levels: Sequence[int], mode: str, bins: str, boxes: Tensor | None, spatial_scale: float
) -> Tensor:
    maps, channels = _wide(input), input.shape[1]
    features = channels * sum(level * level for level in levels)

    def pool(window: Tensor) -> Tensor:
        # The first maximum has the gradient; adding zero makes a zero positive.
        return window.flatten(1).max(1).values + 0.0 if mode == "max" else window.mean((1, 2))

    # So that results without a region still have a gradient.
    nothing = maps.flatten()[:0].sum()
    results = [maps.new_zeros(0, features) + nothing]
    for region in _regions(input, boxes, spatial_scale):
        if region is None or _is_empty(*region[1:]):
            result = maps.new_full((features,), torch.nan if region is None else 0.0)
        else:
            image, rows, columns = region
            result = torch.cat(
                [
                    torch.stack([pool(maps[image, :, y, x]) for y, x in _bins(rows, columns, level, bins)], 1).flatten()
                    for level in levels
                ]
            )
        results.append(result[None] + nothing)
    return torch.cat(results).to(input.dtype)


def _pieces(
    input: Tensor, levels: Sequence[int], bins: str, boxes: Tensor | None, spatial_scale: float
) -> Iterator[tuple[int, slice, int, slice, slice]]:
    """Region, its features that belong to a bin, image, rows and columns: of every bin that has cells."""
    channels = input.shape[1]
    for k, region in enumerate(_regions(input, boxes, spatial_scale)):
        if region is None or _is_empty(*region[1:]):
            continue
        image, rows, columns = region
        first = 0
        for level in levels:
            end = first + channels * level * level
            for i, (y, x) in enumerate(_bins(rows, columns, level, bins)):
                yield k, slice(first + i, end, level * level), image, y, x
            first = end


def spatial_pyramid_pool_backward(
    grad: Tensor,
    input: Tensor,
    levels: Sequence[int],
    mode: str,
    bins: str,
    boxes: Tensor | None,
    spatial_scale: float,
) -> Tensor:
    """The gradient goes to the first maximum, or in equal parts to all cells of the bin."""
    maps = _wide(input)
    result = torch.zeros_like(maps, memory_format=torch.contiguous_format)
    channels = torch.arange(input.shape[1], device=input.device)
    for k, features, image, y, x in _pieces(input, levels, bins, boxes, spatial_scale):
        part = result[image, :, y, x]
        share = _wide(grad)[k, features]
        if mode == "avg":
            part += (share / part[0].numel())[:, None, None] if len(part) else 0
        elif len(part):
            at = maps[image, :, y, x].flatten(1).max(1).indices
            width = part.shape[2]
            part[channels, at // width, at % width] += share
    # So that a result without a region still has a gradient.
    return torch.empty_like(input).copy_(result + grad.flatten()[:0].sum())


def spatial_pyramid_pool_at(
    values: Tensor, input: Tensor, levels: Sequence[int], bins: str, boxes: Tensor | None, spatial_scale: float
) -> Tensor:
    """`values` where `input` has the first maximum of each bin: what `spatial_pyramid_pool_backward` transposes."""
    regions = input.shape[0] if boxes is None else boxes.shape[0]
    result = values.new_zeros(regions, input.shape[1] * sum(level * level for level in levels))
    if input.shape[1] == 0:
        return result
    for k, features, image, y, x in _pieces(input, levels, bins, boxes, spatial_scale):
        at = _wide(input)[image, :, y, x].flatten(1).max(1).indices
        result[k, features] = values[image, :, y, x].flatten(1).gather(1, at[:, None])[:, 0]
    return result
