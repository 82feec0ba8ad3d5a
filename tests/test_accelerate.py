"""`accelerate`: what it re-routes, what it tells, and that all of it comes back."""

from __future__ import annotations

import copy
import doctest
import functools
import inspect
import pickle
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.ops import batched_nms

import gencv_fast
from gencv_fast import _accelerate
from gencv_fast._accelerate.routes import ENTRIES, FunctionRoute, KernelRoute, Route, Table
from gencv_fast._accelerate.torchvision import table
from gencv_fast._dispatch import load_object
from gencv_fast.ops.nms.contract import NMS
from tests.harness.accelerated import BOXES, LABELS, SCORES, SERVED, outcome, ran
from tests.harness.processes import python


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
    with pytest.raises(RuntimeError, match=r"accelerate: library must be one of torchvision, got \['x'\]\."):
        gencv_fast.accelerate(["x"])  # type: ignore[arg-type]


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
from tests.harness.accelerated import SERVED, ran
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


def test_a_block_cannot_be_entered_twice() -> None:
    """Its inner end would undo what the outer block counts on."""
    with gencv_fast.accelerate() as acceleration:
        with pytest.raises(RuntimeError, match="entered already; call accelerate again to nest"), acceleration:
            pass
        assert ran(SERVED["torchvision::nms on CPU"]) == {"nms"}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_acceleration_cannot_be_copied(accelerated: gencv_fast.Acceleration, copied: Any) -> None:
    with pytest.raises(RuntimeError, match="cannot be copied or pickled; call accelerate again"):
        copied(accelerated)


def test_threads_may_accelerate_while_others_call() -> None:
    """Each call is served by the original or by ours, and never by half of each."""
    calls = {target: call for target, call in SERVED.items() if "nms" in target or "BoxCoder" in target}
    before, expected = state(), [call() for call in calls.values()]
    failures: list[str] = []
    stop = threading.Event()

    def keep_calling() -> None:
        while not stop.is_set():
            for (target, call), wanted in zip(calls.items(), expected, strict=True):
                kind, result = outcome(call)
                if kind != "result" or not torch.allclose(result, wanted):
                    failures.append(f"{target}: {result}")

    def toggle() -> None:
        for _ in range(100):
            with gencv_fast.accelerate():
                SERVED["torchvision::nms on CPU"]()

    callers = [threading.Thread(target=keep_calling) for _ in range(2)]
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


def as_users_do(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Another batched_nms, with the same parameters."""
    return torch.arange(len(boxes))


def renamed(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return torch.arange(len(boxes))


renamed.__module__, renamed.__name__ = batched_nms.__module__, batched_nms.__name__


@pytest.mark.parametrize("theirs", [as_users_do, renamed])
def test_a_users_own_function_is_left_alone(monkeypatch: pytest.MonkeyPatch, theirs: Any) -> None:
    monkeypatch.setattr(torchvision.ops.boxes, "batched_nms", theirs)
    with gencv_fast.accelerate() as acceleration:
        reasons = {route.target: route.reason for route in acceleration.routes}
        assert reasons["torchvision.ops.boxes.batched_nms"] == "something has replaced it"
        assert torch.equal(torchvision.ops.boxes.batched_nms(BOXES, SCORES, LABELS, 0.5), torch.arange(len(BOXES)))


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
