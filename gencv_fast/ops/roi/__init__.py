"""Features of regions of interest: R-CNN, SPPNet, Fast, Faster and Mask R-CNN, R-FCN."""

from __future__ import annotations

from .position_sensitive import ps_roi_align, ps_roi_pool

__all__ = ["ps_roi_align", "ps_roi_pool"]
