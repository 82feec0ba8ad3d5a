"""Inputs of the room: they feed tests and benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..._samples import ErrorSample, Sample, Tolerances
from .checks import FORMATS, KINDS, LOSS_KINDS, wide_dtype
from .reference import box_convert

PAIRWISE = ("box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou")
LOSSES = ("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss")
UNIT = (1.0, 1.0, 1.0, 1.0)
SSD = (10.0, 10.0, 5.0, 5.0)
CLIP = math.log(1000 / 16)


def random_boxes(*shape: int, seed: int = 0, extent: float = 100.0) -> Tensor:
    """float64 ``[*shape, 4]``: corners uniform over the extent, sides of 5% to 55% of it."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(*shape, 4, generator=generator, dtype=torch.float64)
    low, sides = uniform[..., :2] * extent, (0.05 + 0.5 * uniform[..., 2:]) * extent
    return torch.cat((low, low + sides), -1)


def _grid_boxes(n: int, seed: int) -> Tensor:
    """Whole coordinates from few: ties, touching sides, boxes that are equal."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 6, (n, 2), generator=generator)
    return torch.cat((low, low + torch.randint(1, 5, (n, 2), generator=generator)), -1).double()


DEGENERATE = torch.tensor(
    [[0, 0, 0, 0], [5, 5, 5, 9], [5, 5, 9, 5], [9, 9, 2, 2], [2, 9, 9, 2], [0, 0, 10, 10], [-4, -4, 4, 4]],
    dtype=torch.float64,
)
NOT_FINITE = torch.tensor(
    [
        [math.nan, 0, 5, 5],
        [0, 0, math.nan, 5],
        [0, 0, math.inf, 5],
        [-math.inf, 0, 5, 5],
        [-math.inf, -math.inf, math.inf, math.inf],
        [1, 1, 6, 6],
    ],
    dtype=torch.float64,
)
# A box and an anchor with areas of -inf and inf, so that their IoU is NaN although neither reaches the other.
INFINITE_AND_REVERSED = (
    torch.tensor([[math.inf, -1, 1e4, 0]], dtype=torch.float64),
    torch.tensor([[0, 7, -math.inf, 0]], dtype=torch.float64),
)


def _every_second(boxes: Tensor) -> Tensor:
    """The same values, each beside a stranger."""
    return torch.stack((boxes, torch.full_like(boxes, -7.0)), -1).flatten(-2)[..., ::2]


def _columns_first(boxes: Tensor) -> Tensor:
    return boxes.mT.contiguous().mT


def _pairs() -> list[Sample]:
    """Of two sets of boxes."""
    a, b = random_boxes(6, seed=1), random_boxes(7, seed=2)
    return [
        Sample("few", (a, b)),
        Sample("batch", (random_boxes(2, 3, seed=3), random_boxes(2, 4, seed=4))),
        Sample("odd", (random_boxes(67, seed=5), random_boxes(131, seed=6))),
        Sample("two leading dimensions", (random_boxes(2, 3, 5, seed=7), random_boxes(2, 3, 2, seed=8))),
        Sample("one row", (random_boxes(1, seed=9), random_boxes(33, seed=10))),
        Sample("one column", (random_boxes(33, seed=9), random_boxes(1, seed=10))),
        Sample("the same", (random_boxes(20, seed=11), random_boxes(20, seed=11)), exportable=False),
        Sample("whole coordinates", (_grid_boxes(40, 1), _grid_boxes(37, 2)), exportable=False),
        Sample("large coordinates", (random_boxes(9, seed=12, extent=2e4), random_boxes(9, seed=13, extent=2e4))),
        Sample("no rows", (a[:0], b)),
        Sample("no columns", (a, b[:0])),
        Sample("no batch", (a[None][:0], b[None][:0])),
        Sample("every second", (_every_second(a), _every_second(b))),
        Sample("columns first", (_columns_first(a), _columns_first(b))),
        Sample("expanded", (a[:1].expand(5, 4), b[None].expand(3, -1, -1)[1])),
        Sample("empty and reversed boxes", (DEGENERATE, DEGENERATE), exportable=False, differentiable=False),
        Sample("not finite", (NOT_FINITE, NOT_FINITE), exportable=False, differentiable=False),
    ]


def _aligned() -> list[Sample]:
    """Of two tensors of boxes with one shape."""
    a, b = random_boxes(7, seed=1), random_boxes(7, seed=2)
    grid = _grid_boxes(50, 3), _grid_boxes(50, 4)
    first, second = (DEGENERATE.repeat_interleave(7, 0), DEGENERATE.repeat(7, 1))
    return [
        Sample("few", (a, b)),
        Sample("many", (random_boxes(301, seed=3), random_boxes(301, seed=4))),
        Sample("two dimensions", (random_boxes(3, 5, seed=5), random_boxes(3, 5, seed=6))),
        Sample("close", (random_boxes(40, seed=7), random_boxes(40, seed=7) + 0.5 * random_boxes(40, extent=1.0))),
        Sample("one", (a[:1], b[:1])),
        Sample("no dimension", (a[0], b[0])),
        Sample("whole coordinates", grid, exportable=False),
        Sample("none", (a[:0], b[:0])),
        Sample("every second", (_every_second(a), _every_second(b))),
        Sample("columns first", (_columns_first(a), _columns_first(b))),
        Sample("expanded", (a[:1].expand(7, 4), b)),
        Sample("empty and reversed boxes", (first, second), exportable=False, differentiable=False),
        Sample("not finite", (NOT_FINITE, NOT_FINITE.flip(0)), exportable=False, differentiable=False),
    ]


def _rows() -> list[Sample]:
    """Of one tensor of boxes, some outside of a small image."""
    a = random_boxes(9, seed=1) - 20
    special = torch.cat((DEGENERATE, NOT_FINITE))
    return [
        Sample("few", (a,)),
        Sample("many", (random_boxes(1030, seed=2) - 30,)),
        Sample("two dimensions", (random_boxes(3, 5, seed=3) - 10,)),
        Sample("one", (a[:1],)),
        Sample("none", (a[:0],)),
        Sample("every second", (_every_second(a),)),
        Sample("columns first", (_columns_first(a),)),
        Sample("expanded", (a[:1].expand(6, 4),)),
        Sample("special", (special,), exportable=False, differentiable=False),
    ]


def _with(samples: list[Sample], *rest: Any) -> list[Sample]:
    return [Sample(s.name, (*s.args, *rest), s.exportable, s.differentiable) for s in samples]


def _named(samples: list[Sample], name: str) -> list[Sample]:
    return [Sample(f"{s.name}, {name}", s.args, s.exportable, s.differentiable) for s in samples]


def _deltas(n: int, classes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, 4 * classes, generator=generator, dtype=torch.float64)


def _decodings() -> list[Sample]:
    a = random_boxes(5, seed=1)
    wild = torch.tensor([[0, 0, 50, -50], [1e4, -1e4, 4.135, 4.2], [math.nan, 0, math.nan, 0]], dtype=torch.float64)
    unbounded = torch.tensor([[0, math.inf, math.inf, 0], [0, 0, -math.inf, -math.inf]], dtype=torch.float64)
    return [
        Sample("few", (_deltas(5, 1), a, UNIT, CLIP)),
        Sample("two classes", (_deltas(4, 2), a[:4], UNIT, CLIP)),
        Sample("many", (_deltas(517, 1), random_boxes(517, seed=2), UNIT, CLIP)),
        Sample("weights", (_deltas(5, 1, seed=4), a, SSD, CLIP)),
        Sample("91 classes", (_deltas(11, 91), random_boxes(11, seed=3), SSD, CLIP)),
        Sample("narrow clip", (_deltas(33, 3), random_boxes(33, seed=5), UNIT, 0.25)),
        Sample("one", (_deltas(1, 1), a[:1], UNIT, CLIP)),
        Sample("none", (_deltas(0, 2), a[:0], UNIT, CLIP)),
        Sample("no classes", (_deltas(5, 0), a, UNIT, CLIP)),
        Sample("every second", (_every_second(_deltas(5, 1)), _every_second(a), UNIT, CLIP)),
        Sample("columns first", (_columns_first(_deltas(5, 2)), _columns_first(a), UNIT, CLIP)),
        Sample("expanded", (_deltas(5, 1), a[:1].expand(5, 4), UNIT, CLIP)),
        Sample("extreme", (torch.cat((wild, unbounded)), random_boxes(5, seed=6), UNIT, CLIP), False, False),
        Sample("special anchors", (_deltas(6, 1), NOT_FINITE, UNIT, CLIP), False, False),
    ]


def _encodings() -> list[Sample]:
    named = {s.name: s for s in _aligned()}
    special = ("empty and reversed boxes", "not finite")
    return _with([s for n, s in named.items() if n != "no dimension"], UNIT) + _named(
        _with([named["few"], named[special[1]]], SSD), "weights"
    )


def _conversions() -> list[Sample]:
    found = []
    rotated = random_boxes(6, seed=8)
    for in_fmt, size in FORMATS.items():
        if size == 4:
            boxes = box_convert(random_boxes(6, seed=7), "xyxy", in_fmt)
        else:
            degrees = torch.tensor([0.0, 30.0, 90.0, -45.0, 180.0, 300.0], dtype=torch.float64)
            # atan2 has a cut at 180 degrees, where no difference quotient is near the derivative.
            turned = torch.cat((box_convert(rotated, "xyxy", "xywh"), degrees[:, None] + 7), 1)
            boxes = box_convert(turned, "xywhr", in_fmt)
        for out_fmt, out_size in FORMATS.items():
            if (size == 4) == (out_size == 4):
                found.append(Sample(f"{in_fmt} to {out_fmt}", (boxes, in_fmt, out_fmt)))
    rows = _named(_with(_rows(), "cxcywh", "xyxy"), "cxcywh to xyxy")
    rows += _named(_with(_rows(), "xyxy", "cxcywh"), "xyxy to cxcywh")
    return sorted(found, key=lambda s: s.args[1] == s.args[2]) + rows


def _matches() -> list[Sample]:
    anchors, gt = random_boxes(300, seed=1), random_boxes(9, seed=2)
    grid = _grid_boxes(90, 5), _grid_boxes(800, 6)
    special_anchors = torch.cat((DEGENERATE, NOT_FINITE, random_boxes(40, seed=3)))
    far = random_boxes(4, seed=4) + 1000
    found = [
        Sample("few", (gt[:3], anchors[:20])),
        Sample("odd", (gt, anchors)),
        Sample("several blocks", (random_boxes(31, seed=5), random_boxes(2111, seed=6))),
        Sample("one box", (gt[:1], anchors[:50])),
        Sample("boxes out of reach", (torch.cat((gt, far)), anchors)),
        Sample("ties", grid, exportable=False),
        Sample("the same", (gt, gt)),
        Sample("no boxes", (gt[:0], anchors)),
        Sample("no anchors", (gt, anchors[:0])),
        Sample("every second", (_every_second(gt), _every_second(anchors))),
        Sample("columns first", (_columns_first(gt), _columns_first(anchors))),
        Sample("expanded", (gt, anchors[:1].expand(30, 4))),
        Sample("empty and reversed anchors", (gt, special_anchors[: len(DEGENERATE)]), exportable=False),
        Sample("special anchors", (gt, special_anchors), exportable=False),
        Sample("special boxes", (torch.cat((gt[:2], DEGENERATE, NOT_FINITE)), special_anchors), exportable=False),
        Sample("infinite and reversed", INFINITE_AND_REVERSED, exportable=False),
    ]
    strict = _with(found, 0.7, 0.3)
    return strict + _named(_with(found, 0.7, 0.3, True), "low quality") + _named(_with(found, 0.5, 0.5), "one level")


def _result_grad(op: Callable[..., tuple[int, ...]], sample: Sample) -> Tensor:
    shape = op(*sample.args)
    count = math.prod(shape)
    return torch.cos(torch.arange(count, dtype=torch.float64) * 1.7).view(shape)


def _spoiled(grad: Tensor) -> Tensor:
    """With a NaN in the first place."""
    grad = grad.clone()
    grad.flatten(0, -2)[0, 0] = math.nan
    return grad


def _pair_shape(a: Tensor, b: Tensor, *rest: Any) -> tuple[int, ...]:
    return (*a.shape[:-1], b.shape[-2])


def _gradient_samples(op_name: str) -> list[Sample]:
    """Samples of the operator that this one differentiates, behind an incoming gradient."""
    if op_name == "pairwise_box_iou_backward":
        kinds = [(s, kind) for kind in KINDS for s in _pairs() if s.differentiable]
        found = [Sample(f"{s.name}, {kind}", (_result_grad(_pair_shape, s), *s.args, kind, 1e-7)) for s, kind in kinds]
        spoiled = torch.ones(6, 7, dtype=torch.float64)
        spoiled[2, 3] = math.nan
        pair = _pairs()[0].args
        return [*found, *(Sample(f"NaN gradient, {k}", (spoiled, *pair, k, 1e-7), differentiable=False) for k in KINDS)]
    if op_name == "box_iou_loss_backward":
        kinds = [(s, kind) for kind in LOSS_KINDS for s in _aligned() if s.differentiable]
        found = [
            Sample(f"{s.name}, {kind}", (_result_grad(lambda a, b: a.shape[:-1], s), *s.args, kind, 1e-7))
            for s, kind in kinds
        ]
        spoiled = torch.ones(7, dtype=torch.float64)
        spoiled[3] = math.nan
        pair = _aligned()[0].args
        losses = (Sample(f"NaN gradient, {k}", (spoiled, *pair, k, 1e-7), differentiable=False) for k in LOSS_KINDS)
        return [*found, *losses]
    forward, width = {
        "box_encode_backward": (_encodings(), lambda a, *_: a.shape),
        "box_decode_backward": (_decodings(), lambda a, *_: a.shape),
        "clip_boxes_backward": (_clippings(), lambda a, *_: a.shape),
        "box_convert_backward": (_conversions(), lambda a, _, out_fmt: (*a.shape[:-1], FORMATS[out_fmt])),
    }[op_name]
    found = [
        Sample(s.name, (_result_grad(width, s), *s.args), True, s.differentiable) for s in forward if s.differentiable
    ]
    grad, *rest = found[0].args
    return [*found, Sample("NaN gradient", (_spoiled(grad), *rest), differentiable=False)]


def _clippings() -> list[Sample]:
    return _with(_rows(), (40, 60)) + _named(_with(_rows()[:1], (0, 5)), "an image without rows")


def _smallness() -> list[Sample]:
    rows = [s for s in _rows() if s.args[0].dim() == 2]
    return _with(rows, 20.0) + _named(_with(rows, 0.0), "any size") + _named(_with(rows[:1], 1e9), "none is left")


def _all(op_name: str) -> list[Sample]:
    if op_name.endswith("_backward"):
        return _gradient_samples(op_name)
    if op_name in ("box_iou", "generalized_box_iou"):
        return _pairs()
    if op_name in PAIRWISE:
        return [*_with(_pairs(), 1e-7), *_named(_with(_pairs()[:1], 0.1), "large eps")]
    if op_name in LOSSES:
        return [*_with(_aligned(), 1e-7), *_named(_with(_aligned()[:1], 0.1), "large eps")]
    return {
        "box_encode": _encodings,
        "box_decode": _decodings,
        "clip_boxes": _clippings,
        "remove_small_boxes": _smallness,
        "box_convert": _conversions,
        "match_boxes": _matches,
    }[op_name]()


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    wide_grad = op_name in ("pairwise_box_iou_backward", "box_iou_loss_backward")

    def converted(i: int, a: Any) -> Any:
        if not isinstance(a, Tensor):
            return a
        cast = _keeping_strides(a, dtype)
        return a.to(wide_dtype(cast)) if wide_grad and i == 0 else cast

    def exportable(s: Sample) -> bool:
        angular = op_name.startswith("complete_box_iou") or (op_name == "box_convert" and FORMATS[s.args[1]] != 4)
        return s.exportable and not (angular and dtype == torch.float64)

    return [
        Sample(s.name, tuple(converted(i, a) for i, a in enumerate(s.args)), exportable(s), s.differentiable)
        for s in _all(op_name)
    ]


def _keeping_strides(t: Tensor, dtype: torch.dtype) -> Tensor:
    """``t`` in another dtype, still a view of the same kind: `Tensor.to` makes views dense."""
    storage = t.new_empty(0).set_(t.untyped_storage())
    return storage.to(dtype).as_strided(t.shape, t.stride(), t.storage_offset())


def _pair_errors(op_name: str) -> list[ErrorSample]:
    a, b = random_boxes(3, seed=1).float(), random_boxes(5, seed=2).float()
    errors = [
        ErrorSample("dtype of boxes1", (a.long(), b), "boxes1 must be float16, .* got torch.int64"),
        ErrorSample("dtype of boxes2", (a, b.double()), r"boxes2 must have the dtype of boxes1 \(torch.float32\)"),
        ErrorSample("size of boxes1", (a[:, :3], b), r"boxes1 must be \[..., N, 4\], got \[3, 3\]"),
        ErrorSample("rank of boxes1", (a[0], b), r"boxes1 must be \[..., N, 4\], got \[4\]"),
        ErrorSample("size of boxes2", (a, b[:, :2]), r"boxes2 must be \[..., M, 4\], got \[5, 2\]"),
        ErrorSample("rank of boxes2", (a, b[0]), r"boxes2 must be \[..., M, 4\], got \[4\]"),
        ErrorSample(
            "batch", (a.expand(2, 3, 4), b.expand(3, 5, 4)), r"leading dimensions of boxes1 \(\[2\]\), got \[3\]"
        ),
        ErrorSample("batch of one alone", (a, b[None]), r"leading dimensions of boxes1 \(\[\]\), got \[1\]"),
    ]
    if op_name != "pairwise_box_iou_backward":
        return errors
    grad = torch.ones(3, 5)
    errors = [ErrorSample(e.name, (grad, *e.args, "iou", 0.0), e.message) for e in errors]
    wanted = r"grad must have the dtype of the result \(torch.float32\), got torch.float64"
    return [
        *errors,
        ErrorSample("dtype of grad", (grad.double(), a, b, "iou", 0.0), wanted),
        ErrorSample("grad of half boxes", (grad.half(), a.half(), b.half(), "iou", 0.0), "dtype of the result"),
        ErrorSample("shape of grad", (grad.T, a, b, "iou", 0.0), r"must be \[..., N, M\] \(\[3, 5\]\), got \[5, 3\]"),
        ErrorSample("rank of grad", (grad[0], a, b, "iou", 0.0), r"must be \[..., N, M\] \(\[3, 5\]\), got \[5\]"),
        ErrorSample("kind", (grad, a, b, "eiou", 0.0), "kind must be 'iou', 'giou', 'diou' or 'ciou', got 'eiou'"),
    ]


def _loss_errors(op_name: str) -> list[ErrorSample]:
    a, b = random_boxes(5, seed=1).float(), random_boxes(5, seed=2).float()
    errors = [
        ErrorSample("dtype of boxes1", (a.long(), b), "boxes1 must be float16, .* got torch.int64"),
        ErrorSample("dtype of boxes2", (a, b.double()), r"boxes2 must have the dtype of boxes1 \(torch.float32\)"),
        ErrorSample("size of boxes1", (a[:, :3], b), r"boxes1 must be \[..., 4\], got \[5, 3\]"),
        ErrorSample("rank of boxes1", (a[0, 0], b), r"boxes1 must be \[..., 4\], got \[\]"),
        ErrorSample("shape of boxes2", (a, b[:4]), r"boxes2 must have the shape of boxes1 \(\[5, 4\]\), got \[4, 4\]"),
        ErrorSample("rank of boxes2", (a, b[0]), r"boxes2 must have the shape of boxes1 \(\[5, 4\]\), got \[4\]"),
    ]
    if op_name != "box_iou_loss_backward":
        return errors
    grad = torch.ones(5)
    errors = [ErrorSample(e.name, (grad, *e.args, "giou", 0.0), e.message) for e in errors]
    return [
        *errors,
        ErrorSample("dtype of grad", (grad.double(), a, b, "giou", 0.0), "grad must have the dtype of the result"),
        ErrorSample("shape of grad", (grad[:4], a, b, "giou", 0.0), r"of the result \(\[5\]\), got \[4\]"),
        ErrorSample("kind", (grad, a, b, "iou", 0.0), "kind must be 'giou', 'diou' or 'ciou', got 'iou'"),
    ]


def _with_grad_errors(errors: list[ErrorSample], grad: Tensor, args: tuple[Any, ...]) -> list[ErrorSample]:
    """Those of the forward call, behind a gradient, and those of the gradient."""
    shape = "grad must have the shape of the result"
    return [
        *(ErrorSample(e.name, (grad, *e.args), e.message) for e in errors),
        ErrorSample("dtype of grad", (grad.double(), *args), r"grad must have the dtype of \w+ \(torch.float32\)"),
        ErrorSample("shape of grad", (grad[:2], *args), shape),
        ErrorSample("rank of grad", (grad[0], *args), shape),
    ]


def _encode_errors() -> tuple[list[ErrorSample], tuple[Any, ...]]:
    a, b = random_boxes(5, seed=1).float(), random_boxes(5, seed=2).float()
    errors = [
        ErrorSample("dtype of boxes", (a.long(), b, UNIT), "reference_boxes must be float16, .* got torch.int64"),
        ErrorSample("dtype of proposals", (a, b.half(), UNIT), "proposals must have the dtype of reference_boxes"),
        ErrorSample("size", (a[:, :2], b, UNIT), r"reference_boxes must be \[..., 4\], got \[5, 2\]"),
        ErrorSample("shape of proposals", (a, b[:3], UNIT), r"proposals must have the shape of .*, got \[3, 4\]"),
        ErrorSample("weights", (a, b, UNIT[:3]), "weights must be 4 numbers, got 3"),
    ]
    return errors, (a, b, UNIT)


def _decode_errors() -> tuple[list[ErrorSample], tuple[Any, ...]]:
    deltas, anchors = _deltas(5, 2).float(), random_boxes(5, seed=2).float()
    errors = [
        ErrorSample("dtype of deltas", (deltas.long(), anchors, UNIT, CLIP), "deltas must be float16, .* torch.int64"),
        ErrorSample("dtype of anchors", (deltas, anchors.half(), UNIT, CLIP), "anchors must have the dtype of deltas"),
        ErrorSample("rank of deltas", (deltas[0], anchors, UNIT, CLIP), r"deltas must be \[N, 4 \* C\], got \[8\]"),
        ErrorSample("size of deltas", (deltas[:, :7], anchors, UNIT, CLIP), r"deltas must be .*, got \[5, 7\]"),
        ErrorSample("number of anchors", (deltas, anchors[:4], UNIT, CLIP), r"anchors must be .* N = 5, got \[4, 4\]"),
        ErrorSample("size of anchors", (deltas, anchors[:, :3], UNIT, CLIP), r"anchors must be .*, got \[5, 3\]"),
        ErrorSample("weights", (deltas, anchors, (1.0,) * 5, CLIP), "weights must be 4 numbers, got 5"),
    ]
    return errors, (deltas, anchors, UNIT, CLIP)


def _clip_errors() -> tuple[list[ErrorSample], tuple[Any, ...]]:
    boxes = random_boxes(5, seed=1).float()
    errors = [
        ErrorSample("dtype", (boxes.int(), (4, 5)), "boxes must be float16, .* got torch.int32"),
        ErrorSample("size of boxes", (boxes[:, :3], (4, 5)), r"boxes must be \[..., 4\], got \[5, 3\]"),
        ErrorSample("length of size", (boxes, (4, 5, 3)), r"size must be \(height, width\), got 3 numbers"),
        ErrorSample("negative size", (boxes, (-1, 5)), r"size must not be negative, got \(-1, 5\)"),
    ]
    return errors, (boxes, (4, 5))


def _convert_errors() -> tuple[list[ErrorSample], tuple[Any, ...]]:
    boxes = random_boxes(5, seed=1).float()
    errors = [
        ErrorSample("dtype", (boxes.int(), "xyxy", "xywh"), "boxes must be float16, .* got torch.int32"),
        ErrorSample("in_fmt", (boxes, "yxyx", "xywh"), "in_fmt must be one of xyxy, .*, got 'yxyx'"),
        ErrorSample("out_fmt", (boxes, "xyxy", "hw"), "out_fmt must be one of xyxy, .*, got 'hw'"),
        ErrorSample("pair", (boxes, "xyxy", "xywhr"), "cannot convert from xyxy to xywhr"),
        ErrorSample("size", (boxes[:, :3], "xyxy", "xywh"), r"boxes must be \[..., 4\] for xyxy, got \[5, 3\]"),
        ErrorSample("size when rotated", (boxes, "xywhr", "cxcywhr"), r"boxes must be \[..., 5\] for xywhr"),
    ]
    return errors, (boxes, "xyxy", "xywh")


def _match_errors() -> list[ErrorSample]:
    gt, anchors = random_boxes(3, seed=1).float(), random_boxes(5, seed=2).float()
    limit = r"low_threshold must not be greater than high_threshold \(0.3\), got 0.5"
    return [
        ErrorSample("dtype of gt_boxes", (gt.long(), anchors, 0.7, 0.3), "gt_boxes must be float16, .* torch.int64"),
        ErrorSample("dtype of anchors", (gt, anchors.half(), 0.7, 0.3), "anchors must have the dtype of gt_boxes"),
        ErrorSample("shape of gt_boxes", (gt[0], anchors, 0.7, 0.3), r"gt_boxes must be \[M, 4\], got \[4\]"),
        ErrorSample("shape of anchors", (gt, anchors[:, :3], 0.7, 0.3), r"anchors must be \[A, 4\], got \[5, 3\]"),
        ErrorSample("thresholds", (gt, anchors, 0.3, 0.5), limit),
        ErrorSample("whole thresholds", (gt, anchors, 1.0, 2.0), r"high_threshold \(1\), got 2\."),
    ]


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    if op_name in PAIRWISE or op_name == "pairwise_box_iou_backward":
        return _pair_errors(op_name)
    if op_name in LOSSES or op_name == "box_iou_loss_backward":
        return _loss_errors(op_name)
    if op_name == "match_boxes":
        return _match_errors()
    if op_name == "remove_small_boxes":
        boxes = random_boxes(5, seed=1).float()
        return [
            ErrorSample("dtype", (boxes.int(), 1.0), "boxes must be float16, .* got torch.int32"),
            ErrorSample("shape", (boxes[None], 1.0), r"boxes must be \[N, 4\], got \[1, 5, 4\]"),
        ]
    errors, args = {
        "box_encode": _encode_errors,
        "box_decode": _decode_errors,
        "clip_boxes": _clip_errors,
        "box_convert": _convert_errors,
    }[op_name.removesuffix("_backward")]()
    return _with_grad_errors(errors, args[0], args) if op_name.endswith("_backward") else errors


def tolerances(op_name: str) -> Tolerances:
    return Tolerances(exact=op_name in ("box_iou", "clip_boxes", "remove_small_boxes", "match_boxes"))
