"""Spatial pyramid pooling as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..ops.roi.pyramid import spatial_pyramid_pool


class SpatialPyramidPool(nn.Module):
    """The layer of SPPNet between convolutions that take any size and linear layers that take one.

    Args:
        levels, mode, bins, spatial_scale: as :func:`gencv_fast.spatial_pyramid_pool` takes them.

    Example:
        >>> import torch, gencv_fast.nn
        >>> pool = gencv_fast.nn.SpatialPyramidPool(levels=(1, 2))
        >>> pool(torch.rand(3, 8, 13, 13)).shape, pool(torch.rand(3, 8, 10, 17)).shape, pool.features(8)
        (torch.Size([3, 40]), torch.Size([3, 40]), 40)

    Paper: He et al., *Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition*, ECCV 2014.
    """

    def __init__(
        self,
        levels: Sequence[int] = (1, 2, 3, 6),
        mode: str = "max",
        bins: str = "paper",
        spatial_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.mode = mode
        self.bins = bins
        self.spatial_scale = spatial_scale

    def features(self, channels: int) -> int:
        """How many numbers a region has: the ``in_features`` of the next layer."""
        return channels * sum(level * level for level in self.levels)

    def forward(self, input: Tensor, boxes: Tensor | Sequence[Tensor] | None = None) -> Tensor:
        """Features ``[N, F]`` of whole maps ``[N, C, H, W]``, or ``[K, F]`` of regions ``[K, 5]`` of them."""
        return spatial_pyramid_pool(input, self.levels, self.mode, self.bins, boxes, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, mode={self.mode!r}, bins={self.bins!r}, spatial_scale={self.spatial_scale}"
