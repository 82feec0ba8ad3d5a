"""Spatial pyramid pooling, as in SPPNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...._checks import listed
from ..regions import as_regions
from .contract import POOL

__all__ = ["spatial_pyramid_pool"]


def spatial_pyramid_pool(
    input: Tensor,
    levels: Sequence[int] = (1, 2, 3, 6),
    mode: str = "max",
    bins: str = "paper",
    boxes: Tensor | Sequence[Tensor] | None = None,
    spatial_scale: float = 1.0,
    *,
    backend: str | None = None,
) -> Tensor:
    """Features of one length from maps, or regions of maps, of any size, as in SPPNet.

    Args:
        input: maps ``[N, C, H, W]``, any strides; fp16, bf16, fp32 or fp64.
        levels: 1 to 16 numbers of bins along an axis, each from 1 to 256; level ``l`` has ``l * l`` bins.
        mode: ``"max"`` or ``"avg"``.
        bins: ``"paper"``: with ``a`` cells along an axis, windows of ``ceil(a / l)`` cells every ``floor(a / l)``,
            and adaptive bins where ``a < l``; ``"adaptive"``: bin ``i`` has cells ``floor(i * a / l)`` to
            ``ceil((i + 1) * a / l)``, as in :func:`torch.nn.functional.adaptive_max_pool2d`.
        boxes: regions ``[K, 5]`` (index of the image, x1, y1, x2, y2), of the input's dtype or fp32, or a list with
            boxes ``[L, 4]`` for each image; ``None`` pools every whole image.
        spatial_scale: cells per unit of the boxes. A region has the cells whose centre lies strictly inside its box:
            ``floor(x1 * spatial_scale) + 1`` to ``ceil(x2 * spatial_scale) - 1``, on the map; where there is none,
            the one in the middle.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[K, F]``, or ``[N, F]`` without boxes, with ``F = C * sum(l * l)``: level by level, each ``C x l x l``.
        A region outside its map gives zeros; one with a coordinate that is not finite gives NaN and no gradient.

    Raises:
        RuntimeError: wrong rank, dtype, device or option; on the CPU, an index of no image.

    Example:
        >>> import torch, gencv_fast
        >>> maps = torch.arange(16.0).view(1, 1, 4, 4)
        >>> gencv_fast.spatial_pyramid_pool(maps, levels=(1, 2))
        tensor([[15.,  5.,  7., 13., 15.]])

    Paper: He et al., *Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition*, ECCV 2014.
    """
    regions = None if boxes is None else as_regions("spatial_pyramid_pool", boxes)
    return POOL(input, listed(levels), mode, bins, regions, spatial_scale, backend=backend)
