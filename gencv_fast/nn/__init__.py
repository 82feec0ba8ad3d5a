"""The package's operators as modules."""

from .anchors import AnchorGenerator
from .crop import CropAndResize
from .rpn import RegionProposalHead

__all__ = ["AnchorGenerator", "CropAndResize", "RegionProposalHead"]
