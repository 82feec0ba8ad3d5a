"""What is special to rpn: torchvision decides, on any pyramid; and the best logits are found in any order of them."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import boxes as torchvision_boxes

import gencv_fast
import gencv_fast.nn
from gencv_fast._dispatch import OPS
from gencv_fast.ops.rpn import samples
from gencv_fast.ops.rpn.reference import all_anchors
from tests.harness.backends import Runner
from tests.harness.compare import assert_same_bits
from tests.harness.parameters import every_isa, ops_and_kernels

OP = OPS["rpn_proposals"]
IMAGES = [(64, 96), (50, 100), (80, 80)]


@pytest.fixture(autouse=True)
def _per_level_suppression(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision shifts levels apart where boxes are few, which rounds: here it never does."""
    monkeypatch.setattr(torchvision_boxes, "_batched_nms_coordinate_trick", torchvision_boxes._batched_nms_vanilla)


def torchvision_rpn(**settings: Any) -> RegionProposalNetwork:
    options = {"pre": 1000, "post": 1000, "nms": 0.7, "score": 0.0, "min_size": 1e-3, **settings}
    both = [{"training": options[k], "testing": options[k]} for k in ("pre", "post")]
    head = RPNHead(8, options.get("anchors", 3))
    generator = options.get("generator")
    rpn = RegionProposalNetwork(generator, head, 0.7, 0.3, 256, 0.5, *both, options["nms"], options["score"])
    rpn.min_size = options["min_size"]
    return rpn.eval()


def torchvision_proposals(
    objectness: list[Tensor], deltas: list[Tensor], anchors: Tensor, image_sizes: list[tuple[int, int]], **settings: Any
) -> tuple[list[Tensor], list[Tensor]]:
    rpn = torchvision_rpn(**settings)
    batch = len(image_sizes)
    # Its own flattening cannot do empty levels.
    flat_objectness = torch.cat([o.permute(0, 2, 3, 1).flatten(1) for o in objectness], 1)
    flat_deltas = [d.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3) for d in deltas]
    boxes = rpn.box_coder.decode(torch.cat(flat_deltas, 1).flatten(0, 1), [anchors] * batch).view(batch, -1, 4)
    return rpn.filter_proposals(boxes, flat_objectness, image_sizes, [o[0].numel() for o in objectness])


def assert_proposals(results: tuple[Tensor, ...], expected: tuple[list[Tensor], list[Tensor]], atol: float) -> None:
    boxes, scores, counts = results
    assert counts.tolist() == [len(b) for b in expected[0]]
    for i, count in enumerate(counts.tolist()):
        torch.testing.assert_close(boxes[i, :count], expected[0][i], atol=atol, rtol=0)
        torch.testing.assert_close(scores[i, :count], expected[1][i], atol=atol, rtol=1e-6)
        assert not boxes[i, count:].any()
        assert not scores[i, count:].any()


def spread_logits(sizes: samples.Sizes, batch: int, seed: int) -> list[Tensor]:
    """No two of an image alike, nor their sigmoids."""
    counts = [a * h * w for a, h, w in sizes]
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.stack([torch.randperm(sum(counts), generator=generator) for _ in range(batch)])
    logits = 8 * ranks.double() / max(1, sum(counts)) - 4
    return [part.reshape(batch, *size) for part, size in zip(logits.split(counts, 1), sizes, strict=True)]


SIDES = st.integers(0, 9)


@st.composite
def pyramids(draw: st.DrawFn) -> tuple[Any, ...]:
    sizes = draw(st.lists(st.tuples(st.integers(1, 4), SIDES, SIDES), min_size=1, max_size=5))
    batch, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**31))
    strides = draw(st.lists(st.integers(2, 40), min_size=2 * len(sizes), max_size=2 * len(sizes)))
    spread = draw(st.sampled_from((0.1, 0.5, 3.0)))
    generator = torch.Generator().manual_seed(seed)
    deltas = [spread * torch.randn(batch, 4 * a, h, w, generator=generator, dtype=torch.float64) for a, h, w in sizes]
    settings = {
        "pre": draw(st.sampled_from((1, 7, 50, 1000))),
        "post": draw(st.sampled_from((1, 5, 40, 300))),
        "nms": draw(st.sampled_from((0.7, 0.3, 0.05, 0.95))),
        "score": draw(st.sampled_from((0.0, 0.3, 0.6))),
        "min_size": draw(st.sampled_from((1e-3, 10.0, 0.0))),
    }
    return spread_logits(sizes, batch, seed), deltas, samples.cell_anchors(sizes, strides), strides, settings


def call(runner: Runner, pyramid: tuple[Any, ...], image_sizes: list[tuple[int, int]]) -> tuple[Tensor, ...]:
    objectness, deltas, cells, strides, limits = pyramid
    sides = [side for size in image_sizes for side in size]
    first = (limits["pre"], limits["post"], limits["nms"], limits["score"], limits["min_size"])
    return runner(OP, objectness, deltas, cells, sides, *first, strides)


@ops_and_kernels(lambda op: op.name == "rpn_proposals", lambda runner: runner.backend == "cpu")
@given(pyramid=pyramids())
@settings(max_examples=60)
def test_torchvision_on_any_pyramid(op: Any, runner: Runner, pyramid: tuple[Any, ...]) -> None:
    objectness, deltas, cells, strides, limits = pyramid
    image_sizes = IMAGES[: len(objectness[0])]
    anchors = all_anchors(objectness, cells, strides)
    expected = torchvision_proposals(objectness, deltas, anchors, image_sizes, **limits)
    assert_proposals(call(runner, pyramid, image_sizes), expected, atol=1e-9)


@every_isa
@pytest.mark.parametrize("post", [1000, 50])
def test_torchvision_on_a_real_pyramid(isa: Runner, post: int) -> None:
    """Large enough for every short cut: sampled thresholds, the spatial index, the early end."""
    sizes = [(3, 50, 68), (3, 25, 34), (3, 13, 17), (3, 7, 9), (3, 4, 5)]
    strides = [s for s in (16, 32, 64, 128, 256) for _ in range(2)]
    objectness = [o.float() for o in spread_logits(sizes, 2, seed=3)]
    deltas = [d.float() for d in samples.head_outputs(sizes)[1]]
    cells = samples.cell_anchors(sizes, strides).float()
    image_sizes = [(800, 1088), (700, 1000)]
    limits = {"pre": 1000, "post": post, "nms": 0.7, "score": 0.1, "min_size": 1e-3}
    anchors = all_anchors(objectness, cells, strides)
    expected = torchvision_proposals(objectness, deltas, anchors, image_sizes, **limits)
    assert min(len(boxes) for boxes in expected[0]) == post
    assert_proposals(call(isa, (objectness, deltas, cells, strides, limits), image_sizes), expected, atol=1e-2)


ORDERS = {
    "random": lambda n, g: torch.randn(n, generator=g),
    "ascending": lambda n, g: torch.randn(n, generator=g).sort().values,
    "descending": lambda n, g: torch.randn(n, generator=g).sort(descending=True).values,
    "quantised": lambda n, g: (4 * torch.randn(n, generator=g)).round() / 4,
    "constant": lambda n, g: torch.full((n,), -1.5),
    "periodic": lambda n, g: torch.arange(n).remainder(7).float(),
    # As far apart as the samples of one plane: the guess is far too high.
    "every fourth high": lambda n, g: torch.randn(n, generator=g) + 10 * (torch.arange(n) % 4 == 0),
    "one peak": lambda n, g: -torch.linspace(-1, 1, n).abs(),
    "few high": lambda n, g: torch.where(torch.rand(n, generator=g) < 1e-3, 5.0, -5.0),
    "half NaN": lambda n, g: torch.where(torch.rand(n, generator=g) < 0.5, math.nan, torch.randn(n, generator=g)),
    "infinite": lambda n, g: torch.tensor([math.inf, -math.inf, 0.0, -0.0])[torch.randint(4, (n,), generator=g)],
}


def in_layout(objectness: Tensor, layout: str) -> Tensor:
    if layout == "channels last":
        return objectness.contiguous(memory_format=torch.channels_last)
    if layout == "cropped":
        return torch.nn.functional.pad(objectness, (3, 5))[..., 3:-5]
    if layout == "spaced":  # cells as far apart as if channels came last, and do not
        anchors = objectness.shape[1]
        return objectness.repeat_interleave(anchors, 3)[..., ::anchors]
    return objectness.mT.contiguous().mT if layout == "transposed" else objectness


@every_isa
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "cropped", "transposed", "spaced"])
@pytest.mark.parametrize("order", ORDERS)
def test_best_logits(isa: Runner, order: str, layout: str) -> None:
    """Boxes that tell their index, none of which is suppressed or filtered away."""
    for dtype, anchors_per_cell, height, width in (
        (torch.float32, 3, 53, 67),
        (torch.float32, 1, 80, 130),
        (torch.float64, 2, 40, 64),
    ):
        n = anchors_per_cell * height * width
        flat = ORDERS[order](n, torch.Generator().manual_seed(n)).to(dtype)
        objectness = flat.view(1, height, width, anchors_per_cell).permute(0, 3, 1, 2)
        x = torch.arange(n, dtype=dtype)
        anchors = torch.stack((x, torch.zeros_like(x), x + 1, torch.ones_like(x)), 1)
        deltas = torch.zeros(1, 1, 1, 1, dtype=dtype).expand(1, 4 * anchors_per_cell, height, width)
        ranked = flat.sort(descending=True, stable=True)
        for k in (1, 100, n // 3, n):
            best = ranked.indices[:k][~ranked.values[:k].isnan()]
            layouts = [in_layout(objectness.contiguous(), layout)]
            boxes, scores, counts = isa(OP, layouts, [deltas], anchors, [1, n], k, k, 1.0)
            assert counts.tolist() == [len(best)]
            assert boxes[0, : len(best), 0].tolist() == best.tolist()
            torch.testing.assert_close(scores[0, : len(best)], flat[best].sigmoid())


def test_half_types_are_computed_in_fp32() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        for sample in samples.sample_inputs("rpn_proposals", dtype)[:3]:
            objectness, deltas, anchors, *rest = sample.args
            wide = OP([o.float() for o in objectness], [d.float() for d in deltas], anchors.float(), *rest)
            boxes, scores, counts = wide
            assert_same_bits(OP(*sample.args), (boxes.to(dtype), scores.to(dtype), counts))


def test_grid_is_that_of_all_anchors() -> None:
    by_name = {s.name: s.args for s in samples.sample_inputs("rpn_proposals", torch.float32)}
    for name in ("grid", "grid, other sizes", "grid by image"):
        objectness, deltas, cells, sizes, *limits, strides = by_name[name]
        anchors = all_anchors(objectness, cells, strides)
        assert_same_bits(OP(*by_name[name]), OP(objectness, deltas, anchors, sizes, *limits))


def test_anchors_alone_may_be_mapped() -> None:
    objectness, deltas, anchors, *rest = samples.sample_inputs("rpn_proposals", torch.float32)[0].args
    for several in (
        torch.stack((anchors, anchors + 5)),
        torch.stack([torch.stack((anchors, anchors + i)) for i in (1, 2)]),
    ):
        dims = ([None] * 2, [None] * 2, 0, *[None] * len(rest))
        mapped = torch.vmap(OP, in_dims=dims)(objectness, deltas, several, *rest)
        for i in range(2):
            assert_same_bits(tuple(r[i] for r in mapped), OP(objectness, deltas, several[i], *rest))


def test_no_levels() -> None:
    for backend in (None, "reference"):
        with pytest.raises(RuntimeError, match="rpn_proposals: objectness must be 1 to 16 tensors, got 0"):
            gencv_fast.rpn_proposals([], [], torch.zeros(0, 4), [], 10, 10, 0.5, backend=backend)


@pytest.mark.parametrize("pairs", [[(20,), (20, 20, 20)], [20, 20], [(20, 20), 20], 20])
@pytest.mark.parametrize(("name", "of"), [("image_sizes", "height, width"), ("strides", "vertical, horizontal")])
def test_pairs(name: str, of: str, pairs: Any) -> None:
    """Numbers that only come to the right count are refused, whatever they are grouped as."""
    objectness, deltas = [torch.zeros(2, 1, 3, 3)] * 2, [torch.zeros(2, 4, 3, 3)] * 2
    sizes = {"image_sizes": [(20, 20)] * 2, "strides": [(8, 8)] * 2, name: pairs}
    message = re.escape(f"rpn_proposals: {name} must be pairs ({of}), got {pairs}.")
    with pytest.raises(RuntimeError, match=message):
        gencv_fast.rpn_proposals(
            objectness, deltas, torch.zeros(2, 4), sizes["image_sizes"], 9, 9, 0.5, strides=sizes["strides"]
        )


def test_symbolic_pairs() -> None:
    """Sizes that depend on the input's, compiled once for all of them."""

    @torch.compile(backend="aot_eager", fullgraph=True, dynamic=True)
    def proposals(objectness: Tensor, deltas: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = objectness.shape[2:]
        sizes, strides = [(8 * height, 8 * width)] * objectness.shape[0], [(height // height * 8, 8)]
        return gencv_fast.rpn_proposals([objectness], [deltas], cells, sizes, 9, 9, 0.5, strides=strides)

    cells = torch.tensor([[-9.0, -9.0, 9.0, 9.0]])
    for height, width in ((4, 6), (5, 3)):
        objectness, deltas = torch.randn(2, 1, height, width), torch.zeros(2, 4, height, width)
        eager = gencv_fast.rpn_proposals(
            [objectness], [deltas], cells, [(8 * height, 8 * width)] * 2, 9, 9, 0.5, strides=[(8, 8)]
        )
        assert_same_bits(proposals(objectness, deltas, cells), eager)


def test_too_many_candidates() -> None:
    shape = (1, 2, 2**15, 2**15)
    objectness, deltas = torch.zeros(1, 1, 1, 1).expand(shape), torch.zeros(1, 1, 1, 1).expand(1, 8, *shape[2:])
    anchors = torch.zeros(1, 4).expand(2**31, 4)
    for backend in (None, "reference"):
        with pytest.raises(RuntimeError, match=r"objectness\[0\] must have at most 2147483647 candidates per image"):
            gencv_fast.rpn_proposals([objectness], [deltas], anchors, [(9, 9)], 10, 10, 0.5, backend=backend)


def test_head_replaces_torchvisions() -> None:
    """The same weights, features and anchors give the proposals of RegionProposalNetwork."""
    torch.manual_seed(0)
    generator = AnchorGenerator(((32,), (64,)), ((0.5, 1.0, 2.0),) * 2)
    rpn = torchvision_rpn(generator=generator, post=60)
    for parameter in rpn.head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    head = gencv_fast.nn.RegionProposalHead(8, 3, post_nms_top_n=60)
    head.load_state_dict(rpn.head.state_dict())
    images = ImageList(torch.zeros(2, 3, 100, 130), [(100, 130), (90, 100)])
    features = [torch.randn(2, 8, 13, 17), torch.randn(2, 8, 7, 9)]
    expected, _ = rpn(images, dict(enumerate(features)))
    strides = [(100 // f.shape[2], 130 // f.shape[3]) for f in features]
    boxes, scores, counts = head(features, torch.cat(generator.cell_anchors), images.image_sizes, strides)
    assert counts.tolist() == [len(b) for b in expected]
    for i, count in enumerate(counts.tolist()):
        torch.testing.assert_close(boxes[i, :count], expected[i], atol=1e-3, rtol=0)
    assert not boxes.requires_grad
    objectness, deltas = head.predict(features)
    assert all(t.requires_grad for t in (*objectness, *deltas))
    assert (scores[:, :-1] >= scores[:, 1:]).all()
