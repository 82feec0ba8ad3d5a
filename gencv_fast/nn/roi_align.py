"""RoI align as modules: of one map, and of the levels of a feature pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..ops.roi.align import infer_scales, multiscale_roi_align, roi_align
from ..ops.roi.regions import pair


class RoIAlign(nn.Module):
    """:func:`gencv_fast.roi_align` with fixed arguments; takes the place of :class:`torchvision.ops.RoIAlign`."""

    def __init__(
        self,
        output_size: int | Sequence[int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = False,
        mode: str = "avg",
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.mode = mode

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """``[K, C, rows, columns]`` of maps ``[N, C, H, W]`` and regions ``[K, 5]`` or a list of ``[L, 4]``."""
        args = (self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned, self.mode)
        return roi_align(input, rois, *args)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
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
    """

    def __init__(
        self,
        featmap_names: list[str],
        output_size: int | Sequence[int],
        sampling_ratio: int,
        *,
        canonical_scale: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        self.featmap_names = featmap_names
        self.output_size = tuple(pair(output_size))
        self.sampling_ratio = sampling_ratio
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level
        self.scales: list[float] | None = None

    def forward(self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """``[K, C, rows, columns]``, in the order of the boxes.

        The first call's maps and images set the scales, as in torchvision.
        """
        maps = [level for name, level in x.items() if name in self.featmap_names]
        if self.scales is None:
            self.scales = infer_scales(maps, image_shapes)
        canonical = (self.canonical_scale, self.canonical_level)
        return multiscale_roi_align(
            maps, boxes, image_shapes, self.output_size, self.sampling_ratio, *canonical, scales=self.scales
        )

    def extra_repr(self) -> str:
        return (
            f"featmap_names={self.featmap_names}, output_size={self.output_size}, sampling_ratio={self.sampling_ratio}"
        )
