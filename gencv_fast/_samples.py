"""What a room's samples.py is made of: inputs that feed the tests and the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Sample:
    """Arguments of one legal call.

    Attributes:
        name: unique among the samples of the op.
        args: by position, tensors on the CPU.
        exportable: False where ONNX cannot promise the same result: ties, NaN, an argument that it does not allow.
        differentiable: False where the formula has no derivative and plain PyTorch's answer is an accident: 0 / 0,
            infinities.
    """

    name: str
    args: tuple[Any, ...]
    exportable: bool = True
    differentiable: bool = True


@dataclass(frozen=True)
class ErrorSample:
    """Arguments of a call that must raise RuntimeError.

    Attributes:
        name: unique among the error samples of the op.
        args: by position, tensors on the CPU.
        message: regular expression that the message contains: the argument, what was expected and what came.
    """

    name: str
    args: tuple[Any, ...]
    message: str


@dataclass(frozen=True)
class Tolerances:
    """How far results may lie from the reference.

    Attributes:
        exact: every backend gives the bits of the reference at the same dtype.
        floor: else: a kernel's error against the reference in float64 is at most twice the error of plain PyTorch at
            the same dtype plus this, relative to the largest value of the result.
    """

    exact: bool = False
    floor: Mapping[torch.dtype, float] = field(
        default_factory=lambda: {
            torch.float64: 1e-13,
            torch.float32: 1e-6,
            torch.float16: 1e-3,
            torch.bfloat16: 8e-3,
        }
    )
