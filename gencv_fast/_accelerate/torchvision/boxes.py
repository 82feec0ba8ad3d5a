"""Routes to the room `boxes`.

Ours runs for float32 and float64 boxes. torchvision computes half precision and whole numbers in its own mixture of
dtypes, so those are left to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import boxes as box_ops

from ...ops.boxes.checks import FORMATS
from ...ops.boxes.contract import OPERATORS
from ..routes import FunctionRoute, Route, are_plain, have_equal_lengths, run

_EPS = 1e-7
_IGNORED = Matcher.BETWEEN_THRESHOLDS


def _are_boxes(*tensors: Tensor, coordinates: int = 4) -> bool:
    """Of one dtype that ours computes as torchvision does, and ``[..., 4]``."""
    return are_plain(*tensors) and all(
        t.dtype in (torch.float32, torch.float64)
        and t.dtype == tensors[0].dtype
        and t.dim() > 0
        and t.shape[-1] == coordinates
        for t in tensors
    )


def _are_sets(boxes1: Tensor, boxes2: Tensor) -> bool:
    return _are_boxes(boxes1, boxes2) and boxes1.dim() > 1 and boxes1.shape[:-2] == boxes2.shape[:-2]


def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Any:
    if fmt != "xyxy" or not _are_sets(boxes1, boxes2):
        return NotImplemented
    return run(OPERATORS["box_iou"], boxes1, boxes2)


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Any:
    return run(OPERATORS["generalized_box_iou"], boxes1, boxes2) if _are_sets(boxes1, boxes2) else NotImplemented


def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = _EPS) -> Any:
    return run(OPERATORS["distance_box_iou"], boxes1, boxes2, eps) if _are_sets(boxes1, boxes2) else NotImplemented


def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = _EPS) -> Any:
    return run(OPERATORS["complete_box_iou"], boxes1, boxes2, eps) if _are_sets(boxes1, boxes2) else NotImplemented


_REDUCTIONS = {
    "none": lambda loss: loss,
    "mean": lambda loss: loss.mean() if loss.numel() else 0.0 * loss.sum(),
    "sum": lambda loss: loss.sum(),
}


def _loss(op: str, boxes1: Tensor, boxes2: Tensor, reduction: str, eps: float) -> Any:
    if reduction not in _REDUCTIONS or not _are_boxes(boxes1, boxes2) or boxes1.shape != boxes2.shape:
        return NotImplemented
    loss = run(OPERATORS[op], boxes1, boxes2, eps)
    return loss if loss is NotImplemented else _REDUCTIONS[reduction](loss)


def generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = _EPS) -> Any:
    return _loss("generalized_box_iou_loss", boxes1, boxes2, reduction, eps)


def distance_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = _EPS) -> Any:
    return _loss("distance_box_iou_loss", boxes1, boxes2, reduction, eps)


def complete_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = _EPS) -> Any:
    if eps != _EPS:  # torchvision's distance term keeps to this one
        return NotImplemented
    return _loss("complete_box_iou_loss", boxes1, boxes2, reduction, eps)


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Any:
    known = in_fmt in FORMATS and out_fmt in FORMATS and in_fmt != out_fmt
    if not known or (FORMATS[in_fmt] == 4) != (FORMATS[out_fmt] == 4):
        return NotImplemented
    if not _are_boxes(boxes, coordinates=FORMATS[in_fmt]):
        return NotImplemented
    return run(OPERATORS["box_convert"], boxes, in_fmt, out_fmt)


def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Any:
    if not _are_boxes(boxes) or not isinstance(size, (tuple, list)) or len(size) != 2:
        return NotImplemented
    if not all(isinstance(side, (int, torch.SymInt)) and side >= 0 for side in size):
        return NotImplemented
    return run(OPERATORS["clip_boxes"], boxes, size)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Any:
    if not _are_boxes(boxes) or boxes.dim() != 2:
        return NotImplemented
    return run(OPERATORS["remove_small_boxes"], boxes, min_size)


def encode_single(self: BoxCoder, reference_boxes: Tensor, proposals: Tensor) -> Any:
    if not _are_boxes(reference_boxes, proposals) or reference_boxes.dim() != 2 or proposals.dim() != 2:
        return NotImplemented
    if not have_equal_lengths(reference_boxes, proposals):
        return NotImplemented
    return run(OPERATORS["box_encode"], reference_boxes, proposals, self.weights)


def decode_single(self: BoxCoder, rel_codes: Tensor, boxes: Tensor) -> Any:
    boxes = boxes.to(rel_codes.dtype)
    if not _are_boxes(boxes) or not are_plain(boxes, rel_codes) or (boxes.dim(), rel_codes.dim()) != (2, 2):
        return NotImplemented
    if rel_codes.shape[1] % 4 or not have_equal_lengths(boxes, rel_codes):
        return NotImplemented
    return run(OPERATORS["box_decode"], rel_codes, boxes, self.weights, self.bbox_xform_clip)


def _matches(matcher: Matcher, gt_boxes: Tensor, boxes: Tensor) -> Any:
    """What the matcher makes of the overlaps; NotImplemented where torchvision must say so itself."""
    is_ours = type(matcher) is Matcher and len(boxes) > 0 and boxes.dim() == gt_boxes.dim() == 2
    if not is_ours or not _are_boxes(gt_boxes, boxes):
        return NotImplemented
    thresholds = matcher.high_threshold, matcher.low_threshold
    return run(OPERATORS["match_boxes"], gt_boxes, boxes, *thresholds, matcher.allow_low_quality_matches)


def assign_targets_to_anchors(
    self: RegionProposalNetwork, anchors: list[Tensor], targets: list[dict[str, Tensor]]
) -> Any:
    """Per image: float labels of the anchors (1 object, 0 background, -1 ignored), and the box of each."""
    if self.box_similarity is not box_ops.box_iou:
        return NotImplemented
    labels, matched = [], []
    for grid, target in zip(anchors, targets, strict=False):
        boxes = target["boxes"]
        if boxes.numel() == 0:
            labels.append(grid.new_zeros(len(grid), dtype=torch.float32))
            matched.append(torch.zeros_like(grid, dtype=torch.float32))
            continue
        matches = _matches(self.proposal_matcher, boxes, grid)
        if matches is NotImplemented:
            return NotImplemented
        labels.append((matches >= 0).float().masked_fill_(matches == _IGNORED, -1.0))
        matched.append(boxes[matches.clamp(min=0)])
    return labels, matched


def assign_targets_to_proposals(
    self: RoIHeads, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
) -> Any:
    """Per image: the ground truth of each proposal, and its label (0 background, -1 ignored)."""
    matched, labels = [], []
    for some, boxes, classes in zip(proposals, gt_boxes, gt_labels, strict=False):
        if boxes.numel() == 0:
            matched.append(some.new_zeros(len(some), dtype=torch.int64))
            labels.append(matched[-1].clone())
            continue
        matches = _matches(self.proposal_matcher, boxes, some)
        if matches is NotImplemented:
            return NotImplemented
        matched.append(matches.clamp(min=0))
        labels.append(classes[matched[-1]].long().masked_fill_(matches < 0, 0).masked_fill_(matches == _IGNORED, -1))
    return matched, labels


def _route(path: str, op: str, ours: Any) -> Route:
    return FunctionRoute(path, OPERATORS[op], ours)


ROUTES: tuple[Route, ...] = (
    _route("torchvision.ops.boxes:box_iou", "box_iou", box_iou),
    _route("torchvision.ops.boxes:generalized_box_iou", "generalized_box_iou", generalized_box_iou),
    _route("torchvision.ops.boxes:distance_box_iou", "distance_box_iou", distance_box_iou),
    _route("torchvision.ops.boxes:complete_box_iou", "complete_box_iou", complete_box_iou),
    _route("torchvision.ops.giou_loss:generalized_box_iou_loss", "generalized_box_iou_loss", generalized_box_iou_loss),
    _route("torchvision.ops.diou_loss:distance_box_iou_loss", "distance_box_iou_loss", distance_box_iou_loss),
    _route("torchvision.ops.ciou_loss:complete_box_iou_loss", "complete_box_iou_loss", complete_box_iou_loss),
    _route("torchvision.ops.boxes:box_convert", "box_convert", box_convert),
    _route("torchvision.ops.boxes:clip_boxes_to_image", "clip_boxes", clip_boxes_to_image),
    _route("torchvision.ops.boxes:remove_small_boxes", "remove_small_boxes", remove_small_boxes),
    _route("torchvision.models.detection._utils:BoxCoder.encode_single", "box_encode", encode_single),
    _route("torchvision.models.detection._utils:BoxCoder.decode_single", "box_decode", decode_single),
    _route(
        "torchvision.models.detection.rpn:RegionProposalNetwork.assign_targets_to_anchors",
        "match_boxes",
        assign_targets_to_anchors,
    ),
    _route(
        "torchvision.models.detection.roi_heads:RoIHeads.assign_targets_to_proposals",
        "match_boxes",
        assign_targets_to_proposals,
    ),
)
