"""Masks of objects, pasted into the images that they are of: the last step of Mask R-CNN."""

from __future__ import annotations

from torch import Tensor

from .contract import PASTE_MASKS

__all__ = ["paste_masks"]


def paste_masks(
    masks: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    padding: int = 1,
    *,
    backend: str | None = None,
) -> Tensor:
    """Each mask, resized to its box, in an image of zeros, as
    ``torchvision.models.detection.roi_heads.paste_masks_in_image``, without its loop over the masks.

    A mask gets a border of ``padding`` cells of zeros, its box grows by the same share and is rounded towards zero to
    whole pixels, and each pixel of the box takes the bilinear interpolation of four cells. Differentiable in the
    masks, twice; the boxes get no gradient, as they are rounded.

    Args:
        masks: ``[K, C, h, w]``, any strides; fp16, bf16, fp32 or fp64. One channel or more, all pasted alike. Computed
            in fp32, fp64 in fp64.
        boxes: ``[K, 4]`` corners ``(x1, y1, x2, y2)`` in pixels, in the dtype of ``masks`` or fp32. Parts outside the
            image are cut off; a reversed box has no pixels. A box that is not finite gives NaN in its whole image and
            passes no gradient.
        image_size: ``(height, width)`` of the images, in pixels.
        padding: cells of the border, at least 0.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[K, C, height, width]`` in the dtype of ``masks``.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device; masks without a cell; a size that is no pair; a negative
            size or padding.

    Example:
        >>> import torch, gencv_fast
        >>> box = torch.tensor([[1.0, 0.0, 2.0, 1.0]])
        >>> gencv_fast.paste_masks(torch.ones(1, 1, 1, 1), box, (2, 4), padding=0)
        tensor([[[[0., 1., 1., 0.],
                  [0., 1., 1., 0.]]]])

    Paper: He et al., *Mask R-CNN*, ICCV 2017.
    """
    return PASTE_MASKS(masks, boxes, image_size, padding, backend=backend)
