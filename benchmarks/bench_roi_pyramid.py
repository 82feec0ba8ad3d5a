"""Benchmarks of spatial pyramid pooling: SPPNet's argument, that regions share one map, and whole images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

import gencv_fast
from gencv_fast.ops.roi.pyramid.reference import region_cells

from .harness import Case, Compare, Peer
from .limits import Work

LEVELS = (1, 2, 3, 6)
SCALE = 1 / 16
POOLS = {"max": adaptive_max_pool2d, "avg": adaptive_avg_pool2d}
TOLERANCES = {"max": 0.0, "avg": 1e-5}


def over_levels(maps: Tensor, mode: str) -> Tensor:
    return torch.cat([POOLS[mode](maps, level).flatten(1) for level in LEVELS], 1)


def over_crops(maps: Tensor, boxes: Tensor, cells: list[list[int]], mode: str) -> Tensor:
    """What R-CNN's code becomes with a shared map: pools over the crop of each region."""
    images = boxes[:, 0].int().tolist()
    crops = (maps[i : i + 1, :, y1:y2, x1:x2] for i, (x1, x2, y1, y2) in zip(images, cells, strict=True))
    return torch.cat([over_levels(crop, mode) for crop in crops])


def small_regions(count: int, generator: torch.Generator) -> Tensor:
    """Corners in 600 x 400 pixels, sides in [8, 208)."""
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([600.0, 400.0])
    return torch.cat((corner, corner + 8 + 200 * torch.rand(count, 2, generator=generator)), 1)


def searched_regions(count: int, generator: torch.Generator) -> Tensor:
    """Sides from 20 pixels to those of the image, as many of each order: what selective search proposes."""
    image = torch.tensor([800.0, 608.0])
    size = 20 * (image / 20) ** torch.rand(count, 2, generator=generator)
    corner = (image - size) * torch.rand(count, 2, generator=generator)
    return torch.cat((corner, corner + size), 1)


REGIONS = {"small": small_regions, "selective search": searched_regions}


def pyramid_case(
    name: str,
    shape: str,
    ours: Callable[[], Tensor],
    peer: Callable[[], Tensor],
    about: str,
    moved: int,
    tolerance: float,
) -> Case:
    expected = peer()

    def check(result: Tensor) -> None:
        torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)

    return Case(
        room="roi",
        op="spatial_pyramid_pool",
        name=name,
        shape=shape,
        dtype="fp32",
        n=len(expected),
        ours=ours,
        check=check,
        checked_against="torch's adaptive pools",
        peers={"torch": Peer(peer, about)},
        work=Work(moved),
    )


@pytest.mark.parametrize("mode", POOLS)
@pytest.mark.parametrize("kind", REGIONS)
def bench_pyramid_regions(compare: Compare, device: str, kind: str, mode: str) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 256, 38, 50, generator=generator).to(device)
    corners = REGIONS[kind](2000, generator)
    boxes = torch.cat((torch.zeros(2000, 1), corners), 1).to(device)
    cells = region_cells(boxes, 38, 50, SCALE).tolist()
    case = pyramid_case(
        f"{mode} of 2,000 regions, {kind}",
        "1 x 256 x 38 x 50, 2,000 regions, levels 1 2 3 6",
        lambda: gencv_fast.spatial_pyramid_pool(maps, LEVELS, mode, "adaptive", boxes, SCALE),
        lambda: over_crops(maps, boxes, cells, mode),
        "adaptive pools of every level over every crop",
        maps.nbytes + 2000 * 256 * 50 * 4,
        TOLERANCES[mode],
    )
    compare(case)


@pytest.mark.parametrize("mode", POOLS)
def bench_pyramid_regions_gradient(compare: Compare, device: str, mode: str) -> None:
    """Forward and backward."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 256, 38, 50, generator=generator).to(device).requires_grad_()
    boxes = torch.cat((torch.zeros(500, 1), small_regions(500, generator)), 1).to(device)
    cells = region_cells(boxes, 38, 50, SCALE).tolist()
    grad = torch.randn(500, 256 * 50, generator=generator).to(device)

    def gradient(pool: Callable[[], Tensor]) -> Tensor:
        return torch.autograd.grad(pool(), maps, grad)[0]

    case = pyramid_case(
        f"{mode} of 500 regions, small, forward and backward",
        "1 x 256 x 38 x 50, 500 regions, levels 1 2 3 6",
        lambda: gradient(lambda: gencv_fast.spatial_pyramid_pool(maps, LEVELS, mode, "adaptive", boxes, SCALE)),
        lambda: gradient(lambda: over_crops(maps, boxes, cells, mode)),
        "adaptive pools of every level over every crop, and autograd",
        2 * maps.nbytes + 2 * grad.nbytes,
        # Hundreds of gradients of a pixel are summed in another order.
        1e-4,
    )
    compare(case)


IMAGES = ((8, 256, 38, 50), (1, 512, 13, 13), (16, 256, 13, 13), (2, 64, 120, 160))


@pytest.mark.parametrize("mode", POOLS)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def bench_pyramid_images(compare: Compare, device: str, shape: tuple[int, ...], mode: str) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    size = " x ".join(map(str, shape))
    case = pyramid_case(
        f"{mode} of images, {size}",
        f"{size}, levels 1 2 3 6",
        lambda: gencv_fast.spatial_pyramid_pool(maps, LEVELS, mode, "adaptive"),
        lambda: over_levels(maps, mode),
        "adaptive pools of every level",
        maps.nbytes + shape[0] * shape[1] * 50 * 4,
        TOLERANCES[mode],
    )
    compare(case)
