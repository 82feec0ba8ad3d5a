"""Reads the text of ``cuobjdump -sass`` and finds the loops in it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_INSTRUCTION = re.compile(
    r"^\s+/\*(?P<address>[0-9a-f]{4,})\*/\s+(?:(?P<guard>@!?\w+)\s+)?(?P<opcode>[A-Z][\w.]*)\s*(?P<operands>.*?)\s*;"
)
_FUNCTION = re.compile(r"^\s*Function : (?P<name>\S+)")
_ARCH = re.compile(r"^\s*code for sm_(?P<arch>\d+)")


@dataclass(frozen=True)
class Instruction:
    """One machine instruction: ``@P0 BRA 0x160`` has guard ``@P0``, opcode ``BRA`` and one operand."""

    address: int
    guard: str
    opcode: str
    operands: tuple[str, ...]

    @property
    def name(self) -> str:
        """The opcode without its modifiers."""
        return self.opcode.split(".")[0]

    @property
    def target(self) -> int | None:
        """The address a branch, call or barrier set-up names."""
        if self.name not in ("BRA", "BSSY", "CALL", "WARPSYNC", "JMP", "BREAK"):
            return None
        last = self.operands[-1] if self.operands else ""
        return int(last, 16) if re.fullmatch(r"0x[0-9a-f]+", last) else None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.guard, self.opcode, ", ".join(self.operands))))


@dataclass(frozen=True)
class Loop:
    """A natural loop: its first and last address and the instructions between, in order."""

    start: int
    end: int
    instructions: tuple[Instruction, ...]


def parse_sass(text: str) -> dict[tuple[int, str], list[Instruction]]:
    """The instructions of each function of a ``cuobjdump -sass`` listing, by (architecture, mangled name)."""
    functions: dict[tuple[int, str], list[Instruction]] = {}
    arch = 0
    current: list[Instruction] = []
    for line in text.splitlines():
        if match := _INSTRUCTION.match(line):
            operands = tuple(part.strip() for part in match["operands"].split(",")) if match["operands"] else ()
            current.append(Instruction(int(match["address"], 16), match["guard"] or "", match["opcode"], operands))
        elif match := _FUNCTION.match(line):
            current = functions[arch, match["name"]] = []
        elif match := _ARCH.match(line):
            arch = int(match["arch"])
    return functions


def _falls_through(instruction: Instruction) -> bool:
    always = instruction.guard in ("", "@PT", "@UPT")
    if instruction.name in ("EXIT", "RET", "BRX", "JMX", "KILL"):
        return not always
    if instruction.name in ("BRA", "JMP"):
        return not (always and len(instruction.operands) == 1 and ".DIV" not in instruction.opcode)
    return True


def _reconvergence_points(code: Sequence[Instruction]) -> Mapping[str, set[int]]:
    points: dict[str, set[int]] = {}
    for instruction in code:
        if instruction.name == "BSSY" and instruction.target is not None:
            points.setdefault(instruction.operands[0], set()).add(instruction.target)
    return points


def _successors(code: Sequence[Instruction]) -> list[list[int]]:
    """For each instruction the indices that control may go to next; a call is taken to come back."""
    index = {instruction.address: i for i, instruction in enumerate(code)}
    points = _reconvergence_points(code)
    result: list[list[int]] = []
    for i, instruction in enumerate(code):
        after = [i + 1] if i + 1 < len(code) and _falls_through(instruction) else []
        if instruction.name == "BSYNC":
            # It resumes where its BSSY said: nearly always at the next instruction, elsewhere only from code
            # moved out of line. A barrier register may be set up several times.
            targets = {index[p] for p in points.get(instruction.operands[0], ()) if p in index}
            after = after if i + 1 in targets or not targets else sorted(targets)
        elif instruction.name != "BSSY" and instruction.target in index:
            after = [*after, index[instruction.target]]
        result.append(after)
    return result


def _blocks(successors: Sequence[Sequence[int]]) -> list[int]:
    """Indices at which a basic block starts."""
    starts = {0}
    for i, after in enumerate(successors):
        if list(after) != [i + 1]:
            starts.update(after)
            starts.add(i + 1)
    return sorted(start for start in starts if start < len(successors))


def _predecessors(graph: Sequence[Sequence[int]]) -> list[list[int]]:
    """Where control comes from, counting only blocks that the entry reaches."""
    before: list[list[int]] = [[] for _ in graph]
    pending, seen = [0], {0}
    while pending:
        block = pending.pop()
        for successor in graph[block]:
            before[successor].append(block)
            if successor not in seen:
                seen.add(successor)
                pending.append(successor)
    return before


def _dominators(before: Sequence[Sequence[int]]) -> list[set[int]]:
    """For each block the blocks on every path from the entry to it."""
    everything = set(range(len(before)))
    found = [{0}, *({*everything} for _ in before[1:])]
    changed = True
    while changed:
        changed = False
        for block in range(1, len(before)):
            if not before[block]:
                continue
            new = set.intersection(*(found[b] for b in before[block])) | {block}
            if new != found[block]:
                found[block], changed = new, True
    return found


def _loop_body(before: Sequence[Sequence[int]], head: int, tails: Sequence[int]) -> set[int]:
    body = {head, *tails}
    pending = [tail for tail in tails if tail != head]
    while pending:
        new = set(before[pending.pop()]) - body
        body |= new
        pending.extend(new)
    return body


def find_loops(code: Sequence[Instruction]) -> list[Loop]:
    """The innermost natural loops of a function: backward branches to a block that dominates them.

    Loops that only wait or retry do not count. A backward branch from code that the compiler moved out of
    line is no loop, nor is the branch to itself that stands, unreachable, at the end of every function.
    """
    if not code:
        return []
    successors = _successors(code)
    starts = _blocks(successors)
    bounds = [*starts, len(code)]
    graph = [[bisect_left(starts, s) for s in successors[bounds[b + 1] - 1]] for b in range(len(starts))]
    before = _predecessors(graph)
    dominators = _dominators(before)
    tails = {head: [b for b in blocks if head in dominators[b]] for head, blocks in enumerate(before)}
    bodies = {head: _loop_body(before, head, blocks) for head, blocks in tails.items() if blocks}
    loops = {head: _loop(code, bounds, body) for head, body in bodies.items()}
    innermost = set(bodies) - _enclosing(bodies)
    for head in [head for head in innermost if _waits(loops[head])]:
        del bodies[head], loops[head]
    return [loops[head] for head in loops if head not in _enclosing(bodies)]


def _enclosing(bodies: Mapping[int, set[int]]) -> set[int]:
    return {head for head, body in bodies.items() if any(other in body for other in bodies if other != head)}


def _waits(loop: Loop) -> bool:
    """True for polling a barrier and for retrying an atomic: they serve the loop around them."""
    names = {i.name for i in loop.instructions}
    retries = any(".SPIN" in i.opcode for i in loop.instructions)
    return retries or names <= {"SYNCS", "BRA", "NANOSLEEP", "YIELD", "WARPSYNC"}


def _loop(code: Sequence[Instruction], bounds: Sequence[int], body: set[int]) -> Loop:
    inside = [code[i] for block in sorted(body) for i in range(bounds[block], bounds[block + 1])]
    return Loop(inside[0].address, inside[-1].address, tuple(inside))
