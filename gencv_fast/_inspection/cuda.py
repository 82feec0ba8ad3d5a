"""Finds the machine code of the CUDA kernels: in the built library, or compiled on the spot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from .cubin import RawKernel, embedded_archs, read_kernels
from .report import KernelReport, Launch, report_kernel
from .tools import InspectionError, cuda_include_dirs, find_tool, run_tool

_PACKAGE = Path(__file__).parent.parent
LIBRARY = _PACKAGE / "_lib" / "libgencv_fast_kernels_cuda.so"
SOURCES = _PACKAGE.parent / "csrc"

# The options of cmake/cuda.cmake: other ones would inspect other code than what is shipped.
_NVCC_OPTIONS = ("-std=c++17", "-O3", "-DNDEBUG", "-fmad=false")


def cuda_sources() -> list[Path]:
    """The CUDA files of all rooms; none in an installed package."""
    return sorted(SOURCES.glob("*/*_cuda.cu"))


def compile_cuda(source: Path, arch: int, cubin: Path, options: Sequence[str] = _NVCC_OPTIONS) -> None:
    """Compile one CUDA file to machine code with nvcc."""
    includes = [f"-I{folder}" for folder in (SOURCES, *cuda_include_dirs())]
    run_tool("nvcc", ["-cubin", f"-arch=sm_{arch}", *options, *includes, "-o", cubin, source])


@cache
def _library_archs() -> tuple[int, ...]:
    return tuple(embedded_archs(LIBRARY)) if LIBRARY.is_file() else ()


@cache
def _library_kernels(arch: int) -> tuple[RawKernel, ...]:
    return tuple(read_kernels(LIBRARY, arch))


@cache
def _compiled_kernels(source: Path, arch: int) -> tuple[RawKernel, ...]:
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernels.cubin")
        compile_cuda(source, arch, cubin)
        return tuple(read_kernels(cubin))


def why_not_cuda(arch: int) -> str | None:
    """Why the CUDA kernels cannot be inspected for an architecture; None where they can."""
    if find_tool("cuobjdump") is None:
        return "cuobjdump was not found; it comes with the CUDA toolkit and with the triton package"
    if arch in _library_archs():
        return None
    if not cuda_sources():
        return f"the built library holds no sm_{arch} code and the sources are not here to compile"
    if find_tool("nvcc") is None:
        return f"the built library holds no sm_{arch} code and nvcc was not found to compile it"
    return None


def cuda_reports(
    archs: Iterable[int],
    kernel: str = "",
    block_threads: int | None = None,
    dynamic_shared_bytes: int | None = None,
) -> list[KernelReport]:
    """Inspect every CUDA kernel.

    Args:
        archs: compute capabilities times ten; one that the built library lacks is compiled with nvcc.
        kernel: only those whose name contains this.
        block_threads: block size of kernels that do not declare theirs with ``__launch_bounds__``.
        dynamic_shared_bytes: shared memory that launches ask for beyond what kernels declare.
    """
    reports = []
    for arch in archs:
        if reason := why_not_cuda(arch):
            raise InspectionError(f"The CUDA kernels cannot be inspected for sm_{arch}: {reason}.")
        for origin, raw in _kernels(arch):
            launch = Launch("cuda", origin, None, block_threads, dynamic_shared_bytes)
            reports.append(report_kernel(raw, launch))
    return [report for report in reports if kernel in report.name]


def _kernels(arch: int) -> list[tuple[str, RawKernel]]:
    if arch in _library_archs():
        return [(LIBRARY.name, raw) for raw in _library_kernels(arch)]
    return [(source.name, raw) for source in cuda_sources() for raw in _compiled_kernels(source, arch)]
