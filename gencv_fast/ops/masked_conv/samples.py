"""Inputs of the room."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._samples import ErrorSample, Sample, Tolerances
from .taps import tap_rules


def _normal(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + len(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _case(
    images: int,
    channels: int,
    out: int,
    size: tuple[int, int],
    kernel: tuple[int, int] = (3, 3),
    mask_type: str = "B",
    groups: int = 1,
    ordering: str = "raster",
    order: int | None = None,
    activation: str = "none",
    dilation: tuple[int, int] = (1, 1),
    shift: tuple[int, int] = (0, 0),
    bias: bool = True,
    condition: str = "",
) -> tuple[Any, ...]:
    shapes = {"": None, "image": (images, out), "pixel": (images, out, *size)}
    shape = shapes[condition]
    return (
        _normal(images, channels, *size),
        0.3 * _normal(out, channels, *kernel),
        _normal(out) if bias else None,
        None if shape is None else _normal(*shape),
        tap_rules(mask_type, kernel, ordering, order),
        groups,
        2 if activation == "gate" else 1,
        list(dilation),
        list(shift),
        activation,
    )


def _with(case: tuple[Any, ...], **changed: Any) -> tuple[Any, ...]:
    names = ("input", "weight", "bias", "condition", "taps", "groups", "halves", "dilation", "shift", "activation")
    return tuple(changed.get(name, value) for name, value in zip(names, case, strict=True))


def _special(case: tuple[Any, ...]) -> tuple[Any, ...]:
    """At hidden places of every kind, and in an image's corner, whence it spreads to those who see it."""
    input, weight = case[0].clone(), case[1].clone()
    input[0, :, -1, -1] = torch.nan
    input[0, 0, -1, 0] = torch.inf
    weight[:, :, -1] = torch.nan
    return _with(case, input=input, weight=weight)


def _cases() -> dict[str, tuple[Any, ...]]:
    plain = _case(2, 4, 6, (5, 6))
    colours = _case(2, 6, 9, (4, 5), groups=3)
    return {
        "B": plain,
        "A with colours": _case(2, 3, 6, (4, 5), mask_type="A", groups=3),
        "gate": _case(2, 3, 8, (4, 5), activation="gate"),
        "small": _case(1, 2, 1, (2, 2), (2, 2), bias=False),
        "B with colours": colours,
        "gate with colours": _case(1, 3, 12, (3, 4), groups=3, activation="gate", condition="image"),
        "condition of pixels": _case(2, 3, 4, (4, 5), activation="gate", condition="pixel"),
        "small gate": _case(1, 1, 2, (2, 2), (1, 3), "horizontal_B", activation="gate", condition="image"),
        "small with colours": _case(1, 2, 2, (1, 3), (1, 3), groups=2, mask_type="A", bias=False),
        "relu": _case(2, 4, 6, (5, 6), activation="relu"),
        "elu": _case(2, 4, 6, (5, 6), activation="elu", condition="image"),
        "concat_elu": _case(2, 4, 6, (5, 6), activation="concat_elu"),
        "vertical_A": _case(1, 3, 4, (5, 4), mask_type="vertical_A"),
        "vertical_B, a row down": _case(1, 3, 4, (5, 4), mask_type="vertical_B", shift=(1, 0)),
        "horizontal_A": _case(1, 3, 4, (4, 5), (1, 3), mask_type="horizontal_A"),
        "horizontal_B": _case(1, 6, 3, (4, 5), (1, 5), mask_type="horizontal_B", groups=3),
        "flipped": _case(1, 3, 4, (5, 4), ordering="raster_flip_xy", mask_type="A"),
        "columns": _case(1, 3, 4, (5, 4), ordering="columns_flip_x", mask_type="A"),
        "order 1": _case(1, 3, 4, (5, 6), (5, 5), order=1, mask_type="A"),
        "dilated": _case(1, 3, 5, (9, 8), dilation=(2, 3)),
        "even kernel": _case(1, 3, 5, (5, 6), (2, 4)),
        "one tap": _case(2, 5, 7, (4, 3), (1, 1)),
        "shifted by more than the map": _case(1, 2, 3, (4, 3), (1, 1), shift=(1, -5)),
        "kernel wider than the map": _case(1, 2, 3, (2, 2), (7, 9)),
        "nothing seen": _case(1, 2, 3, (4, 3), (1, 1), mask_type="A"),
        "many channels": _case(1, 70, 68, (5, 7), (3, 3)),
        "many channels with colours": _case(1, 51, 66, (5, 7), groups=3),
        "several tiles": _case(3, 17, 20, (19, 18), (5, 5)),
        "no images": _case(0, 3, 4, (4, 5)),
        "no pixels": _case(2, 3, 4, (0, 5)),
        "no input channels": _case(2, 0, 4, (4, 5)),
        "no output channels": _case(2, 3, 0, (4, 5)),
        "channels last": _with(plain, input=plain[0].to(memory_format=torch.channels_last)),
        "channels last weight": _with(colours, weight=colours[1].to(memory_format=torch.channels_last)),
        "transposed": _with(plain, input=_normal(2, 4, 6, 5).transpose(2, 3)),
        "zero strides": _with(plain, input=_normal(1, 4, 1, 1).expand(2, 4, 5, 6)),
        "special values": _special(colours),
    }


def _typed(case: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    return tuple(a.to(dtype) if isinstance(a, Tensor) else a for a in case)


def _like(maps: Tensor, channels: int) -> Tensor:
    """Finite, of either sign, in the layout of the maps where that is channels_last."""
    grad = torch.cos(_normal(maps.shape[0], channels, *maps.shape[2:]) * 2)
    last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
    return grad.to(memory_format=torch.channels_last) if last else grad


def _args(op_name: str, case: tuple[Any, ...]) -> tuple[Any, ...]:
    input, weight, _, _, taps, *geometry, _ = case
    if op_name == "masked_conv2d_grad_input":
        return _like(input, len(weight)), weight, taps, *geometry
    if op_name == "masked_conv2d_grad_weight":
        return _like(input, len(weight)), input, taps, list(weight.shape[2:]), *geometry
    return case


def _gate_cases() -> dict[str, tuple[Tensor, Tensor | None]]:
    special = 30 * _normal(2, 6, 3, 5)
    special[0, 0] = torch.nan
    special[1, 1, 0] = torch.inf
    special[1, 1, 1] = -torch.inf
    special[1, 4, 2] = torch.inf
    return {
        "even": (_normal(2, 6, 4, 5), None),
        "condition of images": (_normal(2, 6, 3, 5), _normal(2, 6)),
        "condition of pixels": (_normal(2, 4, 4, 6), _normal(2, 4, 4, 6)),
        "small": (_normal(1, 2, 2, 3), _normal(1, 2)),
        "wide": (_normal(1, 10, 9, 33), _normal(1, 10)),
        "plane of several runs": (_normal(1, 2, 23, 47), _normal(1, 2, 23, 47)),
        "pixel of several runs": (_normal(1, 1100, 1, 2).to(memory_format=torch.channels_last), _normal(1, 1100)),
        "large values": (20 * _normal(2, 4, 3, 5), None),
        "no images": (_normal(0, 4, 3, 5), None),
        "no channels": (_normal(2, 0, 3, 5), None),
        "channels last": (_normal(2, 6, 4, 5).to(memory_format=torch.channels_last), _normal(2, 6)),
        "transposed": (_normal(2, 6, 5, 4).transpose(2, 3), _normal(2, 6, 5, 4).transpose(2, 3)),
        "zero strides": (_normal(1, 6, 1, 1).expand(2, 6, 4, 5), None),
        "special values": (special, None),
    }


def _gate_args(op_name: str, case: tuple[Tensor, Tensor | None]) -> tuple[Any, ...]:
    input = case[0]
    return case if op_name == "gated_activation" else (_like(input, input.shape[1] // 2), *case)


_NOT_EXPORTABLE = ("special values", "no images", "no pixels", "no input channels", "no output channels")
_NOT_DIFFERENTIABLE = ("special values",)


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    if op_name.startswith("gated_activation"):
        cases = {name: _gate_args(op_name, case) for name, case in _gate_cases().items()}
    else:
        cases = {name: _args(op_name, case) for name, case in _cases().items()}
    return [
        Sample(
            name,
            _typed(args, dtype),
            exportable=name not in (*_NOT_EXPORTABLE, "no channels") and dtype != torch.float64,
            differentiable=name not in _NOT_DIFFERENTIABLE,
        )
        for name, args in cases.items()
    ]


def _geometry_errors(args: tuple[Any, ...], at: int) -> list[tuple[str, tuple[Any, ...], str]]:
    """``at``: where the taps stand; what is left out of the others' places is named by how far behind."""
    rest = at if len(args) - at < 6 or isinstance(args[-1], str) else at + 1

    def put(place: int, value: Any) -> tuple[Any, ...]:
        return (*args[:place], value, *args[place + 1 :])

    return [
        ("number of taps", put(at, [1, 1]), r"taps must be 3 \* 3 numbers from 0 to 3, got 2 numbers"),
        ("tap", put(at, [1] * 8 + [4]), r"taps must be 3 \* 3 numbers from 0 to 3, got 4"),
        ("groups", put(rest + 1, 0), "channel_groups must be positive, got 0"),
        ("groups of channels", put(rest + 1, 5), r"channels that channel_groups \(5\) divides, got 4"),
        ("halves", put(rest + 2, 3), "halves must be 1 or 2, got 3"),
        ("dilation", put(rest + 3, [1, 0]), r"dilation must be two positive numbers, got \[1, 0\]"),
        ("dilations", put(rest + 3, [1]), r"dilation must be two positive numbers, got \[1\]"),
        ("shift", put(rest + 4, [1]), r"shift must be two numbers, got \[1\]"),
    ]


def _conv_errors() -> list[tuple[str, tuple[Any, ...], str]]:
    args = _typed(_case(2, 4, 6, (5, 6)), torch.float32)
    input, weight, bias = args[:3]
    shape = r"condition must be \[2, 6\] or \[2, 6, 5, 6\], got"
    wide = _with(args, weight=torch.zeros(2, 4, 33, 33), bias=None, taps=[1] * 1089)
    colours = _typed(_case(1, 3, 6, (2, 2), groups=3), torch.float32)
    return [
        ("rank of input", _with(args, input=input[0]), r"input must be \[N, C, H, W\], got \[4, 5, 6\]"),
        ("dtype of input", _with(args, input=input.long()), "input must be float16, .* got torch.int64"),
        ("dtype of weight", _with(args, weight=weight.double()), "weight must have the dtype of input"),
        ("rank of weight", _with(args, weight=weight[0]), r"weight must be \[out, in, rows, columns\] .* \[4, 3, 3\]"),
        ("no taps", _with(args, weight=weight[:, :, :0]), r"with rows and columns, got \[6, 4, 0, 3\]"),
        ("channels of weight", _with(args, weight=weight[:, 1:]), r"input channels as input \(4\), got 3"),
        ("dtype of bias", _with(args, bias=bias.half()), "bias must have the dtype of input"),
        ("shape of bias", _with(args, bias=bias[1:]), r"bias must be one number .* \(\[6\]\), got \[5\]"),
        ("rank of bias", _with(args, bias=bias[None]), r"bias must be one number .* \(\[6\]\), got \[1, 6\]"),
        ("dtype of condition", _with(args, condition=torch.zeros(2, 6).half()), "condition must have the dtype"),
        ("rank of condition", _with(args, condition=torch.zeros(2, 6, 1)), rf"{shape} \[2, 6, 1\]"),
        ("shape of condition", _with(args, condition=torch.zeros(2, 5)), rf"{shape} \[2, 5\]"),
        ("too many taps", wide, "taps must show at most 512 places, got 1089"),
        ("groups of output", _with(args, groups=4), r"channel_groups \* halves \(4\) divides, got 6"),
        ("activation", _with(args, activation="swish"), "activation must be one of none, relu, .*, got 'swish'"),
        ("gate of one half", _with(args, activation="gate"), "halves must be 2 before a gate, got 1"),
        ("concat_elu of colours", _with(colours, activation="concat_elu"), "mixes the colours .* got 3"),
        *_geometry_errors(args, 4),
    ]


def _errors(op_name: str) -> list[tuple[str, tuple[Any, ...], str]]:
    if op_name == "masked_conv2d":
        return _conv_errors()
    case = _typed(_case(2, 4, 6, (5, 6)), torch.float32)
    args = _typed(_args(op_name, case), torch.float32)
    grad, other, *rest = args
    maps = ("rank of grad", (grad[0], other, *rest), r"grad must be \[N, C, H, W\], got \[6, 5, 6\]")
    if op_name == "masked_conv2d_grad_input":
        return [
            maps,
            ("dtype of weight", (grad, other.double(), *rest), "weight must have the dtype of grad"),
            ("channels of weight", (grad, other[1:], *rest), r"output channels as grad \(6\), got 5"),
            *_geometry_errors(args, 2),
        ]
    if op_name == "masked_conv2d_grad_weight":
        return [
            maps,
            ("dtype of input", (grad, other.double(), *rest), "input must have the dtype of grad"),
            ("rank of input", (grad, other[0], *rest), r"input must be \[N, C, H, W\], got \[4, 5, 6\]"),
            ("images of input", (grad, other[:1], *rest), r"pixels of grad \(\[2, C, 5, 6\]\), got \[1, 4, 5, 6\]"),
            ("kernel", (grad, other, rest[0], [3], *rest[2:]), r"kernel_size must be two positive .* \[3\]"),
            (
                "empty kernel",
                (grad, other, rest[0], [3, 0], *rest[2:]),
                r"kernel_size must be two positive .* \[3, 0\]",
            ),
            *_geometry_errors(args, 2),
        ]
    input = _normal(2, 6, 4, 5).float()
    found = [
        ("rank of input", (input[0], None), r"input must be \[N, C, H, W\], got \[6, 4, 5\]"),
        ("dtype of input", (input.long(), None), "input must be float16, .* got torch.int64"),
        ("halves", (input[:, 1:], None), r"input must have two halves of channels, got \[2, 5, 4, 5\]"),
        ("condition", (input, input[:, 0, 0]), r"condition must be \[2, 6\] or \[2, 6, 4, 5\], got \[2, 5\]"),
        ("dtype of condition", (input, input.double()), "condition must have the dtype of input"),
    ]
    if op_name == "gated_activation":
        return found
    grad = input[:, :3]
    return [
        *((name, (grad, *call), message) for name, call, message in found),
        ("dtype of grad", (grad.half(), input, None), "grad must have the dtype of input"),
        ("shape of grad", (input, input, None), r"shape of the output \(\[2, 3, 4, 5\]\), got \[2, 6, 4, 5\]"),
    ]


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    return [ErrorSample(name, args, message) for name, args, message in _errors(op_name)]


def tolerances(op_name: str) -> Tolerances:
    """Backward through a gate reads sums that were rounded to the dtype, which the reference keeps in fp32."""
    found = Tolerances()
    rounded = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
    return Tolerances(floor={**found.floor, **rounded}) if op_name == "masked_conv2d" else found
