"""What `gencv-fast inspect` and the tests know of one compiled kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .classes import access_bits, count_classes
from .cubin import RawKernel
from .occupancy import Occupancy, theoretical_occupancy
from .sass import Instruction, find_loops
from .tools import demangle


@dataclass(frozen=True)
class LoopReport:
    """An innermost loop: where it is and how many instructions of each class one pass executes at most."""

    start: int
    end: int
    instructions: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class KernelReport:
    """One kernel, compiled for one architecture.

    `origin` is the library, file or module it comes from, `language` is ``"cuda"`` or ``"triton"``.
    `dynamic_shared_bytes` is None where only the launch decides it. `block_threads` is None where neither the
    machine code nor the caller says it; there is no `occupancy` then.
    """

    name: str
    language: str
    origin: str
    arch: int
    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    static_shared_bytes: int
    dynamic_shared_bytes: int | None
    block_threads: int | None
    occupancy: Occupancy | None
    instructions: int
    counts: Mapping[str, int]
    loops: Sequence[LoopReport]
    exact: bool = False

    @property
    def spills(self) -> bool:
        """True where registers are saved to local memory."""
        return self.spill_store_bytes + self.spill_load_bytes > 0

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return asdict(self) | {"counts": dict(self.counts)}


@dataclass(frozen=True)
class Launch:
    """What the machine code does not say: where a kernel comes from and how it is launched."""

    language: str
    origin: str
    name: str | None = None
    block_threads: int | None = None
    dynamic_shared_bytes: int | None = None
    exact: bool = False


def report_kernel(raw: RawKernel, launch: Launch) -> KernelReport:
    """Everything `inspect` shows of one kernel."""
    stores, loads = _spill_bytes(raw)
    counts = count_classes(raw.code, raw.library_routines)
    threads = raw.max_threads or launch.block_threads
    shared = raw.static_shared_bytes + (launch.dynamic_shared_bytes or 0)
    return KernelReport(
        name=launch.name or demangle(raw.name).replace("gcv::", ""),
        language=launch.language,
        origin=launch.origin,
        arch=raw.arch,
        registers=raw.registers,
        stack_bytes=raw.stack_bytes,
        spill_store_bytes=stores,
        spill_load_bytes=loads,
        static_shared_bytes=raw.static_shared_bytes,
        dynamic_shared_bytes=launch.dynamic_shared_bytes,
        block_threads=threads,
        occupancy=theoretical_occupancy(raw.arch, raw.registers, threads, shared) if threads else None,
        instructions=sum(counts.values()),
        counts=dict(counts),
        loops=_loop_reports(raw),
        exact=launch.exact,
    )


def _loop_reports(raw: RawKernel) -> tuple[LoopReport, ...]:
    reports = []
    for loop in find_loops(raw.code):
        if any(loop.start in routine for routine in raw.library_routines):
            continue
        counts = count_classes(loop.instructions, raw.library_routines)
        reports.append(LoopReport(loop.start, loop.end, sum(counts.values()), dict(counts)))
    return tuple(reports)


def _spill_bytes(raw: RawKernel) -> tuple[int, int]:
    """Bytes of spill stores and loads, as ``ptxas -v`` counts them.

    ptxas marks each spill in the cubin. Where there is no mark (older toolkits leave none), local memory
    addressed straight from the stack pointer is a spill unless the kernel keeps an array on its stack.
    """
    local = [i for i in raw.code if i.name in ("STL", "LDL")]
    if raw.spill_addresses:
        local = [i for i in local if i.address in raw.spill_addresses]
    elif _keeps_an_array(raw.code):
        local = []
    return (
        sum(access_bits(i) // 8 for i in local if i.name == "STL"),
        sum(access_bits(i) // 8 for i in local if i.name == "LDL"),
    )


def _keeps_an_array(code: Sequence[Instruction]) -> bool:
    """True where an address on the stack is computed, as indexing needs it."""
    return any(
        i.name not in ("STL", "LDL") and i.operands and i.operands[0] != "R1" and "R1" in _registers(i.operands[1:])
        for i in code
    )


def _registers(operands: Iterable[str]) -> set[str]:
    return {text.removesuffix(".reuse").lstrip("-") for text in operands}


def is_fp64(report: KernelReport) -> bool:
    """True for kernels of double precision, which exist for gradient checks and may spill."""
    return "double" in report.name or "fp64" in report.name


def spilling_kernels(
    reports: Iterable[KernelReport], exempt: Callable[[KernelReport], bool] = is_fp64
) -> list[KernelReport]:
    """The kernels that spill registers and may not."""
    return [report for report in reports if report.spills and not exempt(report)]


def instruction_counts(report: KernelReport, *, in_loops: bool = False) -> dict[str, int]:
    """How many instructions of each class a kernel has, absent classes being 0.

    Args:
        report: the kernel.
        in_loops: count only what stands in innermost loops.

    ``counts["FFMA"] == 0`` says that no multiply and add were contracted: the multiply-adds inside a
    correctly rounded division are counted as ``FFMA.div``, CUDA's out-of-line routines as ``SLOW-PATH``.
    """
    if not in_loops:
        return _Zeros(report.counts)
    total: _Zeros = _Zeros()
    for loop in report.loops:
        for name, count in loop.counts.items():
            total[name] = total[name] + count
    return total


class _Zeros(dict[str, int]):
    def __missing__(self, name: str) -> int:
        return 0
