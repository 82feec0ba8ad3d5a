"""Greedy NMS in Triton: the algorithm of csrc/common/greedy_nms_cuda.h, for many problems at once.

Each problem is a row of boxes sorted by score; a chunk of every row at a time:

1. mask: which boxes of the chunk would suppress which, one bit each;
2. resolve: one program per problem walks the chunk tile by tile and settles who is kept;
3. suppress: the kept boxes remove boxes of all later chunks, with no mask at all.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._inspection import TritonVariant
from .exact import divide, round_down

TILE = 64  # boxes decided together: the bits of a mask word
SUPPRESS_BLOCK = 128
KEPT_BLOCK = 256
STEP = 8  # rows tested at a time, against all columns of a program

EXACT = {"enable_fp_fusion": False, "num_warps": 4}


@triton.jit
def _load_boxes(boxes, capacity, index):
    """Corners of shape [4][index]; ``boxes`` is [4, capacity]."""
    capacity = tl.full((), capacity, tl.int64)  # 3 * capacity may pass 2^31
    x1 = tl.load(boxes + index)
    y1 = tl.load(boxes + capacity + index)
    x2 = tl.load(boxes + 2 * capacity + index)
    y2 = tl.load(boxes + 3 * capacity + index)
    return x1, y1, x2, y2


@triton.jit
def _suppresses(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, threshold):
    """[R, C]: whether box r of ``a`` [R] overlaps box c of ``b`` [C] by more than the threshold."""
    area_a = ((ax2 - ax1) * (ay2 - ay1))[:, None]
    area_b = ((bx2 - bx1) * (by2 - by1))[None, :]
    width = tl.minimum(ax2[:, None], bx2[None, :]) - tl.maximum(ax1[:, None], bx1[None, :])
    height = tl.minimum(ay2[:, None], by2[None, :]) - tl.maximum(ay1[:, None], by1[None, :])
    inter = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    return divide(inter, (area_a + area_b) - inter) > tl.full((), threshold, ax1.dtype)


@triton.jit(do_not_specialize=["tiles", "limit"])
def mask_kernel(
    boxes,
    classes,
    removed,
    mask,
    count,
    capacity,
    limit,
    first,
    tiles,
    threshold: tl.float64,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    STEP: tl.constexpr,
):
    """mask[problem, row tile, column]: the boxes of the tile that would suppress the column's box."""
    problem = (tl.program_id(0) // (tiles * tiles)).to(tl.int64)
    pair = tl.program_id(0) % (tiles * tiles)
    row_tile = pair // tiles
    column_tile = pair % tiles
    if row_tile > column_tile:
        return
    if tl.load(count + problem) >= limit:
        return
    in_tile = tl.arange(0, TILE)
    column = column_tile * TILE + in_tile
    first_row = first + (row_tile * TILE).to(tl.int64)
    column_index = first + column.to(tl.int64)
    # A removed row is never kept and a removed column never looks: without an open one, no word is read.
    removed += problem * capacity
    if tl.min(tl.load(removed + first_row + in_tile), 0) != 0:
        return
    if tl.min(tl.load(removed + column_index), 0) != 0:
        return
    boxes += problem * capacity * 4
    bx1, by1, bx2, by2 = _load_boxes(boxes, capacity, column_index)
    if classes is not None:
        classes += problem * capacity
        column_class = tl.load(classes + column_index)
    word = tl.zeros([TILE], tl.int64)
    for step in range(0, TILE, STEP):
        in_step = step + tl.arange(0, STEP)
        row_index = first_row + in_step
        ax1, ay1, ax2, ay2 = _load_boxes(boxes, capacity, row_index)
        hit = _suppresses(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, threshold)
        if classes is not None:
            hit &= tl.load(classes + row_index)[:, None] == column_class[None, :]
        bit = tl.full([STEP], 1, tl.int64) << in_step.to(tl.int64)
        word |= tl.sum(tl.where(hit, bit[:, None], 0), axis=0)
    # In the tile on the diagonal only earlier boxes suppress: the bits below a box's own.
    own = tl.full([TILE], 1, tl.int64) << in_tile.to(tl.int64)
    word &= tl.where(row_tile == column_tile, own - 1, -1)
    tl.store(mask + problem * (CHUNK // TILE * CHUNK) + row_tile * CHUNK + column, word)


@triton.jit
def _word(flags, bit):
    return tl.sum(tl.where(flags, bit, 0), axis=0)


@triton.jit(do_not_specialize=["tiles", "limit"])
def resolve_kernel(
    order,
    removed,
    mask,
    kept_rows,
    kept_count,
    keep,
    count,
    capacity,
    limit,
    first,
    tiles,
    TILE: tl.constexpr,
    CHUNK_TILES: tl.constexpr,
):
    """The greedy pass over one chunk. ``count`` grows by the kept boxes, which go to ``keep``.

    As indices from ``order`` [problem, capacity], or without it as rows.
    """
    CHUNK: tl.constexpr = CHUNK_TILES * TILE
    problem = tl.program_id(0).to(tl.int64)
    removed += problem * capacity
    mask += problem * (CHUNK_TILES * CHUNK)
    kept_rows += problem * CHUNK
    in_tile = tl.arange(0, TILE)
    row_tiles = tl.arange(0, CHUNK_TILES)
    bit = tl.full([TILE], 1, tl.int64) << in_tile.to(tl.int64)
    kept_words = tl.zeros([CHUNK_TILES], tl.int64)
    before = tl.load(count + problem)
    room = limit - before
    keep += problem * limit + before
    kept_here = tl.zeros([], tl.int32)
    tile = tl.zeros([], tl.int32)
    while (tile < tiles) & (kept_here < room):
        column = tile * TILE + in_tile
        index = first + column.to(tl.int64)
        earlier = row_tiles[:, None] < tile
        words = tl.load(mask + row_tiles[:, None] * CHUNK + column[None, :], mask=earlier, other=0)
        hits = tl.max(((words & kept_words[:, None]) != 0).to(tl.int32), axis=0)
        open_now = (tl.load(removed + index) == 0) & (hits == 0)
        within = tl.load(mask + tile * CHUNK + column)

        # A round decides all boxes whose earlier suppressors are decided: as many rounds as the longest
        # chain, not 64.
        open_word = _word(open_now, bit)
        kept_word = tl.zeros([], tl.int64)
        while open_word != 0:
            is_open = (bit & open_word) != 0
            kept_word |= _word(is_open & ((within & open_word) == 0), bit)
            open_word = _word(is_open & ((bit & kept_word) == 0) & ((within & kept_word) == 0), bit)

        kept_words = tl.where(row_tiles == tile, kept_word, kept_words)
        kept = ((bit & kept_word) != 0).to(tl.int32)
        rank = kept_here + tl.cumsum(kept, axis=0) - kept
        wanted = (kept != 0) & (rank < room)
        tl.store(kept_rows + rank, index.to(tl.int32), mask=wanted)
        if order is not None:
            index = tl.load(order + problem * capacity + index, mask=wanted, other=0)
        tl.store(keep + rank, index, mask=wanted)
        kept_here += tl.sum(kept, axis=0)
        tile += 1
    kept_here = tl.minimum(kept_here, room).to(tl.int32)
    tl.store(kept_count + problem, kept_here)
    tl.store(count + problem, before + kept_here)


@triton.jit(do_not_specialize=["kept_blocks", "column_blocks", "limit"])
def suppress_kernel(
    boxes,
    classes,
    removed,
    kept_rows,
    kept_count,
    count,
    capacity,
    limit,
    later,
    kept_blocks,
    column_blocks,
    threshold: tl.float64,
    BLOCK: tl.constexpr,
    KEPT_BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    STEP: tl.constexpr,
):
    """Removes the boxes from ``later`` on that a kept box of the chunk suppresses."""
    block = tl.program_id(0) // kept_blocks
    problem = (block // column_blocks).to(tl.int64)
    if tl.load(count + problem) >= limit:
        return
    row = (tl.program_id(0) % kept_blocks) * KEPT_BLOCK
    last_row = tl.minimum(row + KEPT_BLOCK, tl.load(kept_count + problem))
    column = later + (block % column_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    removed += problem * capacity
    boxes += problem * capacity * 4
    kept_rows += problem * CHUNK
    # Programs that share columns only ever set the flag: an old value costs work, not the result.
    before = tl.load(removed + column)
    bx1, by1, bx2, by2 = _load_boxes(boxes, capacity, column)
    if classes is not None:
        classes += problem * capacity
        column_class = tl.load(classes + column)
    now = before.to(tl.int32)
    while (row < last_row) & (tl.min(now, 0) == 0):
        rows = row + tl.arange(0, STEP)
        valid = rows < last_row
        index = tl.load(kept_rows + rows, mask=valid, other=0).to(tl.int64)
        ax1, ay1, ax2, ay2 = _load_boxes(boxes, capacity, index)
        hit = _suppresses(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, threshold) & valid[:, None]
        if classes is not None:
            hit &= tl.load(classes + index)[:, None] == column_class[None, :]
        now |= tl.max(hit.to(tl.int32), axis=0)
        row += STEP
    tl.store(removed + column, tl.full([BLOCK], 1, tl.int8), mask=(now != 0) & (before == 0))


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Makes the tensor's GPU the one that kernels are launched on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def capacity_for(n: int) -> int:
    """Columns to allocate for n boxes: blocks start at multiples of TILE and may reach past the last one."""
    return triton.cdiv(n, TILE) * TILE + SUPPRESS_BLOCK


@dataclass
class Problems:
    """Rows of boxes sorted by score.

    Attributes:
        boxes: ``[P, 4, capacity_for(n)]``, in the type that decisions are computed in.
        removed: ``[P, capacity_for(n)]``, int8: 1 for boxes that take no part, and for all past the n first.
        n: the most boxes of a problem.
        limit: the most boxes that are kept of a problem.
        classes: like ``removed``, int64: boxes of one class only suppress one another.
        order: like ``removed``, int64: what is returned in place of rows.
    """

    boxes: Tensor
    removed: Tensor
    n: int
    limit: int
    classes: Tensor | None = None
    order: Tensor | None = None


def decide(p: Problems, iou_threshold: float, chunk_tiles: int) -> tuple[Tensor, Tensor]:
    """The kept boxes of each problem, best first ``[P, limit]``, then zeros; and their counts ``[P]``; int64."""
    problems, _, capacity = p.boxes.shape
    threshold = round_down(iou_threshold, p.boxes.dtype)
    chunk = chunk_tiles * TILE

    def new(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return p.boxes.new_empty((problems, *shape), dtype=dtype)

    mask = new(chunk_tiles, chunk)
    kept_rows, kept_count = new(chunk, dtype=torch.int32), new(dtype=torch.int32)
    keep, count = new(p.limit).zero_(), new().zero_()
    for first in range(0, p.n, chunk):
        tiles = triton.cdiv(min(chunk, p.n - first), TILE)
        mask_kernel[(problems * tiles * tiles,)](
            p.boxes, p.classes, p.removed, mask, count, capacity, p.limit, first, tiles, threshold,
            TILE=TILE, CHUNK=chunk, STEP=STEP, **EXACT,
        )  # fmt: skip
        resolve_kernel[(problems,)](
            p.order, p.removed, mask, kept_rows, kept_count, keep, count, capacity, p.limit, first, tiles,
            TILE=TILE, CHUNK_TILES=chunk_tiles, **EXACT,
        )  # fmt: skip
        later = first + chunk
        if later < p.n:
            kept_blocks, column_blocks = triton.cdiv(chunk, KEPT_BLOCK), triton.cdiv(p.n - later, SUPPRESS_BLOCK)
            suppress_kernel[(problems * kept_blocks * column_blocks,)](
                p.boxes, p.classes, p.removed, kept_rows, kept_count, count, capacity, p.limit, later,
                kept_blocks, column_blocks, threshold,
                BLOCK=SUPPRESS_BLOCK, KEPT_BLOCK=KEPT_BLOCK, CHUNK=chunk, STEP=STEP, **EXACT,
            )  # fmt: skip
    return keep, count


_POINTERS = {
    "classes": "*i64:16", "order": "*i64:16", "removed": "*i8:16", "mask": "*i64:16", "kept_rows": "*i32:16",
    "kept_count": "*i32:16", "keep": "*i64:16", "count": "*i64:16",
}  # fmt: skip


def exact_variant(name: str, kernel: object, signature: dict[str, str], constexprs: dict[str, object]) -> TritonVariant:
    """A variant as launched with ``EXACT``; arguments of the signature that constexprs name are absent (None)."""
    return TritonVariant(
        name=name,
        kernel=kernel,
        signature={a: t for a, t in signature.items() if a not in constexprs},
        constexprs=constexprs,
        num_warps=EXACT["num_warps"],
        enable_fp_fusion=False,
        exact=True,
    )


def variants(chunk_tiles: int, with_classes: bool, with_order: bool) -> tuple[TritonVariant, ...]:
    """What `decide` launches, for a room's KERNELS."""
    chunk = chunk_tiles * TILE
    absent: dict[str, object] = {} if with_classes else {"classes": None}
    unordered: dict[str, object] = {} if with_order else {"order": None}
    suffix = ", classes" if with_classes else ""
    resolve = {
        **{a: _POINTERS[a] for a in ("order", "removed", "mask", "kept_rows", "kept_count", "keep", "count")},
        "capacity": "i32:16", "limit": "i32", "first": "i32:16", "tiles": "i32",
    }  # fmt: skip
    found = [
        exact_variant(
            "resolve_kernel", resolve_kernel, resolve, {"TILE": TILE, "CHUNK_TILES": chunk_tiles, **unordered}
        )
    ]
    for compute in ("fp32", "fp64"):
        boxes = {"boxes": f"*{compute}:16"}
        mask = {
            **boxes, **{a: _POINTERS[a] for a in ("classes", "removed", "mask", "count")},
            "capacity": "i32:16", "limit": "i32", "first": "i32:16", "tiles": "i32", "threshold": "fp64",
        }  # fmt: skip
        suppress = {
            **boxes, **{a: _POINTERS[a] for a in ("classes", "removed", "kept_rows", "kept_count", "count")},
            "capacity": "i32:16", "limit": "i32", "later": "i32:16", "kept_blocks": "i32", "column_blocks": "i32",
            "threshold": "fp64",
        }  # fmt: skip
        of_mask = {"TILE": TILE, "CHUNK": chunk, "STEP": STEP, **absent}
        of_suppress = {"BLOCK": SUPPRESS_BLOCK, "KEPT_BLOCK": KEPT_BLOCK, "CHUNK": chunk, "STEP": STEP, **absent}
        found += [
            exact_variant(f"mask_kernel<{compute}{suffix}>", mask_kernel, mask, of_mask),
            exact_variant(f"suppress_kernel<{compute}{suffix}>", suppress_kernel, suppress, of_suppress),
        ]
    return tuple(found)
