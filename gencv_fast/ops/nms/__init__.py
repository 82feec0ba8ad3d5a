"""Non-maximum suppression: greedy, per class, soft, and padded for whole batches."""

from __future__ import annotations

from torch import Tensor

from .contract import BATCHED_NMS, MULTICLASS_NMS, NMS, SOFT_NMS

__all__ = ["batched_nms", "multiclass_nms", "nms", "soft_nms"]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, *, backend: str | None = None) -> Tensor:
    """Keep each box that overlaps no kept box of a higher score by more than ``iou_threshold``.

    The indices that :func:`torchvision.ops.nms` returns, to the bit, on every backend.

    Args:
        boxes: ``[N, 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64. Any strides.
        scores: ``[N]``, of the boxes' dtype. Negative scores are legal; NaN ranks highest, as in :func:`torch.sort`.
        iou_threshold: a box goes when its intersection over union with a kept box is greater than this.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        int64 ``[K]``, indices of the kept boxes, highest score first; among equal scores the lower index first.

    Boxes with a NaN coordinate neither suppress nor are suppressed; reversed and empty boxes have no overlap.
    fp16 and bf16 boxes are compared in fp32.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device; lengths that differ.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
        >>> gencv_fast.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
        tensor([0, 2])

    Paper: Felzenszwalb et al., *Object Detection with Discriminatively Trained Part-Based Models*, TPAMI 2010.
    """
    return NMS(boxes, scores, iou_threshold, backend=backend)


def batched_nms(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float, *, backend: str | None = None
) -> Tensor:
    """Non-maximum suppression within each class: boxes of different classes never suppress one another.

    The result of :func:`torchvision.ops.batched_nms` as its per-class loop defines it. Class ids are compared as
    they are, so no coordinate offset rounds and no coordinate range is too large.

    Args:
        boxes: ``[N, 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64. Any strides.
        scores: ``[N]``, of the boxes' dtype.
        idxs: ``[N]``, int64, int32, int16, int8 or uint8: the class, level or image of each box. Any values,
            negative ones too.
        iou_threshold: a box goes when its intersection over union with a kept box of its class is greater than this.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        int64 ``[K]``, indices of the kept boxes of all classes, highest score first; ties by lower index.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device; lengths that differ.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [1, 0, 10, 10]])
        >>> gencv_fast.batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0]), 0.5)
        tensor([0, 1])
    """
    return BATCHED_NMS(boxes, scores, idxs, iou_threshold, backend=backend)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 1e-3,
    method: str = "linear",
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft non-maximum suppression: overlapping boxes lose score instead of being dropped.

    Repeatedly takes the box of the highest remaining score and lowers the scores of the boxes that overlap it:
    ``linear`` multiplies by ``1 - iou`` where ``iou > iou_threshold``, ``gaussian`` by ``exp(-iou**2 / sigma)``.

    Args:
        boxes: ``[N, 4]`` corners ``(x1, y1, x2, y2)``; fp16, bf16, fp32 or fp64. Any strides.
        scores: ``[N]``, of the boxes' dtype.
        iou_threshold: for ``linear``: overlaps up to this cost nothing.
        sigma: for ``gaussian``: the width of the penalty; greater than 0.
        score_threshold: boxes whose score is not greater than this, at first or after decay, are left out.
        method: ``"linear"`` or ``"gaussian"``.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        int64 ``[K]`` indices in the order in which they were taken, and their decayed scores ``[K]`` in the scores'
        dtype: highest first where scores are not negative. The scores carry no gradient.

    Scores decay in fp32 for fp16, bf16 and fp32 inputs, in fp64 for fp64. NaN scores are never taken; boxes with a
    NaN coordinate neither decay nor are decayed.

    Raises:
        RuntimeError: a wrong rank, shape, dtype, device, method or sigma; lengths that differ.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])
        >>> gencv_fast.soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]))
        (tensor([0, 2, 1]), tensor([0.9000, 0.7000, 0.4000]))

    Paper: Bodla et al., *Soft-NMS: Improving Object Detection With One Line of Code*, ICCV 2017.
    """
    return SOFT_NMS(boxes, scores, iou_threshold, sigma, score_threshold, method, backend=backend)


def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_output_per_class: int,
    max_total: int,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The detection tail of a whole batch in one call, with outputs of fixed shape.

    For each image and class: boxes of a score greater than ``score_threshold``, greedy suppression, at most
    ``max_output_per_class``; then the ``max_total`` best of each image. The semantics of ONNX's
    ``NonMaxSuppression`` and TensorRT's ``EfficientNMS``, with the overlap rule of :func:`nms`.

    Args:
        boxes: ``[B, N, 4]`` corners ``(x1, y1, x2, y2)``, shared by the classes; fp16, bf16, fp32 or fp64.
        scores: ``[B, C, N]``, of the boxes' dtype. NaN scores are never taken.
        iou_threshold: a box goes when its intersection over union with a kept box of its class is greater than this.
        score_threshold: only greater scores take part.
        max_output_per_class: detections per image and class at most; not negative.
        max_total: detections per image at most, and the size of the outputs; not negative.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``indices`` int64 ``[B, max_total, 2]``: class and box, highest score first, ties by lower class, then lower
        box; ``scores`` ``[B, max_total]`` in the scores' dtype, without gradient; ``counts`` int64 ``[B]``.
        Rows from ``counts[b]`` on hold -1 and 0.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device; sizes that differ; a negative limit.

    Example:
        >>> import torch, gencv_fast
        >>> boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 1, 10, 10]]])
        >>> scores = torch.tensor([[[0.9, 0.8], [0.1, 0.7]]])
        >>> indices, kept_scores, counts = gencv_fast.multiclass_nms(boxes, scores, 0.5, 0.2, 10, 3)
        >>> indices[0, : counts[0]], kept_scores
        (tensor([[0, 0],
                [1, 1]]), tensor([[0.9000, 0.7000, 0.0000]]))
    """
    return MULTICLASS_NMS(
        boxes, scores, iou_threshold, score_threshold, max_output_per_class, max_total, backend=backend
    )
