"""Benchmarks of masked convolutions against torch's convolution with a masked weight, which multiplies every tap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gencv_fast.ops.masked_conv import gated_activation, masked_conv2d
from gencv_fast.ops.masked_conv.reference import ALL, NOT_LATER
from gencv_fast.ops.masked_conv.taps import tap_rules

from .harness import Case, Compare, Peer
from .limits import Work

BATCH, CHANNELS, SIDE = 8, 128, 32
KERNELS = {"3x3 B": (3, "B"), "5x5 B": (5, "B"), "7x7 A": (7, "A")}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMATS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}


def inputs(device: str, kernel: str, dtype: str, layout: str, out: int = CHANNELS) -> tuple[Tensor, ...]:
    """Input, weight, bias and mask."""
    side, mask_type = KERNELS[kernel]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=generator)
    weight = torch.randn(out, CHANNELS, side, side, generator=generator) / (CHANNELS * side * side) ** 0.5
    bias = torch.randn(out, generator=generator)
    rules = torch.tensor(tap_rules(mask_type, (side, side))).view(side, side)
    mask = (rules == ALL) | (rules == NOT_LATER)
    kind = DTYPES[dtype]
    return x.to(device, kind, memory_format=FORMATS[layout]), *(t.to(device, kind) for t in (weight, bias, mask))


def operations(mask: Tensor, out: int = CHANNELS) -> int:
    return 2 * BATCH * SIDE * SIDE * CHANNELS * out * int(mask.sum())


def close_to(*expected: Tensor) -> Callable[[Any], None]:
    """Within a few roundings of the largest value."""

    def check(result: Any) -> None:
        for got, wanted in zip(result if isinstance(result, tuple) else (result,), expected, strict=True):
            scale = wanted.abs().max()
            error = ((got.double() - wanted).abs().max() / scale).item()
            assert error < (2e-2 if got.dtype == torch.bfloat16 else 1e-5), f"an error of {error:.1e}"

    return check


def make_case(op: str, name: str, dtype: str, work: Work, **rest: Any) -> Case:
    """With the rate of fp32 for a limit, where that is the dtype."""
    shape = f"{BATCH} x {CHANNELS} x {SIDE} x {SIDE}"
    limit = work if dtype == "fp32" else None
    return Case(room="masked_conv", op=op, name=name, shape=shape, dtype=dtype, n=BATCH, work=limit, **rest)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def bench_masked_conv2d_forward(compare: Compare, device: str, kernel: str, dtype: str, layout: str) -> None:
    x, weight, bias, mask = inputs(device, kernel, dtype, layout)
    masked, padding, mask_type = weight * mask, mask.shape[0] // 2, KERNELS[kernel][1]
    compare(
        make_case(
            "masked_conv2d",
            f"{kernel} {layout}",
            dtype,
            Work(2 * x.nbytes + weight.nbytes, operations(mask)),
            ours=lambda: masked_conv2d(x, weight, bias, mask_type),
            check=close_to(F.conv2d(x.double(), masked.double(), bias.double(), padding=padding)),
            checked_against="torch conv2d in fp64",
            peers={"PyTorch": Peer(lambda: F.conv2d(x, masked, bias, padding=padding), "conv2d with a masked weight")},
        )
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def bench_masked_conv2d_training(compare: Compare, device: str, kernel: str, dtype: str) -> None:
    x, weight, bias, mask = inputs(device, kernel, dtype, "NCHW")
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x)
    padding, mask_type = mask.shape[0] // 2, KERNELS[kernel][1]

    def gradients(run: Callable[..., Tensor], *tensors: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias, grad = tensors
        leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
        return torch.autograd.grad(run(*leaves), leaves, grad)

    def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight * mask.to(x.dtype), bias, padding=padding)

    expected = gradients(eager, *(t.double() for t in (x, weight, bias, grad)))
    compare(
        make_case(
            "masked_conv2d, forward + backward",
            kernel,
            dtype,
            Work(6 * x.nbytes + 2 * weight.nbytes, 3 * operations(mask)),
            ours=lambda: gradients(lambda *leaves: masked_conv2d(*leaves, mask_type), x, weight, bias, grad),
            check=close_to(*expected),
            checked_against="torch conv2d in fp64",
            peers={"PyTorch": Peer(lambda: gradients(eager, x, weight, bias, grad), "conv2d with a masked weight")},
        )
    )


def gate_eagerly(sums: Tensor, condition: Tensor) -> Tensor:
    a, b = (sums + condition[..., None, None]).chunk(2, 1)
    return a.tanh() * b.sigmoid()


def gate_inputs(device: str, dtype: str, layout: str) -> tuple[Tensor, Tensor]:
    """Sums and condition."""
    generator = torch.Generator().manual_seed(0)
    sums = torch.randn(BATCH, 2 * CHANNELS, SIDE, SIDE, generator=generator)
    sums = sums.to(device, DTYPES[dtype], memory_format=FORMATS[layout])
    return sums, torch.randn(BATCH, 2 * CHANNELS, generator=generator).to(sums)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def bench_gated_activation(compare: Compare, device: str, dtype: str, layout: str) -> None:
    sums, condition = gate_inputs(device, dtype, layout)
    compare(
        make_case(
            "gated_activation",
            layout,
            dtype,
            Work(sums.nbytes * 3 // 2),
            ours=lambda: gated_activation(sums, condition),
            check=close_to(gate_eagerly(sums.double(), condition.double())),
            checked_against="the formula in fp64",
            peers={"PyTorch": Peer(lambda: gate_eagerly(sums, condition), "tanh(a) * sigmoid(b)")},
        )
    )


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def bench_gated_activation_training(compare: Compare, device: str, dtype: str, layout: str) -> None:
    sums, condition = gate_inputs(device, dtype, layout)
    grad = torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    grad = grad.to(sums.device, sums.dtype, memory_format=FORMATS[layout])

    def gradient(run: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        sums, condition, grad = tensors
        leaf = sums.detach().requires_grad_()
        return torch.autograd.grad(run(leaf, condition), leaf, grad)[0]

    compare(
        make_case(
            "gated_activation, forward + backward",
            layout,
            dtype,
            Work(sums.nbytes * 4),
            ours=lambda: gradient(gated_activation, sums, condition, grad),
            check=close_to(gradient(gate_eagerly, *(t.double() for t in (sums, condition, grad)))),
            checked_against="the formula in fp64",
            peers={"PyTorch": Peer(lambda: gradient(gate_eagerly, sums, condition, grad), "tanh(a) * sigmoid(b)")},
        )
    )


@pytest.mark.parametrize("dtype", DTYPES)
def bench_gated_masked_conv2d(compare: Compare, device: str, dtype: str) -> None:
    x, weight, bias, mask = inputs(device, "3x3 B", dtype, "NCHW", 2 * CHANNELS)
    condition = torch.randn(BATCH, 2 * CHANNELS, generator=torch.Generator().manual_seed(1)).to(x)
    masked = weight * mask

    def eager(x: Tensor, weight: Tensor, bias: Tensor, condition: Tensor) -> Tensor:
        return gate_eagerly(F.conv2d(x, weight, bias, padding=1), condition)

    expected = eager(*(t.double() for t in (x, masked, bias, condition)))
    compare(
        make_case(
            "masked_conv2d, gated",
            "3x3 B",
            dtype,
            Work(2 * x.nbytes + weight.nbytes, operations(mask, 2 * CHANNELS)),
            ours=lambda: masked_conv2d(x, weight, bias, activation="gate", condition=condition),
            check=close_to(expected),
            checked_against="the formulas in fp64",
            peers={"PyTorch": Peer(lambda: eager(x, masked, bias, condition), "conv2d, tanh(a) * sigmoid(b)")},
        )
    )
