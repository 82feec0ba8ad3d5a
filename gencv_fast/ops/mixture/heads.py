"""Heads with the mixture's interface whose maths plain PyTorch does well: 256-way softmax and Bernoulli."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ..._checks import require, require_float, require_same_shape
from .reference import LEVELS, choose, compute_dtype, levels_of, pixel_noise

REDUCTIONS = ("none", "sum", "mean")


def reduced(op: str, nll: Tensor, reduction: str) -> Tensor:
    if reduction not in REDUCTIONS:
        raise RuntimeError(f"{op}: reduction must be 'none', 'sum' or 'mean', got {reduction!r}.")
    if reduction == "none":
        return nll
    return nll.sum() if reduction == "sum" else nll.mean()


def _check(op: str, params: Tensor, numbers: int) -> None:
    require_float(op, "params", params)
    require(params.dim() == 4, op, f"params must be [N, C, H, W], got {list(params.shape)}")
    given = params.shape[1]
    require(given % numbers == 0, op, f"params must have a multiple of {numbers} channels, got {given}")


def _check_x(op: str, params: Tensor, x: Tensor, numbers: int) -> None:
    _check(op, params, numbers)
    batch, channels, height, width = params.shape
    require_same_shape(op, "x", x, f"params, a channel for {numbers}", [batch, channels // numbers, height, width])


def _noise(op: str, params: Tensor, channels: int, seed: int, temperature: float, noise: Tensor | None) -> Tensor:
    require(temperature > 0, op, f"temperature must be positive, got {temperature:g}")
    batch, _, height, width = params.shape
    if noise is None:
        return pixel_noise(seed, batch, channels, height, width, params.device)
    require_same_shape(op, "noise", noise, "the result", [batch, channels, height, width])
    return noise


def softmax_nll(params: Tensor, x: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood of images under a 256-way softmax for each colour of each pixel. Differentiable.

    Args:
        params: logits ``[N, 256 * C, H, W]``, those of a colour in a row; fp16, bf16, fp32 or fp64.
        x: ``[N, C, H, W]``: levels in uint8, or numbers in [-1, 1], which go to the nearest level.
        reduction: ``"none"`` gives ``[N, H, W]``, in nats for a pixel with all its colours; ``"sum"``; ``"mean"`` is
            that over pixels.

    Raises:
        RuntimeError: a wrong rank, shape or dtype, or an unknown reduction.
    """
    _check_x("softmax_nll", params, x, LEVELS)
    classes = params.to(compute_dtype(params.dtype)).unflatten(1, (-1, LEVELS)).flatten(0, 1)
    nll = cross_entropy(classes, levels_of(x).long().flatten(0, 1), reduction="none")
    return reduced("softmax_nll", nll.unflatten(0, x.shape[:2]).sum(1), reduction)


def softmax_sample(params: Tensor, seed: int = 0, temperature: float = 1.0, noise: Tensor | None = None) -> Tensor:
    """Levels drawn from a 256-way softmax: uint8 ``[N, C, H, W]``.

    Args:
        params: logits ``[N, 256 * C, H, W]``; fp16, bf16, fp32 or fp64.
        seed: of the noise, as in :func:`mixture_logistics_sample`; colour c of a pixel uses its number c.
        temperature: logits are divided by it.
        noise: numbers in (0, 1), ``[N, C, H, W]``, in place of those made from the seed.

    Raises:
        RuntimeError: a wrong rank, shape or dtype, or a temperature that is not positive.
    """
    op = "softmax_sample"
    _check(op, params, LEVELS)
    channels = params.shape[1] // LEVELS
    noise = _noise(op, params, channels, seed, temperature, noise)
    logits = params.detach().to(compute_dtype(params.dtype)).unflatten(1, (channels, LEVELS)).flatten(0, 1)
    weights = torch.exp((logits - logits.amax(1, keepdim=True)) / temperature)
    return choose(weights, noise.flatten(0, 1)).unflatten(0, noise.shape[:2]).to(torch.uint8)


def bernoulli_nll(params: Tensor, x: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood of binary images, each of whose colours is 1 with probability sigmoid(logit).

    Args:
        params: logits ``[N, C, H, W]``; fp16, bf16, fp32 or fp64.
        x: ``[N, C, H, W]``: 0 and 1, or numbers between, in any dtype.
        reduction: as in :func:`softmax_nll`.

    Raises:
        RuntimeError: a wrong rank, shape or dtype, or an unknown reduction.
    """
    _check_x("bernoulli_nll", params, x, 1)
    logits = params.to(compute_dtype(params.dtype))
    nll = binary_cross_entropy_with_logits(logits, x.to(logits.dtype), reduction="none")
    return reduced("bernoulli_nll", nll.sum(1), reduction)


def bernoulli_sample(params: Tensor, seed: int = 0, temperature: float = 1.0, noise: Tensor | None = None) -> Tensor:
    """Binary images: uint8 ``[N, C, H, W]``, 1 where the noise is below sigmoid(logit / temperature).

    Args:
        params: logits ``[N, C, H, W]``; fp16, bf16, fp32 or fp64.
        seed: as in :func:`softmax_sample`.
        temperature: logits are divided by it.
        noise: as in :func:`softmax_sample`.

    Raises:
        RuntimeError: a wrong rank, shape or dtype, or a temperature that is not positive.
    """
    op = "bernoulli_sample"
    _check(op, params, 1)
    noise = _noise(op, params, params.shape[1], seed, temperature, noise)
    logits = params.detach().to(compute_dtype(params.dtype))
    return (noise < torch.sigmoid(logits / temperature)).to(torch.uint8)


def bits_per_dim(nll: Tensor, channels: int) -> Tensor:
    """Nats for a pixel, as the losses of this room are, in bits for each of its colours.

    Args:
        nll: the loss, of any shape.
        channels: colours of a pixel.
    """
    return nll / (channels * torch.log(torch.tensor(2.0, dtype=nll.dtype)).item())
