"""Features of regions of interest: R-CNN, SPPNet, Fast, Faster and Mask R-CNN, R-FCN."""

from __future__ import annotations

from .crop import crop_and_resize

__all__ = ["crop_and_resize"]
