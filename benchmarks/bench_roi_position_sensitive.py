"""Benchmarks of position-sensitive regions at the sizes of R-FCN: 7 x 7 bins of 10 channels at stride 16."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

import gencv_fast

from .harness import Case, Compare, Peer
from .limits import Work

BINS = 7
STRIDE = 16
IMAGES, CHANNELS, HEIGHT, WIDTH = 2, 10 * BINS * BINS, 38, 63
REGIONS = pytest.mark.parametrize("count", [300, 1_000])


def maps_on(device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(IMAGES, CHANNELS, HEIGHT, WIDTH, generator=generator).to(device)


def regions_on(device: str, count: int) -> Tensor:
    """Sides of 8 to 208 pixels, corners anywhere in an image of 900 x 600."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([900.0, 600.0])
    size = torch.rand(count, 2, generator=generator) * 200 + 8
    image = torch.randint(IMAGES, (count, 1), generator=generator)
    return torch.cat((image.float(), corner, corner + size), 1).to(device)


def assert_close(result: Any, expected: Any) -> None:
    """Coordinates up to 64 are rounded to 4e-6, on a GPU not in torchvision's places; maps change by 5 in a step."""
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=3e-5)


def forward_and_backward(pool: Callable[[Tensor], Tensor], maps: Tensor) -> tuple[Tensor, Tensor]:
    leaf = maps.detach().requires_grad_()
    result = pool(leaf)
    (grad,) = torch.autograd.grad(result, leaf, result.detach())
    return result.detach(), grad


def compare_with_torchvision(
    compare: Compare, op: str, name: str, count: int, ours: Callable[[], Any], theirs: Callable[[], Any], work: Work
) -> None:
    expected = theirs()
    compare(
        Case(
            room="roi",
            op=op,
            name=name,
            shape=f"{count:,} regions, {IMAGES}x{CHANNELS}x{HEIGHT}x{WIDTH}, {BINS}x{BINS}",
            dtype="fp32",
            n=count,
            ours=ours,
            check=lambda result: assert_close(result, expected),
            checked_against="torchvision, within rounding",
            peers={"torchvision": Peer(theirs, "the function of torchvision that ours replaces")},
            work=work,
        )
    )


def work_of(maps: Tensor, count: int, reads: int, backward: bool) -> Work:
    """Maps are read once, and so are gradients written; each result multiplies and adds what it reads."""
    results = count * CHANNELS
    moved = maps.nbytes + 4 * results
    return Work((2 if backward else 1) * moved, 2 * reads * results * (2 if backward else 1))


OPTIONS = {"ps_roi_align": (BINS, 1 / STRIDE, 2), "ps_roi_pool": (BINS, 1 / STRIDE)}
READS = {"ps_roi_align": 16, "ps_roi_pool": 4}


@REGIONS
@pytest.mark.parametrize("op", ["ps_roi_align", "ps_roi_pool"])
def bench_forward(compare: Compare, device: str, op: str, count: int) -> None:
    maps, boxes = maps_on(device), regions_on(device, count)
    ours = partial(getattr(gencv_fast, op), maps, boxes, *OPTIONS[op])
    theirs = partial(getattr(torchvision.ops, op), maps, boxes, *OPTIONS[op])
    work = work_of(maps, count, READS[op], backward=False)
    compare_with_torchvision(compare, op, f"{op}, {count:,} regions", count, ours, theirs, work)


@REGIONS
def bench_adaptive(compare: Compare, device: str, suite: str, count: int) -> None:
    if suite == "quick":
        pytest.skip("adaptive sampling belongs to the full suite")
    maps, boxes = maps_on(device), regions_on(device, count)
    ours = partial(gencv_fast.ps_roi_align, maps, boxes, BINS, 1 / STRIDE, -1)
    theirs = partial(torchvision.ops.ps_roi_align, maps, boxes, BINS, 1 / STRIDE, -1)
    work = work_of(maps, count, 9, backward=False)
    compare_with_torchvision(compare, "ps_roi_align", f"adaptive, {count:,} regions", count, ours, theirs, work)


@REGIONS
def bench_align_forward_and_backward(compare: Compare, device: str, count: int) -> None:
    op = "ps_roi_align"
    maps, boxes = maps_on(device), regions_on(device, count)

    def run(function: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        return forward_and_backward(lambda leaf: function(leaf, boxes, *OPTIONS[op]), maps)

    ours, theirs = partial(run, gencv_fast.ps_roi_align), partial(run, torchvision.ops.ps_roi_align)
    work = work_of(maps, count, READS[op], backward=True)
    name = f"{op}, forward and backward, {count:,} regions"
    compare_with_torchvision(compare, op, name, count, ours, theirs, work)


@REGIONS
def bench_pool_forward_and_backward(compare: Compare, device: str, count: int) -> None:
    """Regions keep away from the far border, where torchvision's gradient is not that of its forward pass."""
    op = "ps_roi_pool"
    maps, boxes = maps_on(device), regions_on(device, count)
    boxes[:, 1:] *= 0.6

    def run(function: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        return forward_and_backward(lambda leaf: function(leaf, boxes, *OPTIONS[op]), maps)

    ours, theirs = partial(run, gencv_fast.ps_roi_pool), partial(run, torchvision.ops.ps_roi_pool)
    work = work_of(maps, count, READS[op], backward=True)
    name = f"{op}, forward and backward, {count:,} regions"
    compare_with_torchvision(compare, op, name, count, ours, theirs, work)
