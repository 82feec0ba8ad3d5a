"""The room in Triton: implicit matrix products that go through what is seen, and nothing else.

``segments`` rows are (dy, dx, tap's row, tap's column, first and last channel that is summed); ``blocks`` rows are
(first and last channel that a program writes, first segment, number of segments).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._inspection import TritonVariant
from ..._library import triton_interpreted
from . import reference
from .contract import _new_maps, output_channels
from .triton_gate import (
    DTYPES,
    compute_type,
    gate_variants,
    numbers_of,
    run_gate,
    sigmoid,
    strides_of,
    strides_over_pixels,
    tanh,
)

#: Pixels, channels, depth and warps of a program: what its registers hold. No tensor cores multiply fp64.
TILES = {
    torch.float16: (64, 64, 32, 8),
    torch.bfloat16: (64, 64, 32, 8),
    torch.float32: (32, 32, 16, 4),
    torch.float64: (16, 16, 16, 4),
}
#: Programs that keep a GPU busy.
MANY_PROGRAMS = 512


@triton.jit
def _elu(x):
    return tl.where(x > 0, x, tl.exp(x) - 1)


@triton.jit
def _product(a, b, sums, PRECISION: tl.constexpr):
    if PRECISION == "fp64":
        return sums + tl.sum(a[:, :, None] * b[None, :, :], 1)
    elif PRECISION == "widened":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), sums)
    else:
        return tl.dot(a, b, sums, input_precision=PRECISION)


@triton.jit
def _program(WIDE: tl.constexpr):
    """Its number, in the type of all that is counted from it: 64 bits take most of a program's registers."""
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    return program


@triton.jit
def _addends(
    sums, bias, condition, at, channel, channel_stride, live, HAS_BIAS: tl.constexpr, HAS_CONDITION: tl.constexpr
):
    if HAS_BIAS:
        sums += tl.load(bias + channel, channel >= 0, 0.0).to(sums.dtype)[None, :]
    if HAS_CONDITION:
        sums += tl.load(condition + at[:, None] + channel[None, :] * channel_stride, live, 0.0).to(sums.dtype)
    return sums


@triton.jit
def conv_kernel(
    input, weight, bias, condition, output, segments, blocks, pixels, block_count, half, height, width,
    input_n, input_c, input_y, input_x, weight_o, weight_i, weight_y, weight_x,
    condition_n, condition_c, condition_y, condition_x, output_n, output_c, output_y, output_x,
    ACTIVATION: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_CONDITION: tl.constexpr, COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr, WIDE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """A program sums PIXELS pixels by CHANNELS output channels; before a gate, those of the second half as well."""
    program = _program(WIDE)
    block = blocks + program % block_count * 4
    first, last = tl.load(block).to(program.dtype), tl.load(block + 1).to(program.dtype)
    start, count = tl.load(block + 2), tl.load(block + 3)
    pixel = program // block_count * PIXELS + tl.arange(0, PIXELS)
    channel = first + tl.arange(0, CHANNELS)
    x, y, n = pixel % width, pixel // width % height, pixel // width // height
    here = pixel < pixels
    written = channel < last
    sums = tl.zeros((PIXELS, CHANNELS), COMPUTE)
    gates = tl.zeros((PIXELS, CHANNELS), COMPUTE)
    for index in range(start, start + count):
        segment = segments + index * 6
        there_y, there_x = y + tl.load(segment), x + tl.load(segment + 1)
        inside = here & (there_y >= 0) & (there_y < height) & (there_x >= 0) & (there_x < width)
        at = n * input_n + there_y * input_y + there_x * input_x
        place = tl.load(segment + 2).to(program.dtype) * weight_y + tl.load(segment + 3).to(program.dtype) * weight_x
        end = tl.load(segment + 5)
        for begin in range(tl.load(segment + 4), end, DEPTH):
            depth = begin + tl.arange(0, DEPTH).to(program.dtype)
            summed = depth < end
            a = tl.load(input + at[:, None] + depth[None, :] * input_c, inside[:, None] & summed[None, :], 0.0)
            weights = weight + place + depth[:, None] * weight_i + channel[None, :] * weight_o
            seen = summed[:, None] & written[None, :]
            sums = _product(a, tl.load(weights, seen, 0.0), sums, PRECISION)
            if ACTIVATION == "gate":
                gates = _product(a, tl.load(weights + half * weight_o, seen, 0.0), gates, PRECISION)
    live = here[:, None] & written[None, :]
    at = n * condition_n + y * condition_y + x * condition_x
    own = tl.where(written, channel, -1)
    sums = _addends(sums, bias, condition, at, own, condition_c, live, HAS_BIAS, HAS_CONDITION)
    to = output + (n * output_n + y * output_y + x * output_x)[:, None] + channel[None, :] * output_c
    if ACTIVATION == "relu":
        sums = tl.where(sums < 0, 0.0, sums)
    elif ACTIVATION == "elu":
        sums = _elu(sums)
    elif ACTIVATION == "concat_elu":
        tl.store(to + half * output_c, _elu(-sums).to(output.dtype.element_ty), live)
        sums = _elu(sums)
    elif ACTIVATION == "gate":
        own = tl.where(written, channel + half, -1)
        gates = _addends(gates, bias, condition, at, own, condition_c, live, HAS_BIAS, HAS_CONDITION)
        sums = tanh(sums) * sigmoid(gates)
    tl.store(to, sums.to(output.dtype.element_ty), live)


@triton.jit
def grad_weight_kernel(
    grad, input, partial, tiles, tile_count, pixels, pixels_of_part, out_channels, in_channels, places, height, width,
    grad_n, grad_c, grad_y, grad_x, input_n, input_c, input_y, input_x,
    COMPUTE: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """A program sums one tap's weights of ROWS output by COLUMNS input channels over one part of the pixels.

    ``tiles`` rows are (dy, dx, place in the kernel's plane, first and last output channel, first and last input
    channel).
    """
    program = _program(WIDE)
    part, tile = program // tile_count, tiles + program % tile_count * 7
    dy, dx, place = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    out = tl.load(tile + 3) + tl.arange(0, ROWS).to(program.dtype)
    channel = tl.load(tile + 5) + tl.arange(0, COLUMNS).to(program.dtype)
    rows, columns = out < tl.load(tile + 4), channel < tl.load(tile + 6)
    sums = tl.zeros((ROWS, COLUMNS), COMPUTE)
    end = tl.minimum((part + 1) * pixels_of_part, pixels)
    for begin in range(part * pixels_of_part, end, DEPTH):
        pixel = begin + tl.arange(0, DEPTH)
        x, y, n = pixel % width, pixel // width % height, pixel // width // height
        there_y, there_x = y + dy, x + dx
        inside = (pixel < end) & (there_y >= 0) & (there_y < height) & (there_x >= 0) & (there_x < width)
        from_grad = grad + (n * grad_n + y * grad_y + x * grad_x)[None, :] + out[:, None] * grad_c
        from_input = input + (n * input_n + there_y * input_y + there_x * input_x)[:, None] + channel[None, :] * input_c
        a = tl.load(from_grad, rows[:, None] & inside[None, :], 0.0)
        b = tl.load(from_input, inside[:, None] & columns[None, :], 0.0)
        sums = _product(a, b, sums, PRECISION)
    at = ((part * out_channels + out[:, None]) * in_channels + channel[None, :]) * places + place
    tl.store(partial + at, sums, rows[:, None] & columns[None, :])


def _precision(dtype: torch.dtype) -> str:
    """fp32 is multiplied as torch's own convolutions are. The interpreter takes bf16 for integers."""
    if dtype == torch.float64:
        return "fp64"
    if dtype == torch.bfloat16 and triton_interpreted():
        return "widened"
    return "tf32" if dtype == torch.float32 and torch.backends.cudnn.allow_tf32 else "ieee"


def _is_wide(*tensors: Tensor | None) -> bool:
    """Whether places in a tensor take 64 bits."""
    spans = (sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True)) for t in tensors if t is not None)
    return any(span >= 2**31 for span in spans)


Geometry = tuple[tuple[int, ...], int, int, tuple[int, ...], tuple[int, ...]]


def _geometry(taps: Sequence[int], groups: int, halves: int, dilation: Sequence[int], shift: Sequence[int]) -> Geometry:
    return tuple(taps), groups, halves, tuple(dilation), tuple(shift)


def _table(rows: Sequence[tuple[int, ...]], columns: int, device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, columns).to(device)


def _cut(first: int, last: int, size: int) -> list[tuple[int, int]]:
    return [(at, min(at + size, last)) for at in range(first, last, size)]


@cache
def _forward_tables(
    shape: tuple[int, ...], geometry: Geometry, size: int, gate: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Segments and blocks; with a gate, those of the first half, which the second is like."""
    seen: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    block = shape[0] // (geometry[1] * geometry[2])
    for first in range(0, shape[0] // 2 if gate else shape[0], max(block, 1)):
        seen[first, first + block] = []
    for s in reference.segments(shape, *geometry):
        if (s.out.start, s.out.stop) in seen:
            seen[s.out.start, s.out.stop].append((s.dy, s.dx, s.i, s.j, s.seen.start, s.seen.stop))
    return _tables(seen, size, device)


@cache
def _transposed_tables(
    shape: tuple[int, ...], geometry: Geometry, size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What each colour of the input receives."""
    block = shape[1] // geometry[1]
    seen: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for first in range(0, shape[1], max(block, 1)):
        seen[first, first + block] = []
    for s in reference.segments(shape, *geometry):
        for (first, last), rows in seen.items():
            if s.seen.start <= first and last <= s.seen.stop:
                _join(rows, (-s.dy, -s.dx, s.i, s.j, s.out.start, s.out.stop))
    return _tables(seen, size, device)


def _join(rows: list[tuple[int, ...]], row: tuple[int, ...]) -> None:
    """Channels that follow those of the same tap are one range with them."""
    for i, other in enumerate(rows):
        if other[:4] == row[:4] and other[5] == row[4]:
            rows[i] = (*other[:5], row[5])
            return
    rows.append(row)


def _tables(
    seen: dict[tuple[int, int], list[tuple[int, ...]]], size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    segments: list[tuple[int, ...]] = []
    blocks: list[tuple[int, ...]] = []
    for (first, last), rows in seen.items():
        blocks += [(a, b, len(segments), len(rows)) for a, b in _cut(first, last, size)]
        segments += rows
    return _table(segments, 6, device), _table(blocks, 4, device)


@cache
def _weight_tiles(shape: tuple[int, ...], geometry: Geometry, size: int, device: torch.device) -> Tensor:
    rows = [
        (s.dy, s.dx, s.i * shape[3] + s.j, *out, *channels)
        for s in reference.segments(shape, *geometry)
        for out in _cut(s.out.start, s.out.stop, size)
        for channels in _cut(s.seen.start, s.seen.stop, size)
    ]
    return _table(rows, 7, device)


def _run(
    input: Tensor, weight: Tensor, bias: Tensor | None, condition: Tensor | None, output: Tensor,
    tables: tuple[Tensor, Tensor], half: int, activation: str,
) -> Tensor:  # fmt: skip
    segments, blocks = tables
    images, _, height, width = input.shape
    pixels = images * height * width
    block_pixels, channels, depth, warps = TILES[input.dtype]
    if pixels > 0 and len(blocks) > 0:
        conv_kernel[(triton.cdiv(pixels, block_pixels) * len(blocks),)](
            input, weight, bias if bias is not None else weight, condition if condition is not None else weight,
            output, segments, blocks, pixels, len(blocks), half, height, width,
            *input.stride(), *weight.stride(), *strides_over_pixels(condition), *output.stride(),
            ACTIVATION=activation, HAS_BIAS=bias is not None, HAS_CONDITION=condition is not None,
            COMPUTE=compute_type(input.dtype), PRECISION=_precision(input.dtype),
            WIDE=_is_wide(input, weight, condition, output),
            PIXELS=block_pixels, CHANNELS=channels, DEPTH=depth, num_warps=warps,
        )  # fmt: skip
    return output


def masked_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, condition: Tensor | None, taps: Sequence[int],
    channel_groups: int, halves: int, dilation: Sequence[int], shift: Sequence[int], activation: str,
) -> Tensor:  # fmt: skip
    """`gencv_fast.masked_conv2d` by Triton; the arguments have been checked."""
    out, gate = weight.shape[0], activation == "gate"
    output = _new_maps(input, output_channels(out, activation))
    geometry = _geometry(taps, channel_groups, halves, dilation, shift)
    tables = _forward_tables(tuple(weight.shape), geometry, TILES[input.dtype][1], gate, input.device)
    bias = bias if bias is None else bias.contiguous()
    return _run(input, weight, bias, condition, output, tables, out // 2 if gate else out, activation)


def masked_conv2d_grad_input(
    grad: Tensor, weight: Tensor, taps: Sequence[int], channel_groups: int, halves: int, dilation: Sequence[int],
    shift: Sequence[int],
) -> Tensor:  # fmt: skip
    """The gradient of the input by Triton; the arguments have been checked."""
    output = _new_maps(grad, weight.shape[1])
    geometry = _geometry(taps, channel_groups, halves, dilation, shift)
    tables = _transposed_tables(tuple(weight.shape), geometry, TILES[grad.dtype][1], grad.device)
    return _run(grad, weight.transpose(0, 1), None, None, output, tables, 0, "none")


def masked_conv2d_grad_weight(
    grad: Tensor, input: Tensor, taps: Sequence[int], kernel_size: Sequence[int], channel_groups: int, halves: int,
    dilation: Sequence[int], shift: Sequence[int],
) -> Tensor:  # fmt: skip
    """The gradient of the weight by Triton; the arguments have been checked. The parts' sums are added in order."""
    shape = (grad.shape[1], input.shape[1], *kernel_size)
    images, _, height, width = grad.shape
    pixels = images * height * width
    geometry = _geometry(taps, channel_groups, halves, dilation, shift)
    depth, size, _, warps = TILES[grad.dtype]
    tiles = _weight_tiles(shape, geometry, size, grad.device)
    parts = max(1, min(triton.cdiv(pixels, 8 * depth), MANY_PROGRAMS // max(len(tiles), 1)))
    of_part = triton.cdiv(triton.cdiv(pixels, parts), depth) * depth
    wide = torch.float64 if grad.dtype == torch.float64 else torch.float32
    partial = torch.zeros((parts, *shape), dtype=wide, device=grad.device)
    if pixels > 0 and len(tiles) > 0:
        grad_weight_kernel[(parts * len(tiles),)](
            grad, input, partial, tiles, len(tiles), pixels, of_part, shape[0], shape[1],
            kernel_size[0] * kernel_size[1], height, width, *grad.stride(), *input.stride(),
            COMPUTE=compute_type(grad.dtype), PRECISION=_precision(grad.dtype), WIDE=_is_wide(grad, input, partial),
            ROWS=size, COLUMNS=size, DEPTH=depth, num_warps=warps,
        )  # fmt: skip
    return partial.sum(0).to(grad.dtype)


def gated_activation(input: Tensor, condition: Tensor | None) -> Tensor:
    """`gencv_fast.gated_activation` by Triton; the arguments have been checked."""
    return run_gate(input, condition, input, _new_maps(input, input.shape[1] // 2), backward=False)


def gated_activation_backward(grad: Tensor, input: Tensor, condition: Tensor | None) -> Tensor:
    """The gradient by Triton; the arguments have been checked."""
    return run_gate(input, condition, grad, _new_maps(input, input.shape[1]), backward=True)


def _conv_variant(dtype: str, activation: str) -> TritonVariant:
    pointer, torch_dtype = f"*{dtype}:16", DTYPES[dtype]
    pixels, channels, depth, warps = TILES[torch_dtype]
    maps = dict.fromkeys(("input", "weight", "bias", "condition", "output"), pointer)
    signature = {
        **maps, "segments": "*i32:16", "blocks": "*i32:16",
        **numbers_of("pixels", "block_count", "half", "height", "width"), **strides_of("input"),
        **strides_of("weight", "oiyx"), **strides_of("condition"), **strides_of("output"),
    }  # fmt: skip
    constants = {
        "ACTIVATION": activation, "HAS_BIAS": True, "HAS_CONDITION": activation == "gate",
        "COMPUTE": compute_type(torch_dtype), "PRECISION": "fp64" if dtype == "fp64" else "ieee",
        "WIDE": False, "PIXELS": pixels, "CHANNELS": channels, "DEPTH": depth,
    }  # fmt: skip
    return TritonVariant(f"conv_kernel<{activation}, {dtype}>", conv_kernel, signature, constants, num_warps=warps)


def _variants(dtype: str) -> list[TritonVariant]:
    pointer, torch_dtype = f"*{dtype}:16", DTYPES[dtype]
    depth, size, _, warps = TILES[torch_dtype]
    compute = compute_type(torch_dtype)
    wide = "*fp64:16" if dtype == "fp64" else "*fp32:16"
    weights = {
        "grad": pointer, "input": pointer, "partial": wide, "tiles": "*i32:16",
        **numbers_of("tile_count", "pixels", "pixels_of_part", "out_channels", "in_channels", "places"),
        **numbers_of("height", "width"),
        **strides_of("grad"), **strides_of("input"),
    }  # fmt: skip
    precision = "fp64" if dtype == "fp64" else "ieee"
    tile = {
        "COMPUTE": compute, "PRECISION": precision, "WIDE": False, "ROWS": size, "COLUMNS": size, "DEPTH": depth,
    }  # fmt: skip
    return [
        *(_conv_variant(dtype, activation) for activation in ("none", "concat_elu", "gate")),
        TritonVariant(f"grad_weight_kernel<{dtype}>", grad_weight_kernel, weights, tile, num_warps=warps),
        *gate_variants(dtype),
    ]


KERNELS = tuple(variant for dtype in ("fp32", "fp64", "fp16", "bf16") for variant in _variants(dtype))
