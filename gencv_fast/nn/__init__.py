"""The package's operators as modules."""

from .anchors import AnchorGenerator
from .rpn import RegionProposalHead
from .yolo import YOLODetect

__all__ = ["AnchorGenerator", "RegionProposalHead", "YOLODetect"]
