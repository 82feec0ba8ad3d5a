"""Inputs of the room's operator: programs of small models, planned from their graphs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..._samples import ErrorSample, Sample, Tolerances
from ...nn.masked_conv import GatedMaskedConv2d, MaskedConv2d
from ...nn.mixture import Bernoulli, MixtureLogistics, Softmax256
from ..mixture.reference import pixel_noise
from . import reference
from .orders import to_lines
from .plan import make_plan
from .program import Head, Program, encode


class Gated(nn.Module):
    """Two stacks, with skips where the head sees those alone."""

    def __init__(self, head: Any, features: int, ordering: str = "raster", skips: int | None = None, **options: Any):
        super().__init__()
        groups = options.get("channel_groups", 1)
        options |= {"ordering": ordering, "skip_channels": skips}
        first = GatedMaskedConv2d("A", head.channels, features, 3, **options)
        self.layers = nn.ModuleList([first, GatedMaskedConv2d("B", features, features, 3, **options)])
        last = {"channel_groups": groups, "ordering": ordering}
        self.out = MaskedConv2d("B", skips or features, head.params_per_pixel, 1, **last)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        vertical = horizontal = x
        skipped: Any = 0.0
        for layer in self.layers:
            vertical, horizontal, *skip = layer(vertical, horizontal, condition)
            skipped = skip[0] + skipped if skip else skipped
        return self.out(torch.relu(skipped if skip else horizontal))


class Joined(nn.Module):
    """What users write by hand: a sum, a product, three joined, a half, 1 x 1 convolutions without a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d("A", 1, 4, 3)
        self.second = MaskedConv2d("B", 4, 4, 3, activation="elu")
        self.mixed = nn.Conv2d(12, 6, 1)
        self.last = nn.Conv2d(3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = torch.tanh(self.second(a)) * 0.5 + a
        half, other = self.mixed(torch.cat((a, b, a * torch.sigmoid(b)), 1)).chunk(2, 1)
        return self.last(half * other)


def _stack(first: int, groups: int, outputs: int, last_size: int = 3, **options: Any) -> nn.Sequential:
    options |= {"channel_groups": groups}
    last = MaskedConv2d("B", 6, outputs, last_size, **options)
    return nn.Sequential(MaskedConv2d("A", first, 6, 3, **options), nn.ReLU(), last)


def _doubled(outputs: int) -> nn.Sequential:
    first = MaskedConv2d("A", 3, 4, 3, activation="concat_elu")
    return nn.Sequential(first, MaskedConv2d("B", 8, 4, 3), nn.ELU(), MaskedConv2d("B", 4, outputs, 1))


@cache
def _weights(count: int, phase: int) -> Tensor:
    return torch.cos(torch.arange(count, dtype=torch.float64) * (1.3 + 0.1 * phase)) * 0.7


def with_fixed_weights(model: nn.Module) -> nn.Module:
    """The model in float64, of the same weights wherever it is made."""
    model = model.double().eval()
    for phase, parameter in enumerate(model.parameters()):
        parameter.data = _weights(parameter.numel(), phase).view(parameter.shape).clone()
    return model


def _models() -> Iterator[tuple[str, nn.Module, Any, tuple[int, int, int], dict[str, Any]]]:
    """Name, model, head, image and what else the sample wants."""
    three = Bernoulli(3)
    yield "colours", _stack(3, 3, 3), three, (3, 3, 4), {}
    yield "no colours apart", _stack(3, 1, 3), three, (3, 4, 3), {}
    yield "columns", _stack(3, 3, 3, ordering="columns_flip_y"), three, (3, 4, 2), {}
    yield "one pixel", _stack(1, 1, 1), Bernoulli(), (1, 1, 1), {"images": 1}
    yield "no images", _stack(3, 3, 3), three, (3, 3, 4), {"images": 0}
    yield "dilated", _stack(1, 1, 1, dilation=2), Bernoulli(), (1, 5, 6), {}
    yield "softmax", _stack(1, 1, 256, last_size=1), Softmax256(1), (1, 3, 3), {"temperature": 0.8}
    yield "softmax of colours", _stack(3, 3, 768, last_size=1), Softmax256(3), (3, 2, 3), {}
    yield "mixture", _doubled(30), MixtureLogistics(3, 3), (3, 3, 3), {}
    yield "mixture, one colour", _stack(1, 1, 6), MixtureLogistics(2, 1), (1, 3, 4), {"temperature": 1.5}
    yield "gated", Gated(Bernoulli(), 4), Bernoulli(), (1, 4, 5), {}
    condition = torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=torch.float64)
    gated = Gated(three, 6, "raster_flip_x", 3, channel_groups=3, condition_size=2)
    yield "gated with all", gated, three, (3, 3, 3), {"condition": condition}
    yield "joined", Joined(), Bernoulli(), (1, 4, 4), {}
    yield "later lines", _stack(3, 3, 3), three, (3, 5, 4), {"first": 2, "count": 2}
    yield "no lines", _stack(3, 3, 3), three, (3, 3, 4), {"count": 0}
    yield "given", _stack(3, 3, 3), three, (3, 3, 4), {"given": True, "keep_params": False}
    yield "many images", _stack(1, 1, 1), Bernoulli(), (1, 2, 3), {"images": 19}


def _arguments(
    model: nn.Module,
    head: Any,
    shape: tuple[int, int, int],
    images: int = 2,
    temperature: float = 1.0,
    condition: Tensor | None = None,
    first: int = 0,
    count: int | None = None,
    given: bool = False,
    keep_params: bool = True,
) -> list[Any]:
    model = with_fixed_weights(model)
    plan, ordering = make_plan(model, head, images, shape, torch.float64, condition)
    p = plan.program
    noise = pixel_noise(5, images, shape[0] + (p.head == Head.MIXTURE), *shape[1:], torch.device("cpu"))
    noise = to_lines(noise, ordering)
    levels = torch.arange(images * math.prod(shape)).view(images, *shape) % 2
    levels = to_lines(levels, ordering).to(torch.uint8)
    known = torch.zeros_like(levels, dtype=torch.bool)
    if given:
        known[:, :, ::2] = True
    state = torch.zeros(p.state_numel(images), dtype=torch.float64)
    levels, noise, tensors, numbers = levels.contiguous(), noise.contiguous(), list(plan.tensors), encode(p)
    if first:
        levels, state, _ = reference.pixel_sampling_lines(
            levels, known, noise, state, tensors, numbers, 0, first, temperature
        )
    count = p.lines - first if count is None else count
    return [levels, known, noise, state, tensors, numbers, first, count, temperature, keep_params]


@cache
def _cases() -> tuple[tuple[str, tuple[Any, ...]], ...]:
    return tuple((name, tuple(_arguments(*of, **more))) for name, *of, more in _models())


def _in_dtype(args: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    levels, given, noise, state, tensors, *rest = args
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return levels, given, noise, state.to(wide), [t.to(dtype) for t in tensors], *rest


def _with_nan(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Later pixels of the first image alone become NaN: the level of one is 0."""
    levels, given, noise, state, tensors, *rest = args
    last = tensors[-2].clone()
    last[0, 0, 0] = math.nan
    return levels, given, noise, state, [*tensors[:-2], last, tensors[-1]], *rest


def _strided(args: tuple[Any, ...]) -> tuple[Any, ...]:
    levels, given, noise, state, tensors, *rest = args
    tensors = [t.transpose(0, -1).contiguous().transpose(0, -1) for t in tensors]
    return levels[:1].expand(levels.shape), given, noise, state, tensors, *rest


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    found = [Sample(name, _in_dtype(args, dtype)) for name, args in _cases()]
    return [
        *found,
        Sample("NaN among the weights", _with_nan(found[0].args)),
        Sample("strided", _strided(found[0].args)),
    ]


def _with(args: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return *args[:place], value, *args[place + 1 :]


def plainest_program() -> Program:
    args = _cases()[0][1]
    return reference.decode(args[5])


def _programs(p: Program) -> Iterator[tuple[str, Program, str]]:
    convolution, *others = p.instructions
    tap = convolution.taps[0]

    def changed(**of: Any) -> Program:
        return replace(p, instructions=(replace(convolution, **of), *others))

    yield "tap ahead", changed(taps=(replace(tap, line=1), *convolution.taps[1:])), "a tap looks ahead"
    yield "tap at a lost line", changed(taps=(replace(tap, line=-9), *convolution.taps[1:])), "at what is not kept"
    yield "weight", changed(weight=99), "a convolution has no weight"
    yield "taps", changed(taps=convolution.taps[1:]), "a weight has another shape"
    yield "input", changed(inputs=(99,)), "an input is no value"
    yield "head", replace(p, head=Head.SOFTMAX), "its params are not the head's"
    yield "more lines", replace(p, lines=p.lines + 1), "levels have another shape"


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    args = _in_dtype(_cases()[0][1], torch.float32)
    levels, given, noise, state, tensors, numbers, *_ = args
    found = [
        ErrorSample("rank of levels", _with(args, 0, levels[0]), r"levels must be \[N, C, lines, pixels\], got \[3"),
        ErrorSample("dtype of levels", _with(args, 0, levels.int()), "levels must be uint8, got torch.int32"),
        ErrorSample("dtype of given", _with(args, 1, levels), "given must be bool, got torch.uint8"),
        ErrorSample("shape of given", _with(args, 1, given[1:]), r"given must have the shape of levels"),
        ErrorSample("dtype of noise", _with(args, 2, noise.double()), "noise must be float32, got torch.float64"),
        ErrorSample("shape of noise", _with(args, 2, noise[1:]), "program must be one .* but noise has another shape"),
        ErrorSample("half state", _with(args, 3, state.half()), "state must be float32 or float64, got torch.fl"),
        ErrorSample("size of state", _with(args, 3, state[1:]), "but state has another size"),
        ErrorSample("dtype of a tensor", _with(args, 4, [tensors[0].int(), *tensors[1:]]), r"tensors\[0\] must be fl"),
        ErrorSample("no tensors", _with(args, 4, []), "but a convolution has no weight"),
        ErrorSample("short program", _with(args, 5, numbers[:-1]), "but it ends early"),
        ErrorSample("long program", _with(args, 5, [*numbers, 0]), "but it goes on behind its end"),
        ErrorSample("no program", _with(args, 5, []), "but it ends early"),
        ErrorSample("lines", _with(args, 6, 1), r"lines \[1, 4\) must lie in \[0, 3\)"),
        ErrorSample("negative line", _with(args, 6, -1), r"lines \[-1, 2\) must lie in"),
        ErrorSample("temperature", _with(args, 8, 0.0), "temperature must be positive, got 0"),
        ErrorSample("temperature NaN", _with(args, 8, math.nan), "temperature must be positive, got nan"),
    ]
    programs = _programs(plainest_program())
    return found + [ErrorSample(name, _with(args, 5, encode(p)), message) for name, p, message in programs]


def tolerances(op_name: str) -> Tolerances:
    """Weights of 16 bits are exact in the fp32 that is computed in."""
    floor = dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), 2e-6)
    return Tolerances(floor={torch.float64: 1e-13, **floor})
