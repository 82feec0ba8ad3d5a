"""torchvision's results, in the form of the room's operators."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor
from torchvision.ops.boxes import _batched_nms_vanilla


def widened(tensor: Tensor) -> Tensor:
    """torchvision's rule in fp32 is the rule for fp16 and bf16."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def torchvision_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return torchvision.ops.nms(widened(boxes), widened(scores), iou_threshold)


def torchvision_batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    kept = _batched_nms_vanilla(widened(boxes), widened(scores), idxs, iou_threshold).sort().values
    # Its own last sort is not stable.
    return kept[scores[kept].sort(stable=True, descending=True).indices]


def torchvision_multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_output_per_class: int,
    max_total: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Image by image and class by class."""
    indices = torch.full((len(boxes), max_total, 2), -1)
    best_scores, counts = scores.new_zeros(len(boxes), max_total), torch.zeros(len(boxes), dtype=torch.int64)
    for image, (image_boxes, image_scores) in enumerate(zip(boxes, scores, strict=True)):
        found = []
        for class_id, class_scores in enumerate(image_scores):
            candidates = (class_scores.double() > score_threshold).nonzero()[:, 0]
            kept = torchvision_nms(image_boxes[candidates], class_scores[candidates], iou_threshold)
            found += [(class_id, int(box)) for box in candidates[kept[:max_output_per_class]]]
        found.sort(key=lambda pair: (-float(image_scores[pair]), *pair))
        counts[image] = len(found[:max_total])
        for place, pair in enumerate(found[:max_total]):
            indices[image, place] = torch.tensor(pair)
            best_scores[image, place] = image_scores[pair]
    return indices, best_scores, counts
