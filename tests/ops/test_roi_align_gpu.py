"""What is special to RoI align's GPU kernels; the harness compares them with the reference on all samples."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gencv_fast._inspection import compile_variant, cuda_reports, instruction_counts, triton_reports, why_not_cuda
from gencv_fast.ops.roi.align import reference
from tests.ops.gpu_code import ARCHS, EMULATED, ORDERS, REPOSITORY

CUDA_KERNELS = {f"align_{part}_kernel" for part in ("average", "max", "gather", "winner", "box")}
TRITON_MODULE = "gencv_fast.ops.roi.align.triton_kernels"


@pytest.fixture(params=ORDERS)
def emulated(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The emulated operators, in one order of threads."""
    path = EMULATED / "plain" / "libgencv_fast_emulated.so"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    torch.ops.load_library(str(path))
    set_order = ctypes.CDLL(str(path)).gcv_emulator_set_order
    assert set_order(request.param.encode()) == 0
    yield torch.ops.gencv_fast_emulated
    set_order(b"forward")


def regions(count: int, side: float) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    corner = side * (1.2 * torch.rand(count, 2, generator=generator) - 0.1)
    size = side / 2 * torch.rand(count, 2, generator=generator)
    image = torch.randint(0, 2, (count, 1), generator=generator)
    return torch.cat((image, corner, corner + size), 1).double()


def assert_equals_reference(operators: Any, maps: Tensor, boxes: Tensor, *args: Any) -> None:
    """Forward, and the gradients of maps and boxes, in float64."""
    expected = reference.roi_align(maps, boxes, *args)
    torch.testing.assert_close(operators.roi_align(maps, boxes, *args), expected, rtol=0, atol=1e-11, equal_nan=True)
    grad = torch.cos(torch.arange(expected.numel(), dtype=torch.float64)).view(expected.shape)
    call = (grad, boxes, maps, (maps.shape[0], *maps.shape[2:]), *args[1:], True, False)
    for got, wanted in zip(operators.roi_align_backward(*call), reference.roi_align_backward(*call), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def maps_of(channels: int, height: int, width: int, channels_last: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    maps = torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)
    return maps.to(memory_format=torch.channels_last) if channels_last else maps


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_emulated_more_regions_than_a_block_looks_at(emulated: Any, mode: str) -> None:
    """And more of them on a tile than are gathered between two barriers; tiles cut by the border."""
    assert_equals_reference(emulated, maps_of(2, 9, 17), regions(300, 16), (2, 3), 1.0, 2, False, mode)


@pytest.mark.parametrize("channels_last", [False, True])
def test_emulated_more_channels_than_a_block_owns(emulated: Any, channels_last: bool) -> None:
    maps = maps_of(72, 6, 7, channels_last)
    assert_equals_reference(emulated, maps, regions(3, 6), (7, 7), 1.0, 2, True, "avg")


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_emulated_more_bins_than_a_window(emulated: Any, mode: str) -> None:
    assert_equals_reference(emulated, maps_of(1, 12, 12), regions(3, 12), (18, 35), 1.0, -1, False, mode)


@pytest.mark.parametrize("emulated", ["forward"], indirect=True)
@pytest.mark.parametrize(("shape", "ratio"), [((3, 2200), -1), ((2, 3), 1500)])
def test_emulated_taps_beyond_shared_memory(emulated: Any, shape: tuple[int, int], ratio: int) -> None:
    """Of a wide map, or of very many samples, they lie in the workspace."""
    maps = maps_of(2, *shape)
    boxes = torch.tensor([[0, -3.0, -2, 2300, 4], [1, 700, 0.5, 705, 2]]).double()
    expected = reference.roi_align(maps, boxes, (1, 2), 1.0, ratio)
    got = emulated.roi_align(maps, boxes, (1, 2), 1.0, ratio)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)


def test_emulated_taps_do_not_run_into_each_other(emulated: Any) -> None:
    """Adaptive bins that share rows, in every position."""
    shifts = torch.linspace(0, 3, 31, dtype=torch.float64)
    boxes = torch.stack((torch.zeros(31).double(), shifts, 2 * shifts, shifts + 7 + shifts, 2 * shifts + 4), 1)
    for aligned in (False, True):
        assert_equals_reference(emulated, maps_of(1, 13, 14), boxes, (5, 3), 1.0, -1, aligned, "avg")


def test_emulated_boxes_of_the_smallest_size(emulated: Any) -> None:
    """Their far edges move nothing."""
    assert_equals_reference(emulated, maps_of(2, 4, 4), regions(9, 1.5), (2, 2), 1.0, 2, False, "avg")


@pytest.mark.parametrize("order", ORDERS)
def test_launchers(order: str) -> None:
    """The torch-free test program; tests/sanitize runs it under the sanitizers."""
    executable = EMULATED / "plain" / "roi_align_emulated_test"
    if not executable.exists():
        pytest.skip(f"{executable} is not built (make build)")
    done = subprocess.run([executable, "--order", order], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": passed") == 4, done.stdout


INTERPRETED = """
import torch
from gencv_fast.ops.roi.align import triton_kernels
from tests.ops.test_roi_align_gpu import assert_equals_reference, maps_of, regions

for mode in ("avg", "max"):
    assert_equals_reference(triton_kernels, maps_of(17, 3, 18), regions(2, 10), (2, 1), 1.0, 2, False, mode)
    assert_equals_reference(triton_kernels, maps_of(1, 5, 4), regions(3, 5), (1, 2), 1.0, -1, True, mode)
# Boxes of the smallest size, whose far edges move nothing.
assert_equals_reference(triton_kernels, maps_of(1, 3, 4), regions(2, 1.5), (1, 1), 1.0, 2, False, "avg")
"""


def test_triton_in_the_interpreter(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    script = tmp_path / "interpreted.py"
    script.write_text(INTERPRETED)
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def wing_cuda_reports(arch: int) -> list[Any]:
    if reason := why_not_cuda(arch):
        pytest.skip(reason)
    return [report for report in cuda_reports([arch], "align_") if report.name.split("<")[0] in CUDA_KERNELS]


@pytest.mark.parametrize("arch", ARCHS)
def test_cuda_kernels_do_not_spill(arch: int) -> None:
    reports = wing_cuda_reports(arch)
    assert {report.name.split("<")[0] for report in reports} == CUDA_KERNELS
    assert not [report.name for report in reports if report.spills and "<double" not in report.name]


def test_cuda_kernels_load_16_bytes_of_channels_at_a_time() -> None:
    kernels = [r for r in wing_cuda_reports(90) if re.match(r"align_(average|gather)_kernel<\w+, true", r.name)]
    assert len(kernels) == 2 * 4
    for report in kernels:
        assert instruction_counts(report)["LDG.128"] > 0, report.name


@pytest.mark.parametrize("arch", ARCHS)
def test_triton_kernels_do_not_spill(arch: int) -> None:
    pytest.importorskip("triton")
    for report in triton_reports([arch], [TRITON_MODULE]):
        assert "fp64" in report.name or not report.spills, report.name


@pytest.mark.parametrize("arch", [100, 120, "gfx942"])
def test_triton_compiles_for_newer_and_other_gpus(arch: int | str) -> None:
    pytest.importorskip("triton")
    from gencv_fast.ops.roi.align import triton_kernels

    for variant in triton_kernels.KERNELS:
        if "<fp32" in variant.name or "<fp16" in variant.name:
            assert compile_variant(variant, arch).asm
