"""RoI align in Triton. A program of forward computes outputs of one region, sample by sample. A program of backward
owns cells of one row and gathers from the bins of the regions that reach them, in their order: no atomics. Pyramids are
a launch for each level, which passes over the regions of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...._inspection import TritonVariant
from ...._triton.exact import compute_dtype
from ...._triton.greedy_nms import on_device
from .reference import MOST_SAMPLES, map_levels

BLOCK = 128
BOX_BLOCK, BOX_WARPS = 256, 8  # four warps spill on sm_80
CELLS = 16
CHANNELS = 16
# The maximum is the same on every backend, to the bit.
EXACT = {"enable_fp_fusion": False}

_MOST_SAMPLES = tl.constexpr(MOST_SAMPLES)


@triton.jit
def _axis(low, high, scale, offset, bins, ratio, ALIGNED: tl.constexpr):
    """Start, size of a bin and number of its samples; ``clamped`` where the size does not depend on the box."""
    start = low * scale - offset
    size = high * scale - offset - start
    clamped = (size < 1) & (not ALIGNED)
    size = tl.where(clamped, 1.0, size).to(low.dtype)
    bin = tl.div_rn(size, tl.full((), bins, tl.float32)) if low.dtype == tl.float32 else size / bins
    count = tl.where(ratio > 0, tl.full((), ratio, low.dtype), tl.ceil(bin))
    count = tl.where((count > 0) & (count < _MOST_SAMPLES), count, 0.0).to(low.dtype)
    return start, bin, count, clamped


@triton.jit
def _shown(count, size, ratio):
    """So many samples of a bin are looked at: of a huge region, most lie off the map."""
    near = tl.minimum(count.to(tl.int64), 2 * size + 16)
    return tl.where(ratio > 0, count.to(tl.int64), near)


@triton.jit
def _first(start, bin, count, index, shown):
    wide_bin = bin.to(tl.float64)
    first = tl.floor((-1 - (start.to(tl.float64) + index * wide_bin)) / wide_bin * count.to(tl.float64) - 4)
    last = count.to(tl.float64) - shown
    first = tl.where(first > 0, first, 0.0)
    return tl.where(first > last, last, first).to(tl.int64)


@triton.jit
def _sample(start, bin, count, index, i, size):
    """Neighbours of sample i of a bin and their weights; whether it is on the map and its value moves with it."""
    at = start + index.to(bin.dtype) * bin
    step = (i.to(bin.dtype) + 0.5) * bin
    at += tl.div_rn(step, count) if bin.dtype == tl.float32 else step / count
    inside = (at >= -1) & (at <= size) & (i < count) & (size > 0)
    moves = at > 0
    at = tl.where(inside & moves, at, 0.0)
    low = at.to(tl.int64)
    at_end = low >= size - 1
    low = tl.where(at_end, size - 1, low)
    at = tl.where(at_end, low.to(bin.dtype), at)
    high = tl.where(at_end, low, low + 1)
    high_weight = at - low.to(bin.dtype)
    return low, high, 1 - high_weight, high_weight, inside, moves & ~at_end & inside


@triton.jit
def _weight_on(cell, low, high, low_weight, high_weight, inside):
    weight = tl.where(low == cell, low_weight, 0.0) + tl.where(high == cell, high_weight, 0.0)
    return tl.where(inside, weight, 0.0)


@triton.jit
def _bin_weight(cells, start, bin, count, index, shown, size):
    """The sum of a bin's weights on each cell of a row or column."""
    sum = (0 * cells).to(bin.dtype)
    first = _first(start, bin, count, index, shown)
    for i in range(shown):
        low, high, low_weight, high_weight, inside, _moves = _sample(start, bin, count, index, first + i, size)
        sum += _weight_on(cells, low, high, low_weight, high_weight, inside)
    return sum


@triton.jit
def _sample_weight(cells, start, bin, count, index, i, size):
    low, high, low_weight, high_weight, inside, _moves = _sample(start, bin, count, index, i, size)
    return _weight_on(cells, low, high, low_weight, high_weight, inside)


@triton.jit
def _region(boxes, box_stride, coord_stride, k, images, COMPUTE: tl.constexpr):
    """Image, coordinates, and whether they are sound."""
    row = boxes + k.to(tl.int64) * box_stride
    coord_stride = tl.full((), coord_stride, tl.int64)
    image = tl.load(row).to(COMPUTE)
    x1 = tl.load(row + coord_stride).to(COMPUTE)
    y1 = tl.load(row + 2 * coord_stride).to(COMPUTE)
    x2 = tl.load(row + 3 * coord_stride).to(COMPUTE)
    y2 = tl.load(row + 4 * coord_stride).to(COMPUTE)
    sound = (image > -1) & (image < images) & (x1 - x1 == 0) & (y1 - y1 == 0) & (x2 - x2 == 0) & (y2 - y2 == 0)
    return tl.where(sound, image, 0.0).to(tl.int64), x1, y1, x2, y2, sound


@triton.jit
def forward_kernel(
    input, s_n, s_c, s_h, s_w, boxes, box_stride, coord_stride, levels, output, winners, o_k, o_c, o_h, o_w,
    images, channels, height, width, bins_y, bins_x, blocks, level, ratio, scale: tl.float64,
    ALIGNED: tl.constexpr, MAX: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Outputs of one region; with ``winners`` [K, C, bins], the sample that each took: y << 32 | x, or -1."""
    k = (tl.program_id(0) // blocks).to(tl.int64)
    if levels is not None:  # noqa: SIM102 - known at compile time
        if tl.load(levels + k) != level:
            return
    i = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bins = tl.full((), bins_y, tl.int64) * bins_x
    valid = i < channels * bins
    channel, ph, pw = i // bins, i % bins // bins_x, i % bins_x
    image, x1, y1, x2, y2, sound = _region(boxes, box_stride, coord_stride, k, images, COMPUTE)
    scale = tl.full((), scale, tl.float64).to(COMPUTE)
    offset = 0.5 if ALIGNED else 0.0
    y_start, y_bin, y_count, _y_clamped = _axis(y1, y2, scale, offset, bins_y, ratio, ALIGNED)
    x_start, x_bin, x_count, _x_clamped = _axis(x1, x2, scale, offset, bins_x, ratio, ALIGNED)
    y_shown, x_shown = _shown(y_count, height, ratio), _shown(x_count, width, ratio)
    empty = (y_count == 0) | (x_count == 0) | (not sound)
    y_shown, x_shown = tl.where(empty, 0, y_shown), tl.where(empty, 0, x_shown)
    y_first, x_first = _first(y_start, y_bin, y_count, ph, y_shown), _first(x_start, x_bin, x_count, pw, x_shown)
    plane = input + image * s_n + channel * s_c
    result = tl.zeros([BLOCK], COMPUTE)
    if MAX:
        result = tl.where(empty, result, float("-inf"))
        winner = tl.full([BLOCK], -1, tl.int64)
    for iy in range(y_shown):
        y_low, y_high, y_lw, y_hw, y_in, _y_moves = _sample(y_start, y_bin, y_count, ph, y_first + iy, height)
        for ix in range(x_shown):
            x_low, x_high, x_lw, x_hw, x_in, _x_moves = _sample(x_start, x_bin, x_count, pw, x_first + ix, width)
            inside = y_in & x_in & valid
            low_left = tl.load(plane + y_low * s_h + x_low * s_w, mask=inside, other=0).to(COMPUTE)
            low_right = tl.load(plane + y_low * s_h + x_high * s_w, mask=inside, other=0).to(COMPUTE)
            high_left = tl.load(plane + y_high * s_h + x_low * s_w, mask=inside, other=0).to(COMPUTE)
            high_right = tl.load(plane + y_high * s_h + x_high * s_w, mask=inside, other=0).to(COMPUTE)
            left, right = y_lw * low_left + y_hw * high_left, y_lw * low_right + y_hw * high_right
            value = tl.where(inside, x_lw * left + x_hw * right, 0.0)
            if MAX:
                better = (value > result) | ((value != value) & (result == result))
                result = tl.where(better, value, result)
                place = tl.where(inside, ((y_first + iy) << 32) | (x_first + ix), -1)
                winner = tl.where(better, place, winner)
            else:
                result += value
    if not MAX:
        result = result / tl.maximum(y_count * x_count, 1.0)
    result = tl.where(sound, result, float("nan"))
    if winners is not None:
        tl.store(winners + k * channels * bins + i, winner, mask=valid)
    else:
        to = output + k * o_k + channel * o_c + ph * o_h + pw * o_w
        tl.store(to, result.to(output.dtype.element_ty), mask=valid)


@triton.jit
def gather_kernel(
    grad, g_k, g_c, g_h, g_w, boxes, box_stride, coord_stride, levels, winners, grad_input, s_n, s_c, s_h, s_w,
    regions, images, channels, height, width, bins_y, bins_x, level, ratio, scale: tl.float64,
    ALIGNED: tl.constexpr, COMPUTE: tl.constexpr, CELLS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """[CELLS of one row, CHANNELS] of one image's gradient."""
    across, chunks = tl.cdiv(width, CELLS), tl.cdiv(channels, CHANNELS)
    program = tl.program_id(0).to(tl.int64)
    x = (program % across) * CELLS + tl.arange(0, CELLS)
    c = program // across % chunks * CHANNELS + tl.arange(0, CHANNELS)
    y = program // across // chunks % height
    own_image = program // across // chunks // height
    scale = tl.full((), scale, tl.float64).to(COMPUTE)
    offset = 0.5 if ALIGNED else 0.0
    sum = tl.zeros([CELLS, CHANNELS], COMPUTE)
    for k in range(regions):
        k = tl.full((), k, tl.int64)
        image, x1, y1, x2, y2, sound = _region(boxes, box_stride, coord_stride, k, images, COMPUTE)
        here = sound & (image == own_image)
        if levels is not None:
            here &= tl.load(levels + k) == level
        y_start, y_bin, y_count, _y_clamped = _axis(y1, y2, scale, offset, bins_y, ratio, ALIGNED)
        x_start, x_bin, x_count, _x_clamped = _axis(x1, x2, scale, offset, bins_x, ratio, ALIGNED)
        if here & (y_count > 0) & (x_count > 0):
            y_shown, x_shown = _shown(y_count, height, ratio), _shown(x_count, width, ratio)
            total = tl.maximum(y_count * x_count, 1.0)
            for ph in range(bins_y):
                ph = tl.full((), ph, tl.int64)
                by_y = _bin_weight(y, y_start, y_bin, y_count, ph, y_shown, height)
                if by_y != 0:
                    for pw in range(bins_x):
                        pw = tl.full((), pw, tl.int64)
                        value = tl.load(grad + k * g_k + c * g_c + ph * g_h + pw * g_w, mask=c < channels, other=0)
                        value = value.to(COMPUTE)
                        if winners is not None:
                            at = ((k * channels + c) * bins_y + ph) * bins_x + pw
                            winner = tl.load(winners + at, mask=c < channels, other=-1)
                            taken = winner >= 0
                            iy, ix = tl.where(taken, winner >> 32, 0), winner & 0xFFFFFFFF
                            value *= _sample_weight(y, y_start, y_bin, y_count, ph, iy, height)
                            by_x = _sample_weight(x[:, None], x_start, x_bin, x_count, pw, ix[None, :], width)
                            sum += tl.where(taken[None, :], by_x * value[None, :], 0.0)
                        else:
                            by_x = _bin_weight(x, x_start, x_bin, x_count, pw, x_shown, width)
                            sum += (by_y * by_x / total)[:, None] * value[None, :]
    to = grad_input + own_image * s_n + c[None, :] * s_c + y * s_h + x[:, None] * s_w
    tl.store(to, sum.to(grad_input.dtype.element_ty), mask=(x < width)[:, None] & (c < channels)[None, :])


@triton.jit
def box_kernel(
    grad, g_k, g_c, g_h, g_w, input, s_n, s_c, s_h, s_w, boxes, box_stride, coord_stride, winners, grad_boxes,
    images, channels, height, width, bins_y, bins_x, ratio, scale: tl.float64,
    ALIGNED: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of one region's box."""
    k = tl.program_id(0).to(tl.int64)
    image, x1, y1, x2, y2, sound = _region(boxes, box_stride, coord_stride, k, images, COMPUTE)
    scale = tl.full((), scale, tl.float64).to(COMPUTE)
    offset = 0.5 if ALIGNED else 0.0
    y_start, y_bin, y_count, y_clamped = _axis(y1, y2, scale, offset, bins_y, ratio, ALIGNED)
    x_start, x_bin, x_count, x_clamped = _axis(x1, x2, scale, offset, bins_x, ratio, ALIGNED)
    empty = (y_count == 0) | (x_count == 0) | (not sound)
    y_shown = tl.where(empty, 0, 1 if winners is not None else _shown(y_count, height, ratio))
    x_shown = tl.where(empty, 0, 1 if winners is not None else _shown(x_count, width, ratio))
    total = tl.maximum(y_count * x_count, 1.0)
    gx1, gy1 = tl.zeros([BLOCK], COMPUTE), tl.zeros([BLOCK], COMPUTE)
    gx2, gy2 = tl.zeros([BLOCK], COMPUTE), tl.zeros([BLOCK], COMPUTE)
    bins = tl.full((), bins_y, tl.int64) * bins_x
    for first in range(0, channels * bins, BLOCK):
        i = first + tl.arange(0, BLOCK).to(tl.int64)
        valid = i < channels * bins
        channel, ph, pw = i // bins, i % bins // bins_x, i % bins_x
        own = tl.load(grad + k * g_k + channel * g_c + ph * g_h + pw * g_w, mask=valid, other=0).to(COMPUTE)
        plane = input + image * s_n + channel * s_c
        if winners is not None:
            winner = tl.load(winners + k * channels * bins + i, mask=valid, other=-1)
            valid &= winner >= 0
            y_first, x_first = tl.where(valid, winner >> 32, 0), winner & 0xFFFFFFFF
        else:
            own = own / total
            y_first = _first(y_start, y_bin, y_count, ph, y_shown)
            x_first = _first(x_start, x_bin, x_count, pw, x_shown)
        for iy in range(y_shown):
            y_low, y_high, y_lw, y_hw, y_in, y_moves = _sample(y_start, y_bin, y_count, ph, y_first + iy, height)
            along_y = (ph.to(COMPUTE) + ((y_first + iy).to(COMPUTE) + 0.5) / y_count) / bins_y
            for ix in range(x_shown):
                x_low, x_high, x_lw, x_hw, x_in, x_moves = _sample(x_start, x_bin, x_count, pw, x_first + ix, width)
                inside = y_in & x_in & valid
                low_left = tl.load(plane + y_low * s_h + x_low * s_w, mask=inside, other=0).to(COMPUTE)
                low_right = tl.load(plane + y_low * s_h + x_high * s_w, mask=inside, other=0).to(COMPUTE)
                high_left = tl.load(plane + y_high * s_h + x_low * s_w, mask=inside, other=0).to(COMPUTE)
                high_right = tl.load(plane + y_high * s_h + x_high * s_w, mask=inside, other=0).to(COMPUTE)
                down = own * (x_lw * (high_left - low_left) + x_hw * (high_right - low_right)) * scale
                down = tl.where(inside & y_moves, down, 0.0)
                right = own * (y_lw * (low_right - low_left) + y_hw * (high_right - high_left)) * scale
                right = tl.where(inside & x_moves, right, 0.0)
                along_x = (pw.to(COMPUTE) + ((x_first + ix).to(COMPUTE) + 0.5) / x_count) / bins_x
                gy1 += tl.where(y_clamped, down, down * (1 - along_y))
                gy2 += tl.where(y_clamped, 0.0, down * along_y)
                gx1 += tl.where(x_clamped, right, right * (1 - along_x))
                gx2 += tl.where(x_clamped, 0.0, right * along_x)
    element = grad_boxes.dtype.element_ty
    tl.store(grad_boxes + 5 * k, tl.zeros((), element))
    tl.store(grad_boxes + 5 * k + 1, tl.sum(gx1, 0).to(element))
    tl.store(grad_boxes + 5 * k + 2, tl.sum(gy1, 0).to(element))
    tl.store(grad_boxes + 5 * k + 3, tl.sum(gx2, 0).to(element))
    tl.store(grad_boxes + 5 * k + 4, tl.sum(gy2, 0).to(element))


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if compute_dtype(dtype) == torch.float64 else tl.float32


def _empty(like: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def _forward(
    input: Tensor, boxes: Tensor, output: Tensor | None, winners: Tensor | None, bins: Sequence[int],
    scale: float, ratio: int, aligned: bool, mode: str, levels: Tensor | None = None, level: int = 0,
) -> None:  # fmt: skip
    images, channels, height, width = input.shape
    if (outputs := channels * bins[0] * bins[1]) * boxes.shape[0] == 0:
        return
    blocks = triton.cdiv(outputs, BLOCK)
    strides = (0, 0, 0, 0) if output is None else output.stride()
    forward_kernel[(boxes.shape[0] * blocks,)](
        input, *input.stride(), boxes, *boxes.stride(), levels, output, winners, *strides,
        images, channels, height, width, *bins, blocks, level, ratio, scale,
        ALIGNED=aligned, MAX=mode == "max", COMPUTE=_compute(input.dtype), BLOCK=BLOCK, **EXACT,
    )  # fmt: skip


def _gather(
    grad: Tensor, boxes: Tensor, winners: Tensor | None, grad_input: Tensor, scale: float, ratio: int, aligned: bool,
    levels: Tensor | None = None, level: int = 0,
) -> None:  # fmt: skip
    images, channels, height, width = grad_input.shape
    programs = images * height * triton.cdiv(width, CELLS) * triton.cdiv(channels, CHANNELS)
    if programs:
        gather_kernel[(programs,)](
            grad, *grad.stride(), boxes, *boxes.stride(), levels, winners, grad_input, *grad_input.stride(),
            boxes.shape[0], images, channels, height, width, *grad.shape[2:], level, ratio, scale,
            ALIGNED=aligned, COMPUTE=_compute(grad.dtype), CELLS=CELLS, CHANNELS=CHANNELS,
        )  # fmt: skip


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
    """`gencv_fast.roi_align` by Triton; the arguments have been checked."""
    with on_device(input):
        output = _empty(input, (boxes.shape[0], input.shape[1], *output_size), channels_last)
        _forward(input, boxes, output, None, output_size, spatial_scale, sampling_ratio, aligned, mode)
        return output


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
    """The gradients by Triton; the arguments have been checked."""
    images, *sides = input_size
    rest = (spatial_scale, sampling_ratio, aligned)
    with on_device(grad):
        grad_input = _empty(grad, (images, grad.shape[1], *sides), channels_last)
        winners = None
        if mode == "max" and input is not None:
            winners = torch.empty(tuple(grad.shape), dtype=torch.int64, device=grad.device)
            _forward(input, boxes, None, winners, grad.shape[2:], *rest, mode)
        _gather(grad, boxes, winners, grad_input, *rest)
        grad_boxes = boxes.new_zeros(tuple(boxes.shape))
        if differentiable_boxes and input is not None and boxes.shape[0]:
            box_kernel[(boxes.shape[0],)](
                grad, *grad.stride(), input, *input.stride(), boxes, *boxes.stride(), winners, grad_boxes,
                *input.shape, *grad.shape[2:], sampling_ratio, spatial_scale,
                ALIGNED=aligned, COMPUTE=_compute(grad.dtype), BLOCK=BOX_BLOCK, num_warps=BOX_WARPS,
            )  # fmt: skip
        return grad_input, grad_boxes


def _levels(boxes: Tensor, scales: Sequence[float], canonical_scale: float, canonical_level: int) -> Tensor | None:
    return map_levels(boxes, scales, canonical_scale, canonical_level).int() if len(scales) > 1 else None


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
    """`gencv_fast.multiscale_roi_align` by Triton; the arguments have been checked."""
    first = features[0]
    with on_device(first):
        # A region that is on no level is zeros, or NaN where it is not sound.
        finite = boxes[:, 1:].isfinite().all(1) & (boxes[:, 0] > -1) & (boxes[:, 0] < first.shape[0])
        output = first.new_empty((boxes.shape[0], first.shape[1], *output_size))
        output.copy_(torch.where(finite, 0.0, torch.nan)[:, None, None, None])
        levels = _levels(boxes, scales, canonical_scale, canonical_level)
        for level, (maps, scale) in enumerate(zip(features, scales, strict=True)):
            _forward(maps, boxes, output, None, output_size, scale, sampling_ratio, aligned, "avg", levels, level)
        return output


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
    """The gradients by Triton; the arguments have been checked."""
    images, sides = feature_sizes[0], feature_sizes[1:]
    with on_device(grad):
        levels = _levels(boxes, scales, canonical_scale, canonical_level)
        found = []
        for level, (h, w, scale) in enumerate(zip(sides[::2], sides[1::2], scales, strict=True)):
            found.append(_empty(grad, (images, grad.shape[1], h, w), channels_last))
            _gather(grad, boxes, None, found[-1], scale, sampling_ratio, aligned, levels, level)
        return found


def _variant(
    kernel: Any, element: str, mode: str, with_levels: bool = False, with_winners: bool = False
) -> TritonVariant:
    """Specialised as calls with usual sizes are."""
    pointers = {"input", "output", "grad", "grad_input"}
    tables = {"levels": "*i32:16", "winners": "*i64:16", "boxes": "*fp32:16", "grad_boxes": "*fp32:16"}
    absent = {"levels"} if not with_levels else set()
    absent |= {"winners"} if not with_winners else {"output"}
    constexprs: dict[str, Any] = {
        "ALIGNED": True, "MAX": mode == "max", "COMPUTE": tl.float64 if element == "fp64" else tl.float32,
        "BLOCK": BOX_BLOCK if kernel is box_kernel else BLOCK, "CELLS": CELLS, "CHANNELS": CHANNELS,
    }  # fmt: skip
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    for name in kernel.arg_names:
        if name in constexprs or name in absent:
            constants[name] = constexprs.get(name)
        else:
            usual = "fp64" if name == "scale" else "i32"
            signature[name] = f"*{element}:16" if name in pointers else tables.get(name, usual)
    parts = [element, mode, *["levels"] * with_levels, *["winners"] * with_winners]
    name = f"{kernel.fn.__name__}<{', '.join(parts)}>"
    warps = BOX_WARPS if kernel is box_kernel else 4
    return TritonVariant(name, kernel, signature, constants, warps, enable_fp_fusion=kernel is not forward_kernel)


#: What `gencv-fast inspect` and the tests compile for every architecture, without a GPU.
KERNELS: tuple[TritonVariant, ...] = tuple(
    variant
    for element in ("fp32", "fp64", "fp16", "bf16")
    for variant in (
        _variant(forward_kernel, element, "avg"),
        _variant(forward_kernel, element, "avg", with_levels=True),
        _variant(forward_kernel, element, "max"),
        _variant(forward_kernel, element, "max", with_winners=True),
        _variant(gather_kernel, element, "avg"),
        _variant(gather_kernel, element, "avg", with_levels=True),
        _variant(gather_kernel, element, "max", with_winners=True),
        _variant(box_kernel, element, "avg"),
        _variant(box_kernel, element, "max", with_winners=True),
    )
)
