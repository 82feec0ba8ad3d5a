"""The route to the room `rpn`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import boxes as box_ops

from ...ops.rpn.contract import MOST_LEVELS, RPN_PROPOSALS
from ..routes import FunctionRoute, Route, are_plain, is_own, run

_RPN = "torchvision.models.detection.rpn:RegionProposalNetwork"
_CODER = "torchvision.models.detection._utils:BoxCoder"


def _is_known(network: RegionProposalNetwork) -> bool:
    """Whether decoding and filtering are those that one call replaces, and not a subclass's or another patch's."""
    coder = network.box_coder
    return (
        type(coder) is BoxCoder
        and is_own(network.filter_proposals, f"{_RPN}.filter_proposals")
        and is_own(network._get_top_n_idx, f"{_RPN}._get_top_n_idx")
        and is_own(coder.decode, f"{_CODER}.decode")
        and is_own(coder.decode_single, f"{_CODER}.decode_single")
        and is_own(box_ops.clip_boxes_to_image, "torchvision.ops.boxes:clip_boxes_to_image")
        and is_own(box_ops.remove_small_boxes, "torchvision.ops.boxes:remove_small_boxes")
        and is_own(box_ops.batched_nms, "torchvision.ops.boxes:batched_nms")
        and tuple(coder.weights) == (1.0, 1.0, 1.0, 1.0)
        and coder.bbox_xform_clip == math.log(1000.0 / 16)
    )


def _proposals(
    network: RegionProposalNetwork,
    objectness: list[Tensor],
    deltas: list[Tensor],
    anchors: list[Tensor],
    sizes: list[tuple[int, int]],
) -> Any:
    """The boxes of each image, from the head's outputs as they are."""
    dtype = objectness[0].dtype
    if not are_plain(*objectness, *deltas, *anchors) or dtype not in (torch.float32, torch.float64):
        return NotImplemented
    # torchvision's generator gives all images of a batch the same.
    grid = anchors[0] if type(network.anchor_generator) is AnchorGenerator else torch.stack(anchors)
    found = run(
        RPN_PROPOSALS,
        [level.detach() for level in objectness],
        [level.detach() for level in deltas],
        grid.to(dtype),
        [side for size in sizes for side in size],
        network.pre_nms_top_n(),
        network.post_nms_top_n(),
        network.nms_thresh,
        network.score_thresh,
        network.min_size,
        None,
    )
    if found is NotImplemented:
        return found
    boxes, _, counts = found
    return [some[:count] for some, count in zip(boxes, counts.tolist(), strict=True)]


def forward(
    self: RegionProposalNetwork,
    images: ImageList,
    features: dict[str, Tensor],
    targets: list[dict[str, Tensor]] | None = None,
) -> Any:
    """Between the head and the losses, which stay torchvision's, one call decodes and filters all levels."""
    levels = list(features.values())
    if not _is_known(self) or len(levels) > MOST_LEVELS or (self.training and targets is None):
        return NotImplemented
    objectness, deltas = self.head(levels)
    anchors = self.anchor_generator(images, levels)
    boxes = _proposals(self, objectness, deltas, anchors, images.image_sizes)
    if boxes is not NotImplemented and not self.training:
        return boxes, {}
    flat_objectness, flat_deltas = concat_box_prediction_layers(objectness, deltas)
    if boxes is NotImplemented:
        decoded = self.box_coder.decode(flat_deltas.detach(), anchors).view(len(anchors), -1, 4)
        counts = [level[0].numel() for level in objectness]
        boxes, _ = self.filter_proposals(decoded, flat_objectness, images.image_sizes, counts)
    return boxes, _losses(self, flat_objectness, flat_deltas, anchors, targets) if self.training else {}


def _losses(
    network: RegionProposalNetwork, objectness: Tensor, deltas: Tensor, anchors: list[Tensor], targets: Any
) -> dict[str, Tensor]:
    labels, matched = network.assign_targets_to_anchors(anchors, targets)
    wanted = network.box_coder.encode(matched, anchors)
    of_objectness, of_boxes = network.compute_loss(objectness, deltas, labels, wanted)
    return {"loss_objectness": of_objectness, "loss_rpn_box_reg": of_boxes}


ROUTES: tuple[Route, ...] = (FunctionRoute(f"{_RPN}.forward", RPN_PROPOSALS, forward),)
