"""What is special to nms: torchvision decides, on any boxes and on many."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gencv_fast
from benchmarks.checks import assert_greedy
from gencv_fast._dispatch import OPS, Op
from gencv_fast.ops.nms import samples
from tests.harness.backends import Runner, cpu_runners
from tests.harness.compare import assert_same_bits
from tests.harness.numerics import threads
from tests.harness.parameters import every_isa, ops_and_kernels
from tests.ops.nms_oracles import torchvision_batched_nms, torchvision_multiclass_nms, torchvision_nms

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
THRESHOLDS = (0.5, 0.0, 1.0, -0.5, 0.25, 1 / 3, 0.7, 1e-7, 1 - 2**-24, 2.0, math.nan)


def only(*names: str) -> Callable[[Op], bool]:
    return lambda op: op.name in names


ORACLES = {"nms": torchvision_nms, "batched_nms": torchvision_batched_nms}

COORDINATES = {
    "integer grid": st.integers(0, 6).map(float),
    "quarters": st.integers(-8, 8).map(lambda i: i / 4),
    "any": st.floats(-1e4, 1e4, width=32),
    "extreme": st.sampled_from((0.0, -0.0, 1.0, 1e-40, 1e-20, 3e4, 32769.0, 65504.0, 1e6, 1e6 + 0.0625, 1e30, -1e30)),
    "not finite": st.sampled_from((0.0, 1.0, 2.0, 5.0, math.nan, math.inf, -math.inf)),
}
SCORES = {
    "tied": st.sampled_from((0.0, -0.0, 0.5, 1.0)),
    "any": st.floats(-1, 1, width=32),
    "not finite": st.sampled_from((0.0, 1.0, -1.0, math.nan, math.inf, -math.inf)),
}
CLASSES = st.sampled_from((0, 1, 2, -1, samples.INT64.min, samples.INT64.max))


@st.composite
def few_boxes(draw: st.DrawFn, ordered: bool) -> Tensor:
    """Drawn one by one, so that a failure shrinks to a few boxes."""
    kind = draw(st.sampled_from(sorted(COORDINATES)))
    corners = draw(st.lists(st.tuples(*[COORDINATES[kind]] * 4), max_size=12))
    boxes = torch.tensor(corners, dtype=torch.float64).view(-1, 4)
    if ordered:
        low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
        boxes = torch.cat((low, high), dim=1)
    return boxes


@st.composite
def many_boxes(draw: st.DrawFn) -> Tensor:
    """Around the sizes at which kernels change their ways, from a seed."""
    n = draw(st.sampled_from((1, 31, 33, 63, 64, 65, 129, 191, 192, 193, 260)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    spread = draw(st.sampled_from((0, 3, 30, 300, 3000)))
    scale = draw(st.sampled_from((1.0, 0.125, 1e-3, 100.0)))
    offset = draw(st.sampled_from((0.0, -500.0, 40_000.0, 1e6)))
    corner = spread * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    size = 1 + draw(st.sampled_from((0.1, 10, 100))) * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        corner, size = corner.round(), size.round()
    return offset + scale * torch.cat((corner, corner + size), dim=1)


@st.composite
def problems(draw: st.DrawFn, with_classes: bool) -> tuple[Any, ...]:
    boxes = draw(st.one_of(few_boxes(ordered=True), few_boxes(ordered=False), many_boxes()))
    n, dtype = len(boxes), draw(st.sampled_from(DTYPES))
    if n <= 12:
        kind = draw(st.sampled_from(sorted(SCORES)))
        scores = torch.tensor(draw(st.lists(SCORES[kind], min_size=n, max_size=n)), dtype=torch.float64)
        classes = torch.tensor(draw(st.lists(CLASSES, min_size=n, max_size=n)), dtype=torch.int64)
    else:
        levels = draw(st.sampled_from((1, 5, 10**6)))
        scores = (samples.random_scores(n) * levels).floor() / levels
        classes = torch.arange(n) % draw(st.sampled_from((1, 2, 7)))
    threshold = draw(st.one_of(st.sampled_from(THRESHOLDS), st.floats(0, 1)))
    args = (boxes.to(dtype), scores.to(dtype))
    return (*args, classes, threshold) if with_classes else (*args, threshold)


@ops_and_kernels(only("nms", "batched_nms"))
def test_torchvision_agrees(op: Op, runner: Runner) -> None:
    examples = 10 if runner.interpreted else 120

    @settings(max_examples=examples)
    @given(problems(with_classes=op.name == "batched_nms"))
    def check(args: tuple[Any, ...]) -> None:
        assert runner(op, *args).tolist() == ORACLES[op.name](*args).tolist()

    check()


@pytest.mark.full
@ops_and_kernels(only("nms", "batched_nms"))
def test_torchvision_agrees_on_many_problems(op: Op, runner: Runner) -> None:
    @settings(max_examples=150 if runner.interpreted else 4000)
    @given(problems(with_classes=op.name == "batched_nms"))
    def check(args: tuple[Any, ...]) -> None:
        assert runner(op, *args).tolist() == ORACLES[op.name](*args).tolist()

    check()


@ops_and_kernels(only("multiclass_nms"))
def test_torchvision_agrees_image_by_image(op: Op, runner: Runner) -> None:
    @settings(max_examples=40)
    @given(problems(with_classes=False), st.integers(1, 3), st.integers(0, 15), st.integers(0, 30))
    def check(problem: tuple[Any, ...], classes: int, per_class: int, total: int) -> None:
        boxes, scores, threshold = problem
        by_class = torch.stack([scores.roll(7 * i) for i in range(classes)])
        pair = torch.stack((boxes, boxes.flip(0))), torch.stack((by_class, by_class.flip(0)))
        args = (*pair, threshold, 0.25, per_class, total)
        assert_same_bits(runner(op, *args), torchvision_multiclass_nms(*args))

    check()


@ops_and_kernels(only("soft_nms"))
def test_soft_nms_equals_the_reference(op: Op, runner: Runner) -> None:
    @settings(max_examples=40)
    @given(
        problems(with_classes=False),
        st.sampled_from(("linear", "gaussian")),
        st.sampled_from((0.5, 1e-3, 100.0)),
        st.sampled_from((1e-3, 0.0, -math.inf, 0.4)),
    )
    def check(problem: tuple[Any, ...], method: str, sigma: float, score_threshold: float) -> None:
        args = (*problem, sigma, score_threshold, method)
        assert_same_bits(runner(op, *args), op.reference(*args))

    check()


def naive_soft_nms(boxes: Tensor, scores: Tensor, decay: Callable[[float], float]) -> tuple[list[int], list[float]]:
    """The paper's pseudo-code, box by box."""
    left = dict(enumerate(scores.tolist()))
    taken: list[int] = []
    decayed: list[float] = []
    while left and max(left.values()) > 1e-3:
        best = max(left, key=lambda i: left[i])
        taken.append(best)
        decayed.append(left.pop(best))
        overlaps = torchvision.ops.box_iou(boxes[best : best + 1], boxes)[0].tolist()
        left = {i: score * decay(overlaps[i]) for i, score in left.items()}
    return taken, decayed


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_of_the_paper(method: str) -> None:
    boxes, scores = samples.random_boxes(60, extent=150), samples.random_scores(60)
    decays = {
        "linear": lambda iou: 1 - iou if iou > 0.3 else 1.0,
        "gaussian": lambda iou: math.exp(-iou * iou / 0.5),
    }
    taken, decayed = naive_soft_nms(boxes, scores, decays[method])
    indices, kept_scores = gencv_fast.soft_nms(boxes, scores, method=method)
    assert indices.tolist() == taken
    torch.testing.assert_close(kept_scores, torch.tensor(decayed, dtype=torch.float64), rtol=1e-12, atol=0)


@ops_and_kernels(only("nms"))
def test_overlap_must_be_greater_than_the_threshold(op: Op, runner: Runner) -> None:
    """An IoU of exactly one third, in every dtype that can hold the boxes."""
    boxes, scores = torch.tensor([[0.0, 0, 2, 1], [1, 0, 3, 1]]), torch.tensor([1.0, 0.5])
    third = torch.tensor(1.0) / 3
    for dtype in DTYPES:
        exact = 1 / 3 if dtype == torch.float64 else float(third)
        for threshold, kept in ((exact, [0, 1]), (math.nextafter(exact, 0), [0]), (math.nextafter(exact, 1), [0, 1])):
            assert runner(op, boxes.to(dtype), scores.to(dtype), threshold).tolist() == kept


@ops_and_kernels(only("nms"))
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_attained_thresholds(op: Op, runner: Runner, dtype: torch.dtype) -> None:
    """Every overlap that two boxes of a grid have, as threshold: a product of the union is not a division."""
    g = torch.Generator().manual_seed(5)
    corner = torch.randint(0, 12, (90, 2), generator=g)
    boxes = torch.cat((corner, corner + torch.randint(1, 14, (90, 2), generator=g)), dim=1).to(dtype)
    scores = samples.random_scores(90).to(dtype)
    attained = torchvision.ops.box_iou(boxes, boxes).unique()
    for threshold in attained[:: 100 if runner.interpreted else 3].tolist():
        assert runner(op, boxes, scores, threshold).tolist() == torchvision_nms(boxes, scores, threshold).tolist()


@ops_and_kernels(only("nms"))
def test_order_of_scores(op: Op, runner: Runner) -> None:
    """NaN first, -0 equal to +0, equal scores by index."""
    apart = torch.arange(8.0)[:, None] * 10 + torch.tensor([0.0, 0, 1, 1])
    scores = torch.tensor([0.0, -math.inf, -0.0, math.nan, math.inf, 0.0, -math.nan, -1.0])
    assert runner(op, apart, scores, 0.5).tolist() == [3, 6, 4, 0, 2, 5, 7, 1]


def crowd(n: int, objects: int, extent: float) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    centre = extent * torch.rand(objects, 2, generator=g)
    size = 20 + 80 * torch.rand(objects, 2, generator=g)
    which = torch.randint(objects, (n,), generator=g)
    boxes = torch.cat((centre - size / 2, centre + size / 2), dim=1)[which]
    return boxes + 3 * torch.randn(n, 4, generator=g), torch.rand(n, generator=g)


@every_isa
@pytest.mark.parametrize("count", [1, 2])
def test_more_than_65536_boxes(isa: Runner, count: int) -> None:
    # Other boxes for each count: memory kept from one call must not help the next.
    boxes, scores = crowd(70_000 + count, objects=150, extent=3000)
    classes = torch.arange(len(boxes)) % 80
    with threads(count):
        kept = isa(OPS["nms"], boxes, scores, 0.5)
        kept_by_class = isa(OPS["batched_nms"], boxes, scores, classes, 0.5)
    assert torch.equal(kept, torchvision_nms(boxes, scores, 0.5))
    assert torch.equal(kept_by_class, torchvision_batched_nms(boxes, scores, classes, 0.5))


@pytest.mark.full
@ops_and_kernels(only("nms", "batched_nms"), lambda runner: runner.order == "forward" or runner.device == "cuda")
def test_more_than_65536_boxes_on_a_gpu(op: Op, runner: Runner) -> None:
    boxes, scores = crowd(70_000, objects=150, extent=3000)
    args = (boxes, scores, torch.arange(len(boxes)) % 80, 0.5) if op.name == "batched_nms" else (boxes, scores, 0.5)
    assert torch.equal(runner(op, *args).cpu(), ORACLES[op.name](*args))


def test_100_000_sparse_boxes() -> None:
    """Too many for torchvision: the definition of greedy suppression proves the result."""
    boxes, scores = samples.random_boxes(100_000, extent=10_000).float(), samples.random_scores(100_000).float()
    first, *others = (runner(OPS["nms"], boxes, scores, 0.5) for runner in cpu_runners())
    assert_greedy(first, boxes, scores, 0.5)
    assert all(torch.equal(other, first) for other in others)
