"""Routes: how a function or a kernel of another library is sent to ours, and back."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._dispatch import Op, load_object

#: What the exchanged code of each function calls, by the path of its route.
REROUTED: dict[str, Callable[..., Any]] = {}


#: The dispatcher entries that were ever re-routed, by operator and dispatch key.
ENTRIES: dict[tuple[str, str], _Entry] = {}


class Route(Protocol):
    """One entry of a library's table.

    Its ``ours`` takes the target's arguments and returns NotImplemented to leave a call to the original.
    """

    @property
    def target(self) -> str:
        """What is re-routed, for people to read."""

    @property
    def to(self) -> str:
        """What runs in its place, likewise."""

    def why_not(self) -> str | None:
        """Why the target must be left alone; None where it can be re-routed."""

    def taken(self) -> AbstractContextManager[None]:
        """Re-routes the target while the context is open."""


@dataclass(frozen=True)
class Table:
    """All that is known of one library.

    Attributes:
        routes: in the order in which they are taken.
        others: operators of the library that this package has no counterpart of.
    """

    routes: tuple[Route, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class KernelRoute:
    """The kernel of an operator, or of its backward, for one device: ``KernelRoute("torchvision::nms", "cpu", ...)``.

    Everything in front of the kernel stays: autograd, autocast, fake tensors, TorchScript and C++ callers.
    """

    name: str
    device: str
    op: Op
    ours: Callable[..., Any]

    @property
    def target(self) -> str:
        return f"{self.name} on {self.device.upper()}"

    @property
    def to(self) -> str:
        return f"gencv_fast.{self.op.name}"

    def why_not(self) -> str | None:
        if not has_kernel(self.name, self.device):
            return f"{self.name.split(':')[0]} has no kernel for it"
        return self.op.why_no_kernel(self.device)

    @contextmanager
    def taken(self) -> Iterator[None]:
        key = self.name, self.device.upper()
        if key not in ENTRIES:
            ENTRIES[key] = _Entry(*key)
        ENTRIES[key].ours = self.ours
        try:
            yield
        finally:
            ENTRIES[key].ours = None


class _Entry:
    """A dispatcher entry that runs ours, or the original where ours is None or leaves the call to it.

    It stays, as long as the process: torch's dispatcher must not change while another thread may be in it. To
    switch an attribute is safe, and the detour costs a call of the original some 2 microseconds.
    """

    def __init__(self, name: str, key: str) -> None:
        self.ours: Callable[..., Any] | None = None
        # Dispatching to the original from here would come back here.
        self._original = torch.library.get_kernel(name, key)
        namespace, operator = name.split("::")
        self._library = torch.library.Library(namespace, "IMPL")
        self._library.impl(operator, self._run, key, with_keyset=True)

    def _run(self, keyset: torch._C.DispatchKeySet, *args: Any) -> Any:
        ours = self.ours
        result = NotImplemented if ours is None else ours(*args)
        return self._original.call_boxed(keyset, *args) if result is NotImplemented else result


def has_kernel(name: str, device: str) -> bool:
    try:
        return torch._C._dispatch_has_kernel_for_dispatch_key(name, device.upper())
    except RuntimeError:  # no such operator in this version, or in this build
        return False


@dataclass(frozen=True)
class FunctionRoute:
    """A plain Python function or method: ``FunctionRoute("torchvision.ops.boxes:batched_nms", ...)``.

    The code of the function is exchanged, and the function object stays what it is. So every name that is bound to
    it follows, there and back: imported by ``from``, kept in a module's attribute, imported later. Pickle still finds
    it by its name, and TorchScript its source.
    """

    path: str
    op: Op
    ours: Callable[..., Any]

    @property
    def target(self) -> str:
        return self.path.replace(":", ".")

    @property
    def to(self) -> str:
        return f"gencv_fast.{self.op.name}"

    def why_not(self) -> str | None:
        try:
            function = load_object(self.path)
        except (ImportError, AttributeError):
            return "this version has no such function"
        if not isinstance(function, FunctionType) or function.__closure__ or hasattr(function, "__wrapped__"):
            return "something has wrapped or replaced it"
        if not is_own(function, self.path):
            return "something has replaced it"
        if _parameters(function) != _parameters(self.ours):
            return f"its parameters are {inspect.signature(function)}, not {inspect.signature(self.ours)}"
        reasons = [self.op.why_no_kernel(device) for device in ("cpu", "cuda")]
        return None if None in reasons else reasons[0]

    @contextmanager
    def taken(self) -> Iterator[None]:
        function: FunctionType = load_object(self.path)
        code, original = function.__code__, _copied(function)

        def rerouted(*args: Any, **kwargs: Any) -> Any:
            # A graph that leaves this process must not need this package.
            if torch.jit.is_tracing() or torch.compiler.is_exporting():
                return original(*args, **kwargs)
            result = self.ours(*args, **kwargs)
            return original(*args, **kwargs) if result is NotImplemented else result

        # Stays when the route is given up: another thread may have entered the exchanged code a moment before.
        REROUTED[self.path] = rerouted
        function.__wrapped__ = original  # type: ignore[attr-defined]  # where inspect and TorchScript find the source
        function.__code__ = _code_calling(self.path, code)
        try:
            yield
        finally:
            function.__code__ = code
            del function.__wrapped__  # type: ignore[attr-defined]


def is_own(function: Any, path: str) -> bool:
    """Whether this is what the library defines at the path, with its own code or with that of a route.

    By attributes that torch.compile can read; ``__qualname__`` is none.
    """
    module, name = path.split(":")
    if getattr(function, "__module__", None) != module or getattr(function, "__name__", None) != name.split(".")[-1]:
        return False
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename in (sys.modules[module].__file__, __file__)


def _parameters(function: Any) -> tuple[Any, ...]:
    """All that tells how a function is called; annotations do not."""
    code = function.__code__
    has_rest = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    return code.co_varnames[: code.co_argcount], code.co_kwonlyargcount, has_rest, function.__defaults__


@functools.cache
def _code_calling(path: str, original: CodeType) -> CodeType:
    """Code with the same parameters that hands them to ``REROUTED[path]``.

    torch.compile remembers the parameters of a function object, so other code must not change them. The function
    keeps the globals of its module, so the code imports what it needs.
    """
    names = ", ".join(original.co_varnames[: original.co_argcount])
    source = f"""
def {original.co_name}({names}):
    from {__name__} import REROUTED
    return REROUTED[{path!r}]({names})
"""
    made: dict[str, Any] = {}
    exec(compile(source, __file__, "exec"), made)
    return made[original.co_name].__code__


def _copied(function: FunctionType) -> FunctionType:
    """The same function, whose code stays what it is now."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    for name in ("__module__", "__qualname__", "__doc__", "__annotations__"):
        setattr(copy, name, getattr(function, name))
    return copy


def run(op: Op, *args: Any) -> Any:
    """The op's result; NotImplemented where no kernel serves the call: the original is faster than our reference."""
    return op(*args) if op.serves(*args) else NotImplemented


def are_plain(*tensors: Any) -> bool:
    """Whether all are tensors on one device, of no subclass and in no transform of functorch or forward mode.

    The original does under those whatever plain PyTorch does.
    """
    return not _is_transforming() and all(
        type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device == tensors[0].device for tensor in tensors
    )


def have_equal_lengths(*tensors: Tensor) -> bool:
    """Left to the op's own check in torch.compile, where lengths may depend on data."""
    return torch.compiler.is_compiling() or len({len(tensor) for tensor in tensors}) == 1


def _is_transforming() -> bool:
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
