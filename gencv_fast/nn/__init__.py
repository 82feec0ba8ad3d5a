"""The package's operators as modules."""

from .anchors import AnchorGenerator

__all__ = ["AnchorGenerator"]
