"""Benchmarks of crop_and_resize: R-CNN's warped regions of a photo, and crops of feature maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

import gencv_fast

from .crop_peers import grid_sample_crop, interpolate_loop, onnxruntime_crop, pixel_boxes, torchvision_loop
from .harness import Case, Compare, Peer
from .limits import Work
from .photos import photo, photo_boxes

REGIONS = 256
WARPED = (227, 227)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
POOLED = (14, 14)
GRID = "F.grid_sample, one grid for all boxes of an image"


def photo_regions(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The photo as uint8 [1, 3, H, W], its best windows as normalised boxes, and their indices."""
    picture = torch.from_numpy(photo(name).copy()).permute(2, 0, 1)[None]
    height, width = picture.shape[2:]
    x1, y1, x2, y2 = photo_boxes(name, REGIONS)[0].unbind(1)
    boxes = torch.stack((y1 / (height - 1), x1 / (width - 1), (y2 - 1) / (height - 1), (x2 - 1) / (width - 1)), 1)
    return picture.contiguous(), boxes, torch.zeros(REGIONS, dtype=torch.int64)


def feature_regions(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """300 boxes of 8 to 208 pixels on two maps of stride 16."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 256, 50, 68, generator=generator)
    corner = torch.rand(300, 2, generator=generator) * torch.tensor([576.0, 864.0])
    side = torch.rand(300, 2, generator=generator) * 200 + 8
    # grid_sample lets values fade out around a map, where crops would take the value from outside.
    boxes = (torch.cat((corner, corner + side), 1) / 16 / torch.tensor([49.0, 67.0] * 2)).clamp(max=1)
    # In the order of images, which saves grid_sample a permutation.
    indices = torch.arange(300) // 150
    return maps.to(device), boxes.to(device), indices.to(device)


def normalised(crops: Tensor) -> Tensor:
    return (crops - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def same_as(expected: Tensor, relative: float = 1e-5) -> Callable[[Tensor], None]:
    def check(crops: Tensor) -> None:
        torch.testing.assert_close(crops.cpu(), expected, rtol=relative, atol=relative * float(expected.abs().max()))

    return check


def bytes_of(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def photo_peers(image: Tensor, boxes: Tensor, indices: Tensor, finish: Callable[[Tensor], Tensor]) -> dict[str, Peer]:
    """On bytes as a user would: floats first, then crops, then the finish."""
    pixels = pixel_boxes(boxes, *image.shape[2:])
    session = onnxruntime_crop(WARPED, threads=torch.get_num_threads())
    return {
        "onnxruntime": Peer(
            lambda: finish(session(image.float(), boxes, indices)), "its contrib operator CropAndResize"
        ),
        "grid_sample": Peer(lambda: finish(grid_sample_crop(image.float(), boxes, indices, WARPED)), GRID),
        "interpolate": Peer(
            lambda: finish(interpolate_loop(image.float(), pixels, WARPED)), "F.interpolate of each crop, in a loop"
        ),
        "torchvision": Peer(
            lambda: finish(torchvision_loop(image.float(), pixels, WARPED)),
            "resized_crop of each box, in a loop; corners are not aligned",
        ),
    }


@pytest.mark.parametrize("kind", ["uint8, normalised", "fp32", "uint8 channels_last, normalised"])
@pytest.mark.parametrize("name", ["china", "astronaut"])
def bench_crop_photo(compare: Compare, device: str, kind: str, name: str) -> None:
    """R-CNN's setting, with fewer regions than its 2,000, whose crops would take 1.2 GB."""
    image, boxes, indices = photo_regions(name)
    crops = onnxruntime_crop(WARPED)(image.float(), boxes, indices)
    is_bytes = kind.startswith("uint8")
    finish = normalised if is_bytes else (lambda crops: crops)
    image = image if is_bytes else image.float()
    peers = photo_peers(image, boxes, indices, finish) if device == "cpu" else {}
    if "channels_last" in kind:
        image = image.contiguous(memory_format=torch.channels_last)
    args = [t.to(device) for t in (image, boxes, indices)]
    options = {"mean": MEAN, "std": STD} if is_bytes else {}
    height, width = image.shape[2:]
    compare(
        Case(
            room="roi",
            op="crop_and_resize",
            name=f"{name}, {kind}",
            shape=f"{REGIONS} regions of a photo {height} x {width} to 227 x 227 x 3",
            dtype="uint8 to fp32" if is_bytes else "fp32",
            n=REGIONS,
            ours=partial(gencv_fast.crop_and_resize, *args, WARPED, **options),
            check=same_as(finish(crops)),
            checked_against="onnxruntime",
            peers=peers,
            work=Work(bytes_of(image, boxes, crops)),
        )
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def bench_crop_features(compare: Compare, device: str, layout: str) -> None:
    maps, boxes, indices = feature_regions(device)
    crops = onnxruntime_crop(POOLED)(maps.cpu(), boxes.cpu(), indices.cpu())
    session = onnxruntime_crop(POOLED, threads=torch.get_num_threads())
    peers = {"grid_sample": Peer(lambda: grid_sample_crop(maps, boxes, indices, POOLED), GRID)}
    if device == "cpu":
        peers["onnxruntime"] = Peer(lambda: session(maps, boxes, indices), "its contrib operator CropAndResize")
    ours = maps.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else maps
    compare(
        Case(
            room="roi",
            op="crop_and_resize",
            name=f"feature maps, {layout}",
            shape="300 boxes on 2 x 256 x 50 x 68 to 14 x 14",
            dtype="fp32",
            n=300,
            ours=lambda: gencv_fast.crop_and_resize(ours, boxes, indices, POOLED),
            check=same_as(crops),
            checked_against="onnxruntime",
            peers=peers,
            work=Work(bytes_of(maps, boxes, crops)),
        )
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def bench_crop_features_backward(compare: Compare, device: str, layout: str) -> None:
    """Forward and backward."""
    maps, boxes, indices = feature_regions(device)
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    plain, ours = maps.clone().requires_grad_(), maps.contiguous(memory_format=memory_format).requires_grad_()
    grad = torch.randn(300, 256, *POOLED, generator=torch.Generator().manual_seed(1)).to(device)
    laid_out = grad.contiguous(memory_format=memory_format)

    def by_grid_sample() -> Tensor:
        return torch.autograd.grad(grid_sample_crop(plain, boxes, indices, POOLED), plain, grad)[0]

    def by_ours() -> Tensor:
        return torch.autograd.grad(gencv_fast.crop_and_resize(ours, boxes, indices, POOLED), ours, laid_out)[0]

    compare(
        Case(
            room="roi",
            op="crop_and_resize",
            name=f"feature maps, {layout}, forward and backward",
            shape="300 boxes on 2 x 256 x 50 x 68 to 14 x 14",
            dtype="fp32",
            n=300,
            ours=by_ours,
            check=same_as(by_grid_sample().cpu(), 1e-4),
            checked_against="F.grid_sample",
            peers={"grid_sample": Peer(by_grid_sample, GRID)},
            work=Work(2 * bytes_of(maps, grad)),
        )
    )
