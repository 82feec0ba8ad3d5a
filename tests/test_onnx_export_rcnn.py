"""Detectors of two stages as ONNX: their own walls, Faster and Mask R-CNN on photos, masks compared, the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from benchmarks.detectors import count, photos_for
from gencv_fast.cli import app
from gencv_fast.onnx import _export, export, verify
from gencv_fast.onnx._walls import WALLS
from tests.test_onnx_export import CHECKS, OTHER_SIZES, assert_stands, detector

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
poolers = pytest.importorskip("torchvision.ops.poolers")
transform = pytest.importorskip("torchvision.models.detection.transform")

NAMES = ("fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn")


# Walls


class ChosenRegions(nn.Module):
    """The number of regions is known at run time only, as in a detector."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = poolers.MultiScaleRoIAlign(["0", "1"], 3, 2)
        self.pool.scales, self.pool.map_levels = [0.25, 0.125], poolers.initLevelMapper(2, 3)

    def forward(self, fine: Tensor, coarse: Tensor, boxes: Tensor) -> Tensor:
        return self.pool({"0": fine, "1": coarse}, [boxes[boxes[:, 0] > 0]], [(128, 160)])


class ChosenMasks(nn.Module):
    def forward(self, masks: Tensor, boxes: Tensor) -> Tensor:
        chosen = boxes[:, 0] > 0
        return transform.paste_masks_in_image(masks[chosen], boxes[chosen], (60, 70))


def boxes(number: int, offset: float = -5.0) -> Tensor:
    corners = 40 * torch.rand(number, 2)
    return torch.cat((corners, corners + 3 + 90 * torch.rand(number, 2)), 1) + offset


def check_regions(path: Path) -> None:
    maps = torch.randn(1, 4, 32, 40), torch.randn(1, 4, 16, 20)
    with _export.past_walls():  # torch.onnx.export goes on to another tracer, which cannot trace a whole detector
        torch.export.export(
            ChosenRegions(), (*maps, boxes(30)), dynamic_shapes=(None, None, {0: torch.export.Dim.AUTO}), strict=False
        )
    export(ChosenRegions(), (*maps, boxes(30)), path, dynamic=(None, None, {0: "n"}))
    verify(path, ChosenRegions(), [(*maps, boxes(30)), (*maps, boxes(7)), (*maps, boxes(5, -100.0))])


def check_masks(path: Path) -> None:
    def inputs(number: int, offset: float = -5.0) -> tuple[Tensor, Tensor]:
        return torch.rand(number, 1, 28, 28), boxes(number, offset)

    export(ChosenMasks(), inputs(30), path, dynamic=({0: "n"}, {0: "n"}))
    verify(path, ChosenMasks(), [inputs(30), inputs(7), inputs(5, -100.0)])


RCNN_CHECKS = {
    "torchvision.ops.poolers._multiscale_roi_align": check_regions,
    "torchvision.models.detection.transform.paste_masks_in_image": check_masks,
}


def test_every_wall_is_tested() -> None:
    assert {f"{wall.owner}.{wall.name}" for wall in WALLS} == CHECKS.keys() | RCNN_CHECKS.keys()


@pytest.mark.parametrize("wall", RCNN_CHECKS)
def test_past_the_wall_a_model_takes_any_number(wall: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    RCNN_CHECKS[wall](tmp_path / "model.onnx")


@pytest.mark.parametrize("wall", RCNN_CHECKS)
def test_without_its_replacement_the_wall_stands(wall: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_stands(wall, RCNN_CHECKS[wall], tmp_path / "model.onnx", monkeypatch)


# Detectors


def check_detector(name: str, path: Path, *, dynamic: bool, images: int = 1, sizes: int = 5, **options: Any) -> None:
    model = detector(name, **options)
    names = ["chelsea", "astronaut"][:images]
    traced = photos_for(names, (300, 451))
    exported = export(model, traced, path, dynamic=dynamic)
    parts = ["boxes", "labels", "scores", *(["masks"] if "mask" in name else [])]
    numbers = [""] if images == 1 else ["_0", "_1"]
    assert exported.outputs == tuple(f"{part}{n}" for n in numbers for part in parts)
    inputs = [traced, photos_for(["rocket", "china"][:images], (300, 451))]
    inputs.append([torch.full((3, 300, 451), 0.5)] * images)
    if dynamic:
        inputs += [photos_for(names, size) for size in OTHER_SIZES[:sizes]]
    with torch.no_grad():
        counts = [count(found) for photos in inputs[:2] for found in model(photos)]
    nothing = options.get("score_thresh", 0) > 0.9 or options.get("box_score_thresh", 0) > 0.9
    assert all(c.detections == 0 if nothing else c.is_telling for c in counts), counts
    assert (verify(path, model, inputs).detections == 0) == nothing


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_faster_rcnn(dynamic: bool, tmp_path: Path) -> None:
    check_detector(NAMES[0], tmp_path / "m.onnx", dynamic=dynamic, sizes=2)


@pytest.mark.full
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", NAMES)
def test_every_detector(name: str, dynamic: bool, images: int, tmp_path: Path) -> None:
    check_detector(name, tmp_path / "m.onnx", dynamic=dynamic, images=images)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_no_detections(name: str, tmp_path: Path) -> None:
    check_detector(name, tmp_path / "m.onnx", dynamic=True, box_score_thresh=0.9999)


def fresh_detector() -> nn.Module:
    """Also the command's factory: one that does not know the scales of its levels yet."""
    model = detector(NAMES[0])
    pool = model.roi_heads.box_roi_pool
    pool.scales = pool.map_levels = None
    return model


def test_the_command_exports_a_detector_that_never_ran(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    factory = f"{__name__}:fresh_detector"
    result = CliRunner().invoke(app, ["export", factory, "--output", str(path), "--dynamic", "--size", "256x320"])
    assert result.exit_code == 0, result.output
    assert detector(NAMES[0]).roi_heads.box_roi_pool.scales is not None  # the comparison ran it
    assert path.exists()
