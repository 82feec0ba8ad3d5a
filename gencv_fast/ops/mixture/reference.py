"""The room's truth in plain PyTorch, written to be checked by eye.

A block of params is ``[N, K, H, W]``, one number of each of K components. First the logits; then of each colour the
means, the log-scales and, where there are three colours, a coefficient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..rpn.reference import exponential

LEVELS = 256
LEAST_LOG_SCALE = -7.0
BIN = 2 / (LEVELS - 1)  # in units of x


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def levels_of(x: Tensor) -> Tensor:
    """0 to 255 as numbers of the type that is computed in; those in [-1, 1] go to the nearest level."""
    if x.dtype == torch.uint8:
        return x
    x = x.detach().to(compute_dtype(x.dtype))
    return torch.round(((x + 1) * 127.5).clamp(0, LEVELS - 1))


def values_of(levels: Tensor) -> Tensor:
    return levels * BIN - 1


def block_count(channels: int) -> int:
    return 10 if channels == 3 else 3


def blocks_of(params: Tensor, channels: int) -> Tensor:
    """[blocks, N, K, H, W]"""
    wide = params.to(compute_dtype(params.dtype))
    return wide.unflatten(1, (block_count(channels), -1)).transpose(0, 1)


def _log_one_minus_exp(y: Tensor, log_y: Tensor) -> Tensor:
    """log(1 - e^-y) for y >= 0, which may be so small that only its logarithm is known."""
    small = y < 1e-3
    safe = torch.where(small, torch.ones_like(y), y)
    ratio = torch.where(small, y * (y / 24 - 0.5), torch.log(-torch.expm1(-safe) / safe))
    return log_y + ratio


def log_bin(levels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Of the probability sigmoid(above) - sigmoid(below) of each level; the first and the last reach to infinity."""
    # Not clamp, whose gradient at the bound differs between versions of torch.
    log_scale = torch.where(log_scale <= LEAST_LOG_SCALE, LEAST_LOG_SCALE, log_scale)
    inverse = torch.exp(-log_scale)
    centre = values_of(levels) - mean
    above, below = (centre + BIN / 2) * inverse, (centre - BIN / 2) * inverse
    log_below_top, log_above_bottom = logsigmoid(above), logsigmoid(-below)
    inner = log_below_top + log_above_bottom + _log_one_minus_exp(BIN * inverse, math.log(BIN) - log_scale)
    return torch.where(levels == 0, log_below_top, torch.where(levels == LEVELS - 1, log_above_bottom, inner))


def _log_components(blocks: Tensor, levels: Tensor) -> Tensor:
    """[N, K, H, W]: of each component's probability of the pixel, given that component."""
    levels = levels.to(blocks.dtype)[:, :, None]  # [N, colours, 1, H, W]
    red = levels[:, 0]
    if levels.shape[1] == 1:
        return log_bin(red, blocks[1], blocks[2])
    green, blue = levels[:, 1], levels[:, 2]
    coefficients = torch.tanh(blocks[3::3])
    green_mean = blocks[4] + coefficients[0] * values_of(red)
    blue_mean = blocks[7] + coefficients[1] * values_of(red) + coefficients[2] * values_of(green)
    return (
        log_bin(red, blocks[1], blocks[2]) + log_bin(green, green_mean, blocks[5]) + log_bin(blue, blue_mean, blocks[8])
    )


def mixture_logistics_nll(params: Tensor, x: Tensor, channels: int = 3) -> Tensor:
    blocks = blocks_of(params, channels)
    joint = torch.log_softmax(blocks[0], 1) + _log_components(blocks, levels_of(x))
    return -torch.logsumexp(joint, 1)


def mixture_logistics_nll_backward(grad: Tensor, params: Tensor, x: Tensor, channels: int = 3) -> Tensor:
    with torch.enable_grad():
        leaf = params.detach().requires_grad_()
        return torch.autograd.grad(mixture_logistics_nll(leaf, x, channels), leaf, grad)[0]


_LN2 = {torch.float32: ("0x1.62e3p-1", "0x1.2fefa2p-17"), torch.float64: ("0x1.62e42feep-1", "0x1.a39ef35793c76p-33")}
_POLYNOMIAL = {
    torch.float32: ("0x1.f13c4cp-3", "0x1.23d3dcp-2", "0x1.999c26p-2", "0x1.555554p-1"),
    torch.float64: (
        "0x1.2f112df3e5244p-3", "0x1.39a09d078c69fp-3", "0x1.7466496cb03dep-3", "0x1.c71c51d8e78afp-3",
        "0x1.2492494229359p-2", "0x1.999999997fa04p-2", "0x1.5555555555593p-1",
    ),
}  # fmt: skip
_ROOT_HALF = {torch.float32: "0x1.6a09e6p-1", torch.float64: "0x1.6a09ep-1"}


def logarithm(x: Tensor) -> Tensor:
    """log(x) of finite x > 0 from separately rounded operations alone, so that every backend finds the same bits.

    x = 2^k m with m in [sqrt(1/2), sqrt(2)), and log m = 2 s + s z P(z), where s = (m - 1) / (m + 1), z = s^2.
    """
    m, k = torch.frexp(x)
    low = m < float.fromhex(_ROOT_HALF[x.dtype])
    f, k = torch.where(low, 2 * m, m) - 1, (k - low.to(k.dtype)).to(x.dtype)
    s = f / (2 + f)
    z = s * s
    y = torch.zeros_like(z)
    for coefficient in _POLYNOMIAL[x.dtype]:
        y = y * z + float.fromhex(coefficient)
    half_square = 0.5 * f * f
    ln2_high, ln2_low = map(float.fromhex, _LN2[x.dtype])
    return (((s * (half_square + z * y) + k * ln2_low) - half_square) + f) + k * ln2_high


_WORD = 0xFFFFFFFF


def _product(a: int, b: Tensor) -> tuple[Tensor, Tensor]:
    """High and low word of the product of two words, which need 64 bits without a sign."""
    low, high = a * (b & 0xFFFF), a * (b >> 16)
    return (high + (low >> 16)) >> 16, (a * b) & _WORD


def philox(seed: int, counter: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox 4x32 with 10 rounds, on words in int64."""
    c0, c1, c2, c3 = counter
    key0, key1 = seed & _WORD, seed >> 32 & _WORD
    for _ in range(10):
        (high0, low0), (high1, low1) = _product(0xD2511F53, c0), _product(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
        key0, key1 = (key0 + 0x9E3779B9) & _WORD, (key1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


def pixel_noise(seed: int, batch: int, numbers: int, height: int, width: int, device: torch.device) -> Tensor:
    """``[batch, numbers, height, width]``, float32 in (0, 1): a function of the seed, the image and the pixel."""

    def count(size: int) -> Tensor:
        return torch.arange(size, device=device)

    image, pixel = count(batch)[:, None, None], count(height * width)[None, None]
    block = count((numbers + 3) // 4)[None, :, None]
    counter = torch.broadcast_tensors(pixel, block, image & _WORD, image >> 32)
    words = torch.stack(philox(seed, counter), 2).flatten(1, 2)[:, :numbers]  # [batch, numbers, pixels]
    return (((words >> 8) | 1).float() * 2**-24).unflatten(2, (height, width))


def choose(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first of K whose weight, added to those before, passes ``uniform`` times all: ``[N, K, H, W]`` -> [N, H, W].

    Sums run from the first on. The last is taken where rounding lets none pass.
    """
    sums = [weights[:, 0]]
    for k in range(1, weights.shape[1]):
        sums.append(sums[-1] + weights[:, k])
    target = uniform.to(weights.dtype) * sums[-1]
    chosen = torch.zeros_like(target, dtype=torch.int64)
    for total in sums[:-1]:
        chosen = chosen + (total <= target)
    return chosen


def _tanh(x: Tensor) -> Tensor:
    e = exponential(-2 * x.abs())
    y = (1 - e) / (1 + e)
    return torch.where(x < 0, -y, y)


def _drawn(mean: Tensor, log_scale: Tensor, temperature: Tensor, uniform: Tensor) -> Tensor:
    uniform = uniform.to(mean.dtype)
    scale = exponential(log_scale.clamp(min=LEAST_LOG_SCALE)) * temperature
    x = mean + scale * logarithm(uniform / (1 - uniform))
    return torch.round(((x + 1) * 127.5).clamp(0, LEVELS - 1)).nan_to_num(0)


def mixture_logistics_sample(
    params: Tensor, channels: int = 3, seed: int = 0, temperature: float = 1.0, noise: Tensor | None = None
) -> Tensor:
    batch, _, height, width = params.shape
    if noise is None:
        noise = pixel_noise(seed, batch, 1 + channels, height, width, params.device)
    blocks = blocks_of(params, channels)
    heat = blocks.new_full((), temperature)
    logits = blocks[0]
    chosen = choose(exponential((logits - logits.amax(1, keepdim=True)) / heat), noise[:, 0])
    mine = blocks.take_along_dim(chosen[None, :, None], 2)[:, :, 0]  # [blocks, N, H, W]
    red = _drawn(mine[1], mine[2], heat, noise[:, 1])
    if channels == 1:
        return red[:, None].to(torch.uint8)
    coefficients = _tanh(mine[3::3])
    green = _drawn(mine[4] + coefficients[0] * values_of(red), mine[5], heat, noise[:, 2])
    mean = mine[7] + coefficients[1] * values_of(red) + coefficients[2] * values_of(green)
    blue = _drawn(mean, mine[8], heat, noise[:, 3])
    return torch.stack((red, green, blue), 1).to(torch.uint8)
