"""Spatial pyramid pooling in Triton: a program for a block of features, or for gradients a block of cells, which
gathers from all bins that take it, in their order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...._inspection import TritonVariant
from ...._triton.registers import MOST_REGISTERS, register_options

BLOCK = 128


@triton.jit
def _cells_between(low, high, size):
    """Begin and end of a region along an axis; `low` and `high` in cells."""
    most = 1099511627776.0
    first = tl.minimum(tl.maximum(tl.floor(low), -most), most).to(tl.int64) + 1
    last = tl.minimum(tl.maximum(tl.ceil(high), -most), most).to(tl.int64) - 1
    middle = (first + last) >> 1
    thin = last < first
    first = tl.where(thin, middle, first)
    last = tl.where(thin, middle, last)
    begin = tl.maximum(first, 0)
    return begin, tl.maximum(tl.minimum(last + 1, size), begin)


@triton.jit
def _region(boxes, box_stride, k, mask, scale, images, height, width, COMPUTE: tl.constexpr, WHOLE: tl.constexpr):
    """Image, rows, columns and soundness of regions k."""
    if WHOLE:
        return k, k * 0, k * 0 + height, k * 0, k * 0 + width, k >= 0
    row = boxes + k * box_stride
    index = tl.load(row, mask=mask, other=0).to(COMPUTE)
    x1 = tl.load(row + 1, mask=mask, other=0).to(COMPUTE)
    y1 = tl.load(row + 2, mask=mask, other=0).to(COMPUTE)
    x2 = tl.load(row + 3, mask=mask, other=0).to(COMPUTE)
    y2 = tl.load(row + 4, mask=mask, other=0).to(COMPUTE)
    in_batch = (index > -1) & (index < images)
    sound = in_batch & (x1 - x1 == 0) & (y1 - y1 == 0) & (x2 - x2 == 0) & (y2 - y2 == 0)
    x1 = tl.where(sound, x1, 0)
    y1 = tl.where(sound, y1, 0)
    x2 = tl.where(sound, x2, 0)
    y2 = tl.where(sound, y2, 0)
    image = tl.where(sound, index, 0).to(tl.int64)
    scaled = tl.load(scale).to(COMPUTE)
    top, bottom = _cells_between(y1 * scaled, y2 * scaled, height)
    left, right = _cells_between(x1 * scaled, x2 * scaled, width)
    return image, top, bottom, left, right, sound


@triton.jit
def _bin(size, level, i, PAPER: tl.constexpr):
    """What bin i takes of `size` cells."""
    begin = i * size // level
    end = ((i + 1) * size + level - 1) // level
    if PAPER:
        stride = size // level
        fits = size >= level
        begin = tl.where(fits, i * stride, begin)
        end = tl.where(fits, i * stride + (size + level - 1) // level, end)
    return begin, end


@triton.jit
def feature_kernel(
    source, values, boxes, levels, out, count, features, channels, height, width, images, level_count, box_stride,
    n_stride, c_stride, y_stride, x_stride, vn_stride, vc_stride, vy_stride, vx_stride, scale,
    COMPUTE: tl.constexpr, WHOLE: tl.constexpr, AVERAGE: tl.constexpr, PAPER: tl.constexpr, RESULT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """RESULT: 0 the pooled value, 1 the place of the maximum in its plane, 2 `values` there."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    k = at // features
    rest = at % features
    level = tl.full((BLOCK,), 1, tl.int64)
    inner = tl.zeros((BLOCK,), tl.int64)
    first = tl.zeros((BLOCK,), tl.int64)
    for i in range(level_count):
        size = tl.load(levels + i)
        end = first + channels * size * size
        here = (rest >= first) & (rest < end)
        level = tl.where(here, size, level)
        inner = tl.where(here, rest - first, inner)
        first = end
    channel = inner // (level * level)
    bin = inner % (level * level)
    image, top, bottom, left, right, sound = _region(
        boxes, box_stride, k, mask, scale, images, height, width, COMPUTE, WHOLE
    )
    y1, y2 = _bin(bottom - top, level, bin // level, PAPER)
    x1, x2 = _bin(right - left, level, bin % level, PAPER)
    has_cells = mask & sound & (bottom > top) & (right > left)
    rows = tl.max(tl.where(has_cells, y2 - y1, 0))
    columns = tl.max(tl.where(has_cells, x2 - x1, 0))
    plane = source + image * n_stride + channel * c_stride
    best = tl.zeros((BLOCK,), COMPUTE)
    place = tl.full((BLOCK,), -1, tl.int64)
    for i in range(rows):
        y = top + y1 + i
        for j in range(columns):
            x = left + x1 + j
            own = has_cells & (y1 + i < y2) & (x1 + j < x2)
            value = tl.load(plane + y * y_stride + x * x_stride, mask=own, other=0).to(COMPUTE)
            if AVERAGE:
                best += tl.where(own, value, 0)
            else:
                # The first maximum; NaN is larger than every number.
                better = own & ((place < 0) | (((value > best) | (value != value)) & (best == best)))
                best = tl.where(better, value, best)
                place = tl.where(better, y * width + x, place)
    if RESULT == 0:
        if AVERAGE:
            cells = tl.where(has_cells, (y2 - y1) * (x2 - x1), 1).to(COMPUTE)
            best = best / cells
        best = tl.where(has_cells, best + 0.0, 0.0)
        best = tl.where(sound, best, float("nan"))
        tl.store(out + at, best.to(out.dtype.element_ty), mask=mask)
    if RESULT == 1:
        tl.store(out + at, place.to(tl.int32), mask=mask)
    if RESULT == 2:
        found = has_cells & (place >= 0)
        from_plane = values + image * vn_stride + channel * vc_stride
        value = tl.load(from_plane + place // width * vy_stride + place % width * vx_stride, mask=found, other=0)
        tl.store(out + at, value, mask=mask)


@triton.jit
def backward_kernel(
    grad, places, boxes, levels, out, count, features, channels, height, width, images, regions, level_count,
    box_stride, n_stride, c_stride, y_stride, x_stride, scale,
    COMPUTE: tl.constexpr, WHOLE: tl.constexpr, AVERAGE: tl.constexpr, PAPER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    x = at % width
    y = at // width % height
    channel = at // (width * height) % channels
    image = at // (width * height * channels)
    total = tl.zeros((BLOCK,), COMPUTE)
    for k in range(regions):
        of_image, top, bottom, left, right, sound = _region(
            boxes, box_stride, k + tl.zeros((BLOCK,), tl.int64), mask, scale, images, height, width, COMPUTE, WHOLE
        )
        inside = mask & sound & (of_image == image) & (y >= top) & (y < bottom) & (x >= left) & (x < right)
        if tl.max(inside.to(tl.int32)) > 0:
            first = (k + tl.zeros((BLOCK,), tl.int64)) * features
            for step in range(level_count):
                level = tl.load(levels + step)
                for i in range(level):
                    y1, y2 = _bin(bottom - top, level, i, PAPER)
                    own_row = inside & (y >= top + y1) & (y < top + y2)
                    for j in range(level):
                        x1, x2 = _bin(right - left, level, j, PAPER)
                        own = own_row & (x >= left + x1) & (x < left + x2)
                        from_bin = first + (channel * level + i) * level + j
                        if AVERAGE:
                            share = tl.load(grad + from_bin, mask=own, other=0).to(COMPUTE)
                            cells = tl.where(own, (y2 - y1) * (x2 - x1), 1).to(COMPUTE)
                            total += share / cells
                        else:
                            here = tl.load(places + from_bin, mask=own, other=-1).to(tl.int64) == y * width + x
                            total += tl.load(grad + from_bin, mask=own & here, other=0).to(COMPUTE)
                first += channels * level * level
    to = out + image * n_stride + channel * c_stride + y * y_stride + x * x_stride
    tl.store(to, total.to(out.dtype.element_ty), mask=mask)


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


class _Call:
    """What the launches of one call share."""

    def __init__(self, input: Tensor, levels: Sequence[int], bins: str, boxes: Tensor | None, scale: float) -> None:
        self.input = input
        self.boxes = input if boxes is None else boxes if boxes.stride(1) == 1 else boxes.contiguous()
        self.regions = input.shape[0] if boxes is None else boxes.shape[0]
        self.features = input.shape[1] * sum(level * level for level in levels)
        self.levels = torch.tensor(levels, dtype=torch.int64, device=input.device)
        # A number would be passed as float32.
        work = torch.float64 if input.dtype == torch.float64 else torch.float32
        self.scale = torch.tensor([scale], dtype=work, device=input.device)
        self.sizes = (*input.shape[1:], input.shape[0])
        self.rest = {
            "COMPUTE": _compute(input.dtype), "WHOLE": boxes is None, "PAPER": bins == "paper", "BLOCK": BLOCK,
            **register_options(),
        }  # fmt: skip

    def features_of(self, out: Tensor, values: Tensor, average: bool, result: int) -> Tensor:
        count = self.regions * self.features
        if count > 0:
            feature_kernel[(triton.cdiv(count, BLOCK),)](
                self.input, values, self.boxes, self.levels, out, count, self.features, *self.sizes,
                len(self.levels), self.boxes.stride(0), *self.input.stride(), *values.stride(), self.scale,
                AVERAGE=average, RESULT=result, **self.rest,
            )  # fmt: skip
        return out


def spatial_pyramid_pool(
    input: Tensor, levels: Sequence[int], mode: str, bins: str, boxes: Tensor | None, spatial_scale: float
) -> Tensor:
    """`gencv_fast.spatial_pyramid_pool` by Triton; the arguments have been checked."""
    call = _Call(input, levels, bins, boxes, spatial_scale)
    out = input.new_empty(call.regions, call.features)
    return call.features_of(out, input, mode == "avg", 0)


def spatial_pyramid_pool_at(
    values: Tensor, input: Tensor, levels: Sequence[int], bins: str, boxes: Tensor | None, spatial_scale: float
) -> Tensor:
    """The values where the input has its maxima, by Triton; the arguments have been checked."""
    call = _Call(input, levels, bins, boxes, spatial_scale)
    return call.features_of(input.new_empty(call.regions, call.features), values, False, 2)


def spatial_pyramid_pool_backward(
    grad: Tensor,
    input: Tensor,
    levels: Sequence[int],
    mode: str,
    bins: str,
    boxes: Tensor | None,
    spatial_scale: float,
) -> Tensor:
    """The gradient by Triton; the arguments have been checked."""
    call = _Call(input, levels, bins, boxes, spatial_scale)
    grad, out, average = grad.contiguous(), torch.empty_like(input), mode == "avg"
    places = grad
    if not average:
        places = grad.new_empty(call.regions, call.features, dtype=torch.int32)
        call.features_of(places, input, False, 1)
    if (count := out.numel()) > 0:
        backward_kernel[(triton.cdiv(count, BLOCK),)](
            grad, places, call.boxes, call.levels, out, count, call.features, *call.sizes, call.regions,
            len(call.levels), call.boxes.stride(0), *out.stride(), call.scale, AVERAGE=average, **call.rest,
        )  # fmt: skip
    return out


_SIZES = ("count", "features", "channels", "height", "width", "images", "level_count", "box_stride")
_STRIDES = ("n_stride", "c_stride", "y_stride", "x_stride")


def _variants(dtype: str) -> tuple[TritonVariant, ...]:
    compute = tl.float64 if dtype == "fp64" else tl.float32
    pointer, box = f"*{dtype}:16", "*fp64:16" if dtype == "fp64" else "*fp32:16"
    sizes = dict.fromkeys((*_SIZES, *_STRIDES), "i64")
    common = {"COMPUTE": compute, "WHOLE": False, "PAPER": False, "BLOCK": BLOCK}
    found = []
    for mode in ("max", "avg"):
        forward = {"source": pointer, "values": pointer, "boxes": box, "levels": "*i64:16", "out": pointer, **sizes}
        forward |= dict.fromkeys(("vn_stride", "vc_stride", "vy_stride", "vx_stride"), "i64") | {"scale": box}
        backward = {"grad": pointer, "places": "*i32:16", "boxes": box, "levels": "*i64:16", "out": pointer}
        backward |= sizes | {"regions": "i64", "scale": box}
        own = {**common, "AVERAGE": mode == "avg"}
        for name, kernel, signature, constants in (
            ("feature_kernel", feature_kernel, forward, {**own, "RESULT": 0}),
            ("backward_kernel", backward_kernel, backward, own),
        ):
            named = f"{name}<{dtype}, {mode}>"
            found.append(TritonVariant(named, kernel, signature, constants, maxnreg=MOST_REGISTERS))
    return tuple(found)


KERNELS = tuple(variant for dtype in ("fp32", "fp64", "fp16", "bf16") for variant in _variants(dtype))
