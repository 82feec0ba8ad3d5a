"""Features of regions of interest: R-CNN, SPPNet, Fast, Faster and Mask R-CNN, R-FCN."""

from __future__ import annotations

from .align import multiscale_roi_align, roi_align
from .crop import crop_and_resize
from .masks import paste_masks
from .pool import roi_pool
from .position_sensitive import ps_roi_align, ps_roi_pool
from .pyramid import spatial_pyramid_pool

__all__ = [
    "crop_and_resize",
    "multiscale_roi_align",
    "paste_masks",
    "ps_roi_align",
    "ps_roi_pool",
    "roi_align",
    "roi_pool",
    "spatial_pyramid_pool",
]
