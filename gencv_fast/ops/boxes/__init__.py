"""Box arithmetic of detectors: overlaps and losses, coding against anchors, matching, formats, anchor grids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .anchors import anchor_grid
from .checks import FORMATS
from .contract import OPERATORS

__all__ = [
    "anchor_grid",
    "box_convert",
    "box_decode",
    "box_encode",
    "box_iou",
    "clip_boxes",
    "complete_box_iou",
    "complete_box_iou_loss",
    "distance_box_iou",
    "distance_box_iou_loss",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "match_boxes",
    "remove_small_boxes",
]


def _pairwise(op: str, boxes1: Tensor, boxes2: Tensor, *rest: float, backend: str | None) -> Tensor:
    """Whole numbers are exact in float64; leading dimensions broadcast."""
    whole = _are_whole(boxes1, boxes2)
    if whole:
        boxes1, boxes2 = boxes1.double(), boxes2.double()
    boxes1, boxes2 = _promoted(boxes1, boxes2)
    if boxes1.shape[:-2] != boxes2.shape[:-2] and boxes1.dim() > 1 and boxes2.dim() > 1:
        leading = torch.broadcast_shapes(boxes1.shape[:-2], boxes2.shape[:-2])
        boxes1, boxes2 = boxes1.expand(*leading, -1, -1), boxes2.expand(*leading, -1, -1)
    result = OPERATORS[op](boxes1, boxes2, *rest, backend=backend)
    return result.float() if whole else result


_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _are_whole(boxes1: Tensor, boxes2: Tensor) -> bool:
    return boxes1.dtype in _WHOLE and boxes2.dtype in _WHOLE


def _promoted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two floating-point types become the wider one, as in torch's arithmetic: heads under autocast meet fp32 boxes."""
    if a.dtype == b.dtype or not (a.is_floating_point() and b.is_floating_point()):
        return a, b
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy", *, backend: str | None = None) -> Tensor:
    """Intersection over union of every box of one set with every box of the other.

    The values of :func:`torchvision.ops.box_iou`, to the bit for corners in fp32 and fp64, written once: nothing of
    the size of the result is held besides it.

    Args:
        boxes1: ``[..., N, 4]`` boxes; fp16, bf16, fp32, fp64 or whole numbers. Any strides.
        boxes2: ``[..., M, 4]``; leading dimensions broadcast, and dtypes promote.
        fmt: ``"xyxy"``, ``"xywh"`` or ``"cxcywh"``, as in :func:`box_convert`.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[..., N, M]``; fp64 for fp64 boxes, else fp32. Differentiable once. Two empty boxes give 0 / 0, which is NaN.

    Raises:
        RuntimeError: a wrong rank, shape, dtype, device or format.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
        >>> gencv_fast.box_iou(boxes, boxes)
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    if FORMATS.get(fmt) != 4:
        raise RuntimeError(f"box_iou: fmt must be xyxy, xywh or cxcywh, got {fmt!r}.")
    if fmt == "xyxy":
        return _pairwise("box_iou", boxes1, boxes2, backend=backend)
    whole = _are_whole(boxes1, boxes2)
    if whole:
        boxes1, boxes2 = boxes1.double(), boxes2.double()
    corners1, corners2 = (box_convert(boxes, fmt, "xyxy", backend=backend) for boxes in (boxes1, boxes2))
    result = _pairwise("box_iou", corners1, corners2, backend=backend)
    return result.float() if whole else result


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor, *, backend: str | None = None) -> Tensor:
    """Generalised IoU of every pair: the overlap less the part of the enclosing box that neither covers.

    ``iou - (enclosing - union) / enclosing``, as :func:`torchvision.ops.generalized_box_iou`; without intermediate
    matrices.

    Args:
        boxes1: ``[..., N, 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32, fp64 or whole numbers.
        boxes2: ``[..., M, 4]``; leading dimensions broadcast, and dtypes promote.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[..., N, M]`` in (-1, 1]; fp64 for fp64 boxes, else fp32. Differentiable once.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
        >>> gencv_fast.generalized_box_iou(boxes[:1], boxes)
        tensor([[ 1.0000, -0.3333]])

    Paper: Rezatofighi et al., *Generalized Intersection over Union*, CVPR 2019.
    """
    return _pairwise("generalized_box_iou", boxes1, boxes2, backend=backend)


def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7, *, backend: str | None = None) -> Tensor:
    """Distance IoU of every pair: the overlap less the squared distance of the centres over the enclosing diagonal.

    ``iou - distance**2 / (diagonal**2 + eps)``, as :func:`torchvision.ops.distance_box_iou`; without intermediate
    matrices.

    Args:
        boxes1: ``[..., N, 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32, fp64 or whole numbers.
        boxes2: ``[..., M, 4]``; leading dimensions broadcast, and dtypes promote.
        eps: keeps the quotient finite where the enclosing box is a point.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[..., N, M]``; fp64 for fp64 boxes, else fp32. Differentiable once.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10]])
        >>> gencv_fast.distance_box_iou(boxes[:1], boxes)
        tensor([[ 1.0000, -0.2000]])

    Paper: Zheng et al., *Distance-IoU Loss*, AAAI 2020.
    """
    return _pairwise("distance_box_iou", boxes1, boxes2, eps, backend=backend)


def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7, *, backend: str | None = None) -> Tensor:
    """Complete IoU of every pair: :func:`distance_box_iou` less a penalty for differing aspect ratios.

    ``diou - alpha * v``, ``v = 4 / pi**2 * (atan(w1 / h1) - atan(w2 / h2))**2`` and ``alpha = v / (1 - iou + v +
    eps)``, which carries no gradient: as :func:`torchvision.ops.complete_box_iou`; without intermediate matrices.

    Args:
        boxes1: ``[..., N, 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32, fp64 or whole numbers.
        boxes2: ``[..., M, 4]``; leading dimensions broadcast, and dtypes promote.
        eps: keeps the quotients finite.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[..., N, M]``; fp64 for fp64 boxes, else fp32. Differentiable once. A box without height has no aspect ratio
        if it has no width either: NaN.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
        >>> gencv_fast.complete_box_iou(boxes[:1], boxes)
        tensor([[1.0000, 0.4655]])

    Paper: Zheng et al., *Enhancing Geometric Factors in Model Learning*, IEEE Transactions on Cybernetics 2021.
    """
    return _pairwise("complete_box_iou", boxes1, boxes2, eps, backend=backend)


def _reduced(op: str, loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean() if loss.numel() else 0.0 * loss.sum()
    raise RuntimeError(f"{op}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}.")


def generalized_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7, *, backend: str | None = None
) -> Tensor:
    """``1 - giou`` of each box with its partner; forward and backward are one pass each.

    Args:
        boxes1: ``[..., 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64.
        boxes2: ``[..., 4]``, of the same shape; dtypes promote.
        reduction: ``"none"``, ``"mean"`` (0 for no boxes) or ``"sum"``.
        eps: keeps the quotients of empty boxes finite.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[...]``, or ``[]`` when reduced; fp64 for fp64 boxes, else fp32. Differentiable once, in both arguments.

    Raises:
        RuntimeError: a wrong shape, dtype, device or reduction.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
        >>> gencv_fast.generalized_box_iou_loss(boxes, boxes.flip(0), reduction="mean")
        tensor(1.3333)

    Replaces :func:`torchvision.ops.generalized_box_iou_loss`.
    Paper: Rezatofighi et al., *Generalized Intersection over Union*, CVPR 2019.
    """
    op = "generalized_box_iou_loss"
    return _reduced(op, OPERATORS[op](*_promoted(boxes1, boxes2), eps, backend=backend), reduction)


def distance_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7, *, backend: str | None = None
) -> Tensor:
    """``1 - diou`` of each box with its partner; forward and backward are one pass each.

    Args:
        boxes1: ``[..., 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64.
        boxes2: ``[..., 4]``, of the same shape; dtypes promote.
        reduction: ``"none"``, ``"mean"`` (0 for no boxes) or ``"sum"``.
        eps: keeps the quotients of empty boxes finite.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[...]``, or ``[]`` when reduced; fp64 for fp64 boxes, else fp32. Differentiable once, in both arguments.

    Raises:
        RuntimeError: a wrong shape, dtype, device or reduction.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10]])
        >>> gencv_fast.distance_box_iou_loss(boxes, boxes.flip(0))
        tensor([1.2000, 1.2000])

    Replaces :func:`torchvision.ops.distance_box_iou_loss`.
    Paper: Zheng et al., *Distance-IoU Loss*, AAAI 2020.
    """
    op = "distance_box_iou_loss"
    return _reduced(op, OPERATORS[op](*_promoted(boxes1, boxes2), eps, backend=backend), reduction)


def complete_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7, *, backend: str | None = None
) -> Tensor:
    """``1 - ciou`` of each box with its partner; forward and backward are one pass each.

    Args:
        boxes1: ``[..., 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64.
        boxes2: ``[..., 4]``, of the same shape; dtypes promote.
        reduction: ``"none"``, ``"mean"`` (0 for no boxes) or ``"sum"``.
        eps: keeps the quotients of empty boxes finite, in the distance term too (where torchvision 0.29 keeps to
            1e-7 whatever it is told).
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[...]``, or ``[]`` when reduced; fp64 for fp64 boxes, else fp32. Differentiable once, in both arguments.

    Raises:
        RuntimeError: a wrong shape, dtype, device or reduction.

    Example:
        >>> import torch, gencv_fast
        >>> a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 10, 5]])
        >>> gencv_fast.complete_box_iou_loss(a, b)
        tensor([0.5345])

    Replaces :func:`torchvision.ops.complete_box_iou_loss`.
    Paper: Zheng et al., *Enhancing Geometric Factors in Model Learning*, IEEE Transactions on Cybernetics 2021.
    """
    op = "complete_box_iou_loss"
    return _reduced(op, OPERATORS[op](*_promoted(boxes1, boxes2), eps, backend=backend), reduction)


def box_encode(
    reference_boxes: Tensor,
    proposals: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    *,
    backend: str | None = None,
) -> Tensor:
    """The regression targets that make ``proposals`` into ``reference_boxes``.

    ``(wx * dx / w, wy * dy / h, ww * log(w' / w), wh * log(h' / h))`` with the shift of the centre ``(dx, dy)``.

    Args:
        reference_boxes: ``[..., 4]`` corners to be reached; fp16, bf16, fp32 or fp64.
        proposals: ``[..., 4]`` corners of the anchors, of the same shape; dtypes promote.
        weights: four factors, ``(wx, wy, ww, wh)``.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[..., 4]``, of the boxes' dtype. Differentiable once, in both arguments.

    Raises:
        RuntimeError: a wrong shape, dtype or device; not four weights.

    Example:
        >>> import torch, gencv_fast
        >>> anchors = torch.tensor([[0.0, 0, 10, 10]])
        >>> gencv_fast.box_encode(torch.tensor([[5.0, 0, 15, 20]]), anchors)
        tensor([[0.5000, 0.5000, 0.0000, 0.6931]])

    Replaces the ``encode_single`` of torchvision's ``BoxCoder``.
    Paper: Girshick et al., *Rich Feature Hierarchies for Accurate Object Detection*, CVPR 2014.
    """
    return OPERATORS["box_encode"](*_promoted(reference_boxes, proposals), weights, backend=backend)


def box_decode(
    deltas: Tensor,
    anchors: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = math.log(1000 / 16),
    *,
    backend: str | None = None,
) -> Tensor:
    """The boxes that regression deltas make of anchors: the inverse of :func:`box_encode`.

    Args:
        deltas: ``[N, 4 * C]``: per anchor and class ``(dx, dy, dw, dh)``; fp16, bf16, fp32 or fp64.
        anchors: ``[N, 4]`` corners; another dtype than the deltas' is computed in the wider one.
        weights: four divisors of the deltas.
        clip: greatest logarithm of the growth: larger ones count as this.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[N, 4 * C]`` corners, of the deltas' dtype. Differentiable once, in both tensors.

    Raises:
        RuntimeError: a wrong shape, dtype or device; not four weights.

    Example:
        >>> import torch, gencv_fast
        >>> anchors = torch.tensor([[0.0, 0, 10, 10]])
        >>> gencv_fast.box_decode(torch.tensor([[0.5, 0, 0, 0]]), anchors)
        tensor([[ 5.,  0., 15., 10.]])

    Replaces the ``decode_single`` of torchvision's ``BoxCoder``.
    Paper: Girshick et al., *Rich Feature Hierarchies for Accurate Object Detection*, CVPR 2014.
    """
    return OPERATORS["box_decode"](*_promoted(deltas, anchors), weights, clip, backend=backend).to(deltas.dtype)


def clip_boxes(boxes: Tensor, size: tuple[int, int], *, backend: str | None = None) -> Tensor:
    """Boxes moved into an image: x into [0, width], y into [0, height].

    Args:
        boxes: ``[..., 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64. NaN stays NaN.
        size: ``(height, width)`` in pixels.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[..., 4]``, of the boxes' dtype. Differentiable, twice.

    Raises:
        RuntimeError: a wrong shape or dtype; a negative size.

    Example:
        >>> import torch, gencv_fast
        >>> gencv_fast.clip_boxes(torch.tensor([[-5.0, 2, 30, 40]]), (20, 25))
        tensor([[ 0.,  2., 25., 20.]])

    Replaces :func:`torchvision.ops.clip_boxes_to_image`.
    """
    return OPERATORS["clip_boxes"](boxes, size, backend=backend)


def remove_small_boxes(boxes: Tensor, min_size: float, *, backend: str | None = None) -> Tensor:
    """Indices of the boxes whose sides are both at least ``min_size``.

    Args:
        boxes: ``[N, 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64.
        min_size: smallest width and height that stay, in pixels.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        int64 ``[K]``, ascending. Boxes with a NaN side go.

    Raises:
        RuntimeError: a wrong shape or dtype.

    Example:
        >>> import torch, gencv_fast
        >>> gencv_fast.remove_small_boxes(torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 1], [1, 1, 5, 6]]), 4)
        tensor([0, 2])

    Replaces :func:`torchvision.ops.remove_small_boxes`.
    """
    return OPERATORS["remove_small_boxes"](boxes, min_size, backend=backend)


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str, *, backend: str | None = None) -> Tensor:
    """Boxes in another format.

    ``xyxy`` are corners, ``xywh`` a corner and the sides, ``cxcywh`` the centre and the sides. Rotated boxes are
    ``xywhr`` and ``cxcywhr`` with an angle in degrees, counter-clockwise as the image shows it, or four corners,
    ``xyxyxyxy``. The two kinds do not convert to one another.

    Args:
        boxes: ``[..., K]`` with 4, 5 or 8 numbers as ``in_fmt`` has; fp16, bf16, fp32 or fp64.
        in_fmt: format of ``boxes``.
        out_fmt: format of the result.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[..., K]`` in the other format, a copy where both are the same. Differentiable, twice.

    Raises:
        RuntimeError: an unknown format or pair; a wrong shape or dtype.

    Example:
        >>> import torch, gencv_fast
        >>> gencv_fast.box_convert(torch.tensor([[0.0, 0, 10, 20]]), "xyxy", "cxcywh")
        tensor([[ 5., 10., 10., 20.]])

    Replaces :func:`torchvision.ops.box_convert`.
    """
    return OPERATORS["box_convert"](boxes, in_fmt, out_fmt, backend=backend)


def match_boxes(
    gt_boxes: Tensor,
    anchors: Tensor,
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
    *,
    backend: str | None = None,
) -> Tensor:
    """Assign to each anchor the ground-truth box that it overlaps most, without holding the matrix of overlaps.

    The matches of torchvision's ``Matcher(high, low, allow)(box_iou(gt_boxes, anchors))``.

    Args:
        gt_boxes: ``[M, 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64. None at all is legal.
        anchors: ``[A, 4]`` corners, of the same dtype.
        high_threshold: an overlap of at least this is a match.
        low_threshold: an overlap below this is background; between the two, the anchor is to be ignored.
        allow_low_quality_matches: also match every anchor that no other one surpasses for some box, ties included,
            with the box that it overlaps most, however little.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        int64 ``[A]``: the index of the box, the lower one among ties; -1 for background, -2 between the thresholds.
        Without ground truth, -1 everywhere.

    Raises:
        RuntimeError: a wrong shape, dtype or device; ``low_threshold`` above ``high_threshold``.

    Example:
        >>> import torch, gencv_fast
        >>> anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 2]])
        >>> gencv_fast.match_boxes(anchors[:1], anchors, 0.7, 0.3)
        tensor([ 0, -2, -1])

    Paper: Ren et al., *Faster R-CNN*, NeurIPS 2015.
    """
    return OPERATORS["match_boxes"](
        gt_boxes, anchors, high_threshold, low_threshold, allow_low_quality_matches, backend=backend
    )
