"""The demo room in Triton: a program per block of elements forward, a program per channel backward."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128


@triton.jit
def _tanh(x):
    # From exp of a number that is not positive: it cannot overflow.
    small = tl.exp(-2 * tl.abs(x))
    magnitude = (1 - small) / (1 + small)
    return tl.where(x < 0, -magnitude, magnitude)


@triton.jit
def _offset(i, c, height, width, stride_n, stride_c, stride_h, stride_w):
    """Of element i of channel c, counted over [N, H, W]."""
    n = i // (height * width)
    return n * stride_n + c * stride_c + i // width % height * stride_h + i % width * stride_w


@triton.jit
def forward_kernel(
    x, x_n, x_c, x_h, x_w, scale, scale_stride, y, y_n, y_c, y_h, y_w, channels, per_channel, height, width,
    COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < tl.full((), channels, tl.int64) * per_channel
    c, i = index // per_channel, index % per_channel
    values = tl.load(x + _offset(i, c, height, width, x_n, x_c, x_h, x_w), mask=inside).to(COMPUTE)
    scales = tl.load(scale + c * scale_stride, mask=inside).to(COMPUTE)
    result = scales * _tanh(values)
    tl.store(y + _offset(i, c, height, width, y_n, y_c, y_h, y_w), result.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    grad, g_n, g_c, g_h, g_w, x, x_n, x_c, x_h, x_w, scale, scale_stride, grad_x, o_n, o_c, o_h, o_w, grad_scale,
    per_channel, height, width, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0).to(tl.int64)
    factor = tl.load(scale + c * scale_stride).to(COMPUTE)
    sums = tl.zeros([BLOCK], COMPUTE)
    for start in range(0, per_channel, BLOCK):
        i = start + tl.arange(0, BLOCK).to(tl.int64)
        inside = i < per_channel
        g = tl.load(grad + _offset(i, c, height, width, g_n, g_c, g_h, g_w), mask=inside, other=0).to(COMPUTE)
        t = _tanh(tl.load(x + _offset(i, c, height, width, x_n, x_c, x_h, x_w), mask=inside, other=0).to(COMPUTE))
        result = (g * factor * (1 - t * t)).to(grad_x.dtype.element_ty)
        tl.store(grad_x + _offset(i, c, height, width, o_n, o_c, o_h, o_w), result, mask=inside)
        sums += g * t
    tl.store(grad_scale + c, tl.sum(sums, 0).to(grad_scale.dtype.element_ty))


def _compute(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def scaled_tanh(x: Tensor, scale: Tensor) -> Tensor:
    y = torch.empty_like(x)
    n, c, h, w = x.shape
    if x.numel() > 0:
        forward_kernel[(triton.cdiv(x.numel(), BLOCK),)](
            x, *x.stride(), scale, scale.stride(0), y, *y.stride(), c, n * h * w, h, w,
            COMPUTE=_compute(x.dtype), BLOCK=BLOCK,
        )  # fmt: skip
    return y


def scaled_tanh_backward(grad: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    grad_x, grad_scale = torch.empty_like(x), scale.new_empty(scale.shape)
    n, c, h, w = x.shape
    if c > 0:
        backward_kernel[(c,)](
            grad, *grad.stride(), x, *x.stride(), scale, scale.stride(0), grad_x, *grad_x.stride(), grad_scale,
            n * h * w, h, w, COMPUTE=_compute(x.dtype), BLOCK=BLOCK,
        )  # fmt: skip
    return grad_x, grad_scale
