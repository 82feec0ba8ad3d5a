"""The end of a YOLO network as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..ops.yolo import yolo_detect


class YOLODetect(nn.Module):
    """What follows the last convolutions of a YOLO network: :func:`gencv_fast.yolo_detect` with fixed settings.

    Args:
        strides: pixels from cell to cell, for each level.
        anchors: for v2, v3 and v5: for each level the (width, height) of its anchors in pixels; else None.
        version: ``"v1"``, ``"v2"``, ``"v3"``, ``"v5"`` or ``"v8"``.
        score_threshold: only greater scores take part.
        iou_threshold: a box goes when its intersection over union with a kept box of its class is greater than this.
        max_detections: detections per image at most, and the size of the outputs.
        class_agnostic: boxes of different classes suppress one another.
        multi_label: a box may be a candidate of several classes.
        max_candidates: so many per image take part in suppression at most.
        boxes_per_cell: of v1.
        reg_max: of v8.

    Example:
        >>> import torch, gencv_fast.nn
        >>> detect = gencv_fast.nn.YOLODetect(strides=(8, 16), max_detections=10)
        >>> maps = [torch.randn(2, 4 * 16 + 3, 8, 8), torch.randn(2, 4 * 16 + 3, 4, 4)]
        >>> boxes, scores, labels, counts = detect(maps)
        >>> boxes.shape, scores.shape, labels.shape, counts.shape
        (torch.Size([2, 10, 4]), torch.Size([2, 10]), torch.Size([2, 10]), torch.Size([2]))

    Papers: those of :func:`gencv_fast.yolo_decode`.
    """

    def __init__(
        self,
        strides: Sequence[int],
        anchors: Sequence[Sequence[tuple[float, float]]] | None = None,
        version: str = "v8",
        *,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.45,
        max_detections: int = 300,
        class_agnostic: bool = False,
        multi_label: bool = False,
        max_candidates: int = 30000,
        boxes_per_cell: int = 2,
        reg_max: int = 16,
    ) -> None:
        super().__init__()
        self.strides = list(strides)
        self.anchors = anchors
        self.version = version
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.max_detections = max_detections
        self.class_agnostic = class_agnostic
        self.multi_label = multi_label
        self.max_candidates = max_candidates
        self.boxes_per_cell = boxes_per_cell
        self.reg_max = reg_max

    def forward(
        self, preds: Sequence[Tensor], letterbox: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes ``[B, max_detections, 4]``, scores, labels and counts of the maps, without gradient."""
        return yolo_detect(
            preds,
            self.anchors,
            self.strides,
            self.version,
            self.score_threshold,
            self.iou_threshold,
            self.max_detections,
            self.class_agnostic,
            self.multi_label,
            self.max_candidates,
            letterbox,
            self.boxes_per_cell,
            self.reg_max,
        )

    def extra_repr(self) -> str:
        return f"{self.version}, strides={self.strides}, score_threshold={self.score_threshold}"
