"""Inputs of the wing: maps and regions. Coordinates keep away from where rounding decides, unless a name says so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...._samples import ErrorSample, Sample, Tolerances

#: (maps, regions, output_size, spatial_scale, sampling_ratio)
Case = tuple[Tensor, Tensor, list[int], float, int]


def _maps(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _regions(count: int, images: int, height: float, width: float, seed: int = 0) -> Tensor:
    """Inside a map and a little beyond."""
    generator = torch.Generator().manual_seed(seed)
    limits = torch.tensor([width, height, width, height], dtype=torch.float64)
    corners = torch.rand(count, 2, 2, generator=generator, dtype=torch.float64).sort(1).values.flatten(1)
    images_of = torch.randint(images, (count, 1), generator=generator)
    return torch.cat((images_of.double(), (1.2 * corners - 0.1) * limits), 1)


def _rows(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)


def _cases() -> dict[str, Case]:
    nan, infinity = torch.nan, torch.inf
    plain = _regions(6, 2, 9, 8)
    return {
        "even": (_maps(2, 12, 9, 8), plain, [3, 2], 1.0, 2),
        "odd": (_maps(2, 18, 7, 11), _regions(5, 2, 28, 44), [2, 3], 0.25, 2),
        "scaled": (_maps(2, 24, 10, 6), _regions(4, 2, 20, 12), [3, 2], 0.5, 2),
        "adaptive": (_maps(2, 12, 9, 8), plain, [3, 2], 1.0, -1),
        "three samples": (_maps(2, 12, 9, 8), plain, [3, 2], 1.0, 3),
        "small": (_maps(1, 2, 4, 3), _regions(2, 1, 4, 3), [1, 2], 1.0, 2),
        "small, adaptive": (_maps(1, 2, 3, 4), _regions(2, 1, 3, 4, seed=1), [2, 1], 1.0, 0),
        "no regions": (_maps(2, 12, 9, 8), _rows(), [3, 2], 1.0, 2),
        "no channels": (_maps(2, 0, 9, 8), plain, [3, 2], 1.0, 2),
        "no pixels": (_maps(2, 12, 0, 8), plain, [3, 2], 1.0, 2),
        "no images": (_maps(0, 12, 9, 8), _rows(), [3, 2], 1.0, 2),
        "one pixel": (_maps(1, 4, 1, 1), _regions(3, 1, 2, 2), [2, 2], 1.0, 2),
        "one bin": (_maps(1, 5, 8, 8), _regions(3, 1, 8, 8), [1, 1], 1.0, -1),
        "R-FCN": (_maps(1, 98, 12, 15), _regions(20, 1, 192, 240), [7, 7], 0.0625, 2),
        "R-FCN, adaptive": (_maps(1, 98, 24, 31), _regions(20, 1, 384, 496), [7, 7], 0.0625, -1),
        "many channels": (_maps(1, 84, 6, 7), _regions(40, 1, 6, 7), [2, 2], 1.0, 2),
        "many regions": (_maps(3, 4, 9, 8), _regions(700, 3, 9, 8), [2, 2], 1.0, 2),
        "large map": (_maps(1, 4, 70, 90), _regions(9, 1, 70, 90), [2, 2], 1.0, -1),
        "channels last": (
            _maps(2, 36, 9, 8).to(memory_format=torch.channels_last),
            plain,
            [3, 2],
            1.0,
            2,
        ),
        "transposed": (_maps(2, 12, 8, 9).transpose(2, 3), plain, [3, 2], 1.0, -1),
        "columns apart": (_maps(2, 12, 9, 8), plain.repeat_interleave(2, 1)[:, ::2], [3, 2], 1.0, 2),
        "halves and whole pixels": (
            _maps(1, 4, 8, 8),
            _rows((0, 0.5, 1.5, 5.5, 6.5), (0, 2, 2, 6, 6), (0, -0.5, -0.5, 0.5, 0.5), (0, 2.5, 3.5, 2.5, 3.5)),
            [2, 2],
            1.0,
            -1,
        ),
        "reversed": (
            _maps(1, 4, 8, 8),
            _rows(
                (0, 5.3125, 6.3125, 1.0625, 2.1875),
                (0, 6.3125, 1.1875, 2.0625, 5.4375),
                (0, 3.3125, 3.3125, 3.3125, 3.3125),
            ),
            [2, 2],
            1.0,
            2,
        ),
        "reversed, adaptive": (
            _maps(1, 4, 8, 8),
            _rows(
                (0, 5.3125, 6.3125, 1.0625, 2.1875),
                (0, 6.3125, 1.1875, 2.0625, 5.4375),
                (0, 3.3125, 3.3125, 3.3125, 3.3125),
            ),
            [2, 2],
            1.0,
            -1,
        ),
        "outside": (
            _maps(1, 4, 8, 8),
            _rows(
                (0, -30.3125, -30.3125, -20.1875, -20.1875),
                (0, 20.3125, 20.3125, 30.1875, 30.1875),
                (0, -7.3125, 3.3125, 20.1875, 30.1875),
                (0, 3.3125, -40.3125, 9.1875, 60.1875),
            ),
            [2, 2],
            1.0,
            2,
        ),
        "huge": (
            _maps(1, 4, 8, 8),
            _rows(
                (0, -6e4, -6e4, 6e4, 6e4),
                (0, 1.3125, -300.0625, 9.1875, 300.0625),
                (0, 5e4, 5e4, 6e4, 6e4),
                (0, -1000, 2.3125, 3.3125, 1001.5),
            ),
            [2, 2],
            1.0,
            -1,
        ),
        "not finite": (
            _maps(1, 4, 8, 8),
            _rows(
                (0, nan, 1, 5, 5),
                (0, 1, 1, infinity, 5),
                (0, 1, -infinity, 5, infinity),
                (0, 1.0625, 1.3125, 5.1875, 6.3125),
            ),
            [2, 2],
            1.0,
            -1,
        ),
    }


#: Where ONNX's formulas fall differently: bins that rounding decides, no plane to look at.
_NOT_EXPORTABLE = ("halves and whole pixels", "no pixels", "huge", "no images")

#: Where PyTorch's own gradient is an accident.
_NOT_DIFFERENTIABLE = ("halves and whole pixels", "huge")


def _special_maps(case: Case) -> Case:
    """NaN in some pixels: what no bin reads must not spoil it."""
    maps = case[0].clone()
    maps[..., 1::3, 2::4] = torch.nan
    return (maps, *case[1:])


def _typed(case: Case, dtype: torch.dtype, boxes: torch.dtype) -> tuple[Any, ...]:
    """In the same memory order."""
    maps, regions, *options = case
    return maps.to(dtype), regions.to(boxes), *options


def _all_cases(dtype: torch.dtype) -> dict[str, tuple[Any, ...]]:
    found = {name: _typed(case, dtype, dtype) for name, case in _cases().items()}
    plain = _cases()["even"]
    found["boxes in float32"] = _typed(plain, dtype, torch.float32)
    found["NaN pixels"] = _typed(_special_maps(plain), dtype, dtype)
    return found


def _grad_for(case: tuple[Any, ...]) -> Tensor:
    maps, boxes, (height, width), *_ = case
    shape = len(boxes), maps.shape[1] // (height * width), height, width
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(numbers * 1.3).reshape(shape).to(maps.dtype)


def _forward_samples(pool: bool, dtype: torch.dtype) -> list[Sample]:
    samples = []
    for name, case in _all_cases(dtype).items():
        maps, boxes, size, scale, ratio = case
        args = (maps, boxes, size, scale) if pool else (maps, boxes, size, scale, ratio, False)
        special = name == "NaN pixels"
        exportable = name not in _NOT_EXPORTABLE and not special
        samples.append(Sample(name, args, exportable, name not in _NOT_DIFFERENTIABLE and not special))
    if not pool:
        for name in ("even", "adaptive", "reversed", "outside", "R-FCN"):
            sample = next(s for s in samples if s.name == name)
            samples.append(Sample(f"{name}, differentiable boxes", (*sample.args[:-1], True)))
    return samples


def _backward_samples(pool: bool, dtype: torch.dtype) -> list[Sample]:
    samples = []
    for name, case in _all_cases(dtype).items():
        maps, boxes, _, scale, ratio = case
        args = (_grad_for(case), boxes, list(maps.shape), scale, *(() if pool else (ratio,)))
        samples.append(Sample(name, args, differentiable=name not in _NOT_DIFFERENTIABLE))
    return samples


def _boxes_backward_samples(dtype: torch.dtype) -> list[Sample]:
    skipped = ("halves and whole pixels", "NaN pixels", "huge")
    cases = {name: case for name, case in _all_cases(dtype).items() if name not in skipped}
    return [Sample(name, (_grad_for(c), c[0], c[1], *c[3:])) for name, c in cases.items()]


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    if op_name == "ps_roi_align_boxes_backward":
        return _boxes_backward_samples(dtype)
    make = _backward_samples if op_name.endswith("backward") else _forward_samples
    return make(op_name.startswith("ps_roi_pool"), dtype)


def _forward_errors(options: tuple[Any, ...]) -> list[ErrorSample]:
    maps, boxes, size = _maps(2, 12, 9, 8).float(), _regions(3, 2, 9, 8).float(), [3, 2]
    wide = maps[:, :, :1, :1].expand(2, 12, 2**15, 2**16)
    errors: list[tuple[str, tuple[Any, ...], str]] = [
        ("dtype of input", (maps.long(), boxes, size), "input must be float16, bfloat16, float32 or float64, got"),
        ("rank of input", (maps[0], boxes, size), r"input must be \[N, C, H, W\], got \[12, 9, 8\]"),
        ("dtype of boxes", (maps, boxes.double(), size), r"boxes must have the dtype of input \(torch.float32\) or be"),
        ("rank of boxes", (maps, boxes[:, 1:], size), r"boxes must be \[K, 5\], got \[3, 4\]"),
        ("three sizes", (maps, boxes, [3, 2, 1]), r"output_size must be two positive numbers, got \[3, 2, 1\]"),
        ("size of none", (maps, boxes, [3, 0]), r"output_size must be two positive numbers, got \[3, 0\]"),
        ("channels", (maps, boxes, [5, 2]), r"input must have a multiple of 5 \* 2 channels, got 12"),
        ("pixels", (wide, boxes, size), "input must have at most 1073741824 pixels in a plane, got 32768 x 65536"),
    ]
    return [ErrorSample(name, (*args, *options), message) for name, args, message in errors]


def _backward_errors(options: tuple[Any, ...]) -> list[ErrorSample]:
    grad, boxes, size = _maps(3, 2, 3, 2).float(), _regions(3, 2, 9, 8).float(), [2, 12, 9, 8]
    shape = r"grad must be \[K, c, h, w\] for 3 boxes and c \* h \* w = 12 channels, got"
    errors: list[tuple[str, tuple[Any, ...], str]] = [
        ("dtype of grad", (grad.long(), boxes, size), "grad must be float16, bfloat16, float32 or float64, got"),
        ("rank of grad", (grad[0], boxes, size), r"grad must be \[N, C, H, W\], got \[2, 3, 2\]"),
        ("dtype of boxes", (grad, boxes.double(), size), r"boxes must have the dtype of grad \(torch.float32\) or be"),
        ("rank of boxes", (grad, boxes[0], size), r"boxes must be \[K, 5\], got \[5\]"),
        ("three sizes", (grad, boxes, size[1:]), r"input_size must be four numbers that are not negative, got \[12, 9"),
        ("negative", (grad, boxes, [2, 12, -1, 8]), "input_size must be four numbers that are not negative, got"),
        ("regions", (grad[:2], boxes, size), rf"{shape} \[2, 2, 3, 2\]"),
        ("channels", (grad[:, :1], boxes, size), rf"{shape} \[3, 1, 3, 2\]"),
        ("bins", (grad[..., :0], boxes, size), rf"{shape} \[3, 2, 3, 0\]"),
        ("pixels", (grad, boxes, [2, 12, 2**16, 2**15]), "input must have at most 1073741824 pixels in a plane, got"),
    ]
    return [ErrorSample(name, (*args, *options), message) for name, args, message in errors]


def _boxes_backward_errors() -> list[ErrorSample]:
    grad, maps, boxes = _maps(3, 2, 3, 2).float(), _maps(2, 12, 9, 8).float(), _regions(3, 2, 9, 8).float()
    errors: list[tuple[str, tuple[Any, ...], str]] = [
        ("dtype of input", (grad, maps.long(), boxes), "input must be float16, bfloat16, float32 or float64, got"),
        ("dtype of grad", (grad.double(), maps, boxes), r"grad must have the dtype of input \(torch.float32\), got"),
        ("rank of grad", (grad[0], maps, boxes), r"grad must be \[K, c, h, w\] for 3 boxes .* got \[2, 3, 2\]"),
        ("rank of boxes", (grad, maps, boxes[:, 1:]), r"boxes must be \[K, 5\], got \[3, 4\]"),
        ("channels", (grad, maps[:, :6], boxes), r"grad must be \[K, c, h, w\] for 3 boxes and c \* h \* w = 6"),
    ]
    return [ErrorSample(name, (*args, 1.0, 2), message) for name, args, message in errors]


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    if op_name == "ps_roi_align_boxes_backward":
        return _boxes_backward_errors()
    options: tuple[Any, ...] = (1.0,) if op_name.startswith("ps_roi_pool") else (1.0, 2)
    if op_name.endswith("backward"):
        return _backward_errors(options)
    return _forward_errors(options if len(options) == 1 else (*options, False))


def tolerances(op_name: str) -> Tolerances:
    return Tolerances()
