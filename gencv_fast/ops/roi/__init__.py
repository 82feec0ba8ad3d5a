"""Features of regions of interest: R-CNN, SPPNet, Fast, Faster and Mask R-CNN, R-FCN."""

from __future__ import annotations

from .masks import paste_masks
from .pool import roi_pool
from .position_sensitive import ps_roi_align, ps_roi_pool

__all__ = ["paste_masks", "ps_roi_align", "ps_roi_pool", "roi_pool"]
