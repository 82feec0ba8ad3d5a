"""What is special to the rpn room's GPU kernels; the harness compares them with the reference on all samples."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gencv_fast._inspection import compile_variant, cuda_reports, instruction_counts, triton_reports, why_not_cuda
from gencv_fast.ops.rpn import reference
from tests.ops.gpu_code import ARCHS, EMULATED, ORDERS, REPOSITORY, assert_nothing_contracted, ptx_operations

CUDA_KERNELS = ("histogram_kernel", "count_kernel", "sort_kernel", "decode_kernel", "merge_kernel")
TRITON_MODULE = "gencv_fast.ops.rpn.triton_kernels"
Sizes = Sequence[tuple[int, int, int]]
SIZES: Sizes = ((3, 6, 10), (3, 3, 5), (1, 2, 2))


def pyramid(
    sizes: Sizes, batch: int, dtype: torch.dtype = torch.float32, tied: bool = False
) -> tuple[list[Tensor], list[Tensor], Tensor, list[int]]:
    """Objectness and deltas, anchors, image sizes."""
    generator = torch.Generator().manual_seed(len(sizes) + batch)
    objectness, deltas, anchors = [], [], []
    for level, (a, h, w) in enumerate(sizes):
        logits = 2 * torch.randn(batch, a, h, w, generator=generator)
        objectness.append((logits.round() if tied else logits).to(dtype))
        deltas.append((0.4 * torch.randn(batch, 4 * a, h, w, generator=generator)).to(dtype))
        stride = 4 << level
        cells = stride * (1 + torch.arange(a)[:, None]) * torch.tensor([[-1.0, -1, 1, 1]])
        anchors.append(reference.grid_anchors(objectness[-1], cells, stride, stride))
    height, width = (4 * size for size in sizes[0][1:])
    image_sizes = [n for b in range(batch) for n in (height - b % 5, width - b % 7)]
    return objectness, deltas, torch.cat(anchors).to(dtype), image_sizes


@pytest.fixture(params=ORDERS)
def emulated(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The emulated operator, in one order of threads."""
    path = EMULATED / "plain" / "libgencv_fast_emulated.so"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    torch.ops.load_library(str(path))
    set_order = ctypes.CDLL(str(path)).gcv_emulator_set_order
    assert set_order(request.param.encode()) == 0
    yield torch.ops.gencv_fast_emulated.rpn_proposals
    set_order(b"forward")


def assert_equals_reference(operator: Any, *args: Any) -> None:
    for got, expected in zip(operator(*args), reference.rpn_proposals(*args), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("tied", [False, True], ids=["random", "tied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_emulated_selection_over_blocks(emulated: Any, dtype: torch.dtype, tied: bool) -> None:
    """Levels of several slices, more candidates than a sorted tile, more than one chunk of NMS."""
    pyramids = pyramid([(3, 38, 50), (3, 19, 25)], 2, dtype, tied)
    for limits in ((40, 30, 0.5), (2500, 500, 0.7)):
        assert_equals_reference(emulated, *pyramids, *limits)


@pytest.mark.parametrize("emulated", ["forward"], indirect=True)
def test_emulated_level_of_many_slices(emulated: Any) -> None:
    """More slices than a block has threads, in each of which one logit equals the last selected one."""
    shape = (1, 1, 1030, 1030)
    objectness = torch.zeros(shape).flatten().index_fill(0, torch.arange(7, 1030 * 1030, 4096), 1.0).view(shape)
    deltas = torch.zeros(1, 4, 1030, 1030)
    cell = torch.tensor([[-1.0, -1, 1, 1]])
    assert_equals_reference(emulated, [objectness], [deltas], cell, [2100, 2100], 300, 300, 0.5, 0.0, 0.0, [2, 2])


def test_emulated_images_in_groups(emulated: Any) -> None:
    """More than are queued together; each has its size and its anchors."""
    objectness, deltas, anchors, image_sizes = pyramid([(2, 2, 3), (1, 1, 2)], 70)
    shifted = anchors + torch.arange(70.0)[:, None, None]
    assert_equals_reference(emulated, objectness, deltas, shifted, image_sizes, 8, 9, 0.6)


def test_emulated_special_values(emulated: Any) -> None:
    objectness, deltas, *rest = pyramid(SIZES, 2)
    nan, inf = float("nan"), float("inf")
    objectness[0][0, 0, 0, :5] = torch.tensor([nan, inf, -inf, -0.0, 0.0])
    objectness[0].view(torch.int32)[0, 1, 2:4] = -1  # NaN with their signs set
    objectness[1][:] = nan
    deltas[0][0, :, 1, 1], deltas[0][0, 2:, 1, 2], deltas[2][1, 2] = inf, -inf, nan
    for pre_nms_top_n in (3, 21, 60):
        assert_equals_reference(emulated, objectness, deltas, *rest, pre_nms_top_n, 50, 0.5)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1 / 3, 1.0, float("nan")])
def test_emulated_thresholds(emulated: Any, threshold: float) -> None:
    """The strict ``>`` of the overlap, ``>=`` of score and size, each attained."""
    objectness, deltas, *rest = pyramid(SIZES, 2, tied=True)
    plain = [0 * d for d in deltas]
    assert_equals_reference(emulated, objectness, plain, *rest, 100, 90, threshold, 0.5, 16.0)


@pytest.mark.parametrize("order", ORDERS)
def test_launchers(order: str) -> None:
    """The torch-free test program; tests/sanitize runs it under the sanitizers."""
    executable = EMULATED / "plain" / "rpn_emulated_test"
    if not executable.exists():
        pytest.skip(f"{executable} is not built (make build)")
    done = subprocess.run([executable, "--order", order], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": passed") == 7, done.stdout


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigmoid_never_reverses_an_order(dtype: torch.dtype) -> None:
    """Candidates sorted by logit are sorted by score: the GPU kernels sort once. Where 2^k changes it could fail."""
    bits = torch.int32 if dtype == torch.float32 else torch.int64
    borders = (torch.arange(-140, 140, dtype=torch.float64) + 0.5) * torch.tensor(2.0, dtype=torch.float64).log()
    anywhere = torch.linspace(-100, 30, 1009, dtype=torch.float64)
    near = torch.cat((borders, anywhere)).to(dtype).view(bits)[:, None] + torch.arange(-200, 200, dtype=bits)
    scores = reference.sigmoid(near.view(dtype).sort(dim=1).values)
    assert (scores.diff(dim=1) >= 0).all()


INTERPRETED = """
import torch, triton, triton.language as tl
from gencv_fast._triton import exact
from gencv_fast.ops.rpn import reference, triton_kernels
from tests.ops.test_rpn_gpu import SIZES, assert_equals_reference, pyramid

@triton.jit
def functions(x, exponential, sigmoid, N: tl.constexpr):
    i = tl.arange(0, N)
    value = tl.load(x + i)
    tl.store(exponential + i, exact.exponential(value))
    tl.store(sigmoid + i, exact.sigmoid(value))

for dtype in (torch.float32, torch.float64):
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan], dtype=dtype)
    x = torch.cat((special, *(torch.linspace(-s, s, 1361, dtype=dtype) for s in (1, 110, 800)), special))[:4092]
    x = torch.nn.functional.pad(x, (0, 4096 - len(x)))
    results = torch.empty_like(x), torch.empty_like(x)
    functions[(1,)](x, *results, 4096)
    for got, expected in zip(results, (reference.exponential(x), reference.sigmoid(x))):
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)

objectness, deltas, *rest = pyramid(SIZES, 2)
objectness[0][0, 0, 0, :5] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 0.0])
objectness[0].view(torch.int32)[0, 1, 0, 0] = -1
objectness[1][:] = torch.nan
deltas[0][0, :, 1, 1], deltas[2][1, 2] = torch.inf, torch.nan
for pre_nms_top_n in (3, 60):
    assert_equals_reference(triton_kernels.rpn_proposals, objectness, deltas, *rest, pre_nms_top_n, 50, 0.5)
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    assert_equals_reference(triton_kernels.rpn_proposals, *pyramid(SIZES, 2, dtype, True), 40, 30, 0.5)

triton_kernels.CHUNK_TILES = 1
for post_nms_top_n in (70, 140):
    several = pyramid(((3, 8, 8), (2, 6, 6)), 2)
    assert_equals_reference(triton_kernels.rpn_proposals, *several, 300, post_nms_top_n, 0.8)
"""


def test_triton_in_the_interpreter(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    script = tmp_path / "interpreted.py"  # Triton reads the source of kernels from a file
    script.write_text(INTERPRETED)
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def room_cuda_reports(arch: int) -> list[Any]:
    if reason := why_not_cuda(arch):
        pytest.skip(reason)
    return [report for report in cuda_reports([arch]) if report.name.split("<")[0] in CUDA_KERNELS]


@pytest.mark.parametrize("arch", ARCHS)
def test_cuda_decisions_are_not_contracted(arch: int) -> None:
    reports = room_cuda_reports(arch)
    assert {report.name.split("<")[0] for report in reports} == set(CUDA_KERNELS)
    assert_nothing_contracted(reports)
    divisions = [instruction_counts(r)["FFMA.div"] for r in reports if r.name.startswith("decode_kernel<float>")]
    assert sum(divisions) > 0, "the division was not recognised"


def triton_variants(select: Callable[[Any], bool] = lambda variant: True) -> list[Any]:
    pytest.importorskip("triton")
    from gencv_fast.ops.rpn import triton_kernels

    return [variant for variant in triton_kernels.KERNELS if select(variant)]


@pytest.mark.parametrize("arch", ARCHS)
def test_triton_decisions_are_not_contracted(arch: int) -> None:
    """In PTX: every operation is rounded by itself, and constants keep their digits."""
    for variant in triton_variants():
        ptx = compile_variant(variant, arch).asm["ptx"]
        assert not ptx_operations(ptx, "fma"), variant.name
        assert all(".rn." in operation for operation in ptx_operations(ptx, "add|sub|mul|div")), variant.name
        assert all(".ftz" not in operation for operation in ptx_operations(ptx, r"\w+")), variant.name
        if variant.name.startswith("decode_kernel"):
            assert ptx_operations(ptx, "div"), variant.name
            assert ("0D3FF71547652B82FE" if "fp64" in variant.name else "0F3FB8AA3B").lower() in ptx.lower()


@pytest.mark.parametrize("arch", ARCHS)
def test_triton_machine_code_is_not_contracted(arch: int) -> None:
    pytest.importorskip("triton")
    assert_nothing_contracted([r for r in triton_reports([arch], [TRITON_MODULE]) if "fp64" not in r.name])


@pytest.mark.parametrize("arch", [100, 120, "gfx942"])
def test_triton_compiles_for_newer_and_other_gpus(arch: int | str) -> None:
    for variant in triton_variants(lambda v: v.name.endswith(("<fp32>", "<fp16>", "grid>", "resolve_kernel"))):
        assert compile_variant(variant, arch).asm
