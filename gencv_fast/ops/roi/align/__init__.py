"""RoI align: the mean, or the largest, of a grid of interpolated samples in each bin of a region."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...._checks import listed, require, require_pairs, why_wrong_type
from ..regions import as_regions, pair
from .contract import MULTISCALE_ROI_ALIGN, ROI_ALIGN

__all__ = ["infer_scales", "multiscale_roi_align", "roi_align"]


def roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    mode: str = "avg",
    differentiable_boxes: bool = False,
    channels_last: bool = False,
    *,
    backend: str | None = None,
) -> Tensor:
    """Average of bilinear samples in each of ``rows * columns`` bins of each region.

    As :func:`torchvision.ops.roi_align`.

    Args:
        input: ``[N, C, H, W]`` feature maps, any strides; fp16, bf16, fp32 or fp64. Maps in channels_last format are
            used as they are where C is a multiple of the kernel's block (64 for fp32 and AVX-512).
        boxes: ``[K, 5]``: index of the image and the corners x1, y1, x2, y2, in pixels of what ``spatial_scale``
            leads to the map from; of input's dtype or fp32. Or a list of ``[L, 4]``, one tensor for each image.
        output_size: ``(rows, columns)`` of bins, or one number for both.
        spatial_scale: cells of the map to a unit of the boxes.
        sampling_ratio: samples in a bin along each axis; 0 or less for ``ceil(size of the bin)``.
        aligned: shift the region by half a cell, so that a cell's value stands at its centre. Without it regions are
            at least one cell wide and high.
        mode: ``"avg"``, the mean of a bin's samples, or ``"max"``, the largest.
        differentiable_boxes: let the gradient reach the boxes: that of the samples' positions, their number held
            fixed.
        channels_last: return the result in channels_last memory format.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[K, C, rows, columns]`` of input's dtype; half precision is computed in fp32. A sample more than one cell
        off the map counts as 0. A region with a coordinate that is not finite, or on a GPU with an index of no image,
        is NaN and passes no gradient.

    Raises:
        RuntimeError: a wrong shape, dtype or device; an unknown mode; on the CPU, an index of no image.

    Example:
        >>> import torch, gencv_fast
        >>> image = torch.arange(16.0).view(1, 1, 4, 4)
        >>> gencv_fast.roi_align(image, torch.tensor([[0.0, 0, 0, 2, 2]]), 2, sampling_ratio=1)
        tensor([[[[2.5000, 3.5000],
                  [6.5000, 7.5000]]]])

    Paper: He et al., *Mask R-CNN*, ICCV 2017.
    """
    rows = as_regions("roi_align", boxes)
    args = (spatial_scale, sampling_ratio, aligned, mode, differentiable_boxes, channels_last)
    return ROI_ALIGN(input, rows, pair("roi_align", "output_size", output_size), *args, backend=backend)


def multiscale_roi_align(
    features: Sequence[Tensor] | Mapping[str, Tensor],
    boxes: Tensor | Sequence[Tensor],
    image_sizes: Sequence[tuple[int, int]] | None,
    output_size: int | Sequence[int],
    sampling_ratio: int,
    canonical_scale: int = 224,
    canonical_level: int = 4,
    aligned: bool = False,
    *,
    scales: Sequence[float] | None = None,
    backend: str | None = None,
) -> Tensor:
    """:func:`roi_align` of each region on the level of a feature pyramid that suits its size, in one call.

    As :class:`torchvision.ops.MultiScaleRoIAlign`: the level is ``floor(canonical_level + log2(sqrt(area) /
    canonical_scale) + 1e-6)``, held within those there are.

    Args:
        features: the levels, finest first, or a mapping to them: ``[N, C, H, W]`` each, any strides; fp16, bf16, fp32
            or fp64. 1 to 16 levels.
        boxes: ``[K, 5]``: index of the image and the corners x1, y1, x2, y2, in pixels of the images; of the maps'
            dtype or fp32. Or a list of ``[L, 4]``, one tensor for each image.
        image_sizes: ``(height, width)`` of each image, in pixels, from which the scales are inferred; not looked at
            where ``scales`` are given.
        output_size: ``(rows, columns)`` of bins, or one number for both.
        sampling_ratio: samples in a bin along each axis; 0 or less for ``ceil(size of the bin)``.
        canonical_scale: side in pixels of a box that belongs to ``canonical_level``.
        canonical_level: number of a level; that of a map with scale ``2 ** -k`` is k.
        aligned: as for :func:`roi_align`.
        scales: cells of each map to a pixel of the images.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[K, C, rows, columns]`` of the maps' dtype, in the order of the boxes. A region whose area is negative, so
        that it has no level, is 0; one with a coordinate that is not finite is NaN and passes no gradient.

    Raises:
        RuntimeError: a wrong shape, dtype or device; scales that do not fall; on the CPU, an index of no image.

    Example:
        >>> import torch, gencv_fast
        >>> levels = [torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 4, 4)]
        >>> boxes = [torch.tensor([[0.0, 0, 16, 16], [0, 0, 400, 400]])]
        >>> gencv_fast.multiscale_roi_align(levels, boxes, [(32, 32)], 1, 2)[:, 0].flatten()
        tensor([1., 0.])

    Paper: Lin et al., *Feature Pyramid Networks for Object Detection*, CVPR 2017.
    """
    op = "multiscale_roi_align"
    levels = listed(features.values() if isinstance(features, Mapping) else features)
    if scales is None:
        require(image_sizes is not None, op, "image_sizes must be given where scales are not, got None")
        scales = infer_scales(levels, image_sizes)
    rows = as_regions(op, boxes)
    args = (scales, sampling_ratio, canonical_scale, canonical_level, aligned)
    return MULTISCALE_ROI_ALIGN(
        levels, rows, pair("multiscale_roi_align", "output_size", output_size), *args, backend=backend
    )


def infer_scales(features: Sequence[Tensor], image_sizes: Any) -> list[float]:
    """The power of two next to each map's size over that of the largest image, as torchvision infers it.

    torchvision goes by the order of the levels too, and where the finest is the last it pools nothing but zeros.
    """
    op = "multiscale_roi_align"
    if reason := why_wrong_type("features", features, "List[Tensor]"):
        raise RuntimeError(f"{op}: {reason}.")
    largest = _largest_sides(op, image_sizes)
    found = [_scale(op, f"features[{i}]", level, largest) for i, level in enumerate(features)]
    require(found[:1] >= found[-1:], op, f"features must come finest first, got the scales {found}")
    return found


def _largest_sides(op: str, image_sizes: Any) -> list[float]:
    sizes = require_pairs(op, "image_sizes", image_sizes, "height, width")
    require(len(sizes) > 0, op, "image_sizes must be of one image or more, got none")
    try:
        sides = [[float(side) for side in size] for size in sizes]
    except (TypeError, ValueError):
        sides = [[math.nan]]
    usable = all(0 < side < math.inf for size in sides for side in size)
    require(usable, op, f"image_sizes must be positive numbers, got {sizes}")
    return [max(side) for side in zip(*sides, strict=True)]


def _scale(op: str, name: str, level: Tensor, largest: Sequence[float]) -> float:
    shape = list(level.shape)
    require(len(shape) == 4, op, f"{name} must be [N, C, H, W], got {shape}")
    require(shape[2] > 0 and shape[3] > 0, op, f"{name} must have a row and a column to infer a scale, got {shape}")
    powers = {2.0 ** round(math.log2(size / side)) for size, side in zip(shape[2:], largest, strict=True)}
    require(len(powers) == 1, op, f"{name} must have one scale for both sides, got {sorted(powers)}")
    return powers.pop()
