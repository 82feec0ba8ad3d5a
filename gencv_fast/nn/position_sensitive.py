"""Position-sensitive features of regions as modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..ops.roi import ps_roi_align, ps_roi_pool
from ._repr import chosen


class PSRoIAlign(nn.Module):
    """:func:`gencv_fast.ps_roi_align` with fixed options; takes the place of :class:`torchvision.ops.PSRoIAlign`.

    Args:
        output_size: bins ``(h, w)`` of a region, or one number for both.
        spatial_scale: factor from coordinates of the boxes to pixels of the input.
        sampling_ratio: samples along each side of a bin; without a positive one, one for each pixel.
        differentiable_boxes: also pass a gradient to the boxes.

    Example:
        >>> import torch, gencv_fast.nn
        >>> head = gencv_fast.nn.PSRoIAlign(3, spatial_scale=1 / 16, sampling_ratio=2)
        >>> head(torch.ones(1, 90, 20, 30), [torch.tensor([[0.0, 0.0, 160.0, 160.0]])]).shape
        torch.Size([1, 10, 3, 3])

    Papers: Dai et al., *R-FCN*, NeurIPS 2016; Li et al., *Light-Head R-CNN*, 2017.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        spatial_scale: float,
        sampling_ratio: int,
        *,
        differentiable_boxes: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.differentiable_boxes = differentiable_boxes

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """``[N, C, H, W]`` and ``[K, 5]`` or a list of ``[L, 4]`` give ``[K, C / (h * w), h, w]``."""
        args = (self.output_size, self.spatial_scale, self.sampling_ratio)
        return ps_roi_align(input, rois, *args, differentiable_boxes=self.differentiable_boxes)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, sampling_ratio={self.sampling_ratio}"
            + chosen(self, differentiable_boxes=False)
        )


class PSRoIPool(nn.Module):
    """:func:`gencv_fast.ps_roi_pool` with fixed options; takes the place of :class:`torchvision.ops.PSRoIPool`.

    Args:
        output_size: bins ``(h, w)`` of a region, or one number for both.
        spatial_scale: factor from coordinates of the boxes to pixels of the input.

    Example:
        >>> import torch, gencv_fast.nn
        >>> head = gencv_fast.nn.PSRoIPool(3, spatial_scale=1 / 16)
        >>> head(torch.ones(1, 90, 20, 30), [torch.tensor([[0.0, 0.0, 160.0, 160.0]])]).shape
        torch.Size([1, 10, 3, 3])

    Paper: Dai et al., *R-FCN*, NeurIPS 2016.
    """

    def __init__(self, output_size: int | Sequence[int], spatial_scale: float) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """``[N, C, H, W]`` and ``[K, 5]`` or a list of ``[L, 4]`` give ``[K, C / (h * w), h, w]``."""
        return ps_roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"
