"""Region proposal networks: from the head's outputs to proposals."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..._checks import require_pairs
from .contract import RPN_PROPOSALS

__all__ = ["rpn_proposals"]


def rpn_proposals(
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    score_threshold: float = 0.0,
    min_size: float = 1e-3,
    strides: Sequence[tuple[int, int]] | None = None,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The proposals of a region proposal network, for all images and all levels of the feature pyramid in one call.

    For each image: the ``pre_nms_top_n`` candidates of the best logits of each level, decoded, clipped to the image,
    those left out that are too small or of too low a score, then non-maximum suppression within each level, and the
    ``post_nms_top_n`` best of all levels. What :class:`torchvision.models.detection.rpn.RegionProposalNetwork` does
    with ``BoxCoder.decode`` and ``filter_proposals``, but only survivors of the first step are decoded.

    Args:
        objectness: a tensor per level of logits ``[B, A, H, W]``, as the head gives them; fp16, bf16, fp32 or fp64.
            Any strides: a flat ``[B, n]`` level is ``level.view(B, 1, n, 1)``. 1 to 16 levels; each has an A of its
            own.
        deltas: a tensor per level, ``[B, 4 * A, H, W]``, channel ``4 * a + c`` for the shift of the centre (x, y) in
            units of the anchor's sides and the logarithm of the growth of the sides (w, h), at most ``ln(1000/16)``. A
            flat ``[B, n, 4]`` level is ``level.permute(0, 2, 1).unsqueeze(-1)``.
        anchors: ``[sum of A H W, 4]`` corners ``(x1, y1, x2, y2)`` in pixels, level by level, within a level in the
            order ``(h * W + w) * A + a``; with ``strides`` those of one cell of each level, ``[sum of A, 4]``, and
            cell (h, w) has the same, shifted. Either with a leading dimension ``B`` where images differ.
        image_sizes: ``(height, width)`` of each image, in pixels.
        pre_nms_top_n: candidates of each level at most; ties by lower index. NaN logits rank highest and are left out
            afterwards.
        post_nms_top_n: proposals of each image at most, and the size of the outputs.
        nms_threshold: a box goes when its intersection over union with a kept box of its level is greater than this.
        score_threshold: scores, the sigmoids of the logits, must reach this.
        min_size: width and height, clipped to the image, must reach this, in pixels.
        strides: ``(vertical, horizontal)`` distance in pixels from cell to cell, for each level.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``boxes`` ``[B, post_nms_top_n, 4]`` and ``scores`` ``[B, post_nms_top_n]`` in the dtype of the inputs, highest
        score first, and ``counts`` int64 ``[B]``: rows from ``counts[b]`` on are zero. They carry no gradient.

    fp16 and bf16 are computed in fp32. A box with a NaN coordinate is left out.

    Raises:
        RuntimeError: lists whose lengths differ; sizes or strides that are not pairs; a wrong rank, shape, dtype or
            device; a negative size or limit.

    Example:
        >>> import torch, gencv_fast
        >>> objectness = [torch.tensor([0.0, 2.0, 1.0]).view(1, 1, 1, 3)]
        >>> deltas = [torch.zeros(1, 4, 1, 3)]
        >>> cell = torch.tensor([[-8.0, -8.0, 8.0, 8.0]])
        >>> boxes, scores, counts = gencv_fast.rpn_proposals(
        ...     objectness, deltas, cell, [(6, 40)], 100, 2, 0.7, strides=[(16, 16)]
        ... )
        >>> boxes[0, : counts[0]], scores
        (tensor([[ 8.,  0., 24.,  6.],
                [24.,  0., 40.,  6.]]), tensor([[0.8808, 0.7311]]))

    Papers: Ren et al., *Faster R-CNN*, NeurIPS 2015; Lin et al., *Feature Pyramid Networks for Object Detection*,
    CVPR 2017.
    """
    sizes = require_pairs("rpn_proposals", "image_sizes", image_sizes, "height, width")
    steps = None if strides is None else require_pairs("rpn_proposals", "strides", strides, "vertical, horizontal")
    return RPN_PROPOSALS(
        objectness,
        deltas,
        anchors,
        [side for size in sizes for side in size],
        pre_nms_top_n,
        post_nms_top_n,
        nms_threshold,
        score_threshold,
        min_size,
        None if steps is None else [side for pair in steps for side in pair],
        backend=backend,
    )
