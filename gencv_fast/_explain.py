"""Which backend a call takes, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ._dispatch import BACKENDS, OPS, requested_backend


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
