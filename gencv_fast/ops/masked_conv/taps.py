"""What each tap of a kernel shows, by type of mask, order of the pixels and order of the model."""

from __future__ import annotations

from collections.abc import Sequence

from ..._checks import require
from .reference import ALL, EARLIER, HIDDEN, NOT_LATER

MASK_TYPES = ("A", "B", "vertical_A", "vertical_B", "horizontal_A", "horizontal_B")

#: Rows from the top, pixels from the left; the same of an image that is flipped; columns in the place of rows.
ORDERINGS = (
    "raster",
    "raster_flip_x",
    "raster_flip_y",
    "raster_flip_xy",
    "columns",
    "columns_flip_x",
    "columns_flip_y",
    "columns_flip_xy",
)


def in_order(ordering: str, dy: int, dx: int) -> tuple[int, int]:
    """How many lines, and how many pixels of a line, further on in the order. Its own inverse but for columns."""
    flips = ordering.partition("flip_")[2]
    dy, dx = (-dy if "y" in flips else dy), (-dx if "x" in flips else dx)
    return (dx, dy) if ordering.startswith("columns") else (dy, dx)


def shift_by_line(ordering: str) -> tuple[int, int]:
    """By how many rows and columns maps move when each line takes the place of the next one in the order."""
    sign_y = -1 if "y" in ordering.partition("flip_")[2] else 1
    sign_x = -1 if "x" in ordering.partition("flip_")[2] else 1
    return (0, sign_x) if ordering.startswith("columns") else (sign_y, 0)


def _rule(mask_type: str, line: int, pixel: int) -> int:
    if line == 0 and pixel == 0 and not mask_type.startswith("vertical"):
        return NOT_LATER if mask_type.endswith("B") else EARLIER
    if mask_type == "vertical_B":
        seen = line <= 0
    elif mask_type == "vertical_A":
        seen = line < 0
    else:
        seen = (line < 0 and not mask_type.startswith("horizontal")) or (line == 0 and pixel < 0)
    return ALL if seen else HIDDEN


def tap_rules(
    mask_type: str,
    kernel_size: Sequence[int],
    ordering: str = "raster",
    order: int | None = None,
    op: str = "masked_conv2d",
) -> list[int]:
    """One of `reference`'s rules for each tap of the kernel, by rows; its centre is tap (rows // 2, columns // 2)."""
    require(mask_type in MASK_TYPES, op, f"mask_type must be one of {', '.join(MASK_TYPES)}, got {mask_type!r}")
    require(ordering in ORDERINGS, op, f"ordering must be one of {', '.join(ORDERINGS)}, got {ordering!r}")
    require(order is None or order >= 0, op, f"order must not be negative, got {order}")
    rules = []
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            dy, dx = i - kernel_size[0] // 2, j - kernel_size[1] // 2
            near = order is None or abs(dy) + abs(dx) <= order
            rules.append(_rule(mask_type, *in_order(ordering, dy, dx)) if near else HIDDEN)
    return rules
