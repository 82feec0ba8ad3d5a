"""RoI pooling: the largest value in each bin of a region."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..regions import as_regions, pair
from .contract import ROI_POOL

__all__ = ["roi_pool"]


def roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    *,
    backend: str | None = None,
) -> Tensor:
    """The largest value in each of ``rows * columns`` bins of each region, as :func:`torchvision.ops.roi_pool`.

    Args:
        input: ``[N, C, H, W]`` feature maps, any strides; fp16, bf16, fp32 or fp64.
        boxes: ``[K, 5]``: index of the image and the corners x1, y1, x2, y2, in pixels of what ``spatial_scale``
            leads to the map from; of input's dtype or fp32. Or a list of ``[L, 4]``, one tensor for each image.
        output_size: ``(rows, columns)`` of bins, or one number for both.
        spatial_scale: by what the corners are multiplied before they are rounded to pixels of the map, halves away
            from zero.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[K, C, rows, columns]`` of input's dtype, the same bits on every backend. A bin outside of the map is 0. NaN
        pixels are passed over; a bin that holds nothing else is the lowest number of fp32. A region with a coordinate
        that is not finite, or on a GPU with an index of no image, is NaN. The gradient of a bin goes to the first of
        its largest pixels in the order of rows.

    Raises:
        RuntimeError: a wrong shape, dtype or device; on the CPU, an index of no image.

    Example:
        >>> import torch, gencv_fast
        >>> image = torch.arange(16.0).view(1, 1, 4, 4)
        >>> gencv_fast.roi_pool(image, torch.tensor([[0.0, 0, 0, 3, 1]]), (1, 2))
        tensor([[[[5., 7.]]]])

    Paper: Girshick, *Fast R-CNN*, ICCV 2015.
    """
    rows = as_regions("roi_pool", boxes)
    return ROI_POOL(input, rows, pair("roi_pool", "output_size", output_size), spatial_scale, backend=backend)
