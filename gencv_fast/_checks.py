"""Sentences of bad input that rooms share: op, argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def require(condition: bool, op: str, message: str) -> None:
    if not condition:
        raise RuntimeError(f"{op}: {message}.")


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
    message = f"{op}: {name} must have the shape of {of} ({list(shape)}), got {list(tensor.shape)}."
    if tensor.dim() != len(shape):
        raise RuntimeError(message)
    for ours, theirs in zip(tensor.shape, shape, strict=True):
        torch._check(ours == theirs, lambda: message)
