"""The package's operators as modules."""

from .anchors import AnchorGenerator
from .roi_align import MultiScaleRoIAlign, RoIAlign
from .roi_pool import RoIPool
from .rpn import RegionProposalHead
from .yolo import YOLODetect

__all__ = ["AnchorGenerator", "MultiScaleRoIAlign", "RegionProposalHead", "RoIAlign", "RoIPool", "YOLODetect"]
