"""Sentences of bad input that rooms share: op, argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

#: What a schema calls an argument's type: in words, for several, and the Python types that torch takes for it.
_TYPES: dict[str, tuple[str, str, tuple[type, ...]]] = {
    "Tensor": ("a tensor", "tensors", (Tensor,)),
    "int": ("a whole number", "whole numbers", (Integral, torch.SymInt)),
    "float": ("a number", "numbers", (Real, torch.SymInt, torch.SymFloat)),
    "bool": ("True or False", "truth values", (Integral, torch.SymBool, type(None))),
    "str": ("a string", "strings", (str, bytes)),
}


def require(condition: bool | torch.SymBool, op: str, message: str) -> None:
    """What is not known while a graph is made is left to its run."""
    if isinstance(condition, torch.SymBool):
        torch._check(condition, lambda: f"{op}: {message}.")
    elif not condition:  # torch.compile takes no message with a symbolic size for _check
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


def listed(values: Any) -> Any:
    """A list of the values; what has none is left to the operator, which says so."""
    try:
        return list(values)
    except TypeError:
        return values


def what_came(value: Any) -> str:
    """A short value as it is, and of others the type."""
    return repr(value) if isinstance(value, (str, int, float, complex, type(None))) else type(value).__name__


def why_wrong_type(name: str, value: Any, wanted: str) -> str | None:
    """Why a value is not of a schema's type, such as ``Optional[List[int]]``; None where it is."""
    if wanted.startswith("Optional["):
        return None if value is None else why_wrong_type(name, value, wanted.removeprefix("Optional[")[:-1])
    if wanted.startswith("List["):
        item_type = wanted.removeprefix("List[")[:-1]
        if not isinstance(value, (list, tuple)):
            return f"{name} must be a list of {_TYPES[item_type][1]}, got {what_came(value)}"
        reasons = (why_wrong_type(f"{name}[{i}]", item, item_type) for i, item in enumerate(value))
        return next(filter(None, reasons), None)
    words, _, types = _TYPES[wanted]
    is_number = isinstance(value, Tensor) and value.numel() == 1  # torch takes it for one
    return None if isinstance(value, types) or is_number else f"{name} must be {words}, got {what_came(value)}"
