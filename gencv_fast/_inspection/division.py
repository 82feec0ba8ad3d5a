"""Tells the multiply-adds of correctly rounded division from those that change a result."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import count

from .sass import Instruction

# The last two save a register on the stack and bring it back.
_COPIES = ("MOV", "UMOV", "LDC", "LDCU", "ULDC", "STL", "LDL")

# The integer 1 written as two halves, the way ptxas loads a constant through the half-precision unit.
_HALVES_OF_ONE = ["0", "5.9604644775390625e-08"]

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
    ``q = a r``, ``e = a - b q``, ``q = q + r e``. Every step is matched by the roles of its operands, so a
    multiply-add that merely uses a quotient is not taken for one. Registers are followed through copies;
    signs are not told apart.
    """

    def __init__(self) -> None:
        self._values: dict[str, Hashable] = {}
        self._roles: dict[Hashable, _Role] = {}
        self._estimates: dict[str, _Role] = {}
        self._fresh = count()

    def is_step(self, instruction: Instruction) -> bool:
        """Take the next instruction in; True where it is a multiply-add of a division."""
        operands = [bare_operand(text) for text in instruction.operands]
        if not operands:
            return False
        if instruction.name == "MUFU" and "RCP" in instruction.opcode:
            self._start(operands, is_double="64H" in instruction.opcode)
            return False
        if copied := _copied(instruction, operands):
            # A double's estimate is only the high word; its low word becomes 1, before that or after.
            if copied == "0x1" and operands[0] in self._estimates:
                self._write(operands[0], self._estimates[operands[0]])
            else:
                self._values[operands[0]] = self._value(copied)
            return False
        role = self._step(operands) if instruction.name in FUSED | {"DMUL"} else None
        self._write(operands[0], role)
        for register in _further_registers(instruction, operands[0]):
            self._write(register, None)
        return role is not None and instruction.name != "DMUL"

    def _value(self, operand: str) -> Hashable:
        return self._values.get(operand, operand)

    def _role(self, operand: str) -> _Role:
        return self._roles.get(self._value(operand), _Role("", None))

    def _write(self, register: str, role: _Role | None) -> None:
        value = self._values[register] = next(self._fresh)
        if role is not None:
            self._roles[value] = role

    def _start(self, operands: Sequence[str], is_double: bool) -> None:
        register, divisor = operands[0], operands[1]
        if is_double:
            value = self._value(divisor)
            divisor = _low_word(value if isinstance(value, str) and value.startswith("c[") else divisor)
            register = _low_word(register)
        role = _Role("r", self._value(divisor))
        if is_double:
            self._estimates[register] = role
        self._write(register, role)

    def _step(self, operands: Sequence[str]) -> _Role | None:
        if len(operands) not in (3, 4):
            return None
        a, b, c = (*operands[1:], "RZ")[:3]
        return self._ordered_step(a, b, c) or self._ordered_step(b, a, c)

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
    if instruction.name in _COPIES or instruction.opcode.startswith("IMAD.MOV"):
        return operands[-1]
    if instruction.name in ("FADD", "DADD") and "RZ" in operands[1:]:
        return next((text for text in operands[1:] if text != "RZ"), None)
    if instruction.name == "HFMA2" and operands[1:3] == ["RZ", "RZ"]:
        return "0x1" if operands[3:] == _HALVES_OF_ONE else "another constant"
    return None


def _further_registers(instruction: Instruction, register: str) -> list[str]:
    """The registers after the first one that an instruction writes."""
    match = re.fullmatch(r"(U?R)(\d+)", register)
    if match is None:
        return []
    is_wide = instruction.name in ("DADD", "DMUL", "DFMA") or re.search(r"\.(64|WIDE)\b", instruction.opcode)
    written = 4 if re.search(r"\.128\b", instruction.opcode) else 2 if is_wide else 1
    return [f"{match[1]}{int(match[2]) + i}" for i in range(1, written)]


def _low_word(operand: str) -> str:
    """The pair that a high word is in: ``R5`` -> ``R4``, ``c[0x0][0x1a4]`` -> ``c[0x0][0x1a0]``."""
    if match := re.fullmatch(r"(U?R)(\d+)", operand):
        return f"{match[1]}{int(match[2]) - 1}"
    if match := re.fullmatch(r"(c\[.*\]\[)(0x[0-9a-f]+)\]", operand):
        return f"{match[1]}{int(match[2], 16) - 4:#x}]"
    return operand


def bare_operand(text: str) -> str:
    """An operand without its sign, its absolute value bars and its hints."""
    return text.removesuffix(".reuse").strip("-|~!").removesuffix(".reuse").removesuffix(".64")
