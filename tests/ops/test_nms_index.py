"""The CPU kernels look only where an overlapping box can lie: boxes that would show them looking too near."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import gencv_fast
from gencv_fast._dispatch import OPS
from gencv_fast.ops.nms import samples
from tests.harness.backends import Runner, cpu_runners, using_isa
from tests.harness.compare import assert_same_bits
from tests.harness.parameters import all_dtypes, every_isa
from tests.ops.nms_oracles import torchvision_multiclass_nms, torchvision_nms

WIDE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def borderline(n: int, threshold: float, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    """Each second box overlaps the one before it by just about the threshold: shifted, inside it, or around it."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, columns: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(n, columns, generator=g, dtype=torch.float64)

    corner, size = uniform(-50, 2000, 2), 2 ** uniform(-3, 8) * uniform(0.4, 1, 2)
    wanted = threshold * (1 + (uniform(0, 1) - 0.5) * 2 ** uniform(-22, -3))
    shift = size * (1 - wanted) / (1 + wanted) * torch.nn.functional.one_hot(torch.arange(n) % 2, 2)
    shrink = torch.where(uniform(0, 1) < 0.5, wanted.sqrt(), 1 / wanted.sqrt())
    moved = torch.cat((corner + shift, corner + shift + size), dim=1)
    scaled = torch.cat((corner + size / 2 - size / 2 * shrink, corner + size / 2 + size / 2 * shrink), dim=1)
    first = torch.cat((corner, corner + size), dim=1)
    boxes = torch.stack((first, torch.where(uniform(0, 1) < 0.5, moved, scaled)), dim=1).flatten(0, 1)
    return boxes.to(dtype), samples.random_scores(2 * n).to(dtype)


def at_cell_edges(threshold: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Pairs as far apart as the threshold allows, whose first boxes lie at the very edge of their cells.

    Cells are squares of the next power of two above the longer side: here the index must look as far as it can.
    """
    margin = 5e-3 if dtype == torch.float32 else 1e-5
    first, second = [], []
    for exponent, inside, axis, side in itertools.product(range(4, 8), (False, True), (0, 1), (-1, 1)):
        step = side * torch.eye(2, dtype=torch.float64)[axis]
        size = torch.full((2,), 2.0**exponent * (1 - margin / 10), dtype=torch.float64)
        along = threshold * (1 + margin) if inside else 1.0
        other = size * torch.where(step != 0, along, 1.0)
        distance = (size + other) / 2 * (1 - threshold) / (1 + threshold) * (1 - margin)
        corner_of_cells = 512.0 * torch.tensor([len(first) % 6 + 1, len(first) // 6 + 1])
        centre = corner_of_cells - step * size * margin / 4
        away = centre + step * distance
        first.append(torch.cat((centre - size / 2, centre + size / 2)))
        second.append(torch.cat((away - other / 2, away + other / 2)))
    scores = torch.cat((torch.linspace(1, 0.9, len(first)), torch.linspace(0.5, 0.4, len(second))))
    return torch.stack(first + second).to(dtype), scores.to(dtype)


def subnormal_needles(n: int, dtype: torch.dtype) -> Tensor:
    """Areas of one or two of the smallest numbers there are, where boxes far apart round to the same overlap."""
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    g = torch.Generator().manual_seed(n)
    left = 40 * torch.rand(n, 1, generator=g, dtype=dtype)
    width = 0.5 + 2.5 * torch.rand(n, 1, generator=g, dtype=dtype)
    height = torch.randint(1, 3, (n, 1), generator=g) * torch.full((), smallest, dtype=dtype)
    return torch.cat((left, torch.zeros_like(left), left + width, height), dim=1)


def a_few_ulps(dtype: torch.dtype, seed: int) -> Tensor:
    """Sides of 1 to 8 of the smallest steps that coordinates can take there: centres and windows round."""
    g = torch.Generator().manual_seed(seed)
    step = 2.0
    base = step / torch.finfo(dtype).eps
    cluster = 64 * torch.randint(5, (1500, 2), generator=g)
    corner = base + cluster + step * torch.randint(16, (1500, 2), generator=g).double()
    return torch.cat((corner, corner + step * torch.randint(1, 9, (1500, 2), generator=g)), dim=1).to(dtype)


def scattered(n: int, smallest: float, largest: float, elongation: float, offset: float, seed: int) -> Tensor:
    """Sides and aspect ratios over many octaves, so close together that boxes of unlike size meet."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, columns: int) -> Tensor:
        return low + (high - low) * torch.rand(n, columns, generator=g, dtype=torch.float64)

    side = smallest * (largest / smallest) ** uniform(0, 1, 1)
    ratio = elongation ** uniform(-0.5, 0.5, 1)
    centre = offset + largest * uniform(-1, 1, 2) * uniform(0, 1, 1) ** 6
    half = torch.cat((side * ratio, side / ratio), dim=1) / 2
    jitter = 1 + uniform(-0.2, 0.2, 4)
    return torch.cat((centre - half, centre + half), dim=1) * jitter.where(uniform(0, 1, 1) < 0.5, 1.0)


INDEXED_BOXES = {
    "one octave": (10, 20, 1, 0),
    "mixed scales": (1e-3, 1e5, 1, 0),
    "very mixed scales": (1e-15, 1e15, 1, 0),
    "beyond the octaves": (1e-30, 1e-17, 1, 0),
    "above the octaves": (1e18, 1e24, 1, 0),
    "needles": (1, 100, 1e6, 0),
    "needles of mixed scales": (1e-2, 1e3, 1e4, 0),
    "tiny areas": (1e-21, 1e-19, 4, 0),
    "far away": (1, 60, 2, 1e6),
}


def behind_others(boxes: Tensor, scores: Tensor, others: int) -> tuple[Tensor, Tensor]:
    """With so many small boxes apart from one another that come first and are kept: they fill the index."""
    place = torch.arange(others)
    corner = torch.stack((place % 25, place // 25), dim=1) * 3.0 - 200
    first = torch.cat((corner, corner + 1), dim=1).to(boxes.dtype)
    return torch.cat((first, boxes)), torch.cat((torch.full_like(scores[:1], 2.0).expand(others), scores))


@every_isa
@WIDE
@pytest.mark.parametrize("threshold", [1e-9, 1e-3, 0.1, 1 / 3, 0.5, 0.9, 0.999, 1 - 2**-24])
def test_index_on_borderline_pairs(isa: Runner, threshold: float, dtype: torch.dtype) -> None:
    for others in (0, 190, 191, 192, 193, 300):
        args = behind_others(*borderline(400, threshold, dtype, seed=others), others)
        kept = isa(OPS["nms"], *args, threshold)
        assert kept.tolist() == torchvision_nms(*args, threshold).tolist()
        assert others + 400 < len(kept) < others + 800


@every_isa
@WIDE
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_index_at_cell_edges(isa: Runner, threshold: float, dtype: torch.dtype) -> None:
    boxes, scores = at_cell_edges(threshold, dtype)
    args = behind_others(boxes, scores, 600)
    kept = isa(OPS["nms"], *args, threshold)
    assert kept.tolist() == torchvision_nms(*args, threshold).tolist()
    assert sorted(kept.tolist()) == list(range(600 + len(boxes) // 2)), "each second box was meant to go"


@every_isa
@WIDE
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.97])
def test_index_on_subnormal_needles(isa: Runner, threshold: float, dtype: torch.dtype) -> None:
    boxes = subnormal_needles(700, dtype)
    args = behind_others(boxes, samples.random_scores(700).to(dtype), 250)
    kept = isa(OPS["nms"], *args, threshold)
    assert kept.tolist() == torchvision_nms(*args, threshold).tolist()
    assert 250 < len(kept) < 950


@every_isa
@WIDE
def test_index_on_boxes_a_few_ulps_wide(isa: Runner, dtype: torch.dtype) -> None:
    scores = samples.random_scores(1500).to(dtype)
    for seed in range(30):
        boxes = a_few_ulps(dtype, seed)
        for threshold in (0.3, 0.33, 0.45):
            kept = isa(OPS["nms"], boxes, scores, threshold)
            assert torch.equal(kept, torchvision_nms(boxes, scores, threshold))


@every_isa
@WIDE
@pytest.mark.parametrize("kind", INDEXED_BOXES)
def test_index_on_boxes_of_all_sizes(isa: Runner, kind: str, dtype: torch.dtype) -> None:
    for seed, threshold in enumerate((0.0, 1e-4, 0.05, 0.3, 0.5, 0.97)):
        boxes = scattered(700, *INDEXED_BOXES[kind], seed=seed).to(dtype)
        args = behind_others(boxes, samples.random_scores(700).to(dtype), 250)
        assert isa(OPS["nms"], *args, threshold).tolist() == torchvision_nms(*args, threshold).tolist()


@every_isa
@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("kind", INDEXED_BOXES)
def test_soft_nms_on_boxes_of_all_sizes(isa: Runner, kind: str, method: str) -> None:
    op = OPS["soft_nms"]
    args = (scattered(300, *INDEXED_BOXES[kind], seed=1).float(), samples.random_scores(300).float())
    assert_same_bits(isa(op, *args, 0.1, 0.5, 0.2, method), op.reference(*args, 0.1, 0.5, 0.2, method))


@every_isa
@all_dtypes
@pytest.mark.parametrize("levels", [1, 3, 50, 10**6])
def test_multiclass_nms_sorts_no_further_than_it_must(isa: Runner, levels: int, dtype: torch.dtype) -> None:
    """Thousands of candidates, few results; ties that are longer than any stretch of the sort."""
    boxes = samples.random_boxes(4000, extent=1500).view(2, 2000, 4).to(dtype)
    scores = (samples.random_scores(12_000) * levels).ceil().view(2, 3, 2000).to(dtype) / levels
    for limits in ((10, 12), (700, 1500)):
        args = (boxes, scores, 0.4, 0.05, *limits)
        assert_same_bits(isa(OPS["multiclass_nms"], *args), torchvision_multiclass_nms(*args))


@all_dtypes
def test_instruction_sets_agree(dtype: torch.dtype) -> None:
    boxes = torch.cat([samples.random_boxes(3000), scattered(3000, 1e-2, 1e4, 10, 0, seed=3)]).to(dtype)
    scores = samples.random_scores(6000).to(dtype)
    batch, by_class = boxes.view(4, 1500, 4), scores.view(4, 1, 1500).expand(4, 3, 1500)
    calls: list[tuple[Any, ...]] = [
        (gencv_fast.nms, boxes, scores, 0.4),
        (gencv_fast.batched_nms, boxes, scores, torch.arange(6000) % 5, 0.4),
        (gencv_fast.soft_nms, boxes[:1500], scores[:1500], 0.3, 0.5, 0.05, "linear"),
        (gencv_fast.soft_nms, boxes[:1500], scores[:1500], 0.3, 0.5, 0.05, "gaussian"),
        (gencv_fast.multiclass_nms, batch, by_class, 0.4, 0.1, 200, 500),
    ]
    for function, *args in calls:
        results = []
        for runner in cpu_runners():
            with using_isa(runner.isa):
                result = function(*args, backend="cpu")
                results.append(result if isinstance(result, tuple) else (result,))
        for other in results[1:]:
            assert_same_bits(other, results[0])
