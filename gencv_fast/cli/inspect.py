"""``gencv-fast inspect``: what the machine code of the GPU kernels says, without a GPU."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from .._inspection import AmdReport, KernelReport

_LEGEND = """\
regs: registers of a thread.  spills: bytes of spill stores + loads of a thread.  stack: bytes of a thread.
shared: static + dynamic bytes of a block (dynamic memory of CUDA launches: --dynamic-shared).
occupancy, warps: warps that fit a multiprocessor by the documented limits; then what stops one more block.
--instructions adds the instruction classes of each kernel and inner loop."""
_DEFAULT_ARCHS = "80,90,100,120,gfx942"


class Language(str, Enum):
    """The two ways in which GPU kernels are written here."""

    cuda = "cuda"
    triton = "triton"


def inspect(
    arch: Annotated[
        str, typer.Option(help="Compute capabilities times ten, and AMD names, separated by commas.")
    ] = _DEFAULT_ARCHS,
    kernel: Annotated[str, typer.Option(help="Only kernels whose name contains this.")] = "",
    language: Annotated[Language | None, typer.Option(help="Only the CUDA or only the Triton kernels.")] = None,
    block: Annotated[
        int | None,
        typer.Option(help="Threads of a block, for kernels that do not declare theirs.", min=1, max=1024),
    ] = None,
    dynamic_shared: Annotated[
        int | None, typer.Option(help="Bytes of dynamic shared memory of a CUDA launch.", min=0)
    ] = None,
    instructions: Annotated[
        bool,
        typer.Option("--instructions", help="Also count the instructions of each kernel and inner loop."),
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with code 1 if a kernel spills registers.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show registers, spills, shared memory, occupancy and instruction classes of every GPU kernel.

    CUDA kernels come from the built library, or are compiled by nvcc for an architecture it lacks; Triton
    kernels are compiled on the spot. No GPU is needed. Only kernels of double precision may spill.
    """
    from .._inspection import KernelReport, spilling_kernels

    archs = _parse_archs(arch)
    reports, notes = _collect(archs, kernel, language, block, dynamic_shared)
    nvidia = [report for report in reports if isinstance(report, KernelReport)]
    amd = [report for report in reports if not isinstance(report, KernelReport)]
    if as_json:
        typer.echo(json.dumps({"kernels": [report.as_dict() for report in reports], "notes": notes}, indent=2))
    else:
        _render(nvidia, amd, notes, instructions)
    if check and (spilling := spilling_kernels(nvidia)):
        names = ", ".join(f"{report.name} on sm_{report.arch}" for report in spilling)
        spill = "1 kernel spills" if len(spilling) == 1 else f"{len(spilling)} kernels spill"
        raise RuntimeError(f"{spill} registers: {names}.")


def _parse_archs(text: str) -> list[int | str]:
    archs: list[int | str] = []
    for part in text.replace("sm_", "").split(","):
        name = part.strip()
        if not (name.isdigit() or name.startswith("gfx")):
            raise RuntimeError(
                f"--arch: expected numbers such as 80 or 90, or an AMD name such as gfx942; got {part!r}."
            )
        archs.append(int(name) if name.isdigit() else name)
    return archs


def _collect(
    archs: Sequence[int | str],
    kernel: str,
    language: Language | None,
    block: int | None,
    dynamic_shared: int | None,
) -> tuple[list[KernelReport | AmdReport], list[str]]:
    """The reports, and sentences that say what could not be inspected."""
    from .._inspection import cuda_reports, triton_reports, why_not_cuda
    from .._library import why_no_triton

    reports: list[KernelReport | AmdReport] = []
    notes: list[str] = []
    if language is not Language.triton:
        for arch in (arch for arch in archs if isinstance(arch, int)):
            if reason := why_not_cuda(arch):
                notes.append(f"The CUDA kernels are not shown for sm_{arch}: {reason}.")
            else:
                reports.extend(cuda_reports([arch], kernel, block, dynamic_shared))
    if language is not Language.cuda:
        if reason := why_no_triton():
            notes.append(f"The Triton kernels are not shown: {reason}.")
        else:
            reports.extend(triton_reports(archs, kernel=kernel))
    if not reports and kernel:
        notes.append(f"No kernel has {kernel!r} in its name.")
    return reports, notes


def _render(nvidia: Sequence[KernelReport], amd: Sequence[AmdReport], notes: Iterable[str], instructions: bool) -> None:
    from rich.console import Console

    console = Console()
    by_arch = sorted(nvidia, key=lambda report: (report.arch, report.language, report.name))
    for arch, group in groupby(by_arch, key=lambda report: report.arch):
        reports = list(group)
        console.print(_resource_table(f"sm_{arch}", reports))
        if instructions:
            console.print(_instruction_table(f"sm_{arch}: instructions by class", reports))
    if amd:
        console.print(_amd_table(amd))
    if nvidia:
        console.print(_LEGEND, style="dim", highlight=False)
    for note in notes:
        console.print(note, style="yellow", highlight=False)


def _table(title: str, left: Sequence[str], right: Sequence[str] = (), last: Sequence[str] = ()) -> Table:
    """An empty table whose columns are aligned to the left, to the right, and to the left again."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    for name in last:
        table.add_column(name, overflow="fold")
    return table


_RESOURCES = ("regs", "spills", "stack", "shared", "threads", "occupancy", "warps")


def _resource_table(title: str, reports: Sequence[KernelReport]) -> Table:
    table = _table(title, ["kernel", "from"], _RESOURCES, ["limited by"])
    for report in reports:
        occupancy = report.occupancy
        table.add_row(
            _escape(report.name),
            report.language,
            str(report.registers),
            _spill_text(report),
            str(report.stack_bytes),
            _shared_text(report),
            "?" if report.block_threads is None else str(report.block_threads),
            f"{occupancy.fraction:.0%}" if occupancy else "?",
            str(occupancy.warps) if occupancy else "?",
            occupancy.limited_by if occupancy else "",
        )
    return table


def _instruction_table(title: str, reports: Sequence[KernelReport]) -> Table:
    table = _table(title, ["kernel", "part"], ["count"], ["classes"])
    for report in reports:
        table.add_row(_escape(report.name), "all of it", str(report.instructions), _counts_text(report.counts))
        for loop in report.loops:
            part = f"loop {loop.start:x}-{loop.end:x}"
            table.add_row("", part, str(loop.instructions), _counts_text(loop.counts))
        table.add_section()
    return table


def _amd_table(reports: Sequence[AmdReport]) -> Table:
    title = "AMD: Triton kernels"
    table = _table(title, ["kernel", "arch"], ["vector regs", "scalar regs", "spilled regs", "shared"])
    for report in reports:
        numbers = (
            report.vector_registers,
            report.scalar_registers,
            report.spilled_registers,
            report.shared_bytes,
        )
        table.add_row(_escape(report.name), report.arch, *map(str, numbers))
    return table


def _counts_text(counts: Mapping[str, int]) -> str:
    from .._inspection.classes import class_order

    return "  ".join(f"{name} [bold]{counts[name]}[/]" for name in sorted(counts, key=class_order))


def _spill_text(report: KernelReport) -> str:
    text = f"{report.spill_store_bytes}+{report.spill_load_bytes}"
    return f"[red]{text}[/]" if report.spills else "0"


def _shared_text(report: KernelReport) -> str:
    dynamic = report.dynamic_shared_bytes
    return f"{report.static_shared_bytes}" + (f"+{dynamic}" if dynamic else "")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
