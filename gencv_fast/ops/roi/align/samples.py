"""Inputs of the wing. Positions keep away from where rounding decides: the borders of cells, and of levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...._samples import ErrorSample, Sample, Tolerances

NAN, INFINITY = float("nan"), float("inf")


def _maps(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _regions(count: int, images: int, height: float, width: float) -> Tensor:
    """Inside a map and a little beyond, no side of them at a multiple of 1/16."""
    generator = torch.Generator().manual_seed(count)
    limits = torch.tensor([width, height, width, height], dtype=torch.float64)
    corners = torch.rand(count, 2, 2, generator=generator, dtype=torch.float64).sort(1).values.flatten(1)
    coordinates = ((1.2 * corners - 0.1) * limits * 8).floor() / 8 + 0.0390625
    images_of = torch.randint(images, (count, 1), generator=generator)
    return torch.cat((images_of.double(), coordinates), 1)


def _rows(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)


def _spaced(t: Tensor) -> Tensor:
    """The same values, each beside a stranger."""
    return torch.stack((t, torch.full_like(t, -7.0)), -1).flatten(-2)[..., ::2]


#: Outside of the map, around it, thin, and the wrong way round.
_ODD = _rows(
    (0, -30, -30, -20, -20),
    (0, 20, 20, 30, 30),
    (0, -7.3, 3.2, 20.1, 30.4),
    (0, 3.1, 2.2, 3.2, 7.1),
    (0, 6.3, 5.2, 2.1, 1.4),
    (0, -0.7, -0.7, 8.6, 7.7),
)
_NOT_FINITE = _rows(
    (0, NAN, 0, 5, 5), (0, 0, 0, INFINITY, 5), (0, -INFINITY, 0, 5, 5), (1, 0, 0, 5, NAN), (1, 0.3, 0.3, 5.2, 5.2)
)
_HUGE = _rows((0, -1e6, -3e4, 2e6, 5e4), (0, 1.3, 2.1, 4e5, 6.2), (0, -1e30, -1e30, 1e30, 1e30))

#: (maps, boxes, output_size, spatial_scale, sampling_ratio, aligned, mode, differentiable_boxes, channels_last)
Case = tuple[Any, ...]


def _case(maps: Tensor, boxes: Tensor, size: Sequence[int], *rest: Any) -> Case:
    defaults = (1.0, 2, False, "avg", False, False)
    return (maps, boxes, list(size), *rest, *defaults[len(rest) :])


def _alignments() -> list[Sample]:
    maps, small, boxes = _maps(2, 4, 9, 8), _maps(1, 2, 4, 3), _regions(5, 2, 9, 8)
    of_small = _regions(2, 1, 4, 3)
    plain = {
        "even": _case(maps, boxes, (3, 2)),
        "odd": _case(_maps(2, 5, 7, 11), _regions(4, 2, 28, 44), (3, 2), 0.25),
        "other size": _case(_maps(3, 3, 6, 10), _regions(6, 3, 12, 20), (3, 2), 0.25),
        "small": _case(small, of_small, (1, 2)),
        "small, aligned": _case(small, of_small, (2, 2), 1.0, 2, True),
        "small, adaptive": _case(small, of_small, (1, 2), 1.0, -1),
        "aligned": _case(maps, boxes, (3, 2), 1.0, 2, True),
        "adaptive": _case(maps, boxes, (3, 2), 1.0, -1),
        "adaptive, aligned": _case(maps, boxes, (2, 3), 1.0, 0, True),
        "many samples": _case(maps, boxes, (2, 2), 1.0, 7),
        "one sample": _case(maps, boxes, (2, 3), 1.0, 1),
        "largest": _case(maps, boxes, (3, 2), 1.0, 2, False, "max"),
        "largest, adaptive": _case(maps, boxes, (3, 2), 1.0, -1, True, "max"),
        "channels last result": _case(maps, boxes, (3, 2), 1.0, 2, False, "avg", False, True),
        "channels last": _case(maps.contiguous(memory_format=torch.channels_last), boxes, (3, 2)),
        "channels last, a block": _case(_maps(1, 64, 5, 6).to(memory_format=torch.channels_last), boxes % 1, (2, 2)),
        "many channels": _case(_maps(1, 150, 6, 7), _regions(4, 1, 6, 7), (3, 3)),
        "a wide map": _case(_maps(1, 3, 20, 40), _rows((0, 3.3, 5.1, 9.2, 12.4), (0, 30.2, 2.3, 38.9, 9.1)), (3, 2)),
        "Mask R-CNN": _case(_maps(2, 33, 17, 19), _regions(30, 2, 270, 300), (7, 7), 0.0625),
        "transposed": _case(_maps(2, 4, 8, 9).transpose(2, 3), boxes, (3, 2)),
        "spaced": _case(_spaced(_maps(2, 4, 9, 8)), _spaced(boxes), (3, 2)),
        "expanded": _case(_maps(1, 1, 9, 8).expand(2, 4, 9, 8), boxes[:1].expand(3, 5), (3, 2)),
        "one pixel": _case(_maps(1, 4, 1, 1), _regions(3, 1, 2, 2), (2, 2)),
        "no regions": _case(maps, boxes[:0], (3, 2)),
        "no channels": _case(_maps(2, 0, 9, 8), boxes, (3, 2)),
        "no pixels": _case(_maps(2, 4, 0, 8), boxes, (3, 2)),
        "no images": _case(_maps(0, 4, 9, 8), boxes[:0], (3, 2)),
        "odd regions": _case(maps, _ODD, (3, 2)),
        "odd regions, aligned": _case(maps, _ODD, (3, 2), 1.0, 2, True),
        "odd regions, largest": _case(maps, _ODD, (3, 2), 1.0, 2, True, "max"),
        "odd regions, adaptive": _case(maps, _ODD, (3, 2), 1.0, -1, True),
    }
    special = {
        "huge regions": _case(small, _HUGE, (1, 2), 1.0, -1),
        "not finite": _case(maps, _NOT_FINITE, (3, 2)),
        "not finite, largest": _case(maps, _NOT_FINITE, (3, 2), 1.0, 2, False, "max"),
        "NaN on the map": _case(torch.where(maps > 1.5, NAN, maps), boxes, (3, 2), 1.0, 2, False, "max"),
    }
    found = [Sample(name, args, _exports(name, args)) for name, args in plain.items()]
    return found + [Sample(name, args, False, False) for name, args in special.items()]


def _exports(name: str, args: Case) -> bool:
    maps, _, _, _, sampling_ratio, _, mode, *_ = args
    return not (name.startswith("odd regions") or maps.numel() == 0 or (mode == "max" and sampling_ratio <= 0))


def _pyramid(images: int, channels: int, height: int, width: int, levels: int) -> list[Tensor]:
    return [_maps(images, channels, -(-height // 2**i), -(-width // 2**i)) for i in range(levels)]


def _scales(levels: int) -> list[float]:
    return [2.0 ** -(2 + i) for i in range(levels)]


def _spread_regions(count: int, images: int, height: float, width: float) -> Tensor:
    """Sides from a fiftieth of the image to all of it."""
    generator = torch.Generator().manual_seed(count)
    sizes = torch.tensor([width, height], dtype=torch.float64)
    sides = sizes * 0.02 ** torch.rand(count, 2, generator=generator, dtype=torch.float64)
    corners = (sizes - sides) * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    coordinates = (torch.cat((corners, corners + sides), 1) * 4).floor() / 4 + 0.0390625
    return torch.cat((torch.randint(images, (count, 1), generator=generator).double(), coordinates), 1)


def _pyramids() -> list[Sample]:
    maps, boxes = _pyramid(2, 4, 8, 12, 2), _spread_regions(6, 2, 32, 48)
    rest = (2, 32, 3)
    plain = {
        "two levels": (maps, boxes, [3, 2], _scales(2), *rest, False),
        "more regions": (_pyramid(2, 5, 12, 8, 2), _spread_regions(9, 2, 48, 32), [3, 2], _scales(2), *rest, False),
        "aligned": (maps, boxes, [2, 3], _scales(2), *rest, True),
        "four levels": (_pyramid(2, 3, 16, 16, 4), _spread_regions(12, 2, 64, 64), [3, 2], _scales(4), 2, 16, 3, False),
        "one level": (maps[:1], boxes, [3, 2], _scales(1), *rest, False),
        "adaptive": (maps, boxes, [3, 2], _scales(2), -1, 32, 3, False),
        "many channels": (_pyramid(1, 70, 6, 6, 2), _spread_regions(4, 1, 24, 24), [2, 2], _scales(2), *rest, False),
        "spaced": ([_spaced(m) for m in maps], _spaced(boxes), [3, 2], _scales(2), *rest, False),
        "channels last": (
            [m.to(memory_format=torch.channels_last) for m in maps],
            boxes,
            [3, 2],
            _scales(2),
            *rest,
            False,
        ),
        "one region": (maps, boxes[:1], [3, 2], _scales(2), *rest, False),
        "no regions": (maps, boxes[:0], [3, 2], _scales(2), *rest, False),
        "tiny": (_pyramid(1, 1, 4, 4, 2), _spread_regions(2, 1, 16, 16), [1, 2], _scales(2), 2, 8, 3, False),
    }
    special = {
        "odd regions": (maps, 3 * _ODD, [3, 2], _scales(2), *rest, True),
        "not finite": (maps, _NOT_FINITE, [3, 2], _scales(2), *rest, False),
    }
    found = [Sample(name, args) for name, args in plain.items()]
    return found + [Sample(name, args, False, name == "odd regions") for name, args in special.items()]


def _grad(*shape: int) -> Tensor:
    return torch.cos(torch.arange(torch.Size(shape).numel(), dtype=torch.float64) * 1.7).view(shape)


def _align_gradients() -> list[Sample]:
    found, of_boxes = [], []
    for s in _alignments():
        maps, boxes, size, scale, ratio, aligned, mode, _, channels_last = s.args
        grad = _grad(boxes.shape[0], maps.shape[1], *size)
        sizes = [maps.shape[0], *maps.shape[2:]]
        given = maps if mode == "max" else None
        if s.name != "NaN on the map":
            args = (grad, boxes, given, sizes, scale, ratio, aligned, mode, False, channels_last)
            found.append(Sample(s.name, args, differentiable=s.differentiable and mode == "avg"))
        if s.name in (
            "even",
            "aligned",
            "adaptive",
            "largest",
            "odd regions",
            "many channels",
            "channels last",
            "not finite",
        ):
            args = (grad, boxes, maps, sizes, scale, ratio, aligned, mode, True, channels_last)
            of_boxes.append(Sample(f"{s.name}, and of boxes", args, differentiable=False))
    grad, *rest = found[0].args
    return [*found, Sample("spaced gradient", (_spaced(grad), *rest)), *of_boxes]


def _pyramid_gradients() -> list[Sample]:
    found = []
    for s in _pyramids():
        maps, boxes, size, *rest = s.args
        sizes = [maps[0].shape[0], *(side for level in maps for side in level.shape[2:])]
        last = s.name == "channels last"
        args = (_grad(boxes.shape[0], maps[0].shape[1], *size), boxes, sizes, *rest, last)
        found.append(Sample(s.name, args, differentiable=s.differentiable))
    grad, *rest = found[0].args
    return [*found, Sample("spaced gradient", (_spaced(grad), *rest))]


def _cast(t: Tensor, dtype: torch.dtype) -> Tensor:
    """In another dtype, still a view of the same kind: `Tensor.to` makes views dense."""
    storage = t.new_empty(0).set_(t.untyped_storage())
    return storage.to(dtype).as_strided(t.shape, t.stride(), t.storage_offset())


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    samples = {
        "roi_align": _alignments,
        "roi_align_backward": _align_gradients,
        "multiscale_roi_align": _pyramids,
        "multiscale_roi_align_backward": _pyramid_gradients,
    }[op_name]()
    half = dtype in (torch.float16, torch.bfloat16)

    def converted(i: int, a: Any) -> Any:
        if isinstance(a, list) and a and isinstance(a[0], Tensor):
            return [_cast(t, dtype) for t in a]
        # Half precision has no room for coordinates that keep away from borders.
        return _cast(a, torch.float32 if half and i == 1 else dtype) if isinstance(a, Tensor) else a

    return [
        Sample(s.name, tuple(converted(i, a) for i, a in enumerate(s.args)), s.exportable, s.differentiable)
        for s in samples
    ]


def _shared_errors(args: tuple[Any, ...], size_at: int, ratio_at: int) -> list[ErrorSample]:
    """Of boxes, sizes and samples, of a call whose second argument is the boxes."""

    def changed(at: int, value: Any) -> tuple[Any, ...]:
        return (*args[:at], value, *args[at + 1 :])

    boxes = args[1]
    return [
        ErrorSample("dtype of boxes", changed(1, boxes.long()), "boxes must have the dtype of .* got torch.int64"),
        ErrorSample("width of boxes", changed(1, boxes[:, :4]), r"boxes must be \[.*, 5\], got \[\d+, 4\]"),
        ErrorSample("rank of boxes", changed(1, boxes[0]), r"boxes must be \[.*, 5\], got \[5\]"),
        ErrorSample("too many samples", changed(ratio_at, 2**31), "sampling_ratio must be at most 2147483647"),
    ] + (
        [
            ErrorSample("one size", changed(size_at, [3]), "output_size must be two numbers, got 1"),
            ErrorSample("no bins", changed(size_at, [3, 0]), r"output_size must be positive, got \[3, 0\]"),
        ]
        if size_at
        else []
    )


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    first = next(s.args for s in sample_inputs(op_name, torch.float32))
    if op_name == "roi_align":
        maps, boxes, *rest = first
        wrong_mode = (maps, boxes, *rest[:4], "mean", *rest[5:])
        return [
            *_shared_errors(first, 2, 4),
            ErrorSample("dtype of input", (maps.long(), boxes, *rest), "input must be float16, .* got torch.int64"),
            ErrorSample("rank of input", (maps[0], boxes, *rest), r"input must be \[N, C, H, W\], got \[4, 9, 8\]"),
            ErrorSample("mode", wrong_mode, "mode must be 'avg' or 'max', got 'mean'"),
            ErrorSample("scale", (maps, boxes, rest[0], math.nan, *rest[2:]), "spatial_scale must be finite, got"),
        ]
    if op_name == "multiscale_roi_align":
        maps, boxes, size, scales, *rest = first
        return [
            *_shared_errors(first, 2, 4),
            ErrorSample(
                "dtype", ([m.long() for m in maps], *first[1:]), r"features\[0\] must be float16, .* torch.int64"
            ),
            ErrorSample("rank", ([maps[0], maps[1][0]], *first[1:]), r"features\[1\] must be \[N, C, H, W\]"),
            ErrorSample("channels", ([maps[0], maps[1][:, :2]], *first[1:]), r"must have the images and channels of"),
            ErrorSample("two dtypes", ([maps[0], maps[1].double()], *first[1:]), r"features\[1\] must have the dtype"),
            ErrorSample("scales", (maps, boxes, size, scales[:1], *rest), r"scales must be one per level \(2\), got 1"),
            ErrorSample("rising", (maps, boxes, size, scales[::-1], *rest), "scales must fall"),
            ErrorSample("no scale", (maps, boxes, size, [0.0, 0.1], *rest), "scales must be positive, got 0"),
            ErrorSample("canonical_scale", (*first[:5], 0, *first[6:]), "canonical_scale must be positive, got 0"),
        ]
    grad, boxes, *rest = first
    errors = [
        *_shared_errors(first, 0, 5 if op_name == "roi_align_backward" else 4),
        ErrorSample("dtype of grad", (grad.long(), boxes, *rest), "grad must be float16, .* got torch.int64"),
        ErrorSample("rank of grad", (grad[0], boxes, *rest), r"grad must be \[K, C, H, W\]"),
        ErrorSample("rows of grad", (grad[:2], boxes, *rest), r"boxes must be \[2, 5\], got"),
    ]
    if op_name == "roi_align_backward":
        maps, sizes, *rest = rest
        return [
            *errors,
            ErrorSample("sizes", (grad, boxes, maps, sizes[:2], *rest), "input_size must be three numbers, got 2"),
            ErrorSample("negative", (grad, boxes, maps, [2, -1, 8], *rest), "input_size must not be negative"),
            ErrorSample("mode", (grad, boxes, maps, sizes, *rest[:3], "mean", *rest[4:]), "mode must be 'avg' or"),
            ErrorSample("scale", (grad, boxes, maps, sizes, math.inf, *rest[1:]), "spatial_scale must be finite, got"),
            ErrorSample("no input", (grad, boxes, None, sizes, *rest[:3], "max", *rest[4:]), "input must be given"),
            ErrorSample("shape", (grad, boxes, grad, sizes, *rest), "input must have the shape of input_size"),
        ]
    sizes, *rest = rest
    return [
        *errors,
        ErrorSample("sizes", (grad, boxes, sizes[:-1], *rest), "feature_sizes must be 5 numbers, got 4"),
        ErrorSample("negative", (grad, boxes, [*sizes[:-1], -1], *rest), "feature_sizes must not be negative"),
    ]


def tolerances(op_name: str) -> Tolerances:
    return Tolerances()
