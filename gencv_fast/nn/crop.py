"""Warped crops as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..ops.roi import crop_and_resize
from ._repr import chosen


class CropAndResize(nn.Module):
    """:func:`gencv_fast.crop_and_resize` with everything but its tensors fixed: R-CNN's region warp as a layer.

    Args:
        size: ``(height, width)`` of the crops, or one number for both.
        method: ``"bilinear"`` or ``"nearest"``.
        extrapolation_value: the pixel value outside the image.
        mean: one number per channel, subtracted from every value.
        std: one number per channel, by which every value is divided after that.
        differentiable_boxes: whether boxes get a gradient too.

    Example:
        >>> import torch, gencv_fast.nn
        >>> warp = gencv_fast.nn.CropAndResize(227, mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
        >>> photo = torch.randint(256, (1, 3, 60, 80), dtype=torch.uint8)
        >>> boxes = torch.tensor([[0.1, 0.2, 0.6, 0.9], [0.0, 0.0, 1.0, 1.0]])
        >>> warp(photo, boxes, torch.tensor([0, 0])).shape
        torch.Size([2, 3, 227, 227])

    Paper: Girshick et al., *Rich feature hierarchies for accurate object detection and semantic segmentation*, CVPR
    2014.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        method: str = "bilinear",
        extrapolation_value: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        differentiable_boxes: bool = False,
    ) -> None:
        super().__init__()
        self.size = size if isinstance(size, int) else tuple(size)
        self.method = method
        self.extrapolation_value = extrapolation_value
        self.mean = None if mean is None else list(mean)
        self.std = None if std is None else list(std)
        self.differentiable_boxes = differentiable_boxes

    def forward(self, images: Tensor, boxes: Tensor, box_indices: Tensor) -> Tensor:
        """Images ``[N, C, H, W]``, normalised boxes ``[K, 4]``, indices ``[K]`` -> crops ``[K, C, height, width]``."""
        return crop_and_resize(
            images,
            boxes,
            box_indices,
            self.size,
            self.method,
            self.extrapolation_value,
            self.mean,
            self.std,
            self.differentiable_boxes,
        )

    def extra_repr(self) -> str:
        rest = chosen(self, extrapolation_value=0.0, mean=None, std=None, differentiable_boxes=False)
        return f"size={self.size}, method={self.method!r}{rest}"
