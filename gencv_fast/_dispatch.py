"""How a call travels: the public function, an `Op`, one backend's kernel. See docs/architecture.md."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from ._checks import why_wrong_type
from ._library import (
    LIBRARY,
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
def _inside_rule(backend: str | None) -> Iterator[None]:
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
    """One operator with all its faces; `register` gives it to torch.

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
        # Where no compiled kernel serves the device, the plain operator holds the reference (see register):
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
            _register_sharding(self)
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


def register(op: Op) -> Op:
    """Define the op's schemas and give torch every rule it needs: kernels, fake, autograd, autocast, vmap."""
    OPS[op.name] = op
    _register_rival(op, op.name, None)
    # Devices without a compiled kernel run the reference, so that graphs still run.
    LIBRARY.impl(op.name, op.run_reference, "CompositeExplicitAutograd")
    if op.triton is not None:
        _register_rival(op, f"{op.name}_triton", "triton")
        _register_triton(op, op.triton)
    _register_sharding(op)
    return op


def _register_rival(op: Op, name: str, backend: str | None) -> None:
    LIBRARY.define(name + op.schema, tags=(torch.Tag.pt2_compliant_tag,))
    register_rules(op, f"gencv_fast::{name}", backend, LIBRARY)


def register_rules(op: Op, qualified: str, backend: str | None, library: torch.library.Library) -> None:
    """Give torch everything but the kernels; ``backend`` is what the backward operator is asked for."""

    def fake(*args: Any) -> Any:
        op.check(*args)
        return op.fake(*args)

    torch.library.register_fake(qualified, fake, lib=library)

    def vmap(*args: Any) -> Any:
        # The rule calls the op again: on this rival, whatever use_backend asks of other calls.
        with _inside_rule(backend):
            return op.vmap(*args)

    torch.library.register_vmap(qualified, vmap, lib=library)
    _register_autograd(op, qualified, backend, library)
    if op.autocast is not None:
        for device in ("cpu", "cuda"):
            if isinstance(op.autocast, torch.dtype):
                torch.library.register_autocast(qualified, device, op.autocast, lib=library)
            else:
                _register_lower_precision(qualified, device, library)


def _register_lower_precision(qualified: str, device: str, library: torch.library.Library) -> None:
    """As torch.library.register_autocast, which knows only dtypes that are fixed."""
    namespace, name = qualified.split("::")
    overload = getattr(getattr(torch.ops, namespace), name).default
    key = getattr(torch._C.DispatchKey, f"Autocast{torch._C._dispatch_key_for_device(device)}")

    def run(*args: Any) -> Any:
        dtype = torch.get_autocast_dtype(device)

        def cast(tensor: torch.Tensor) -> torch.Tensor:
            wide = tensor.is_floating_point() and tensor.dtype != torch.float64
            return tensor.to(dtype) if wide else tensor

        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
            return overload(*tree_map_only(torch.Tensor, cast, args))

    library.impl(name, run, key.name)


def _register_autograd(op: Op, qualified: str, backend: str | None, library: torch.library.Library) -> None:
    if op.backward is not None:
        setup_context = partial(_setup_context, op, backend)
        backward = partial(_backward, op.backward)
        torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=library)
    elif op.is_backward:
        # Else a second derivative would silently count as zero.
        torch.library.register_autograd(qualified, partial(_refuse_second_derivative, op), lib=library)
    else:
        # Without this, torch marks floating-point results as requiring a gradient that does not exist.
        library.impl(qualified, torch.library.fallthrough_kernel, "Autograd")


def _refuse_second_derivative(op: Op, ctx: Any, *grads: Any) -> Any:
    raise RuntimeError(f"{op.name}: this gradient cannot be differentiated once more.")


def _setup_context(op: Op, backend: str | None, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.backend = backend
    if op.setup_context is not None:
        op.setup_context(ctx, inputs, output)


def _backward(rule: Callable[..., Any], ctx: Any, *grads: Any) -> Any:
    """Runs the rule on the rival that ran forward, whatever use_backend asks of other calls."""
    with _inside_rule(ctx.backend):
        gradients = rule(ctx, *grads)
    # Older versions of torch want none for arguments that were left to their defaults.
    return gradients[: len(ctx.needs_input_grad)]


def _register_sharding(op: Op) -> None:
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


def _register_triton(op: Op, kernel: str) -> None:
    def run(*args: Any) -> Any:
        op.check(*args)
        return load_object(kernel)(*args)

    LIBRARY.impl(f"{op.name}_triton", run, "CUDA")
    if triton_interpreted():
        LIBRARY.impl(f"{op.name}_triton", run, "CPU")


@dataclass(frozen=True)
class Explanation:
    """What runs for one call, and why the others don't. ``str()`` gives a table."""

    op: str
    chosen: str
    reasons: Mapping[str, str | None]

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.chosen}"]
        for backend, reason in self.reasons.items():
            state = reason or "can run"
            if backend == self.chosen:
                state = "chosen" if reason is None else f"asked for, but the call will fail: {reason}"
            lines.append(f"  {backend:<9} {state}")
        return "\n".join(lines)


def explain(op: Callable[..., Any] | str, *args: Any) -> Explanation:
    """Say which backend a call would take and why the others would not run.

    Args:
        op: a public function of this package, or its name.
        args: the arguments of the call, by position.

    Raises:
        RuntimeError: an unknown op, or no tensor among the arguments.

    Example:
        >>> print(gencv_fast.explain(gencv_fast.nms, boxes, scores, 0.5))  # doctest: +SKIP
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", str(op))
    if name not in OPS:
        raise RuntimeError(f"explain: expected one of {', '.join(OPS)}, got {name!r}.")
    first = args[0] if args else None
    if isinstance(first, Sequence) and not isinstance(first, str) and first:
        first = first[0]
    if not isinstance(first, torch.Tensor):
        raise RuntimeError(
            "explain: expected the arguments of the call after the op, a tensor or list of tensors first."
        )
    found = OPS[name]
    reasons = {backend: found.why_not(backend, *args) for backend in BACKENDS}
    return Explanation(name, requested_backend() or found.choose(*args), reasons)
