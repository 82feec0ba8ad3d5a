"""torchvision's detectors give the same under `accelerate`: detections, losses and gradients."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gencv_fast
from benchmarks.checks import assert_same_detections
from benchmarks.detectors import build, count, photos_for
from tests.harness.accelerated import ran

SMALL = {"min_size": 192, "max_size": 256}
#: Options of each model in the default run; the full run takes torchvision's own image sizes.
DETECTORS: dict[str, dict[str, Any]] = {
    "ssdlite320_mobilenet_v3_large": {},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {},
    "fasterrcnn_resnet50_fpn": SMALL,
    "retinanet_resnet50_fpn": SMALL,
    "fcos_resnet50_fpn": {**SMALL, "score_thresh": 0.05},
}
FASTER_RCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"
PHOTOS = ("astronaut", "china")

built = functools.cache(build)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Workers of the test run share the cores; threads of convolutions would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def photos() -> list[Tensor]:
    return photos_for(PHOTOS)


def check_detections(model: nn.Module, images: list[Tensor]) -> None:
    with torch.no_grad():
        expected = model(images)
        assert all(count(detections).is_telling for detections in expected)
        with gencv_fast.accelerate():
            results: list[list[dict[str, Tensor]]] = []
            assert "batched_nms" in ran(lambda: results.append(model(images)))
    for got, wanted in zip(results[0], expected, strict=True):
        assert_same_detections(got, wanted)


@pytest.mark.parametrize("name", DETECTORS)
def test_detections(name: str) -> None:
    check_detections(built(name, **DETECTORS[name]), photos())


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name, options in DETECTORS.items() if options])
def test_detections_at_full_size(name: str) -> None:
    check_detections(built(name), photos_for())


@pytest.mark.parametrize("name", [name for name, options in DETECTORS.items() if not options])
def test_a_blank_image(name: str) -> None:
    model, images = built(name), [torch.zeros(3, 64, 64)]
    with torch.no_grad():
        expected = model(images)
        with gencv_fast.accelerate():
            got = model(images)
    assert_same_detections(got[0], expected[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_scripted() -> None:
    """Scripted before or meanwhile: the same graph, which runs our kernels behind torchvision's operators.

    It is compared with itself, for TorchScript detects other boxes than eager mode, with or without us.
    """
    model = built(FASTER_RCNN)
    before = torch.jit.script(model)
    with torch.no_grad():
        expected = before(photos())[1]
        with gencv_fast.accelerate():
            meanwhile = torch.jit.script(model)
            results: list[Any] = []
            for scripted in (before, meanwhile):
                assert "nms" in ran(lambda scripted=scripted: results.append(scripted(photos())[1]))
    for result in results:
        for got, wanted in zip(result, expected, strict=True):
            assert_same_detections(got, wanted)
    assert "gencv_fast::" not in str(meanwhile.inlined_graph)


def test_compiled() -> None:
    model = built("ssdlite320_mobilenet_v3_large")
    with torch.no_grad():
        expected = model(photos())
        with gencv_fast.accelerate():
            compiled = torch.compile(model, backend="eager")
            for got, wanted in zip(compiled(photos()), expected, strict=True):
                assert_same_detections(got, wanted)


def training_step(model: nn.Module) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Losses and gradients of a fresh copy; the seed draws the same samples of anchors.

    Of the proposals all are taken: near-ties may swap places among them, and a sample would be another one.
    """
    model = copy.deepcopy(model).train().requires_grad_(True)
    if hasattr(model, "roi_heads"):
        model.roi_heads.fg_bg_sampler.batch_size_per_image = 10**6
    targets = [
        {"boxes": torch.tensor([[30.0, 40, 200, 220], [100, 50, 300, 350]]), "labels": torch.tensor([3, 5])},
        {"boxes": torch.tensor([[130.0, 40, 400, 420]]), "labels": torch.tensor([7])},
    ]
    torch.manual_seed(0)
    losses = model(photos(), targets)
    sum(losses.values()).backward()
    return losses, [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("ssdlite320_mobilenet_v3_large", {"box_iou", "box_encode"}),
        (FASTER_RCNN, {"match_boxes", "box_encode", "rpn_proposals"}),
        ("fcos_resnet50_fpn", {"generalized_box_iou_loss"}),
    ],
)
def test_training(name: str, operators: set[str]) -> None:
    model = built(name, **DETECTORS[name])
    losses, gradients = training_step(model)
    results: list[Any] = []
    with gencv_fast.accelerate():
        assert operators <= ran(lambda: results.append(training_step(model)))
    torch.testing.assert_close(results[0][0], losses, rtol=1e-5, atol=1e-5)
    largest = max(float(g.abs().max()) for g in gradients)
    for got, wanted in zip(results[0][1], gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5 * largest)
