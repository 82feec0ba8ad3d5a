"""Warped crops of images: R-CNN's region warp."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..regions import pair
from .contract import CROP_AND_RESIZE

__all__ = ["crop_and_resize"]


def crop_and_resize(
    images: Tensor,
    boxes: Tensor,
    box_indices: Tensor,
    size: int | Sequence[int],
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    differentiable_boxes: bool = False,
    *,
    backend: str | None = None,
) -> Tensor:
    """Cut boxes out of images and resize every crop to one size, as ``tf.image.crop_and_resize``.

    Row ``i`` of a crop samples the image at ``y1 * (H - 1) + i * (y2 - y1) * (H - 1) / (height - 1)``, from the centre
    of the box's first pixel to the centre of its last; a crop of one row samples the middle. Columns likewise. A box
    with ``y1 > y2`` or ``x1 > x2`` gives a flipped crop.

    Args:
        images: ``[N, C, H, W]`` of uint8, fp16, bf16, fp32 or fp64; any strides, channels_last as it is.
        boxes: ``[K, 4]`` as ``(y1, x1, y2, x2)``, normalised: 0 is the first row or column of the image, 1 the last.
            Of images' dtype or fp32; for uint8 images any floating-point dtype.
        box_indices: ``[K]`` of int32 or int64, the image of each box.
        size: ``(height, width)`` of the crops, or one number for both.
        method: ``"bilinear"``, or ``"nearest"`` (halves round up).
        extrapolation_value: the pixel value outside the image, in the units of ``images``; it is normalised as they
            are.
        mean: one number per channel, subtracted from every value; None subtracts nothing.
        std: one number per channel, by which every value is divided after that; None divides by nothing.
        differentiable_boxes: whether boxes get a gradient too, as TensorFlow gives it. Bilinear only.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        Crops ``[K, C, height, width]`` of images' dtype, fp32 for uint8; channels_last where ``images`` is. fp16, bf16
        and uint8 are computed in fp32. A box with a coordinate that is not finite gives NaN and passes no gradient; so
        does, on a GPU, an index of no image.

    Raises:
        RuntimeError: wrong dtype, shape, device, size or method; on the CPU an index of no image.

    Example:
        >>> import torch, gencv_fast
        >>> image = torch.arange(12.0).view(1, 1, 3, 4)
        >>> boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]])
        >>> gencv_fast.crop_and_resize(image, boxes, torch.tensor([0, 0]), (2, 3))
        tensor([[[[ 0.0000,  1.5000,  3.0000],
                  [ 8.0000,  9.5000, 11.0000]]],
        <BLANKLINE>
        <BLANKLINE>
                [[[ 8.0000,  9.5000, 11.0000],
                  [ 0.0000,  1.5000,  3.0000]]]])

    Paper: Girshick et al., *Rich feature hierarchies for accurate object detection and semantic segmentation*, CVPR
    2014.
    """
    sides = pair("crop_and_resize", "size", size)
    args = (images, boxes, box_indices, sides, method, extrapolation_value, mean, std, differentiable_boxes)
    return CROP_AND_RESIZE(*args, backend=backend)
