"""Features of regions of interest: R-CNN, SPPNet, Fast, Faster and Mask R-CNN, R-FCN."""

from __future__ import annotations

from .pool import roi_pool

__all__ = ["roi_pool"]
