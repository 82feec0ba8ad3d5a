"""Which backend runs, and what is said about those that don't."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gencv_fast
from gencv_fast._dispatch import BACKENDS, OPS, Op

from .backends import Calls, Runner
from .compare import assert_same_bits
from .numerics import gradients
from .samples import as_tuple, expected, map_tensors, samples, tensors_of
from .transforms import message_of


def _plain(op: Op) -> tuple[str, tuple[Any, ...]]:
    sample = samples(op.name, torch.float32)[0]
    return sample.name, sample.args


def check_explain(op: Op) -> None:
    """Every backend has a line; exactly the ones without a reason run, the others raise with that reason."""
    name, args = _plain(op)
    explanation = gencv_fast.explain(op.name, *args)
    assert explanation.op == op.name
    assert set(explanation.reasons) == set(BACKENDS)
    assert explanation.reasons[explanation.chosen] is None
    for backend, reason in explanation.reasons.items():
        line = next(line for line in str(explanation).splitlines() if line.split()[0] == backend)
        if reason is None:
            assert line.split(maxsplit=1)[1] in ("chosen", "can run")
            assert len(as_tuple(op(*args, backend=backend))) == len(expected(op.name, torch.float32)[name])
        else:
            assert reason in line
            message = message_of(lambda *a, b=backend: op(*a, backend=b), *args)
            assert message == f"{op.name}: backend {backend!r} cannot run: {reason}."


def check_stays_on_backend(op: Op, runner: Runner) -> None:
    """Forward and backward run on the backend that was asked for."""
    _, args = _plain(op)
    with runner.active(), Calls() as calls:
        if op.backward is None:
            op(*runner.to_device(args), backend=runner.backend)
        else:
            gradients(lambda *a: op(*a, backend=runner.backend), runner.to_device(args))
        own = {runner.overload(other).name() for other in OPS.values() if runner.backend in other.backends}
    assert calls.names[0] == runner.overload(op).name()
    assert set(calls.names) <= own, calls.names


def check_unknown_backend(op: Op) -> None:
    _, args = _plain(op)
    message = message_of(lambda *a: op(*a, backend="opencl"), *args)
    assert message == f"{op.name}: expected one of cpu, cuda, triton, reference, got 'opencl'."


class Spy:
    """Counts the reference's calls while it is patched in."""

    def __init__(self, op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.reference = 0, op.reference
        monkeypatch.setattr(op, "reference", self)

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.reference(*args)


def check_no_silent_reference(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a compiled kernel can run, the reference does not; where it is asked for, it does."""
    _, args = _plain(op)
    spy = Spy(op, monkeypatch)
    op(*args)
    op(*args, backend="cpu")
    op.overload(*args)
    assert spy.calls == 0
    op(*args, backend="reference")
    assert spy.calls == 1


def check_refused_kernel(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that the room refuses for these arguments does not run by default either."""
    _, args = _plain(op)
    spy = Spy(op, monkeypatch)
    monkeypatch.setattr(op, "why_not_room", {"cpu": lambda *_: "boxes are odd"})
    assert gencv_fast.explain(op.name, *args).chosen == "reference"
    op(*args)
    assert spy.calls == 1
    assert message_of(lambda *a: op(*a, backend="cpu"), *args).endswith("cannot run: boxes are odd.")


def check_use_backend(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    """The override holds inside the block alone, yields to backend=..., and never falls back."""
    name, args = _plain(op)
    wanted = expected(op.name, torch.float32)[name]  # it calls the reference too, unless an earlier test did
    spy = Spy(op, monkeypatch)
    with gencv_fast.use_backend("reference"):
        assert gencv_fast.explain(op.name, *args).chosen == "reference"
        assert_same_bits(as_tuple(op(*args)), wanted)
        assert spy.calls == 1
        op(*args, backend="cpu")
        with gencv_fast.use_backend(None):
            op(*args)
        assert spy.calls == 1
    op(*args)
    assert spy.calls == 1
    if not torch.cuda.is_available():
        with gencv_fast.use_backend("cuda"):
            assert message_of(op, *args).startswith(f"{op.name}: backend 'cuda' cannot run: ")


def check_mixed_devices(op: Op) -> None:
    """Tensors of two devices are refused, by name."""
    _, args = _plain(op)
    for moving in tensors_of(args)[1:]:
        moved = map_tensors(lambda t, moving=moving: t.to("meta") if t is moving else t, args)
        message = message_of(lambda *a: op(*a, backend="reference"), *moved)
        assert message.startswith(f"{op.name}: "), message
