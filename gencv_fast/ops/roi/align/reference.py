"""The wing's truth in plain PyTorch: one region after the other, every sample in its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..regions import sound_regions

#: A region with so many samples in a bin along an axis gives zeros.
MOST_SAMPLES = 2.0**31


def wide(tensor: Tensor) -> Tensor:
    """Half precision is computed in float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def axis_samples(
    start: Tensor, end: Tensor, bins: int, size: int, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor, float]:
    """Positions ``[bins, samples]`` of the samples that may lie on the map, which of them exist, and their number."""
    extent = end - start
    if not aligned:
        extent = torch.where(extent < 1, torch.ones_like(extent), extent)
    bin_size = extent / bins
    count = float(sampling_ratio) if sampling_ratio > 0 else float(bin_size.detach().ceil())
    if not 0 < count < MOST_SAMPLES:
        return start.new_zeros(bins, 0), torch.zeros(bins, 0, dtype=torch.bool, device=start.device), 0.0
    bin_index = torch.arange(bins, device=start.device)[:, None]
    shown = int(count) if sampling_ratio > 0 else min(int(count), 2 * size + 16)
    # Adaptive samples are at least half a cell apart: of a huge region, most are not near the map.
    first = -1 - (start.detach().double() + bin_index * bin_size.detach().double())
    first = (first / bin_size.detach().double() * count - 4).floor().clamp(0, count - shown).nan_to_num()
    index = first.long() + torch.arange(shown, device=start.device)
    position = start + bin_index * bin_size + (index + 0.5).to(start.dtype) * bin_size / count
    return position, index < count, count


def neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The cells before and after each position, and their weights."""
    position = torch.where(position <= 0, torch.zeros_like(position), position)
    low = position.detach().nan_to_num().clamp(0, size - 1).floor().long()
    position = torch.where(low >= size - 1, low.to(position.dtype), position)
    high_weight = position - low
    return low, (low + 1).clamp(max=size - 1), 1 - high_weight, high_weight


def align_region(
    image: Tensor, box: Tensor, output_size: Sequence[int], scale: float, sampling_ratio: int, aligned: bool, mode: str
) -> Tensor:
    """One region ``(x1, y1, x2, y2)`` of one image ``[C, H, W]``."""
    channels, height, width = image.shape
    bins_y, bins_x = output_size
    x1, y1, x2, y2 = box * scale - (0.5 if aligned else 0.0)
    y, exists_y, count_y = axis_samples(y1, y2, bins_y, height, sampling_ratio, aligned)
    x, exists_x, count_x = axis_samples(x1, x2, bins_x, width, sampling_ratio, aligned)
    if y.numel() == 0 or x.numel() == 0 or height == 0 or width == 0:
        return image.new_zeros(channels, bins_y, bins_x)

    inside_y, inside_x = exists_y & (y >= -1) & (y <= height), exists_x & (x >= -1) & (x <= width)
    y_low, y_high, y_low_weight, y_high_weight = neighbours(y.flatten(), height)
    x_low, x_high, x_low_weight, x_high_weight = neighbours(x.flatten(), width)
    rows = y_low_weight[:, None] * image[:, y_low] + y_high_weight[:, None] * image[:, y_high]
    values = x_low_weight * rows[:, :, x_low] + x_high_weight * rows[:, :, x_high]
    inside = inside_y.flatten()[:, None] & inside_x.flatten()
    values = torch.where(inside, values, 0)
    # [C, bins_y, bins_x, samples of the bin]
    values = values.view(channels, *y.shape, *x.shape).transpose(2, 3).flatten(3)
    if mode == "max":
        return values.max(3).values
    return values.sum(3) / max(count_y * count_x, 1.0)


def _align_rows(
    maps: Sequence[Tensor],
    level_of: Sequence[int],
    boxes: Tensor,
    output_size: Sequence[int],
    scales: Sequence[float],
    rest: tuple[int, bool, str],
) -> Tensor:
    """Region k on the level that is named for it; zeros where that is none, NaN where the region is not sound."""
    images, channels = maps[0].shape[:2]
    empty = wide(maps[0]).new_zeros(0, channels, *output_size)
    # Without a region, the result still depends on the maps.
    rows = [empty + sum(wide(m).flatten()[:0].sum() for m in maps)]
    for k, (level, sound) in enumerate(zip(level_of, sound_regions(boxes, images).tolist(), strict=True)):
        if not sound:
            rows.append(empty.new_full((1, *empty.shape[1:]), torch.nan))
        elif not 0 <= level < len(maps):
            rows.append(empty.new_zeros((1, *empty.shape[1:])))
        else:
            image, box = wide(maps[level][int(boxes[k, 0])]), boxes[k, 1:].to(empty.dtype)
            rows.append(align_region(image, box, output_size, scales[level], *rest)[None])
    return torch.cat(rows).to(maps[0].dtype)


def roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    mode: str = "avg",
    differentiable_boxes: bool = False,
    channels_last: bool = False,
) -> Tensor:
    boxes = boxes if differentiable_boxes else boxes.detach()
    rest = (sampling_ratio, aligned, mode)
    output = _align_rows([input], [0] * boxes.shape[0], boxes, output_size, [spatial_scale], rest)
    return output.contiguous(memory_format=torch.channels_last) if channels_last else output


def roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    input: Tensor | None,
    input_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    mode: str,
    differentiable_boxes: bool,
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    """Autograd's own answer. ``input_size`` is the number of images, height and width."""
    images, height, width = input_size
    if input is None:
        input = grad.new_zeros(images, grad.shape[1], height, width)
    args = (grad.shape[2:], spatial_scale, sampling_ratio, aligned, mode, differentiable_boxes)
    grad_input, grad_boxes = _gradients(lambda maps, rows: roi_align(maps, rows, *args), grad, boxes, input)
    if channels_last:
        grad_input = grad_input.contiguous(memory_format=torch.channels_last)
    # Of no value, but of the graph: a kernel's second result has a place there too.
    return grad_input, grad_boxes if differentiable_boxes else torch.zeros_like(boxes) + grad.flatten()[:0].sum()


def _gradients(run: Callable[..., Tensor], grad: Tensor, boxes: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
    """Those of maps and boxes; a region that is not sound is a constant, and has none."""
    with torch.enable_grad():
        inputs = [t if t.requires_grad else t.detach().requires_grad_() for t in (*maps, boxes)]
        output = run(*inputs)
        found = torch.autograd.grad(output, inputs, grad, create_graph=grad.requires_grad, allow_unused=True)
    return tuple(torch.zeros_like(i) if g is None else g for i, g in zip(inputs, found, strict=True))


def level_range(scales: Sequence[float]) -> tuple[int, int]:
    """The numbers of the finest and of the coarsest level: a scale of 1/4 is level 2."""
    return int(-math.log2(scales[0])), int(-math.log2(scales[-1]))


def map_levels(boxes: Tensor, scales: Sequence[float], canonical_scale: float, canonical_level: int) -> Tensor:
    """Equation 1 of the paper on feature pyramids: the level ``[K]`` of each region, from 0."""
    x1, y1, x2, y2 = wide(boxes.detach())[:, 1:].unbind(1)
    side = ((x2 - x1) * (y2 - y1)).sqrt()
    finest, coarsest = level_range(scales)
    level = torch.floor(canonical_level + torch.log2(side / canonical_scale) + torch.tensor(1e-6, dtype=side.dtype))
    level = level.clamp(finest, coarsest) - finest
    return torch.where(level.isnan(), -1, level).long()


def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    output_size: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    canonical_scale: int = 224,
    canonical_level: int = 4,
    aligned: bool = False,
) -> Tensor:
    boxes = boxes.detach()
    levels = [0] * boxes.shape[0]
    if len(features) > 1:
        levels = map_levels(boxes, scales, canonical_scale, canonical_level).tolist()
    return _align_rows(features, levels, boxes, output_size, scales, (sampling_ratio, aligned, "avg"))


def multiscale_roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    feature_sizes: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    canonical_scale: int,
    canonical_level: int,
    aligned: bool,
    channels_last: bool,
) -> list[Tensor]:
    """Autograd's own answer. ``feature_sizes`` is the number of images, then height and width of each level."""
    images, sides = feature_sizes[0], feature_sizes[1:]
    maps = [grad.new_zeros(images, grad.shape[1], h, w) for h, w in zip(sides[::2], sides[1::2], strict=True)]
    rest = (scales, sampling_ratio, canonical_scale, canonical_level, aligned)
    found = _gradients(lambda *a: multiscale_roi_align(a[:-1], a[-1], grad.shape[2:], *rest), grad, boxes, *maps)[:-1]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return [g.contiguous(memory_format=layout) for g in found]
