"""Benchmarks of the rpn room: head outputs as random as an untrained network's, and as smooth as a trained one's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers

import gencv_fast

from .harness import Case, Compare, Peer
from .limits import Work

IOU = 0.7
STRIDES = (4, 8, 16, 32, 64)
Results = tuple[Tensor, Tensor, Tensor]
Lists = tuple[list[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Scene:
    """What a head gives for images of one size, torchvision's anchors for it, and torchvision's stage after it."""

    objectness: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]  # the same for each image
    cell_anchors: Tensor
    strides: list[tuple[int, int]]
    image_sizes: list[tuple[int, int]]
    top_n: int
    rpn: RegionProposalNetwork

    @property
    def counts(self) -> list[int]:
        return [o[0].numel() for o in self.objectness]

    def flattened(self) -> tuple[Tensor, Tensor]:
        objectness, deltas = concat_box_prediction_layers(list(self.objectness), list(self.deltas))
        return objectness.view(len(self.image_sizes), -1), deltas

    def torchvision_from_flat(self, objectness: Tensor, deltas: Tensor) -> Lists:
        boxes = self.rpn.box_coder.decode(deltas, self.anchors).view(len(self.image_sizes), -1, 4)
        return self.rpn.filter_proposals(boxes, objectness, self.image_sizes, self.counts)

    def ours_from_flat(self, objectness: Tensor, deltas: Tensor) -> Results:
        batch = len(self.image_sizes)
        logits = [o.view(batch, 1, -1, 1) for o in objectness.split(self.counts, 1)]
        by_level = deltas.view(batch, -1, 4).transpose(1, 2).unsqueeze(-1).split(self.counts, 2)
        return gencv_fast.rpn_proposals(
            logits, by_level, self.anchors[0], self.image_sizes, self.top_n, self.top_n, IOU
        )

    def ours(self) -> Results:
        return gencv_fast.rpn_proposals(
            self.objectness, self.deltas, self.cell_anchors, self.image_sizes, self.top_n, self.top_n, IOU,
            strides=self.strides,
        )  # fmt: skip


def random_maps(batch: int, channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=generator)


def smooth_maps(batch: int, channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    coarse = torch.randn(batch, channels, height // 8 + 1, width // 8 + 1, generator=generator)
    smooth = interpolate(coarse, size=(height, width), mode="bilinear")
    return smooth + 0.15 * torch.randn(smooth.shape, generator=generator)


def make_scene(maps: Callable[..., Tensor], batch: int, height: int, width: int, top_n: int, device: str) -> Scene:
    generator = torch.Generator().manual_seed(0)
    shapes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    objectness = [(2 * maps(batch, 3, *shape, generator) - 3).to(device) for shape in shapes]
    deltas = [(0.3 * maps(batch, 12, *shape, generator)).to(device) for shape in shapes]
    anchor_generator = AnchorGenerator(tuple((8 * s,) for s in STRIDES), ((0.5, 1.0, 2.0),) * len(STRIDES))
    image_sizes = [(height, width)] * batch
    anchors = anchor_generator(ImageList(torch.zeros(batch, 3, height, width, device=device), image_sizes), objectness)
    limits = {"training": top_n, "testing": top_n}
    rpn = RegionProposalNetwork(anchor_generator, RPNHead(4, 3), 0.7, 0.3, 256, 0.5, limits, limits, IOU).eval()
    strides = [(height // h, width // w) for h, w in shapes]
    cells = torch.cat(anchor_generator.cell_anchors)
    return Scene(objectness, deltas, anchors, cells, strides, image_sizes, top_n, rpn)


def assert_same_proposals(results: Results, expected: Lists) -> None:
    """As many, of the same scores, with the same boxes; boxes whose scores round alike may change places."""
    boxes, scores, counts = (r.cpu() for r in results)
    assert counts.tolist() == [len(b) for b in expected[0]]
    for i, (their_boxes, their_scores) in enumerate(zip(*expected, strict=True)):
        count = len(their_boxes)
        torch.testing.assert_close(scores[i, :count], their_scores.cpu(), atol=1e-6, rtol=0)
        apart = torch.cdist(boxes[i, :count], their_boxes.cpu(), p=torch.inf)
        assert max(float(apart.amin(0).max()), float(apart.amin(1).max())) < 0.01


def rpn_case(scene: Scene, name: str, ours: Callable[[], Results], peers: dict[str, Peer]) -> Case:
    expected = scene.torchvision_from_flat(*scene.flattened())
    batch = len(scene.image_sizes)
    height, width = scene.image_sizes[0]
    chosen = batch * sum(min(count, scene.top_n) for count in scene.counts)
    results = ours()
    moved = sum(o.nbytes for o in scene.objectness) + 2 * 16 * chosen + sum(r.nbytes for r in results)
    return Case(
        room="rpn",
        op="rpn_proposals",
        name=name,
        shape=f"{batch} images {height} x {width}, 5 levels, {scene.top_n:,} each, {int(results[2].sum()):,} kept",
        dtype="fp32",
        n=batch * sum(scene.counts),
        ours=ours,
        check=lambda found: assert_same_proposals(found, expected),
        checked_against="torchvision, same boxes and scores",
        peers=peers,
        work=Work(moved, sorted_keys=chosen),
    )


SCENES: dict[str, tuple[Any, ...]] = {
    "random 2 x 800 x 1088": (random_maps, 2, 800, 1088, 1000),
    "smooth 2 x 800 x 1088": (smooth_maps, 2, 800, 1088, 1000),
    "random 1 x 320 x 320": (random_maps, 1, 320, 320, 150),
    "random 2 x 800 x 1088, 2,000 each": (random_maps, 2, 800, 1088, 2000),
}


@pytest.mark.parametrize("name", SCENES)
def bench_rpn_flat(compare: Compare, device: str, name: str) -> None:
    """From flat tensors and all anchors, as torchvision's filter_proposals has them."""
    scene = make_scene(*SCENES[name], device)
    flat = scene.flattened()
    compiled = torch.compile(scene.torchvision_from_flat)
    peers = {
        "torchvision": Peer(lambda: scene.torchvision_from_flat(*flat), "BoxCoder.decode and filter_proposals"),
        "torch.compile": Peer(lambda: compiled(*flat), "the same through torch.compile", full_only=True),
    }
    compare(rpn_case(scene, f"{name}, flat", lambda: scene.ours_from_flat(*flat), peers))


@pytest.mark.parametrize("name", SCENES)
def bench_rpn_head_outputs(compare: Compare, device: str, name: str) -> None:
    """From what the head gives; the anchors are a grid for us, and ready for torchvision."""
    scene = make_scene(*SCENES[name], device)

    def torchvision() -> Lists:
        return scene.torchvision_from_flat(*scene.flattened())

    about = "concat_box_prediction_layers, BoxCoder.decode and filter_proposals"
    compare(rpn_case(scene, f"{name}, head outputs", scene.ours, {"torchvision": Peer(torchvision, about)}))
