"""Inputs of the yolo room, for the tests and the benchmarks. All tensors are on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..._samples import ErrorSample, Sample, Tolerances
from .checks import VERSIONS

Sizes = Sequence[tuple[int, int]]

TWO_LEVELS: Sizes = ((3, 4), (2, 2))
CLASSES = 3
REG_MAX = 4


def _normal(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(7919 + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Maps:
    """What a network gives, and the arguments that say how to read it."""

    preds: list[Tensor]
    anchors: list[float] | None
    strides: list[int]
    version: str
    boxes_per_cell: int = 2
    reg_max: int = 16

    def changed(self, change: Callable[[Tensor], Tensor]) -> Maps:
        return replace(self, preds=[change(pred) for pred in self.preds])

    def decode(self) -> tuple[Any, ...]:
        return self.preds, self.anchors, self.strides, self.version, self.boxes_per_cell, self.reg_max

    def detect(self, *limits: Any) -> tuple[Any, ...]:
        """Limits: score_threshold to letterbox, those that are left out as plain as can be."""
        usual = (0.3, 0.45, 6, False, False, 1000, None)
        limits = limits + usual[len(limits) :]
        return self.preds, self.anchors, self.strides, self.version, *limits, self.boxes_per_cell, self.reg_max


def anchors_of(strides: Sequence[int], count: int) -> list[float]:
    """About four cells large, in different aspects."""
    sides = [(stride * (3 + a), stride * (6.5 - 1.5 * a)) for stride in strides for a in range(count)]
    return [side for pair in sides for side in pair]


def maps(version: str, sizes: Sizes = TWO_LEVELS, batch: int = 2, classes: int = CLASSES, boxes: int = 2) -> Maps:
    """In float64: boxes of a few cells, scores of all sizes."""
    strides = [8 * 2**i for i in range(len(sizes))]
    if version == "v8":
        channels = 4 * REG_MAX + classes
        return Maps([2 * _normal(batch, channels, *size) for size in sizes], None, strides, version, 2, REG_MAX)
    channels = 5 * boxes + classes if version == "v1" else boxes * (5 + classes)
    preds = [_normal(batch, channels, *size) for size in sizes]
    if version == "v1":
        return Maps([0.3 * p + 0.4 for p in preds], None, strides, version, boxes)
    return Maps(preds, anchors_of(strides, boxes), strides, version)


def _letterbox(batch: int) -> Tensor:
    rows = [[0.5 + 0.25 * i, 2.0 * i, 3.0, 20.0, 30.0 + 10 * i] for i in range(batch)]
    return torch.tensor(rows, dtype=torch.float32).reshape(batch, 5)


def _plain() -> Iterator[tuple[str, Maps]]:
    for version in reversed(VERSIONS):
        yield f"{version}", maps(version)
        yield f"{version}, other sizes", maps(version, ((2, 3), (4, 5)), 3)
    for version in VERSIONS:
        yield f"{version}, one level", maps(version, ((2, 3),))
        yield f"{version}, an empty level", maps(version, ((0, 3), (2, 2)))
        yield f"{version}, one cell", maps(version, ((1, 1),), 1, 1, 1)
        yield f"{version}, no images", maps(version, batch=0)


def _layouts() -> Iterator[tuple[str, Maps]]:
    last, pad = torch.channels_last, torch.nn.functional.pad
    for version in VERSIONS:
        plain = maps(version, ((3, 5), (2, 2)))
        yield f"{version}, channels last", plain.changed(lambda p: p.contiguous(memory_format=last))
        yield f"{version}, cropped", plain.changed(lambda p: pad(p, (1, 2, 1, 1))[:, :, 1:-1, 1:-2])
        yield f"{version}, transposed", plain.changed(lambda p: p.mT.contiguous().mT)
        yield f"{version}, one column of a map", plain.changed(lambda p: p[..., 1:2])
    yield "v8, every second", maps("v8").changed(lambda p: p.repeat_interleave(2, 3)[..., ::2])
    yield "v5, one image twice", maps("v5").changed(lambda p: p[:1].expand(2, -1, -1, -1))


def _tiny() -> Iterator[tuple[str, Maps]]:
    """For difference quotients."""
    for version in VERSIONS:
        tiny = maps(version, ((1, 2), (1, 1)), 1, 2, 2 if version == "v1" else 1)
        if version == "v8":
            preds = [_normal(1, 4 * 3 + 2, *size) for size in ((1, 2), (1, 1))]
            tiny = replace(tiny, preds=preds, reg_max=3)
        yield f"{version}, tiny", tiny


def _odd(plain: Maps, step: int) -> Maps:
    values = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30], dtype=torch.float64)

    def change(pred: Tensor) -> Tensor:
        changed = pred.clone()
        places = changed.view(-1)[::step]
        places[:] = values.repeat(len(places) // 5 + 1)[: len(places)]
        return changed

    return plain.changed(change)


def _special() -> Iterator[tuple[str, Maps]]:
    for version in VERSIONS:
        yield f"{version}, not finite", _odd(maps(version, ((4, 5), (2, 3))), 41)
        yield f"{version}, only NaN", maps(version).changed(lambda p: torch.full_like(p, math.nan))
        yield f"{version}, tied", maps(version, ((4, 5), (2, 3))).changed(lambda p: p.round())
        yield f"{version}, saturated", maps(version).changed(lambda p: 30 * p)


def _large() -> Iterator[tuple[str, Maps]]:
    """Several blocks of cells, runs of all lengths, and work for two threads."""
    for version in VERSIONS:
        sizes = ((27, 31), (13, 16), (7, 8))
        yield f"{version}, medium", maps(version, ((9, 10), (5, 5)), 2, 4, 3 if version != "v8" else 2)
        yield f"{version}, large", maps(version, sizes, 2, 20, 3 if version != "v8" else 2)
    sparse = maps("v5", ((40, 40), (20, 20)), 2, 20, 3)
    quiet = [p.unflatten(1, (3, 25)).clone() for p in sparse.preds]
    for pred in quiet:
        pred[:, :, 4] = torch.where(pred[:, :, 4] > 1.5, pred[:, :, 4], -9.0)
    yield "v5, few objects", replace(sparse, preds=[p.flatten(1, 2) for p in quiet])
    sparse = maps("v8", ((40, 40), (20, 20)), 2, 20)
    yield (
        "v8, few objects",
        sparse.changed(lambda p: torch.cat((p[:, :16], torch.where(p[:, 16:] > 4, p[:, 16:], p[:, 16:] - 7)), 1)),
    )
    last = torch.channels_last
    yield (
        "v8, large, channels last",
        maps("v8", ((27, 31), (9, 7)), 2, 20).changed(lambda p: p.contiguous(memory_format=last)),
    )


def _decode_samples() -> Iterator[tuple[str, tuple[Any, ...], bool, bool]]:
    for name, case in _plain():
        yield name, case.decode(), True, True
    for cases in (_tiny, _layouts):
        for name, case in cases():
            yield name, case.decode(), False, True
    for name, case in _special():
        yield name, case.decode(), False, False
    for name, case in _large():
        yield name, case.decode(), False, True


def _quarter_overlap() -> Maps:
    """A box of 8 x 8 pixels and in it one of 8 x 2: their intersection over union is 1/4, rounded nowhere."""
    pred = torch.zeros(1, 6, 1, 4, dtype=torch.float64)
    pred[0, :, 0, 0] = torch.tensor([0.5, 0.5, 0.5, 1.0, 1.0, 1.0])
    pred[0, :, 0, 1] = torch.tensor([-0.5, 0.5, 0.5, 0.5, 0.75, 1.0])
    return Maps([pred], None, [8], "v1", 1)


def _without_width(plain: Maps) -> Maps:
    """v1, the first box of each cell being a line."""
    return plain.changed(lambda p: torch.cat((p[:, :2], 0 * p[:, 2:3], p[:, 3:]), 1))


def _limits() -> Iterator[tuple[str, tuple[Any, ...], bool]]:
    """Detection with other limits; exportable where ONNX has to agree."""
    for version in ("v8", "v5"):
        plain = maps(version, ((4, 5), (2, 3)))
        yield f"{version}, all classes", plain.detect(0.3, 0.45, 9, False, True), True
        yield f"{version}, class agnostic", plain.detect(0.3, 0.45, 9, True, False), True
        yield f"{version}, all classes, class agnostic", plain.detect(0.3, 0.45, 9, True, True), True
        yield f"{version}, letterbox", plain.detect(0.3, 0.45, 9, False, False, 1000, _letterbox(2)), True
        yield f"{version}, few candidates", plain.detect(0.1, 0.45, 9, False, True, 12), True
        yield f"{version}, few candidates, best classes", plain.detect(0.1, 0.45, 9, False, False, 7), True
        yield f"{version}, no detections", plain.detect(0.99999), True
        yield f"{version}, all may be kept", plain.detect(0.0, 0.9, 200), True
        for threshold in (-0.5, 1.0, 2.0, math.nan):
            yield f"{version}, score_threshold {threshold}", plain.detect(threshold), False
            yield f"{version}, iou_threshold {threshold}", plain.detect(0.3, threshold), False
        yield f"{version}, negative score_threshold", plain.detect(-1.0, 0.5, 50, False, True), False
        yield f"{version}, no candidates", plain.detect(0.3, 0.45, 9, False, False, 0), False
        yield f"{version}, none asked for", plain.detect(0.3, 0.45, 0), False
        odd = _letterbox(2)
        odd[0, 0], odd[1, 1] = 0, math.nan
        yield f"{version}, odd letterbox", plain.detect(0.3, 0.45, 9, False, False, 1000, odd), False
        view = _letterbox(2).t().contiguous().t()
        yield f"{version}, letterbox of other strides", plain.detect(0.3, 0.45, 9, False, False, 1000, view), False
    negative_zero = _quarter_overlap().changed(lambda p: torch.cat((p[:, :4], 0 * p[:, 4:5], -p[:, 5:]), 1))
    yield "v1, scores of negative zero", negative_zero.detect(-0.5, 0.9), False
    yield "v1, a score of the threshold", _quarter_overlap().detect(0.75, 0.9), False
    yield "v1, an overlap of the threshold", _quarter_overlap().detect(0.3, 0.25), False
    yield "v1, an overlap just above the threshold", _quarter_overlap().detect(0.3, 0.25 - 1e-9), False
    lines = _without_width(maps("v1", ((4, 5), (2, 3))))
    for threshold in (-0.5, 0.0, 0.45):
        yield f"v1, boxes without a width, iou_threshold {threshold}", lines.detect(0.05, threshold, 9), False
    vast = maps("v3").changed(lambda p: 30 * p)
    yield "v3, boxes of infinite area, iou_threshold -0.5", vast.detect(0.3, -0.5), False


def _detect_samples() -> Iterator[tuple[str, tuple[Any, ...], bool, bool]]:
    for name, case in _plain():
        yield name, case.detect(), True, True
    for name, args, exportable in _limits():
        yield name, args, exportable, True
    for cases in (_layouts, _special):
        for name, case in cases():
            yield name, case.detect(), False, True
            yield f"{name}, all classes", case.detect(0.05, 0.45, 9, False, True), False, True
    for name, case in _large():
        yield name, case.detect(0.5, 0.45, 300, False, False, 30000), False, True
        yield f"{name}, low threshold", case.detect(0.01, 0.6, 100, False, False, 30000), False, True
        yield f"{name}, all classes", case.detect(0.3, 0.6, 50, False, True, 1000), False, True
        yield f"{name}, class agnostic", case.detect(0.5, 0.6, 100, True, False, 30000), False, True


def _converted(value: Any, dtype: torch.dtype) -> Any:
    """Maps in another dtype, strides as they are; letterboxes stay float32."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.dtype == torch.float64 else value
    return [_converted(item, dtype) for item in value] if isinstance(value, (list, tuple)) else value


def _gradients(args: tuple[Any, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    from .reference import yolo_decode

    boxes, scores = yolo_decode(*args)
    return tuple(
        torch.cos(1.7 * torch.arange(r.numel(), dtype=torch.float64)).view(r.shape).to(dtype) for r in (boxes, scores)
    )


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    cases = _detect_samples() if op_name == "yolo_detect" else _decode_samples()
    # ONNX's NonMaxSuppression has float32 alone.
    lacks_double = op_name == "yolo_detect" and dtype == torch.float64
    found = [
        Sample(
            name,
            tuple(_converted(a, dtype) for a in args),
            exportable=exportable and not lacks_double,
            differentiable=differentiable,
        )
        for name, args, exportable, differentiable in cases
    ]
    if op_name != "yolo_decode_backward":
        return found
    found = [replace(s, args=(*_gradients(s.args, dtype), *s.args)) for s in found if s.differentiable]
    unsound = []
    for sample in found[: 2 * len(VERSIONS) : 2]:
        boxes, scores, *rest = sample.args
        boxes, scores = boxes.clone(), scores.clone()
        boxes[0, 1, 2] = scores[-1, 2, 1] = math.nan
        unsound.append(Sample(f"{sample.name}, some gradients NaN", (boxes, scores, *rest)))
    return found + unsound


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    v8, v5, v1 = (maps(version).changed(Tensor.float) for version in ("v8", "v5", "v1"))
    first, second = v8.preds
    cases: list[tuple[str, Maps, str]] = [
        ("levels", replace(v8, preds=[first] * 9, strides=[8] * 9), "preds must be 1 to 8 tensors, got 9"),
        ("version", replace(v8, version="v6"), "version must be 'v1', 'v2', 'v3', 'v5' or 'v8', got 'v6'"),
        ("dtype", v8.changed(Tensor.int), r"preds\[0\] must be float16, .* got torch.int32"),
        ("rank", replace(v8, preds=[first, second[0]]), r"preds\[1\] must be \[B, C, H, W\], got \[19, 2, 2\]"),
        ("batch", replace(v8, preds=[first, second[:1]]), r"batch size of preds\[0\] \(2\), got 1"),
        ("channels", replace(v8, preds=[first, second[:, 1:]]), r"channels of preds\[0\] \(19\), got 18"),
        ("dtype of a level", replace(v8, preds=[first, second.double()]), r"preds\[1\] must have the dtype of"),
        ("strides", replace(v8, strides=[8]), r"strides must be one per level \(2\), got 1"),
        ("stride", replace(v8, strides=[8, 0]), "strides must be positive, got 0"),
        ("boxes_per_cell", replace(v1, boxes_per_cell=17), "boxes_per_cell must be 1 to 16, got 17"),
        ("reg_max", replace(v8, reg_max=0), "reg_max must be 1 to 64, got 0"),
        ("no anchors", replace(v5, anchors=None), "anchors must be given for version v5"),
        ("anchors", replace(v8, anchors=[8.0] * 4), "anchors must be None for version v8"),
        ("numbers of anchors", replace(v5, anchors=[8.0] * 6), "for each of the 2 levels, got 6 numbers"),
        ("no number of anchors", replace(v5, anchors=[]), "for each of the 2 levels, got 0 numbers"),
        ("classes of v8", replace(v8, reg_max=5), r"more than 4 \* reg_max \(20\) channels, got 19"),
        ("classes of v1", replace(v1, boxes_per_cell=3), r"more than 5 \* boxes_per_cell \(15\) channels, got 13"),
        ("channels of v5", replace(v5, anchors=[8.0] * 12), "more than 5, for each of 3 anchors, got 16"),
        ("classes of v5", v5.changed(lambda p: p[:, :10]), "more than 5, for each of 2 anchors, got 10"),
    ]  # fmt: skip
    if op_name == "yolo_detect":
        found = [ErrorSample(name, case.detect(), message) for name, case, message in cases]
        box = _letterbox(2)
        limits: list[tuple[str, tuple[Any, ...], str]] = [
            ("max_detections", v8.detect(0.3, 0.4, -1), "max_detections must not be negative, got -1"),
            ("max_candidates", v8.detect(0.3, 0.4, 9, False, False, -2), "max_candidates must not be negative, got -2"),
            ("letterbox", v8.detect(0.3, 0.4, 9, False, False, 9, box[:1]), r"must be \[2, 5\], got \[1, 5\]"),
            ("letterbox rank", v8.detect(0.3, 0.4, 9, False, False, 9, box[0]), r"must be \[2, 5\], got \[5\]"),
            ("letterbox dtype", v8.detect(0.3, 0.4, 9, False, False, 9, box.double()),
             "letterbox must be float32, got torch.float64"),
        ]  # fmt: skip
        return found + [ErrorSample(*case) for case in limits]
    if op_name == "yolo_decode":
        return [ErrorSample(name, case.decode(), message) for name, case, message in cases]
    grads = _gradients(v8.decode(), torch.float32)
    found = [ErrorSample(name, (*grads, *case.decode()), message) for name, case, message in cases]
    boxes, scores = grads
    for name, pair, message in (
        ("dtype of grad_boxes", (boxes.double(), scores), r"grad_boxes must have the dtype of preds\[0\]"),
        ("shape of grad_boxes", (boxes[:, 1:], scores), r"grad_boxes must be \[2, 16, 4\], got \[2, 15, 4\]"),
        ("shape of grad_scores", (boxes, scores[..., 1:]), r"grad_scores must be \[2, 16, 3\], got \[2, 16, 2\]"),
    ):
        found.append(ErrorSample(name, (*pair, *v8.decode()), message))
    return found


def tolerances(op_name: str) -> Tolerances:
    """Boxes and scores have the same bits on every backend, since decisions follow them."""
    return Tolerances(exact=op_name != "yolo_decode_backward")
