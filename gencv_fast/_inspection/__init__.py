"""What the machine code of the GPU kernels says, without a GPU."""

from __future__ import annotations

from .cubin import read_kernels
from .cuda import compile_cuda, cuda_reports, cuda_sources, why_not_cuda
from .occupancy import theoretical_occupancy
from .report import KernelReport, Launch, instruction_counts, report_kernel, spilling_kernels
from .sass import find_loops, parse_sass
from .tools import InspectionError, find_tool
from .triton import AmdReport, compile_variant, room_modules, triton_reports
from .variants import TritonVariant

__all__ = [
    "AmdReport",
    "InspectionError",
    "KernelReport",
    "Launch",
    "TritonVariant",
    "compile_cuda",
    "compile_variant",
    "cuda_reports",
    "cuda_sources",
    "find_loops",
    "find_tool",
    "instruction_counts",
    "parse_sass",
    "read_kernels",
    "report_kernel",
    "room_modules",
    "spilling_kernels",
    "theoretical_occupancy",
    "triton_reports",
    "why_not_cuda",
]
