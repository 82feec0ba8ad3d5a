"""Benchmarks of the boxes room: pairs, losses, coding, formats and matching at the sizes of detectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import powerboxes
import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

import gencv_fast

from .checks import assert_equal
from .harness import Case, Compare, Peer
from .limits import Work

ANCHORS = 200_000
HEIGHT, WIDTH = 800, 1088
STRIDES = (4, 8, 16, 32, 64)
SIZES = tuple((8 * stride,) for stride in STRIDES)
RATIOS = ((0.5, 1.0, 2.0),) * len(STRIDES)
MAPS = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
STEPS = [(HEIGHT // down, WIDTH // across) for down, across in MAPS]  # as torchvision finds them
IOU_KINDS = ("generalized", "distance", "complete")


def boxes_on(device: str, n: int, seed: int = 0) -> Tensor:
    """Random boxes in a square of 1,000 px, whatever their number."""
    corner, size = torch.rand(2, n, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat((1_000 * corner, 1_000 * corner + 100 * size + 5), 1).to(device)


def ground_truth(n: int, device: str) -> Tensor:
    """Objects of 16 to 400 px, as many small ones as large ones, inside the image."""
    size, ratio, x, y = torch.rand(4, n, generator=torch.Generator().manual_seed(0))
    size, stretch = 16 * 25**size, torch.exp(0.7 * (ratio - 0.5))
    width, height = size * stretch, size / stretch
    left, top = x * (WIDTH - width), y * (HEIGHT - height)
    return torch.stack((left, top, left + width, top + height), 1).to(device)


def all_anchors(device: str) -> Tensor:
    """Of a feature pyramid over one image: 217,362."""
    return gencv_fast.anchor_grid(MAPS, STEPS, SIZES, RATIOS, device).clone()


def assert_close(result: Any, expected: Any) -> None:
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def make_case(
    op: str,
    shape: str,
    n: int,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    work: Work,
    name: str = "",
    more: dict[str, Peer] | None = None,
    exact: bool = False,
    measures_memory: bool = False,
) -> Case:
    """Checked against torchvision's `theirs`, which also runs compiled in the full suite; `more` are other peers."""
    expected = theirs()
    compiled = torch.compile(theirs, dynamic=False)
    return Case(
        room="boxes",
        op=op,
        name=name or shape,
        shape=shape,
        dtype="fp32",
        n=n,
        ours=ours,
        check=lambda result: (assert_equal if exact else assert_close)(result, expected),
        checked_against="torchvision, equal to the bit" if exact else "torchvision, within rounding",
        peers={
            "torchvision": Peer(theirs, "the function of torchvision that ours replaces"),
            "torch.compile": Peer(lambda: compiled(), "the same through torch.compile", full_only=True),
        }
        | (more or {}),
        work=work,
        measures_memory=measures_memory,
    )


def powerboxes_peers(kind: str, a: Tensor, b: Tensor, expected: Tensor) -> dict[str, Peer]:
    """1 - powerboxes' distances, which are float64, should be our result."""
    if a.device.type != "cpu":
        return {}
    boxes = a.numpy(), b.numpy()

    def differing(distance: np.ndarray) -> int:
        return int((np.abs(1 - distance - expected.numpy()) > 1e-4).sum())

    names = [name for name in (f"{kind}_distance", f"parallel_{kind}_distance") if hasattr(powerboxes, name)]
    return {
        f"powerboxes{' parallel' if 'parallel' in name else ''}": Peer(
            partial(getattr(powerboxes, name), *boxes), f"powerboxes.{name}, Rust; float64 result", differing=differing
        )
        for name in names
    }


PAIRS = {"box_iou": ("iou", 13), "generalized_box_iou": ("giou", 22), "distance_box_iou": ("diou", 30)}
PAIRS |= {"complete_box_iou": ("ciou", 70)}


def compare_pairs(compare: Compare, device: str, op: str, n: int, m: int) -> None:
    kind, operations = PAIRS[op]
    a, b = boxes_on(device, n), boxes_on(device, m, seed=1)
    theirs = partial(getattr(torchvision.ops, op), a, b)
    result_bytes = 4 * n * m
    compare(
        make_case(
            op,
            f"{n:,} x {m:,} boxes",
            n * m,
            partial(getattr(gencv_fast, op), a, b),
            theirs,
            Work(a.nbytes + b.nbytes + result_bytes, operations * n * m),
            more=powerboxes_peers(kind, a, b, theirs().cpu()),
            exact=op == "box_iou",
        )
    )


@pytest.mark.parametrize(("n", "m"), [(1_000, 1_000), (4_000, 4_000), (50, ANCHORS)], ids=["1kx1k", "4kx4k", "50x200k"])
def bench_box_iou(compare: Compare, device: str, suite: str, n: int, m: int) -> None:
    if suite == "quick" and m > 1_000:
        pytest.skip("larger matrices belong to the full suite")
    compare_pairs(compare, device, "box_iou", n, m)


@pytest.mark.parametrize("kind", IOU_KINDS)
def bench_other_pairs(compare: Compare, device: str, kind: str) -> None:
    compare_pairs(compare, device, f"{kind}_box_iou", 1_000, 1_000)


def forward_and_backward(loss: Callable[..., Tensor], *boxes: Tensor) -> tuple[Tensor, ...]:
    leaves = [b.detach().requires_grad_() for b in boxes]
    result = loss(*leaves).sum()
    return (result.detach(), *torch.autograd.grad(result, leaves))


def bench_generalized_box_iou_backward(compare: Compare, device: str, suite: str) -> None:
    if suite == "quick":
        pytest.skip("gradients of all pairs belong to the full suite")
    a, b = boxes_on(device, 1_000), boxes_on(device, 1_000, seed=1)
    pairs = len(a) * len(b)
    compare(
        make_case(
            "generalized_box_iou",
            "1,000 x 1,000 boxes, forward and backward",
            pairs,
            partial(forward_and_backward, gencv_fast.generalized_box_iou, a, b),
            partial(forward_and_backward, torchvision.ops.generalized_box_iou, a, b),
            Work(8 * pairs, 80 * pairs),
        )
    )


@pytest.mark.parametrize("kind", reversed(IOU_KINDS))
def bench_loss(compare: Compare, device: str, kind: str) -> None:
    """complete_box_iou_loss, distance_box_iou_loss and generalized_box_iou_loss."""
    n = 10_000
    boxes = boxes_on(device, n)
    moved = boxes + 10 * torch.randn(n, 4, generator=torch.Generator().manual_seed(1)).to(device)
    op = f"{kind}_box_iou_loss"
    compare(
        make_case(
            op,
            f"{n:,} pairs, forward and backward",
            n,
            partial(forward_and_backward, getattr(gencv_fast, op), boxes, moved),
            partial(forward_and_backward, getattr(torchvision.ops, op), boxes, moved),
            Work(2 * 2 * 2 * boxes.nbytes, 200 * n),
        )
    )


def row_case(op: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rows_in: int, **more: Any) -> Case:
    """Ops that turn `rows_in` tensors of 200k rows into one."""
    moved = 16 * ANCHORS * (rows_in + 1)
    return make_case(op, f"{ANCHORS:,} boxes", ANCHORS, ours, theirs, Work(moved), **more)


@pytest.mark.parametrize("op", ["box_decode", "box_encode"])
def bench_coding(compare: Compare, device: str, op: str) -> None:
    weights = (10.0, 10.0, 5.0, 5.0)
    coder = BoxCoder(weights)
    anchors = boxes_on(device, ANCHORS)
    targets = boxes_on(device, ANCHORS, seed=1)
    if op == "box_encode":
        ours = partial(gencv_fast.box_encode, targets, anchors, weights)
        compare(row_case(op, ours, partial(coder.encode_single, targets, anchors), 2))
        return
    deltas = torch.randn(ANCHORS, 4, generator=torch.Generator().manual_seed(2)).to(device)
    ours = partial(gencv_fast.box_decode, deltas, anchors, weights)
    compare(row_case(op, ours, partial(coder.decode_single, deltas, anchors), 2))


def bench_clip_boxes(compare: Compare, device: str) -> None:
    boxes, size = boxes_on(device, ANCHORS), (600, 900)
    ours = partial(gencv_fast.clip_boxes, boxes, size)
    compare(row_case("clip_boxes", ours, partial(torchvision.ops.clip_boxes_to_image, boxes, size), 1, exact=True))


@pytest.mark.parametrize("formats", [("xyxy", "cxcywh"), ("cxcywh", "xyxy")], ids="-".join)
def bench_box_convert(compare: Compare, device: str, formats: tuple[str, str]) -> None:
    boxes = torchvision.ops.box_convert(boxes_on(device, ANCHORS), "xyxy", formats[0])
    expected = torchvision.ops.box_convert(boxes, *formats)
    more = {}
    if device == "cpu":
        more["powerboxes"] = Peer(
            partial(powerboxes.box_convert, boxes.numpy(), *formats),
            "powerboxes.box_convert, Rust",
            differing=lambda result: int((np.abs(result - expected.numpy()) > 1e-3).any(1).sum()),
        )
    ours, theirs = (
        partial(gencv_fast.box_convert, boxes, *formats),
        partial(torchvision.ops.box_convert, boxes, *formats),
    )
    compare(row_case("box_convert", ours, theirs, 1, name=" to ".join(formats), more=more))


def bench_remove_small_boxes(compare: Compare, device: str) -> None:
    boxes, least = boxes_on(device, ANCHORS), 30.0
    theirs = partial(torchvision.ops.remove_small_boxes, boxes, least)
    kept = theirs()
    compare(
        make_case(
            "remove_small_boxes",
            f"{ANCHORS:,} boxes, {len(kept):,} kept",
            ANCHORS,
            partial(gencv_fast.remove_small_boxes, boxes, least),
            theirs,
            Work(boxes.nbytes + kept.nbytes),
            exact=True,
        )
    )


@pytest.mark.parametrize("anchors_are", ["a grid", "random"])
def bench_match_boxes(compare: Compare, device: str, anchors_are: str) -> None:
    gt = ground_truth(50, device)
    anchors = all_anchors(device) if anchors_are == "a grid" else boxes_on(device, ANCHORS)
    thresholds = (0.7, 0.3, True)
    matcher = Matcher(*thresholds)
    compare(
        make_case(
            "match_boxes",
            f"{len(anchors):,} anchors, 50 boxes",
            len(anchors),
            partial(gencv_fast.match_boxes, gt, anchors, *thresholds),
            lambda: matcher(torchvision.ops.box_iou(gt, anchors)),
            Work(anchors.nbytes + 8 * len(anchors)),
            name=f"anchors: {anchors_are}",
            exact=True,
            measures_memory=True,
        )
    )


def bench_anchor_grid(compare: Compare, device: str) -> None:
    generator = AnchorGenerator(SIZES, RATIOS)
    maps = [torch.zeros(1, 1, *shape, device=device) for shape in MAPS]
    images = ImageList(torch.zeros(1, 3, HEIGHT, WIDTH, device=device), [(HEIGHT, WIDTH)])
    theirs = generator(images, maps)[0]
    compare(
        Case(
            room="boxes",
            op="anchor_grid",
            name="5 levels, cached",
            shape=f"{len(theirs):,} anchors",
            dtype="fp32",
            n=len(theirs),
            ours=lambda: gencv_fast.anchor_grid(MAPS, STEPS, SIZES, RATIOS, device),
            check=lambda result: assert_equal(result, theirs),
            checked_against="torchvision, equal to the bit",
            peers={"torchvision": Peer(lambda: generator(images, maps)[0], "AnchorGenerator, which makes them anew")},
        )
    )
