"""How much memory a call needs while it runs, its result included."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import gencv_fast


def peak_extra_bytes(run: Callable[[], Any], device: str) -> int | None:
    """The most that the call adds to what is resident; None where the system does not tell."""
    run()  # code and data that the first call loads are not counted
    return _peak_on_gpu(run) if device == "cuda" else _peak_resident(run) if sys.platform == "linux" else None


def _peak_on_gpu(run: Callable[[], Any]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_resident(run: Callable[[], Any]) -> int | None:
    gc.collect()
    gencv_fast.empty_cache()
    ctypes.CDLL(None).malloc_trim(0)  # pages that the allocator kept would hide what the call takes
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
    except OSError:
        return None
    before = _resident("VmRSS")
    run()
    return max(_resident("VmHWM") - before, 0)


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")
