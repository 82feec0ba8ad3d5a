"""Benchmarks of the yolo room: maps as a trained network gives them, most of them background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

import gencv_fast

from .harness import Case, Compare, Peer
from .limits import Work

SIZE, STRIDES, CLASSES, REG_MAX = 640, (8, 16, 32), 80, 16
IOU, MOST, MOST_CANDIDATES = 0.7, 300, 30_000
#: YOLOv5's, and near those of v3.
ANCHORS = [
    [(10.0, 13.0), (16.0, 30.0), (33.0, 23.0)],
    [(30.0, 61.0), (62.0, 45.0), (59.0, 119.0)],
    [(116.0, 90.0), (156.0, 198.0), (373.0, 326.0)],
]
Detections = tuple[Tensor, Tensor, Tensor, Tensor]


def _bumps(logits: Tensor, generator: torch.Generator, objects: int, channel_of: Callable[[int], int]) -> None:
    """Raises smooth hills of a cell or two at a few places of each image."""
    height, width = logits.shape[2:]
    y, x = torch.arange(height)[:, None], torch.arange(width)
    for image in logits:
        for place in torch.rand(objects, 3, generator=generator).tolist():
            distance = (y - place[0] * height) ** 2 + (x - place[1] * width) ** 2
            image[channel_of(int(place[2] * CLASSES))] += 10 * torch.exp(-distance / 3)


def _noise(batch: int, channels: int, side: int, generator: torch.Generator) -> Tensor:
    return torch.randn(batch, channels, side, side, generator=generator)


def v8_maps(batch: int) -> list[Tensor]:
    """Class outputs about -8; distances of a few cells whose distributions have one peak."""
    generator, maps = torch.Generator().manual_seed(0), []
    for stride in STRIDES:
        side = SIZE // stride
        classes = 1.5 * _noise(batch, CLASSES, side, generator) - 8
        _bumps(classes, generator, 12, lambda c: c)
        peaks = 2 + 4 * torch.rand(batch, 4, 1, side, side, generator=generator)
        bins = torch.arange(REG_MAX).view(1, 1, -1, 1, 1)
        distances = -((bins - peaks) ** 2) + 0.3 * torch.randn(batch, 4, REG_MAX, side, side, generator=generator)
        maps.append(torch.cat((distances.flatten(1, 2), classes), 1))
    return maps


def anchor_maps(batch: int) -> list[Tensor]:
    """Objectness about -6 as well, class outputs about -2."""
    generator, maps = torch.Generator().manual_seed(0), []
    for stride in STRIDES:
        side = SIZE // stride
        values = _noise(batch, 3 * (5 + CLASSES), side, generator).unflatten(1, (3, -1))
        values[:, :, :4] *= 0.5
        values[:, :, 4] = 1.5 * values[:, :, 4] - 6
        values[:, :, 5:] -= 2
        flat = values.flatten(1, 2)
        _bumps(flat, generator, 12, lambda c: (c % 3) * (5 + CLASSES) + 4)
        _bumps(flat, generator, 12, lambda c: (c % 3) * (5 + CLASSES) + 5 + c)
        maps.append(flat)
    return maps


def eager_v8(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes [B, n, 4] and scores [B, classes, n]: the graph of the usual head."""
    batch = maps[0].shape[0]
    flat = torch.cat([m.view(batch, m.shape[1], -1) for m in maps], 2)
    distances, classes = flat.split((4 * REG_MAX, CLASSES), 1)
    weights = torch.arange(REG_MAX, dtype=torch.float32, device=flat.device).view(1, REG_MAX, 1, 1)
    bins = distances.view(batch, 4, REG_MAX, -1).transpose(2, 1).softmax(1)
    ltrb = torch.nn.functional.conv2d(bins, weights).view(batch, 4, -1)
    points, strides = _points(maps)
    low, high = ltrb.chunk(2, 1)
    boxes = torch.cat((points - low, points + high), 1) * strides
    return boxes.transpose(1, 2), classes.sigmoid()


def _points(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    points, strides = [], []
    for m, stride in zip(maps, STRIDES, strict=True):
        side = m.shape[2]
        y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
        points.append(torch.stack((x, y)).flatten(1))
        strides.append(torch.full((1, side * side), float(stride)))
    return torch.cat(points, 1).to(maps[0].device), torch.cat(strides, 1).to(maps[0].device)


def eager_anchors(maps: Sequence[Tensor], version: str) -> tuple[Tensor, Tensor]:
    boxes, scores = [], []
    for m, stride, anchors in zip(maps, STRIDES, ANCHORS, strict=True):
        batch, _, height, width = m.shape
        values = m.view(batch, 3, 5 + CLASSES, height, width).permute(0, 1, 3, 4, 2).contiguous()
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack((x, y), 2).to(m)
        sides = m.new_tensor(anchors).view(1, 3, 1, 1, 2)
        if version == "v5":
            values = values.sigmoid()
            centre = (values[..., :2] * 2 - 0.5 + grid) * stride
            size = (values[..., 2:4] * 2) ** 2 * sides
            rest = values[..., 4:]
        else:
            centre, size = (values[..., :2].sigmoid() + grid) * stride, values[..., 2:4].exp() * sides
            rest = values[..., 4:].sigmoid()
        boxes.append(torch.cat((centre - size / 2, centre + size / 2), -1).view(batch, -1, 4))
        scores.append((rest[..., :1] * rest[..., 1:]).view(batch, -1, CLASSES))
    return torch.cat(boxes, 1), torch.cat(scores, 1).transpose(1, 2)


def eager_detections(boxes: Tensor, scores: Tensor, threshold: float, multi_label: bool) -> list[tuple[Tensor, ...]]:
    """Per image: filter, the best candidates, torchvision's batched_nms, the best detections."""
    found = []
    for image_boxes, image_scores in zip(boxes, scores, strict=True):
        if multi_label:
            box, label = torch.where(image_scores.t() > threshold)
            score = image_scores[label, box]
        else:
            best, best_label = image_scores.max(0)
            box = torch.where(best > threshold)[0]
            score, label = best[box], best_label[box]
        order = score.argsort(descending=True)[:MOST_CANDIDATES]
        box, score, label = image_boxes[box[order]], score[order], label[order]
        keep = torchvision.ops.batched_nms(box, score, label, IOU)[:MOST]
        found.append((box[keep], score[keep], label[keep]))
    return found


@dataclass(frozen=True)
class Network:
    maps: Callable[[int], list[Tensor]]
    eager: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]
    anchors: list[Any] | None


NETWORKS = {
    "v8": Network(v8_maps, eager_v8, None),
    "v5": Network(anchor_maps, lambda maps: eager_anchors(maps, "v5"), ANCHORS),
    "v3": Network(anchor_maps, lambda maps: eager_anchors(maps, "v3"), ANCHORS),
}


def assert_same_detections(results: Detections, expected: list[tuple[Tensor, ...]]) -> None:
    """As many, of the same scores; a box may differ where the last digit of an overlap or a score decides."""
    boxes, scores, labels, counts = (r.cpu() for r in results)
    for i, (their_boxes, their_scores, their_labels) in enumerate(expected):
        count = len(their_boxes)
        assert abs(int(counts[i]) - count) <= 2
        count = min(count, int(counts[i]))
        torch.testing.assert_close(scores[i, :count], their_scores[:count].cpu(), atol=2e-3, rtol=0)
        near = (torch.cdist(boxes[i, :count], their_boxes.cpu(), p=torch.inf) < 0.01) & (
            labels[i, :count, None] == their_labels.cpu()
        )
        assert int((~near.any(1)).sum()) <= 2


@pytest.mark.parametrize(
    ("version", "threshold", "multi_label"),
    [
        ("v8", 0.25, False),
        ("v8", 0.001, False),
        ("v8", 0.001, True),
        ("v5", 0.25, False),
        ("v5", 0.001, True),
        ("v3", 0.25, False),
        ("v3", 0.001, True),
    ],
)
def bench_yolo_detect(compare: Compare, device: str, version: str, threshold: float, multi_label: bool) -> None:
    batch, network = 8, NETWORKS[version]
    maps = [m.to(device) for m in network.maps(batch)]

    def ours() -> Detections:
        return gencv_fast.yolo_detect(
            maps, network.anchors, STRIDES, version, threshold, IOU, MOST, False, multi_label, MOST_CANDIDATES
        )

    def eager() -> list[tuple[Tensor, ...]]:
        return eager_detections(*network.eager(maps), threshold, multi_label)

    expected = eager()
    outputs = sum(m[:, 4 * REG_MAX :].numel() for m in maps) if version == "v8" else sum(m.numel() for m in maps)
    compare(
        Case(
            room="yolo",
            op="yolo_detect",
            name=f"{version} at {threshold}, {'all classes' if multi_label else 'best class'}",
            shape=f"{batch} images {SIZE} x {SIZE}, {CLASSES} classes, {int(ours()[3].sum()):,} detections",
            dtype="fp32",
            n=outputs,
            ours=ours,
            check=lambda results: assert_same_detections(results, expected),
            checked_against="eager PyTorch and torchvision.ops.batched_nms, but where the last digit decides",
            peers={"PyTorch": Peer(eager, "decoding in eager PyTorch, torchvision.ops.batched_nms per image")},
            # The classes are read once; with objectness only it, and the lines near objects.
            work=Work(4 * (outputs if version == "v8" else outputs // (5 + CLASSES))),
        )
    )


@pytest.mark.parametrize("version", NETWORKS)
def bench_yolo_decode(compare: Compare, device: str, version: str) -> None:
    network = NETWORKS[version]
    maps = [m.to(device) for m in network.maps(8)]
    expected = network.eager(maps)

    def check(results: tuple[Tensor, Tensor]) -> None:
        torch.testing.assert_close(results[0], expected[0], atol=1e-2, rtol=1e-4)
        torch.testing.assert_close(results[1].transpose(1, 2), expected[1])

    compare(
        Case(
            room="yolo",
            op="yolo_decode",
            name=version,
            shape=f"8 images {SIZE} x {SIZE}, {CLASSES} classes",
            dtype="fp32",
            n=sum(m.numel() for m in maps),
            ours=lambda: gencv_fast.yolo_decode(maps, network.anchors, STRIDES, version),
            check=check,
            checked_against="eager PyTorch",
            peers={"PyTorch": Peer(lambda: network.eager(maps), "the same in eager PyTorch")},
            work=Work(sum(m.nbytes for m in maps) + sum(e.nbytes for e in expected)),
        )
    )
