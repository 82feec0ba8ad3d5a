"""Arithmetic with the same bits as csrc/common/exact.h, box.h, exp.h and box_decode.h.

Kernels that use it are launched with ``enable_fp_fusion=False``: decisions must fall as on every other backend.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

# csrc/common/exp.h says what these are.
_LN2_32 = tl.constexpr((float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20")))
_LN2_64 = tl.constexpr((float.fromhex("0x1.62e42fefa3p-1"), float.fromhex("0x1.3de6af278ece6p-42")))
_PER_LN2_32 = tl.constexpr(float.fromhex("0x1.715476p+0"))
_PER_LN2_64 = tl.constexpr(float.fromhex("0x1.71547652b82fep+0"))
_POLYNOMIAL_32 = tl.constexpr(
    tuple(map(float.fromhex, ("0x1.6d113cp-10", "0x1.120ba2p-7", "0x1.55551ap-5", "0x1.5554dcp-3", "0x1p-1")))
)
_POLYNOMIAL_64 = tl.constexpr(
    tuple(map(float.fromhex, (
        "0x1.1f731ea5352cap-29", "0x1.af4e196027428p-26", "0x1.27e4db57442fbp-22", "0x1.71de021a90822p-19",
        "0x1.a01a01a6dcaffp-16", "0x1.a01a01abef415p-13", "0x1.6c16c16c162ccp-10", "0x1.11111111100cep-7",
        "0x1.5555555555556p-5", "0x1.5555555555557p-3", "0x1p-1",
    )))
)  # fmt: skip


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type that box decisions are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def round_down(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of the dtype that is not above the threshold: exceeding either means the same."""
    if dtype == torch.float64:
        return threshold
    nearest = torch.tensor(threshold, dtype=dtype)
    if nearest.item() > threshold:
        nearest = torch.nextafter(nearest, torch.tensor(-math.inf, dtype=dtype))
    return nearest.item()


@triton.jit
def divide(a, b):
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b


@triton.jit
def _float32_power_of_2(power):
    return ((power + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _float64_power_of_2(power):
    return ((power + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def _exponential_32(x):
    x = tl.where(x < -104.0, -104.0, x)  # comparisons leave NaN as it is
    x = tl.where(x > 89.0, 89.0, x)
    shifted = x * _PER_LN2_32 + 12582912.0  # 1.5 * 2^23 leaves the nearest integer in the low bits
    k = shifted - 12582912.0
    r = (x - k * _LN2_32[0]) - k * _LN2_32[1]
    y = tl.zeros_like(r)
    for i in tl.static_range(5):
        y = y * r + _POLYNOMIAL_32[i]
    y = ((r * r) * y + r) + 1.0
    power = shifted.to(tl.int32, bitcast=True) - 0x4B400000
    half = power >> 1
    return (y * _float32_power_of_2(half)) * _float32_power_of_2(power - half)


@triton.jit
def _exponential_64(x):
    x = tl.where(x < -746.0, -746.0, x)
    x = tl.where(x > 710.0, 710.0, x)
    shifted = x * _PER_LN2_64 + 6755399441055744.0  # 1.5 * 2^52
    k = shifted - 6755399441055744.0
    r = (x - k * _LN2_64[0]) - k * _LN2_64[1]
    y = tl.zeros_like(r)
    for i in tl.static_range(11):
        y = y * r + _POLYNOMIAL_64[i]
    y = ((r * r) * y + r) + 1.0
    power = shifted.to(tl.int64, bitcast=True) - 0x4338000000000000
    half = power >> 1
    return (y * _float64_power_of_2(half)) * _float64_power_of_2(power - half)


@triton.jit
def exponential(x):
    return _exponential_32(x) if x.dtype == tl.float32 else _exponential_64(x)


@triton.jit
def sigmoid(x):
    return divide(tl.full(x.shape, 1.0, x.dtype), exponential(-x) + 1.0)


@triton.jit
def decode_interval(low, high, shift, growth, MOST_GROWTH: tl.constexpr):
    """One axis: the interval of the shifted centre and the grown length."""
    length = high - low
    centre = shift * length + (low + length * 0.5)
    most = tl.full((), MOST_GROWTH, growth.dtype)
    half = (exponential(tl.where(growth > most, most, growth)) * length) * 0.5
    return centre - half, centre + half
