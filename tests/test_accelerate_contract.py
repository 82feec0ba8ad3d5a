"""torchvision's contract under `accelerate`: results, dtypes, errors, gradients, TorchScript, torch.compile, export."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models.detection import roi_heads
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms
from torchvision.ops import boxes as box_ops

import gencv_fast
from gencv_fast._accelerate.routes import KernelRoute
from gencv_fast._accelerate.torchvision import table
from tests.harness.accelerated import (
    BOXES,
    CODER,
    FEW,
    LABELS,
    LEFT_ALONE,
    LEVELS,
    MASKS,
    NONE,
    OTHERS,
    PASTED,
    SCORES,
    SERVED,
    SMALL_AND_LARGE,
    Call,
    OtherPooler,
    outcome,
    pooling,
    proposing,
    ran,
    roi_targets,
    rpn_targets,
    scored_boxes,
)


@pytest.fixture
def accelerated() -> Iterator[gencv_fast.Acceleration]:
    with gencv_fast.accelerate("torchvision") as acceleration:
        yield acceleration


def test_every_route_is_tested() -> None:
    on_a_gpu = {route.target for route in table().routes if isinstance(route, KernelRoute) and route.device == "cuda"}
    assert {route.target for route in table().routes} == set(SERVED) | on_a_gpu


@pytest.mark.parametrize("target", SERVED)
def test_ours_runs(target: str) -> None:
    """Ours runs inside, the original before and after, and all give the same."""
    before = SERVED[target]()
    assert not ran(SERVED[target])
    with gencv_fast.accelerate("torchvision") as acceleration:
        (route,) = (r for r in acceleration.routes if r.target == target)
        assert ran(SERVED[target]) == {route.to.removeprefix("gencv_fast.")}
        torch.testing.assert_close(SERVED[target](), before)
    assert not ran(SERVED[target])


def assert_same_outcome(got: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """The same result, of the same type, or the same error."""
    (kind, value), (expected_kind, expected_value) = got, expected
    assert kind == expected_kind, value
    assert type(value) is type(expected_value)
    if kind == "result":
        torch.testing.assert_close(value, expected_value, rtol=0, atol=0)
    else:
        assert value == expected_value


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_ours_does_not_serve_runs_the_original(name: str) -> None:
    operator, call = LEFT_ALONE[name]
    expected = outcome(call)
    with gencv_fast.accelerate():
        assert_same_outcome(outcome(call), expected)
        assert operator not in ran(lambda: outcome(call))


@pytest.mark.parametrize("backend", ["reference", "cuda"])
def test_a_backend_that_serves_nothing_here_leaves_all_to_the_original(accelerated: Any, backend: str) -> None:
    with gencv_fast.use_backend(backend):
        for call in SERVED.values():
            assert not ran(call)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 200, 1500])  # from 1,001 boxes on torchvision loops over the classes
def test_the_same_boxes_are_kept(n: int, dtype: torch.dtype) -> None:
    boxes, scores, labels = scored_boxes(n, dtype)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        kept = torchvision.ops.nms(boxes, scores, threshold)
        kept_per_class = batched_nms(boxes, scores, labels, threshold)
        with gencv_fast.accelerate():
            assert torch.equal(torchvision.ops.nms(boxes, scores, threshold), kept)
            assert torch.equal(batched_nms(boxes, scores, labels, threshold), kept_per_class)
            assert torch.equal(
                batched_nms(boxes=boxes, scores=scores, idxs=labels, iou_threshold=threshold), kept_per_class
            )


def test_autocast() -> None:
    """torchvision casts half precision up in front of its kernel, which ours replaces."""
    boxes, scores = BOXES.bfloat16(), SCORES.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        expected = outcome(lambda: torchvision.ops.nms(boxes, scores, 0.5))
        with gencv_fast.accelerate():
            assert_same_outcome(outcome(lambda: torchvision.ops.nms(boxes, scores, 0.5)), expected)
            assert ran(lambda: torchvision.ops.nms(boxes, scores, 0.5)) == {"nms"}


def test_opcheck(accelerated: Any) -> None:
    for boxes in (BOXES, BOXES.clone().requires_grad_()):
        torch.library.opcheck(torch.ops.torchvision.nms.default, (boxes, SCORES, 0.5))


class Suppress(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        return torchvision.ops.batched_nms(boxes, scores, labels, 0.5)


@pytest.mark.parametrize(
    "portable",
    [
        torch.jit.script,
        lambda module: torch.jit.trace(module, (BOXES, SCORES, LABELS)),
        lambda module: torch.export.export(module, (BOXES, SCORES, LABELS)).module(),
        lambda module: torch.export.export(module, (BOXES, SCORES, LABELS), strict=True).module(),
    ],
    ids=["script", "trace", "export", "strict export"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_graphs_that_leave_the_process_hold_the_original(accelerated: Any, portable: Callable[..., Any]) -> None:
    expected = Suppress()(BOXES, SCORES, LABELS)
    graph = portable(Suppress())
    assert torch.equal(graph(BOXES, SCORES, LABELS), expected)
    assert "gencv_fast" not in str(graph.graph)
    # Whoever runs them in this process gets ours behind torchvision's dispatcher entry.
    assert ran(lambda: graph(BOXES, SCORES, LABELS)) == {"nms"}


def test_compiled_graphs_hold_ours_and_let_go_of_it() -> None:
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(str(graph.graph))
        return graph.forward

    compiled = torch.compile(Suppress(), backend=backend, fullgraph=True)
    expected = compiled(BOXES, SCORES, LABELS)
    for _ in range(2):
        with gencv_fast.accelerate():
            assert torch.equal(compiled(BOXES, SCORES, LABELS), expected)
            assert ran(lambda: compiled(BOXES, SCORES, LABELS)) == {"batched_nms"}
        assert torch.equal(compiled(BOXES, SCORES, LABELS), expected)
        assert not ran(lambda: compiled(BOXES, SCORES, LABELS))
    assert ["gencv_fast" in graph for graph in graphs][:2] == [False, True]


def test_compiled_with_inductor(accelerated: Any) -> None:
    compiled = torch.compile(Suppress(), fullgraph=True, dynamic=True)
    for n in (50, 70, 1200):  # stock torchvision needs a graph break from 1,001 boxes on
        boxes, scores, labels = scored_boxes(n, seed=n)
        assert torch.equal(compiled(boxes, scores, labels), Suppress()(boxes, scores, labels))


DIFFERENTIABLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "box_iou": torchvision.ops.box_iou,
    "generalized_box_iou": torchvision.ops.generalized_box_iou,
    "distance_box_iou": torchvision.ops.distance_box_iou,
    "complete_box_iou": torchvision.ops.complete_box_iou,
    "generalized_box_iou_loss": torchvision.ops.generalized_box_iou_loss,
    "distance_box_iou_loss": torchvision.ops.distance_box_iou_loss,
    "complete_box_iou_loss": torchvision.ops.complete_box_iou_loss,
    "box_convert": lambda a, b: torchvision.ops.box_convert(a, "xyxy", "cxcywh") * b,
    "clip_boxes": lambda a, b: torchvision.ops.clip_boxes_to_image(a, (60, 50)) * b,
    "box_encode": CODER.encode_single,
    "box_decode": lambda a, b: CODER.decode_single(a / 50, b),
}
LOSSES = [name for name in DIFFERENTIABLE if name.endswith("_loss")]


def gradients(name: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    result = DIFFERENTIABLE[name](a, b)
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)
    return torch.autograd.grad((result * weights).sum(), (a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str, dtype: torch.dtype) -> None:
    a, b = BOXES[:50].to(dtype), OTHERS[:50].to(dtype)
    expected = gradients(name, a, b)
    with gencv_fast.accelerate():
        torch.testing.assert_close(gradients(name, a, b), expected)
        assert f"{name}_backward" in ran(lambda: gradients(name, a, b)) or "iou" in name


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if "complete" not in name])
def test_gradcheck(accelerated: Any, name: str) -> None:
    """As torchvision's tests do; the complete IoU holds a part of its formula constant."""
    a, b = (boxes[:4].double().requires_grad_() for boxes in (BOXES, OTHERS))
    assert torch.autograd.gradcheck(DIFFERENTIABLE[name], (a, b))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_no_boxes(accelerated: Any, name: str) -> None:
    """They are 0, and backward gives gradients all the same."""
    boxes = [torch.empty(0, 4, requires_grad=True) for _ in range(2)]
    loss = getattr(torchvision.ops, name)(*boxes, reduction="mean")
    loss.backward()
    assert loss == 0
    assert all(b.grad is not None and b.grad.shape == (0, 4) for b in boxes)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_reductions(name: str, reduction: str) -> None:
    function = getattr(torchvision.ops, name)
    expected = function(BOXES, OTHERS, reduction=reduction), function(BOXES[0], OTHERS[0], reduction)
    with gencv_fast.accelerate():
        got = function(BOXES, OTHERS, reduction=reduction), function(BOXES[0], OTHERS[0], reduction)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    "transformed",
    [
        lambda: torch.func.vmap(torchvision.ops.generalized_box_iou)(BOXES[None], OTHERS[None]),
        lambda: torch.func.grad(lambda a: torchvision.ops.distance_box_iou_loss(a, OTHERS, "sum"))(BOXES),
        lambda: torch.func.jvp(lambda a: torchvision.ops.box_iou(a, FEW), (BOXES,), (OTHERS,)),
        lambda: torch.func.hessian(lambda a: torchvision.ops.generalized_box_iou_loss(a, FEW, "sum"))(BOXES[:7]),
    ],
    ids=["vmap", "grad", "jvp", "hessian"],
)
def test_transforms_take_the_original(transformed: Call) -> None:
    expected = transformed()
    with gencv_fast.accelerate():
        torch.testing.assert_close(transformed(), expected)
        assert not ran(transformed)


@pytest.mark.parametrize("targets", [rpn_targets, roi_targets])
def test_targets_of_crowded_and_empty_images(targets: Callable[..., Any]) -> None:
    for ground_truth in ((NONE,), (BOXES[:1], NONE), (OTHERS, FEW, 100 + BOXES)):
        expected = targets(*ground_truth)
        with gencv_fast.accelerate():
            torch.testing.assert_close(targets(*ground_truth), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("pool", "operator"),
    [
        (pooling(LEVELS[:1], SMALL_AND_LARGE, FEW), "multiscale_roi_align"),
        (pooling(LEVELS, FEW, SMALL_AND_LARGE, canonical_scale=90, canonical_level=3), "multiscale_roi_align"),
        (pooling([level.double() for level in LEVELS], FEW.double(), NONE.double()), "multiscale_roi_align"),
        (pooling(LEVELS, NONE, NONE, size=[2, 4]), "multiscale_roi_align"),
        (pooling(LEVELS[::2], FEW, SMALL_AND_LARGE, canonical_scale=60), "roi_align"),
        (pooling(LEVELS, FEW, SMALL_AND_LARGE, kind=OtherPooler), "roi_align"),
    ],
    ids=["one level", "other canonical box", "fp64", "no boxes", "a level skipped", "subclass"],
)
def test_poolers(pool: Call, operator: str) -> None:
    expected = pool()
    with gencv_fast.accelerate():
        torch.testing.assert_close(pool(), expected)
        assert ran(pool) == {operator}


def test_a_pooler_keeps_its_first_scales() -> None:
    """Whatever sizes the images of later calls have."""

    def pool_twice() -> list[Tensor]:
        pooler = torchvision.ops.MultiScaleRoIAlign(["0"], 3, 2)
        return [pooler({"0": LEVELS[0]}, [FEW, FEW], [size, size]) for size in ((128, 160), (64, 80))]

    expected = pool_twice()
    with gencv_fast.accelerate():
        torch.testing.assert_close(pool_twice(), expected)
        assert ran(pool_twice) == {"multiscale_roi_align"}


@pytest.mark.parametrize("padding", [0, 2])
def test_masks_with_another_border(padding: int) -> None:
    expected = roi_heads.paste_masks_in_image(MASKS, PASTED, (90, 110), padding)
    with gencv_fast.accelerate():
        torch.testing.assert_close(roi_heads.paste_masks_in_image(MASKS, PASTED, (90, 110), padding), expected)
        assert ran(lambda: roi_heads.paste_masks_in_image(MASKS, PASTED, (90, 110), padding)) == {"paste_masks"}


@pytest.mark.parametrize("levels", [1, 3])
def test_gradients_of_pooled_levels(levels: int) -> None:
    def gradients_of(regions: Tensor) -> Any:
        maps = [level.clone().requires_grad_() for level in LEVELS[:levels]]
        regions = regions.clone().requires_grad_()
        pooled = pooling(maps, FEW, regions, canonical_scale=60)()
        return torch.autograd.grad(pooled.cos().sum(), (*maps, regions), allow_unused=True)

    *expected, of_boxes = gradients_of(SMALL_AND_LARGE)
    with gencv_fast.accelerate():
        *got, of_boxes_too = gradients_of(SMALL_AND_LARGE)
        assert "multiscale_roi_align_backward" in ran(lambda: gradients_of(SMALL_AND_LARGE))
    torch.testing.assert_close(got, expected)
    assert of_boxes is None
    assert of_boxes_too is None


def test_pooling_under_autocast() -> None:
    """Some levels come in half precision then, others do not; what is of one dtype in fp32 runs ours."""
    mixed = pooling([LEVELS[0].bfloat16(), LEVELS[1]], FEW, SMALL_AND_LARGE)
    alike = pooling(LEVELS, FEW, SMALL_AND_LARGE)
    with torch.autocast("cpu", torch.bfloat16):
        expected = mixed(), alike()
        with gencv_fast.accelerate():
            torch.testing.assert_close((mixed(), alike()), expected)
            assert "multiscale_roi_align" not in ran(mixed)
            assert ran(alike) == {"multiscale_roi_align"}


def test_pooling_heeds_a_users_own_step(monkeypatch: pytest.MonkeyPatch, accelerated: Any) -> None:
    pool = pooling(LEVELS, FEW, SMALL_AND_LARGE)
    monkeypatch.setattr(torchvision.ops.poolers, "_multiscale_roi_align", lambda *args: "theirs")
    assert pool() == "theirs"
    monkeypatch.undo()
    assert ran(pool) == {"multiscale_roi_align"}


def test_compiled_pooling_runs_ours(accelerated: Any) -> None:
    pool = pooling(LEVELS, FEW, SMALL_AND_LARGE)
    assert ran(torch.compile(pool, backend="eager")) == {"multiscale_roi_align"}


def test_a_region_of_no_image_is_refused(accelerated: Any) -> None:
    """torchvision reads some other memory."""
    with pytest.raises(RuntimeError, match="roi_align"):
        torchvision.ops.roi_align(LEVELS[0], torch.tensor([[2.0, 0, 0, 9, 9]]), 2)


@pytest.mark.parametrize("patched_first", [True, False])
@pytest.mark.parametrize(
    ("owner", "name"),
    [(BoxCoder, "decode"), (BoxCoder, "decode_single"), (box_ops, "clip_boxes_to_image"), (box_ops, "batched_nms")],
)
def test_proposals_heed_a_users_own_step(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, patched_first: bool
) -> None:
    """Whether it came before the acceleration or after."""
    original, calls = getattr(owner, name), []

    @functools.wraps(original)
    def theirs(*args: Any) -> Any:
        calls.append(name)
        return original(*args)

    propose = proposing()
    expected = propose()
    if patched_first:
        monkeypatch.setattr(owner, name, theirs)
    with gencv_fast.accelerate():
        monkeypatch.setattr(owner, name, theirs)
        assert "rpn_proposals" not in ran(propose)
        assert calls
        torch.testing.assert_close(propose(), expected)
        monkeypatch.undo()
        assert "rpn_proposals" in ran(propose)


def test_compiled_proposals_run_ours(accelerated: Any) -> None:
    """torch.compile sees through the look at what one call replaces."""
    assert ran(torch.compile(proposing(), backend="eager")) == {"rpn_proposals"}


class Overlap(torch.nn.Module):
    """Functions that call and are called: scripted, compiled and exported as one."""

    def forward(self, boxes: Tensor, others: Tensor) -> Tensor:
        clipped = torchvision.ops.clip_boxes_to_image(boxes, (90, 80))
        large = clipped[torchvision.ops.remove_small_boxes(clipped, 10.0)]
        wide = torchvision.ops.box_convert(torchvision.ops.box_convert(large, "xyxy", "cxcywh"), "cxcywh", "xyxy")
        return torchvision.ops.generalized_box_iou(wide, others).sum() + torchvision.ops.box_iou(wide, others).sum()


@pytest.mark.parametrize("how", ["eager", "script", "trace", "export", "compile"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_functions_in_graphs(how: str) -> None:
    module = Overlap()
    expected = module(BOXES, OTHERS)
    makers: dict[str, Callable[[], Any]] = {
        "eager": lambda: module,
        "script": lambda: torch.jit.script(module),
        "trace": lambda: torch.jit.trace(module, (BOXES, OTHERS)),
        "export": lambda: torch.export.export(module, (BOXES, OTHERS)).module(),
        "compile": lambda: torch.compile(module, backend="aot_eager", fullgraph=True),
    }
    with gencv_fast.accelerate():
        graph = makers[how]()
        torch.testing.assert_close(graph(BOXES, OTHERS), expected)
        ours = {"clip_boxes", "remove_small_boxes", "box_convert", "generalized_box_iou", "box_iou"}
        assert ran(lambda: graph(BOXES, OTHERS)) == (ours if how in ("eager", "compile") else set())
