"""Benchmarks of `accelerate`: torchvision's detectors as they are, with and without it, on a photo.

Post-processing is what comes after a head's convolutions: the region proposal network from its head's outputs, and
the model's choice of detections. Region features are what its second stage pools: a grid of features for each region,
and in Mask R-CNN the masks that are pasted into the photo. Both run on outputs recorded from the same photo.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import gencv_fast

from .checks import assert_as_near_detections, assert_same_detections
from .detectors import build, count, photos_for
from .harness import Case, Compare, Peer

Detections = list[dict[str, Tensor]]

MODELS = {
    "ssdlite320_mobilenet_v3_large": "SSDLite320, MobileNetV3",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "Faster R-CNN 320, MobileNetV3 FPN",
    "fasterrcnn_resnet50_fpn": "Faster R-CNN, ResNet50 FPN",
    "maskrcnn_resnet50_fpn": "Mask R-CNN, ResNet50 FPN",
    "retinanet_resnet50_fpn": "RetinaNet, ResNet50 FPN",
    "fcos_resnet50_fpn": "FCOS, ResNet50 FPN",
}
IN_QUICK = ("ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn")
PHOTO = "astronaut"


class Recorded(nn.Module):
    """A head that has already run."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, *features: Any) -> Any:
        return self.outputs


def record(owner: nn.Module, method: str, run: Callable[[], Any]) -> tuple[Any, ...]:
    """The arguments with which a run calls a method."""
    original, calls = getattr(owner, method), []

    def recording(*args: Any) -> Any:
        calls.append(tree_map(lambda leaf: leaf, args))  # of its own, since the method may fill its dicts
        return original(*args)

    setattr(owner, method, recording)
    try:
        run()
    finally:
        delattr(owner, method)
    (call,) = calls
    return call


def post_processing(model: nn.Module, images: list[Tensor]) -> Callable[[], Detections]:
    """What the model does after its heads; in two stages for Faster R-CNN."""
    if not hasattr(model, "rpn"):
        arguments = record(model, "postprocess_detections", lambda: model(images))
        return lambda: model.postprocess_detections(*arguments)

    proposing = record(model.rpn, "forward", lambda: model(images))
    choosing = record(model.roi_heads, "postprocess_detections", lambda: model(images))
    rpn = copy.deepcopy(model.rpn)
    rpn.head = Recorded(model.rpn.head(list(proposing[1].values())))

    def run() -> Detections:
        (proposals,), _ = rpn(*proposing)
        (boxes,), (scores,), (labels,) = model.roi_heads.postprocess_detections(*choosing)
        unscored = torch.zeros(len(proposals), device=proposals.device)
        return [
            {"boxes": proposals, "scores": unscored, "labels": unscored},
            {"boxes": boxes, "scores": scores, "labels": labels},
        ]

    return run


def region_features(model: nn.Module, images: list[Tensor]) -> Callable[[], list[Tensor]]:
    """What the model pools from its feature maps, and the masks that it pastes."""
    heads = model.roi_heads
    pools = [pool for pool in (heads.box_roi_pool, heads.mask_roi_pool) if pool is not None]
    pooling = [(pool, record(pool, "forward", lambda: model(images))) for pool in pools]
    pasting = record(model.transform, "postprocess", lambda: model(images))

    def run() -> list[Tensor]:
        features = [pool(*arguments) for pool, arguments in pooling]
        (detections,) = model.transform.postprocess([dict(found) for found in pasting[0]], *pasting[1:])
        return [*features, detections["masks"]] if "masks" in detections else features

    return run


def in_double(model: nn.Module, images: list[Tensor]) -> Detections:
    """The truth: float64 from the outputs of the backbone and the first head on, which accelerated or not are one."""
    double = copy.deepcopy(model).double()
    for path in ("backbone", "rpn.head" if hasattr(model, "rpn") else "head"):
        outputs = output_of(model.get_submodule(path), lambda: model(images))
        double.set_submodule(path, Recorded(tree_map(doubled, outputs)))
    return double([doubled(image) for image in images])


def output_of(module: nn.Module, run: Callable[[], Any]) -> Any:
    """What a module returns in a run."""
    outputs: list[Any] = []
    hook = module.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        run()
    finally:
        hook.remove()
    (output,) = outputs
    return output


def doubled(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def accelerated(run: Callable[[], Any]) -> Callable[[], Any]:
    def call() -> Any:
        with gencv_fast.accelerate("torchvision"):
            return run()

    return call


def assert_same(got: Any, wanted: Any) -> None:
    if isinstance(wanted, Tensor):
        torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-4)
    else:
        assert_same_detections(got, wanted)


def case(op: str, name: str, shape: str, run: Callable[[], Any], truth: Detections | None) -> Case:
    expected = run()

    def check(result: Any) -> None:
        if truth is None:
            for got, wanted in zip(result, expected, strict=True):
                assert_same(got, wanted)
        else:
            for got, theirs, true in zip(result, expected, truth, strict=True):
                assert_as_near_detections(got, theirs, true)

    alone = "torchvision alone: features, or labels, boxes within 0.01 px, scores within 1e-5"
    double = (
        "float64 after the backbone and the first head: labels, boxes and scores, at most twice torchvision's error"
    )
    return Case(
        room="accelerate",
        op=op,
        name=name,
        shape=shape,
        dtype="fp32",
        n=1,
        ours=accelerated(run),
        check=check,
        checked_against=alone if truth is None else double,
        peers={"torchvision": Peer(run, "the same model in the same process, not accelerated")},
    )


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("part", ["post_processing", "region_features", "end_to_end"])
@torch.inference_mode()
def bench_detector(compare: Compare, suite: str, device: str, model_name: str, part: str) -> None:
    if suite == "quick" and model_name not in IN_QUICK:
        pytest.skip("larger models belong to the full suite")
    if part == "region_features" and "rcnn" not in model_name:
        pytest.skip("it has no second stage")
    model = build(model_name).to(device)
    images = [image.to(device) for image in photos_for([PHOTO])]
    (detections,) = model(images)
    assert count(detections).is_telling, "too few detections to compare"
    parts: dict[str, Callable[[], Callable[[], Any]]] = {
        "post_processing": lambda: post_processing(model, images),
        "region_features": lambda: region_features(model, images),
        "end_to_end": lambda: lambda: model(images),
    }
    run = parts[part]()
    height, width = images[0].shape[1:]
    shape = f"{width} x {height} photo, {len(detections['boxes'])} detections"
    # What end to end gives is amplified from the last bits of the proposals, on either side.
    truth = in_double(model, images) if part == "end_to_end" else None
    compare(case(part, MODELS[model_name], shape, run, truth))
