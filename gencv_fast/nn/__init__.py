"""The package's operators as modules."""

from .anchors import AnchorGenerator
from .pyramid import SpatialPyramidPool
from .rpn import RegionProposalHead

__all__ = ["AnchorGenerator", "RegionProposalHead", "SpatialPyramidPool"]
