"""Fast kernels for generative image models and computer vision, as drop-in PyTorch operators."""

from __future__ import annotations

import warnings

from . import _library
from ._accelerate import Acceleration, accelerate
from ._dispatch import use_backend
from ._explain import Explanation, explain
from ._memory import empty_cache
from .ops.boxes import (
    anchor_grid,
    box_convert,
    box_decode,
    box_encode,
    box_iou,
    clip_boxes,
    complete_box_iou,
    complete_box_iou_loss,
    distance_box_iou,
    distance_box_iou_loss,
    generalized_box_iou,
    generalized_box_iou_loss,
    match_boxes,
    remove_small_boxes,
)
from .ops.masked_conv import gated_activation, masked_conv2d
from .ops.mixture import (
    bernoulli_nll,
    bernoulli_sample,
    bits_per_dim,
    mixture_logistics_nll,
    mixture_logistics_sample,
    softmax_nll,
    softmax_sample,
)
from .ops.nms import batched_nms, multiclass_nms, nms, soft_nms
from .ops.pixel_sampling import cache_bytes, sample
from .ops.roi import (
    crop_and_resize,
    multiscale_roi_align,
    paste_masks,
    ps_roi_align,
    ps_roi_pool,
    roi_align,
    roi_pool,
    spatial_pyramid_pool,
)
from .ops.rpn import rpn_proposals
from .ops.yolo import yolo_decode, yolo_detect

__version__ = "0.1.0"

__all__ = [
    "Acceleration",
    "Explanation",
    "accelerate",
    "anchor_grid",
    "batched_nms",
    "bernoulli_nll",
    "bernoulli_sample",
    "bits_per_dim",
    "box_convert",
    "box_decode",
    "box_encode",
    "box_iou",
    "cache_bytes",
    "clip_boxes",
    "complete_box_iou",
    "complete_box_iou_loss",
    "crop_and_resize",
    "distance_box_iou",
    "distance_box_iou_loss",
    "empty_cache",
    "explain",
    "gated_activation",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "masked_conv2d",
    "match_boxes",
    "mixture_logistics_nll",
    "mixture_logistics_sample",
    "multiclass_nms",
    "multiscale_roi_align",
    "nms",
    "paste_masks",
    "ps_roi_align",
    "ps_roi_pool",
    "remove_small_boxes",
    "roi_align",
    "roi_pool",
    "rpn_proposals",
    "sample",
    "soft_nms",
    "softmax_nll",
    "softmax_sample",
    "spatial_pyramid_pool",
    "use_backend",
    "yolo_decode",
    "yolo_detect",
]

if not _library.is_pure() and (_reason := _library.why_no_cpu_library()):
    warnings.warn(
        f"gencv_fast runs its slow reference on the CPU: {_reason}. "
        "Build the package, or set GENCV_FAST_PURE=1 to accept this.",
        stacklevel=2,
    )
