"""The loss and its gradient in Triton: a lane for each pixel, which goes through its components.

The formulas are those of csrc/mixture/mixture.h.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._inspection import TritonVariant
from .reference import block_count, compute_dtype

BLOCK = 128

_BIN = tl.constexpr(2 / 255)
_LOG_BIN = tl.constexpr(-4.848116364598481)
_LEAST_LOG_SCALE = tl.constexpr(-7.0)
_LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
def _place(first, pixels, height, width, BLOCK: tl.constexpr):
    """Image, row and column of each lane, and whether there is such a pixel."""
    i = first.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return i, i // width // height, i // width % height, i % width, i < pixels


@triton.jit
def _level(x, live, HOLDS_LEVELS: tl.constexpr, COMPUTE: tl.constexpr):
    level = tl.load(x, live, 0).to(COMPUTE)
    if not HOLDS_LEVELS:
        scaled = (level + 1.0) * 127.5
        scaled = tl.where(scaled < 0.0, 0.0, scaled)  # comparisons leave NaN as it is
        scaled = tl.where(scaled > 255.0, 255.0, scaled)
        below = tl.floor(scaled)
        rest = scaled - below
        odd = below - 2.0 * tl.floor(0.5 * below)
        level = tl.where((rest > 0.5) | ((rest == 0.5) & (odd == 1.0)), below + 1.0, below)
    return level.to(COMPUTE)


@triton.jit
def _value(level):
    return level * _BIN - 1.0


@triton.jit
def _tanh(x):
    """And its slope."""
    e = tl.exp(-2.0 * tl.abs(x))
    y = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0, -y, y), 4.0 * e / ((1.0 + e) * (1.0 + e))


@triton.jit
def _sinh_ratio(y):
    z = y * y
    s = 1.0 / 39916800 + z * (1.0 / 6227020800 + z * (1.0 / 1307674368000))
    return 1.0 + z * (1.0 / 6 + z * (1.0 / 120 + z * (1.0 / 5040 + z * (1.0 / 362880 + z * s))))


@triton.jit
def _bin(level, mean, log_scale):
    """The probability as factor * e^exponent, and the derivatives of its logarithm by mean and log-scale."""
    is_clamped = log_scale <= _LEAST_LOG_SCALE
    clamped = tl.where(is_clamped, _LEAST_LOG_SCALE, log_scale)
    inverse = tl.exp(-clamped)
    centre = _value(level) - mean
    is_end = (level < 0.5) | (level > 254.5)
    towards_end = tl.where(level < 0.5, 1.0, -1.0).to(mean.dtype)
    sign = tl.where(centre < 0, -1.0, 1.0).to(mean.dtype)
    y = (0.5 * _BIN) * inverse
    p = centre * towards_end * inverse + y
    a = centre * sign * inverse
    u = tl.exp(tl.where(is_end, -tl.abs(p), -a))
    t = tl.exp(-y)
    ratio = tl.where(y < 0.5, _sinh_ratio(y), (1.0 - t * t) / (2.0 * y * t))
    ut = u * t
    q = 1.0 / tl.where(is_end, 1.0 + u, (1.0 + ut) * (t + u))
    pull = t * (1.0 - u * u) * q
    end_pull = tl.where(p < 0, 1.0, u) * q
    widening = t / ratio + y * t * (1.0 + 2.0 * ut + u * u) * q
    exponent = tl.where(is_end, tl.where(p < 0, p, 0.0), _LOG_BIN - clamped - a)
    factor = tl.where(is_end, q, t * ratio * q)
    by_mean = inverse * tl.where(is_end, -towards_end * end_pull, sign * pull)
    by_log_scale = tl.where(is_end, -p * end_pull, a * pull - widening)
    return exponent, factor, by_mean, tl.where(is_clamped, 0.0, by_log_scale)


@triton.jit
def _number(params, number, k, mixtures, channel, live, COMPUTE: tl.constexpr):
    at = (tl.cast(number, tl.int64) * mixtures + k) * channel
    return tl.load(params + at, live, 0.0).to(COMPUTE)


@triton.jit
def _add(exponent, factor, most, total):
    """To a sum of factor * e^exponent, kept as total * e^most."""
    rises = exponent > most
    e = tl.exp(tl.where(rises, most - exponent, exponent - most))
    return tl.where(rises, exponent, most), tl.where(rises, total * e + factor, total + factor * e)


@triton.jit
def _component(params, red, green, blue, k, mixtures, channel, live, COLOURS: tl.constexpr, COMPUTE: tl.constexpr):
    """Logit, exponent and factor; derivatives by mean and log-scale of each colour; slopes of the tangents."""
    logit = _number(params, 0, k, mixtures, channel, live, COMPUTE)
    mean = _number(params, 1, k, mixtures, channel, live, COMPUTE)
    log_scale = _number(params, 2, k, mixtures, channel, live, COMPUTE)
    exponent, factor, red_mean, red_scale = _bin(red, mean, log_scale)
    exponent += logit
    green_mean, green_scale, blue_mean, blue_scale = red_mean, red_scale, red_mean, red_scale
    slope_0, slope_1, slope_2 = red_mean, red_mean, red_mean
    if COLOURS == 3:
        on_red, slope_0 = _tanh(_number(params, 3, k, mixtures, channel, live, COMPUTE))
        mean = _number(params, 4, k, mixtures, channel, live, COMPUTE) + on_red * _value(red)
        log_scale = _number(params, 5, k, mixtures, channel, live, COMPUTE)
        more, times, green_mean, green_scale = _bin(green, mean, log_scale)
        exponent += more
        factor *= times
        on_red, slope_1 = _tanh(_number(params, 6, k, mixtures, channel, live, COMPUTE))
        on_green, slope_2 = _tanh(_number(params, 9, k, mixtures, channel, live, COMPUTE))
        mean = _number(params, 7, k, mixtures, channel, live, COMPUTE)
        mean += on_red * _value(red) + on_green * _value(green)
        log_scale = _number(params, 8, k, mixtures, channel, live, COMPUTE)
        more, times, blue_mean, blue_scale = _bin(blue, mean, log_scale)
        exponent += more
        factor *= times
    by_means, by_scales = (red_mean, green_mean, blue_mean), (red_scale, green_scale, blue_scale)
    return logit, exponent, factor, by_means, by_scales, (slope_0, slope_1, slope_2)


@triton.jit
def _levels(x, channel, live, COLOURS: tl.constexpr, HOLDS_LEVELS: tl.constexpr, COMPUTE: tl.constexpr):
    red = _level(x, live, HOLDS_LEVELS, COMPUTE)
    green, blue = red, red
    if COLOURS == 3:
        channel = tl.cast(channel, tl.int64)
        green = _level(x + channel, live, HOLDS_LEVELS, COMPUTE)
        blue = _level(x + 2 * channel, live, HOLDS_LEVELS, COMPUTE)
    return red, green, blue


@triton.jit
def _sums(
    params, red, green, blue, mixtures, channel, live,
    COLOURS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of the components' weights, and of those times the pixel's probabilities: each as total * e^most."""
    all_most = tl.full((BLOCK,), _LOWEST, COMPUTE)
    joint_most = tl.full((BLOCK,), _LOWEST, COMPUTE)
    all_total = tl.zeros((BLOCK,), COMPUTE)
    joint_total = tl.zeros((BLOCK,), COMPUTE)
    one = tl.full((BLOCK,), 1.0, COMPUTE)
    for k in range(mixtures):
        logit, exponent, factor, _, _, _ = _component(
            params, red, green, blue, k, mixtures, channel, live, COLOURS, COMPUTE
        )
        all_most, all_total = _add(logit, one, all_most, all_total)
        joint_most, joint_total = _add(exponent, factor, joint_most, joint_total)
    return all_most, all_total, joint_most, joint_total


@triton.jit
def nll_kernel(
    params, x, nll, pixels, height, width, mixtures,
    params_n, params_c, params_y, params_x, x_n, x_c, x_y, x_x,
    COLOURS: tl.constexpr, HOLDS_LEVELS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i, image, row, column, live = _place(tl.program_id(0), pixels, height, width, BLOCK)
    params += image * params_n + row * params_y + column * params_x
    x += image * x_n + row * x_y + column * x_x
    red, green, blue = _levels(x, x_c, live, COLOURS, HOLDS_LEVELS, COMPUTE)
    all_most, all_total, joint_most, joint_total = _sums(
        params, red, green, blue, mixtures, params_c, live, COLOURS, COMPUTE, BLOCK
    )
    tl.store(nll + i, (all_most + tl.log(all_total)) - (joint_most + tl.log(joint_total)), live)


@triton.jit
def _put(grad_params, number, k, mixtures, channel, value, live):
    at = (tl.cast(number, tl.int64) * mixtures + k) * channel
    tl.store(grad_params + at, value.to(grad_params.dtype.element_ty), live)


@triton.jit
def backward_kernel(
    grad, params, x, grad_params, pixels, height, width, mixtures, grad_n, grad_y, grad_x,
    params_n, params_c, params_y, params_x, x_n, x_c, x_y, x_x, out_n, out_c, out_y, out_x,
    COLOURS: tl.constexpr, HOLDS_LEVELS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Two passes over the components: their sum, then each one's share of it."""
    _, image, row, column, live = _place(tl.program_id(0), pixels, height, width, BLOCK)
    params += image * params_n + row * params_y + column * params_x
    grad_params += image * out_n + row * out_y + column * out_x
    x += image * x_n + row * x_y + column * x_x
    g = tl.load(grad + image * grad_n + row * grad_y + column * grad_x, live, 0.0)
    red, green, blue = _levels(x, x_c, live, COLOURS, HOLDS_LEVELS, COMPUTE)
    all_most, all_total, joint_most, joint_total = _sums(
        params, red, green, blue, mixtures, params_c, live, COLOURS, COMPUTE, BLOCK
    )
    for k in range(mixtures):
        logit, exponent, factor, by_means, by_scales, slopes = _component(
            params, red, green, blue, k, mixtures, params_c, live, COLOURS, COMPUTE
        )
        share = g * (tl.exp(exponent - joint_most) * factor / joint_total)
        _put(grad_params, 0, k, mixtures, out_c, g * (tl.exp(logit - all_most) / all_total) - share, live)
        _put(grad_params, 1, k, mixtures, out_c, -share * by_means[0], live)
        _put(grad_params, 2, k, mixtures, out_c, -share * by_scales[0], live)
        if COLOURS == 3:
            by_green, by_blue = -share * by_means[1], -share * by_means[2]
            _put(grad_params, 3, k, mixtures, out_c, by_green * _value(red) * slopes[0], live)
            _put(grad_params, 4, k, mixtures, out_c, by_green, live)
            _put(grad_params, 5, k, mixtures, out_c, -share * by_scales[1], live)
            _put(grad_params, 6, k, mixtures, out_c, by_blue * _value(red) * slopes[1], live)
            _put(grad_params, 7, k, mixtures, out_c, by_blue, live)
            _put(grad_params, 8, k, mixtures, out_c, -share * by_scales[2], live)
            _put(grad_params, 9, k, mixtures, out_c, by_blue * _value(green) * slopes[2], live)


def _constants(params: Tensor, x: Tensor, channels: int) -> dict[str, object]:
    return {
        "COLOURS": channels,
        "HOLDS_LEVELS": x.dtype == torch.uint8,
        "COMPUTE": tl.float64 if params.dtype == torch.float64 else tl.float32,
        "BLOCK": BLOCK,
    }


def _sizes(params: Tensor, colours: int) -> tuple[int, int, int, int]:
    """Pixels, height, width, mixtures."""
    batch, channels, height, width = params.shape
    return batch * height * width, height, width, channels // block_count(colours)


def mixture_logistics_nll(params: Tensor, x: Tensor, channels: int = 3) -> Tensor:
    """The loss of each pixel by Triton; the arguments have been checked."""
    batch, _, height, width = params.shape
    nll = params.new_empty((batch, height, width), dtype=compute_dtype(params.dtype))
    if nll.numel() > 0:
        nll_kernel[(triton.cdiv(nll.numel(), BLOCK),)](
            params, x, nll, *_sizes(params, channels), *params.stride(), *x.stride(), **_constants(params, x, channels)
        )
    return nll


def mixture_logistics_nll_backward(grad: Tensor, params: Tensor, x: Tensor, channels: int = 3) -> Tensor:
    """The gradient by Triton; the arguments have been checked."""
    grad_params = torch.empty_like(params)
    if grad.numel() > 0:
        backward_kernel[(triton.cdiv(grad.numel(), BLOCK),)](
            grad, params, x, grad_params, *_sizes(params, channels), *grad.stride(), *params.stride(), *x.stride(),
            *grad_params.stride(), **_constants(params, x, channels),
        )  # fmt: skip
    return grad_params


def _variants(dtype: str, colours: int) -> tuple[TritonVariant, ...]:
    """Contiguous arrays, whose last strides are 1; uint8 images."""
    compute = "fp64" if dtype == "fp64" else "fp32"
    constexprs = {
        "COLOURS": colours,
        "HOLDS_LEVELS": True,
        "COMPUTE": tl.float64 if dtype == "fp64" else tl.float32,
        "BLOCK": BLOCK,
        "params_x": 1,
        "x_x": 1,
    }
    sizes = {"pixels": "i32:16", "height": "i32:16", "width": "i32:16", "mixtures": "i32"}

    def strides(name: str, dims: str) -> dict[str, str]:
        return {f"{name}_{d}": "i32:16" for d in dims}

    params = {"params": f"*{dtype}:16", "x": "*u8:16"}
    common = {**strides("params", "ncy"), **strides("x", "ncy")}
    forward = {**params, "nll": f"*{compute}:16", **sizes, **common}
    backward = {
        "grad": f"*{compute}:16", **params, "grad_params": f"*{dtype}:16", **sizes,
        **strides("grad", "ny"), **common, **strides("out", "ncy"),
    }  # fmt: skip
    of_backward = {**constexprs, "grad_x": 1, "out_x": 1}
    return (
        TritonVariant(f"nll_kernel<{dtype}, {colours} colours>", nll_kernel, forward, constexprs),
        TritonVariant(f"backward_kernel<{dtype}, {colours} colours>", backward_kernel, backward, of_backward),
    )


KERNELS = tuple(
    variant for dtype in ("fp32", "fp64", "fp16", "bf16") for colours in (3, 1) for variant in _variants(dtype, colours)
)
