"""Inputs of the nms room, for the tests and the benchmarks. All tensors are on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..._samples import ErrorSample, Sample, Tolerances

INT64 = torch.iinfo(torch.int64)


def _generator(n: int) -> torch.Generator:
    return torch.Generator().manual_seed(7919 + n)


def _uniform(n: int, columns: int, low: float, high: float, g: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, columns, generator=g, dtype=torch.float64)


def _from_corner_and_size(corner: Tensor, size: Tensor) -> Tensor:
    return torch.cat((corner, corner + size), dim=1)


def random_boxes(n: int, extent: float = 500, offset: float = 0) -> Tensor:
    """[n, 4] in float64: corners uniform in a square, sides uniform in [5, 105)."""
    g = _generator(n)
    return _from_corner_and_size(offset + _uniform(n, 2, 0, extent, g), _uniform(n, 2, 5, 105, g))


def random_scores(n: int) -> Tensor:
    return torch.rand(n, generator=_generator(n + 1), dtype=torch.float64)


def _clustered(n: int) -> Tensor:
    g = _generator(n)
    objects = random_boxes(8)[torch.randint(8, (n,), generator=g)]
    return objects + 8 * torch.randn(n, 4, generator=g, dtype=torch.float64)


def _integer_grid(n: int) -> Tensor:
    g = _generator(n)
    corner = torch.randint(0, 12, (n, 2), generator=g)
    return _from_corner_and_size(corner, torch.randint(1, 7, (n, 2), generator=g)).double()


def _degenerate(n: int) -> Tensor:
    """Empty in one or both directions, reversed in one or both, and proper ones between."""
    boxes = _integer_grid(n)
    boxes[0::5, 2] = boxes[0::5, 0]
    boxes[1::5, 3] = boxes[1::5, 1]
    boxes[2::5] = boxes[2::5][:, [2, 1, 0, 3]]
    boxes[3::10] = boxes[3::10][:, [2, 3, 0, 1]]
    return boxes


def _not_finite(n: int) -> Tensor:
    boxes = random_boxes(n, extent=50)
    for i, value in enumerate((math.nan, math.inf, -math.inf)):
        for coordinate in range(4):
            boxes[12 * i + 3 * coordinate, coordinate] = value
    boxes[36] = math.nan
    boxes[37] = torch.tensor([-math.inf, -math.inf, math.inf, math.inf], dtype=torch.float64)
    return boxes


def _mixed_sizes(n: int, smallest: float, largest: float) -> Tensor:
    g = _generator(n)
    size = smallest * (largest / smallest) ** _uniform(n, 1, 0, 1, g)
    corner = _uniform(n, 2, 0, 2 * largest, g) * _uniform(n, 1, 0, 1, g) ** 4
    return _from_corner_and_size(corner, size * _uniform(n, 2, 0.7, 1.3, g))


def _scores_not_finite(n: int) -> Tensor:
    scores = random_scores(n)
    scores[3::11], scores[5::11], scores[7::11], scores[8::11] = math.nan, math.inf, -math.inf, -math.nan
    return scores


def _signed_zeros(n: int) -> Tensor:
    return torch.tensor([0.0, -0.0, 0.5, -0.5], dtype=torch.float64).repeat(n // 4 + 1)[:n]


def _quantised(n: int, levels: int = 4) -> Tensor:
    return (random_scores(n) * levels).floor() / levels


@cache
def _cases() -> dict[str, tuple[Tensor, Tensor, bool]]:
    """name -> boxes, scores in float64, and whether ONNX has to agree. The plainest come first."""
    grid = _integer_grid(120)
    cases: dict[str, tuple[Tensor, Tensor, bool]] = {
        "random": (random_boxes(100), random_scores(100), True),
        "clustered": (_clustered(150), random_scores(150), True),
        "no boxes": (random_boxes(0), random_scores(0), True),
        "one box": (random_boxes(1), random_scores(1), True),
        **{f"{n} boxes": (_clustered(n), random_scores(n), True) for n in (63, 64, 65)},
        "enough for the index": (_clustered(300), random_scores(300), True),
        "sparse, enough for the index": (random_boxes(400, extent=2000), random_scores(400), True),
        "integer grid": (grid, _quantised(120), False),
        "equal scores": (_clustered(80), torch.full((80,), 0.5, dtype=torch.float64), False),
        "signed zero scores": (_clustered(70), _signed_zeros(70), False),
        "degenerate and reversed": (_degenerate(100), random_scores(100), False),
        "one box many times": (random_boxes(1).expand(90, 4), random_scores(90), False),
        "boxes not finite": (_not_finite(60), random_scores(60), False),
        "scores not finite": (_clustered(60), _scores_not_finite(60), False),
        "all NaN": (torch.full((66, 4), math.nan), torch.full((66,), math.nan), False),
        "negative scores": (_clustered(70), -1 - random_scores(70), True),
        "negative coordinates": (_clustered(200) - 300, random_scores(200), True),
        "beyond 2^15": (random_boxes(220, offset=40_000), random_scores(220), False),
        "tiny at a million": (_from_corner_and_size(1e6 + _integer_grid(250)[:, :2] / 16, torch.full((250, 2), 0.25)),
                              random_scores(250), False),
        "subnormal sides": (_integer_grid(200) * 2.0**-140, random_scores(200), False),
        "subnormal areas": (_clustered(200) * 2.0**-68, random_scores(200), False),
        "huge": (random_boxes(200, extent=300) * 1e30, random_scores(200), False),
        "mixed sizes": (_mixed_sizes(300, 1, 1e5), random_scores(300), False),
    }  # fmt: skip
    return cases


def _layouts(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor]]:
    boxes, scores = _clustered(130).to(dtype), random_scores(130).to(dtype)
    yield "transposed boxes", boxes.t().contiguous().t(), scores
    yield "every second box", boxes.repeat_interleave(2, 0)[::2], scores.repeat_interleave(2)[::2]
    yield "columns of a wider tensor", torch.cat((boxes, boxes), 1)[:, 1:5], scores
    yield "unaligned", torch.cat((boxes.new_zeros(1), boxes.flatten()))[1:].view(-1, 4), scores
    yield "expanded boxes", boxes[:1].expand(130, 4), scores
    yield "boxes of zero strides", boxes[0, 0].expand(130, 4), scores
    yield "one score for all", boxes, scores[:1].expand(130)


def _pairs(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor, bool]]:
    for name, (boxes, scores, exportable) in _cases().items():
        yield name, boxes.to(dtype), scores.to(dtype), exportable
    for name, boxes, scores in _layouts(dtype):
        yield name, boxes, scores, False


def _thresholds(dtype: torch.dtype) -> Iterator[tuple[str, Tensor, Tensor, float]]:
    """Cases whose decisions fall at the threshold's edges."""
    for name in ("integer grid", "random", "degenerate and reversed", "boxes not finite"):
        boxes, scores, _ = _cases()[name]
        for threshold in (0.0, 1.0, -0.5, 0.25, 1 / 3, math.inf, math.nan):
            yield f"{name}, threshold {threshold:.3g}", boxes.to(dtype), scores.to(dtype), threshold
    # Their IoU is NaN, so all are kept: more than the index begins with, at a threshold that allows no index.
    empty = torch.tensor([5.0, 5, 5, 5], dtype=dtype).expand(500, 4)
    yield "empty boxes, negative threshold", empty, random_scores(500).to(dtype), -0.1
    nested = torch.tensor([[0, 0, 1e10, 1e10], [0, 0, 3.3e-13, 3.3e-13]], dtype=torch.float64).to(dtype)
    yield "subnormal threshold", nested, torch.tensor([1.0, 0.5], dtype=dtype), 1e-45


def _nms(dtype: torch.dtype) -> Iterator[Sample]:
    for name, boxes, scores, exportable in _pairs(dtype):
        yield Sample(name, (boxes, scores, 0.5), exportable)
    for name, boxes, scores, threshold in _thresholds(dtype):
        yield Sample(name, (boxes, scores, threshold), exportable=False)


def _class_ids(n: int, classes: int = 3) -> Tensor:
    return torch.randint(classes, (n,), generator=_generator(n + 2))


def _batched_nms(dtype: torch.dtype) -> Iterator[Sample]:
    for name, boxes, scores, exportable in _pairs(dtype):
        yield Sample(name, (boxes, scores, _class_ids(len(boxes)), 0.5), exportable)
    boxes, scores = _clustered(200).to(dtype), random_scores(200).to(dtype)
    ids = _class_ids(200)
    huge = torch.tensor([INT64.min, INT64.max, -1, 0, 1])[_class_ids(200, classes=5)]
    yield Sample("negative classes", (boxes, scores, ids - 5, 0.5), exportable=False)
    yield Sample("huge classes", (boxes, scores, huge, 0.5), exportable=False)
    for integer in (torch.int32, torch.int16, torch.int8, torch.uint8):
        yield Sample(f"{integer} classes", (boxes, scores, ids.to(integer), 0.5))
    yield Sample("one class for all", (boxes, scores, ids[:1].expand(200), 0.5))
    yield Sample("every second class id", (boxes, scores, ids.repeat_interleave(2)[::2], 0.5))
    yield Sample("a class for each box", (boxes, scores, torch.arange(200), 0.5))
    many = _clustered(40_000).to(dtype)
    yield Sample(
        "enough for two threads",
        (many, random_scores(40_000).to(dtype), _class_ids(40_000, 40), 0.3),
        exportable=False,
    )


def _soft_nms(dtype: torch.dtype) -> Iterator[Sample]:
    for name, boxes, scores, exportable in _pairs(dtype):
        for method in ("linear", "gaussian"):
            yield Sample(f"{name}, {method}", (boxes, scores, 0.3, 0.5, 1e-3, method), exportable)
    for name, boxes, scores, threshold in _thresholds(dtype):
        yield Sample(f"{name}, linear", (boxes, scores, threshold, 0.5, 1e-3, "linear"), exportable=False)
    boxes, scores = _clustered(90).to(dtype), random_scores(90).to(dtype)
    yield Sample("narrow", (boxes, scores, 0.3, 1e-3, 1e-3, "gaussian"), exportable=False)
    yield Sample("wide", (boxes, scores, 0.3, 1e3, 1e-3, "gaussian"))
    yield Sample("nothing left", (boxes, scores, 0.3, 0.5, 2.0, "linear"))
    yield Sample("all taken", (boxes, scores - 0.5, 0.3, 0.5, -math.inf, "linear"), exportable=False)
    yield Sample("negative threshold", (boxes, scores - 0.5, 0.3, 0.5, -0.25, "gaussian"), exportable=False)


def _multiclass(
    dtype: torch.dtype,
    batch: int = 2,
    classes: int = 3,
    n: int = 90,
    make: Callable[[int], Tensor] = _clustered,
) -> tuple[Tensor, Tensor]:
    """Scores lie in (0, 1) and are distinct before they are rounded to the dtype."""
    boxes = make(batch * n).view(batch, n, 4)
    scores = random_scores(batch * classes * n).view(batch, classes, n)
    return boxes.to(dtype), scores.to(dtype)


def _multiclass_nms(dtype: torch.dtype) -> Iterator[Sample]:
    usual = (0.5, 0.3, 20, 30)
    boxes, scores = _multiclass(dtype)
    yield Sample("clustered", (boxes, scores, *usual))
    yield Sample("random", (*_multiclass(dtype, make=random_boxes), *usual))
    yield Sample("one image, one class", (*_multiclass(dtype, 1, 1), *usual))
    yield Sample("no images", (*_multiclass(dtype, batch=0), *usual))
    yield Sample("no classes", (*_multiclass(dtype, classes=0), *usual), exportable=False)
    yield Sample("no boxes", (*_multiclass(dtype, n=0), *usual))
    yield Sample("one box", (*_multiclass(dtype, n=1), *usual))
    for n in (63, 64, 65):
        yield Sample(f"{n} boxes", (*_multiclass(dtype, n=n), *usual))
    yield Sample("enough for the index", (*_multiclass(dtype, n=300), 0.5, -1.0, 400, 500))
    yield Sample("none per class", (boxes, scores, 0.5, 0.3, 0, 30))
    yield Sample("none in total", (boxes, scores, 0.5, 0.3, 20, 0))
    yield Sample("few per class", (boxes, scores, 0.5, 0.3, 2, 30))
    yield Sample("few in total", (boxes, scores, 0.5, 0.3, 20, 3))
    yield Sample("limits past the boxes", (boxes, scores, 0.5, 0.0, 10**6, 300))
    yield Sample("no candidates", (boxes, scores, 0.5, 2.0, 20, 30))
    yield Sample("more classes than boxes", (*_multiclass(dtype, 1, 20, 7), *usual))
    grid, _ = _multiclass(dtype, make=_integer_grid)
    tied = (scores * 4).floor() / 4
    for threshold in (0.0, 1.0, -0.5, 0.25, 1 / 3):
        yield Sample(f"integer grid, threshold {threshold:.3g}", (grid, tied, threshold, 0.2, 20, 40), exportable=False)
    yield Sample("all scores", (grid, tied - 0.5, 0.5, -math.inf, 90, 300), exportable=False)
    zeros = _signed_zeros(2 * 3 * 90).view(2, 3, 90).to(dtype)
    yield Sample("signed zeros", (boxes, zeros, 0.5, -1.0, 20, 40), exportable=False)
    odd, _ = _multiclass(dtype, make=_not_finite)
    strange = _scores_not_finite(2 * 3 * 90).view(2, 3, 90).to(dtype)
    yield Sample("not finite", (odd, strange, *usual), exportable=False)
    yield Sample("not finite, all scores", (odd, strange, 0.5, -math.inf, 90, 300), exportable=False)
    yield Sample("degenerate", (_multiclass(dtype, make=_degenerate)[0], scores, *usual), exportable=False)
    yield Sample("transposed", (boxes.mT.contiguous().mT, scores.mT.contiguous().mT, *usual))
    yield Sample("one image twice", (boxes[:1].expand(2, -1, -1), scores[:1].expand(2, -1, -1), *usual))
    yield Sample("one score for all", (boxes, scores[:1, :1, :1].expand(2, 3, 90), *usual), exportable=False)


_SAMPLES = {
    "nms": _nms,
    "batched_nms": _batched_nms,
    "soft_nms": _soft_nms,
    "multiclass_nms": _multiclass_nms,
}


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    return list(_SAMPLES[op_name](dtype))


def _flat_errors(*rest: Any) -> Iterator[ErrorSample]:
    boxes, scores = random_boxes(5).float(), random_scores(5).float()
    cases = [
        ("rank of boxes", (boxes[0], scores), r"boxes must be \[N, 4\], got \[4\]"),
        ("columns of boxes", (boxes[:, :3], scores), r"boxes must be \[N, 4\], got \[5, 3\]"),
        ("rank of scores", (boxes, scores[:, None]), r"scores must be \[N\], got \[5, 1\]"),
        ("length of scores", (boxes, scores[:4]), r"scores must have one entry per box \(5\), got 4"),
        ("dtype of boxes", (boxes.long(), scores), "boxes must be float16, .* got torch.int64"),
        ("complex boxes", (boxes.to(torch.complex64), scores), "boxes must be float16, .* got torch.complex64"),
        ("dtype of scores", (boxes, scores.double()), r"the dtype of boxes \(torch.float32\), got torch.float64"),
    ]  # fmt: skip
    for name, args, message in cases:
        yield ErrorSample(name, (*args, *rest), message)


def _batched_errors() -> Iterator[ErrorSample]:
    boxes, scores, ids = random_boxes(5).float(), random_scores(5).float(), _class_ids(5)
    yield from _flat_errors(ids, 0.5)
    yield ErrorSample("dtype of idxs", (boxes, scores, ids.float(), 0.5), "idxs must be int64, .* got torch.float32")
    yield ErrorSample("bool idxs", (boxes, scores, ids > 0, 0.5), "idxs must be int64, .* got torch.bool")
    yield ErrorSample(
        "unsigned idxs", (boxes, scores, ids.to(torch.uint32), 0.5), "idxs must be int64, .* got torch.uint32"
    )
    yield ErrorSample("rank of idxs", (boxes, scores, ids[None], 0.5), r"idxs must be \[N\], got \[1, 5\]")
    yield ErrorSample("length of idxs", (boxes, scores, ids[:2], 0.5), r"idxs must have one entry per box \(5\), got 2")


def _soft_errors() -> Iterator[ErrorSample]:
    boxes, scores = random_boxes(5).float(), random_scores(5).float()
    yield from _flat_errors(0.3, 0.5, 1e-3, "linear")
    yield ErrorSample(
        "method", (boxes, scores, 0.3, 0.5, 1e-3, "hard"), "method must be 'linear' or 'gaussian', got 'hard'"
    )
    for sigma, text in ((0.0, "0"), (-0.25, "-0.25"), (math.nan, "nan")):
        yield ErrorSample(
            f"sigma {text}",
            (boxes, scores, 0.3, sigma, 1e-3, "gaussian"),
            f"sigma must be greater than 0, got {text}",
        )


def _multiclass_errors() -> Iterator[ErrorSample]:
    boxes, scores = _multiclass(torch.float32, n=5)
    limits = (0.5, 0.3, 20, 30)
    cases = [
        ("rank of boxes", (boxes[0], scores, *limits), r"boxes must be \[B, N, 4\], got \[5, 4\]"),
        ("columns of boxes", (boxes[..., :3], scores, *limits), r"boxes must be \[B, N, 4\], got \[2, 5, 3\]"),
        ("rank of scores", (boxes, scores[0], *limits), r"scores must be \[B, C, N\], got \[3, 5\]"),
        ("batch of scores", (boxes, scores[:1], *limits), r"the batch size of boxes \(2\), got 1"),
        ("length of scores", (boxes, scores[..., :4], *limits), r"one entry per box \(5\), got 4"),
        ("dtype of boxes", (boxes.int(), scores, *limits), "boxes must be float16, .* got torch.int32"),
        ("dtype of scores", (boxes, scores.half(), *limits), r"dtype of boxes \(torch.float32\), got torch.float16"),
        ("limit per class", (boxes, scores, 0.5, 0.3, -1, 30), "max_output_per_class must not be negative, got -1"),
        ("limit in total", (boxes, scores, 0.5, 0.3, 20, -2), "max_total must not be negative, got -2"),
    ]  # fmt: skip
    for name, args, message in cases:
        yield ErrorSample(name, args, message)


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    errors = {
        "nms": lambda: _flat_errors(0.5),
        "batched_nms": _batched_errors,
        "soft_nms": _soft_errors,
        "multiclass_nms": _multiclass_errors,
    }
    return list(errors[op_name]())


def tolerances(op_name: str) -> Tolerances:
    """Box decisions are exact, and soft_nms decays scores to the same bits everywhere."""
    return Tolerances(exact=True)
