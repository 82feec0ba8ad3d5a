"""The package's operators as modules."""

from .anchors import AnchorGenerator
from .crop import CropAndResize
from .position_sensitive import PSRoIAlign, PSRoIPool
from .pyramid import SpatialPyramidPool
from .roi_align import MultiScaleRoIAlign, RoIAlign
from .roi_pool import RoIPool
from .rpn import RegionProposalHead
from .yolo import YOLODetect

__all__ = [
    "AnchorGenerator",
    "CropAndResize",
    "MultiScaleRoIAlign",
    "PSRoIAlign",
    "PSRoIPool",
    "RegionProposalHead",
    "RoIAlign",
    "RoIPool",
    "SpatialPyramidPool",
    "YOLODetect",
]
