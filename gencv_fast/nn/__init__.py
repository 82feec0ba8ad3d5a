"""The package's operators as modules."""

from .anchors import AnchorGenerator
from .roi_pool import RoIPool
from .rpn import RegionProposalHead

__all__ = ["AnchorGenerator", "RegionProposalHead", "RoIPool"]
