"""Checks of the wing's arguments; word for word those of csrc/roi/pyramid_checks.h."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from ...._checks import require, require_float, require_like, require_same_shape
from ..regions import check_regions

MOST_LEVELS = 16
MOST_BINS = 256


def _check_pyramid(
    op: str, input: Tensor, levels: Sequence[int], mode: str, bins: str, boxes: Tensor | None, spatial_scale: float
) -> None:
    if boxes is None:
        require_float(op, "input", input)
        require(input.dim() == 4, op, f"input must be [N, C, H, W], got {list(input.shape)}")
    else:
        check_regions(op, "input", input, boxes)
    usable = 0 < len(levels) <= MOST_LEVELS and all(0 < level <= MOST_BINS for level in levels)
    expected = f"levels must be 1 to {MOST_LEVELS} numbers from 1 to {MOST_BINS}"
    require(usable, op, f"{expected}, got {list(levels)}")
    require(mode in ("max", "avg"), op, f"mode must be max or avg, got {mode}")
    require(bins in ("paper", "adaptive"), op, f"bins must be paper or adaptive, got {bins}")
    require(0 < spatial_scale < math.inf, op, "spatial_scale must be a positive and finite number, got another number")
    require(
        input.shape[2] * input.shape[3] < 2**31,
        op,
        f"input must have fewer than 2^31 cells in a plane, got {input.shape[2]} x {input.shape[3]}",
    )


def check_spatial_pyramid_pool(
    input: Tensor, levels: Sequence[int], mode: str, bins: str, boxes: Tensor | None, spatial_scale: float
) -> None:
    _check_pyramid("spatial_pyramid_pool", input, levels, mode, bins, boxes, spatial_scale)


def features_of(input: Tensor, levels: Sequence[int]) -> int:
    """Of one region."""
    return input.shape[1] * sum(level * level for level in levels)


def check_spatial_pyramid_pool_backward(
    grad: Tensor,
    input: Tensor,
    levels: Sequence[int],
    mode: str,
    bins: str,
    boxes: Tensor | None,
    spatial_scale: float,
) -> None:
    op = "spatial_pyramid_pool_backward"
    _check_pyramid(op, input, levels, mode, bins, boxes, spatial_scale)
    require_like(op, "grad", grad, "input", input)
    regions = input.shape[0] if boxes is None else boxes.shape[0]
    require_same_shape(op, "grad", grad, "the result", (regions, features_of(input, levels)))


def check_spatial_pyramid_pool_at(
    values: Tensor, input: Tensor, levels: Sequence[int], bins: str, boxes: Tensor | None, spatial_scale: float
) -> None:
    op = "spatial_pyramid_pool_at"
    _check_pyramid(op, input, levels, "max", bins, boxes, spatial_scale)
    require_like(op, "values", values, "input", input)
    require_same_shape(op, "values", values, "input", input.shape)
