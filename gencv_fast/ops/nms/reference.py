"""The room's truth in plain PyTorch: torchvision's CPU rule, written to be checked by eye."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Decisions fall in fp64 for fp64 boxes and in fp32 for all others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def area(boxes: Tensor) -> Tensor:
    """[..., 4] -> [...]"""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou_with(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of one box [4] with boxes [N, 4]; NaN where a coordinate is NaN."""
    lower = torch.maximum(box[:2], boxes[:, :2])
    upper = torch.minimum(box[2:], boxes[:, 2:])
    width, height = (upper - lower).clamp(min=0).unbind(1)
    intersection = width * height
    return intersection / (area(box) + area(boxes) - intersection)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    boxes = boxes.to(compute_dtype(boxes.dtype))
    order = torch.sort(scores, stable=True, descending=True).indices
    suppressed = torch.zeros_like(scores, dtype=torch.bool)
    keep = []
    for i in order.tolist():
        if not suppressed[i]:
            keep.append(i)
            suppressed |= iou_with(boxes[i], boxes).double() > iou_threshold
    return torch.tensor(keep, dtype=torch.int64, device=boxes.device)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for class_id in idxs.unique():
        members = torch.where(idxs == class_id)[0]
        kept[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    order = torch.sort(scores, stable=True, descending=True).indices
    return order[kept[order]]


def decay_exp(x: Tensor) -> Tensor:
    """exp(x) for x <= 0 from separately rounded sums and products alone, so that every backend finds the same bits.

    x = n ln 2 + r, then a Taylor polynomial of exp(r) in Horner's form. 0 below the normal range.
    """
    double = x.dtype == torch.float64
    ln2_high, ln2_low, degree, lowest = (
        (0.693147180369123816490, 1.90821492927058770002e-10, 13, -708.0)
        if double
        else (0.693359375, -2.12194440e-4, 7, -87.0)
    )
    inside = x >= lowest  # False for NaN
    safe = torch.where(inside, x, torch.zeros_like(x))
    n = torch.round(safe * (1 / math.log(2)))
    r = (safe - n * ln2_high) - n * ln2_low
    result = torch.full_like(r, 1 / math.factorial(degree))
    for power in reversed(range(degree)):
        result = result * r + 1 / math.factorial(power)
    return torch.where(inside, torch.ldexp(result, n.to(torch.int32)), torch.where(x.isnan(), x, torch.zeros_like(x)))


def decay_factor(iou: Tensor, iou_threshold: float, sigma: float, method: str) -> Tensor:
    """What soft-NMS multiplies a score by; 1 where the boxes do not overlap or a coordinate is NaN."""
    if method == "linear":
        return torch.where(iou.double() > iou_threshold, 1 - iou, torch.ones_like(iou))
    # Divided by a tensor: a division by a number may become a product with its reciprocal.
    exponent = -(iou * iou) / torch.full_like(iou, sigma)
    return torch.where(iou > 0, decay_exp(exponent), torch.ones_like(iou))


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 1e-3,
    method: str = "linear",
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(boxes.dtype)
    boxes, remaining = boxes.to(dtype), scores.to(dtype, copy=True)
    taken = torch.zeros_like(scores, dtype=torch.bool)
    indices, decayed = [], []
    while (eligible := ~taken & (remaining.double() > score_threshold)).any():
        candidates = torch.where(eligible)[0]
        values = remaining[candidates]
        best = int(candidates[values == values.max()][0])  # the first among equals
        indices.append(best)
        decayed.append(float(remaining[best]))
        taken[best] = True
        remaining *= decay_factor(iou_with(boxes[best], boxes), iou_threshold, sigma, method)
    return (
        torch.tensor(indices, dtype=torch.int64, device=boxes.device),
        torch.tensor(decayed, dtype=scores.dtype, device=boxes.device),
    )


def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_output_per_class: int,
    max_total: int,
) -> tuple[Tensor, Tensor, Tensor]:
    batch = len(boxes)
    indices = boxes.new_full((batch, max_total, 2), -1, dtype=torch.int64)
    out_scores = scores.new_zeros((batch, max_total))
    counts = boxes.new_zeros(batch, dtype=torch.int64)
    for b in range(batch):
        found = []  # (class, box) pairs, class by class
        for c in range(scores.shape[1]):
            candidates = torch.where(scores[b, c].double() > score_threshold)[0]
            keep = candidates[nms(boxes[b, candidates], scores[b, c, candidates], iou_threshold)]
            keep = keep[:max_output_per_class].sort().values
            found.append(torch.stack((torch.full_like(keep, c), keep), dim=1))
        pairs = torch.cat(found) if found else indices.new_empty((0, 2))
        pair_scores = scores[b, pairs[:, 0], pairs[:, 1]]
        best = torch.sort(pair_scores, stable=True, descending=True).indices[:max_total]
        counts[b] = len(best)
        indices[b, : len(best)] = pairs[best]
        out_scores[b, : len(best)] = pair_scores[best]
    return indices, out_scores, counts
