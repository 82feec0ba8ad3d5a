"""What is special to the mixture room."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import gencv_fast
import gencv_fast.nn
from gencv_fast.ops.mixture import reference


def _params(batch: int, channels: int, mixtures: int = 3, side: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    blocks = 10 if channels == 3 else 3
    return torch.randn(batch, blocks * mixtures, side, side, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("log_scale", [-100.0, -7.0, -4.0, 0.0, 5.0])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_probabilities_sum_to_one(log_scale: float, backend: str) -> None:
    params = _params(1, 1)
    params[:, 6:] += log_scale
    levels = torch.arange(256).to(torch.uint8).view(256, 1, 1, 1).expand(256, 1, 2, 2)
    nll = gencv_fast.mixture_logistics_nll(params.expand(256, -1, -1, -1), levels, "none", backend=backend)
    torch.testing.assert_close(torch.exp(-nll).sum(0), torch.ones(2, 2, dtype=torch.float64), atol=1e-11, rtol=0)


def test_conditional_probabilities_of_blue_sum_to_one() -> None:
    params = _params(1, 3, mixtures=1)
    red_green = torch.tensor([13, 200], dtype=torch.uint8).view(1, 2, 1, 1).expand(256, 2, 2, 2)
    blue = torch.arange(256).to(torch.uint8).view(256, 1, 1, 1).expand(256, 1, 2, 2)
    nll = gencv_fast.mixture_logistics_nll(params.expand(256, -1, -1, -1), torch.cat((red_green, blue), 1), "none")
    single = params[:, [0, 1, 2]]
    first = gencv_fast.mixture_logistics_nll(single, red_green[:1, :1], "none")
    value = red_green[:1, :1].double() / 127.5 - 1
    mean = params[:, 4:5] + torch.tanh(params[:, 3:4]) * value
    second = gencv_fast.mixture_logistics_nll(
        torch.cat((params[:, :1], mean, params[:, 5:6]), 1), red_green[:1, 1:], "none"
    )
    torch.testing.assert_close(torch.exp(first + second - nll).sum(0, keepdim=True), torch.ones_like(first))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_log_scale_is_finite(dtype: torch.dtype, channels: int) -> None:
    levels = torch.tensor([0, 1, 128, 254, 255], dtype=torch.uint8).view(5, 1, 1, 1).expand(5, channels, 2, 2)
    for log_scale in (-100, -50, -7, 0, 7, 50, 100):
        params = _params(5, channels).unflatten(1, (10 if channels == 3 else 3, 3))
        params[:, 2::3] = log_scale
        params = params.flatten(1, 2).to(dtype).requires_grad_()
        loss = gencv_fast.mixture_logistics_nll(params, levels)
        loss.backward()
        assert loss.isfinite()
        assert params.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_of_any_dtype_find_their_level(dtype: torch.dtype) -> None:
    levels = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16)
    params = _params(1, 1, side=16, dtype=dtype)
    values = (levels.double() / 127.5 - 1).to(dtype)
    of_values = gencv_fast.mixture_logistics_nll(params, values, "none")
    assert torch.equal(of_values, gencv_fast.mixture_logistics_nll(params, levels, "none"))


def test_philox() -> None:
    """The known answers of Random123."""
    zero, full = torch.zeros(1, dtype=torch.int64), torch.full((1,), 0xFFFFFFFF)
    words = reference.philox(0, (zero, zero, zero, zero))
    assert [int(w) for w in words] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    words = reference.philox(-1, (full, full, full, full))
    assert [int(w) for w in words] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logarithm(dtype: torch.dtype) -> None:
    """Within 1.5 units in the last place."""
    x = torch.logspace(-37, 37, 100_001, dtype=torch.float64).to(dtype)
    x = torch.cat((x, torch.linspace(0.5, 2, 100_001, dtype=dtype)))
    truth = torch.log(x.double())
    unit = torch.finfo(dtype).eps * 2 ** torch.floor(torch.log2(truth.abs().clamp(min=1e-300)))
    error = (reference.logarithm(x).double() - truth).abs()
    assert (error <= 1.5 * unit + (1e-16 if dtype == torch.float64 else 0)).all()


def test_samples_have_the_losses_probabilities() -> None:
    draws = 200_000
    params = _params(1, 1, mixtures=2, side=1, dtype=torch.float32)
    levels = gencv_fast.mixture_logistics_sample(params.expand(1, 6, 1, draws), channels=1, seed=4)
    all_levels = torch.arange(256).to(torch.uint8).view(1, 1, 1, 256)
    nll = gencv_fast.mixture_logistics_nll(params.expand(1, 6, 1, 256), all_levels, "none")
    expected = draws * torch.exp(-nll.double()).flatten()
    counts = torch.bincount(levels.flatten().long(), minlength=256).double()
    often = expected > 20
    chi_square = ((counts - expected) ** 2 / expected)[often].sum()
    degrees = int(often.sum())
    assert abs(float(chi_square) - degrees) < 5 * math.sqrt(2 * degrees)


def test_a_sample_depends_on_its_place_alone() -> None:
    params = _params(3, 3, side=8, dtype=torch.float32)
    together = gencv_fast.mixture_logistics_sample(params, seed=9)
    assert torch.equal(together[:1], gencv_fast.mixture_logistics_sample(params[:1], seed=9))
    assert not torch.equal(together, gencv_fast.mixture_logistics_sample(params, seed=10))


@pytest.mark.parametrize("name", ["MixtureLogistics", "Softmax256", "Bernoulli"])
def test_heads_share_an_interface(name: str) -> None:
    head = getattr(gencv_fast.nn, name)(channels=3)
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(2, head.params_per_pixel, 4, 4, generator=generator).requires_grad_()
    levels = head.sample(params, seed=3, temperature=0.7)
    assert levels.dtype == torch.uint8
    assert levels.shape == (2, 3, 4, 4)
    assert torch.equal(levels, head.sample(params, seed=3, temperature=0.7))
    loss = head(params, levels)
    loss.backward()
    assert loss.shape == ()
    assert params.grad.isfinite().all()
    with pytest.raises(RuntimeError, match="temperature must be positive"):
        head.sample(params, temperature=0.0)


def test_softmax_is_cross_entropy() -> None:
    logits = torch.randn(2, 3, 256, 4, 4, generator=torch.Generator().manual_seed(0))
    levels = torch.randint(0, 256, (2, 3, 4, 4), generator=torch.Generator().manual_seed(1))
    ours = gencv_fast.softmax_nll(logits.flatten(1, 2), levels.to(torch.uint8), "sum")
    theirs = torch.nn.functional.cross_entropy(logits.transpose(1, 2), levels, reduction="sum")
    torch.testing.assert_close(ours, theirs)


def test_bits_per_dim() -> None:
    params = torch.zeros(1, 256, 2, 2)
    loss = gencv_fast.softmax_nll(params, torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    assert float(gencv_fast.bits_per_dim(loss, 1)) == pytest.approx(8)


def test_unknown_reduction() -> None:
    with pytest.raises(RuntimeError, match="mixture_logistics_nll: reduction must be 'none', 'sum' or 'mean'"):
        gencv_fast.mixture_logistics_nll(_params(1, 1), torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "total")
