"""Compiles Triton kernels for GPUs that are not there."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cubin import read_kernels
from .report import KernelReport, Launch, report_kernel
from .tools import InspectionError
from .variants import TritonVariant

_WARP = 32
_AMD_WARP = 64


@dataclass(frozen=True)
class AmdReport:
    """One Triton kernel compiled for an AMD GPU: the numbers its code object carries."""

    name: str
    language: str
    origin: str
    arch: str
    vector_registers: int
    scalar_registers: int
    spilled_registers: int
    shared_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return asdict(self)


def room_modules() -> list[str]:
    """The modules of the rooms, and of their wings, that have Triton kernels."""
    package = Path(__file__).parent.parent
    found = sorted(package.glob("ops/**/triton_kernels.py"))
    return [".".join(("gencv_fast", *path.relative_to(package).with_suffix("").parts)) for path in found]


def triton_variants(modules: Sequence[str]) -> Iterator[tuple[str, TritonVariant]]:
    """Each variant that the modules list in ``KERNELS``, with its module."""
    for module in modules:
        yield from ((module, variant) for variant in importlib.import_module(module).KERNELS)


def triton_reports(
    archs: Sequence[int | str], modules: Sequence[str] | None = None, kernel: str = ""
) -> list[KernelReport | AmdReport]:
    """Compile and inspect every Triton kernel.

    Args:
        archs: compute capabilities times ten, such as 90, or AMD names such as ``"gfx942"``.
        modules: importable modules with a ``KERNELS`` list; all rooms by default.
        kernel: only those whose name contains this.
    """
    modules = room_modules() if modules is None else modules
    if not modules or not archs:
        return []
    # TRITON_INTERPRET=1 is read as kernels are defined: they, and Triton's own, can then only be interpreted.
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        return _in_a_compiling_process(archs, modules, kernel)
    reports: list[KernelReport | AmdReport] = []
    for module, variant in triton_variants(modules):
        if kernel in variant.name:
            reports.extend(_report(module, variant, arch) for arch in archs)
    return reports


def _in_a_compiling_process(
    archs: Sequence[int | str], modules: Sequence[str], kernel: str
) -> list[KernelReport | AmdReport]:
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder, "request"), Path(folder, "answer")
        request.write_bytes(pickle.dumps((tuple(archs), tuple(modules), kernel)))
        environment = {
            **os.environ,
            "TRITON_INTERPRET": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        command = [sys.executable, "-m", "gencv_fast._inspection.triton", str(request), str(answer)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InspectionError(f"Compiling the Triton kernels failed: {done.stderr.strip()[-2000:]}")
        return pickle.loads(answer.read_bytes())


def compile_variant(variant: TritonVariant, arch: int | str) -> Any:
    """Triton's compiled kernel, with its ``asm`` and ``metadata``."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    target = GPUTarget("cuda", arch, _WARP) if isinstance(arch, int) else GPUTarget("hip", arch, _AMD_WARP)
    types = {name: text.removesuffix(":16") for name, text in variant.signature.items()}
    divisible = [name for name, text in variant.signature.items() if text.endswith(":16")]
    attributes = {(variant.kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in divisible}
    source = ASTSource(variant.kernel, types, dict(variant.constexprs), attributes)
    try:
        return triton.compile(source, target=target, options=variant.options)
    except Exception as error:
        raise InspectionError(f"{variant.name} does not compile for {arch}: {error}") from error


def _report(module: str, variant: TritonVariant, arch: int | str) -> KernelReport | AmdReport:
    compiled = compile_variant(variant, arch)
    name = f"{variant.name} (fp64)" if _is_unmarked_fp64(variant) else variant.name
    if isinstance(arch, str):
        return _amd_report(module, name, arch, compiled)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(compiled.asm["cubin"])
        [raw] = read_kernels(path)
    launch = Launch("triton", module, name, variant.num_warps * _WARP, compiled.metadata.shared, variant.exact)
    return report_kernel(raw, launch)


def _is_unmarked_fp64(variant: TritonVariant) -> bool:
    return any(text.startswith("*fp64") for text in variant.signature.values()) and "fp64" not in variant.name


def _amd_report(module: str, name: str, arch: str, compiled: Any) -> AmdReport:
    values = {key: int(value) for key, value in re.findall(r"^\s+\.(\w+):\s+(\d+)$", compiled.asm["amdgcn"], re.M)}
    return AmdReport(
        name=name,
        language="triton",
        origin=module,
        arch=arch,
        vector_registers=values.get("vgpr_count", 0),
        scalar_registers=values.get("sgpr_count", 0),
        spilled_registers=values.get("vgpr_spill_count", 0) + values.get("sgpr_spill_count", 0),
        shared_bytes=compiled.metadata.shared,
    )


def _main(request: str, answer: str) -> None:
    Path(answer).write_bytes(pickle.dumps(triton_reports(*pickle.loads(Path(request).read_bytes()))))


if __name__ == "__main__":
    # Run as a script this module is __main__; the reports must be pickled as those of the imported one.
    from gencv_fast._inspection import triton as imported

    imported._main(*sys.argv[1:])
