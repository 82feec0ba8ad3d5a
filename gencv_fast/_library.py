"""Loads the shared libraries that the build put beside the package, and says why when one cannot be."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch

LIB_DIR = Path(__file__).parent / "_lib"

#: Holds every operator schema and the Python-side kernels; the shared libraries add theirs to the same namespace.
LIBRARY = torch.library.Library("gencv_fast", "FRAGMENT")


def is_pure() -> bool:
    """True where GENCV_FAST_PURE=1 asks for the package without its compiled kernels."""
    return os.environ.get("GENCV_FAST_PURE", "0") == "1"


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


@cache
def why_no_cpu_library() -> str | None:
    """Load the CPU kernels once; return None on success, else the reason."""
    return _load("libgencv_fast_torch_cpu.so")


@cache
def why_no_cuda_library() -> str | None:
    """Load the CUDA kernels once; return None on success, else the reason. Needs no GPU."""
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    return _load("libgencv_fast_torch_cuda.so")


@cache
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
