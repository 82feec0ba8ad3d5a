"""Is the result right? Quick even at 100k boxes, where torchvision's answer takes half a minute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor


def assert_equal(result: Tensor, expected: Tensor) -> None:
    """Same values in the same order, else an error that says where they part."""
    result, expected = result.cpu(), expected.cpu()
    assert result.shape == expected.shape, f"shape {tuple(result.shape)}, expected {tuple(expected.shape)}"
    wrong = (result != expected).flatten().nonzero()
    assert not len(wrong), f"{len(wrong)} of {expected.numel()} values differ, the first at {int(wrong[0])}"


def kept_differing(result: object, expected: Tensor) -> int:
    """How many boxes one of the two keeps and the other does not."""
    ours, theirs = expected.cpu().numpy(), np.asarray(result).astype(np.int64)
    return len(np.setxor1d(ours, theirs))


def assert_same_detections(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """One-to-one on the label, within a hundredth of a pixel and 1e-5 of the score; near-ties may swap places."""
    _greatest_distances(got, expected, box_limit=0.01, score_limit=1e-5)


def assert_as_near_detections(
    got: Mapping[str, Tensor], theirs: Mapping[str, Tensor], truth: Mapping[str, Tensor]
) -> None:
    """At most twice as far from the truth in float64 as the peer's detections, or 0.001 pixel and 1e-6 of the score.

    Two results that are both right lie on different sides of the truth: they may be further from each other than
    either is from it. The truth must have the same detections: else the last digit decides, and nothing is told.
    """
    limits = {"box_limit": 0.1, "score_limit": 1e-4}
    theirs_apart = _greatest_distances(theirs, truth, **limits)
    ours_apart = _greatest_distances(got, truth, **limits)
    names, floors = ("boxes", "scores"), (1e-3, 1e-6)
    for name, floor, ours, peers in zip(names, floors, ours_apart, theirs_apart, strict=True):
        limit = max(2 * peers, floor)
        assert ours <= limit, f"{name} are off by {ours:.3g}, more than {limit:.3g}; the peer's are by {peers:.3g}"


def _greatest_distances(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], box_limit: float, score_limit: float
) -> tuple[float, float]:
    """Of boxes and scores, each detection against the counterpart that it has within the limits."""
    count = len(expected["boxes"])
    assert len(found["boxes"]) == count, f"{len(found['boxes'])} detections, expected {count}"
    if not count:
        return 0.0, 0.0
    boxes = (found["boxes"][:, None] - expected["boxes"]).abs().amax(-1)
    scores = (found["scores"][:, None] - expected["scores"]).abs()
    apart = (boxes / box_limit).maximum(scores / score_limit)
    apart[found["labels"][:, None] != expected["labels"]] = torch.inf
    nearest = apart.min(1)
    strangers = int((nearest.values > 1).sum())
    assert not strangers, f"{strangers} of {count} detections have no counterpart"
    assert len(nearest.indices.unique()) == count, "two detections have the same counterpart"
    pairs = nearest.indices[:, None]
    return float(boxes.gather(1, pairs).max()), float(scores.gather(1, pairs).max())


def assert_greedy(kept: Tensor, boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    """Proves `kept` to be greedy NMS without running it, from the only set that satisfies the definition.

    A box is dropped if and only if some kept box that precedes it overlaps it by more than the threshold.
    """
    order = scores.sort(descending=True, stable=True).indices
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    assert bool((rank[kept].diff() > 0).all()), "kept boxes are not in descending order of score"
    is_kept = torch.zeros(len(boxes), dtype=torch.bool)
    is_kept[kept] = True
    suppressed = torch.zeros(len(boxes), dtype=torch.bool)
    for kept_box, other in _close_pairs(kept, boxes):
        later = rank[other] > rank[kept_box]
        kept_box, other = kept_box[later], other[later]
        suppressed[other[_iou(boxes[kept_box], boxes[other]).double() > iou_threshold]] = True
    wrong = (suppressed == is_kept).nonzero()
    assert not len(wrong), f"{len(wrong)} boxes are decided wrongly, the first is {int(wrong[0])}"


def _iou(a: Tensor, b: Tensor) -> Tensor:
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    width = (torch.minimum(a[:, 2], b[:, 2]) - torch.maximum(a[:, 0], b[:, 0])).clamp(min=0)
    height = (torch.minimum(a[:, 3], b[:, 3]) - torch.maximum(a[:, 1], b[:, 1])).clamp(min=0)
    inter = width * height
    return inter / (area_a + area_b - inter)


def _close_pairs(kept: Tensor, boxes: Tensor, chunk: int = 4_096) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (kept box, any box) with corners in neighbouring cells, so wide that all overlaps are there."""
    cell = (boxes[:, :2] / (boxes[:, 2:] - boxes[:, :2]).max()).floor().long()
    cell -= cell.min(0).values - 1
    stride = int(cell[:, 0].max()) + 2
    key, by_key = (cell[:, 1] * stride + cell[:, 0]).sort()
    for some in kept.split(chunk):
        for row in (-1, 0, 1):
            middle = (cell[some, 1] + row) * stride + cell[some, 0]
            first = torch.searchsorted(key, middle - 1)
            count = torch.searchsorted(key, middle + 1, right=True) - first
            begin = torch.repeat_interleave(first - (count.cumsum(0) - count), count)
            yield torch.repeat_interleave(some, count), by_key[begin + torch.arange(len(begin))]
