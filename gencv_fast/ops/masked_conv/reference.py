"""The room's truth in plain PyTorch.

What a mask hides is never multiplied, not even by zero: NaN and infinities there change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import elu, pad, relu

#: What a tap of the kernel shows of the pixel that it reads, by number. Colours are equal blocks of channels.
HIDDEN, ALL, EARLIER, NOT_LATER = range(4)


class Segment(NamedTuple):
    """Output channels ``out`` see input channels ``seen`` of the pixel (dy, dx) further, by the tap (i, j)."""

    out: slice
    seen: slice
    i: int
    j: int
    dy: int
    dx: int


def segments(
    weight_shape: Sequence[int],
    taps: Sequence[int],
    channel_groups: int,
    halves: int,
    dilation: Sequence[int],
    shift: Sequence[int],
) -> Iterator[Segment]:
    """All that is seen; what is hidden is not among them."""
    out_channels, in_channels, height, width = weight_shape
    size, in_size = out_channels // (channel_groups * halves), in_channels // channel_groups
    for block in range(channel_groups * halves):
        colour = block % channel_groups
        last = {HIDDEN: 0, ALL: in_channels, EARLIER: colour * in_size, NOT_LATER: (colour + 1) * in_size}
        for tap, rule in enumerate(taps):
            i, j = divmod(tap, width)
            dy = (i - height // 2) * dilation[0] - shift[0]
            dx = (j - width // 2) * dilation[1] - shift[1]
            if size > 0 and last[rule] > 0:
                yield Segment(slice(block * size, (block + 1) * size), slice(0, last[rule]), i, j, dy, dx)


def wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def moved(maps: Tensor, dy: int, dx: int) -> Tensor:
    """``moved[y, x] = maps[y + dy, x + dx]``, zero outside of the map."""
    height, width = maps.shape[-2:]
    if abs(dy) >= height or abs(dx) >= width:
        return torch.zeros_like(maps)
    return pad(maps, (-dx, dx, -dy, dy))


def _among(part: Tensor, dim: int, place: slice, size: int) -> Tensor:
    """The part between zeros, so that ``size`` lie along ``dim``."""
    around = [0, 0] * (part.dim() - 1 - dim) + [place.start, size - place.stop]
    return pad(part, around)


def _activated(x: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return relu(x)
    if activation == "elu":
        return elu(x)
    if activation == "concat_elu":
        return elu(torch.cat((x, -x), 1))
    if activation == "gate":
        a, b = x.chunk(2, 1)
        return a.tanh() * b.sigmoid()
    return x


def over_pixels(condition: Tensor) -> Tensor:
    return condition[..., None, None] if condition.dim() == 2 else condition


def masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    condition: Tensor | None,
    taps: Sequence[int],
    channel_groups: int,
    halves: int,
    dilation: Sequence[int],
    shift: Sequence[int],
    activation: str,
) -> Tensor:
    x, w = wide(input), wide(weight)
    sums = torch.einsum("nchw,oc->nohw", x[:, :0], w[:, :0, 0, 0])  # zeros
    for s in segments(w.shape, taps, channel_groups, halves, dilation, shift):
        term = torch.einsum("nchw,oc->nohw", moved(x[:, s.seen], s.dy, s.dx), w[s.out, s.seen, s.i, s.j])
        sums = sums + _among(term, 1, s.out, w.shape[0])
    if bias is not None:
        sums = sums + wide(bias)[:, None, None]
    if condition is not None:
        sums = sums + over_pixels(wide(condition))
    return _activated(sums, activation).to(input.dtype)


def masked_conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    taps: Sequence[int],
    channel_groups: int,
    halves: int,
    dilation: Sequence[int],
    shift: Sequence[int],
) -> Tensor:
    g, w = wide(grad), wide(weight)
    total = torch.einsum("nohw,oc->nchw", g[:, :0], w[:0, :, 0, 0])  # zeros
    for s in segments(w.shape, taps, channel_groups, halves, dilation, shift):
        term = torch.einsum("nohw,oc->nchw", moved(g[:, s.out], -s.dy, -s.dx), w[s.out, s.seen, s.i, s.j])
        total = total + _among(term, 1, s.seen, w.shape[1])
    return total.to(grad.dtype)


def masked_conv2d_grad_weight(
    grad: Tensor,
    input: Tensor,
    taps: Sequence[int],
    kernel_size: Sequence[int],
    channel_groups: int,
    halves: int,
    dilation: Sequence[int],
    shift: Sequence[int],
) -> Tensor:
    g, x = wide(grad), wide(input)
    height, width = kernel_size
    zeros = torch.einsum("nohw,nchw->oc", g[..., :0], x[..., :0])
    total = zeros[..., None, None].expand(*zeros.shape, height, width)
    for s in segments(total.shape, taps, channel_groups, halves, dilation, shift):
        term = torch.einsum("nohw,nchw->oc", g[:, s.out], moved(x[:, s.seen], s.dy, s.dx))
        plane = pad(term[..., None, None], (s.j, width - 1 - s.j, s.i, height - 1 - s.i))
        total = total + _among(_among(plane, 0, s.out, g.shape[1]), 1, s.seen, x.shape[1])
    return total.contiguous().to(input.dtype)


def gated_activation(input: Tensor, condition: Tensor | None) -> Tensor:
    x = wide(input)
    if condition is not None:
        x = x + over_pixels(wide(condition))
    return _activated(x, "gate").to(input.dtype)


def gated_activation_backward(grad: Tensor, input: Tensor, condition: Tensor | None) -> Tensor:
    """The gradient of the sum of input and condition."""
    x, g = wide(input), wide(grad)
    if condition is not None:
        x = x + over_pixels(wide(condition))
    a, b = x.chunk(2, 1)
    t, s = a.tanh(), b.sigmoid()
    return torch.cat((g * s * (1 - t * t), g * t * s * (1 - s)), 1).to(input.dtype)
