"""A tiny differentiable room that lives in the tests and has every face, those that no box operator has included."""

from __future__ import annotations

from torch import Tensor

from .contract import SCALED_TANH

__all__ = ["scaled_tanh"]


def scaled_tanh(x: Tensor, scale: Tensor, *, backend: str | None = None) -> Tensor:
    """``scale[c] * tanh(x)``, channel by channel.

    Args:
        x: ``[N, C, H, W]``; fp16, bf16, fp32 or fp64. Any strides; the result has its memory format.
        scale: ``[C]``, of x's dtype.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[N, C, H, W]``, of x's dtype.

    Raises:
        RuntimeError: a wrong rank, shape or dtype.

    Example:
        >>> import torch
        >>> from tests.demo import scaled_tanh
        >>> scaled_tanh(torch.zeros(1, 2, 1, 1), torch.ones(2)).flatten()
        tensor([0., 0.])
    """
    return SCALED_TANH(x, scale, backend=backend)
