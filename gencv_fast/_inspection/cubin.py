"""Reads what the CUDA tools say about the kernels of a cubin, or of the cubins inside a shared library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .sass import Instruction, parse_sass
from .tools import run_tool

_ELF = re.compile(r"^64-?bit elf: .*\bsm=(?P<arch>\d+)", re.IGNORECASE)
_SHARED = re.compile(r"^\s+\w+\s+\w+\s+(?P<size>[0-9a-f]+)\s+\w+\s+\w+\s+NOBITS\s.*\s\.nv\.shared\.(?P<name>\S+)$")
_SYMBOL = re.compile(
    r"^\s+0x[0-9a-f]+\s+(?P<value>\w+)\s+(?P<size>\w+)\s+\w+\s+(?P<other>\w+)\s+(?P<section>\w+)\s+(?P<name>\S+)$"
)
_REGISTERS = re.compile(r"function: (?P<name>\S+)\(0x[0-9a-f]+\)\s+register count: (?P<count>\d+)")
_FRAME = re.compile(r"function: (?P<name>\S+)\(0x[0-9a-f]+\)\s+frame size: (?P<size>0x[0-9a-f]+)")
_INFO = re.compile(r"^\.(?:nv\.info\.)?(?P<name>\S+)\s*$")
_THREADS = re.compile(r"Value:\s+(0x[0-9a-f]+) (0x[0-9a-f]+) (0x[0-9a-f]+)")
_SPILL = re.compile(r"SpillRefill\s*:\s*Offset\s*:\s*(0x[0-9a-f]+)")

_KERNEL = 0x10
_LIBRARY_ROUTINE = "$__internal_"

#: The first architecture whose toolchain counts the block's reserved kilobyte as static shared memory.
_RESERVED_IS_COUNTED_FROM = 90
_RESERVED_SHARED = 1024


@dataclass
class RawKernel:
    """One kernel as the tools describe it."""

    name: str
    arch: int
    registers: int = 0
    stack_bytes: int = 0
    static_shared_bytes: int = 0
    max_threads: int | None = None
    spill_addresses: frozenset[int] = frozenset()
    library_routines: tuple[range, ...] = ()
    code: list[Instruction] = field(default_factory=list)


def read_kernels(path: Path, arch: int | None = None) -> list[RawKernel]:
    """The kernels of a cubin or of a shared library, of one architecture or of all."""
    selection = [] if arch is None or path.suffix == ".cubin" else ["-arch", f"sm_{arch}"]
    kernels: dict[tuple[int, str], RawKernel] = {}
    for elf in _split_elves(run_tool("cuobjdump", ["-elf", *selection, path])):
        kernels.update({(kernel.arch, kernel.name): kernel for kernel in _parse_elf(elf)})
    if kernels:
        for key, code in parse_sass(run_tool("cuobjdump", ["-sass", *selection, path])).items():
            if key in kernels:
                kernels[key].code = code
    return list(kernels.values())


def embedded_archs(path: Path) -> list[int]:
    """The architectures for which a library holds machine code."""
    listing = run_tool("cuobjdump", ["-lelf", path])
    return sorted({int(arch) for arch in re.findall(r"\.sm_(\d+)[a-z]?\.cubin", listing)})


def _split_elves(text: str) -> Iterator[list[str]]:
    lines = [""]
    for line in text.splitlines():
        if _ELF.match(line):
            yield lines
            lines = []
        lines.append(line)
    yield lines


def _parse_elf(lines: list[str]) -> list[RawKernel]:
    header = _ELF.match(lines[0])
    if header is None:
        return []
    arch = int(header["arch"])
    sections: dict[str, str] = {}
    routines: list[tuple[str, range]] = []
    kernels: dict[str, RawKernel] = {}
    for line in lines:
        if not (match := _SYMBOL.match(line)):
            continue
        if int(match["other"], 16) & _KERNEL and match["name"] != "(null)" and int(match["size"], 16):
            kernels[match["name"]] = RawKernel(match["name"], arch)
            sections[match["section"]] = match["name"]
        elif match["name"].startswith(_LIBRARY_ROUTINE):
            start = int(match["value"], 16)
            routines.append((match["section"], range(start, start + int(match["size"], 16))))
    for section, addresses in routines:
        if kernel := kernels.get(sections.get(section, "")):
            kernel.library_routines += (addresses,)
    _read_sizes(lines, kernels, arch)
    _read_info(lines, kernels)
    return list(kernels.values())


def _read_sizes(lines: list[str], kernels: dict[str, RawKernel], arch: int) -> None:
    reserved = _RESERVED_SHARED if arch >= _RESERVED_IS_COUNTED_FROM else 0
    for line in lines:
        if (match := _REGISTERS.search(line)) and match["name"] in kernels:
            kernels[match["name"]].registers = int(match["count"])
        elif (match := _FRAME.search(line)) and match["name"] in kernels:
            kernels[match["name"]].stack_bytes = int(match["size"], 16)
        elif (match := _SHARED.match(line)) and match["name"] in kernels:
            kernels[match["name"]].static_shared_bytes = max(0, int(match["size"], 16) - reserved)


def _read_info(lines: list[str], kernels: dict[str, RawKernel]) -> None:
    """The attributes of each ``.nv.info.<kernel>`` section; any other section ends it."""
    kernel: RawKernel | None = None
    attribute = ""
    spills: dict[str, set[int]] = {}
    for line in lines:
        if match := _INFO.match(line):
            kernel = kernels.get(match["name"]) if line.startswith(".nv.info.") else None
        elif kernel is None:
            continue
        elif "Attribute:" in line:
            attribute = line.split()[-1]
        elif attribute in ("EIATTR_MAX_THREADS", "EIATTR_REQNTID") and (match := _THREADS.search(line)):
            x, y, z = (int(group, 16) for group in match.groups())
            kernel.max_threads = x * y * z
        elif match := _SPILL.search(line):
            spills.setdefault(kernel.name, set()).add(int(match[1], 16))
    for name, addresses in spills.items():
        kernels[name].spill_addresses = frozenset(addresses)
