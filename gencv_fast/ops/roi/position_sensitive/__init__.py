"""Position-sensitive features of regions (R-FCN, Dai et al. 2016; with bilinear sampling, Light-Head R-CNN, 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..regions import as_regions, pair
from .contract import PS_ROI_ALIGN, PS_ROI_POOL

__all__ = ["ps_roi_align", "ps_roi_pool"]


def ps_roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    *,
    differentiable_boxes: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Means of bilinear samples over the bins of regions, each bin of a channel of its own, as in
    :func:`torchvision.ops.ps_roi_align`.

    Channel ``(c * h + i) * w + j`` of the input is read for bin ``(i, j)`` of channel c of the result.

    Args:
        input: ``[N, C, H, W]``, with ``C`` a multiple of ``h * w``; fp16, bf16, fp32 or fp64, any strides.
        boxes: ``[K, 5]``, rows (index of the image, x1, y1, x2, y2), or a list with boxes ``[L, 4]`` for each image;
            of input's dtype or fp32. In units of ``1 / spatial_scale`` pixels of the input.
        output_size: bins ``(h, w)`` of a region, or one number for both.
        spatial_scale: factor from coordinates of the boxes to pixels of the input.
        sampling_ratio: samples along each side of a bin. Without a positive one, as many as a bin has pixels,
            rounded up.
        differentiable_boxes: also pass a gradient to the boxes, with the numbers of samples held fixed.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[K, C / (h * w), h, w]``, of input's dtype; fp16 and bf16 are computed in fp32. NaN where a coordinate is
        not finite, 0 where a bin has no sample on the map.

    Raises:
        RuntimeError: a wrong rank, dtype or device; a number of channels that the bins do not divide; on the CPU an
            index of no image.

    Example:
        >>> import torch, gencv_fast
        >>> input = torch.arange(2 * 2 * 4 * 4).float().view(1, 4, 4, 4)
        >>> boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
        >>> gencv_fast.ps_roi_align(input, boxes, 2, sampling_ratio=2)
        tensor([[[[ 2.5000, 20.5000],
                  [42.5000, 60.5000]]]])

    Papers: Dai et al., *R-FCN: Object Detection via Region-based Fully Convolutional Networks*, NeurIPS 2016; with
    bilinear samples, Li et al., *Light-Head R-CNN: In Defense of Two-Stage Object Detector*, 2017.
    """
    regions = as_regions("ps_roi_align", boxes)
    sizes = pair("ps_roi_align", "output_size", output_size)
    return PS_ROI_ALIGN(input, regions, sizes, spatial_scale, sampling_ratio, differentiable_boxes, backend=backend)


def ps_roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    *,
    backend: str | None = None,
) -> Tensor:
    """Means over the pixels in the bins of regions, each bin of a channel of its own, as in
    :func:`torchvision.ops.ps_roi_pool`.

    Channel ``(c * h + i) * w + j`` of the input is read for bin ``(i, j)`` of channel c of the result.

    Args:
        input: ``[N, C, H, W]``, with ``C`` a multiple of ``h * w``; fp16, bf16, fp32 or fp64, any strides.
        boxes: ``[K, 5]``, rows (index of the image, x1, y1, x2, y2), or a list with boxes ``[L, 4]`` for each image;
            of input's dtype or fp32. In units of ``1 / spatial_scale`` pixels of the input, rounded to whole pixels.
        output_size: bins ``(h, w)`` of a region, or one number for both.
        spatial_scale: factor from coordinates of the boxes to pixels of the input.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[K, C / (h * w), h, w]``, of input's dtype; fp16 and bf16 are computed in fp32. NaN where a coordinate is
        not finite, 0 where a bin has no pixel. The last row and column of the input belong to no bin, as in
        torchvision.

    Raises:
        RuntimeError: a wrong rank, dtype or device; a number of channels that the bins do not divide; on the CPU an
            index of no image.

    Example:
        >>> import torch, gencv_fast
        >>> input = torch.arange(2 * 2 * 5 * 5).float().view(1, 4, 5, 5)
        >>> boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
        >>> gencv_fast.ps_roi_pool(input, boxes, 2)
        tensor([[[[ 3., 30.],
                  [63., 90.]]]])

    Paper: Dai et al., *R-FCN: Object Detection via Region-based Fully Convolutional Networks*, NeurIPS 2016.
    """
    regions = as_regions("ps_roi_pool", boxes)
    return PS_ROI_POOL(input, regions, pair("ps_roi_pool", "output_size", output_size), spatial_scale, backend=backend)
