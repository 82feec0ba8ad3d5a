"""Sorts machine instructions into the classes that say what a kernel spends its time on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from .division import FUSED, DivisionFinder, bare_operand
from .sass import Instruction

#: In the order of the tables; ``U`` in front is the same instruction on the uniform data path.
CLASSES = {
    "TENSOR": "[A-Z]{1,2}MMA|[A-Z]GMMA|TC[A-Z]*MMA",
    "FFMA": "FFMA2?|FFMA32I",
    "FADD/FMUL": "(FADD|FMUL)(2|32I)?",
    "FCMP": "FSETP|FSET|FMNMX3?|FSEL|FCHK|FSWZADD",
    "DFMA": "DFMA",
    "DADD/DMUL": "DADD|DMUL|DSETP|DMNMX",
    "HFMA2": "HFMA2",
    "HADD2/HMUL2": "HADD2|HMUL2|HSETP2|HSET2|HMNMX2|HMNMX3",
    "MUFU": "MUFU",
    "CONVERT": "F2F|F2FP|F2I|F2IP|I2F|I2FP|I2I|I2IP|FRND",
    "LDG": "LDG",
    "STG": "STG",
    "LDGSTS": "LDGSTS",
    "TMA": "TMA[A-Z]*|BLK[A-Z]*",
    "LDS": "LDS",
    "STS": "STS",
    "LDSM/STSM": "LDSM|STSM",
    "LDTM/STTM": "LDTM|STTM",
    "LDL": "LDL",
    "STL": "STL",
    "LD/ST": "LD|ST",
    "ATOM": "ATOM[GS]?|RED[GS]?|TCATOM[A-Z]*",
    "BAR": "BAR|B2R|SYNCS|WARPGROUP|TCBAR",
    "MEMBAR": "MEMBAR|FENCE|(CGA)?ERRBAR|CCTL",
    "SHFL": "SHFL",
    "VOTE": "VOTEU?|MATCH|C?REDUX",
    "INT": "IMAD|IADD3?|ISETP|IABS|IDP|V?IMNMX3?|VIADD|VIADDMNMX|VHMNMX|LOP3?|SHF|SHL|SHR|LEA|POPC|FLO|"
    "BREV|PRMT|SGXT|BMSK|SEL|VABSDIFF",
    "BRANCH": "BRA|BRX|JMP|JMX|CALL|RET|EXIT|BSSY|BSYNC|BREAK|WARPSYNC|BPT|KILL|YIELD|NANOSLEEP|ENDCOLLECTIVE",
    "MOVE": "MOV|PLOP3|R2UR|S2U?R|CS2R|LDCU?|R2P|P2R|DEPBAR|LDGDEPBAR|ELECT",
}

_MEMORY = {"LDG", "STG", "LDS", "STS", "LDL", "STL", "LD/ST"}
_MATCHERS = {name: re.compile(f"U?(?:{pattern})") for name, pattern in CLASSES.items()}
_WIDTH = re.compile(r"\.[US]?(8|16|64|96|128|256)(?=\.|$)")


def access_bits(instruction: Instruction) -> int:
    """The width of a load or store per thread."""
    widths = _WIDTH.findall(instruction.opcode)
    return int(widths[-1]) if widths else 32


def _class_of(instruction: Instruction) -> str:
    if instruction.name in FUSED:
        return _fused_class(instruction)
    if instruction.opcode.startswith("IMAD.MOV"):
        return "MOVE"
    if instruction.opcode.startswith("HADD2.F32"):
        return "CONVERT"
    for name, pattern in _MATCHERS.items():
        if pattern.fullmatch(instruction.name):
            return f"{name}.{access_bits(instruction)}" if name in _MEMORY else name
    return "OTHER"


def _fused_class(instruction: Instruction) -> str:
    """A fused multiply-add that rounds only what is one operation anyway is counted as that operation."""
    sources = [bare_operand(text) for text in instruction.operands[1:]]
    family = {"F": "FFMA", "U": "FFMA", "D": "DFMA", "H": "HFMA2"}[instruction.name[0]]
    if "RZ" in sources[:2]:
        return "MOVE"
    if sources[-1:] == ["RZ"] or sources[1:3] == ["1", "1"]:
        return {"FFMA": "FADD/FMUL", "DFMA": "DADD/DMUL", "HFMA2": "HADD2/HMUL2"}[family]
    return family


def _is_padding(instruction: Instruction) -> bool:
    """What follows the end of a kernel: a branch to itself, which nothing reaches, and NOPs."""
    return instruction.opcode == "NOP" or (not instruction.guard and instruction.target == instruction.address)


def count_classes(code: Iterable[Instruction], library_routines: Iterable[range] = ()) -> Counter[str]:
    """How many instructions of each class; padding is left out.

    ``FFMA.div`` (``DFMA.div``) are the multiply-adds inside a correctly rounded division, and ``SLOW-PATH``
    is all of CUDA's own out-of-line routines for rare operands of division and square root. Plain ``FFMA``
    therefore are the multiply-adds that the author wrote, or that the compiler made by contraction.
    """
    routines = tuple(library_routines)
    division = DivisionFinder()
    counts: Counter[str] = Counter()
    for instruction in code:
        step = division.is_step(instruction)
        name = _class_of(instruction)
        if any(instruction.address in routine for routine in routines):
            counts["SLOW-PATH"] += 1
        elif not _is_padding(instruction):
            counts[f"{name}.div" if step and name in ("FFMA", "DFMA") else name] += 1
    return counts


def class_order(name: str) -> tuple[int, int]:
    """Sort key that puts classes in the order of `CLASSES`."""
    base, _, width = name.partition(".")
    names = [*CLASSES, "OTHER", "SLOW-PATH"]
    return names.index(base), int(width) if width.isdigit() else 0
