"""Calls of torchvision for the tests of `accelerate`: which ours serves, and which it leaves to the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import profile
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder, Matcher, SSDMatcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops.poolers import LevelMapper
from torchvision.tv_tensors import BoundingBoxes

Call = Callable[[], Any]


def scored_boxes(n: int = 200, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Overlapping boxes, scores without ties, and labels, negative ones too."""
    generator = torch.Generator().manual_seed(seed)
    corner = 100 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    size = 5 + 30 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    scores = torch.randperm(n, generator=generator) / n
    labels = torch.randint(-2, 5, (n,), generator=generator)
    return torch.cat((corner, corner + size), 1).to(dtype), scores.to(dtype), labels


def ran(call: Call) -> set[str]:
    """The operators of ours that a call runs, at whatever depth."""
    with profile() as profiled:
        call()
    return {event.name.split("::")[1] for event in profiled.function_events if event.name.startswith("gencv_fast::")}


def outcome(call: Call) -> tuple[Any, ...]:
    """The result, or the error that came instead."""
    try:
        return "result", call()
    except Exception as error:
        return type(error), str(error)


BOXES, SCORES, LABELS = scored_boxes()
OTHERS, _, _ = scored_boxes(seed=1)
FEW = OTHERS[:7]
NONE = torch.empty(0, 4)
DELTAS = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
RPN = RegionProposalNetwork(None, None, 0.5, 0.3, 256, 0.5, {}, {}, 0.7)
HEADS = RoIHeads(None, None, None, 0.5, 0.4, 512, 0.25, None, 0.05, 0.5, 100)
CONVERT = ops.box_convert


def rpn_targets(*ground_truth: Tensor) -> Any:
    return RPN.assign_targets_to_anchors([BOXES] * len(ground_truth), [{"boxes": boxes} for boxes in ground_truth])


def roi_targets(*ground_truth: Tensor) -> Any:
    labels = [1 + torch.arange(len(boxes)) for boxes in ground_truth]
    return HEADS.assign_targets_to_proposals([BOXES] * len(ground_truth), list(ground_truth), labels)


class OtherFilter(RegionProposalNetwork):
    """A subclass with rules of its own, which no call of ours may replace."""

    def filter_proposals(self, *args: Any) -> Any:
        boxes, scores = super().filter_proposals(*args)
        return [some[:3] for some in boxes], scores


def proposing(kind: type[RegionProposalNetwork] = RegionProposalNetwork, dtype: torch.dtype = torch.float32) -> Call:
    """Two images and two levels through a region proposal network with seeded weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = RPNHead(8, 3)
        images = ImageList(torch.rand(2, 3, 128, 160), [(128, 160), (100, 150)])
        features = {"0": torch.rand(2, 8, 16, 20), "1": torch.rand(2, 8, 8, 10)}
        for layer in (head.cls_logits, head.bbox_pred):
            torch.nn.init.normal_(layer.weight, std=1.0)
    anchors = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
    limits = {"training": 100, "testing": 100}
    network = kind(anchors, head, 0.5, 0.3, 256, 0.5, limits, limits, 0.7).to(dtype).eval().requires_grad_(False)
    images.tensors = images.tensors.to(dtype)
    features = {name: level.to(dtype) for name, level in features.items()}
    return lambda: network(images, features)


def maps_and_regions(channels: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Two maps, and regions of both."""
    generator = torch.Generator().manual_seed(0)
    corners = 20 * torch.rand(9, 2, generator=generator)
    boxes = torch.cat((corners, corners + 3 + 20 * torch.rand(9, 2, generator=generator)), 1)
    images = (torch.arange(9) % 2)[:, None]
    return torch.randn(2, channels, 15, 17, generator=generator).to(dtype), torch.cat((images, boxes), 1).to(dtype)


MAPS, REGIONS = maps_and_regions()
MASKS = torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(0))
PASTED = torch.cat((FEW[:, :2] - 10, FEW[:, 2:]), 1)


def backward_of(operator: str, *options: float) -> Call:
    """The operator's own backward, with what its forward returned for it."""
    forward, backward = (getattr(torch.ops.torchvision, name) for name in (operator, f"_{operator}_backward"))
    pooled, mapping = forward(MAPS, REGIONS, 0.4, 2, 2, *options)
    return lambda: backward(pooled.cos(), REGIONS, mapping, 0.4, 2, 2, *options, *MAPS.shape)


def align_backward(maps: Tensor = MAPS, regions: Tensor = REGIONS) -> Tensor:
    """No places come with it: the region says where each sample lay."""
    grad = torch.linspace(-1, 1, 9 * 8 * 6).view(9, 8, 2, 3).to(maps.dtype)
    return torch.ops.torchvision._roi_align_backward(grad, regions, 0.4, 2, 3, *maps.shape, 2, True)


def pooling(
    levels: Sequence[Tensor],
    *boxes: Tensor,
    kind: type[ops.MultiScaleRoIAlign] = ops.MultiScaleRoIAlign,
    size: Any = 3,
    **options: int,
) -> Call:
    """A fresh pooler, which infers its scales; one more map is none of its levels."""
    features = {"none of them": MAPS, **{str(i): level for i, level in enumerate(levels)}}

    def pool() -> Tensor:
        pooler = kind([str(i) for i in range(len(levels))], size, 2, **options)
        return pooler(features, list(boxes), [(128, 160), (100, 150)])

    return pool


def pooling_by(scales: list[float], mapper: LevelMapper) -> Call:
    """A pooler whose scales and choice of levels a caller has set."""

    def pool() -> Tensor:
        pooler = ops.MultiScaleRoIAlign(["0", "1"], 3, 2)
        pooler.scales, pooler.map_levels = scales, mapper
        return pooler({"0": BLANK[0], "1": BLANK[1]}, [FEW, SMALL_AND_LARGE], [(128, 160), (100, 150)])

    return pool


class OtherPooler(ops.MultiScaleRoIAlign):
    """A subclass, which may mean something else."""


LEVELS = [torch.randn(2, 8, 32 >> i, 40 >> i, generator=torch.Generator().manual_seed(i)) for i in range(3)]
#: For what is left to the original pooler, which calls our roi_align: equal to the last bit.
BLANK = [torch.zeros_like(level) for level in LEVELS]
SMALL_AND_LARGE = torch.cat((FEW, torch.tensor([[0.0, 0, 120, 127], [-9, 3, 40, 90], [0, 0, 1000, 1000]])))

_DETECTION = "torchvision.models.detection"

#: A call of each target in which ours runs.
SERVED: dict[str, Call] = {
    "torchvision::nms on CPU": lambda: ops.nms(BOXES, SCORES, 0.5),
    "torchvision.ops.boxes.batched_nms": lambda: ops.batched_nms(BOXES, SCORES, LABELS, 0.5),
    "torchvision.ops.boxes.box_iou": lambda: ops.box_iou(BOXES, FEW),
    "torchvision.ops.boxes.generalized_box_iou": lambda: ops.generalized_box_iou(BOXES, FEW),
    "torchvision.ops.boxes.distance_box_iou": lambda: ops.distance_box_iou(BOXES, FEW, 1e-3),
    "torchvision.ops.boxes.complete_box_iou": lambda: ops.complete_box_iou(BOXES, FEW, eps=1e-3),
    "torchvision.ops.giou_loss.generalized_box_iou_loss": lambda: ops.generalized_box_iou_loss(BOXES, OTHERS, "sum"),
    "torchvision.ops.diou_loss.distance_box_iou_loss": lambda: ops.distance_box_iou_loss(BOXES, OTHERS, "mean", 1e-3),
    "torchvision.ops.ciou_loss.complete_box_iou_loss": lambda: ops.complete_box_iou_loss(BOXES, OTHERS),
    "torchvision.ops.boxes.box_convert": lambda: ops.box_convert(BOXES, "xyxy", "cxcywh"),
    "torchvision.ops.boxes.clip_boxes_to_image": lambda: ops.clip_boxes_to_image(BOXES[None] - 20, (60, 50)),
    "torchvision.ops.boxes.remove_small_boxes": lambda: ops.remove_small_boxes(BOXES, 15.0),
    f"{_DETECTION}._utils.BoxCoder.encode_single": lambda: CODER.encode_single(BOXES, OTHERS),
    f"{_DETECTION}._utils.BoxCoder.decode_single": lambda: CODER.decode_single(DELTAS, BOXES),
    f"{_DETECTION}.rpn.RegionProposalNetwork.assign_targets_to_anchors": lambda: rpn_targets(FEW, NONE, BOXES[:3]),
    f"{_DETECTION}.rpn.RegionProposalNetwork.forward": proposing(),
    f"{_DETECTION}.roi_heads.RoIHeads.assign_targets_to_proposals": lambda: roi_targets(FEW, NONE, BOXES[:3]),
    "torchvision::roi_align on CPU": lambda: ops.roi_align(MAPS, REGIONS, (3, 2), 0.4, aligned=True),
    "torchvision::_roi_align_backward on CPU": align_backward,
    "torchvision.ops.poolers.MultiScaleRoIAlign.forward": pooling(LEVELS, SMALL_AND_LARGE, FEW, canonical_scale=60),
    "torchvision::ps_roi_align on CPU": lambda: torch.ops.torchvision.ps_roi_align(MAPS, REGIONS, 0.4, 2, 2, 2),
    "torchvision::_ps_roi_align_backward on CPU": backward_of("ps_roi_align", 2),
    "torchvision::ps_roi_pool on CPU": lambda: torch.ops.torchvision.ps_roi_pool(MAPS, REGIONS, 0.4, 2, 2),
    "torchvision::_ps_roi_pool_backward on CPU": backward_of("ps_roi_pool"),
    "torchvision.ops.roi_pool.roi_pool": lambda: ops.roi_pool(MAPS, REGIONS, (3, 2), 0.4),
    f"{_DETECTION}.roi_heads.paste_masks_in_image": lambda: paste_masks_in_image(MASKS, PASTED, (90, 110)),
}


def with_matcher(module: Any, matcher: Matcher, call: Call) -> Any:
    kept, module.proposal_matcher = module.proposal_matcher, matcher
    try:
        return call()
    finally:
        module.proposal_matcher = kept


def _nms(boxes: Tensor, scores: Tensor) -> Call:
    return lambda: ops.nms(boxes, scores, 0.5)


def _batched(boxes: Tensor, scores: Tensor, labels: Tensor) -> Call:
    return lambda: ops.batched_nms(boxes, scores, labels, 0.5)


BOUNDING_BOXES = BoundingBoxes(BOXES, format="XYXY", canvas_size=(200, 200))
HALF, WHOLE, ROTATED = BOXES.half(), BOXES.int(), DELTAS[:, :5].abs()

#: Calls that are none of ours, legal or not, after the operator that must not run.
LEFT_ALONE: dict[str, tuple[str, Call]] = {
    "half precision on the CPU": ("nms", _nms(HALF, SCORES.half())),
    "bfloat16": ("nms", _nms(BOXES.bfloat16(), SCORES.bfloat16())),
    "whole numbers": ("nms", _nms(WHOLE, SCORES.int())),
    "one box": ("nms", _nms(torch.rand(4), torch.rand(3))),
    "five coordinates": ("nms", _nms(torch.rand(3, 5), torch.rand(3))),
    "scores per class": ("nms", _nms(torch.rand(3, 4), torch.rand(3, 2))),
    "too many scores": ("nms", _nms(torch.rand(3, 4), torch.rand(4))),
    "two dtypes": ("nms", _nms(BOXES, SCORES.double())),
    "labels in floats": ("batched_nms", _batched(BOXES, SCORES, LABELS.float())),
    "boolean labels": ("batched_nms", _batched(BOXES, SCORES, LABELS > 0)),
    "half precision": ("batched_nms", _batched(HALF, SCORES.half(), LABELS)),
    "nothing": ("batched_nms", _batched(torch.empty(0), torch.empty(0), torch.empty(0))),
    "labels in two dimensions": ("batched_nms", _batched(BOXES, SCORES, LABELS[:, None])),
    "too few scores": ("batched_nms", _batched(BOXES, SCORES[:3], LABELS)),
    "too few labels": ("batched_nms", _batched(BOXES, SCORES, LABELS[:3])),
    "labels of no boxes": ("batched_nms", _batched(NONE, SCORES[:0], LABELS[:9])),
    "a size of three": ("clip_boxes", lambda: ops.clip_boxes_to_image(BOXES, (10, 20, 30))),
    "a size of one": ("clip_boxes", lambda: ops.clip_boxes_to_image(BOXES, (10,))),
    "a subclass": ("batched_nms", _batched(BOUNDING_BOXES, SCORES, LABELS)),
    "overlaps of whole numbers": ("box_iou", lambda: ops.box_iou(WHOLE, WHOLE)),
    "overlaps in half precision": ("box_iou", lambda: ops.box_iou(HALF, HALF)),
    "overlaps of two dtypes": ("box_iou", lambda: ops.box_iou(BOXES, BOXES.double())),
    "overlaps of other formats": ("box_iou", lambda: ops.box_iou(BOXES, FEW, fmt="cxcywh")),
    "overlaps of an unknown format": ("box_iou", lambda: ops.box_iou(BOXES, FEW, fmt="yxyx")),
    "overlaps of rotated boxes": ("box_iou", lambda: ops.box_iou(ROTATED, ROTATED, fmt="cxcywhr")),
    "overlaps that broadcast": ("generalized_box_iou", lambda: ops.generalized_box_iou(BOXES[None], FEW)),
    "overlaps of batches that differ": ("distance_box_iou", lambda: ops.distance_box_iou(BOXES[None], FEW)),
    "overlaps of three coordinates": ("complete_box_iou", lambda: ops.complete_box_iou(BOXES[:, :3], FEW)),
    "an unknown reduction": (
        "generalized_box_iou_loss",
        lambda: ops.generalized_box_iou_loss(BOXES, OTHERS, reduction="xyz"),
    ),
    "losses in half precision": ("distance_box_iou_loss", lambda: ops.distance_box_iou_loss(HALF, HALF)),
    "losses that broadcast": ("generalized_box_iou_loss", lambda: ops.generalized_box_iou_loss(BOXES, FEW[0])),
    "an eps that torchvision takes in part": (
        "complete_box_iou_loss",
        lambda: ops.complete_box_iou_loss(BOXES, OTHERS, eps=1e-3),
    ),
    "an unknown format": ("box_convert", lambda: CONVERT(BOXES, "xyxy", "yxyx")),
    "a conversion that torchvision lacks": ("box_convert", lambda: CONVERT(BOXES, "xyxy", "xywhr")),
    "no conversion": ("box_convert", lambda: CONVERT(BOXES, "xywh", "xywh")),
    "a conversion of whole numbers": ("box_convert", lambda: CONVERT(WHOLE, "xyxy", "xywh")),
    "a conversion of five numbers": ("box_convert", lambda: CONVERT(torch.rand(3, 5), "xyxy", "xywh")),
    "an image of negative size": ("clip_boxes", lambda: ops.clip_boxes_to_image(BOXES, (-1, 50))),
    "an image of broken size": ("clip_boxes", lambda: ops.clip_boxes_to_image(BOXES, (10.5, 50))),
    "clipping whole numbers": ("clip_boxes", lambda: ops.clip_boxes_to_image(WHOLE, (60, 50))),
    "small boxes of a batch": ("remove_small_boxes", lambda: ops.remove_small_boxes(BOXES[None], 15.0)),
    "encoding different numbers of boxes": ("box_encode", lambda: CODER.encode_single(BOXES, FEW)),
    "encoding one box": ("box_encode", lambda: CODER.encode_single(BOXES, FEW[:1])),
    "decoding half precision": ("box_decode", lambda: CODER.decode_single(DELTAS.half(), BOXES)),
    "decoding against one anchor": ("box_decode", lambda: CODER.decode_single(DELTAS, BOXES[:1])),
    "decoding too few numbers": ("box_decode", lambda: CODER.decode_single(DELTAS[:, :7], BOXES)),
    "a matcher of another kind": ("match_boxes", lambda: with_matcher(RPN, SSDMatcher(0.5), lambda: rpn_targets(FEW))),
    "no anchors": ("match_boxes", lambda: RPN.assign_targets_to_anchors([NONE], [{"boxes": FEW}])),
    "no proposals": (
        "match_boxes",
        lambda: HEADS.assign_targets_to_proposals([NONE], [FEW], [torch.ones(7, dtype=torch.int64)]),
    ),
    "proposals of a subclass": ("rpn_proposals", proposing(OtherFilter)),
    "regions in half precision": ("roi_pool", lambda: ops.roi_pool(MAPS.half(), REGIONS.half(), 2)),
    "regions of another dtype": ("roi_pool", lambda: ops.roi_pool(MAPS, REGIONS.double(), 2)),
    "regions of four numbers": ("roi_pool", lambda: ops.roi_pool(MAPS, REGIONS[:, 1:], 2)),
    "a broken number of bins": ("roi_pool", lambda: ops.roi_pool(MAPS, REGIONS, (2, 2.5))),
    "no bins": ("roi_pool", lambda: ops.roi_pool(MAPS, REGIONS, (0, 2))),
    "regions that are no list": ("roi_pool", lambda: ops.roi_pool(MAPS, {"boxes": REGIONS}, 2)),
    "aligned regions in half precision": ("roi_align", lambda: ops.roi_align(MAPS.half(), REGIONS.half(), 2)),
    "aligned regions of another dtype": ("roi_align", lambda: ops.roi_align(MAPS, REGIONS.double(), 2)),
    "aligned regions of four numbers": (
        "roi_align",
        lambda: torch.ops.torchvision.roi_align(MAPS, FEW, 1, 2, 2, 2, True),
    ),
    "gradients in half precision": ("roi_align_backward", lambda: align_backward(MAPS.half(), REGIONS.half())),
    "levels of two dtypes": ("multiscale_roi_align", pooling([LEVELS[0], LEVELS[1].double()], FEW, FEW)),
    "levels of half precision": ("multiscale_roi_align", pooling([level.half() for level in LEVELS], FEW.half())),
    "levels that skip one": ("multiscale_roi_align", pooling(BLANK[::2], FEW, FEW)),
    "levels of other channels": ("multiscale_roi_align", pooling([LEVELS[0], LEVELS[1][:, :4]], FEW, SMALL_AND_LARGE)),
    "boxes that are no list": (
        "multiscale_roi_align",
        lambda: ops.MultiScaleRoIAlign(["0"], 3, 2)({"0": MAPS}, FEW, [(30, 34)]),
    ),
    "a pooler of a subclass": ("multiscale_roi_align", pooling(BLANK, FEW, FEW, kind=OtherPooler)),
    "levels of other scales": ("multiscale_roi_align", pooling_by([0.25, 0.1], LevelMapper(2, 3))),
    "levels chosen with another margin": (
        "multiscale_roi_align",
        pooling_by([0.25, 0.125], LevelMapper(2, 3, eps=0.5)),
    ),
    "a pooler without levels": ("multiscale_roi_align", pooling([], FEW, FEW)),
    "bins that do not divide the channels": ("ps_roi_align", lambda: ops.ps_roi_align(MAPS, REGIONS, 3)),
    "bins of half precision": ("ps_roi_pool", lambda: ops.ps_roi_pool(MAPS.half(), REGIONS.half(), 2)),
    "masks of two channels": (
        "paste_masks",
        lambda: paste_masks_in_image(MASKS.expand(-1, 2, -1, -1), PASTED, (90, 110)),
    ),
    "masks of another dtype": ("paste_masks", lambda: paste_masks_in_image(MASKS.double(), PASTED, (90, 110))),
    "masks without a cell": ("paste_masks", lambda: paste_masks_in_image(MASKS[..., :0], PASTED, (90, 110))),
    "masks with a negative border": ("paste_masks", lambda: paste_masks_in_image(MASKS, PASTED, (90, 110), -1)),
    "more masks than boxes": ("paste_masks", lambda: paste_masks_in_image(MASKS, PASTED[:3], (90, 110))),
    "masks in half precision": ("paste_masks", lambda: paste_masks_in_image(MASKS.half(), PASTED, (90, 110))),
    "ground truth of another dtype": ("match_boxes", lambda: rpn_targets(FEW.double())),
}
