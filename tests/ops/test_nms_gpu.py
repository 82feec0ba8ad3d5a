"""What is special to the nms room's GPU kernels; the harness compares them with the reference on all samples."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gencv_fast._inspection import compile_variant, cuda_reports, instruction_counts, triton_reports, why_not_cuda
from gencv_fast.ops.nms import reference
from tests.ops.gpu_code import ARCHS, EMULATED, ORDERS, REPOSITORY, assert_nothing_contracted, ptx_operations

torchvision = pytest.importorskip("torchvision")

CUDA_KERNELS = (
    "sort_keys_kernel",
    "gather_kernel",
    "mask_kernel",
    "resolve_kernel",
    "suppress_kernel",
    "soft_nms_kernel",
    "multiclass_kernel",
)
TRITON_MODULE = "gencv_fast.ops.nms.triton_kernels"


def grid_boxes(n: int, seed: int, side: int = 40) -> tuple[Tensor, Tensor]:
    """Boxes and scores with many ties, touching edges and empty boxes; IoUs are fractions of small integers."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, side, (n, 2), generator=generator)
    size = torch.randint(0, 9, (n, 2), generator=generator)
    scores = torch.randint(-16, 48, (n,), generator=generator) / 32
    return torch.cat((corner, corner + size), dim=1).float(), scores


def chain(n: int) -> tuple[Tensor, Tensor]:
    """Each box overlaps its two neighbours only, by IoU 3/11: greedy keeps every second one."""
    left = 4.0 * torch.arange(n)
    boxes = torch.stack((left, torch.zeros(n), left + 7, torch.full((n,), 10.0)), dim=1)
    return boxes, torch.linspace(1, 0, n)


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


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 2047, 2048, 2049, 4500])
def test_emulated_nms_at_tile_and_chunk_edges(emulated: Any, n: int) -> None:
    boxes, scores = grid_boxes(n, seed=n, side=10 + n // 8)
    expected = torchvision.ops.nms(boxes, scores, 0.3)
    torch.testing.assert_close(emulated.nms(boxes, scores, 0.3), expected, rtol=0, atol=0)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1 / 7, 0.25, 1 / 3, 0.5, 2 / 3, 1.0, 1e-42, float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_emulated_nms_at_attained_thresholds(emulated: Any, threshold: float, dtype: torch.dtype) -> None:
    """Many IoUs equal the threshold in exact arithmetic: rounding, then the strict ``>``, decide."""
    boxes, scores = grid_boxes(150, seed=1, side=16)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    for near in (threshold, float(torch.tensor(threshold))):
        expected = torchvision.ops.nms(boxes, scores, near)
        assert torch.equal(emulated.nms(boxes, scores, near), expected)


@pytest.mark.parametrize("n", [130, 2200])
def test_emulated_chain_of_suppressions(emulated: Any, n: int) -> None:
    boxes, scores = chain(n)
    assert torch.equal(emulated.nms(boxes, scores, 0.25), torch.arange(0, n, 2))
    attained = float(torch.tensor(3 / 11))
    assert torch.equal(emulated.nms(boxes, scores, attained), torch.arange(n))


def test_emulated_extremes(emulated: Any) -> None:
    """Products of the prefilter underflow or overflow; the division decides."""
    base, scores = grid_boxes(80, seed=2, side=16)
    for scale in (1e-22, 1e-19, 1e18, 3e19):
        boxes = base * scale
        for threshold in (0.0, 0.5, 1.0):
            expected = reference.nms(boxes, scores, threshold)
            assert torch.equal(emulated.nms(boxes, scores, threshold), expected), (scale, threshold)


def test_emulated_order_of_special_scores(emulated: Any) -> None:
    """All NaN are equal and first, -0 and +0 are equal: ties keep the lower index first."""
    negative_nan = torch.tensor([-1], dtype=torch.int32).view(torch.float32)
    nan, inf = torch.tensor([float("nan")]), torch.tensor([float("inf")])
    scores = torch.cat((torch.tensor([0.0, -0.0, 0.0]), negative_nan, inf, nan, -inf, negative_nan))
    boxes, _ = chain(2 * len(scores))
    assert emulated.nms(boxes[::2], scores, 0.5).tolist() == [3, 5, 7, 4, 0, 1, 2, 6]


def test_emulated_nms_takes_any_strides(emulated: Any) -> None:
    boxes, scores = grid_boxes(100, seed=3)
    wide = torch.full((100, 9), float("nan"))
    wide[:, 1:9:2] = boxes
    spread_scores = torch.stack((scores, -scores), dim=1)[:, 0]
    expected = torchvision.ops.nms(boxes, scores, 0.3)
    for strided in (boxes.T.contiguous().T, wide[:, 1:9:2], torch.cat((boxes[:1], boxes))[1:]):
        assert torch.equal(emulated.nms(strided, spread_scores, 0.3), expected)
    same = emulated.nms(boxes[:1].expand(100, 4), scores[:1].expand(100), 0.3)
    assert same.tolist() == ([0] if (boxes[0, 2:] > boxes[0, :2]).all() else list(range(100)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_emulated_batched_nms_compares_classes(emulated: Any, dtype: torch.dtype) -> None:
    boxes, scores = grid_boxes(2300, seed=4, side=120)
    classes = torch.arange(2300) * 7 % 5
    expected = reference.batched_nms(boxes, scores, classes, 0.3)
    assert torch.equal(emulated.batched_nms(boxes, scores, classes.to(dtype), 0.3), expected)


def test_emulated_batched_nms_takes_any_class_id(emulated: Any) -> None:
    boxes, scores = grid_boxes(100, seed=5, side=12)
    far_apart = torch.tensor([-(2**62), -1, 2**31, 2**32 + 2**31])[torch.arange(100) % 4]
    expected = reference.batched_nms(boxes, scores, torch.arange(100) % 4, 0.3)
    assert torch.equal(emulated.batched_nms(boxes, scores, far_apart, 0.3), expected)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_emulated_soft_nms_over_several_blocks(emulated: Any, method: str) -> None:
    boxes, scores = grid_boxes(4200, seed=6, side=60)
    scores = torch.where(torch.arange(4200) % 41 == 0, scores, scores / 8)  # few are taken, from both blocks
    arguments = (boxes, scores, 0.3, 0.5, 0.8, method)
    got, expected = emulated.soft_nms(*arguments), reference.soft_nms(*arguments)
    assert len(expected[0]) > 10
    for g, e in zip(got, expected, strict=True):
        assert torch.equal(g, e)


@pytest.mark.parametrize("limits", [(300, 500), (66, 20), (0, 4), (5, 0)])
def test_emulated_multiclass_nms_stops_early(emulated: Any, limits: tuple[int, int]) -> None:
    pairs = [grid_boxes(200, seed=seed, side=48) for seed in (7, 8)]
    boxes = torch.stack([boxes for boxes, _ in pairs])
    scores = torch.stack([torch.stack((s, s.flip(0), -s)) for _, s in pairs])
    arguments = (boxes, scores, 0.3, 0.1, *limits)
    for got, expected in zip(emulated.multiclass_nms(*arguments), reference.multiclass_nms(*arguments), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("order", ORDERS)
def test_launchers(order: str) -> None:
    """The torch-free test program; tests/sanitize runs it under the sanitizers."""
    executable = EMULATED / "plain" / "nms_emulated_test"
    if not executable.exists():
        pytest.skip(f"{executable} is not built (make build)")
    done = subprocess.run([executable, "--order", order], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": passed") == 12, done.stdout


INTERPRETED = """
import torch, torchvision
from gencv_fast.ops.nms import reference, triton_kernels
from test_nms_gpu import chain, grid_boxes

def check(got, expected, *what):
    assert torch.equal(got, expected), what

for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
    for n in (0, 1, 64, 130):
        boxes, scores = (t.to(dtype) for t in grid_boxes(n, seed=n, side=16))
        check(triton_kernels.nms(boxes, scores, 0.3), reference.nms(boxes, scores, 0.3), dtype, n)
    boxes, scores = boxes[:40], scores[:40]
    for threshold in (-1.0, 0.0, 1 / 3, float(torch.tensor(1 / 3)), 1.0, float("nan")):
        check(triton_kernels.nms(boxes, scores, threshold), reference.nms(boxes, scores, threshold), dtype, threshold)

boxes, scores = grid_boxes(200, seed=1, side=20)
expected = torchvision.ops.nms(boxes, scores, 0.3)
for chunk_tiles in (1, 2):
    check(triton_kernels._run(boxes, scores, None, 0.3, chunk_tiles), expected, "chunks", chunk_tiles)
check(triton_kernels.nms(boxes.T.contiguous().T, torch.stack((scores, scores), 1)[:, 1], 0.3), expected, "strides")
for chunk_tiles in (1, 32):
    classes = torch.tensor([-(2**62), -1, 2**31, 2**32 + 2**31])[torch.arange(200) % 4]
    got = triton_kernels._run(boxes, scores, classes, 0.3, chunk_tiles)
    check(got, reference.batched_nms(boxes, scores, torch.arange(200) % 4, 0.3), "classes", chunk_tiles)
check(triton_kernels.nms(*chain(130), 0.25), torch.arange(0, 130, 2), "chain")
check(triton_kernels._run(*chain(130), None, 0.25, 1), torch.arange(0, 130, 2), "chain over chunks")

special = torch.tensor([0.0, -0.0, 0.0, 0.0, float("inf"), float("nan"), float("-inf")])
special[3:4].view(torch.int32).fill_(-1)  # a NaN with its sign set
check(triton_kernels.nms(chain(14)[0][::2], special, 0.5), torch.tensor([3, 5, 4, 0, 1, 2, 6]), "special scores")
"""


def test_triton_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    path = os.pathsep.join((str(REPOSITORY), str(Path(__file__).parent)))
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    command = [sys.executable, "-W", "ignore", "-c", INTERPRETED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def room_cuda_reports(arch: int) -> list[Any]:
    if reason := why_not_cuda(arch):
        pytest.skip(reason)
    return [report for report in cuda_reports([arch]) if report.name.split("<")[0] in CUDA_KERNELS]


@pytest.mark.parametrize("arch", ARCHS)
def test_cuda_decisions_are_not_contracted(arch: int) -> None:
    reports = room_cuda_reports(arch)
    assert_nothing_contracted(reports)
    assert sum(instruction_counts(report)["FFMA.div"] for report in reports) > 0, "the division was not recognised"


def test_cuda_kernels_load_16_bytes_at_a_time() -> None:
    for report in room_cuda_reports(90):
        counts = instruction_counts(report)
        if report.name.startswith(("mask_kernel", "suppress_kernel")):
            assert counts["LDG.128"] > 0, report.name
            assert counts["LDS.128"] > 0, report.name
        if report.name in ("gather_kernel<float>", "soft_nms_kernel<float>"):
            assert counts["LDG.128"] > 0, report.name


def triton_variants(select: Callable[[Any], bool] = lambda variant: True) -> list[Any]:
    pytest.importorskip("triton")
    from gencv_fast.ops.nms import triton_kernels

    return [variant for variant in triton_kernels.KERNELS if select(variant)]


@pytest.mark.parametrize("arch", ARCHS)
def test_triton_decisions_are_not_contracted(arch: int) -> None:
    """In PTX: every operation is rounded by itself. What ptxas makes of it is looked at in fp32, below."""
    for variant in triton_variants():
        ptx = compile_variant(variant, arch).asm["ptx"]
        assert not ptx_operations(ptx, "fma"), variant.name
        assert all(".rn." in operation for operation in ptx_operations(ptx, "add|sub|mul|div")), variant.name
        assert all(".ftz" not in operation for operation in ptx_operations(ptx, r"\w+")), variant.name
        if variant.name.startswith(("mask_kernel", "suppress_kernel")):
            assert ptx_operations(ptx, "div"), variant.name


@pytest.mark.parametrize("arch", ARCHS)
def test_triton_machine_code_is_not_contracted(arch: int) -> None:
    pytest.importorskip("triton")
    assert_nothing_contracted([r for r in triton_reports([arch], [TRITON_MODULE]) if "fp64" not in r.name])


def test_triton_resolve_loads_16_bytes_at_a_time() -> None:
    pytest.importorskip("triton")
    (report,) = triton_reports([90], [TRITON_MODULE], "resolve_kernel")
    assert instruction_counts(report)["LDG.128"] > 0


@pytest.mark.parametrize("arch", [100, 120, "gfx942"])
def test_triton_compiles_for_newer_and_other_gpus(arch: int | str) -> None:
    for variant in triton_variants(lambda v: v.name.endswith(("<fp32>", "<fp16>", "resolve_kernel"))):
        assert compile_variant(variant, arch).asm
