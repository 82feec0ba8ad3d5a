"""Runs the torch-free test programs of every room under ASan + UBSan and TSan: the CPU kernels at each
instruction set and the CUDA kernels in the emulator. `make sanitize` runs it, not a plain pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BUILD = Path(os.environ.get("GENCV_FAST_BUILD_DIR", ROOT / "build"))
CMAKE = Path(sys.executable).with_name("cmake")


def programs(kind: str) -> list[str]:
    """Rooms, or parts of them, that have such a test program."""
    ending = f"_{kind}_test.cpp"
    return sorted(path.name.removesuffix(ending) for path in (ROOT / "tests/cpp").glob(f"*{ending}"))


def run_clean(kind: str, mode: str, part: str, *arguments: str) -> str:
    target = f"{part}_{kind}_test_{mode}"
    subprocess.run([CMAKE, "--build", BUILD, "--target", target], check=True, capture_output=True)
    program = BUILD / ("emulated" if kind == "emulated" else "cpp_tests") / mode / f"{part}_{kind}_test"
    run = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("part", programs("cpu"))
def test_cpu_kernels_under_asan(part: str) -> None:
    assert "all checks passed" in run_clean("cpu", "asan", part)


@pytest.mark.full
@pytest.mark.parametrize("part", programs("cpu"))
def test_cpu_kernels_under_asan_at_larger_sizes(part: str) -> None:
    assert "all checks passed" in run_clean("cpu", "asan", part, "full")


@pytest.mark.parametrize("part", programs("cpu"))
def test_cpu_kernels_under_tsan(part: str) -> None:
    assert "all checks passed" in run_clean("cpu", "tsan", part)


@pytest.mark.parametrize("order", ["forward", "reverse", "random:7"])
@pytest.mark.parametrize("part", programs("emulated"))
def test_cuda_kernels_under_asan(part: str, order: str) -> None:
    assert ": passed" in run_clean("emulated", "asan", part, "--order", order)


@pytest.mark.parametrize(
    "order",
    ["random:7", pytest.param("forward", marks=pytest.mark.full), pytest.param("reverse", marks=pytest.mark.full)],
)
@pytest.mark.parametrize("part", programs("emulated"))
def test_cuda_kernels_under_tsan(part: str, order: str) -> None:
    assert ": passed" in run_clean("emulated", "tsan", part, "--order", order)
