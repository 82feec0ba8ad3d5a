"""RoI pooling as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..ops.roi.pool import roi_pool


class RoIPool(nn.Module):
    """The largest value in each bin of each region: a drop-in for :class:`torchvision.ops.RoIPool`.

    Args:
        output_size: ``(rows, columns)`` of bins, or one number for both.
        spatial_scale: by what the corners of boxes are multiplied before they are rounded to pixels of the map.

    Example:
        >>> import torch, gencv_fast.nn
        >>> pool = gencv_fast.nn.RoIPool((7, 7), spatial_scale=1 / 16)
        >>> pool(torch.rand(1, 8, 20, 30), [torch.tensor([[0.0, 0, 300, 200]])]).shape
        torch.Size([1, 8, 7, 7])

    Paper: Girshick, *Fast R-CNN*, ICCV 2015.
    """

    def __init__(self, output_size: int | Sequence[int], spatial_scale: float) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """See :func:`gencv_fast.roi_pool`."""
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"
