"""Routes to the room `roi`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import poolers
from torchvision.ops.poolers import LevelMapper, MultiScaleRoIAlign

from ..._dispatch import Op
from ...ops.roi.align.checks import MOST_LEVELS
from ...ops.roi.align.contract import MULTISCALE_ROI_ALIGN, ROI_ALIGN, ROI_ALIGN_BACKWARD
from ...ops.roi.masks.contract import PASTE_MASKS
from ...ops.roi.pool.contract import ROI_POOL
from ...ops.roi.position_sensitive.contract import (
    PS_ROI_ALIGN,
    PS_ROI_ALIGN_BACKWARD,
    PS_ROI_POOL,
    PS_ROI_POOL_BACKWARD,
)
from ..routes import FunctionRoute, KernelRoute, Route, are_plain, have_equal_lengths, is_own, run

_POOLERS = "torchvision.ops.poolers"


def _are_regions(maps: Tensor, rois: Tensor) -> bool:
    """Maps ``[N, C, H, W]`` and ``[K, 5]`` of one dtype that ours computes as torchvision does."""
    return (
        are_plain(maps, rois)
        and maps.dtype in (torch.float32, torch.float64)
        and rois.dtype == maps.dtype
        and (maps.dim(), rois.dim()) == (4, 2)
        and rois.shape[1] == 5
    )


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    if not _are_regions(input, rois) or pooled_height <= 0 or pooled_width <= 0:
        return NotImplemented
    size = (pooled_height, pooled_width)
    return run(ROI_ALIGN, input, rois, size, spatial_scale, sampling_ratio, aligned, "avg", False, False)


def roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    if not _are_regions(grad, rois):
        return NotImplemented
    options = (spatial_scale, sampling_ratio, aligned, "avg", False, False)
    grads = run(ROI_ALIGN_BACKWARD, grad, rois, None, (batch_size, height, width), *options)
    return grads if grads is NotImplemented else grads[0]


def _fit(maps: Tensor, pooled_height: int, pooled_width: int) -> bool:
    """torchvision says itself what does not."""
    return pooled_height > 0 and pooled_width > 0 and maps.shape[1] % (pooled_height * pooled_width) == 0


def _with_mapping(pooled: Any, rows: int, columns: int) -> Any:
    """What torchvision's kernels return besides, for their own backward: the channel that each bin was taken from."""
    if pooled is NotImplemented:
        return NotImplemented
    count, channels = pooled.shape[:2]
    mapping = torch.arange(channels * rows * columns, dtype=torch.int32, device=pooled.device)
    return pooled, mapping.view(channels, rows, columns).repeat(count, 1, 1, 1)


def ps_roi_align(
    input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int, sampling_ratio: int
) -> Any:
    if not _are_regions(input, rois) or not _fit(input, pooled_height, pooled_width):
        return NotImplemented
    size = (pooled_height, pooled_width)
    pooled = run(PS_ROI_ALIGN, input, rois, size, spatial_scale, sampling_ratio, False)
    return _with_mapping(pooled, *size)


def ps_roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    channel_mapping: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    *input_size: int,
) -> Any:
    if not _are_regions(grad, rois):
        return NotImplemented
    return run(PS_ROI_ALIGN_BACKWARD, grad, rois, input_size, spatial_scale, sampling_ratio)


def ps_roi_pool(input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int) -> Any:
    if not _are_regions(input, rois) or not _fit(input, pooled_height, pooled_width):
        return NotImplemented
    size = (pooled_height, pooled_width)
    return _with_mapping(run(PS_ROI_POOL, input, rois, size, spatial_scale), *size)


def ps_roi_pool_backward(
    grad: Tensor,
    rois: Tensor,
    channel_mapping: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    *input_size: int,
) -> Any:
    if not _are_regions(grad, rois):
        return NotImplemented
    return run(PS_ROI_POOL_BACKWARD, grad, rois, input_size, spatial_scale)


def _regions(boxes: Any) -> Any:
    """``[K, 5]`` of what torchvision takes for boxes, or NotImplemented where it must say itself what is wrong."""
    if isinstance(boxes, Tensor):
        return boxes
    if not isinstance(boxes, (list, tuple)) or not boxes or not are_plain(*boxes):
        return NotImplemented
    if not all(some.dim() == 2 and some.shape[1] == 4 for some in boxes):
        return NotImplemented
    images = [torch.full_like(some[:, :1], i) for i, some in enumerate(boxes)]
    return torch.cat((torch.cat(images), torch.cat(list(boxes))), 1)


def _pair(size: Any) -> Any:
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    is_pair = len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
    return sides if is_pair else NotImplemented


def roi_pool(input: Tensor, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Any:
    """The function, since torchvision's operator also returns places that ours finds again in backward."""
    rois, size = _regions(boxes), _pair(output_size)
    if rois is NotImplemented or size is NotImplemented or not _are_regions(input, rois):
        return NotImplemented
    return run(ROI_POOL, input, rois, size, spatial_scale)


def _is_known(pooler: MultiScaleRoIAlign) -> bool:
    """Whether pooling is what one call replaces, and not a subclass's or another patch's."""
    return (
        type(pooler) is MultiScaleRoIAlign
        and is_own(poolers._multiscale_roi_align, f"{_POOLERS}:_multiscale_roi_align")
        and is_own(poolers.roi_align, "torchvision.ops.roi_align:roi_align")
        and is_own(LevelMapper.__call__, f"{_POOLERS}:LevelMapper.__call__")
    )


def _halve(scales: Sequence[float], mapper: Any) -> bool:
    """Whether ours sends regions to the same levels: each of half the scale of the last, chosen by the usual rule."""
    finest = round(-math.log2(scales[0]))
    return (
        type(mapper) is LevelMapper
        and (mapper.k_min, mapper.k_max, mapper.eps) == (finest, finest + len(scales) - 1, 1e-6)
        and isinstance(mapper.s0, int)
        and isinstance(mapper.lvl0, int)
        and mapper.s0 > 0
        and list(scales) == [2.0 ** -(finest + i) for i in range(len(scales))]
    )


def pool_levels(self: MultiScaleRoIAlign, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: Any) -> Any:
    """All levels in one call, where torchvision pools from each and puts the results together."""
    levels = [level for name, level in x.items() if name in self.featmap_names]
    rois, size = _regions(boxes), _pair(self.output_size)
    if not _is_known(self) or isinstance(boxes, Tensor) or rois is NotImplemented or size is NotImplemented:
        return NotImplemented
    # Under autocast, levels may be of different dtypes.
    if not levels or not all(_are_regions(level, rois) and level.shape[:2] == levels[0].shape[:2] for level in levels):
        return NotImplemented
    if self.scales is None or self.map_levels is None:
        # As the original does: they stay those of the first call.
        self.scales, self.map_levels = poolers._setup_scales(
            levels, image_shapes, self.canonical_scale, self.canonical_level
        )
    scales, mapper = self.scales, self.map_levels
    if not len(levels) == len(scales) <= MOST_LEVELS or not _halve(scales, mapper):
        return NotImplemented
    return run(MULTISCALE_ROI_ALIGN, levels, rois, size, scales, self.sampling_ratio, mapper.s0, mapper.lvl0, False)


def paste_masks_in_image(masks: Tensor, boxes: Tensor, img_shape: Sequence[int], padding: int = 1) -> Any:
    if not are_plain(masks, boxes) or masks.dtype not in (torch.float32, torch.float64) or masks.dtype != boxes.dtype:
        return NotImplemented
    if (masks.dim(), boxes.dim()) != (4, 2) or masks.shape[1] != 1 or boxes.shape[1] != 4 or padding < 0:
        return NotImplemented
    if not have_equal_lengths(masks, boxes) or min(masks.shape[2:]) == 0:
        return NotImplemented
    return run(PASTE_MASKS, masks, boxes, tuple(img_shape), padding)


def _kernels(name: str, op: Op, ours: Callable[..., Any]) -> tuple[Route, ...]:
    return tuple(KernelRoute(f"torchvision::{name}", device, op, ours) for device in ("cpu", "cuda"))


ROUTES: tuple[Route, ...] = (
    *_kernels("roi_align", ROI_ALIGN, roi_align),
    *_kernels("_roi_align_backward", ROI_ALIGN_BACKWARD, roi_align_backward),
    FunctionRoute(f"{_POOLERS}:MultiScaleRoIAlign.forward", MULTISCALE_ROI_ALIGN, pool_levels),
    *_kernels("ps_roi_align", PS_ROI_ALIGN, ps_roi_align),
    *_kernels("_ps_roi_align_backward", PS_ROI_ALIGN_BACKWARD, ps_roi_align_backward),
    *_kernels("ps_roi_pool", PS_ROI_POOL, ps_roi_pool),
    *_kernels("_ps_roi_pool_backward", PS_ROI_POOL_BACKWARD, ps_roi_pool_backward),
    FunctionRoute("torchvision.ops.roi_pool:roi_pool", ROI_POOL, roi_pool),
    FunctionRoute("torchvision.models.detection.roi_heads:paste_masks_in_image", PASTE_MASKS, paste_masks_in_image),
)
