"""Loads the shared libraries that the build put beside the package, and says why when one cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import torch

LIB_DIR = Path(__file__).parent / "_lib"

#: Holds every operator schema and the Python-side kernels; the shared libraries add theirs to the same namespace.
LIBRARY = torch.library.Library("gencv_fast", "FRAGMENT")


def is_pure() -> bool:
    """True where GENCV_FAST_PURE=1 asks for the package without its compiled kernels."""
    return os.environ.get("GENCV_FAST_PURE", "0") == "1"


_reasons: dict[str, str | None] = {}


def _once(find: Callable[[], str | None]) -> Callable[[], str | None]:
    """As functools.cache, which torch.compile would look through, to trace the loading of a library."""
    name = find.__name__

    @wraps(find)
    def reason() -> str | None:
        if name not in _reasons:
            _reasons[name] = find()
        return _reasons[name]

    return reason


def _load(name: str) -> str | None:
    if is_pure():
        return "GENCV_FAST_PURE=1 leaves the compiled kernels out"
    path = LIB_DIR / name
    if not path.exists():
        return f"{name} was not built"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{name} could not be loaded: {error}"
    return None


@_once
def why_no_cpu_library() -> str | None:
    """Load the CPU kernels once; return None on success, else the reason."""
    return _load("libgencv_fast_torch_cpu.so")


@_once
def why_no_cuda_library() -> str | None:
    """Load the CUDA kernels once; return None on success, else the reason. Needs no GPU."""
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    return _load("libgencv_fast_torch_cuda.so")


@_once
def why_no_triton() -> str | None:
    """Return None where Triton can be imported, else the reason."""
    try:
        import triton  # noqa: F401  (imported to see whether it is there)
    except ImportError as error:
        return f"Triton cannot be imported: {error}"
    return None


def triton_interpreted() -> bool:
    """True where TRITON_INTERPRET=1 makes Triton kernels run on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def check_isa_override() -> None:
    """Raise RuntimeError where GENCV_FAST_ISA asks for an instruction set that the kernels cannot use here."""
    wanted = os.environ.get("GENCV_FAST_ISA")
    if not wanted or why_no_cpu_library() is not None:
        return
    from . import _native

    if _native.isa() != wanted:
        usable = ", ".join(_native.available_isas())
        raise RuntimeError(f"GENCV_FAST_ISA: expected one of {usable} on this processor, got {wanted!r}.")
