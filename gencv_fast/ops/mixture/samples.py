"""Inputs of the room."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..._samples import ErrorSample, Sample, Tolerances
from . import reference


def _params(batch: int, mixtures: int, height: int, width: int, channels: int = 3) -> Tensor:
    """As of a network in training: means all over the range, scales of a few to a hundred levels."""
    generator = torch.Generator().manual_seed(batch + mixtures + height + width)
    params = torch.randn(batch, 10 if channels == 3 else 3, mixtures, height, width, generator=generator).double()
    params[:, 1::3] *= 0.5
    params[:, 2::3] = params[:, 2::3] - 2
    return params.flatten(1, 2)


def _levels(batch: int, height: int, width: int, channels: int = 3) -> Tensor:
    """Every fifth level is at an end of the range."""
    generator = torch.Generator().manual_seed(height)
    levels = torch.randint(0, 320, (batch, channels, height, width), generator=generator) - 32
    return levels.clamp(0, 255).to(torch.uint8)


def _values(levels: Tensor) -> Tensor:
    return levels.double() / 127.5 - 1


def _pair(batch: int, mixtures: int, height: int, width: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    return _params(batch, mixtures, height, width, channels), _levels(batch, height, width, channels)


def _plain() -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """All tensors have sizes above 1, and three colours."""
    yield "plain", _pair(2, 2, 3, 4)
    yield "other sizes", _pair(2, 3, 2, 5)
    yield "more components", _pair(3, 4, 2, 2)


def _others() -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    yield "one pixel", _pair(1, 1, 1, 1)
    yield "one colour, one pixel", _pair(1, 2, 1, 2, 1)
    yield "one colour", _pair(2, 5, 4, 4, 1)
    for channels in (1, 3):
        params, levels = _pair(2, 2, 3, 3, channels)
        yield f"numbers, {channels} colours", (params, _values(levels))
        outside = _values(levels)
        outside[0] *= 1.5
        yield f"numbers outside, {channels} colours", (params, outside)
        for level in (0, 1, 254, 255):
            yield f"level {level}, {channels} colours", (params, torch.full_like(levels, level))
    params, levels = _pair(2, 2, 3, 4)
    last = torch.channels_last
    yield "channels last", (params.contiguous(memory_format=last), levels.contiguous(memory_format=last))
    yield "transposed", (params.mT.contiguous().mT, levels.mT.contiguous().mT)
    yield "every second", (_params(2, 2, 6, 8)[..., ::2, ::2], _levels(2, 6, 8)[..., ::2, ::2])
    yield "expanded", (params[:1].expand(2, 20, 3, 4), levels[:1].expand(2, 3, 3, 4))
    yield "rows apart", (_params(2, 2, 3, 80)[..., :70], _levels(2, 3, 80)[..., :70])
    yield "several blocks", _pair(2, 5, 9, 17)
    yield "one colour, several blocks", _pair(2, 3, 19, 11, 1)
    yield "many", _pair(3, 10, 33, 31)


def _empty() -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    yield "no images", _pair(0, 2, 3, 4)
    yield "no rows", _pair(2, 2, 0, 4)
    yield "no columns, one colour", _pair(2, 2, 3, 0, 1)


def _extreme() -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    params, levels = _pair(2, 2, 3, 4)
    for log_scale in (-100.0, -7.0, -6.5, 0.0, 40.0, 100.0):
        changed = params.unflatten(1, (10, 2)).clone()
        changed[:, 2::3] = log_scale
        yield f"log-scales {log_scale}", (changed.flatten(1, 2), levels)
    changed = params.unflatten(1, (10, 2)).clone()
    changed[:, 2::3, :, 0] = -100
    changed[:, 2::3, :, 1] = 100
    yield "log-scales of all sizes", (changed.flatten(1, 2), levels)
    yield "far means", (20 * params, levels)


def _special() -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    params, levels = _pair(2, 2, 3, 4)
    broken = params.clone()
    for channel in range(0, 20, 2):
        broken.view(2, 20, 12)[0, channel, channel // 2] = math.nan
    yield "NaN", (broken, levels)
    values = _values(levels)
    values[0, 1, 0, 0] = math.nan
    yield "NaN among the numbers", (params, values)
    impossible = params.clone()
    impossible[:, 0] = -math.inf
    yield "an impossible component", (impossible, levels)


def _losses() -> Iterator[tuple[str, tuple[Any, ...], bool, bool]]:
    """Name, arguments, exportable, differentiable."""
    for cases, exportable, differentiable in (
        (_plain, True, True),
        (_others, False, True),
        (_empty, False, True),
        (_extreme, False, True),
        (_special, False, False),
    ):
        for name, (params, x) in cases():
            yield name, (params, x, x.shape[1]), exportable, differentiable


def _noise(params: Tensor, channels: int, seed: int = 5) -> Tensor:
    batch, _, height, width = params.shape
    return reference.pixel_noise(seed, batch, 1 + channels, height, width, params.device)


def _draws() -> Iterator[tuple[str, tuple[Any, ...], bool, bool]]:
    for name, (params, _) in _plain():
        yield f"{name}, noise", (params, 3, 0, 1.0, _noise(params, 3)), True, True
    for cases in (_plain, _others, _empty, _extreme, _special):
        for name, (params, x) in cases():
            yield name, (params, x.shape[1], 11), False, True
    params = _params(2, 2, 3, 4)
    for temperature in (0.25, 3.0):
        yield f"temperature {temperature}", (params, 3, 3, temperature), False, True
    for seed in (-1, 2**63 - 1, 2**32 + 5):
        yield f"seed {seed}", (params, 3, seed), False, True
    strided = _noise(_params(2, 2, 6, 8), 3)[..., ::2, ::2]
    yield "strided noise", (params, 3, 0, 1.0, strided), False, True
    gray = _params(2, 3, 3, 4, 1)
    yield "noise, one colour", (gray, 1, 0, 0.5, _noise(gray, 1)), True, True


def _converted(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.dtype == torch.float64 else value


def _with_gradient(sample: Sample) -> Sample:
    batch, _, height, width = sample.args[0].shape
    grad = torch.cos(1.7 * torch.arange(batch * height * width, dtype=torch.float64)).view(batch, height, width)
    return replace(sample, args=(grad.to(reference.compute_dtype(sample.args[0].dtype)), *sample.args))


def _with_nan(sample: Sample) -> Sample:
    grad, *rest = sample.args
    return replace(sample, name="NaN among the gradients", args=(torch.where(grad > 0.9, math.nan, grad), *rest))


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    cases = _draws() if op_name == "mixture_logistics_sample" else _losses()
    found = [
        Sample(name, tuple(_converted(a, dtype) for a in args), exportable, differentiable)
        for name, args, exportable, differentiable in cases
    ]
    if op_name != "mixture_logistics_nll_backward":
        return found
    found = [_with_gradient(s) for s in found if s.differentiable]
    return [*found, _with_nan(found[0])]


def _error_pairs() -> Iterator[tuple[str, tuple[Tensor, Tensor, int], str]]:
    params, levels = _params(2, 2, 3, 4).float(), _levels(2, 3, 4)
    yield "channels", (params, levels, 2), "channels must be 1 or 3, got 2"
    yield "dtype of params", (params.int(), levels, 3), "params must be float16, .* got torch.int32"
    yield "rank of params", (params[0], levels, 3), r"params must be \[N, C, H, W\], got \[20, 3, 4\]"
    yield "blocks", (params[:, :-1], levels, 3), "a multiple of 10 channels where channels is 3, got 19"
    yield "no mixtures", (params[:, :0], levels, 3), "multiple of 10 channels where channels is 3, got 0"
    yield "blocks of one colour", (params, levels[:, :1], 1), "a multiple of 3 channels where channels is 1, got 20"
    yield "dtype of x", (params, levels.double(), 3), r"uint8 or have the dtype of params \(torch.float32\), got"
    yield "rank of x", (params, levels[0], 3), r"x must have the shape of the image .* got \[3, 3, 4\]"
    yield "size of x", (params, levels[..., 1:], 3), r"the image \(\[2, 3, 3, 4\]\), got \[2, 3, 3, 3\]"


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    params = _params(2, 2, 3, 4).float()
    noise = _noise(params, 3)
    if op_name == "mixture_logistics_sample":
        return [
            ErrorSample("channels", (params, 2), "channels must be 1 or 3, got 2"),
            ErrorSample("temperature", (params, 3, 0, 0.0), "temperature must be positive, got 0"),
            ErrorSample("temperature NaN", (params, 3, 0, math.nan), "temperature must be positive, got nan"),
            ErrorSample("dtype of params", (params.int(),), "params must be float16, .* got torch.int32"),
            ErrorSample("rank of params", (params[0],), r"params must be \[N, C, H, W\], got \[20, 3, 4\]"),
            ErrorSample("channels of params", (params, 1), "a multiple of 3 channels where channels is 1, got 20"),
            ErrorSample("dtype of noise", (params, 3, 0, 1.0, noise.double()), "noise must be float32, got torch.fl"),
            ErrorSample("size of noise", (params, 3, 0, 1.0, noise[:, 1:]), r"\(\[2, 4, 3, 4\]\), got \[2, 3, 3, 4\]"),
        ]
    pairs = list(_error_pairs())
    if op_name == "mixture_logistics_nll":
        return [ErrorSample(*case) for case in pairs]
    plane, levels = torch.zeros(2, 3, 4), _levels(2, 3, 4)
    return [
        *(ErrorSample(name, (plane, *args), message) for name, args, message in pairs),
        ErrorSample("dtype of grad", (plane.half(), params, levels), "grad must have the dtype of the loss"),
        ErrorSample("shape of grad", (plane[..., 1:], params, levels), r"the loss \(\[2, 3, 4\]\), got \[2, 3, 3\]"),
    ]


def tolerances(op_name: str) -> Tolerances:
    """Levels are the same on every backend: logarithms and exponentials are made of rounded operations."""
    return Tolerances(exact=op_name == "mixture_logistics_sample")
