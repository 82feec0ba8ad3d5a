"""Tells the multiply-adds of correctly rounded division from those that change a result."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import count

from .sass import Instruction

# The last two save a register on the stack and bring it back.
_COPIES = ("MOV", "UMOV", "LDC", "LDCU", "ULDC", "STL", "LDL")
_DOUBLE = ("DADD", "DMUL", "DFMA")

_WRITES_TWO_REGISTERS = re.compile(
    rf"(?:{'|'.join(_DOUBLE)})\b|.*\.(?:64|WIDE)\b|I2F\.F64|F2F\.F64|FRND\.F64|F2I.*\.[SU]64"
)
_REGISTER = re.compile(r"(?P<kind>U?R)(?P<number>\d+)")
_MEMORY = re.compile(r"(?P<start>(?:c\[.*\])?\[)(?P<base>U?R\d+)?\+?(?P<offset>0x[0-9a-f]+)?\]")

FUSED = {"FFMA", "FFMA2", "FFMA32I", "UFFMA", "DFMA", "HFMA2"}


@dataclass(frozen=True)
class _Role:
    """What a value is in the division ``a / b`` (r, t, q or e of `DivisionFinder`), and which a and b."""

    step: str
    divisor: Hashable
    dividend: Hashable = None


class DivisionFinder:
    """Recognises the multiply-adds of correctly rounded division, which is how ``a / b`` is computed exactly.

    ptxas expands it to Newton's iteration on ``r = MUFU.RCP(b)``: ``t = 1 - b r``, ``r = r + r t``,
    ``q = a r``, ``e = a - b q``, ``q = q + r e``; and ``1 / b`` in double precision to the first two, twice.
    Every step is matched by the roles of its operands, so a multiply-add that merely uses a quotient is not
    taken for one. Registers are followed through copies; signs are not told apart. A double goes by its high
    word, for that is what the estimate is taken of, and all that it gives.
    """

    def __init__(self) -> None:
        self._values: dict[str, Hashable] = {}
        self._roles: dict[Hashable, _Role] = {}
        self._fresh = count()

    def is_step(self, instruction: Instruction) -> bool:
        """Take the next instruction in; True where it is a multiply-add of a division."""
        operands = [bare_operand(text) for text in instruction.operands]
        if not operands:
            return False
        if copied := _copied(instruction, operands):
            self._copy(operands[0], copied, _registers_written(instruction))
            return False
        role = self._role_of_result(instruction, operands)
        written = _words(operands[0], _registers_written(instruction))
        for word in written:
            self._write(word, None)
        if role is not None:
            self._write(written[1] if instruction.name in _DOUBLE else written[0], role)
        return role is not None and instruction.name in FUSED

    def _role_of_result(self, instruction: Instruction, operands: Sequence[str]) -> _Role | None:
        if instruction.name == "MUFU" and "RCP" in instruction.opcode:
            return _Role("r", self._value(operands[1]))
        if instruction.name not in FUSED | {"DMUL"} or len(operands) not in (3, 4):
            return None
        sources = operands[1:]
        if instruction.name in _DOUBLE:
            sources = [_words(text, 2)[-1] for text in sources]
        a, b, c = (*sources, "RZ")[:3]
        return self._ordered_step(a, b, c) or self._ordered_step(b, a, c)

    def _value(self, operand: str) -> Hashable:
        return self._values.get(operand, operand)

    def _role(self, operand: str) -> _Role:
        return self._roles.get(self._value(operand), _Role("", None))

    def _write(self, word: str, role: _Role | None) -> None:
        value = self._values[word] = next(self._fresh)
        if role is not None:
            self._roles[value] = role

    def _copy(self, to: str, source: str, words: int) -> None:
        targets, sources = _words(to, words), _words(source, words)
        for i, target in enumerate(targets):
            if i < len(sources):
                self._values[target] = self._value(sources[i])
            else:
                self._write(target, None)

    def _ordered_step(self, known: str, factor: str, addend: str) -> _Role | None:
        role, other, added = self._role(known), self._role(factor), self._role(addend)
        known_value, factor_value, addend_value = (self._value(text) for text in (known, factor, addend))
        if role.step == "r" and factor_value == role.divisor and addend == "1":
            return _Role("t", role.divisor)
        if role.step == "t" and factor_value == known_value == addend_value:
            return _Role("t", role.divisor)
        if role.step == "r" and other.step == "t" and addend_value == known_value:
            return role
        if role.step == "r" and addend == "RZ":
            return _Role("q", role.divisor, factor_value)
        if role.step == "q" and factor_value == role.divisor and addend_value == role.dividend:
            return _Role("e", role.divisor, role.dividend)
        if role.step == "r" and other.step == "e" and added.step == "q":
            return added
        return None


def _copied(instruction: Instruction, operands: Sequence[str]) -> str | None:
    """The operand that an instruction merely copies, maybe with another sign."""
    adds_to_zero = instruction.name == "IMAD" and operands[1:3] == ["RZ", "RZ"]
    if instruction.name in _COPIES or adds_to_zero:
        return operands[-1]
    if instruction.name in ("FADD", "DADD") and "RZ" in operands[1:]:
        return next((text for text in operands[1:] if text != "RZ"), None)
    return None


def _registers_written(instruction: Instruction) -> int:
    if ".128" in instruction.opcode:
        return 4
    return 2 if _WRITES_TWO_REGISTERS.match(instruction.opcode) else 1


def _words(operand: str, count: int) -> list[str]:
    """The 32-bit words from an operand on: ``R4``, ``R5``; or ``c[0x0][0x1a0]``, ``c[0x0][0x1a4]``.

    What has no words after it, such as a number, is returned alone.
    """
    if match := _REGISTER.fullmatch(operand):
        first = int(match["number"])
        return [f"{match['kind']}{first + i}" for i in range(count)]
    if match := _MEMORY.fullmatch(operand):
        base, offset = match["base"] or "", int(match["offset"] or "0", 16)
        return [f"{match['start']}{base}{'+' if base else ''}{offset + 4 * i:#x}]" for i in range(count)]
    return [operand]


def bare_operand(text: str) -> str:
    """An operand without its sign, its absolute value bars and its hints."""
    return text.removesuffix(".reuse").strip("-|~!").removesuffix(".reuse").removesuffix(".64")
