"""What is special to nms: torchvision decides, on any boxes; many boxes; the spatial index of the CPU kernel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops.boxes import _batched_nms_vanilla

import gencv_fast
from benchmarks.checks import assert_greedy
from gencv_fast._dispatch import OPS, Op
from gencv_fast.ops.nms import samples
from tests.harness.backends import Runner, cpu_runners, using_isa
from tests.harness.compare import assert_same_bits
from tests.harness.numerics import threads
from tests.harness.parameters import ops_and_kernels

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
THRESHOLDS = (0.5, 0.0, 1.0, -0.5, 0.25, 1 / 3, 0.7, 1e-7, 1 - 2**-24, 2.0, math.nan)


def only(*names: str) -> Callable[[Op], bool]:
    return lambda op: op.name in names


def widened(tensor: Tensor) -> Tensor:
    """torchvision's rule in fp32 is the rule for fp16 and bf16."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def torchvision_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return torchvision.ops.nms(widened(boxes), widened(scores), iou_threshold)


def torchvision_batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    kept = _batched_nms_vanilla(widened(boxes), widened(scores), idxs, iou_threshold).sort().values
    # Its own last sort is not stable.
    return kept[scores[kept].sort(stable=True, descending=True).indices]


def torchvision_multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_output_per_class: int,
    max_total: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Image by image and class by class."""
    indices = torch.full((len(boxes), max_total, 2), -1)
    best_scores, counts = scores.new_zeros(len(boxes), max_total), torch.zeros(len(boxes), dtype=torch.int64)
    for image, (image_boxes, image_scores) in enumerate(zip(boxes, scores, strict=True)):
        found = []
        for class_id, class_scores in enumerate(image_scores):
            candidates = (class_scores.double() > score_threshold).nonzero()[:, 0]
            kept = torchvision_nms(image_boxes[candidates], class_scores[candidates], iou_threshold)
            found += [(class_id, int(box)) for box in candidates[kept[:max_output_per_class]]]
        found.sort(key=lambda pair: (-float(image_scores[pair]), *pair))
        counts[image] = len(found[:max_total])
        for place, pair in enumerate(found[:max_total]):
            indices[image, place] = torch.tensor(pair)
            best_scores[image, place] = image_scores[pair]
    return indices, best_scores, counts


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


@pytest.fixture(params=cpu_runners(), ids=lambda runner: runner.name)
def isa(request: pytest.FixtureRequest) -> Runner:
    return request.param


def behind_others(boxes: Tensor, scores: Tensor, others: int) -> tuple[Tensor, Tensor]:
    """With so many small boxes apart from one another that come first and are kept: they fill the index."""
    place = torch.arange(others)
    corner = torch.stack((place % 25, place // 25), dim=1) * 3.0 - 200
    first = torch.cat((corner, corner + 1), dim=1).to(boxes.dtype)
    return torch.cat((first, boxes)), torch.cat((torch.full_like(scores[:1], 2.0).expand(others), scores))


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("threshold", [1e-9, 1e-3, 0.1, 1 / 3, 0.5, 0.9, 0.999, 1 - 2**-24])
def test_index_on_borderline_pairs(isa: Runner, threshold: float, dtype: torch.dtype) -> None:
    for others in (0, 190, 191, 192, 193, 300):
        args = behind_others(*borderline(400, threshold, dtype, seed=others), others)
        kept = isa(OPS["nms"], *args, threshold)
        assert kept.tolist() == torchvision_nms(*args, threshold).tolist()
        assert others + 400 < len(kept) < others + 800


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_index_at_cell_edges(isa: Runner, threshold: float, dtype: torch.dtype) -> None:
    boxes, scores = at_cell_edges(threshold, dtype)
    args = behind_others(boxes, scores, 600)
    kept = isa(OPS["nms"], *args, threshold)
    assert kept.tolist() == torchvision_nms(*args, threshold).tolist()
    assert sorted(kept.tolist()) == list(range(600 + len(boxes) // 2)), "each second box was meant to go"


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.97])
def test_index_on_subnormal_needles(isa: Runner, threshold: float, dtype: torch.dtype) -> None:
    boxes = subnormal_needles(700, dtype)
    args = behind_others(boxes, samples.random_scores(700).to(dtype), 250)
    kept = isa(OPS["nms"], *args, threshold)
    assert kept.tolist() == torchvision_nms(*args, threshold).tolist()
    assert 250 < len(kept) < 950


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_index_on_boxes_a_few_ulps_wide(isa: Runner, dtype: torch.dtype) -> None:
    scores = samples.random_scores(1500).to(dtype)
    for seed in range(30):
        boxes = a_few_ulps(dtype, seed)
        for threshold in (0.3, 0.33, 0.45):
            kept = isa(OPS["nms"], boxes, scores, threshold)
            assert torch.equal(kept, torchvision_nms(boxes, scores, threshold))


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("kind", INDEXED_BOXES)
def test_index_on_boxes_of_all_sizes(isa: Runner, kind: str, dtype: torch.dtype) -> None:
    for seed, threshold in enumerate((0.0, 1e-4, 0.05, 0.3, 0.5, 0.97)):
        boxes = scattered(700, *INDEXED_BOXES[kind], seed=seed).to(dtype)
        args = behind_others(boxes, samples.random_scores(700).to(dtype), 250)
        assert isa(OPS["nms"], *args, threshold).tolist() == torchvision_nms(*args, threshold).tolist()


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("kind", INDEXED_BOXES)
def test_soft_nms_on_boxes_of_all_sizes(isa: Runner, kind: str, method: str) -> None:
    op = OPS["soft_nms"]
    args = (scattered(300, *INDEXED_BOXES[kind], seed=1).float(), samples.random_scores(300).float())
    assert_same_bits(isa(op, *args, 0.1, 0.5, 0.2, method), op.reference(*args, 0.1, 0.5, 0.2, method))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("levels", [1, 3, 50, 10**6])
def test_multiclass_nms_sorts_no_further_than_it_must(isa: Runner, levels: int, dtype: torch.dtype) -> None:
    """Thousands of candidates, few results; ties that are longer than any stretch of the sort."""
    boxes = samples.random_boxes(4000, extent=1500).view(2, 2000, 4).to(dtype)
    scores = (samples.random_scores(12_000) * levels).ceil().view(2, 3, 2000).to(dtype) / levels
    for limits in ((10, 12), (700, 1500)):
        args = (boxes, scores, 0.4, 0.05, *limits)
        assert_same_bits(isa(OPS["multiclass_nms"], *args), torchvision_multiclass_nms(*args))


def crowd(n: int, objects: int, extent: float) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    centre = extent * torch.rand(objects, 2, generator=g)
    size = 20 + 80 * torch.rand(objects, 2, generator=g)
    which = torch.randint(objects, (n,), generator=g)
    boxes = torch.cat((centre - size / 2, centre + size / 2), dim=1)[which]
    return boxes + 3 * torch.randn(n, 4, generator=g), torch.rand(n, generator=g)


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
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
