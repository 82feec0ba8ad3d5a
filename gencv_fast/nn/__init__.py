"""The package's operators as modules."""

from .rpn import RegionProposalHead

__all__ = ["RegionProposalHead"]
