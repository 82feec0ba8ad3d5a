"""`accelerate`: another library's own operators and functions run our kernels, until that is undone."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn

from .._dispatch import load_object
from .routes import Table

#: Each library's table, imported with that library at the first call.
LIBRARIES = {"torchvision": "gencv_fast._accelerate.torchvision:table"}


@dataclass(frozen=True)
class Routed:
    """One line of `Acceleration.routes`.

    Attributes:
        target: a function, as ``"torchvision.ops.boxes.batched_nms"``, or a dispatcher entry, as
            ``"torchvision::nms on CPU"``.
        to: the operator of ours that it runs; None where it was left alone.
        reason: why it was left alone; None where it was not.
    """

    target: str
    to: str | None = None
    reason: str | None = None


@dataclass
class _Rerouting:
    """A library as long as at least one `Acceleration` holds it."""

    routes: tuple[Routed, ...]
    undo: ExitStack
    holders: int = 0


_lock = threading.Lock()
_reroutings: dict[str, _Rerouting] = {}


class Acceleration:
    """What `accelerate` returns: undo it by `undo`, or use it in a ``with`` block.

    Attributes:
        library: whose functions and operators are re-routed, for the whole process.
        routes: what was re-routed, and to what; what was left alone, and why.

    A call that no kernel of ours serves, for its dtype, shape or device, runs the original, never our reference.
    """

    def __init__(self, library: str) -> None:
        self.library = library
        self.routes = _hold(library)
        self._holds = True
        self._is_entered = False

    def undo(self) -> None:
        """Give up this acceleration; the last one to go restores the library. Further calls do nothing."""
        with _lock:
            if self._holds:
                self._holds = False
                _release(self.library)

    def __enter__(self) -> Acceleration:
        if not self._holds:
            raise RuntimeError("accelerate: this acceleration was undone; call accelerate again for another one.")
        if self._is_entered:
            raise RuntimeError("accelerate: this acceleration was entered already; call accelerate again to nest.")
        self._is_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("accelerate: an acceleration cannot be copied or pickled; call accelerate again.")

    def __repr__(self) -> str:
        state = "re-routed in the whole process" if self._holds else "given up by this acceleration"
        width = max(len(route.target) for route in self.routes)
        told = [(f"{r.target:<{width}}", f"-> {r.to}" if r.to else f"left alone: {r.reason}") for r in self.routes]
        return "\n".join([f"{self.library}, {state}:", *(f"  {target}  {fate}" for target, fate in told)])


def _hold(library: str) -> tuple[Routed, ...]:
    with _lock:
        if library not in _reroutings:
            _reroutings[library] = _reroute(load_object(LIBRARIES[library])())
        _reroutings[library].holders += 1
        return _reroutings[library].routes


def _release(library: str) -> None:
    rerouting = _reroutings[library]
    rerouting.holders -= 1
    if rerouting.holders == 0:
        del _reroutings[library]
        rerouting.undo.close()


def _reroute(table: Table) -> _Rerouting:
    with ExitStack() as stack:
        told = []
        for route in table.routes:
            if reason := route.why_not():
                told.append(Routed(route.target, reason=reason))
            else:
                stack.enter_context(route.taken())
                told.append(Routed(route.target, to=route.to))
        told += [Routed(name, reason="gencv_fast has no counterpart") for name in table.others]
        return _Rerouting(tuple(told), stack.pop_all())


def accelerate(library: str = "torchvision") -> Acceleration:
    """Make another library's own functions and operators run the kernels of this package.

    Models need no change: torchvision's detectors, and whatever else calls its operators, find ours in their place.
    Results stay those of the original, as do arguments, dtypes, gradients, TorchScript and torch.compile. What the
    original refuses is refused, in a few cases in our words.

    The re-routing is **process-wide**: it holds in every thread and for every user of the library, until the
    last `Acceleration` is undone. Accelerations may nest and overlap, in any number of threads. Only the first of a
    process must not meet a thread that is inside torchvision, nor come during an export: it adds
    entries to torch's dispatcher.

    Args:
        library: ``"torchvision"``.

    Returns:
        An `Acceleration`, already in force: a plain call keeps it, a ``with`` block undoes it at its end. Print it to
        see what is re-routed and what is left alone.

    Raises:
        RuntimeError: an unknown library, or one that cannot be imported.

    Example:
        >>> import torch, torchvision, gencv_fast
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
        >>> with gencv_fast.accelerate("torchvision") as acceleration:
        ...     torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
        tensor([0, 2])
        >>> acceleration.routes[0].target, acceleration.routes[0].to
        ('torchvision::nms on CPU', 'gencv_fast.nms')
    """
    if library not in tuple(LIBRARIES):  # whatever it is, unhashable too
        raise RuntimeError(f"accelerate: library must be one of {', '.join(LIBRARIES)}, got {library!r}.")
    try:
        return Acceleration(library)
    except ImportError as error:
        raise RuntimeError(f"accelerate: {library} must be installed, got: {error}.") from error
