"""The wing in Triton. Maxima: a lane for each bin and channel. Backward: a program owns pixels of some channels and
goes through the regions in their order, so that sums are the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...._inspection import TritonVariant
from ...._triton.exact import divide
from ...._triton.registers import MOST_REGISTERS, register_options

BLOCK = 128
OWNED_PIXELS, OWNED_CHANNELS = 32, 32

_LOWEST = tl.constexpr(-3.4028234663852886e38)
_LIMIT = tl.constexpr(2147483648.0)


@triton.jit
def _rounded(x):
    """csrc/roi/roi_pool.h: round_coordinate."""
    x = tl.where(x > -_LIMIT, x, -_LIMIT)
    x = tl.where(x > _LIMIT, _LIMIT, x)
    whole = x.to(tl.int64)
    rest = x - whole.to(x.dtype)
    return whole + (rest >= 0.5).to(tl.int64) - (rest <= -0.5).to(tl.int64)


@triton.jit
def _clipped(pixel, length):
    return tl.minimum(tl.maximum(pixel, 0), length)


@triton.jit
def _axis(first, last, scale, bins):
    """Where a side's bins start, and how long each is."""
    start = _rounded(first * scale)
    size = tl.maximum(_rounded(last * scale) - start + 1, 1)
    return start, divide(size.to(first.dtype), (size * 0 + bins).to(first.dtype))


@triton.jit
def _extent(start, bin_size, i, length):
    """The pixels of bin i."""
    last = (i + 1).to(bin_size.dtype) * bin_size
    whole = last.to(tl.int64)
    begin = (i.to(bin_size.dtype) * bin_size).to(tl.int64)
    end = whole + (whole.to(last.dtype) < last).to(tl.int64)
    return _clipped(start + begin, length), _clipped(start + end, length)


@triton.jit
def _finite(x):
    return x - x == 0


@triton.jit
def _region(boxes, at, box_stride, mask, images, COMPUTE: tl.constexpr):
    """Image, corners and whether the region is sound; zeros where it is not."""
    index = tl.load(boxes + at, mask, 0.0).to(COMPUTE)
    x1 = tl.load(boxes + at + box_stride, mask, 0.0).to(COMPUTE)
    y1 = tl.load(boxes + at + 2 * box_stride, mask, 0.0).to(COMPUTE)
    x2 = tl.load(boxes + at + 3 * box_stride, mask, 0.0).to(COMPUTE)
    y2 = tl.load(boxes + at + 4 * box_stride, mask, 0.0).to(COMPUTE)
    sound = (index > -1) & (index < images) & _finite(x1) & _finite(y1) & _finite(x2) & _finite(y2)
    image = tl.where(sound, index, 0.0).to(tl.int64)
    zero = index * 0
    zero = tl.where(sound, zero, 0.0).to(COMPUTE)
    return (
        image,
        tl.where(sound, x1, zero),
        tl.where(sound, y1, zero),
        tl.where(sound, x2, zero),
        tl.where(sound, y2, zero),
        sound,
    )


@triton.jit
def maxima_kernel(
    input, values, boxes, output, outputs, images, channels, height, width, rows, columns, scale: tl.float64,
    input_n, input_c, input_y, input_x, values_n, values_c, values_y, values_x, box_row, box_column,
    MODE: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """MODE "pool" writes the maxima, "pixel" their pixel numbers or -1, "pick" what lies there in values."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < outputs
    column, row = i % columns, i // columns % rows
    channel, k = i // columns // rows % channels, i // columns // rows // channels
    image, x1, y1, x2, y2, sound = _region(boxes, k * box_row, box_column, live, images, COMPUTE)
    scale = tl.cast(scale, COMPUTE)
    y_start, y_size = _axis(y1, y2, scale, rows)
    x_start, x_size = _axis(x1, x2, scale, columns)
    y_begin, y_end = _extent(y_start, y_size, row, height)
    x_begin, x_end = _extent(x_start, x_size, column, width)
    live_bin = live & sound & (y_begin < y_end) & (x_begin < x_end)
    best = tl.where(live_bin, _LOWEST, 0.0).to(COMPUTE)
    pixel = tl.full((BLOCK,), -1, tl.int64)
    most_rows = tl.max(tl.where(live_bin, y_end - y_begin, 0))
    most_columns = tl.max(tl.where(live_bin, x_end - x_begin, 0))
    map_at = image * input_n + channel * input_c
    for dy in range(most_rows):
        y = y_begin + dy
        for dx in range(most_columns):
            x = x_begin + dx
            inside = live_bin & (y < y_end) & (x < x_end)
            value = tl.load(input + map_at + y * input_y + x * input_x, inside, 0.0).to(COMPUTE)
            larger = inside & (value > best)
            best = tl.where(larger, value, best)
            pixel = tl.where(larger, y * width + x, pixel)
    if MODE == "pool":
        best = tl.where(sound, best, float("nan")).to(COMPUTE)
        tl.store(output + i, best.to(output.dtype.element_ty), live)
    elif MODE == "pixel":
        tl.store(output + i, pixel.to(tl.int32), live)
    else:
        found = live & (pixel >= 0)
        at = image * values_n + channel * values_c + pixel // width * values_y + pixel % width * values_x
        tl.store(output + i, tl.load(values + at, found, 0.0), live)


@triton.jit
def collect_kernel(
    grad, pixels, boxes, grad_input, regions, images, channels, height, width, rows, columns, scale: tl.float64,
    grad_k, grad_c, grad_y, grad_x, input_n, input_c, input_y, input_x, box_row, box_column,
    COMPUTE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """A program owns PIXELS of a row of CHANNELS channels."""
    program = tl.program_id(0).to(tl.int64)
    stretches = tl.cdiv(width, PIXELS)
    groups = tl.cdiv(channels, CHANNELS)
    first_x = program % stretches * PIXELS
    own_y = program // stretches % height
    first_channel = program // stretches // height % groups * CHANNELS
    own_image = program // stretches // height // groups
    x = first_x + tl.arange(0, PIXELS)
    channel = first_channel + tl.arange(0, CHANNELS)
    live = channel < channels
    own = (own_y * width + x)[:, None]
    scale = tl.cast(scale, COMPUTE)
    sums = tl.zeros((PIXELS, CHANNELS), COMPUTE)
    for index in range(regions):
        k = tl.cast(index, tl.int64)
        image, x1, y1, x2, y2, sound = _region(boxes, k * box_row, box_column, True, images, COMPUTE)
        y_start, y_size = _axis(y1, y2, scale, rows)
        x_start, x_size = _axis(x1, x2, scale, columns)
        y_first, _ = _extent(y_start, y_size, k * 0, height)
        _, y_last = _extent(y_start, y_size, k * 0 + rows - 1, height)
        x_first, _ = _extent(x_start, x_size, k * 0, width)
        _, x_last = _extent(x_start, x_size, k * 0 + columns - 1, width)
        reaches = sound & (image == own_image) & (y_first <= own_y) & (own_y < y_last)
        if reaches & (x_first < first_x + PIXELS) & (first_x < x_last):
            for row in range(rows):
                y_begin, y_end = _extent(y_start, y_size, k * 0 + row, height)
                if (y_begin <= own_y) & (own_y < y_end):
                    for column in range(columns):
                        x_begin, x_end = _extent(x_start, x_size, k * 0 + column, width)
                        if (x_begin < first_x + PIXELS) & (first_x < x_end):
                            at = ((k * channels + channel) * rows + row) * columns + column
                            largest = tl.load(pixels + at, live, -1).to(tl.int64)
                            grad_at = k * grad_k + channel * grad_c + row * grad_y + column * grad_x
                            share = tl.load(grad + grad_at, live, 0.0).to(COMPUTE)
                            sums = tl.where(largest[None, :] == own, sums + share[None, :], sums)
    place = own_image * input_n + channel[None, :] * input_c + own_y * input_y + x[:, None] * input_x
    owned = live[None, :] & (x < width)[:, None]
    tl.store(grad_input + place, sums.to(grad_input.dtype.element_ty), owned)


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def _maxima(
    mode: str, input: Tensor, values: Tensor, boxes: Tensor, size: Sequence[int], scale: float, output: Tensor
) -> Tensor:
    if (outputs := output.numel()) > 0:
        maxima_kernel[(triton.cdiv(outputs, BLOCK),)](
            input, values, boxes, output, outputs, *input.shape, *size, scale,
            *input.stride(), *values.stride(), *boxes.stride(),
            MODE=mode, COMPUTE=_compute(input.dtype), BLOCK=BLOCK, enable_fp_fusion=False, **register_options(),
        )  # fmt: skip
    return output


def _new_bins(input: Tensor, boxes: Tensor, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    return input.new_empty((boxes.shape[0], input.shape[1], *size), dtype=dtype)


def roi_pool(input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0) -> Tensor:
    """`gencv_fast.roi_pool` by Triton; the arguments have been checked."""
    output = _new_bins(input, boxes, output_size, input.dtype)
    return _maxima("pool", input, input, boxes, output_size, spatial_scale, output)


def roi_pool_pick(
    values: Tensor, input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0
) -> Tensor:
    """What lies in values where input is largest; the arguments have been checked."""
    output = _new_bins(input, boxes, output_size, input.dtype)
    return _maxima("pick", input, values, boxes, output_size, spatial_scale, output)


def roi_pool_backward(grad: Tensor, input: Tensor, boxes: Tensor, spatial_scale: float = 1.0) -> Tensor:
    """The gradient by Triton; the arguments have been checked."""
    size = grad.shape[2:]
    pixels = _new_bins(input, boxes, size, torch.int32)
    _maxima("pixel", input, input, boxes, size, spatial_scale, pixels)
    grad_input = torch.empty_like(input)
    images, channels, height, width = input.shape
    programs = images * triton.cdiv(channels, OWNED_CHANNELS) * height * triton.cdiv(width, OWNED_PIXELS)
    if programs > 0:
        collect_kernel[(programs,)](
            grad, pixels, boxes, grad_input, boxes.shape[0], *input.shape, *size, spatial_scale,
            *grad.stride(), *grad_input.stride(), *boxes.stride(),
            COMPUTE=_compute(input.dtype), PIXELS=OWNED_PIXELS, CHANNELS=OWNED_CHANNELS, enable_fp_fusion=False,
            **register_options(),
        )  # fmt: skip
    return grad_input


_SIZES = ("images", "channels", "height", "width", "rows", "columns")


def _numbers(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "i32")


def _strides(name: str, dims: str) -> dict[str, str]:
    return {f"{name}_{dim}": "i32" for dim in dims}


def _variant(name: str, kernel: Any, signature: dict[str, str], constants: dict[str, Any]) -> TritonVariant:
    return TritonVariant(name, kernel, signature, constants, maxnreg=MOST_REGISTERS, enable_fp_fusion=False)


def _variants(dtype: str) -> list[TritonVariant]:
    compute = tl.float64 if dtype == "fp64" else tl.float32
    pointer = f"*{dtype}:16"
    boxes, scale = {"boxes": pointer}, {"scale": "fp64"}
    box_strides = _numbers("box_row", "box_column")
    variants = []
    for mode in ("pool", "pixel", "pick"):
        signature = {
            "input": pointer, "values": pointer, **boxes, "output": "*i32:16" if mode == "pixel" else pointer,
            **_numbers("outputs", *_SIZES), **scale, **_strides("input", "ncyx"), **_strides("values", "ncyx"),
            **box_strides,
        }  # fmt: skip
        constants = {"MODE": mode, "COMPUTE": compute, "BLOCK": BLOCK}
        variants.append(_variant(f"maxima_kernel<{mode}, {dtype}>", maxima_kernel, signature, constants))
    signature = {
        "grad": pointer, "pixels": "*i32:16", **boxes, "grad_input": pointer, **_numbers("regions", *_SIZES), **scale,
        **_strides("grad", "kcyx"), **_strides("input", "ncyx"), **box_strides,
    }  # fmt: skip
    constants = {"COMPUTE": compute, "PIXELS": OWNED_PIXELS, "CHANNELS": OWNED_CHANNELS}
    variants.append(_variant(f"collect_kernel<{dtype}>", collect_kernel, signature, constants))
    return variants


KERNELS = tuple(variant for dtype in ("fp32", "fp64", "fp16", "bf16") for variant in _variants(dtype))
