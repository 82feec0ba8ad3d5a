"""How a call travels: the public function, an `Op`, one backend's kernel. See docs/architecture.md.

`_register` tells torch of the operators, `_explain` tells users why a backend was chosen.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from ._checks import why_wrong_type
from ._library import (
    check_isa_override,
    triton_interpreted,
    why_no_cpu_library,
    why_no_cuda_library,
    why_no_triton,
)

BACKENDS = ("cpu", "cuda", "triton", "reference")

_PREFERENCE = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}

OPS: dict[str, Op] = {}


def _checked_backend(name: str | None, source: str) -> str | None:
    if name is not None and name not in BACKENDS:
        raise RuntimeError(f"{source}: expected one of {', '.join(BACKENDS)}, got {name!r}.")
    return name


class _Override:
    """One request for a backend; compared by identity, so that overlapping threads take back their own."""

    def __init__(self, backend: str | None) -> None:
        self.backend = backend


# The last one holds. The first is the environment's.
_overrides = [_Override(_checked_backend(os.environ.get("GENCV_FAST_BACKEND") or None, "GENCV_FAST_BACKEND"))]
check_isa_override()


class _Rule(threading.local):
    """What vmap and backward rules ask of the operators that they call: in their own thread, before `_overrides`."""

    override: _Override | None = None


_rule = _Rule()


@contextmanager
def inside_rule(backend: str | None) -> Iterator[None]:
    before = _rule.override
    _rule.override = _Override(backend)
    try:
        yield
    finally:
        _rule.override = before


def requested_backend() -> str | None:
    """What a call without ``backend=`` is to run on; None leaves the choice."""
    # Rules are called from compiled graphs, and never traced into them.
    override = None if torch.compiler.is_compiling() else _rule.override
    return (override or _overrides[-1]).backend


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Make every op of this process, in all its threads, run on one backend inside a ``with`` block.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"triton"`` or ``"reference"``; ``None`` lets each call choose again.

    A call that the backend cannot serve raises RuntimeError with the reason. An explicit ``backend=`` wins.
    """
    override = _Override(_checked_backend(name, "use_backend"))
    _overrides.append(override)
    try:
        yield
    finally:
        _overrides.remove(override)


def load_object(path: str) -> Any:
    """Import ``"package.module:name"``, or an attribute of it: ``"package.module:Class.method"``."""
    module, name = path.split(":")
    return attrgetter(name)(importlib.import_module(module))


@dataclass(eq=False)
class Op:
    """One operator with all its faces; `_register.register` gives it to torch.

    Attributes:
        name: operator name in the ``gencv_fast`` namespace.
        room: package of the op's family, or of its wing in a large room; its ``samples`` module feeds tests and
            benchmarks.
        schema: torch schema without the name.
        reference: plain PyTorch, the truth.
        check: raises RuntimeError on bad input; the compiled kernels make the same checks themselves.
        fake: output metadata for torch.compile and export; it may rely on `check`.
        backends: the kernels it has, of ``cpu``, ``cuda``, ``triton``.
        why_not_room: reasons of the room's own per backend, beyond the ones every op shares.
        triton: ``"module:function"``, imported at the first call.
        backward, setup_context: as `torch.library.register_autograd` takes them; None where nothing is differentiable.
            ``backward`` passes ``ctx.backend`` on to the backward operator, so that both run on one backend.
        vmap: as `torch.library.register_vmap` takes it.
        autocast: the dtype floating-point inputs are cast to under autocast, or "lower_precision" for the one that
            the region asks for; None never casts.
        onnx: ``"module:function"`` that lowers the op to standard ONNX operators; None for backward operators and
            for parts.
        part_of: the public function that does its work in calls of this op, which has no ONNX form and no docstring of
            its own.
        sharding: ``"module:function"``, a DTensor rule; None where no rule exists.
        double_backward: True where gradients of gradients are claimed.
        detached: True where a part of the formula is a constant to its gradient by definition, so that no difference
            quotient is near it.
    """

    name: str
    room: str
    schema: str
    reference: Callable[..., Any]
    check: Callable[..., None]
    fake: Callable[..., Any]
    backends: Sequence[str]
    vmap: Callable[..., Any]
    onnx: str | None = None
    part_of: str | None = None
    triton: str | None = None
    why_not_room: Mapping[str, Callable[..., str | None]] = field(default_factory=dict)
    backward: Callable[..., Any] | None = None
    setup_context: Callable[..., Any] | None = None
    autocast: torch.dtype | str | None = None
    sharding: str | None = None
    double_backward: bool = False
    detached: bool = False
    _sharding_registered: bool = field(default=False, init=False)

    @property
    def is_backward(self) -> bool:
        """It computes the gradient of another operator."""
        return self.onnx is None and self.part_of is None

    @property
    def overload(self) -> torch._ops.OpOverload:
        """The operator that torch's dispatcher sends to the CPU or CUDA kernel."""
        return getattr(torch.ops.gencv_fast, self.name).default

    @property
    def triton_overload(self) -> torch._ops.OpOverload:
        """The Triton rival, an operator of its own with the same schema."""
        return getattr(torch.ops.gencv_fast, f"{self.name}_triton").default

    def __call__(self, *args: Any, backend: str | None = None) -> Any:
        backend = _checked_backend(backend, self.name) if backend is not None else requested_backend()
        try:
            return self._run_default(args) if backend is None else self._run_on(backend, args)
        except Exception:
            # Looked for only now, so that good calls need not wait.
            if reason := self._why_wrong_types(args):
                raise RuntimeError(f"{self.name}: {reason}.") from None
            raise

    def serves(self, *args: Any) -> bool:
        """Whether a call that names no backend runs one of the kernels, rather than the reference or none at all."""
        asked = _overrides[-1].backend
        if asked is None:
            return self.choose(*args) != "reference"
        return asked != "reference" and self.why_not(asked, *args) is None

    def choose(self, *args: Any) -> str:
        """The backend that ``backend=None`` takes for these arguments."""
        for backend in _PREFERENCE.get(_device_of(args), ()):
            if self.why_not(backend, *args) is None:
                return backend
        return "reference"

    def why_not(self, backend: str, *args: Any) -> str | None:
        """Why a backend cannot serve these arguments; None where it can."""
        if backend == "reference":
            return None
        if backend not in self.backends:
            return f"{self.name} has no {backend} kernel"
        if reason := _COMMON_REASONS[backend](_device_of(args)):
            return reason
        room_reason = self.why_not_room.get(backend)
        return room_reason(*args) if room_reason else None

    def why_no_kernel(self, device: str) -> str | None:
        """Why a device has nothing but the reference, whatever the arguments; None where it has a kernel."""
        reasons = [_COMMON_REASONS[b](device) for b in _PREFERENCE.get(device, ()) if b in self.backends]
        return None if None in reasons else next(iter(reasons), f"{self.name} has no {device} kernel")

    def run_reference(self, *args: Any) -> Any:
        """The reference behind the checks; without a graph where the op has no gradient."""
        self.check(*args)
        if self.is_backward:
            with _torch_func_allowed():
                return _below_autograd(self.reference, args)
        if self.backward is not None:
            return self.reference(*args)
        with torch.no_grad():
            return self.reference(*args)

    def _why_wrong_types(self, args: tuple[Any, ...]) -> str | None:
        """Why torch, or Python itself, could do nothing with the arguments; None where their types are right."""
        wanted = self.overload._schema.arguments
        reasons = (why_wrong_type(a.name, value, str(a.type)) for a, value in zip(wanted, args, strict=False))
        return next(filter(None, reasons), None)

    def _run_on(self, backend: str, args: tuple[Any, ...]) -> Any:
        if reason := self.why_not(backend, *args):
            raise RuntimeError(f"{self.name}: backend {backend!r} cannot run: {reason}.")
        if backend == "reference":
            return self.run_reference(*args)
        return self._run(self.triton_overload if backend == "triton" else self.overload, args)

    def _run_default(self, args: tuple[Any, ...]) -> Any:
        chosen = self.choose(*args)
        if chosen == "reference" and self._has_kernel(_device_of(args)):
            # The room refuses these arguments; the plain operator would run its kernel all the same.
            return self.run_reference(*args)
        # Where no compiled kernel serves the device, the plain operator holds the reference (see _register):
        # it stays one node for torch.compile and export.
        return self._run(self.triton_overload if chosen == "triton" else self.overload, args)

    @property
    def _is_plain(self) -> bool:
        """Autograd passes it by."""
        return self.backward is None and not self.is_backward

    def _has_kernel(self, device: str) -> bool:
        return device in self.backends and _COMMON_REASONS[device](device) is None

    def _run(self, overload: torch._ops.OpOverload, args: tuple[Any, ...]) -> Any:
        if self.sharding is not None and not self._sharding_registered and not torch.compiler.is_compiling():
            register_sharding(self)
        if self._is_plain or torch.compiler.is_compiling():
            return overload(*args)
        if reason := _why_no_derivative(args):
            raise RuntimeError(f"{self.name}: {reason}; torch.autograd works, and so does backend='reference'.")
        if _needs_autograd(args):
            return overload(*args)
        # The Python autograd kernel costs as much as a small op: step below it when nothing asks for a gradient.
        with torch._C._AutoDispatchBelowAutograd():
            return overload(*args)


def _device_of(args: tuple[Any, ...]) -> str:
    """The type of the device of the first argument, a tensor or a list of tensors, or of one after an empty list.

    Without any tensor it is the CPU, whose kernel says what is missing.
    """
    first = args[0]
    if not isinstance(first, torch.Tensor):
        first = first[0] if first else next((a for a in args if isinstance(a, torch.Tensor)), None)
    return "cpu" if first is None else first.device.type


def _why_no_derivative(args: tuple[Any, ...]) -> str | None:
    """torch gives custom operators no forward mode and no transforms: derivatives would fail obscurely, or be zero."""
    interpreter = torch._C._functorch.peek_interpreter_stack()
    if interpreter is not None and interpreter.key() in _DERIVATIVES:
        return "torch.func cannot differentiate a kernel"
    if forward_ad._current_level >= 0 and any(_has_tangent(a) for a in args):
        return "forward-mode derivatives cannot pass a kernel"
    return None


_DERIVATIVES = (torch._C._functorch.TransformType.Grad, torch._C._functorch.TransformType.Jvp)


def _has_tangent(argument: Any) -> bool:
    if isinstance(argument, (list, tuple)):
        return any(map(_has_tangent, argument))
    return isinstance(argument, torch.Tensor) and forward_ad.unpack_dual(argument).tangent is not None


def _needs_autograd(args: tuple[Any, ...]) -> bool:
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return torch.is_grad_enabled() and any(map(_requires_grad, args))


def _requires_grad(argument: Any) -> bool:
    if isinstance(argument, (list, tuple)):
        return any(map(_requires_grad, argument))
    return isinstance(argument, torch.Tensor) and argument.requires_grad


def _below_autograd(run: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Let a reference take derivatives where the dispatcher has autograd behind it; the graph is the caller's."""
    torch_c, excluded = torch._C, torch._C._dispatch_tls_local_exclude_set()
    keys = torch_c.DispatchKey
    if not excluded.has(keys.AutogradOther):
        return run(*args)
    for key in (keys.AutogradFunctionality, keys.AutogradCPU, keys.AutogradCUDA, keys.AutogradOther):
        excluded = excluded.remove(key)
    excluded = excluded.remove(keys.ADInplaceOrView)
    with torch_c._ForceDispatchKeyGuard(torch_c._dispatch_tls_local_include_set(), excluded):
        return tree_map_only(torch.Tensor, torch.Tensor.detach, run(*args))


@contextmanager
def _torch_func_allowed() -> Iterator[None]:
    """Let a reference call torch.func where a compiled graph called it: from inside a mode that switches that off."""
    torch_c, excluded = torch._C, torch._C._dispatch_tls_local_exclude_set()
    keys = torch_c.DispatchKey
    if not excluded.has(keys.FuncTorchGradWrapper):
        yield
        return
    for key in (
        keys.FuncTorchDynamicLayerBackMode,
        keys.FuncTorchDynamicLayerFrontMode,
        keys.FuncTorchGradWrapper,
        keys.ADInplaceOrView,
    ):
        excluded = excluded.remove(key)
    with _disable_current_modes(), torch_c._ForceDispatchKeyGuard(torch_c._dispatch_tls_local_include_set(), excluded):
        yield


def _why_not_cpu(device: str) -> str | None:
    return why_no_cpu_library() or (None if device == "cpu" else f"the tensor is on {device}, not on the CPU")


def _why_not_cuda(device: str) -> str | None:
    return why_no_cuda_library() or (None if device == "cuda" else f"the tensor is on {device}, not on a GPU")


def _why_not_triton(device: str) -> str | None:
    if reason := why_no_triton():
        return reason
    if device == "cuda" or (device == "cpu" and triton_interpreted()):
        return None
    return f"the tensor is on {device}; Triton runs on a GPU, or on the CPU with TRITON_INTERPRET=1"


_COMMON_REASONS = {"cpu": _why_not_cpu, "cuda": _why_not_cuda, "triton": _why_not_triton}


def register_sharding(op: Op) -> None:
    """Give DTensor the op's rule, once a program has imported DTensor: its import is too slow for everybody else.

    That is at the op's first call, or here and now where DTensor came first; the latter serves programs that only
    ever call the op compiled.
    """
    if op.sharding is None or "torch.distributed.tensor" not in sys.modules:
        return
    from torch.distributed.tensor.experimental import register_sharding

    overloads = [op.overload] if op.triton is None else [op.overload, op.triton_overload]
    register_sharding(overloads)(load_object(op.sharding))
    op._sharding_registered = True
