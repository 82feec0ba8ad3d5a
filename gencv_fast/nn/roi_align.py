"""RoI align as modules: of one map, and of the levels of a feature pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..ops.roi.align import infer_scales, multiscale_roi_align, roi_align
from ..ops.roi.regions import pair
from ._repr import chosen


class RoIAlign(nn.Module):
    """:func:`gencv_fast.roi_align` with fixed arguments; takes the place of :class:`torchvision.ops.RoIAlign`.

    Args:
        output_size: ``(rows, columns)`` of bins, or one number for both.
        spatial_scale: cells of the map to a unit of the boxes.
        sampling_ratio: samples in a bin along each axis; 0 or less for ``ceil(size of the bin)``.
        aligned: shift the region by half a cell, so that a cell's value stands at its centre.
        mode: ``"avg"``, the mean of a bin's samples, or ``"max"``, the largest.
        differentiable_boxes: let the gradient reach the boxes.
        channels_last: return the result in channels_last memory format.

    Example:
        >>> import torch, gencv_fast.nn
        >>> align = gencv_fast.nn.RoIAlign((7, 7), spatial_scale=1 / 16, sampling_ratio=2, mode="max")
        >>> align
        RoIAlign(output_size=(7, 7), spatial_scale=0.0625, sampling_ratio=2, aligned=False, mode='max')
        >>> align(torch.rand(1, 8, 20, 30), [torch.tensor([[0.0, 0, 300, 200]])]).shape
        torch.Size([1, 8, 7, 7])

    Paper: He et al., *Mask R-CNN*, ICCV 2017.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = False,
        *,
        mode: str = "avg",
        differentiable_boxes: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.mode = mode
        self.differentiable_boxes = differentiable_boxes
        self.channels_last = channels_last

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """``[K, C, rows, columns]`` of maps ``[N, C, H, W]`` and regions ``[K, 5]`` or a list of ``[L, 4]``."""
        args = (self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)
        return roi_align(input, rois, *args, self.mode, self.differentiable_boxes, self.channels_last)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
            + chosen(self, mode="avg", differentiable_boxes=False, channels_last=False)
        )


class MultiScaleRoIAlign(nn.Module):
    """:func:`gencv_fast.multiscale_roi_align` of chosen maps.

    Takes the place of :class:`torchvision.ops.MultiScaleRoIAlign`.

    Args:
        featmap_names: the maps that are used, of those a call brings.
        output_size: ``(rows, columns)`` of bins, or one number for both.
        sampling_ratio: samples in a bin along each axis; 0 or less for ``ceil(size of the bin)``.
        canonical_scale: side in pixels of a box that belongs to ``canonical_level``.
        canonical_level: number of a level; that of a map with scale ``2 ** -k`` is k.
        aligned: as for :class:`RoIAlign`.

    Example:
        >>> import torch, gencv_fast.nn
        >>> pool = gencv_fast.nn.MultiScaleRoIAlign(["fine", "coarse"], output_size=7, sampling_ratio=2)
        >>> maps = {"fine": torch.rand(1, 8, 40, 60), "coarse": torch.rand(1, 8, 20, 30)}
        >>> pool(maps, [torch.tensor([[0.0, 0, 300, 200], [20, 30, 50, 60]])], [(320, 480)]).shape
        torch.Size([2, 8, 7, 7])

    Paper: Lin et al., *Feature Pyramid Networks for Object Detection*, CVPR 2017.
    """

    def __init__(
        self,
        featmap_names: list[str],
        output_size: int | Sequence[int],
        sampling_ratio: int,
        *,
        canonical_scale: int = 224,
        canonical_level: int = 4,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.featmap_names = featmap_names
        self.output_size = tuple(pair("multiscale_roi_align", "output_size", output_size))
        self.sampling_ratio = sampling_ratio
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level
        self.aligned = aligned
        self.scales: list[float] | None = None

    def forward(self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """``[K, C, rows, columns]``, in the order of the boxes.

        The first call's maps and images set the scales, as in torchvision. Maps come finest first.
        """
        maps = [level for name, level in x.items() if name in self.featmap_names]
        if self.scales is None:
            self.scales = infer_scales(maps, image_shapes)
        args = (self.output_size, self.sampling_ratio, self.canonical_scale, self.canonical_level, self.aligned)
        return multiscale_roi_align(maps, boxes, image_shapes, *args, scales=self.scales)

    def extra_repr(self) -> str:
        return (
            f"featmap_names={self.featmap_names}, output_size={self.output_size}, sampling_ratio={self.sampling_ratio}"
            + chosen(self, aligned=False)
        )
