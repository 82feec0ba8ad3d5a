"""Inputs of the wing. Coordinates keep away from where rounding decides, unless a name says so."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...._samples import ErrorSample, Sample, Tolerances

#: (maps, regions, output_size, spatial_scale)
Case = tuple[Tensor, Tensor, list[int], float]


def _maps(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _tied(*shape: int) -> Tensor:
    """Every value several times, zeros of both signs among them."""
    return (2 * _maps(*shape)).round() / 2


def _regions(count: int, images: int, height: float, width: float) -> Tensor:
    """Inside a map and a little beyond."""
    generator = torch.Generator().manual_seed(count)
    limits = torch.tensor([width, height, width, height], dtype=torch.float64)
    corners = torch.rand(count, 2, 2, generator=generator, dtype=torch.float64).sort(1).values.flatten(1)
    coordinates = ((1.2 * corners - 0.1) * limits * 8).floor() / 8 + 0.0625
    images_of = torch.randint(images, (count, 1), generator=generator)
    return torch.cat((images_of.double(), coordinates), 1)


def _rows(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)


def _halves() -> Tensor:
    """Corners half-way between pixels, on both sides of zero."""
    return _rows((0, 0.5, 1.5, 5.5, 6.5), (0, -0.5, -1.5, 2.5, 3.5), (0, -2.5, 2.5, 7.5, 2.5), (0, -1.5, -2.5, -0.5, 9))


def _outside() -> Tensor:
    return _rows((0, -30, -30, -20, -20), (0, 20, 20, 30, 30), (0, -7, 3, 20, 30), (0, 3, -40, 9, 60), (0, 7, 7, 8, 8))


def _special(maps: Tensor) -> Tensor:
    maps = maps.clone()
    maps[..., :3, :3] = torch.nan
    maps[..., 4:, 1::4] = torch.inf
    maps[..., 3:6, 3:6] = -torch.inf
    return maps


def _cases() -> dict[str, Case]:
    nan, infinity, maps = torch.nan, torch.inf, _maps(1, 3, 8, 8)
    plain = _regions(6, 2, 9, 8)
    return {
        "even": (_maps(2, 4, 9, 8), plain, [3, 2], 1.0),
        "odd": (_maps(2, 5, 7, 11), _regions(5, 2, 28, 44), [3, 2], 0.25),
        "scaled": (_maps(2, 3, 10, 6), _regions(4, 2, 20, 12), [2, 3], 0.5),
        "small": (_maps(1, 2, 4, 3), _regions(2, 1, 4, 3), [1, 2], 1.0),
        "no regions": (_maps(2, 4, 9, 8), _rows(), [3, 2], 1.0),
        "no channels": (_maps(2, 0, 9, 8), plain, [3, 2], 1.0),
        "no pixels": (_maps(2, 4, 0, 8), plain, [3, 2], 1.0),
        "no images": (_maps(0, 4, 9, 8), _rows(), [3, 2], 1.0),
        "one pixel": (_maps(1, 4, 1, 1), _regions(3, 1, 2, 2), [2, 2], 1.0),
        "one bin": (_maps(1, 5, 8, 8), _regions(3, 1, 8, 8), [1, 1], 1.0),
        "tied": (_tied(2, 4, 9, 8), plain, [3, 2], 1.0),
        "more bins than pixels": (_maps(1, 2, 5, 4), _regions(3, 1, 5, 4), [7, 9], 1.0),
        "Fast R-CNN": (_maps(2, 70, 19, 21), _regions(40, 2, 304, 336), [7, 7], 0.0625),
        "many channels": (_maps(1, 150, 9, 8), _regions(5, 1, 9, 8), [3, 3], 1.0),
        "many regions": (_maps(3, 5, 9, 8), _regions(300, 3, 9, 8), [2, 2], 1.0),
        "many images": (_maps(40, 3, 4, 5), _regions(30, 40, 4, 5), [2, 2], 1.0),
        "few regions on a large map": (_maps(1, 3, 70, 90), _rows((0, 3, 5, 20, 18), (0, 60, 50, 99, 61)), [3, 2], 1.0),
        "whole large map": (_maps(1, 3, 70, 90), _rows((0, 0, 0, 89, 69)), [7, 5], 1.0),
        "channels last": (_maps(2, 36, 9, 8).to(memory_format=torch.channels_last), plain, [3, 2], 1.0),
        "channels last, a block": (_maps(1, 64, 5, 8).to(memory_format=torch.channels_last), plain % 1, [3, 2], 1.0),
        "transposed": (_maps(2, 4, 8, 9).transpose(2, 3), plain, [3, 2], 1.0),
        "columns apart": (_maps(2, 4, 9, 8), plain.repeat_interleave(2, 1)[:, ::2], [3, 2], 1.0),
        "halves": (maps, _halves(), [3, 2], 1.0),
        "halves, scaled": (maps, 4 * _halves(), [2, 3], 0.25),
        "reversed": (maps, _rows((0, 5, 6, 1, 2), (0, 6, 1, 2, 5), (0, 3, 3, 3, 3)), [3, 2], 1.0),
        "outside": (maps, _outside(), [3, 2], 1.0),
        "special values": (_special(_maps(2, 3, 9, 8)), plain, [3, 2], 1.0),
        "huge": (
            maps,
            _rows((0, -6e4, -6e4, 6e4, 6e4), (0, 1, -3e4, 9, 3e4), (0, 5e4, 5e4, 6e4, 6e4), (0, 1, 1, 2, 2)),
            [3, 2],
            2.0**20,
        ),
        "not finite": (
            maps,
            _rows((0, nan, 1, 5, 5), (0, 1, 1, infinity, 5), (0, 1, -infinity, 5, infinity), (0, 1, 1.5, 5, 6)),
            [3, 2],
            1.0,
        ),
    }


#: Where ONNX Runtime's integers overflow, or where it refuses.
# onnxruntime has its own mind about NaN.
_NOT_EXPORTABLE = ("special values", "huge", "no pixels", "no images", "no channels")

#: Where two pixels are largest and a difference quotient sees both.
_NOT_DIFFERENTIABLE = ("tied",)


def _typed(case: Case, maps: torch.dtype, boxes: torch.dtype) -> Case:
    """In the same memory order."""
    return case[0].to(maps), case[1].to(boxes), *case[2:]


def _typed_cases(dtype: torch.dtype) -> dict[str, Case]:
    found = {name: _typed(case, dtype, dtype) for name, case in _cases().items()}
    found["boxes in float32"] = _typed(_cases()["even"], dtype, torch.float32)
    return found


def _numbers(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.sin(torch.arange(torch.Size(shape).numel(), dtype=torch.float64) * 1.3).reshape(shape).to(dtype)


def _args(op_name: str, case: Case) -> tuple[Any, ...]:
    maps, boxes, size, scale = case
    if op_name == "roi_pool_backward":
        return _numbers((len(boxes), maps.shape[1], *size), maps.dtype), maps, boxes, scale
    if op_name == "roi_pool_pick":
        return _numbers(tuple(maps.shape), maps.dtype), maps, boxes, size, scale
    return case


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    return [
        Sample(
            name,
            _args(op_name, case),
            exportable=name not in _NOT_EXPORTABLE and dtype != torch.float64,
            differentiable=name not in _NOT_DIFFERENTIABLE,
        )
        for name, case in _typed_cases(dtype).items()
    ]


def _errors(op_name: str) -> list[tuple[str, tuple[Any, ...], str]]:
    maps, boxes, size = _maps(2, 4, 9, 8).float(), _regions(3, 2, 9, 8).float(), [3, 2]
    first = {"roi_pool": (), "roi_pool_backward": (_maps(3, 4, 3, 2).float(),), "roi_pool_pick": (maps,)}[op_name]
    last = () if op_name == "roi_pool_backward" else (size,)
    return [
        ("dtype of input", (*first, maps.long(), boxes, *last), "input must be float16, bfloat16, float32 or float64"),
        ("rank of input", (*first, maps[0], boxes, *last), r"input must be \[N, C, H, W\], got \[4, 9, 8\]"),
        (
            "dtype of boxes",
            (*first, maps, boxes.double(), *last),
            r"boxes must have the dtype of input \(torch.float32\) or be",
        ),
        ("rank of boxes", (*first, maps, boxes[:, 1:], *last), r"boxes must be \[K, 5\], got \[3, 4\]"),
    ]


def _own_errors(op_name: str) -> list[tuple[str, tuple[Any, ...], str]]:
    maps, boxes, size = _maps(2, 4, 9, 8).float(), _regions(3, 2, 9, 8).float(), [3, 2]
    grad, wide = _maps(3, 4, 3, 2).float(), maps[:, :, :1, :1].expand(2, 4, 2**16, 2**15)
    pixels = "input must have at most 2147483647 pixels in a map, got 2147483648"
    shape = r"grad must be \[3, 4, rows, columns\] with rows and columns, got"
    if op_name == "roi_pool_backward":
        return [
            ("dtype of grad", (grad.double(), maps, boxes), r"grad must have the dtype of input \(torch.float32\)"),
            ("rank of grad", (grad[0], maps, boxes), rf"{shape} \[4, 3, 2\]"),
            ("regions of grad", (grad[:2], maps, boxes), rf"{shape} \[2, 4, 3, 2\]"),
            ("no bins", (grad[..., :0], maps, boxes), rf"{shape} \[3, 4, 3, 0\]"),
            ("scale", (grad, maps, boxes, math.inf), "spatial_scale must be finite, got another number"),
            ("pixels", (grad, wide, boxes), pixels),
        ]
    if op_name == "roi_pool_pick":
        return [
            ("dtype of values", (maps.double(), maps, boxes, size), r"values must have the dtype of input"),
            ("scale", (maps, maps, boxes, size, math.nan), "spatial_scale must be finite, got another number"),
            ("shape of values", (maps[:1], maps, boxes, size), r"values must have the shape of input \(\[2, 4, 9, 8"),
            ("pixels", (wide, wide, boxes, size), pixels),
        ]
    return [
        ("three sizes", (maps, boxes, [3, 2, 1]), r"output_size must be two positive numbers, got \[3, 2, 1\]"),
        ("scale", (maps, boxes, size, math.nan), "spatial_scale must be finite, got another number"),
        ("size of none", (maps, boxes, [3, 0]), r"output_size must be two positive numbers, got \[3, 0\]"),
    ]


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    found = _errors(op_name) + _own_errors(op_name)
    return [ErrorSample(name, args, message) for name, args, message in found]


def tolerances(op_name: str) -> Tolerances:
    return Tolerances(exact=op_name != "roi_pool_backward")
