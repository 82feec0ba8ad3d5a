"""Inputs of the demo room."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gencv_fast._samples import ErrorSample, Sample, Tolerances


def _inputs(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    x = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.randn(shape[1], generator=generator, dtype=torch.float64).to(dtype)


def _cases(dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    x, scale = _inputs((2, 3, 4, 5), dtype)
    special = x.clone()
    special[0, 0] = torch.tensor([math.inf, -math.inf, math.nan, 0.0, 1e-30], dtype=torch.float64).to(dtype)
    return {
        "even": (x, scale),
        "odd": _inputs((1, 5, 7, 3), dtype),
        "few": _inputs((1, 2, 2, 3), dtype),
        "one": _inputs((1, 1, 1, 1), dtype),
        "wide": _inputs((3, 4, 9, 17), dtype),
        "no images": _inputs((0, 3, 4, 5), dtype),
        "no channels": _inputs((2, 0, 4, 5), dtype),
        "no pixels": _inputs((2, 3, 0, 5), dtype),
        "channels last": (
            _inputs((2, 8, 4, 4), dtype)[0].to(memory_format=torch.channels_last),
            torch.ones(8, dtype=dtype),
        ),
        "infinite and NaN": (special, scale),
        "one scale for all": (x, scale[:1].expand(3)),
    }


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    cases = _cases(dtype).items()
    if op_name == "scaled_tanh":
        return [Sample(name, args) for name, args in cases]
    return [Sample(name, (torch.cos(3 * x.nan_to_num()), x, scale)) for name, (x, scale) in cases]


def error_inputs(op_name: str) -> list[ErrorSample]:
    x, scale = _inputs((2, 3, 4, 5), torch.float32)
    samples: list[tuple[str, tuple[Any, ...], str]] = [
        ("rank of x", (x[0], scale), r"x must be \[N, C, H, W\], got \[3, 4, 5\]"),
        ("dtype of x", (x.long(), scale), "x must be float16, .* got torch.int64"),
        ("rank of scale", (x, scale[None]), r"scale must be \[C\], got \[1, 3\]"),
        ("length of scale", (x, scale[:2]), r"scale must have one entry per channel \(3\), got 2"),
        (
            "dtype of scale",
            (x, scale.double()),
            r"scale must have the dtype of x \(torch.float32\), got torch.float64",
        ),
    ]
    if op_name == "scaled_tanh_backward":
        samples = [(name, (torch.ones_like(x), *args), message) for name, args, message in samples]
        samples.append(("shape of grad", (x[:1], x, scale), r"grad must have the shape of x .* got \[1, 3, 4, 5\]"))
    return [ErrorSample(*sample) for sample in samples]


def tolerances(op_name: str) -> Tolerances:
    return Tolerances()
