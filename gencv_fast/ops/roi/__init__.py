"""Features of regions of interest: R-CNN, SPPNet, Fast, Faster and Mask R-CNN, R-FCN."""

from __future__ import annotations

from .pyramid import spatial_pyramid_pool

__all__ = ["spatial_pyramid_pool"]
