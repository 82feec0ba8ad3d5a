"""Loads the operator for plain products, which only the development build has."""

from __future__ import annotations

import torch

from tests.demo.libraries import BUILD_DIR, HOW_TO_BUILD

__all__ = ["HOW_TO_BUILD", "is_built", "load_libraries"]

_LIBRARY = BUILD_DIR / "libgencv_fast_products_torch_cpu.so"


def is_built() -> bool:
    return _LIBRARY.exists()


def load_libraries() -> None:
    torch.ops.load_library(str(_LIBRARY))
