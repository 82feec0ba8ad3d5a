"""Inputs of spatial pyramid pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...._samples import ErrorSample, Sample, Tolerances

SPP = [1, 2, 3, 6]


def _maps(*shape: int) -> Tensor:
    """Distinct numbers, in fp16 and bf16 too as far as there are as many: so that maxima have no ties."""
    generator = torch.Generator().manual_seed(sum(shape))
    count = torch.Size(shape).numel()
    return ((torch.randperm(count, generator=generator) - count // 2) / 16).double().view(shape)


def _boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).view(-1, 5)


USUAL = _boxes((0, 0, 0, 96, 64), (1, 8.5, 9.25, 70, 60), (1, 30, 14, 60, 100), (0, 16, 16, 80, 48))
#: Every number would do as the index of an image.
SMALL = torch.cat((USUAL[:, :1], USUAL[:, 1:] / 64), 1)
ODD = _boxes(
    (0, 20, 20, 21, 21),  # no centre inside
    (1, 60, 50, 20, 10),  # reversed
    (1, -500, -500, -300, -300),  # outside
    (0, -1e9, -1e9, 1e9, 1e9),
    (1, 0, 0, 16, 16),
    (0, 32, 32, 32, 32),
)
NOT_FINITE = _boxes((0, torch.nan, 0, 50, 50), (1, 0, 0, torch.inf, 50), (0, 0, 0, 96, 64), (1, 0, -torch.inf, 10, 10))

Case = tuple[Tensor, list[int], str, str, Tensor | None, float]


def _cases() -> dict[str, Case]:
    tiny, maps, wide = _maps(2, 2, 4, 5), _maps(2, 3, 7, 9), _maps(2, 19, 13, 13)
    special = maps.clone()
    special[0, 0, 2:5, 3:5] = torch.nan
    special[1, 1, 1] = torch.inf
    special[1, 2] = -torch.inf
    return {
        "boxes": (maps, [1, 2, 3], "max", "adaptive", SMALL, 8.0),
        "average of boxes": (tiny, [1, 2], "avg", "adaptive", SMALL, 4.0),
        "images, paper": (tiny, [1, 2, 3], "max", "paper", None, 1.0),
        "boxes, paper": (maps, [1, 2, 3], "max", "paper", USUAL, 0.125),
        "average of images": (tiny, [1, 3], "avg", "adaptive", None, 1.0),
        "channels last": (maps.contiguous(memory_format=torch.channels_last), SPP, "max", "adaptive", None, 1.0),
        "more bins than cells": (tiny, [6, 2], "max", "paper", None, 1.0),
        "average of more bins than cells": (tiny, [7, 1], "avg", "adaptive", USUAL, 0.0625),
        "odd boxes": (maps, [2, 3], "max", "adaptive", ODD, 0.125),
        "average of odd boxes": (maps, [1, 4], "avg", "paper", ODD, 0.125),
        "not finite boxes": (maps, [1, 2], "max", "adaptive", NOT_FINITE, 0.125),
        "average of not finite boxes": (maps, [1, 2], "avg", "adaptive", NOT_FINITE, 0.125),
        "no boxes": (maps, [1, 2, 3], "max", "adaptive", USUAL[:0], 0.125),
        "no images": (maps[:0], [1, 3], "avg", "adaptive", None, 1.0),
        "no channels": (maps[:, :0], [1, 2], "max", "adaptive", USUAL, 0.125),
        "no cells": (maps[..., :0], [1, 2], "max", "adaptive", None, 1.0),
        "many channels": (wide, SPP, "max", "adaptive", None, 1.0),
        "many channels, boxes": (wide, SPP, "max", "paper", USUAL, 0.125),
        "many channels, average": (wide, SPP, "avg", "adaptive", USUAL, 0.125),
        "transposed": (wide.transpose(2, 3), [5, 1], "avg", "paper", None, 1.0),
        "special values": (special, [1, 2, 4], "max", "adaptive", USUAL, 0.125),
        "ties": ((maps / 8).round() * 0.0 - 0.0, [1, 2], "max", "adaptive", USUAL, 0.125),
        "ties of small numbers": ((maps / 4).round(), [1, 2, 3], "max", "adaptive", None, 1.0),
        "wide map": (_maps(1, 2, 3, 70), [1, 4], "max", "paper", None, 1.0),
    }


INEXACT = ("not finite boxes", "average of not finite boxes", "special values")
# Reductions over nothing, which ONNX Runtime refuses.
NOT_IN_ONNX = (*INEXACT, "no cells", "no channels", "no images", "ties", "ties of small numbers")


def _to(case: Case, dtype: torch.dtype) -> Case:
    maps, levels, mode, bins, boxes, scale = case
    # torch.float32 for halves, whose own coordinates would be coarse; both are legal.
    work = dtype if dtype == torch.float64 else torch.float32
    return maps.to(dtype), levels, mode, bins, None if boxes is None else boxes.to(work), scale


def _grad_of(case: Case) -> Tensor:
    maps, levels, _, _, boxes, _ = case
    regions = len(maps) if boxes is None else len(boxes)
    features = maps.shape[1] * sum(level * level for level in levels)
    return torch.cos(torch.arange(regions * features).double()).view(regions, features).to(maps.dtype)


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    samples = []
    for name, case in _cases().items():
        args: tuple[Any, ...] = _to(case, dtype)
        if op_name == "spatial_pyramid_pool_backward":
            args = (_grad_of(args), *args)
        if op_name == "spatial_pyramid_pool_at":
            if args[2] == "avg":
                args = (*args[:2], "max", *args[3:])
            maps, levels, _, *rest = args
            args = (maps.cos().nan_to_num(), maps, levels, *rest)
        exportable = name not in NOT_IN_ONNX
        samples.append(Sample(name, args, exportable=exportable))
    return samples


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    maps = _maps(2, 2, 4, 5).float()
    boxes = USUAL.float()
    usual: Case = (maps, [1, 2], "max", "adaptive", boxes, 0.5)

    def case(name: str, message: str, **changed: Any) -> ErrorSample:
        names = ("input", "levels", "mode", "bins", "boxes", "spatial_scale")
        args: tuple[Any, ...] = tuple(changed.get(n, value) for n, value in zip(names, usual, strict=True))
        if op_name == "spatial_pyramid_pool_backward":
            args = (changed.get("grad", _grad_of(usual)), *args)
        if op_name == "spatial_pyramid_pool_at":
            args = (changed.get("values", maps), args[0], args[1], *args[3:])
        return ErrorSample(name, args, message)

    errors = [
        case("dtype", "input must be float16, bfloat16, float32 or float64, got torch.int64", input=maps.long()),
        case("rank", r"input must be \[N, C, H, W\], got \[2, 4, 5\]", input=maps[:, 0]),
        case("rank of an image", r"input must be \[N, C, H, W\], got \[2, 4, 5\]", input=maps[:, 0], boxes=None),
        case("no levels", r"levels must be 1 to 16 numbers from 1 to 256, got \[\]", levels=[]),
        case("level of nothing", r"levels must be 1 to 16 numbers from 1 to 256, got \[1, 0\]", levels=[1, 0]),
        case("level too fine", r"got \[257\]", levels=[257]),
        case("bins", "bins must be paper or adaptive, got even", bins="even"),
        case("scale", "spatial_scale must be a positive and finite number", spatial_scale=0.0),
        case("infinite scale", "spatial_scale must be a positive and finite number", spatial_scale=torch.inf),
        case("shape of boxes", r"boxes must be \[K, 5\], got \[4, 4\]", boxes=boxes[:, 1:]),
        case("dtype of boxes", "boxes must have the dtype of input", boxes=boxes.double()),
    ]
    if op_name != "spatial_pyramid_pool_at":
        errors.append(case("mode", "mode must be max or avg, got sum", mode="sum"))
    if op_name == "spatial_pyramid_pool_backward":
        grad = _grad_of(usual)
        errors.append(case("shape of grad", r"grad must have the shape of the result \(\[4, 10\]\)", grad=grad[:, 1:]))
        errors.append(case("dtype of grad", "grad must have the dtype of input", grad=grad.double()))
    if op_name == "spatial_pyramid_pool_at":
        errors.append(case("shape of values", "values must have the shape of input", values=maps[:1]))
    return errors


def tolerances(op_name: str) -> Tolerances:
    return Tolerances(exact=op_name == "spatial_pyramid_pool_at")
