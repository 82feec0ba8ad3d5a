"""Routes to the room `nms`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...ops.nms.contract import BATCHED_NMS, ID_DTYPES, NMS
from ..routes import FunctionRoute, KernelRoute, Route, are_plain, have_equal_lengths, run


def _are_scored_boxes(boxes: Tensor, scores: Tensor) -> bool:
    """What torchvision's own kernels take: it has none for half precision on the CPU, nor for bfloat16."""
    dtypes = [torch.float32, torch.float64, *([torch.float16] if boxes.is_cuda else [])]
    return (
        are_plain(boxes, scores)
        and boxes.dtype in dtypes
        and scores.dtype == boxes.dtype
        and (boxes.dim(), scores.dim()) == (2, 1)
        and boxes.shape[1] == 4
    )


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Any:
    if not _are_scored_boxes(dets, scores) or len(dets) != len(scores):
        return NotImplemented
    return run(NMS, dets, scores, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Any:
    """One call for all classes, where torchvision loops over them or adds offsets to the coordinates."""
    if not (
        _are_scored_boxes(boxes, scores) and are_plain(boxes, idxs) and idxs.dtype in ID_DTYPES and idxs.dim() == 1
    ):
        return NotImplemented
    if not have_equal_lengths(boxes, scores, idxs):
        return NotImplemented
    return run(BATCHED_NMS, boxes, scores, idxs, iou_threshold)


ROUTES: tuple[Route, ...] = (
    KernelRoute("torchvision::nms", "cpu", NMS, nms),
    KernelRoute("torchvision::nms", "cuda", NMS, nms),
    FunctionRoute("torchvision.ops.boxes:batched_nms", BATCHED_NMS, batched_nms),
)
