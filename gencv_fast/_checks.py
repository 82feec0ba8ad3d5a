"""Sentences of bad input that rooms share: op, argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require(condition: bool | torch.SymBool, op: str, message: str) -> None:
    """What is not known while a graph is made is left to its run."""
    torch._check(condition, lambda: f"{op}: {message}.")


def require_float(op: str, name: str, tensor: Tensor) -> None:
    expected = f"{name} must be float16, bfloat16, float32 or float64"
    require(tensor.dtype in FLOATS, op, f"{expected}, got {tensor.dtype}")


def require_like(op: str, name: str, tensor: Tensor, of: str, like: Tensor) -> None:
    """The dtype and the device of another argument."""
    require(tensor.dtype == like.dtype, op, f"{name} must have the dtype of {of} ({like.dtype}), got {tensor.dtype}")
    require_device(op, name, tensor, of, like)


def require_device(op: str, name: str, tensor: Tensor, of: str, like: Tensor) -> None:
    expected = f"{name} must be on the device of {of} ({like.device})"
    require(tensor.device == like.device, op, f"{expected}, got {tensor.device}")


def require_same_shape(op: str, name: str, tensor: Tensor, of: str, shape: Sequence[int]) -> None:
    """The shape of another argument, or of the result; sizes may be symbolic."""
    require_shape(op, tensor, shape, f"{name} must have the shape of {of} ({list(shape)})")


def require_shape(op: str, tensor: Tensor, shape: Sequence[int], expected: str) -> None:
    message = f"{expected}, got {list(tensor.shape)}"
    require(tensor.dim() == len(shape), op, message)
    for ours, theirs in zip(tensor.shape, shape, strict=True):
        require(ours == theirs, op, message)


def require_pairs(op: str, name: str, pairs: Iterable[Any], of: str) -> list[tuple[Any, Any]]:
    """The pairs, whose numbers may be symbolic."""
    try:
        return [(first, second) for first, second in pairs]
    except (TypeError, ValueError):
        raise RuntimeError(f"{op}: {name} must be pairs ({of}), got {pairs}.") from None
