"""The CUDA emulator: correct kernels pass in every thread order, and each planted bug is seen caught."""

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("GENCV_FAST_BUILD_DIR", REPOSITORY / "build"))
ORDERS = ("forward", "reverse", "random", "random:7")
KERNELS = "emulator_kernels.cu"
PLACE = re.escape(KERNELS) + r":\d+"


def emulator_test(
    mode: str, *words: str, program: str = "emulator_test", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    executable = BUILD / "emulated" / mode / program
    if not executable.exists():
        how = f"cmake -B {BUILD} -DGENCV_FAST_DEV=ON && cmake --build {BUILD}"
        pytest.skip(f"{executable} is not built; build it with: {how}")
    inherited = {name: value for name, value in os.environ.items() if name != "GENCV_FAST_EMULATOR_ORDER"}
    return subprocess.run(
        [str(executable), *words],
        env=inherited | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def line_of(text: str) -> int:
    """The only line of the kernels' source that contains `text`."""
    source = (REPOSITORY / "tests" / "cpp" / KERNELS).read_text().splitlines()
    (line,) = [number for number, line in enumerate(source, start=1) if text in line]
    return line


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", ["plain", "asan", "tsan"])
def test_correct_kernels_pass(mode: str, order: str) -> None:
    result = emulator_test(mode, "--order", order)
    assert result.returncode == 0, result.stdout
    assert result.stdout.count(": passed") == 9, result.stdout


def test_correct_kernels_pass_with_ucontext() -> None:
    result = emulator_test("plain", program="emulator_test_ucontext")
    assert result.returncode == 0, result.stdout


@dataclass(frozen=True)
class Planted:
    """A bug, the build and order that catch it, and what the report says."""

    case: str
    bug: str
    mode: str
    order: str
    report: str


NAN = r"wrong result: \w+ \d+ is -?nan, expected"
OVERFLOW = rf"AddressSanitizer: heap-buffer-overflow(.*\n)+?.*#0 .* row_sum_kernel.*{PLACE}"
OUT_OF_BOUNDS = rf"{PLACE}:\d+: runtime error: index 8 out of bounds for type 'float \[8\]'"
DIVERGENT = (
    r"launch failed: block \(0,0,0\) thread \(128,0,0\): divergent barrier: "
    rf"__syncthreads at \S*{PLACE} \(row_sum_kernel<.*>\), but other threads .* __syncthreads at \S*{PLACE}"
)
EARLY_EXIT = (
    r"launch failed: early exit: .*\n"
    rf" +255 wait in __syncthreads at \S*{PLACE} \(row_sum_kernel<.*>\), first block .*\n +1 returned"
)


def race_in(kernel: str) -> str:
    return rf"ThreadSanitizer: data race(.*\n)+?.*#0 {kernel}.* \S*{PLACE}"


PLANTED = [
    Planted("row_sum", "missing_barrier", "plain", "forward", NAN),
    Planted("row_sum", "missing_barrier", "tsan", "random", race_in("row_sum_kernel")),
    Planted("row_sum", "unwritten_slot", "plain", "forward", NAN),
    Planted("row_sum", "read_past_end", "asan", "forward", OVERFLOW),
    Planted("row_sum", "divergent_barrier", "plain", "forward", DIVERGENT),
    Planted("row_sum", "early_exit", "plain", "random", EARLY_EXIT),
    Planted("row_sum", "shared_index", "asan", "forward", OUT_OF_BOUNDS),
    Planted("rotate", "reused_shared", "plain", "reverse", r"wrong result: thread \d+ is \d+, expected"),
    Planted("rotate", "reused_shared", "tsan", "forward", race_in("rotate_kernel")),
    Planted("tile_product", "async_wait", "plain", "forward", NAN),
    Planted("histogram", "block_race", "tsan", "forward", race_in("histogram_kernel")),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: f"{planted.bug}-{planted.mode}")
def test_planted_bug_is_caught(planted: Planted) -> None:
    result = emulator_test(planted.mode, "--order", planted.order, planted.case, planted.bug)
    assert result.returncode != 0, result.stdout
    assert re.search(planted.report, result.stdout), result.stdout


@pytest.mark.parametrize("order", ORDERS)
def test_grid_barrier_without_co_residency_is_a_deadlock(order: str) -> None:
    result = emulator_test("plain", "--order", order, "grid_rounds", "not_co_resident")
    assert result.returncode == 2, result.stdout
    assert "deadlock: spin_wait polls for a value that no resident thread can still write" in result.stdout
    for waiting in ("1 wait in spin_wait", "63 wait in __syncthreads"):
        assert re.search(rf"{waiting} at \S*cuda\.h:\d+ \(grid_barrier\)", result.stdout), result.stdout


@pytest.mark.parametrize("mode", ["plain", "asan", "tsan"])
def test_co_resident_blocks_that_spin_forever_are_a_deadlock(mode: str) -> None:
    result = emulator_test(mode, "wait_forever")
    assert result.returncode == 2, result.stdout
    waiting = rf"6 wait in spin_wait at \S*{re.escape(KERNELS)}:{line_of('spin_wait(flag,')} "
    assert re.search(rf"deadlock: .*\n +{waiting}", result.stdout), result.stdout


@pytest.mark.parametrize(
    ("case", "report"),
    [
        ("foreign_mask", r"__shfl_sync is called by lane 16, which is not in its mask 0x0000ffff"),
        ("outside_source", r"__shfl_sync reads lane 20, which is not in the mask 0x0000ffff"),
        ("returned_lane", r"mask 0xffffffff of __any_sync names lanes that returned .*: 0x00000020"),
        ("mixed_operations", r"divergent warp: __any_sync at .* wait in __syncwarp at"),
        ("misaligned_row", r"ldmatrix: the address of a row is not 16-byte aligned"),
        ("misaligned_copy", r"cp_async16: an address is not 16-byte aligned"),
        ("unfinished_copy", r"returned with cp\.async copies that it never waited for"),
        ("shared_memory", r"shared memory exceeds 232448 bytes"),
    ],
)
def test_misuse_is_reported(case: str, report: str) -> None:
    result = emulator_test("plain", case)
    assert result.returncode == 2, result.stdout
    assert re.search(rf"launch failed: block \(0,0,0\) thread \(\d+,0,0\): .*{report}", result.stdout), result.stdout


def test_stack_overflow_stops_at_the_guard_page() -> None:
    assert emulator_test("plain", "stack_overflow").returncode == -signal.SIGSEGV


def test_thread_sanitizer_refuses_more_threads_than_it_can_tell_apart() -> None:
    assert emulator_test("plain", "many_threads").returncode == 0
    result = emulator_test("tsan", "many_threads")
    assert result.returncode == 2, result.stdout
    assert "9000 threads, ThreadSanitizer can tell apart 8000" in result.stdout


def recorded_order(order: str) -> list[int]:
    result = emulator_test("plain", "order", environment={"GENCV_FAST_EMULATOR_ORDER": order})
    assert result.returncode == 0, result.stdout
    return [int(word) for word in result.stdout.splitlines()[0].split()]


def test_environment_chooses_the_order() -> None:
    ascending = list(range(24))
    assert recorded_order("forward") == ascending
    assert recorded_order("reverse") == ascending[::-1]
    shuffled = recorded_order("random:1")
    assert shuffled not in (ascending, ascending[::-1])
    assert shuffled == recorded_order("random")
    assert shuffled != recorded_order("random:2")


@pytest.mark.parametrize("order", ["sideways", "random:", "random:x", ""])
def test_unknown_order_fails_the_launch(order: str) -> None:
    result = emulator_test("plain", "order", environment={"GENCV_FAST_EMULATOR_ORDER": order})
    assert result.returncode == 2, result.stdout
    assert f"GENCV_FAST_EMULATOR_ORDER={order}: expected forward, reverse, random" in result.stdout


def test_kernels_compile_for_gpus(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on PATH")
    for source in (KERNELS, "emulator_builtins.cu", "emulator_misuse.cu"):
        command = [nvcc, "-std=c++17", "-fmad=false", "-I", str(REPOSITORY / "csrc"), "-c"]
        for architecture in (75, 80, 90):
            command += ["-gencode", f"arch=compute_{architecture},code=sm_{architecture}"]
        command += ["-o", str(tmp_path / "kernels.o"), str(REPOSITORY / "tests" / "cpp" / source)]
        compiled = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert compiled.returncode == 0, compiled.stderr
