"""The package's operators as modules."""

from .anchors import AnchorGenerator
from .position_sensitive import PSRoIAlign, PSRoIPool
from .roi_pool import RoIPool
from .rpn import RegionProposalHead

__all__ = ["AnchorGenerator", "PSRoIAlign", "PSRoIPool", "RegionProposalHead", "RoIPool"]
