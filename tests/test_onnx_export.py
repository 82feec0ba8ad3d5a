"""Whole models as ONNX: each wall, torchvision's detectors on photos, the command."""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from benchmarks.detectors import build, count, photos_for
from gencv_fast.cli import app, main
from gencv_fast.onnx import _export, export, verify
from gencv_fast.onnx._resize import resize_bilinear
from gencv_fast.onnx._verify import run_session
from gencv_fast.onnx._walls import WALLS, past_walls

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("onnxscript")
BoxCoder = pytest.importorskip("torchvision.models.detection._utils").BoxCoder
GeneralizedRCNNTransform = pytest.importorskip("torchvision.models.detection.transform").GeneralizedRCNNTransform

SMALL = {"min_size": 160, "max_size": 250, "score_thresh": 0.02}
OTHER_SIZES = ((300, 451), (512, 512), (427, 250), (200, 350), (500, 230))


# Walls


class ConfidentNms(nn.Module):
    """The number of boxes is known at run time only, as in a detector."""

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        chosen = scores > 0.5
        return boxes[chosen][torchvision.ops.boxes.batched_nms(boxes[chosen], scores[chosen], labels[chosen], 0.5)]


class ConfidentNmsOfThePackage(ConfidentNms):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        chosen = scores > 0.5
        return boxes[chosen][torchvision.ops.batched_nms(boxes[chosen], scores[chosen], labels[chosen], 0.5)]


class ConfidentDecode(nn.Module):
    def forward(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        chosen = anchors[:, 0] > 0
        # Flat, since the original forgets the second dimension where there are no boxes.
        return BoxCoder((10.0, 10.0, 5.0, 5.0)).decode(deltas[chosen], [anchors[chosen]]).flatten(1)


class Resize(nn.Module):
    def __init__(self, min_size: int = 160, max_size: int = 250) -> None:
        super().__init__()
        self.transform = GeneralizedRCNNTransform(min_size, max_size, [0.4, 0.5, 0.6], [0.2, 0.2, 0.3])

    def forward(self, images: list[Tensor]) -> tuple[Tensor, Tensor]:
        batch, _ = self.transform(images)
        return batch.tensors, torch.tensor(batch.image_sizes)


def candidates(count: int, low: float = 0.0) -> tuple[Tensor, ...]:
    corners = torch.rand(count, 2) * 50
    scores = low + (1 - low) * torch.rand(count)
    return torch.cat((corners, corners + 5 + torch.rand(count, 2) * 20), 1), scores, torch.randint(0, 5, (count,))


def check_nms(path: Path, model: nn.Module | None = None) -> None:
    model = model or ConfidentNms()
    export(model, candidates(100), path, dynamic=({0: "n"}, {0: "n"}, {0: "n"}))
    boxes, scores, labels = candidates(20)
    # Above 1000 boxes the original takes its other algorithm.
    verify(path, model, [candidates(100), candidates(3000, low=0.4), (boxes, scores / 2, labels)])


def check_nms_of_the_package(path: Path) -> None:
    check_nms(path, ConfidentNmsOfThePackage())


def check_decode(path: Path) -> None:
    def inputs(number: int, offset: float = -5.0) -> tuple[Tensor, Tensor]:
        return torch.randn(number, 8), candidates(number)[0] + offset

    export(ConfidentDecode(), inputs(30), path, dynamic=({0: "n"}, {0: "n"}))
    verify(path, ConfidentDecode(), [inputs(30), inputs(7), inputs(5, offset=-100.0)])


def check_resize(path: Path) -> None:
    """Fine to 1e-5: the original Resize of ONNX Runtime is off by more."""
    model = Resize()
    images = photos_for(["chelsea", "astronaut"], (300, 451))
    export(model, images, path, dynamic=True)
    others = [photos_for(["chelsea", "astronaut"], size) for size in OTHER_SIZES[1:]]
    others.append([photos_for(["chelsea"], (303, 384))[0], photos_for(["astronaut"], (200, 120))[0]])
    verify(path, model, others, atol=1e-5, rtol=0)


# Those of two-stage detectors alone are in test_onnx_export_rcnn.py.
CHECKS = {
    "torchvision.ops.boxes.batched_nms": check_nms,
    "torchvision.ops.batched_nms": check_nms_of_the_package,
    "torchvision.models.detection.transform._resize_image_and_masks": check_resize,
    "torchvision.models.detection.transform:GeneralizedRCNNTransform.batch_images": check_resize,
    "torchvision.models.detection._utils:BoxCoder.decode": check_decode,
}


@pytest.mark.parametrize("check", dict.fromkeys(CHECKS.values()), ids=lambda check: check.__name__)
def test_past_the_walls_a_model_runs_at_any_size(check: Any, tmp_path: Path) -> None:
    check(tmp_path / "model.onnx")


def assert_stands(wall: str, check: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the replacement of this wall the check fails."""
    others = [other for other in WALLS if f"{other.owner}.{other.name}" != wall]
    assert len(others) == len(WALLS) - 1
    monkeypatch.setattr(_export, "past_walls", lambda: past_walls(others))
    with pytest.raises(Exception, match=r"verify|Guard|guard|specialize|[Cc]onstraint|data-dependent|ONNXRuntimeError"):
        check(path)


@pytest.mark.parametrize("wall", CHECKS)
def test_without_its_replacement_the_wall_stands(wall: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_stands(wall, CHECKS[wall], tmp_path / "model.onnx", monkeypatch)


def test_sizes_are_computed_in_double(tmp_path: Path) -> None:
    class Size(Resize):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward([image])[1]

    model = Size(800, 1333).eval()
    path = export(model, torch.rand(3, 300, 400), tmp_path / "size.onnx", dynamic=True).path
    session = onnxruntime.InferenceSession(path)
    # In float32 most of these come out a pixel off.
    inputs = [torch.zeros(3, height, width) for height in (40, 43, 46, 49) for width in (70, 79, 151, 154, 163)]
    wrong = [list(x.shape) for x in inputs if not torch.equal(run_session(session, (x,))[0], model(x))]
    assert not wrong


def test_resize_equals_interpolate() -> None:
    [image] = photos_for(["motorcycle"])
    for size in ((159, 202), (77, 333), (800, 1088), (501, 742), (1, 1)):
        expected = nn.functional.interpolate(image[None], size, mode="bilinear")[0]
        torch.testing.assert_close(resize_bilinear(image, size), expected, rtol=0, atol=1e-6)


def attributes() -> list[Any]:
    return [getattr(wall.find_owner(), wall.name) for wall in WALLS]


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        # A tracer wraps functions that torch.fx.wrap marked, for as long as it traces.
        assert list(map(inspect.unwrap, attributes())) == [wall.replacement for wall in WALLS]
        raise ValueError("no forward")


def test_everything_is_restored_after_success_and_after_an_error(tmp_path: Path) -> None:
    originals = attributes()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[1].eval()
    export(model, torch.rand(1, 3, 8, 8), tmp_path / "model.onnx")
    assert attributes() == originals
    assert [m.training for m in model.modules()] == [True, True, False, True]
    failing = Fails().train()
    with pytest.raises(Exception, match="no forward"):
        export(failing, torch.rand(1, 3, 8, 8), tmp_path / "model.onnx")
    assert attributes() == originals
    assert failing.training


def test_training_during_an_export_is_refused() -> None:
    target = {"boxes": torch.tensor([[0.0, 0, 5, 5]]), "labels": torch.tensor([1])}
    with past_walls(), pytest.raises(RuntimeError, match=r"^export: a model with training targets"):
        GeneralizedRCNNTransform(16, 32, [0.5] * 3, [0.5] * 3)([torch.rand(3, 20, 20)], [target])


# Export


def small_model() -> nn.Module:
    """Also the command's factory."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def test_result_describes_the_file(tmp_path: Path) -> None:
    exported = export(small_model(), torch.rand(2, 3, 20, 30), tmp_path / "model.onnx", dynamic=True, opset=18)
    assert exported.opset == 18
    assert exported.size == exported.path.stat().st_size
    assert exported.ops == {"Conv": 2, "Relu": 1}
    [(name, shape)] = exported.inputs.items()
    assert shape[1:] == (3, "height", "width")
    assert isinstance(shape[0], str)
    inputs = onnxruntime.InferenceSession(exported.path).get_inputs()
    assert [(i.name, tuple(i.shape)) for i in inputs] == [(name, shape)]
    verify(exported.path, small_model(), [torch.rand(5, 3, 64, 33)])


def test_fixed_size_by_default_and_names_as_given(tmp_path: Path) -> None:
    example = torch.rand(1, 3, 20, 30)
    exported = export(small_model(), example, tmp_path / "m.onnx", input_names=["image"], output_names=["map"])
    assert exported.inputs == {"image": (1, 3, 20, 30)}
    assert exported.outputs == ("map",)
    verify(exported.path, small_model(), [example, torch.zeros_like(example)])


def test_dynamic_needs_an_image(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^export: dynamic must be a dict .* got True"):
        export(nn.Linear(3, 2), torch.rand(4, 3), tmp_path / "model.onnx", dynamic=True)


@pytest.mark.parametrize("opset", [17, 0, 99, "20", True, 20.0])
def test_opset_must_exist(opset: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=rf"^export: opset must be a number from 18 to \d+, got {opset!r}\.$"):
        export(small_model(), torch.rand(1, 3, 20, 30), tmp_path / "model.onnx", opset=opset)
    assert not any(tmp_path.iterdir())


class Weighted(nn.Module):
    def forward(self, x: Tensor, parts: dict[str, Tensor]) -> Tensor:
        return x + parts["b"] - 2 * parts["a"]


class Difference(nn.Module):
    def forward(self, parts: dict[str, Tensor]) -> Tensor:
        return parts["b"] - 2 * parts["a"]


@pytest.mark.parametrize("wrap", [lambda parts: parts, lambda parts: (parts,)], ids=["bare", "tuple"])
def test_a_dict_is_an_argument(wrap: Any, tmp_path: Path) -> None:
    args = wrap({"b": torch.rand(3), "a": torch.rand(3)})
    exported = export(Difference(), args, tmp_path / "model.onnx")
    assert len(exported.inputs) == 2
    verify(exported.path, Difference(), [args])


def test_a_dict_in_the_last_place_is_an_argument(tmp_path: Path) -> None:
    args = (torch.rand(3), {"a": torch.rand(3), "b": torch.rand(3)})
    verify(export(Weighted(), args, tmp_path / "model.onnx").path, Weighted(), [args])


# Detectors


def test_the_batch_of_a_detector_is_fixed(tmp_path: Path) -> None:
    class Sizes(Resize):
        def forward(self, images: Tensor) -> list[Tensor]:  # one output per image
            return list(self.transform(list(images))[0].tensors.mean((1, 2, 3)))

    exported = export(Sizes(), torch.rand(2, 3, 40, 50), tmp_path / "model.onnx", dynamic=True)
    assert list(exported.inputs.values()) == [(2, 3, "height", "width")]
    verify(exported.path, Sizes(), [torch.rand(2, 3, 60, 45)])


@functools.cache
def detector(name: str, **options: Any) -> nn.Module:
    small = {} if "320" in name else SMALL
    return build(name, num_classes=12, **{**small, **options})


def check_detector(name: str, path: Path, *, dynamic: bool, images: int, **options: Any) -> None:
    model = detector(name, **options)
    names = ["chelsea", "astronaut"][:images]
    traced = photos_for(names, (300, 451))
    exported = export(model, traced, path, dynamic=dynamic)
    numbers = [""] if images == 1 else ["_0", "_1"]
    assert exported.outputs == tuple(f"{part}{n}" for n in numbers for part in ("boxes", "scores", "labels"))
    inputs = [traced, photos_for(["coffee", "rocket"][:images], (300, 451))]
    inputs.append([torch.full((3, 300, 451), 0.5)] * images)
    if dynamic:
        inputs += [photos_for(names, size) for size in OTHER_SIZES]
    with torch.no_grad():
        counts = [count(found) for photos in inputs[:2] for found in model(photos)]
    nothing = options.get("score_thresh", 0) > 0.9
    assert all(c.detections == 0 if nothing else c.is_telling for c in counts), counts
    assert (verify(exported.path, model, inputs).detections == 0) == nothing


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_ssdlite(dynamic: bool, tmp_path: Path) -> None:
    check_detector("ssdlite320_mobilenet_v3_large", tmp_path / "m.onnx", dynamic=dynamic, images=1)


def test_retinanet_at_dynamic_size(tmp_path: Path) -> None:
    check_detector("retinanet_resnet50_fpn", tmp_path / "m.onnx", dynamic=True, images=1)


@pytest.mark.full
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize(
    "name",
    ["ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"],
)
def test_every_detector(name: str, dynamic: bool, images: int, tmp_path: Path) -> None:
    check_detector(name, tmp_path / "m.onnx", dynamic=dynamic, images=images)


@pytest.mark.full
@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def test_no_detections(name: str, tmp_path: Path) -> None:
    check_detector(name, tmp_path / "m.onnx", dynamic=True, images=1, score_thresh=0.9999)


# The command


@pytest.fixture
def call_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["gencv-fast", "export", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 1
        return capsys.readouterr().err

    return call


def test_command_exports_a_factory_at_dynamic_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    path = tmp_path / "model.onnx"
    arguments = ["tests.test_onnx_export:small_model", "--output", str(path), "--size", "40x60", "--batch", "2"]
    result = CliRunner().invoke(app, ["export", *arguments, "--dynamic", "--opset", "18"], catch_exceptions=False)
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    for part in (
        "opset 18",
        "height, width",
        "Conv 2 Relu 1",
        "equal at 40x60, 50x48, 28x66",
        "onnxruntime",
        "PyTorch",
    ):
        assert part in text, text
    verify(path, small_model(), [torch.rand(3, 3, 33, 44)])


def test_command_exports_a_model_of_torchvision(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    arguments = ["squeezenet1_1", "--weights", "random", "--output", str(path), "--size", "64x64"]
    result = CliRunner().invoke(app, ["export", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert "equal at 64x64" in result.output
    assert onnxruntime.InferenceSession(path).get_inputs()[0].shape == [1, 3, 64, 64]


def test_command_explains_random_weights(call_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*_: Any) -> None:
        raise RuntimeError("verify: they differ.")

    monkeypatch.setattr("gencv_fast.onnx.export", lambda *_, **__: None)
    monkeypatch.setattr("gencv_fast.onnx.verify", differ)
    arguments = ("--weights", "random", "--output", str(tmp_path / "model.onnx"))
    message = call_main("ssdlite320_mobilenet_v3_large", *arguments)
    assert message.startswith("Error: verify: they differ. The scores of random weights tie: take --weights DEFAULT")
    assert message.count("\n") == 1
    assert call_main("squeezenet1_1", *arguments) == "Error: verify: they differ.\n"


def test_command_says_what_is_wrong_in_one_line(call_main: Any, tmp_path: Path) -> None:
    output = ("--output", str(tmp_path / "model.onnx"))
    assert call_main("resnet", *output).startswith("Error: export: 'resnet' is neither a model of torchvision nor")
    assert call_main("no.such:thing", *output).startswith("Error: export: cannot import no.such:thing: ")
    assert call_main("tests.test_onnx_export:attributes", *output) == (
        "Error: export: tests.test_onnx_export:attributes must return a torch.nn.Module, got list.\n"
    )
    for opset in ("17", "99"):
        assert call_main("tests.test_onnx_export:small_model", *output, "--opset", opset).startswith(
            "Error: export: opset must be a number from 18 to "
        )
    assert call_main("resnet18", *output, "--size", "12").startswith("Error: --size: expected HxW such as 480x640")
    assert call_main("resnet18", *output, "--weights", "BEST").startswith("Error: --weights: torchvision has no")
