"""Images as lines and pixels in the order of drawing, and back."""

from __future__ import annotations

from torch import Tensor


def in_line_shape(height: int, width: int, ordering: str) -> tuple[int, int]:
    return (width, height) if ordering.startswith("columns") else (height, width)


def to_lines(maps: Tensor, ordering: str) -> Tensor:
    """``[N, C, H, W]`` as ``[N, C, lines, pixels]`` in the order of drawing."""
    flips = ordering.partition("flip_")[2]
    maps = maps.flip([d for d, axis in ((2, "y"), (3, "x")) if axis in flips])
    return maps.transpose(2, 3) if ordering.startswith("columns") else maps


def from_lines(maps: Tensor, ordering: str) -> Tensor:
    """The inverse of `to_lines`."""
    flips = ordering.partition("flip_")[2]
    maps = maps.transpose(2, 3) if ordering.startswith("columns") else maps
    return maps.flip([d for d, axis in ((2, "y"), (3, "x")) if axis in flips])
