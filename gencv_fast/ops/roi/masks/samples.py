"""Inputs of the wing, for the tests and the benchmarks. All tensors are on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...._samples import ErrorSample, Sample, Tolerances

SIZE = (11, 13)


def _normal(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def random_boxes(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """``[count, 4]`` in float64: some reach out of the image; none is rounded differently at another precision.

    Corners are odd multiples of 1/8 and no grown corner of a mask of 3, 4, 6 or 28 cells is near a whole pixel.
    """
    generator = torch.Generator().manual_seed(seed + count)
    size = torch.tensor([width, height], dtype=torch.float64)
    corner = (size * (1.2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 0.2)).floor()
    sides = (size * (0.1 + 0.6 * torch.rand(count, 2, generator=generator, dtype=torch.float64))).ceil()
    return torch.cat((corner + 0.375, corner + sides + 0.625), 1)


def _plain() -> Iterator[tuple[str, Tensor, Tensor, tuple[int, int], int]]:
    yield "plain", _normal(3, 2, 4, 4), random_boxes(3, *SIZE), SIZE, 1
    yield "two masks", _normal(2, 3, 3, 3), random_boxes(2, *SIZE, seed=5), SIZE, 1
    yield "longer masks", _normal(3, 2, 6, 4), random_boxes(3, *SIZE, seed=7), SIZE, 1
    yield "one channel", _normal(3, 1, 4, 4), random_boxes(3, *SIZE), SIZE, 1
    yield "small", _normal(2, 2, 2, 2), torch.tensor([[0.4, 0.3, 3.7, 2.6], [1.4, 0.3, 8.0, 5.2]]).double(), (4, 5), 1
    yield "no masks", _normal(0, 1, 4, 4), random_boxes(0, *SIZE), SIZE, 1
    yield "one cell", _normal(2, 1, 1, 1), random_boxes(2, *SIZE), SIZE, 1
    whole = torch.tensor([[-0.3, -0.4, 12.4, 10.3], [-5.3, -4.3, 20.3, 19.7]], dtype=torch.float64)
    yield "all of the image", _normal(2, 1, 4, 4), whole, SIZE, 1
    outside = [[20.3, 2.3, 30.3, 8.3], [-30.3, 2.3, -20.3, 8.3], [2.3, 30.3, 8.3, 40.3], [2.3, -40.3, 8.3, -30.3]]
    yield "outside", _normal(4, 1, 4, 4), torch.tensor(outside, dtype=torch.float64), SIZE, 1
    thin = [[3.3, 2.3, 3.3, 8.3], [3.3, 2.3, 9.3, 2.3], [3.3, 2.3, 3.4, 2.4], [9.3, 8.3, 3.3, 2.3]]
    yield "without an extent, or reversed", _normal(4, 1, 4, 4), torch.tensor(thin, dtype=torch.float64), SIZE, 1
    yield "no border", _normal(3, 1, 4, 4), random_boxes(3, *SIZE), SIZE, 0
    yield "wide border", _normal(3, 1, 4, 4), random_boxes(3, *SIZE), SIZE, 3
    yield "no rows", _normal(3, 1, 4, 4), random_boxes(3, *SIZE), (0, 5), 1
    yield "shrunk", _normal(2, 1, 28, 28), random_boxes(2, *SIZE), SIZE, 1
    yield "strips", _normal(2, 1, 28, 28), random_boxes(2, 129, 70), (129, 70), 1
    yield "several tiles", _normal(2, 1, 28, 28), torch.tensor([[-700.3, 1.3, 700.7, 8.6], [1.3, 1.3, 1177.0, 9.7]]
        ).double(), (10, 1200), 1  # fmt: skip


def _special() -> Iterator[tuple[str, Tensor, Tensor, tuple[int, int], int]]:
    masks, boxes = _normal(3, 1, 4, 4), random_boxes(3, *SIZE)
    yield "every second", _normal(3, 1, 8, 8)[..., ::2, ::2], boxes.repeat_interleave(2, 1)[:, ::2], SIZE, 1
    yield "transposed", masks.mT.contiguous().mT, boxes.t().contiguous().t(), SIZE, 1
    yield "one mask for all", masks[:1].expand(3, -1, -1, -1), boxes, SIZE, 1
    odd = boxes.clone()
    odd[0, 2], odd[2, 1] = math.nan, math.inf
    yield "boxes not finite", masks, odd, SIZE, 1
    huge = torch.tensor([[-3e4, -2e4, 3e4, 2e4], [-3e4, 3.3, 3e4, 9.4], [3.4, 2.3, 6e4, 5e4]], dtype=torch.float64)
    yield "huge boxes", masks, huge, SIZE, 1
    beyond = torch.tensor([[-1e15, -1e16, 1e16, 1e15], [-1e15, 3.3, 1e15, 9.4], [3.4, 2.3, 1e16, 1e15]])
    yield "boxes beyond every image", masks, beyond.double(), SIZE, 1
    ends = [[-3.4e38, 2.3, 0, 8.3], [0, 2.3, 3.4e38, 8.3], [2.3, -3.4e38, 8.3, 0], [2.3, 0, 8.3, 3.4e38]]
    yield "boxes that overflow as they grow", _normal(4, 1, 4, 4), torch.tensor(ends, dtype=torch.float64), SIZE, 1


_EXTREME = ("boxes not finite", "huge boxes", "boxes beyond every image", "boxes that overflow as they grow")


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    samples = []
    for exportable, (name, masks, boxes, size, padding) in (
        *((True, case) for case in _plain()),
        *((False, case) for case in _special()),
    ):
        if op_name == "paste_masks":
            args: tuple[Any, ...] = (masks.to(dtype), boxes.to(dtype), size, padding)
        else:
            args = (_normal(*masks.shape[:2], *size).to(dtype), boxes.to(dtype), tuple(masks.shape[2:]), padding)
        samples.append(
            Sample(name, args, exportable=exportable or name in _EXTREME, differentiable=name not in _EXTREME)
        )
    if dtype != torch.float32:
        first = samples[0].args
        samples.append(Sample("boxes in fp32", (first[0], first[1].float(), *first[2:]), exportable=False))
    return samples


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    name, size_name = ("masks", "image_size") if op_name == "paste_masks" else ("grad", "mask_size")
    maps, boxes = _normal(2, 1, 4, 4).float(), random_boxes(2, 9, 9).float()
    size = (9, 9)
    cases: list[tuple[str, tuple[Any, ...], str]] = [
        ("dtype", (maps.int(), boxes, size), f"{name} must be float16, .* got torch.int32"),
        ("rank", (maps[0], boxes, size), rf"{name} must be \[K, C, H, W\], got \[1, 4, 4\]"),
        ("dtype of boxes", (maps, boxes.double(), size),
         rf"boxes must have the dtype of {name} \(torch.float32\) or be float32, got torch.float64"),
        ("rank of boxes", (maps, boxes[0], size), r"boxes must be \[2, 4\], got \[4\]"),
        ("columns of boxes", (maps, boxes[:, :3], size), r"boxes must be \[2, 4\], got \[2, 3\]"),
        ("number of boxes", (maps, boxes[:1], size), r"boxes must be \[2, 4\], got \[1, 4\]"),
        ("size", (maps, boxes, (3,)), f"{size_name} must be two numbers, got 1"),
        ("padding", (maps, boxes, size, -1), "padding must not be negative, got -1"),
    ]  # fmt: skip
    if op_name == "paste_masks":
        cases += [
            ("no cells", (maps[..., :0], boxes, size),
             r"masks must have at least one row and one column, got \[2, 1, 4, 0\]"),
            ("negative size", (maps, boxes, (9, -1)), "image_size must not be negative, got -1"),
        ]  # fmt: skip
    else:
        cases.append(("no size", (maps, boxes, (0, 4)), "mask_size must be positive, got 0"))
    return [ErrorSample(*case) for case in cases]


def tolerances(op_name: str) -> Tolerances:
    return Tolerances()
