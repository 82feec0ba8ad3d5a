"""Inputs of the rpn room, for the tests and the benchmarks. All tensors are on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._samples import ErrorSample, Sample, Tolerances
from .reference import all_anchors

#: Anchors per cell, height and width of each level.
Sizes = Sequence[tuple[int, int, int]]

TWO_LEVELS: Sizes = ((2, 3, 4), (2, 2, 2))
TWO_STRIDES = [20, 20, 32, 40]
TWO_IMAGES = [64, 80, 50, 90]
#: pre_nms_top_n, post_nms_top_n and nms_threshold
USUAL = (20, 15, 0.5)


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(7919 + sum(numbers))


def cell_anchors(sizes: Sizes, strides: Sequence[int]) -> Tensor:
    """[sum of A, 4] in float64: twice the strides large, in different aspects."""
    found = []
    for (anchors, _, _), stride_h, stride_w in zip(sizes, strides[::2], strides[1::2], strict=True):
        aspect = torch.linspace(0.6, 1.7, anchors, dtype=torch.float64)
        half = torch.stack((stride_w * aspect, stride_h / aspect), dim=1)
        found.append(torch.cat((-half, half), dim=1))
    return torch.cat(found)


def head_outputs(sizes: Sizes, batch: int = 2, spread: float = 2.0) -> tuple[list[Tensor], list[Tensor]]:
    """Objectness and deltas in float64, as random as an untrained head's."""
    g = _generator(batch, *(number for size in sizes for number in size))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    objectness = [spread * normal(batch, a, h, w) for a, h, w in sizes]
    return objectness, [0.3 * normal(batch, 4 * a, h, w) for a, h, w in sizes]


def _grid(sizes: Sizes, batch: int = 2, strides: Sequence[int] | None = None) -> tuple[Any, Any, Tensor, list[int]]:
    """Head outputs, the anchors of a cell, and strides."""
    strides = list(strides) if strides is not None else TWO_STRIDES[: 2 * len(sizes)]
    return *head_outputs(sizes, batch), cell_anchors(sizes, strides), strides


def _flat(sizes: Sizes, batch: int = 2, strides: Sequence[int] | None = None) -> tuple[Any, Any, Tensor]:
    """Head outputs and all anchors."""
    objectness, deltas, cells, strides = _grid(sizes, batch, strides)
    return objectness, deltas, all_anchors(objectness, cells, strides)


def _converted(args: Sequence[Any], dtype: torch.dtype) -> tuple[Any, ...]:
    """Tensors, alone or in lists, in another dtype; strides stay."""

    def convert(a: Any) -> Any:
        if isinstance(a, Tensor):
            return a.to(dtype)
        return [convert(item) for item in a] if isinstance(a, list) else a

    return tuple(convert(a) for a in args)


def _plain() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Cases that ONNX has to agree with."""
    images, usual = TWO_IMAGES, USUAL
    yield "two levels", (*_flat(TWO_LEVELS), images, *usual)
    yield "other sizes", (*_flat(((3, 4, 3), (2, 2, 3))), images, *usual)
    yield "more than pre_nms_top_n", (*_flat(((3, 6, 7), (3, 3, 4))), images, *usual)
    yield "an empty level", (*_flat(((2, 3, 4), (2, 0, 2))), images, *usual)
    yield "levels without anchors", (*_flat(((0, 3, 4), (2, 2, 2))), images, *usual)
    yield "empty levels", (*_flat(((2, 0, 4), (2, 2, 0))), images, *usual)
    yield "grid", _reordered(_grid(TWO_LEVELS), images, usual)
    yield "grid, other sizes", _reordered(_grid(((3, 5, 4), (1, 2, 3))), images, usual)
    objectness, deltas, anchors = _flat(TWO_LEVELS)
    yield "anchors by image", (objectness, deltas, torch.stack((anchors, anchors.flip(0) + 3)), images, *usual)
    objectness, deltas, cells, strides = _grid(TWO_LEVELS)
    yield "grid by image", (objectness, deltas, torch.stack((cells, 2 * cells)), images, *usual, 0.0, 1e-3, strides)
    yield "one image and level", (*_flat(((3, 4, 5),), 1), [70, 90], *usual)
    yield "one candidate", (*_flat(((1, 1, 1),), 1), [70, 90], *usual)
    yield "seventeen images", (*_flat(((2, 2, 3),), 17), [40, 60] * 17, *usual)
    yield "no images", (*_flat(TWO_LEVELS, 0), [], *usual)
    yield "all may be kept", (*_flat(TWO_LEVELS), images, 100, 200, 0.9)
    yield "score threshold", (*_flat(TWO_LEVELS), images, *usual, 0.6, 1e-3)
    yield "large enough", (*_flat(TWO_LEVELS), images, *usual, 0.0, 40.0)
    yield "none large enough", (*_flat(TWO_LEVELS), images, *usual, 0.0, 1000.0)
    yield "every overlap is too much", (*_flat(TWO_LEVELS), images, 20, 15, 0.0)
    yield "sixteen levels", (*_flat([(1, 2, 2)] * 16, strides=range(8, 40)), images, 3, 15, 0.5)


def _reordered(grid: Any, images: list[int], limits: Any) -> tuple[Any, ...]:
    objectness, deltas, cells, strides = grid
    return objectness, deltas, cells, images, *limits, 0.0, 1e-3, strides


def _layouts() -> Iterator[tuple[str, tuple[Any, ...]]]:
    sizes = ((3, 4, 5), (3, 2, 3))
    objectness, deltas, anchors = _flat(sizes)
    rest = (TWO_IMAGES, *USUAL)
    last = torch.channels_last
    yield (
        "channels last",
        (
            [o.contiguous(memory_format=last) for o in objectness],
            [d.contiguous(memory_format=last) for d in deltas],
            anchors,
            *rest,
        ),
    )
    logits = torch.cat([o.permute(0, 2, 3, 1).flatten(1) for o in objectness], 1)
    flat = torch.cat([d.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).reshape(2, -1, 4) for d in deltas], 1)
    counts = [o[0].numel() for o in objectness]
    yield (
        "flat",
        (
            [o.view(2, 1, -1, 1) for o in logits.split(counts, 1)],
            [d.permute(0, 2, 1).unsqueeze(-1) for d in flat.split(counts, 1)],
            anchors,
            *rest,
        ),
    )
    yield (
        "cropped",
        (
            [torch.nn.functional.pad(o, (1, 2, 1, 1))[:, :, 1:-1, 1:-2] for o in objectness],
            [torch.nn.functional.pad(d, (2, 1, 1, 1))[:, :, 1:-1, 2:-1] for d in deltas],
            anchors,
            *rest,
        ),
    )
    yield (
        "transposed",
        (
            [o.mT.contiguous().mT for o in objectness],
            [d.mT.contiguous().mT for d in deltas],
            anchors.t().contiguous().t(),
            *rest,
        ),
    )
    yield (
        "every second",
        (
            [o.repeat_interleave(2, 3)[..., ::2] for o in objectness],
            [d.repeat_interleave(2, 1)[:, ::2] for d in deltas],
            anchors.repeat_interleave(2, 0)[::2],
            *rest,
        ),
    )
    yield (
        "one image twice",
        (
            [o[:1].expand(2, -1, -1, -1) for o in objectness],
            [d[:1].expand(2, -1, -1, -1) for d in deltas],
            anchors.expand(2, -1, -1),
            *rest,
        ),
    )
    yield "one logit for all", ([o[:1, :1, :1, :1].expand_as(o) for o in objectness], deltas, anchors, *rest)


def _special_values() -> Iterator[tuple[str, tuple[Any, ...]]]:
    sizes = ((3, 4, 5), (3, 2, 3))
    objectness, deltas, anchors = _flat(sizes)
    rest = (TWO_IMAGES, *USUAL)
    yield "ties", ([(2 * o).floor() / 4 for o in objectness], deltas, anchors, *rest)
    yield "signed zeros", ([o.sign() * 0.0 for o in objectness], deltas, anchors, *rest)
    yield "saturated scores", ([20 * o for o in objectness], deltas, anchors, *rest)
    odd = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30], dtype=torch.float64)

    def with_odd(tensor: Tensor, step: int) -> Tensor:
        changed = tensor.clone()
        places = changed.view(-1)[::step]
        places[:] = odd.repeat(len(places) // 5 + 1)[: len(places)]
        return changed

    logits_odd = [with_odd(o, 4) for o in objectness]
    yield "logits not finite", (logits_odd, deltas, anchors, *rest)
    yield "only NaN logits", ([torch.full_like(o, math.nan) for o in objectness], deltas, anchors, *rest)
    yield "deltas not finite", (objectness, [with_odd(d, 7) for d in deltas], anchors, *rest)
    yield "anchors not finite", (objectness, deltas, with_odd(anchors, 9), *rest)
    yield "huge deltas", (objectness, [20 * d for d in deltas], anchors, *rest)
    backwards = anchors[:, [2, 3, 0, 1]]
    mixed = torch.where(torch.arange(len(anchors))[:, None] % 2 == 0, anchors, backwards)
    yield "reversed anchors", (objectness, deltas, mixed, *rest, 0.0, -1000.0)
    yield "not even a number", (objectness, deltas, anchors, *rest, math.nan, 1e-3)
    for threshold in (-0.5, 1.0, 1 / 3, math.nan):
        yield f"nms_threshold {threshold:.3g}", (objectness, deltas, anchors, TWO_IMAGES, 20, 15, threshold)
    yield "none before suppression", (objectness, deltas, anchors, TWO_IMAGES, 0, 15, 0.5)
    yield "none after suppression", (objectness, deltas, anchors, TWO_IMAGES, 20, 0, 0.5)
    yield "images without pixels", (objectness, deltas, anchors, [0, 80, 50, 0], *USUAL, 0.0, 0.0)


def _large() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Enough for a sampled threshold, for the spatial index and for two threads."""
    sizes = ((3, 60, 80), (3, 30, 40), (3, 9, 10))
    strides = [4, 4, 8, 8, 32, 32]
    images = [240, 320, 200, 300]
    objectness, deltas, anchors = _flat(sizes, strides=strides)
    yield "large", (objectness, deltas, anchors, images, 1000, 1000, 0.7)
    yield "large, few chosen", (objectness, deltas, anchors, images, 30, 20, 0.7)
    yield "large, all chosen", (objectness, deltas, anchors, images, 10**6, 2000, 0.7)
    ascending = [o.flatten().sort().values.view(o.shape) for o in objectness]
    yield "large, best last", (ascending, deltas, anchors, images, 100, 100, 0.7)
    constant = [torch.zeros_like(o) for o in objectness]
    yield "large, all tied", (constant, deltas, anchors, images, 500, 100, 0.7)
    peaked = [torch.where(o > 7, o, -20.0) for o in objectness]
    yield "large, few peaks", (peaked, deltas, anchors, images, 300, 100, 0.7)
    mostly_nan = [torch.where(o > 0, math.nan, o) for o in objectness]
    yield "large, half NaN", (mostly_nan, deltas, anchors, images, 300, 100, 0.7)
    last = [o.contiguous(memory_format=torch.channels_last) for o in objectness]
    yield "large, channels last", (last, deltas, anchors, images, 1000, 1000, 0.7)
    cropped = [torch.nn.functional.pad(o, (3, 2))[..., 3:-2] for o in objectness]
    yield "large, cropped", (cropped, deltas, anchors, images, 300, 1000, 0.7)


def _small_special_values() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Small enough for Triton's interpreter; the limit of each level falls among ties."""
    objectness, deltas, anchors = _flat(TWO_LEVELS)
    tied = [o.floor() for o in objectness]
    rest = (TWO_IMAGES, 5, 8, 0.7)
    yield "few ties", (tied, deltas, anchors, *rest)
    yield "few logits, one for all", ([o.clone().fill_(0.5) for o in objectness], deltas, anchors, *rest)
    for value in (torch.nan, torch.inf, -torch.inf):
        yield f"few logits, some {value}", ([o.masked_fill(o > 1, value) for o in tied], deltas, anchors, *rest)


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    found = [Sample(name, _converted(args, dtype)) for name, args in _plain()]
    for cases in (_layouts, _small_special_values, _special_values, _large):
        found += [Sample(name, _converted(args, dtype), exportable=False) for name, args in cases()]
    return found


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    objectness, deltas, anchors = _converted(_flat(TWO_LEVELS), torch.float32)
    rest = (TWO_IMAGES, *USUAL)
    first, second = objectness
    grid = (*rest, 0.0, 1e-3)
    cells = cell_anchors(TWO_LEVELS, TWO_STRIDES).float()
    cases: list[tuple[str, tuple[Any, ...], str]] = [
        ("levels", ([first] * 17, [deltas[0]] * 17, anchors, *rest), "objectness must be 1 to 16 tensors, got 17"),
        ("levels of deltas", (objectness, deltas[:1], anchors, *rest), r"one tensor per level \(2\), got 1"),
        ("rank of objectness", ([first, second[0]], deltas, anchors, *rest),
         r"objectness\[1\] must be \[B, A, H, W\], got \[2, 2, 2\]"),
        ("batch of objectness", ([first, second[:1]], [deltas[0], deltas[1][:1]], anchors, *rest),
         r"objectness\[1\] must have the batch size of objectness\[0\] \(2\), got 1"),
        ("rank of deltas", (objectness, [deltas[0][0], deltas[1]], anchors, *rest),
         r"deltas\[0\] must be \[2, 8, 3, 4\], got \[8, 3, 4\]"),
        ("channels of deltas", (objectness, [deltas[0], deltas[1][:, :6]], anchors, *rest),
         r"deltas\[1\] must be \[2, 8, 2, 2\], got \[2, 6, 2, 2\]"),
        ("dtype of objectness", ([o.int() for o in objectness], deltas, anchors, *rest),
         r"objectness\[0\] must be float16, .* got torch.int32"),
        ("dtype of a level", ([first, second.double()], deltas, anchors, *rest),
         r"objectness\[1\] must have the dtype of objectness\[0\] \(torch.float32\), got torch.float64"),
        ("dtype of deltas", (objectness, [deltas[0].half(), deltas[1]], anchors, *rest),
         r"deltas\[0\] must have the dtype of objectness\[0\] \(torch.float32\), got torch.float16"),
        ("dtype of anchors", (objectness, deltas, anchors.double(), *rest), "anchors must have the dtype .*float64"),
        ("rank of anchors", (objectness, deltas, anchors[0], *rest), r"anchors must be \[32, 4\] or \[2, 32, 4\]"),
        ("columns of anchors", (objectness, deltas, anchors[:, :3], *rest), r"\[2, 32, 4\], got \[32, 3\]"),
        ("length of anchors", (objectness, deltas, anchors[1:], *rest), r"\[2, 32, 4\], got \[31, 4\]"),
        ("batch of anchors", (objectness, deltas, anchors.expand(3, -1, -1), *rest), r"got \[3, 32, 4\]"),
        ("cells", (objectness, deltas, anchors, *grid, TWO_STRIDES), r"\[4, 4\] or \[2, 4, 4\], got \[32, 4\]"),
        ("strides", (objectness, deltas, cells, *grid, TWO_STRIDES[:2]), r"strides must be two per level \(4\), got 2"),
        ("negative stride", (objectness, deltas, cells, *grid, [8, 8, -1, 8]), "strides must not be negative, got -1"),
        ("image_sizes", (objectness, deltas, anchors, [64, 80], *USUAL), r"must be two per image \(4\), got 2"),
        ("negative image_sizes", (objectness, deltas, anchors, [64, -80, 1, 1], *USUAL), "negative, got -80"),
        ("pre_nms_top_n", (objectness, deltas, anchors, TWO_IMAGES, -1, 15, 0.5),
         "pre_nms_top_n must not be negative, got -1"),
        ("post_nms_top_n", (objectness, deltas, anchors, TWO_IMAGES, 20, -2, 0.5),
         "post_nms_top_n must not be negative, got -2"),
    ]  # fmt: skip
    return [ErrorSample(*case) for case in cases]


def tolerances(op_name: str) -> Tolerances:
    """The same bits on every backend: decisions follow the decoded boxes, and the scores' order."""
    return Tolerances(exact=True)
