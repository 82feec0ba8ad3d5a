"""Every way in which an operator can run in this process: backends, instruction sets, emulated thread orders."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from gencv_fast import _native
from gencv_fast._dispatch import OPS, Op, requested_backend
from gencv_fast._library import triton_interpreted
from gencv_fast._register import register_rules
from tests.demo.libraries import BUILD_DIR, HOW_TO_BUILD

EMULATED = "gencv_fast_emulated"
ORDERS = ("forward", "reverse", "random:7")
DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Runner:
    """Calls an operator on one backend.

    Attributes:
        name: what test ids show.
        backend: what ``backend=`` is given.
        device: where the tensors go.
        isa: instruction set of the CPU kernels.
        order: thread order of the emulator; set where it executes the CUDA kernels, on CPU tensors.
    """

    name: str
    backend: str
    device: str = "cpu"
    isa: str | None = None
    order: str | None = None

    @property
    def interpreted(self) -> bool:
        """Executed by Triton's interpreter, a thousand times slower than a kernel."""
        return self.backend == "triton" and self.device == "cpu"

    def __call__(self, op: Op, *args: Any) -> Any:
        with self.active():
            return op(*args, backend=self.backend)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, ``backend=self.backend`` means this runner; backward passes belong inside as well."""
        if self.isa is not None:
            with using_isa(self.isa):
                yield
        elif self.order is not None:
            with emulating(self.order):
                yield
        elif self.device != "cpu":
            with on_gpu(self.device):
                yield
        else:
            yield

    def to_device(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.device == "cpu":
            return args
        return tree_map_only(torch.Tensor, lambda t: _moved(t, self.device), args)

    def overload(self, op: Op) -> torch._ops.OpOverload:
        if self.order is not None:
            return _emulated_overload(op)
        return op.triton_overload if self.backend == "triton" else op.overload


def _moved(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """With its strides and its place in memory, which Tensor.to may change."""
    storage = tensor.new_empty(0).set_(tensor.untyped_storage())
    return storage.to(device).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


@contextmanager
def using_isa(name: str) -> Iterator[None]:
    before = _native.isa()
    _native.set_isa(name)
    try:
        yield
    finally:
        _native.set_isa(before)


def _emulated_libraries() -> list[Any]:
    folder = BUILD_DIR / "emulated" / "plain"
    return [folder / "libgencv_fast_emulated.so", folder / "libgencv_fast_demo_emulated.so"]


def why_no_emulator() -> str | None:
    missing = [path for path in _emulated_libraries() if not path.exists()]
    return f"{missing[0].name} is not built; {HOW_TO_BUILD}" if missing else None


@cache
def _load_emulator() -> tuple[torch.library.Library, list[ctypes.CDLL]]:
    """Loads the emulated operators and gives them the rules that the true ones have."""
    for path in _emulated_libraries():
        torch.ops.load_library(str(path))
    library = torch.library.Library(EMULATED, "FRAGMENT")
    for op in OPS.values():
        if "cuda" in op.backends and hasattr(getattr(torch.ops, EMULATED), op.name):
            register_rules(op, f"{EMULATED}::{op.name}", "cuda", library)
    return library, [ctypes.CDLL(str(path)) for path in _emulated_libraries()]


@contextmanager
def emulating(order: str) -> Iterator[None]:
    """Inside, ``backend="cuda"`` executes the CUDA kernels on CPU tensors, in this thread order."""
    _, libraries = _load_emulator()
    for library in libraries:
        assert library.gcv_emulator_set_order(order.encode()) == 0
    plain_call = Op.__call__

    def call(op: Op, *args: Any, backend: str | None = None) -> Any:
        if (backend or requested_backend()) != "cuda":
            return plain_call(op, *args, backend=backend)
        return op._run(_emulated_overload(op), args)

    with mock.patch.object(Op, "__call__", call):
        yield


class _Moved(torch.autograd.Function):
    """A tensor on another device; its gradient comes back."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, device: str) -> torch.Tensor:
        ctx.back = tensor.device
        ctx.set_materialize_grads(False)  # no gradient is not one of zeros
        return _moved(tensor, device)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor | None) -> Any:
        return None if grad is None else grad.to(ctx.back), None


@contextmanager
def on_gpu(device: str) -> Iterator[None]:
    """Inside, operators take tensors of the CPU to the GPU and bring results back: tests need no word of devices."""
    plain_call = Op.__call__

    def call(op: Op, *args: Any, backend: str | None = None) -> Any:
        if not any(isinstance(leaf, torch.Tensor) and leaf.is_cpu for leaf in tree_leaves(args)):
            return plain_call(op, *args, backend=backend)
        moved = tree_map_only(torch.Tensor, lambda t: _Moved.apply(t, device), args)
        return tree_map_only(torch.Tensor, torch.Tensor.cpu, plain_call(op, *moved, backend=backend))

    with mock.patch.object(Op, "__call__", call):
        yield


def _emulated_overload(op: Op) -> torch._ops.OpOverload:
    return getattr(getattr(torch.ops, EMULATED), op.name).default


class Calls(TorchDispatchMode):
    """Names the package's operators that reach a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace.startswith("gencv_fast"):
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def cpu_runners() -> list[Runner]:
    return [Runner(f"cpu-{isa}", "cpu", isa=isa) for isa in _native.available_isas()]


def emulated_runners() -> list[Runner]:
    return [Runner(f"emulated-{order}", "cuda", order=order) for order in ORDERS]


def triton_runners() -> list[Runner]:
    return [Runner("triton", "triton")] if triton_interpreted() else []


def gpu_runners() -> list[Runner]:
    if not torch.cuda.is_available():
        return []
    return [Runner("cuda", "cuda", device="cuda"), Runner("triton-gpu", "triton", device="cuda")]


def kernels() -> list[Any]:
    """All runners but the reference, as pytest parameters. The Triton interpreter has a session of its own."""
    if triton_interpreted():
        return [pytest.param(runner, id=runner.name) for runner in triton_runners()]
    reason = why_no_emulator()
    unless_built = [pytest.mark.skip(reason=reason)] if reason else []
    return [
        *(pytest.param(runner, id=runner.name) for runner in cpu_runners()),
        *(pytest.param(runner, id=runner.name, marks=unless_built) for runner in emulated_runners()),
        *(pytest.param(runner, id=runner.name, marks=pytest.mark.gpu) for runner in gpu_runners()),
    ]


REFERENCE = Runner("reference", "reference")
