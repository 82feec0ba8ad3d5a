"""What torch makes of an operator: opcheck, compile, export, autocast, vmap, errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from gencv_fast._dispatch import OPS, Op
from gencv_fast._samples import Sample

from .backends import REFERENCE, Calls, Runner
from .compare import assert_as_accurate, assert_same_bits
from .numerics import gradients
from .samples import (
    PLAINEST,
    as_tuple,
    error_samples,
    failing,
    few,
    map_tensors,
    plainest,
    samples,
    samples_for,
    tensors_of,
    tolerances,
    widened,
)


def check_opcheck(op: Op, runner: Runner) -> None:
    with runner.active():
        for sample in plainest(samples(op.name, torch.float32), few(runner)):
            torch.library.opcheck(runner.overload(op), runner.to_device(sample.args))


#: Stands where a tensor stood.
TENSOR = object()


def has_no_small_size(sample: Sample) -> bool:
    """Torch takes sizes of 0 and 1 for constants."""
    return all(min(t.shape, default=2) > 1 for t in tensors_of(sample.args))


def _of_usual_sizes(op: Op, first: int = PLAINEST) -> list[tuple[Any, ...]]:
    return [s.args for s in plainest((s for s in samples(op.name, torch.float32) if has_no_small_size(s)), first)]


def check_compile(op: Op, runner: Runner, backend: str = "aot_eager") -> None:
    """One graph, dynamic shapes, the same bits as without; gradients as close as the room states."""
    torch._dynamo.reset()
    with runner.active():
        compiled = torch.compile(
            lambda *args: op(*args, backend=runner.backend), fullgraph=True, dynamic=True, backend=backend
        )
        for args in map(runner.to_device, _of_usual_sizes(op, few(runner))):
            eager = as_tuple(op(*args, backend=runner.backend))
            assert_same_bits(as_tuple(compiled(*args)), tuple(r.cpu() for r in eager))
            if op.backward is not None:
                plain = tuple(g.cpu() for g in gradients(lambda *a: op(*a, backend=runner.backend), args))
                # A backward written in plain PyTorch may be compiled to other sums.
                floor = tolerances(op).floor[torch.float32]
                assert_as_accurate(gradients(compiled, args), plain, widened(plain), floor)


class Call(torch.nn.Module):
    """The op as a model whose inputs are the tensors and whose other arguments are fixed."""

    def __init__(self, op: Op, args: tuple[Any, ...]) -> None:
        super().__init__()
        leaves, self.structure = tree_flatten(args)
        self.op, self.rest = op, [TENSOR if isinstance(a, Tensor) else a for a in leaves]

    def forward(self, *tensors: Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if rest is TENSOR else rest for rest in self.rest]
        return self.op(*tree_unflatten(leaves, self.structure))


def all_dynamic(tensors: tuple[Tensor, ...]) -> Any:
    return (tuple(dict.fromkeys(range(t.dim()), torch.export.Dim.AUTO) for t in tensors),)


def ranks(args: tuple[Any, ...]) -> list[int]:
    """What one model has fixed as well."""
    return [t.dim() for t in tensors_of(args)]


def rest_of(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What one model has fixed: the other arguments, and how many tensors stand in each list."""
    return tuple(map_tensors(lambda _: TENSOR, args))


def check_export(op: Op) -> None:
    """One exported program serves every size."""
    found = _of_usual_sizes(op)
    model = Call(op, found[0])
    tensors = tensors_of(found[0])
    program = torch.export.export(model, tensors, dynamic_shapes=all_dynamic(tensors))
    assert any(node.target is op.overload for node in program.graph.nodes)
    for args in found:
        if rest_of(args) == rest_of(found[0]) and ranks(args) == ranks(found[0]):
            results = as_tuple(program.module()(*tensors_of(args)))
            assert_same_bits(results, as_tuple(op(*args)))


def check_autocast(op: Op, runner: Runner) -> None:
    """Floating-point arguments become op.autocast; without one, autocast changes nothing."""
    for dtype in (torch.float32, torch.bfloat16):
        for sample in samples_for(op, runner, dtype)[: few(runner)]:
            with torch.autocast(runner.device, dtype=torch.bfloat16):
                results = as_tuple(runner(op, *sample.args))
            to = torch.bfloat16 if op.autocast == "lower_precision" else op.autocast
            args = sample.args if to is None else widened(sample.args, to)
            assert_same_bits(results, as_tuple(runner(op, *args)))


def _stacked(args: tuple[Any, ...], copies: int = 3) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Tensors with a new dimension, the first tensor's last: and where it is."""
    first = tensors_of(args)[0]

    def vary(t: Tensor, i: int) -> Tensor:
        # Whole rows, whose numbers may differ in kind: the index of an image and coordinates.
        return t.roll(i, 0) if t.dim() else t

    def dim_of(a: Any) -> int | None:
        return (a.dim() if a is first else 0) if isinstance(a, Tensor) else None

    def stack(a: Any) -> Any:
        return torch.stack([vary(a, c) for c in range(copies)], dim_of(a)) if isinstance(a, Tensor) else a

    return tree_map(stack, args), tree_map(dim_of, args)


def _one_of(args: tuple[Any, ...], dims: tuple[Any, ...], i: int) -> tuple[Any, ...]:
    def one(a: Any, dim: int | None) -> Any:
        return a if dim is None else a.select(dim, i)

    leaves, structure = tree_flatten(args)
    return tree_unflatten(list(map(one, leaves, tree_leaves(dims, is_leaf=lambda d: d is None))), structure)


def check_vmap(op: Op, runner: Runner) -> None:
    """Each result is that of its own slice, on the same kernel; a ragged op names the padded one instead."""
    on_runner = partial(op, backend=runner.backend)
    for sample in samples_for(op, runner, torch.float32)[: few(runner)]:
        args, dims = _stacked(runner.to_device(sample.args))
        with runner.active(), Calls() as calls:
            try:
                results = as_tuple(torch.vmap(on_runner, in_dims=dims)(*args))
            except RuntimeError as error:
                if not getattr(op.vmap, "is_ragged", False):
                    raise
                _assert_names_padded_form(op, str(error))
                continue
            assert set(calls.names) == {runner.overload(op).name()}
            for i in range(3):
                alone = as_tuple(on_runner(*_one_of(args, dims, i)))
                assert_same_bits(tuple(r[i] for r in results), alone)
            # Tensors that are not mapped serve every slice.
            only_first, rest = (dims[0], *(None for _ in dims[1:])), runner.to_device(sample.args)[1:]
            results = as_tuple(torch.vmap(on_runner, in_dims=only_first)(args[0], *rest))
            alone = as_tuple(on_runner(*_one_of(args[:1], dims[:1], 1), *rest))
            assert_same_bits(tuple(r[1] for r in results), alone)


def _assert_names_padded_form(op: Op, message: str) -> None:
    others = [name for name in OPS if name != op.name and f"use {name}" in message]
    assert message.startswith(f"{op.name}: vmap"), message
    assert others, f"names no operator to use instead: {message}"


def check_wrong_types(op: Op, runner: Runner) -> None:
    """What Python or torch would say of an object that is no argument at all, in the words of this package."""
    args = plainest(samples(op.name, torch.float32))[0].args
    for i, argument in enumerate(op.overload._schema.arguments[: len(args)]):
        message = message_of(runner, op, *args[:i], object(), *args[i + 1 :])
        assert re.fullmatch(rf"{op.name}: {argument.name} must be [\w ]+, got object\.", message), message


def message_of(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(RuntimeError) as caught:
        call(*args)
    return str(caught.value)


def check_refused_derivatives(op: Op) -> None:
    """What torch gives no kernel is refused by name: it would fail obscurely, or be zero. The reference has it."""
    first, *rest = samples(op.name, torch.float32)[0].args

    def total(t: Tensor, backend: str | None = None) -> Tensor:
        return sum(r.sum() for r in as_tuple(op(t, *rest, backend=backend)))

    def forward_mode(backend: str | None = None) -> Tensor:
        with forward_ad.dual_level():
            dual = tree_map(lambda t: forward_ad.make_dual(t, torch.ones_like(t)), first)
            return forward_ad.unpack_dual(total(dual, backend)).tangent

    for call in (lambda: torch.func.grad(total)(first), lambda: torch.func.jacfwd(total)(first), forward_mode):
        message = message_of(call)
        assert message.startswith(f"{op.name}: "), message
        assert message.endswith("; torch.autograd works, and so does backend='reference'."), message
    if not op.is_backward:
        gradient = torch.func.grad(partial(total, backend="reference"))(first)
        along_ones = sum(g.sum() for g in tensors_of(gradient))
        torch.testing.assert_close(forward_mode("reference"), along_ones, rtol=1e-4, atol=1e-4)


def check_errors(op: Op, runner: Runner) -> None:
    """A sentence that names op, argument, what was expected and what came: the same on every backend."""

    def check(sample: Any) -> None:
        message = message_of(runner, op, *sample.args)
        expected_message = message_of(REFERENCE, op, *sample.args)
        assert message == expected_message
        assert message.startswith(f"{op.name}: "), message
        assert message.endswith("."), message
        assert re.search(sample.message, message), f"{message!r} lacks {sample.message!r}"

    failed = failing((s.name, lambda s=s: check(s)) for s in error_samples(op))
    assert not failed, "\n".join(failed)


def check_fake_errors(op: Op) -> None:
    """A graph refuses what the call would refuse, when it is traced."""
    for sample in error_samples(op):
        with FakeTensorMode() as mode:
            fake = map_tensors(mode.from_tensor, sample.args)
            message = message_of(op.overload, *fake)
        assert message == message_of(REFERENCE, op, *sample.args), sample.name
