"""What `gencv-fast inspect` says of known machine code, and what it must say of every kernel of the rooms."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from gencv_fast._inspection import (
    InspectionError,
    KernelReport,
    Launch,
    compile_cuda,
    cuda_reports,
    find_loops,
    find_tool,
    instruction_counts,
    parse_sass,
    read_kernels,
    report_kernel,
    spilling_kernels,
    theoretical_occupancy,
    triton_reports,
    why_not_cuda,
)
from gencv_fast._inspection.cubin import RawKernel
from gencv_fast._inspection.tools import demangle

ARCHS = [80, 90, pytest.param(100, marks=pytest.mark.full), pytest.param(120, marks=pytest.mark.full)]
_FUSED = ("FFMA", "DFMA", "HFMA2")

_SOURCE = r"""
namespace gcv {
// One 16-byte load and store; the inner loop is one shared load, one multiply-add and its counting.
template <class T>
__global__ void __launch_bounds__(256) scale_kernel(const float4* in, float4* out, T factor) {
  __shared__ T tile[256];
  float4 value = in[threadIdx.x];
  tile[threadIdx.x] = value.x;
  __syncthreads();
  T sum = 0;
#pragma unroll 1
  for (int i = 0; i < 256; ++i) sum = __fmaf_rn(tile[i], factor, sum);
  value.x = sum;
  out[threadIdx.x] = value;
}
template __global__ void scale_kernel<float>(const float4*, float4*, float);

__global__ void divide_kernel(const float* a, const float* b, float* quotient, const double* c,
                              double* wide) {
  int i = threadIdx.x;
  quotient[i] = a[i] / b[i];
  wide[i] = c[i] / (c[i + 1] - c[i + 2]);
  wide[i + 256] = 1 / c[i + 3];
}

__global__ void quotient_plus_kernel(const float* a, const float* b, float* out) {
  out[threadIdx.x] = __fmaf_rn(a[threadIdx.x] / b[threadIdx.x], a[threadIdx.x + 1], 2.0f);
}

__global__ void contracted_kernel(const float* a, float* out) {
  out[threadIdx.x] = a[threadIdx.x] * a[threadIdx.x + 1] + a[threadIdx.x + 2];
}

// Needs far more than 32 registers at once, and no array in memory.
__global__ void hungry_kernel(const float* in, float* out, int n) {
  float r[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) r[i] = in[i * 128 + threadIdx.x];
  for (int k = 0; k < n; ++k) {
#pragma unroll
    for (int i = 0; i < 64; ++i) r[i] = r[i] * r[(i + 7) % 64] + r[(i + 31) % 64];
  }
#pragma unroll
  for (int i = 0; i < 64; ++i) out[i * 128 + threadIdx.x] = r[i];
}

// An array indexed at run time lives in local memory: that is no spill.
__global__ void indexed_kernel(const int* index, float* out, int n) {
  float r[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) r[i] = out[i];
  for (int i = 0; i < n; ++i) r[index[i] & 15] += 1;
#pragma unroll
  for (int i = 0; i < 16; ++i) out[i] = r[i];
}
}  // namespace gcv
"""


@cache
def _compiled(folder: Path, arch: int, *options: str) -> dict[str, KernelReport]:
    source, cubin = folder / "sample.cu", folder / f"sample{arch}{''.join(options)}.cubin"
    source.write_text(_SOURCE)
    compile_cuda(source, arch, cubin, ("-std=c++17", *options))
    reports = [report_kernel(raw, Launch("cuda", source.name)) for raw in read_kernels(cubin)]
    return {report.name: report for report in reports}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for tool in ("nvcc", "cuobjdump"):
        if find_tool(tool) is None:
            pytest.skip(f"{tool} was not found")
    return tmp_path_factory.mktemp("inspect")


@pytest.mark.parametrize("arch", ARCHS)
def test_known_kernel(folder, arch):
    report = _compiled(folder, arch)["scale_kernel<float>"]
    assert report.block_threads == 256
    assert report.static_shared_bytes == 1024
    assert not report.spills
    assert 8 <= report.registers <= 40
    counts = instruction_counts(report)
    assert (counts["LDG.128"], counts["STG.128"], counts["BAR"], counts["HFMA2"]) == (1, 1, 1, 0)
    [loop] = report.loops
    assert loop.counts["FFMA"] == 1
    assert loop.counts["LDS.32"] == 1
    assert instruction_counts(report, in_loops=True)["LDG.128"] == 0
    assert report.occupancy.fraction == 1.0


@pytest.mark.parametrize("arch", ARCHS)
def test_spills_are_counted_as_ptxas_counts_them_and_arrays_are_not(folder, arch):
    few_registers = _compiled(folder, arch, "-maxrregcount=32")
    hungry = few_registers["hungry_kernel"]
    assert hungry.registers == 32
    assert hungry.spill_store_bytes > 256
    assert hungry.spill_load_bytes > hungry.spill_store_bytes
    assert hungry.stack_bytes >= 256
    assert spilling_kernels(few_registers.values()) == [hungry]
    assert spilling_kernels(few_registers.values(), exempt=lambda report: report.name == "hungry_kernel") == []
    indexed = few_registers["indexed_kernel"]
    assert indexed.stack_bytes >= 64
    assert not indexed.spills
    assert not spilling_kernels(_compiled(folder, arch).values())


@pytest.mark.parametrize("arch", ARCHS)
def test_division_is_no_contraction(folder, arch):
    reports = _compiled(folder, arch, "-fmad=false")
    divide = instruction_counts(reports["divide_kernel"])
    assert [divide[name] for name in _FUSED] == [0, 0, 0]
    assert divide["FFMA.div"] >= 4
    assert divide["DFMA.div"] >= 7 + 5
    assert divide["SLOW-PATH"] > 0
    assert instruction_counts(reports["quotient_plus_kernel"])["FFMA"] == 1
    assert instruction_counts(reports["contracted_kernel"])["FFMA"] == 0
    assert instruction_counts(_compiled(folder, arch)["contracted_kernel"])["FFMA"] == 1


def _fused_of(*lines: str) -> tuple[int, int]:
    """Multiply-adds of divisions and others."""
    [code] = parse_sass(_listing(*lines)).values()
    counts = instruction_counts(report_kernel(RawKernel("kernel", 80, code=code), Launch("cuda", "listing")))
    return counts["FFMA.div"] + counts["DFMA.div"], counts["FFMA"] + counts["DFMA"]


def test_division_by_a_uniform_register_is_recognised():
    lines = (
        "IMAD.U32 R15, RZ, RZ, UR16",
        "MUFU.RCP R14, UR16",
        "FFMA R15, R14, -R15, 1",
        "FFMA R14, R14, R15, R14",
        "FFMA R15, R19, R14, RZ",
        "FFMA R16, R15, -UR16, R19",
        "FFMA R14, R14, R16, R15",
    )
    assert _fused_of(*lines) == (4, 0)
    assert _fused_of("IMAD.U32 R15, RZ, RZ, UR17", *lines[1:]) == (0, 4)


def test_division_of_doubles_whose_estimate_is_moved_is_recognised():
    lines = (
        "MUFU.RCP64H R32, R7",
        "IMAD.MOV.U32 R24, RZ, RZ, 0x1",
        "IMAD.MOV.U32 R25, RZ, RZ, R32",
        "DFMA R26, -R6, R24, 1",
        "DFMA R26, R26, R26, R26",
        "DFMA R26, R24, R26, R24",
        "DFMA R24, -R6, R26, 1",
        "DFMA R24, R26, R24, R26",
        "DMUL R26, R30, R24",
        "DFMA R28, -R6, R26, R30",
        "DFMA R24, R24, R28, R26",
    )
    assert _fused_of(*lines) == (7, 0)
    assert _fused_of(*lines, "DFMA R24, R24, R4, R8") == (7, 1)
    assert _fused_of(lines[0], lines[1], "IMAD.MOV.U32 R25, RZ, RZ, R33", *lines[3:]) == (0, 7)


@pytest.mark.parametrize("arch", ARCHS)
def test_triton_kernels(arch):
    pytest.importorskip("triton")
    reports = {report.name: report for report in triton_reports([arch], ["tests.triton_sample_kernels"])}
    matmul = reports["matmul_kernel"]
    counts = instruction_counts(matmul)
    assert counts["TENSOR"] > 0
    assert counts["STG.128"] > 0
    assert counts["LDGSTS"] + counts["LDG.128"] > 0
    assert instruction_counts(matmul, in_loops=True)["TENSOR"] > 0
    assert matmul.dynamic_shared_bytes >= 8192
    assert matmul.block_threads == 128
    assert instruction_counts(reports["multiply_add_kernel<fused>"])["FFMA"] == 4
    exact = reports["multiply_add_kernel<exact>"]
    assert exact.exact
    assert instruction_counts(exact)["FFMA"] == 0
    assert instruction_counts(exact)["LDG.128"] == 2


def test_triton_kernels_compile_for_amd():
    pytest.importorskip("triton")
    [report] = triton_reports(["gfx942"], ["tests.triton_sample_kernels"], kernel="matmul")
    assert report.vector_registers > 0
    assert report.shared_bytes > 0
    assert report.spilled_registers == 0


def test_a_kernel_that_does_not_compile_is_named():
    pytest.importorskip("triton")
    with pytest.raises(InspectionError, match=r"matmul_kernel does not compile for 3"):
        triton_reports([3], ["tests.triton_sample_kernels"], kernel="matmul")


@pytest.mark.parametrize(
    ("arch", "registers", "threads", "shared", "blocks", "warps", "limited_by"),
    [
        (90, 32, 256, 0, 8, 64, "warps"),  # 64 warps / 8 a block; registers allow 64 warps too
        (80, 168, 128, 0, 3, 12, "registers"),  # 5376 a warp: 3 in each quarter of 16384, 12 warps, 3 blocks
        (80, 33, 256, 0, 6, 48, "registers"),  # rounded to 40 a thread, 1280 a warp: 12 a quarter, 48 warps
        (80, 32, 128, 48 * 1024, 3, 12, "shared memory"),  # 49 KiB with the reserved one, in 164 KiB
        (90, 32, 128, 48 * 1024, 4, 16, "shared memory"),  # the same in 228 KiB
        (75, 32, 32, 0, 16, 16, "blocks"),  # 16 blocks of one warp, of 32 warps
        (120, 32, 1024, 0, 1, 32, "warps"),  # two would need 64 of 48 warps
        (90, 255, 1024, 0, 0, 0, "registers"),  # 32 warps need 8160 registers each, the launch fails
    ],
)
def test_occupancy_by_hand(arch, registers, threads, shared, blocks, warps, limited_by):
    found = theoretical_occupancy(arch, registers, threads, shared)
    assert (found.blocks, found.warps, found.limited_by) == (blocks, warps, limited_by)


def test_occupancy_of_an_unknown_architecture_is_unknown():
    assert theoretical_occupancy(70, 32, 256) is None


def _listing(*lines: str) -> str:
    text = "\n".join(f"        /*{16 * i:04x}*/                   {line} ;   /* 0x0 */" for i, line in enumerate(lines))
    return f"\tcode for sm_80\n\t\tFunction : kernel\n{text}\n"


def _loops_of(*lines: str) -> list[tuple[int, int]]:
    [code] = parse_sass(_listing(*lines)).values()
    return [(loop.start, loop.end) for loop in find_loops(code)]


def test_only_the_inner_one_of_nested_loops_is_reported():
    lines = (
        "MOV R1, R2",
        "MOV R3, RZ",
        "IADD3 R3, R3, 0x1, RZ",
        "@P0 BRA 0x20",
        "@P1 BRA 0x10",
        "EXIT",
        "BRA 0x60",
    )
    assert _loops_of(*lines) == [(0x20, 0x30)]


def test_code_moved_out_of_line_is_no_loop():
    lines = ("MOV R1, R2", "@P0 BRA 0x40", "MOV R3, R4", "EXIT", "MUFU.RCP R3, R4", "BRA 0x20")
    assert _loops_of(*lines) == []


def test_a_loop_that_waits_does_not_hide_the_loop_around_it():
    lines = (
        "MOV R1, R2",
        "FADD R3, R3, R4",
        "SYNCS.PHASECHK P0, [UR4]",
        "@!P0 BRA 0x20",
        "@P1 BRA 0x10",
        "EXIT",
    )
    assert _loops_of(*lines) == [(0x10, 0x40)]


def test_a_call_comes_back():
    lines = (
        "MOV R1, R2",
        "CALL.REL.NOINC 0x40",
        "@P1 BRA 0x10",
        "EXIT",
        "MUFU.RCP R3, R4",
        "RET.REL.NODEC R2, 0x0",
    )
    assert _loops_of(*lines) == [(0x10, 0x20)]


def _spills_of(*lines: str) -> tuple[int, int]:
    [code] = parse_sass(_listing(*lines)).values()
    report = report_kernel(RawKernel("kernel", 80, code=code), Launch("cuda", "listing"))
    return report.spill_store_bytes, report.spill_load_bytes


def test_without_marks_from_ptxas_stack_accesses_are_spills_unless_an_array_is_kept():
    accesses = ("STL.64 [R1+0x8], R4", "STL [R1], R6", "LDL.64 R4, [R1+0x8]")
    assert _spills_of("IADD3 R1, R1, -0x10, RZ", *accesses) == (12, 8)
    assert _spills_of("IADD3 R7, R1, 0x8, RZ", *accesses, "LDL R8, [R7]") == (0, 0)


def test_names_are_demangled_without_their_signature():
    assert demangle("_ZN3gcv4axpyIfLi64ELb1EEEvPfi") == "gcv::axpy<float, 64, true>"
    assert demangle("_ZN3gcv36_GLOBAL__N__3689ef6b_4_e_cu_931b68c34anonEPf") == "gcv::anon"
    assert demangle("mask_kernel") == "mask_kernel"


@cache
def _cuda_kernels(arch: int) -> list[KernelReport]:
    if reason := why_not_cuda(arch):
        pytest.skip(reason)
    return cuda_reports([arch])


@cache
def _triton_kernels(arch: int) -> list[KernelReport]:
    pytest.importorskip("triton")
    return [report for report in triton_reports([arch]) if isinstance(report, KernelReport)]


def _described(reports: list[KernelReport]) -> list[str]:
    return [f"{r.name}: {r.spill_store_bytes}+{r.spill_load_bytes} bytes spilled, {dict(r.counts)}" for r in reports]


@pytest.mark.parametrize("arch", ARCHS)
def test_no_cuda_kernel_spills(arch):
    assert _described(spilling_kernels(_cuda_kernels(arch))) == []


@pytest.mark.parametrize("arch", ARCHS)
def test_no_triton_kernel_spills(arch):
    assert _described(spilling_kernels(_triton_kernels(arch))) == []


def _contracted(reports: list[KernelReport]) -> list[KernelReport]:
    return [report for report in reports if any(instruction_counts(report)[name] for name in _FUSED)]


#: Kernels that decide nothing about boxes: logarithms, angles and what is computed with them; interpolation;
#: convolutions.
_UNDECIDED = (
    "align_average_kernel<",
    "align_box_kernel<",
    "align_gather_kernel<",
    "boxes_backward_kernel<",
    "conv_kernel<",
    "grad_weight_kernel<",
    "row_map_kernel<EncodeRow",
    "row_map_kernel<Convert",
    "pairwise_kernel<3",
    "own_gradient_kernel",
    "loss_kernel",
    "loss_backward_kernel",
)


def _decides(report: KernelReport) -> bool:
    return not report.name.startswith(_UNDECIDED)


@pytest.mark.parametrize("arch", ARCHS)
def test_no_multiply_add_decides_about_boxes_in_cuda(arch):
    """Box decisions are exact: nothing is contracted. Rooms that want multiply-adds are to be left out."""
    deciding = [report for report in _cuda_kernels(arch) if _decides(report)]
    assert deciding
    assert _described(_contracted(deciding)) == []


@pytest.mark.parametrize("arch", ARCHS)
def test_no_multiply_add_in_exact_triton_kernels(arch):
    assert _described(_contracted([report for report in _triton_kernels(arch) if report.exact])) == []
