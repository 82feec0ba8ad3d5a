"""Benchmarks of the nms room on random, clustered and real boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.ops.boxes import _batched_nms_vanilla

import gencv_fast

from . import nms_peers as peers
from .checks import assert_equal, assert_greedy, kept_differing
from .harness import Case, Compare, Peer
from .inputs import class_ids, clustered_boxes, detections, distinct_scores, random_boxes
from .limits import Work
from .photos import draw, photo_boxes

IOU = 0.5
ROOM = "nms"
# These compare every box with every kept one, half a minute a call at 100k sparse boxes.
SLOW_WHEN_SPARSE = ("torchvision", "onnxruntime", "powerboxes")


def short(n: int) -> str:
    return f"{n // 1000}k" if n >= 1000 else str(n)


def necessary_work(boxes: Tensor, scores: Tensor, kept: Tensor) -> Work:
    """Inputs in, indices out, a sort of the scores, one overlap test (13 operations) per dropped box."""
    moved = boxes.nbytes + scores.nbytes + kept.nbytes
    return Work(moved, operations=13 * (len(boxes) - len(kept)), sorted_keys=len(boxes))


def solved(boxes: Tensor, scores: Tensor) -> tuple[Tensor, str]:
    """The right answer and whose it is; at 100k boxes our own, proven by the definition of greedy NMS.

    It is found on the CPU for every device, because torchvision's CUDA kernel decides by other arithmetic.
    """
    boxes, scores = boxes.cpu(), scores.cpu()
    if len(boxes) < 100_000:
        return torchvision.ops.nms(boxes, scores, IOU), "torchvision, same indices in the same order"
    kept = gencv_fast.nms(boxes, scores, IOU)
    assert_greedy(kept, boxes, scores, IOU)
    return kept, "the definition of greedy NMS, checked for every box"


def nms_case(
    boxes: Tensor,
    scores: Tensor,
    name: str,
    series: str = "",
    full_only: tuple[str, ...] = (),
    draw: Callable[[Any, Path], None] | None = None,
) -> Case:
    n = len(boxes)
    expected, source = solved(boxes, scores)
    return Case(
        room=ROOM,
        op="nms",
        name=name,
        shape=f"{n:,} boxes, {len(expected):,} kept",
        dtype="fp32",
        n=n,
        ours=lambda: gencv_fast.nms(boxes, scores, IOU),
        check=lambda kept: assert_equal(kept, expected),
        checked_against=source,
        peers=peers.nms_peers(boxes, scores, IOU, expected, full_only),
        work=necessary_work(boxes, scores, expected),
        series=series,
        draw=draw,
    )


@pytest.mark.parametrize("n", [100, 1_000, 4_000, 10_000, 100_000], ids=short)
def bench_nms_random(compare: Compare, device: str, n: int) -> None:
    boxes, scores = (tensor.to(device) for tensor in random_boxes(n))
    full_only = SLOW_WHEN_SPARSE if n >= 100_000 else ()
    series = "random boxes (100k: in a 10,000 px square)"
    compare(nms_case(boxes, scores, f"random {short(n)}", series, full_only))


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000], ids=short)
def bench_nms_clustered(compare: Compare, device: str, n: int) -> None:
    boxes, scores = (tensor.to(device) for tensor in clustered_boxes(n, objects=n // 100))
    compare(nms_case(boxes, scores, f"clustered {short(n)}", series="clustered boxes"))


@pytest.mark.parametrize("photo", ["astronaut", "china", "chelsea"])
def bench_nms_photo(compare: Compare, device: str, photo: str) -> None:
    boxes, scores, _ = (tensor.to(device) for tensor in photo_boxes(photo, 10_000))
    case = nms_case(boxes, scores, f"photo {photo}", draw=lambda kept, path: draw(photo, boxes.cpu(), kept.cpu(), path))
    compare(case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def bench_nms_half(compare: Compare, device: str, dtype: torch.dtype) -> None:
    boxes, scores = (tensor.to(device, dtype) for tensor in random_boxes(10_000))
    wide_boxes, wide_scores = boxes.float(), scores.float()
    expected, _ = solved(wide_boxes, wide_scores)
    short_name = {torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
    compare(
        Case(
            room=ROOM,
            op="nms",
            name=f"random 10k {short_name}",
            shape=f"10,000 boxes, {len(expected):,} kept",
            dtype=short_name,
            n=10_000,
            ours=lambda: gencv_fast.nms(boxes, scores, IOU),
            check=lambda kept: assert_equal(kept, expected),
            checked_against="torchvision on the same values in fp32",
            peers={
                "gencv_fast fp32": Peer(
                    lambda: gencv_fast.nms(wide_boxes, wide_scores, IOU), "our nms on the same values in fp32"
                )
            },
            work=necessary_work(boxes, scores, expected),
        )
    )


def bench_call_overhead(compare: Compare, device: str) -> None:
    boxes, scores = (tensor.to(device) for tensor in random_boxes(5))
    expected, source = solved(boxes, scores)
    peer = Peer(lambda: torchvision.ops.nms(boxes, scores, IOU), "torchvision.ops.nms, the same call")
    compare(
        Case(
            room=ROOM,
            op="nms",
            name="call overhead",
            shape="5 boxes",
            dtype="fp32",
            n=5,
            ours=lambda: gencv_fast.nms(boxes, scores, IOU),
            check=lambda kept: assert_equal(kept, expected),
            checked_against=source,
            peers={"torchvision": peer},
        )
    )


def batched_case(boxes: Tensor, scores: Tensor, idxs: Tensor, name: str) -> Case:
    # torchvision's faster form adds offsets to the coordinates, and those round.
    expected = _batched_nms_vanilla(boxes.cpu(), scores.cpu(), idxs.cpu(), IOU)
    return Case(
        room=ROOM,
        op="batched_nms",
        name=name,
        shape=f"{len(boxes):,} boxes, {len(idxs.unique())} classes, {len(expected):,} kept",
        dtype="fp32",
        n=len(boxes),
        ours=lambda: gencv_fast.batched_nms(boxes, scores, idxs, IOU),
        check=lambda kept: assert_equal(kept, expected),
        checked_against="torchvision's loop over the classes, same indices in the same order",
        peers=peers.batched_peers(boxes, scores, idxs, IOU, expected),
        work=necessary_work(boxes, scores, expected),
    )


def bench_batched_nms_random(compare: Compare, device: str) -> None:
    boxes, scores = random_boxes(10_000)
    idxs = class_ids(10_000, 80)
    compare(batched_case(boxes.to(device), scores.to(device), idxs.to(device), "random 10k, 80 classes"))


def bench_batched_nms_photo(compare: Compare, device: str) -> None:
    boxes, _, idxs = photo_boxes("motorcycle", 10_000)
    # Equal scores would leave the order to the sort inside torchvision's loop, which promises none.
    scores = distinct_scores(len(boxes), torch.Generator().manual_seed(0))
    compare(batched_case(boxes.to(device), scores.to(device), idxs.to(device), "photo motorcycle"))


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("n", [1_000, 4_000], ids=short)
def bench_soft_nms(compare: Compare, device: str, suite: str, n: int, method: str) -> None:
    if n > 1_000 and suite == "quick":
        pytest.skip("4k boxes belong to the full suite")
    pixel_boxes, scores = random_boxes(n)
    boxes = pixel_boxes / 1_200  # ensemble-boxes wants coordinates in [0, 1]
    iou_threshold, sigma = 0.3, 0.5
    reference = gencv_fast.soft_nms(boxes, scores, iou_threshold, sigma, method=method, backend="reference")
    expected, decayed = reference
    arguments = (boxes.to(device), scores.to(device), iou_threshold, sigma)

    def check(result: tuple[Tensor, Tensor]) -> None:
        assert_equal(result[0], expected)
        torch.testing.assert_close(result[1].cpu(), decayed)

    def boxes_differing(kept_boxes: np.ndarray) -> int:
        theirs = {row.tobytes() for row in kept_boxes.astype(np.float32)}
        return len(theirs ^ {row.tobytes() for row in boxes[expected].numpy()})

    compared = {
        "PyTorch loop": Peer(
            peers.soft_nms_loop(*arguments, method, compiled=False),
            "one step of plain PyTorch for each kept box",
            differing=lambda kept: kept_differing(kept.cpu(), expected),
        ),
        "torch.compile": Peer(
            peers.soft_nms_loop(*arguments, method, compiled=True),
            "the same step through torch.compile",
            full_only=True,
            differing=lambda kept: kept_differing(kept.cpu(), expected),
        ),
    }
    if device == "cpu":
        compared["ensemble-boxes"] = Peer(
            peers.ensemble_soft_nms(*arguments, method),
            "ensemble_boxes.soft_nms, NumPy",
            differing=boxes_differing,
        )
    compare(
        Case(
            room=ROOM,
            op="soft_nms",
            name=f"{method} {short(n)}",
            shape=f"{n:,} boxes, {len(expected):,} kept",
            dtype="fp32",
            n=n,
            ours=lambda: gencv_fast.soft_nms(*arguments, method=method),
            check=check,
            checked_against="our reference in plain PyTorch: same order, scores within rounding",
            peers=compared,
        )
    )


@pytest.mark.parametrize(("images", "n"), [(1, 1_000), (1, 5_000), (4, 5_000)], ids=["1x80x1k", "1x80x5k", "4x80x5k"])
def bench_multiclass_nms(compare: Compare, device: str, images: int, n: int) -> None:
    boxes, scores = detections(images, 80, n)
    limits = (IOU, 0.05, 100, 300)
    expected = peers.torchvision_multiclass(boxes, scores, *limits)
    arguments = (boxes.to(device), scores.to(device), *limits)

    def check(result: tuple[Tensor, Tensor, Tensor]) -> None:
        for ours, theirs in zip(result, expected, strict=True):
            assert_equal(ours, theirs)

    def rows_differing(results: list[np.ndarray]) -> int:
        wanted = [rows[:count].numpy() for rows, count in zip(expected[0], expected[2], strict=True)]
        return sum(
            len({tuple(row) for row in theirs} ^ {tuple(row) for row in ours})
            for theirs, ours in zip(results, wanted, strict=True)
        )

    compared = {
        "torchvision": Peer(
            lambda: peers.torchvision_multiclass(*arguments),
            "torchvision.ops.nms for every image and class, then a sort",
        )
    }
    if device == "cpu":
        compared["onnxruntime"] = Peer(
            peers.onnxruntime_multiclass(*arguments),
            "NonMaxSuppression over [B, C, N], then NumPy for the best of all classes",
            differing=rows_differing,
        )
    compare(
        Case(
            room=ROOM,
            op="multiclass_nms",
            name=f"{images} x 80 x {short(n)}",
            shape=f"batch {images}, 80 classes, {n:,} boxes, {int(expected[2].sum()):,} kept",
            dtype="fp32",
            n=images * 80 * n,
            ours=lambda: gencv_fast.multiclass_nms(*arguments),
            check=check,
            checked_against="torchvision for every class, same indices, scores and counts",
            peers=compared,
        )
    )
