"""Anchor grids against torchvision's AnchorGenerator, and what keeping them must not break."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator as TorchvisionGenerator
from torchvision.models.detection.image_list import ImageList

import gencv_fast
from gencv_fast.nn import AnchorGenerator
from gencv_fast.ops.boxes import anchors

SIZES = ((32,), (64, 90.5), (128,))
RATIOS = ((0.5, 1.0, 2.0), (1.0,), (0.3, 3.0))
FPN = [(200, 272), (100, 136), (50, 68), (25, 34), (13, 17)]


def images_and_features(
    height: int, width: int, grids: list[tuple[int, int]], dtype: torch.dtype = torch.float32, batch: int = 2
) -> tuple[ImageList, list[Tensor]]:
    features = [torch.zeros(batch, 1, *grid, dtype=dtype) for grid in grids]
    return ImageList(torch.zeros(batch, 3, height, width), [(height, width)] * batch), features


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("sizes", "ratios", "height", "width", "grids"),
    [
        (SIZES, RATIOS, 250, 333, [(31, 41), (15, 20), (7, 10)]),
        (((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5, 800, 1088, FPN),
        (((16, 24, 48),), ((1.0,),), 64, 64, [(4, 4)]),
        ((32, 64), (0.5, 2.0), 64, 96, [(4, 6), (1, 1)]),
        (((8,),), ((1.0,),), 16, 16, [(0, 3)]),
    ],
)
def test_equals_torchvision(
    sizes: Any, ratios: Any, height: int, width: int, grids: list[tuple[int, int]], dtype: torch.dtype
) -> None:
    if grids[0][0] == 0:  # torchvision divides by the number of cells
        ours = gencv_fast.anchor_grid(grids, [(4, 4)], sizes, ratios, dtype=dtype)
        assert ours.shape == (0, 4)
        return
    images, features = images_and_features(height, width, grids, dtype)
    ours, theirs = AnchorGenerator(sizes, ratios), TorchvisionGenerator(sizes, ratios)
    assert ours.num_anchors_per_location() == theirs.num_anchors_per_location()
    for a, b in zip(ours(images, features), theirs(images, features), strict=True):
        assert a.dtype == b.dtype == dtype
        assert torch.equal(a, b)
    for a, b in zip(ours.cell_anchors, TorchvisionGenerator(sizes, ratios).cell_anchors, strict=True):
        assert torch.equal(a, b)


def grid(**changes: Any) -> Tensor:
    given = {"feature_sizes": [(3, 4)], "strides": [(8, 8)], "sizes": [(16,)], "aspect_ratios": [(1.0, 2.0)]}
    return gencv_fast.anchor_grid(**{**given, **changes})


def test_grids_are_kept_by_all_their_arguments() -> None:
    assert grid() is grid()
    assert grid(feature_sizes=((3, 4),)) is grid(feature_sizes=[[3, 4]])
    others = [
        grid(feature_sizes=[(4, 3)]),
        grid(strides=[(8, 16)]),
        grid(sizes=[(17,)]),
        grid(aspect_ratios=[(1.0, 3.0)]),
        grid(dtype=torch.float64),
        grid(device="meta"),
    ]
    assert len({id(g) for g in (grid(), *others)}) == len(others) + 1


def test_a_grid_that_was_written_to_is_made_anew() -> None:
    spoiled = grid()
    before = spoiled.clone()
    spoiled.add_(1)
    assert grid() is not spoiled
    assert torch.equal(grid(), before)


def test_a_grid_that_requires_a_gradient_is_made_anew() -> None:
    ours = grid(strides=[(5, 9)]).requires_grad_()
    assert grid(strides=[(5, 9)]) is not ours
    assert not grid(strides=[(5, 9)]).requires_grad
    assert grid(strides=[(5, 9)]) is grid(strides=[(5, 9)])


def test_a_grid_of_a_transform_does_not_outlive_it() -> None:
    def total(scale: Tensor) -> Tensor:
        return (grid(strides=[(11, 13)]) * scale).sum()

    slope = torch.func.grad(total)(torch.ones(4))
    kept = grid(strides=[(11, 13)])
    assert not torch._C._functorch.is_functorch_wrapped_tensor(kept)
    assert torch.equal(slope, kept.sum(0))
    assert all(not torch._C._functorch.is_functorch_wrapped_tensor(g) for g, _ in anchors._kept.values())


def test_default_device_changes_nothing() -> None:
    with torch.device("meta"):
        ours = grid(strides=[(6, 10)])
    assert ours.device.type == "cpu"
    assert torch.equal(ours[:2], anchors.cell_anchors((16,), (1.0, 2.0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_no_levels(dtype: torch.dtype) -> None:
    none = gencv_fast.anchor_grid([], [], [], [], "meta", dtype)
    assert (none.shape, none.dtype, none.device.type) == ((0, 4), dtype, "meta")


def test_few_grids_are_kept() -> None:
    for side in range(1, anchors.MOST_KEPT + 20):
        grid(feature_sizes=[(side, 1)])
    assert len(anchors._kept) <= anchors.MOST_KEPT


def test_a_grid_of_inference_mode_serves_training() -> None:
    with torch.inference_mode():
        grid(strides=[(3, 5)])
    scale = torch.ones(4, requires_grad=True)
    (grid(strides=[(3, 5)]) * scale).sum().backward()
    assert scale.grad is not None


def test_threads_share_grids() -> None:
    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(grid(strides=[(7, 7)]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(g) for g in found}) == 1


class Sizes(torch.nn.Module):
    """Anchors of feature maps whose sizes vary."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = AnchorGenerator(((16,), (32,)), ((0.5, 1.0),) * 2)

    def forward(self, image: Tensor) -> Tensor:
        features = [torch.nn.functional.avg_pool2d(image, 8), torch.nn.functional.avg_pool2d(image, 16)]
        shapes = [(image.shape[-2], image.shape[-1])] * image.shape[0]
        return self.generator(ImageList(image, shapes), features)[0]


def test_export_with_dynamic_size() -> None:
    """Nothing of the traced size stays in the program, and nothing of the trace in what is kept."""
    model, sides = Sizes(), {2: 16 * torch.export.Dim("h", max=64), 3: 16 * torch.export.Dim("w", max=64)}
    program = torch.export.export(model, (torch.zeros(1, 3, 64, 96),), dynamic_shapes=(sides,))
    for height, width in ((64, 96), (128, 160)):
        image = torch.zeros(1, 3, height, width)
        assert torch.equal(program.module()(image), model(image))
    assert all(type(kept) is Tensor for kept, _ in anchors._kept.values())


def test_compile() -> None:
    model = Sizes()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for height, width in ((64, 96), (128, 160)):
        image = torch.zeros(1, 3, height, width)
        assert torch.equal(compiled(image), model(image))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": [(16,), (32,)]}, r"one entry per level, got \[1, 1, 2, 1\]"),
        ({"dtype": torch.int64}, "dtype must be float16, bfloat16, float32 or float64, got torch.int64"),
        ({"dtype": torch.float8_e4m3fn}, "bfloat16, float32 or float64, got torch.float8_e4m3fn"),
        ({"dtype": "float32"}, "dtype must be float16, bfloat16, float32 or float64, got float32"),
        ({"feature_sizes": [16]}, r"feature_sizes must be pairs \(height, width\), got \[16\]"),
        ({"feature_sizes": [(3, 4, 5)]}, r"feature_sizes must be pairs \(height, width\), got \[\(3, 4, 5\)\]"),
        ({"feature_sizes": 7}, r"feature_sizes must be pairs \(height, width\), got 7"),
        ({"feature_sizes": [(3, -4)]}, r"feature_sizes must not be negative, got \[\(3, -4\)\]"),
        ({"strides": [(8,)]}, r"strides must be pairs \(down, right\), got \[\(8,\)\]"),
    ],
)
def test_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=f"anchor_grid: .*{message}"):
        grid(**changes)


def test_module_errors() -> None:
    with pytest.raises(RuntimeError, match=r"AnchorGenerator: aspect_ratios must have one entry .* \(2\), got 1"):
        AnchorGenerator(((16,), (32,)), ((1.0,),))
    images, features = images_and_features(64, 64, [(4, 4)])
    with pytest.raises(RuntimeError, match=r"feature_maps must have one entry per level \(2\), got 1"):
        AnchorGenerator(((16,), (32,)), ((1.0,),) * 2)(images, features)
