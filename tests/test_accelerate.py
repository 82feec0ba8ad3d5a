"""`accelerate`: what it re-routes, that all of it comes back, and that torchvision's contract holds meanwhile."""

from __future__ import annotations

import doctest
import functools
import inspect
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torch.autograd.profiler import profile
from torchvision.ops import batched_nms

import gencv_fast
from gencv_fast import _accelerate
from gencv_fast._accelerate.routes import ENTRIES, FunctionRoute, KernelRoute, Route, Table
from gencv_fast._accelerate.torchvision import table
from gencv_fast._dispatch import load_object
from gencv_fast.ops.nms.contract import NMS
from tests.harness.processes import python


def scored_boxes(n: int = 200, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = 100 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    size = 5 + 30 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
    scores = torch.randperm(n, generator=generator) / n
    labels = torch.randint(-2, 5, (n,), generator=generator)
    return torch.cat((corner, corner + size), 1).to(dtype), scores.to(dtype), labels


BOXES, SCORES, LABELS = scored_boxes()

#: A call of each target in which ours runs.
SERVED: dict[str, Callable[[], Any]] = {
    "torchvision::nms on CPU": lambda: torchvision.ops.nms(BOXES, SCORES, 0.5),
    "torchvision.ops.boxes.batched_nms": lambda: torchvision.ops.batched_nms(BOXES, SCORES, LABELS, 0.5),
}


def ran(call: Callable[[], Any]) -> set[str]:
    """The operators of ours that a call runs, at whatever depth."""
    with profile() as profiled:
        call()
    return {event.name.split("::")[1] for event in profiled.function_events if event.name.startswith("gencv_fast::")}


def outcome(call: Callable[[], Any]) -> tuple[Any, ...]:
    """The result, or the error that came instead."""
    try:
        return "result", call()
    except Exception as error:
        return type(error), str(error)


def state() -> dict[str, Any]:
    """All that accelerate may touch in torchvision."""
    modules = {name: dict(vars(m)) for name, m in sys.modules.items() if name.startswith("torchvision")}
    functions = [load_object(r.path) for r in table().routes if isinstance(r, FunctionRoute)]
    return {
        "modules": modules,
        "functions": [(f, f.__code__, f.__defaults__, f.__kwdefaults__, dict(vars(f))) for f in functions],
        "kernels": [entry.ours for entry in ENTRIES.values()],
    }


@pytest.fixture(autouse=True, scope="module")
def _entries() -> None:
    """torch's dispatcher gets its entries at the first acceleration of a process, whichever test is the first."""
    gencv_fast.accelerate().undo()


@pytest.fixture
def accelerated() -> Iterator[gencv_fast.Acceleration]:
    with gencv_fast.accelerate("torchvision") as acceleration:
        yield acceleration


# What is re-routed, and what the user is told.


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


def test_routes_tell_what_is_left_alone_and_why(accelerated: gencv_fast.Acceleration) -> None:
    taken = {route.target for route in accelerated.routes if route.to}
    assert set(SERVED) <= taken
    left = {route.target: route.reason for route in accelerated.routes if route.to is None}
    assert left["torchvision::deform_conv2d"] == "gencv_fast has no counterpart"
    text = str(accelerated)
    assert "torchvision, re-routed in the whole process:" in text
    assert "torchvision::nms on CPU" in text
    assert "-> gencv_fast.nms\n" in text
    assert "left alone: gencv_fast has no counterpart" in text
    accelerated.undo()
    assert "given up by this acceleration" in str(accelerated)


def test_example_in_the_docstring() -> None:
    (test,) = doctest.DocTestFinder(recurse=False).find(gencv_fast.accelerate, "accelerate", module=_accelerate)
    assert len(test.examples) > 3
    assert not doctest.DocTestRunner().run(test).failed
    assert "process-wide" in inspect.getdoc(gencv_fast.accelerate)


def test_unknown_library() -> None:
    with pytest.raises(RuntimeError, match=r"accelerate: library must be one of torchvision, got 'detectron2'\."):
        gencv_fast.accelerate("detectron2")


def test_missing_library() -> None:
    message = "accelerate: torchvision must be installed, got: "
    python(f"""
import sys
sys.modules["torchvision"] = None
import gencv_fast
try:
    gencv_fast.accelerate("torchvision")
except RuntimeError as error:
    assert str(error).startswith({message!r}), error
else:
    raise AssertionError
""")


def test_without_kernels_the_originals_run() -> None:
    """No route leads to the reference, which is slower than the original."""
    python(
        """
import gencv_fast, torchvision
from tests.test_accelerate import SERVED, ran
with gencv_fast.accelerate("torchvision") as acceleration:
    reasons = {route.target: route.reason for route in acceleration.routes}
    assert reasons["torchvision::nms on CPU"] == "GENCV_FAST_PURE=1 leaves the compiled kernels out", reasons
    for call in SERVED.values():
        assert not ran(call)
""",
        GENCV_FAST_PURE="1",
    )


# There and back.


def test_undoing_restores_everything() -> None:
    before = state()
    acceleration = gencv_fast.accelerate()
    during = state()
    assert during["modules"] == before["modules"], "names stay bound to the same functions"
    for kind in ("functions", "kernels"):
        assert all(a != b for a, b in zip(during[kind], before[kind], strict=True))
    acceleration.undo()
    assert state() == before
    acceleration.undo()
    assert state() == before


def test_nesting() -> None:
    before = state()
    with gencv_fast.accelerate():
        outer = state()
        with gencv_fast.accelerate() as inner:
            assert state() == outer
            assert {route.to for route in inner.routes} >= {"gencv_fast.nms", "gencv_fast.batched_nms"}
        assert state() == outer
        assert ran(SERVED["torchvision::nms on CPU"]) == {"nms"}
    assert state() == before


def test_overlapping_in_any_order() -> None:
    before = state()
    first, second = gencv_fast.accelerate(), gencv_fast.accelerate()
    first.undo()
    assert ran(SERVED["torchvision::nms on CPU"]) == {"nms"}
    second.undo()
    assert state() == before


def test_an_error_inside_undoes_as_well() -> None:
    before = state()
    with pytest.raises(ZeroDivisionError), gencv_fast.accelerate():
        _ = 1 / 0
    assert state() == before


def test_an_undone_acceleration_cannot_be_entered() -> None:
    acceleration = gencv_fast.accelerate()
    acceleration.undo()
    with pytest.raises(RuntimeError, match="this acceleration was undone; call accelerate again"), acceleration:
        pass


def test_threads_may_accelerate_while_others_call() -> None:
    """Each call is served by the original or by ours, and never by half of each."""
    before, expected = state(), [call() for call in SERVED.values()]
    failures: list[str] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            for target, wanted in zip(SERVED, expected, strict=True):
                kind, result = outcome(SERVED[target])
                if kind != "result" or not torch.equal(result, wanted):
                    failures.append(f"{target}: {result}")

    def toggle() -> None:
        for _ in range(100):
            with gencv_fast.accelerate():
                call_once()

    def call_once() -> None:
        SERVED["torchvision::nms on CPU"]()

    callers = [threading.Thread(target=call) for _ in range(2)]
    togglers = [threading.Thread(target=toggle) for _ in range(2)]
    for thread in callers + togglers:
        thread.start()
    for thread in togglers:
        thread.join()
    stop.set()
    for thread in callers:
        thread.join()
    assert not failures, failures[0]
    assert state() == before


def test_every_holder_of_a_function_follows() -> None:
    """A name imported earlier, an attribute, and a name imported meanwhile, there and back."""
    holder = SimpleNamespace(suppress=torchvision.ops.boxes.batched_nms)
    late = ModuleType("late")
    with gencv_fast.accelerate():
        exec("from torchvision.ops import batched_nms", vars(late))
        for function in (batched_nms, holder.suppress, late.batched_nms):
            assert ran(functools.partial(function, BOXES, SCORES, LABELS, 0.5)) == {"batched_nms"}
    for function in (batched_nms, holder.suppress, late.batched_nms):
        assert not ran(functools.partial(function, BOXES, SCORES, LABELS, 0.5))


def test_functions_look_as_they_did() -> None:
    source, signature = inspect.getsource(batched_nms), inspect.signature(batched_nms)
    with gencv_fast.accelerate():
        assert inspect.getsource(batched_nms) == source
        assert inspect.signature(batched_nms) == signature
        assert pickle.loads(pickle.dumps(batched_nms)) is batched_nms
        with pytest.raises(TypeError, match=r"batched_nms\(\) missing 1 required positional argument: 'iou_threshold'"):
            batched_nms(BOXES, SCORES, LABELS)


# The mechanism, on tables of its own.


def accelerate_with(monkeypatch: pytest.MonkeyPatch, *routes: Route) -> gencv_fast.Acceleration:
    monkeypatch.setitem(vars(sys.modules[__name__]), "TABLE", lambda: Table(routes, ()))
    monkeypatch.setitem(_accelerate.LIBRARIES, "test", f"{__name__}:TABLE")
    return gencv_fast.accelerate("test")


def test_a_forward_and_its_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autograd's own rule stays, and runs our backward."""
    calls: list[str] = []

    def forward(*args: Any) -> Any:
        calls.append("forward")
        return torch.full((1, 1, 2, 2), 7.0) if args[2] == 1.0 else NotImplemented

    def backward(grad: Tensor, *args: Any) -> Any:
        calls.append(f"backward of {len(args) + 1}")
        return torch.full((1, 1, 8, 8), 3.0) if args[1] == 1.0 else NotImplemented

    image = torch.rand(1, 1, 8, 8, requires_grad=True)
    rois = torch.tensor([[0.0, 1, 1, 5, 5]])

    def run(scale: float) -> tuple[Tensor, Tensor]:
        pooled = torchvision.ops.roi_align(image, rois, 2, scale)
        return pooled.detach(), torch.autograd.grad(pooled.sum(), image)[0]

    stock = run(1.0), run(0.5)
    routes = [
        KernelRoute("torchvision::roi_align", "cpu", NMS, forward),
        KernelRoute("torchvision::_roi_align_backward", "cpu", NMS, backward),
    ]
    with accelerate_with(monkeypatch, *routes):
        pooled, grad = run(1.0)
        assert (pooled == 7).all()
        assert (grad == 3).all()
        torch.testing.assert_close(run(0.5), stock[1])
    assert calls == ["forward", "backward of 11"] * 2
    torch.testing.assert_close(run(1.0), stock[0])
    assert len(calls) == 4


def wrapped(boxes: Tensor) -> Tensor:
    return boxes


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (KernelRoute("torchvision::no_such_op", "cpu", NMS, len), "torchvision has no kernel for it"),
        (FunctionRoute("torchvision.ops:no_such_function", NMS, len), "this version has no such function"),
        (FunctionRoute("no_such_module:function", NMS, len), "this version has no such function"),
        (FunctionRoute(f"{__name__}:WRAPPED", NMS, len), "something has wrapped or replaced it"),
        (FunctionRoute(f"{__name__}:PARTIAL", NMS, len), "something has wrapped or replaced it"),
        (FunctionRoute(f"{__name__}:wrapped", NMS, wrapped), None),
        (
            FunctionRoute("torchvision.ops.boxes:remove_small_boxes", NMS, wrapped),
            "its parameters are (boxes: torch.Tensor, min_size: float) -> torch.Tensor, not (boxes: ",
        ),
    ],
)
def test_what_cannot_be_rerouted_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, route: Route, reason: str | None
) -> None:
    with accelerate_with(monkeypatch, route) as acceleration:
        (told,) = acceleration.routes
        assert str(told.reason).startswith(str(reason))


WRAPPED = functools.wraps(wrapped)(lambda boxes: wrapped(boxes))
PARTIAL = functools.partial(wrapped)


def test_a_failure_halfway_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(FunctionRoute):
        def taken(self) -> Any:
            raise ZeroDivisionError

    before = state()
    with pytest.raises(ZeroDivisionError):
        accelerate_with(monkeypatch, *table().routes, Failing(f"{__name__}:wrapped", NMS, wrapped))
    assert state() == before
    with gencv_fast.accelerate():
        assert state() != before


# torchvision's contract.

HALF_BOXES, HALF_SCORES, _ = scored_boxes(dtype=torch.float16)

#: Calls that ours leaves to the original, legal or not.
LEFT_ALONE: dict[str, Callable[[], Any]] = {
    "nms of half precision": lambda: torchvision.ops.nms(HALF_BOXES, HALF_SCORES, 0.5),
    "nms of bfloat16": lambda: torchvision.ops.nms(BOXES.bfloat16(), SCORES.bfloat16(), 0.5),
    "nms of integers": lambda: torchvision.ops.nms(BOXES.int(), SCORES.int(), 0.5),
    "nms of one box": lambda: torchvision.ops.nms(torch.rand(4), torch.rand(3), 0.5),
    "nms of five coordinates": lambda: torchvision.ops.nms(torch.rand(3, 5), torch.rand(3), 0.5),
    "nms of scores per class": lambda: torchvision.ops.nms(torch.rand(3, 4), torch.rand(3, 2), 0.5),
    "nms of too many scores": lambda: torchvision.ops.nms(torch.rand(3, 4), torch.rand(4), 0.5),
    "nms of two dtypes": lambda: torchvision.ops.nms(BOXES, SCORES.double(), 0.5),
    "batched_nms of labels in floats": lambda: batched_nms(BOXES, SCORES, LABELS.float(), 0.5),
    "batched_nms of boolean labels": lambda: batched_nms(BOXES, SCORES, LABELS > 0, 0.5),
    "batched_nms of half precision": lambda: batched_nms(HALF_BOXES, HALF_SCORES, LABELS, 0.5),
    "batched_nms of nothing": lambda: batched_nms(torch.empty(0), torch.empty(0), torch.empty(0), 0.5),
    "batched_nms of labels in two dimensions": lambda: batched_nms(BOXES, SCORES, LABELS[:, None], 0.5),
    "batched_nms of bounding boxes": lambda: batched_nms(
        torchvision.tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=(200, 200)), SCORES, LABELS, 0.5
    ),
}


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
    call = LEFT_ALONE[name]
    expected = outcome(call)
    with gencv_fast.accelerate():
        assert_same_outcome(outcome(call), expected)
        assert name.split()[0] not in ran(lambda: outcome(call))


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
