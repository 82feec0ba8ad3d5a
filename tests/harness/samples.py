"""The samples of every operator, and what the reference makes of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from gencv_fast._dispatch import OPS, Op
from gencv_fast._samples import ErrorSample, Sample, Tolerances

from .backends import ORDERS, Runner

#: The interpreter of Triton takes a fifth of a second for a hundred boxes.
MOST_INTERPRETED = 700
#: The emulator takes a second for 100,000; thread orders other than the plain one are for the smaller samples.
MOST_EMULATED = 30_000
MOST_REORDERED = 1_200
#: The plainest samples come first; these many go through what takes long.
PLAINEST = 3
#: What the compiled kernels are run on in other layouts, under transformations: in the interpreter the plainest alone.
PLAINEST_INTERPRETED = 1


def room_samples(op: Op) -> Any:
    return importlib.import_module(f"{op.room}.samples")


@cache
def samples(op_name: str, dtype: torch.dtype) -> tuple[Sample, ...]:
    return tuple(room_samples(OPS[op_name]).sample_inputs(op_name, dtype))


def error_samples(op: Op) -> list[ErrorSample]:
    return room_samples(op).error_inputs(op.name)


def tolerances(op: Op) -> Tolerances:
    return room_samples(op).tolerances(op.name)


def tensors_of(args: Any) -> tuple[Tensor, ...]:
    """Those in lists too."""
    return tuple(a for a in tree_leaves(args) if isinstance(a, Tensor))


def map_tensors(change: Callable[[Tensor], Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with every tensor changed, those in lists too."""
    return tree_map_only(Tensor, change, args)


def numel(args: tuple[Any, ...]) -> int:
    return sum(t.numel() for t in tensors_of(args))


def samples_for(op: Op, runner: Runner, dtype: torch.dtype) -> Sequence[Sample]:
    """Those that the runner has time for."""
    found = samples(op.name, dtype)
    if runner.order is not None:
        most = MOST_EMULATED if runner.order == ORDERS[0] else MOST_REORDERED
        return [sample for sample in found if numel(sample.args) <= most]
    if not runner.interpreted:
        return found
    small = [sample for sample in found if numel(sample.args) <= MOST_INTERPRETED]
    return small if dtype == torch.float32 else small[:PLAINEST]


def all_samples_for(op: Op, runner: Runner, dtype: torch.dtype) -> Sequence[Sample]:
    """Those that the runner can do at all: tens of thousands of boxes take the interpreter many minutes."""
    found = samples(op.name, dtype)
    return [s for s in found if numel(s.args) <= MOST_EMULATED] if runner.interpreted else found


def few(runner: Runner) -> int:
    """How many of the plainest go through what calls the operator many times."""
    return PLAINEST_INTERPRETED if runner.interpreted else PLAINEST


def plainest(found: Iterable[Sample], first: int = PLAINEST) -> list[Sample]:
    """The first ones, and the first with an argument that is not contiguous."""
    found = list(found)
    strided = [s for s in found[PLAINEST:] if not all(t.is_contiguous() for t in tensors_of(s.args))]
    return found[:first] + strided[:1]


def as_tuple(results: Any) -> tuple[Tensor, ...]:
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


def widened(args: Any, dtype: torch.dtype = torch.float64) -> Any:
    """Floating-point tensors in another dtype, the rest as it is."""
    return map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, args)


@cache
def expected(op_name: str, dtype: torch.dtype) -> dict[str, tuple[Tensor, ...]]:
    """The reference at the samples' own dtype: by sample name."""
    op = OPS[op_name]
    return {s.name: as_tuple(op.reference(*s.args)) for s in samples(op_name, dtype)}


@cache
def truth(op_name: str, dtype: torch.dtype) -> dict[str, tuple[Tensor, ...]]:
    """The reference in float64: by sample name."""
    op = OPS[op_name]
    return {s.name: as_tuple(op.reference(*widened(s.args))) for s in samples(op_name, dtype)}


def failing(names_and_checks: Iterable[tuple[str, Callable[[], None]]]) -> list[str]:
    """Runs every check and tells which ones failed, and how."""
    found = []
    for name, check in names_and_checks:
        try:
            check()
        except AssertionError as error:
            found.append(f"{name}: {error}")
    return found
