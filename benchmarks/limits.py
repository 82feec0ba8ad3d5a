"""What this machine can do at best, measured in the same run as the benchmarks."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

_COPY_BYTES = 128 << 20
_MATRIX = 1024
_KEYS = 10_000


@dataclass(frozen=True)
class Work:
    """What even an ideal kernel could not avoid. Results lie in pages that earlier ones have left."""

    moved_bytes: int
    operations: int = 0
    sorted_keys: int = 0


@dataclass(frozen=True)
class Limits:
    stream_bytes_per_s: float
    matmul_flops_per_s: float
    sort_s_per_comparison: float

    def ideal_seconds(self, work: Work) -> float:
        """Moving and computing overlap; sorting comes on top."""
        moving = work.moved_bytes / self.stream_bytes_per_s
        computing = work.operations / self.matmul_flops_per_s
        sorting = _comparisons(work.sorted_keys) * self.sort_s_per_comparison
        return max(moving, computing) + sorting

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def _comparisons(keys: int) -> float:
    return keys * math.log2(max(keys, 1))


def synchronised(run: Callable[[], object], device: str) -> Callable[[], object]:
    """What a GPU was told to do is done when this returns."""
    if device == "cpu":
        return run

    def call() -> object:
        result = run()
        torch.cuda.synchronize()
        return result

    return call


def _median_seconds(run: Callable[[], object], rounds: int) -> float:
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def busy_cpus(seconds: float = 0.5) -> float | None:
    """How many CPUs are at work while this process sleeps; None where there is no /proc/stat."""
    try:
        before = _cpu_ticks()
        time.sleep(seconds)
        busy, idle = (after - start for after, start in zip(_cpu_ticks(), before, strict=True))
    except OSError:
        return None
    return (os.cpu_count() or 1) * busy / max(busy + idle, 1)


def _cpu_ticks() -> tuple[int, int]:
    """Ticks of all CPUs since boot: busy, idle."""
    with open("/proc/stat") as stat:
        ticks = [int(field) for field in stat.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, idle


def measure(device: str) -> Limits:
    """On the CPU with torch's current number of threads (sort on one); takes about a second."""
    on_gpu = device == "cuda"
    # A copy through a GPU's cache would tell nothing of its memory, nor a small product of its arithmetic.
    size, side, keys = (8 * _COPY_BYTES, 8 * _MATRIX, 1_000 * _KEYS) if on_gpu else (_COPY_BYTES, _MATRIX, _KEYS)
    source, target = (torch.ones(size // 4, device=device) for _ in range(2))
    copy = _median_seconds(synchronised(lambda: target.copy_(source), device), 7)
    left, right, product = (torch.rand(side, side, device=device) for _ in range(3))
    matmul = _median_seconds(synchronised(lambda: torch.mm(left, right, out=product), device), 9)
    numbers = np.random.default_rng(0).random(keys, np.float32)
    on_device = torch.from_numpy(numbers).to(device)
    sort = synchronised(lambda: torch.argsort(on_device), device) if on_gpu else lambda: np.argsort(numbers)
    return Limits(
        stream_bytes_per_s=2 * size / copy,
        matmul_flops_per_s=2 * side**3 / matmul,
        sort_s_per_comparison=_median_seconds(sort, 51) / _comparisons(keys),
    )
