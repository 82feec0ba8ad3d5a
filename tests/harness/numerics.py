"""Results and gradients against the reference, and what must not change them: layout, memory, threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from gencv_fast._dispatch import Op
from gencv_fast._samples import Sample

from .backends import Runner
from .compare import assert_as_accurate, assert_same_bits
from .samples import (
    PLAINEST,
    as_tuple,
    expected,
    failing,
    few,
    map_tensors,
    numel,
    samples,
    samples_for,
    tensors_of,
    tolerances,
    truth,
    widened,
)

#: gradcheck evaluates the op twice per element, gradgradcheck more often.
MOST_CHECKED = 60
MOST_CHECKED_INTERPRETED = 30


def check_forward(op: Op, runner: Runner, dtype: torch.dtype, run: Sequence[Sample] | None = None) -> None:
    """Over the samples that the runner has time for, unless told which."""
    floor = tolerances(op).floor[dtype]
    exact = tolerances(op).exact
    run = samples_for(op, runner, dtype) if run is None else run

    def check(name: str, args: tuple[Any, ...]) -> None:
        results = as_tuple(runner(op, *args))
        plain = expected(op.name, dtype)[name]
        if exact:
            assert_same_bits(results, plain)
        else:
            assert_as_accurate(results, plain, truth(op.name, dtype)[name], floor)

    assert run
    failed = failing((s.name, lambda s=s: check(s.name, s.args)) for s in run)
    assert not failed, "\n".join(failed)


def floating(args: tuple[Any, ...]) -> list[Tensor]:
    return [t for t in tensors_of(args) if t.is_floating_point()]


def requiring_grad(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies of the same strides that are leaves of the graph."""
    return map_tensors(lambda t: t.detach().clone().requires_grad_() if t.is_floating_point() else t, args)


def incoming_gradients(results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Fixed numbers of either sign, one in each tensor of no strides' order."""
    return tuple(
        torch.cos(torch.arange(r.numel(), dtype=torch.float64) * 1.7).view(r.shape).to(r.device, r.dtype)
        for r in results
    )


def gradients(run: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    leaves = requiring_grad(args)
    results = as_tuple(run(*leaves))
    return torch.autograd.grad(
        results, floating(leaves), incoming_gradients(results), allow_unused=True, materialize_grads=True
    )


def check_gradients(op: Op, runner: Runner, dtype: torch.dtype, run: Sequence[Sample] | None = None) -> None:
    """Autograd through the reference in float64 is the truth."""
    floor = tolerances(op).floor[dtype]

    def check(args: tuple[Any, ...]) -> None:
        plain = gradients(op.reference, args)
        exact = gradients(op.reference, widened(args))
        with runner.active():
            ours = gradients(lambda *a: op(*a, backend=runner.backend), runner.to_device(args))
        assert_as_accurate(ours, plain, exact, floor)

    run = [s for s in (samples_for(op, runner, dtype) if run is None else run) if s.differentiable]
    assert run
    failed = failing((s.name, lambda s=s: check(s.args)) for s in run)
    assert not failed, "\n".join(failed)


def check_no_gradient(op: Op, runner: Runner) -> None:
    """Results of an op without a gradient must not pretend to have one; gradients refuse to be differentiated."""
    for sample in samples(op.name, torch.float32)[:PLAINEST]:
        leaves = requiring_grad(sample.args)
        results = as_tuple(runner(op, *leaves))
        if op.is_backward:
            with pytest.raises(RuntimeError, match=f"{op.name}: this gradient cannot be differentiated once more"):
                torch.autograd.grad(results, floating(leaves), incoming_gradients(results))
        else:
            assert not any(r.requires_grad for r in results), sample.name


def check_gradcheck(op: Op, runner: Runner) -> None:
    checked = 0
    most = MOST_CHECKED_INTERPRETED if runner.interpreted else MOST_CHECKED
    for sample in samples(op.name, torch.float64):
        if numel(sample.args) > most or not sample.differentiable:
            continue
        if not all(t.isfinite().all() for t in floating(sample.args)):
            continue
        leaves, structure = tree_flatten(requiring_grad(runner.to_device(sample.args)))

        def run(*leaves: Any, structure: TreeSpec = structure) -> Any:
            return op(*tree_unflatten(leaves, structure), backend=runner.backend)

        # In the interpreter along one random direction of inputs and outputs, not for each of them.
        with runner.active():
            torch.autograd.gradcheck(run, leaves, fast_mode=runner.interpreted)
            if op.double_backward:
                torch.autograd.gradgradcheck(run, leaves, fast_mode=runner.interpreted)
        checked += 1
    assert checked


def _spaced(t: Tensor) -> Tensor:
    """Every element has a stranger beside it: NaN, or the largest integer."""
    stranger = torch.nan if t.is_floating_point() else True if t.dtype == torch.bool else torch.iinfo(t.dtype).max
    wide = torch.full([2 * size + 1 for size in t.shape], stranger, dtype=t.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in t.shape)]
    return view.copy_(t)


def _reversed_strides(t: Tensor) -> Tensor:
    dims = tuple(reversed(range(t.dim())))
    return t.permute(dims).contiguous().permute(dims)


def _unaligned(t: Tensor) -> Tensor:
    return torch.empty(t.numel() + 1, dtype=t.dtype)[1:].view(t.shape).copy_(t)


def _channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "spaced": _spaced,
    "reversed strides": _reversed_strides,
    "unaligned": _unaligned,
    "channels_last": _channels_last,
    "expanded": lambda t: t[:1].expand(t.shape) if t.dim() and t.shape[0] else t,
    "zero strides": lambda t: t.flatten()[:1].squeeze(0).expand(t.shape) if t.numel() else t,
}


def check_layout(op: Op, runner: Runner, layout: str) -> None:
    """The result is that of the contiguous copy of the arguments, to the bit, and keeps channels_last."""
    change = LAYOUTS[layout]
    for sample in samples(op.name, torch.float32)[: few(runner)]:
        args = map_tensors(change, sample.args)
        plain = map_tensors(Tensor.contiguous, args)
        results, same = as_tuple(runner(op, *args)), as_tuple(runner(op, *plain))
        assert_same_bits(results, tuple(r.cpu() for r in same))
        for result in results:
            if layout == "channels_last" and result.dim() == 4 and result.shape == tensors_of(args)[0].shape:
                assert result.is_contiguous(memory_format=torch.channels_last), sample.name


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """torch.empty gives NaN and the largest integers."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = before[1]


def check_poisoned_memory(op: Op, runner: Runner, dtype: torch.dtype) -> None:
    with poisoned_memory():
        run = samples(op.name, dtype)[:PLAINEST] if runner.interpreted else None
        check_forward(op, runner, dtype, run)
        if op.backward is not None:
            check_gradients(op, runner, dtype, run)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_threads(op: Op, runner: Runner) -> None:
    """Equal bits at one and at two threads, gradients included."""

    def run(sample: Sample) -> tuple[Tensor, ...]:
        results = as_tuple(runner(op, *sample.args))
        # A gradient may have no derivative of its own: then it refuses.
        if op.backward is None or (op.is_backward and not sample.differentiable):
            return results
        args = sample.args
        with runner.active():
            return results + gradients(lambda *a: op(*a, backend=runner.backend), args)

    for sample in samples(op.name, torch.float32):
        # Two threads first: what one thread left in memory kept for reuse would hide a gap.
        with threads(2):
            together = run(sample)
        with threads(1):
            alone = run(sample)
        assert_same_bits(together, alone)
