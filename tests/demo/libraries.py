"""Loads the demo room's libraries, which only the development build has."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from gencv_fast._library import is_pure

ROOT = Path(__file__).resolve().parents[2]
BUILD_DIR = Path(os.environ.get("GENCV_FAST_BUILD_DIR", ROOT / "build"))
HOW_TO_BUILD = "build it with: GENCV_FAST_DEV=ON pip install --no-build-isolation -e ."


def load_libraries() -> None:
    if is_pure():
        return
    torch.ops.load_library(str(BUILD_DIR / "libgencv_fast_demo_torch_cpu.so"))
    cuda = BUILD_DIR / "libgencv_fast_demo_torch_cuda.so"
    if torch.version.cuda is not None and cuda.exists():
        torch.ops.load_library(str(cuda))


def is_built() -> bool:
    return is_pure() or (BUILD_DIR / "libgencv_fast_demo_torch_cpu.so").exists()
