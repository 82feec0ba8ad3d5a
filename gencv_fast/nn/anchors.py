"""Anchors as a module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..ops.boxes import anchor_grid
from ..ops.boxes.anchors import cell_anchors


class AnchorGenerator(nn.Module):
    """Anchors for a set of feature maps: a drop-in for torchvision's class of this name.

    It keeps nothing between calls but what it was built with, so that torch.export and several threads can use one;
    grids come from `gencv_fast.anchor_grid`, which makes each of them once.

    Args:
        sizes: per level, square roots of the anchors' areas in pixels; one number per level is enough.
        aspect_ratios: per level, height over width; one tuple serves all levels.

    Example:
        >>> import torch, gencv_fast
        >>> from torchvision.models.detection.image_list import ImageList
        >>> generator = gencv_fast.nn.AnchorGenerator(((32,), (64,)), ((0.5, 1.0, 2.0),) * 2)
        >>> images = ImageList(torch.zeros(1, 3, 64, 64), [(64, 64)])
        >>> generator(images, [torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)])[0].shape
        torch.Size([60, 4])

    Paper: Ren et al., *Faster R-CNN*, NeurIPS 2015.
    """

    def __init__(
        self, sizes: Sequence[Any] = ((128, 256, 512),), aspect_ratios: Sequence[Any] = ((0.5, 1.0, 2.0),)
    ) -> None:
        super().__init__()
        if not isinstance(sizes[0], (list, tuple)):
            sizes = tuple((size,) for size in sizes)
        if not isinstance(aspect_ratios[0], (list, tuple)):
            aspect_ratios = (tuple(aspect_ratios),) * len(sizes)
        if len(sizes) != len(aspect_ratios):
            expected = f"AnchorGenerator: aspect_ratios must have one entry per level ({len(sizes)})"
            raise RuntimeError(f"{expected}, got {len(aspect_ratios)}.")
        self.sizes, self.aspect_ratios = sizes, aspect_ratios

    @property
    def cell_anchors(self) -> list[Tensor]:
        """float32 ``[A, 4]`` of each level: the anchors of one cell."""
        return [cell_anchors(*level) for level in zip(self.sizes, self.aspect_ratios, strict=True)]

    def num_anchors_per_location(self) -> list[int]:
        return [len(size) * len(ratio) for size, ratio in zip(self.sizes, self.aspect_ratios, strict=True)]

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """One ``[N, 4]`` for each image, all the same tensor: take it as read-only.

        Args:
            image_list: with ``tensors`` ``[B, C, H, W]`` and ``image_sizes``, one per image.
            feature_maps: ``[B, C, H, W]`` of each level; anchors get their dtype and device.
        """
        if len(feature_maps) != len(self.sizes):
            raise RuntimeError(
                f"AnchorGenerator: feature_maps must have one entry per level ({len(self.sizes)}), "
                f"got {len(feature_maps)}."
            )
        height, width = image_list.tensors.shape[-2:]
        grids = [(features.shape[-2], features.shape[-1]) for features in feature_maps]
        strides = [(height // rows, width // columns) for rows, columns in grids]
        first = feature_maps[0]
        anchors = anchor_grid(grids, strides, self.sizes, self.aspect_ratios, first.device, first.dtype)
        return [anchors] * len(image_list.image_sizes)

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, aspect_ratios={self.aspect_ratios}"
