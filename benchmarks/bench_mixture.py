"""Benchmarks of the mixture room: the loss with its gradient, its memory, and sampling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

import gencv_fast

from .harness import Case, Compare, Peer

MIXTURES = 10


def published_nll(params: Tensor, x: Tensor) -> Tensor:
    """PixelCNN++'s loss as its PyTorch ports have it: channels last, x in [-1, 1]; the sum over pixels."""
    x, params = x.permute(0, 2, 3, 1), params.permute(0, 2, 3, 1)
    logits = params[..., :MIXTURES]
    blocks = params[..., MIXTURES:].contiguous().view(*x.shape, 3 * MIXTURES)
    means, log_scales = blocks[..., :MIXTURES], blocks[..., MIXTURES : 2 * MIXTURES].clamp(min=-7.0)
    coefficients = torch.tanh(blocks[..., 2 * MIXTURES :])
    x = x.contiguous().unsqueeze(-1) + torch.zeros(*x.shape, MIXTURES, device=x.device)
    green = means[..., 1, :] + coefficients[..., 0, :] * x[..., 0, :]
    blue = means[..., 2, :] + coefficients[..., 1, :] * x[..., 0, :] + coefficients[..., 2, :] * x[..., 1, :]
    means = torch.stack((means[..., 0, :], green, blue), 3)
    centred, inverse = x - means, torch.exp(-log_scales)
    plus, minus, middle = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255), inverse * centred
    delta = torch.sigmoid(plus) - torch.sigmoid(minus)
    log_density = middle - log_scales - 2 * softplus(middle)
    approximate = log_density - torch.log(torch.tensor(127.5))
    inner = torch.where(delta > 1e-5, torch.log(delta.clamp(min=1e-12)), approximate)
    last = torch.where(x > 0.999, -softplus(minus), inner)
    log_probs = torch.where(x < -0.999, plus - softplus(plus), last).sum(3) + log_softmax(logits, -1)
    return -torch.logsumexp(log_probs, -1).sum()


def _inputs(batch: int, side: int, device: str) -> tuple[Tensor, Tensor]:
    """As of a network in training."""
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(batch, 10, MIXTURES, side, side, generator=generator)
    params[:, 1::3] *= 0.5
    params[:, 2::3] -= 2
    levels = torch.randint(0, 256, (batch, 3, side, side), generator=generator).to(torch.uint8)
    return params.flatten(1, 2).to(device), levels.to(device)


@pytest.mark.parametrize(("batch", "side"), [(16, 32), (64, 32)])
def bench_mixture_logistics_nll(compare: Compare, device: str, batch: int, side: int) -> None:
    """Forward and backward."""
    params, levels = _inputs(batch, side, device)
    params.requires_grad_()
    values = levels.float() / 127.5 - 1
    compiled = torch.compile(published_nll)

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, params)[0]

    def ours() -> Tensor:
        return gradient(gencv_fast.mixture_logistics_nll(params, levels, "sum"))

    # The published formula cancels where a bin is improbable: it cannot tell who is right.
    wide = params.detach().double().requires_grad_()
    truth = gencv_fast.mixture_logistics_nll(wide, levels, "sum", backend="reference")
    expected = torch.autograd.grad(truth, wide)[0].float()

    def check(result: Tensor) -> None:
        torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-3)

    compare(
        Case(
            room="mixture",
            op="mixture_logistics_nll",
            name=f"{batch} images, {side} x {side}, forward and backward",
            shape=f"{batch} x 3 x {side} x {side}, {MIXTURES} mixtures",
            dtype="fp32",
            n=batch * side * side,
            ours=ours,
            check=check,
            checked_against="the reference in float64",
            measures_memory=True,
            peers={
                "PyTorch": Peer(lambda: gradient(published_nll(params, values)), "the published formula, eager"),
                "torch.compile": Peer(
                    lambda: gradient(compiled(params, values)), "the same through torch.compile", full_only=True
                ),
            },
        )
    )


@pytest.mark.parametrize("batch", [16])
def bench_mixture_logistics_sample(compare: Compare, device: str, batch: int) -> None:
    params, _ = _inputs(batch, 32, device)

    def eager() -> Tensor:
        return gencv_fast.mixture_logistics_sample(params, seed=1, backend="reference")

    expected = eager()

    def check(result: Tensor) -> None:
        assert torch.equal(result, expected)

    compare(
        Case(
            room="mixture",
            op="mixture_logistics_sample",
            name=f"{batch} images, 32 x 32",
            shape=f"{batch} x 3 x 32 x 32, {MIXTURES} mixtures",
            dtype="fp32",
            n=batch * 32 * 32,
            ours=lambda: gencv_fast.mixture_logistics_sample(params, seed=1),
            check=check,
            checked_against="the reference, level by level",
            peers={"PyTorch": Peer(eager, "the reference in eager PyTorch")},
        )
    )
