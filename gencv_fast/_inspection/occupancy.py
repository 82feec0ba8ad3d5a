"""Theoretical occupancy from the limits that NVIDIA documents per compute capability.

CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; the rounding rules are those of
the toolkit's ``cuda_occupancy.h``. Shared memory assumes the largest carve-out, which the driver picks when a
kernel needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

_WARP = 32
_REGISTER_UNIT = 256
_REGISTER_PARTITIONS = 4
_SHARED_UNIT = 128
_REGISTERS = 65536
_BLOCK_THREADS = 1024


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor holds."""

    warps: int
    blocks: int
    shared_bytes: int
    reserved_shared_per_block: int = 1024


LIMITS = {
    75: Limits(warps=32, blocks=16, shared_bytes=64 * 1024, reserved_shared_per_block=0),
    80: Limits(warps=64, blocks=32, shared_bytes=164 * 1024),
    86: Limits(warps=48, blocks=16, shared_bytes=100 * 1024),
    87: Limits(warps=48, blocks=16, shared_bytes=164 * 1024),
    89: Limits(warps=48, blocks=24, shared_bytes=100 * 1024),
    90: Limits(warps=64, blocks=32, shared_bytes=228 * 1024),
    100: Limits(warps=64, blocks=32, shared_bytes=228 * 1024),
    103: Limits(warps=64, blocks=32, shared_bytes=228 * 1024),
    120: Limits(warps=48, blocks=24, shared_bytes=100 * 1024),
    121: Limits(warps=48, blocks=24, shared_bytes=100 * 1024),
}


@dataclass(frozen=True)
class Occupancy:
    """How many blocks of a kernel fit one multiprocessor at once, and what stops one more."""

    blocks: int
    warps: int
    fraction: float
    limited_by: str


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _blocks_by_registers(registers: int, warps_per_block: int) -> int:
    per_warp = _round_up(registers * _WARP, _REGISTER_UNIT)
    if per_warp * _round_up(warps_per_block, _REGISTER_PARTITIONS) > _REGISTERS:
        return 0
    warps = (_REGISTERS // _REGISTER_PARTITIONS // per_warp) * _REGISTER_PARTITIONS
    return warps // warps_per_block


def _blocks_by_shared(limits: Limits, shared_bytes: int) -> int:
    if shared_bytes > limits.shared_bytes - limits.reserved_shared_per_block:
        return 0
    per_block = _round_up(shared_bytes + limits.reserved_shared_per_block, _SHARED_UNIT)
    return limits.shared_bytes // per_block if per_block else limits.blocks


def theoretical_occupancy(arch: int, registers: int, block_threads: int, shared_bytes: int = 0) -> Occupancy | None:
    """Occupancy of one kernel; None for an architecture whose limits are not listed in `LIMITS`.

    Args:
        arch: compute capability times ten, such as 90.
        registers: per thread.
        block_threads: threads of a block, at most 1024.
        shared_bytes: static plus dynamic shared memory of a block.
    """
    limits = LIMITS.get(arch)
    if limits is None or not 0 < block_threads <= _BLOCK_THREADS:
        return None
    warps_per_block = -(-block_threads // _WARP)
    allowed = {
        "blocks": limits.blocks,
        "warps": limits.warps // warps_per_block,
        "registers": _blocks_by_registers(max(registers, 1), warps_per_block),
        "shared memory": _blocks_by_shared(limits, shared_bytes),
    }
    blocks = min(allowed.values())
    # Several limits may coincide: those come first that no change of the kernel lifts.
    order = ("warps", "blocks", "registers", "shared memory")
    limited_by = next(name for name in order if allowed[name] == blocks)
    warps = blocks * warps_per_block
    return Occupancy(blocks, warps, warps / limits.warps, limited_by)
