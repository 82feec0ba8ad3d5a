"""YOLO: from the network's maps to boxes and scores, and to detections."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .contract import YOLO_DECODE, YOLO_DETECT

__all__ = ["yolo_decode", "yolo_detect"]

Anchors = Sequence[Sequence[tuple[float, float]]] | Tensor


def _numbers(op: str, anchors: Anchors | None) -> list[float] | None:
    """Level by level, width and height of each anchor."""
    if anchors is None:
        return None
    levels = anchors.tolist() if isinstance(anchors, Tensor) else anchors
    try:
        pairs = [[(float(w), float(h)) for w, h in level] for level in levels]
    except (TypeError, ValueError):
        pairs = [[], [(0.0, 0.0)]]
    if len({len(level) for level in pairs}) > 1:
        raise RuntimeError(f"{op}: anchors must be pairs (width, height), equally many for each level, got {anchors}.")
    return [number for level in pairs for pair in level for number in pair]


def yolo_decode(
    preds: Sequence[Tensor],
    anchors: Anchors | None,
    strides: Sequence[int],
    version: str = "v8",
    boxes_per_cell: int = 2,
    reg_max: int = 16,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Boxes and class scores of a YOLO network's maps, all levels in one pass. Differentiable.

    Args:
        preds: a map per level, ``[B, C, H, W]``, as the last convolution gives it; fp16, bf16, fp32 or fp64. Any
            strides, channels_last among them. 1 to 8 levels of one number of channels C:

            - ``"v1"``: ``boxes_per_cell`` times (x, y, w, h, confidence), then the classes of the cell;
            - ``"v2"``, ``"v3"``, ``"v5"``: for each anchor (x, y, w, h, objectness, classes);
            - ``"v8"``: ``reg_max`` bins for each of the distances left, top, right, bottom, then the classes.
        anchors: for v2, v3 and v5: for each level the (width, height) of its anchors in pixels, nested sequences or a
            tensor ``[levels, A, 2]``, which is read on the host; else None.
        strides: pixels from cell to cell, for each level.
        version: ``"v1"``, ``"v2"``, ``"v3"``, ``"v5"`` or ``"v8"``, whose formulas the README of the room has.
        boxes_per_cell: of v1.
        reg_max: of v8.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``boxes`` ``[B, n, 4]``, corners ``(x1, y1, x2, y2)`` in pixels of the network's input, and ``scores``
        ``[B, n, classes]``, which lie in memory class by class; both in the dtype of the maps. Boxes come level by
        level; within a level box a of cell (y, x) is number ``(a * H + y) * W + x``.

    fp16 and bf16 are computed in fp32.

    Raises:
        RuntimeError: a wrong rank, shape, dtype, device or version; lists whose lengths differ; anchors where none
            belong, or none where they do.

    Example:
        >>> import torch, gencv_fast
        >>> maps = [torch.zeros(1, 4 * 16 + 2, 1, 2)]
        >>> boxes, scores = gencv_fast.yolo_decode(maps, None, [8], "v8")
        >>> boxes[0], scores[0]
        (tensor([[-56., -56.,  64.,  64.],
                [-48., -56.,  72.,  64.]]), tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]]))

    Papers: Redmon et al., *You Only Look Once*, CVPR 2016; Redmon and Farhadi, *YOLO9000*, CVPR 2017, and *YOLOv3*,
    2018; Li et al., *Generalized Focal Loss*, NeurIPS 2020, for the distributions of v8.
    """
    numbers = _numbers("yolo_decode", anchors)
    return YOLO_DECODE(preds, numbers, strides, version, boxes_per_cell, reg_max, backend=backend)


def yolo_detect(
    preds: Sequence[Tensor],
    anchors: Anchors | None,
    strides: Sequence[int],
    version: str = "v8",
    score_threshold: float = 0.25,
    iou_threshold: float = 0.45,
    max_detections: int = 300,
    class_agnostic: bool = False,
    multi_label: bool = False,
    max_candidates: int = 30000,
    letterbox: Tensor | None = None,
    boxes_per_cell: int = 2,
    reg_max: int = 16,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The detections of a YOLO network, from its maps, for a whole batch: outputs of fixed shape, no gradient.

    For each image: the boxes whose score is greater than ``score_threshold``, of them the ``max_candidates`` best,
    non-maximum suppression, the ``max_detections`` best. Only boxes that get so far are decoded.

    Args:
        preds: a map per level, ``[B, C, H, W]``, as :func:`yolo_decode` takes them; fp16, bf16, fp32 or fp64.
        anchors: as in :func:`yolo_decode`.
        strides: pixels from cell to cell, for each level.
        version: ``"v1"``, ``"v2"``, ``"v3"``, ``"v5"`` or ``"v8"``.
        score_threshold: only greater scores take part.
        iou_threshold: a box goes when its intersection over union with a kept box of its class is greater than this.
        max_detections: detections per image at most, and the size of the outputs; not negative.
        class_agnostic: boxes of different classes suppress one another.
        multi_label: every class whose score is greater than the threshold makes a candidate of a box; else only the
            class of the largest output does, the lowest among equal ones.
        max_candidates: so many per image take part in suppression at most; not negative.
        letterbox: float32 ``[B, 5]``: scale, left padding, top padding, height and width of each image. Boxes become
            those of the original image, ``(x - padding) / scale``, clipped to its height and width.
        boxes_per_cell: of v1.
        reg_max: of v8.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``boxes`` ``[B, max_detections, 4]`` corners ``(x1, y1, x2, y2)`` in pixels and ``scores``
        ``[B, max_detections]`` in the dtype of the maps, highest score first; ``labels`` int64
        ``[B, max_detections]``; ``counts`` int64 ``[B]``. Rows from ``counts[b]`` on hold 0 and label -1. Among equal
        scores the lower class comes first where ``multi_label``, else the lower box.

    fp16 and bf16 are computed in fp32. A class whose output is NaN counts as -inf; boxes with a NaN score are no
    candidates, and candidates with a NaN coordinate are left out.

    Raises:
        RuntimeError: a wrong rank, shape, dtype, device or version; lists whose lengths differ; anchors where none
            belong, or none where they do; a negative limit.

    Example:
        >>> import torch, gencv_fast
        >>> maps = torch.full((1, 4 * 16 + 2, 1, 2), -9.0)
        >>> maps[0, 65, 0, 1] = 2.0
        >>> boxes, scores, labels, counts = gencv_fast.yolo_detect([maps], None, [8], max_detections=2)
        >>> boxes[0, : counts[0]], scores, labels
        (tensor([[-48., -56.,  72.,  64.]]), tensor([[0.8808, 0.0000]]), tensor([[ 1, -1]]))

    Papers: those of :func:`yolo_decode`.
    """
    return YOLO_DETECT(
        preds,
        _numbers("yolo_detect", anchors),
        strides,
        version,
        score_threshold,
        iou_threshold,
        max_detections,
        class_agnostic,
        multi_label,
        max_candidates,
        letterbox,
        boxes_per_cell,
        reg_max,
        backend=backend,
    )
