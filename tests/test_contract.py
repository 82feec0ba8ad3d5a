"""The contract of an operator (docs/architecture.md), checked for every registered one on every backend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from gencv_fast._dispatch import OPS, Op
from tests.demo.libraries import HOW_TO_BUILD, is_built
from tests.harness import numerics, onnx, processes, selection, transforms
from tests.harness.backends import Runner, cpu_runners
from tests.harness.parameters import all_dtypes, differentiable, ops, ops_and_kernels
from tests.harness.samples import all_samples_for

FLOAT32 = torch.float32


def one_of_each(runner: Runner) -> bool:
    """One runner per backend: the fastest instruction set, the plainest thread order."""
    return runner.isa in (None, cpu_runners()[-1].isa) and runner.order in (None, "forward")


def cpu(runner: Runner) -> bool:
    return runner.backend == "cpu"


@pytest.mark.skipif(not is_built(), reason=f"the demo room is not built; {HOW_TO_BUILD}")
def test_the_demo_room_is_there() -> None:
    assert "scaled_tanh" in OPS


@ops_and_kernels(choose_runner=lambda runner: runner.order in (None, "forward"))
@all_dtypes
def test_forward(op: Op, runner: Runner, dtype: torch.dtype) -> None:
    numerics.check_forward(op, runner, dtype)


@ops_and_kernels(choose_runner=lambda runner: runner.order not in (None, "forward"))
def test_thread_orders(op: Op, runner: Runner) -> None:
    numerics.check_forward(op, runner, FLOAT32)


@pytest.mark.full
@ops_and_kernels(choose_runner=lambda runner: runner.interpreted or runner.order not in (None, "forward"))
@all_dtypes
def test_forward_of_every_sample(op: Op, runner: Runner, dtype: torch.dtype) -> None:
    """What test_forward leaves out."""
    numerics.check_forward(op, runner, dtype, all_samples_for(op, runner, dtype))


@ops_and_kernels(differentiable)
@all_dtypes
def test_gradients(op: Op, runner: Runner, dtype: torch.dtype) -> None:
    numerics.check_gradients(op, runner, dtype)


@ops_and_kernels(lambda op: differentiable(op) and not op.detached, one_of_each)
def test_gradcheck(op: Op, runner: Runner) -> None:
    numerics.check_gradcheck(op, runner)


@ops_and_kernels(lambda op: not differentiable(op), one_of_each)
def test_no_gradient(op: Op, runner: Runner) -> None:
    numerics.check_no_gradient(op, runner)


@ops_and_kernels(choose_runner=one_of_each)
@pytest.mark.parametrize("layout", numerics.LAYOUTS)
def test_layout(op: Op, runner: Runner, layout: str) -> None:
    numerics.check_layout(op, runner, layout)


@ops_and_kernels(choose_runner=one_of_each)
def test_poisoned_memory(op: Op, runner: Runner) -> None:
    numerics.check_poisoned_memory(op, runner, FLOAT32)


@ops_and_kernels(choose_runner=cpu)
def test_one_and_two_threads(op: Op, runner: Runner) -> None:
    numerics.check_threads(op, runner)


@ops_and_kernels(choose_runner=one_of_each)
def test_errors(op: Op, runner: Runner) -> None:
    transforms.check_errors(op, runner)


@ops_and_kernels(choose_runner=lambda runner: one_of_each(runner) and runner.order is None)
def test_wrong_types(op: Op, runner: Runner) -> None:
    transforms.check_wrong_types(op, runner)


@ops(differentiable)
def test_refused_derivatives(op: Op) -> None:
    transforms.check_refused_derivatives(op)


@ops()
def test_fake_errors(op: Op) -> None:
    transforms.check_fake_errors(op)


@ops_and_kernels(choose_runner=one_of_each)
def test_opcheck(op: Op, runner: Runner) -> None:
    transforms.check_opcheck(op, runner)


@ops_and_kernels(choose_runner=one_of_each)
def test_compile(op: Op, runner: Runner) -> None:
    transforms.check_compile(op, runner)


@pytest.mark.full
@ops_and_kernels(choose_runner=lambda runner: cpu(runner) and one_of_each(runner))
def test_compile_by_inductor(op: Op, runner: Runner) -> None:
    transforms.check_compile(op, runner, backend="inductor")


@ops()
def test_export(op: Op) -> None:
    transforms.check_export(op)


@ops_and_kernels()
def test_autocast(op: Op, runner: Runner) -> None:
    transforms.check_autocast(op, runner)


@ops_and_kernels()
def test_vmap(op: Op, runner: Runner) -> None:
    transforms.check_vmap(op, runner)


@ops(lambda op: op.onnx is not None)
def test_onnx(op: Op, tmp_path: Path) -> None:
    onnx.check_onnx(op, tmp_path, FLOAT32, models=2)


@pytest.mark.full
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
@ops(lambda op: op.onnx is not None)
def test_onnx_of_every_sample(op: Op, dtype: torch.dtype, tmp_path: Path) -> None:
    onnx.check_onnx(op, tmp_path, dtype, models=100)


@ops_and_kernels(choose_runner=one_of_each)
def test_stays_on_backend(op: Op, runner: Runner) -> None:
    selection.check_stays_on_backend(op, runner)


@ops()
def test_explain(op: Op) -> None:
    selection.check_explain(op)


@ops()
def test_unknown_backend(op: Op) -> None:
    selection.check_unknown_backend(op)


@ops()
def test_no_silent_reference(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    selection.check_no_silent_reference(op, monkeypatch)


@ops()
def test_refused_kernel(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    selection.check_refused_kernel(op, monkeypatch)


@ops()
def test_use_backend(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    selection.check_use_backend(op, monkeypatch)


@ops()
def test_mixed_devices(op: Op) -> None:
    selection.check_mixed_devices(op)


def test_forked_workers() -> None:
    processes.check_forked_workers(list(OPS.values()))


def test_two_gloo_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(processes.run_rank, args=(2, str(tmp_path / "meeting_point")), nprocs=2)
