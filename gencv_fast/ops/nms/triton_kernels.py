"""Greedy NMS in Triton: the algorithm of csrc/nms/nms_cuda.cu, a chunk of sorted boxes at a time.

1. mask: which boxes of the chunk would suppress which, one bit each;
2. resolve: one program walks the chunk tile by tile and settles who is kept;
3. suppress: the kept boxes remove boxes of all later chunks, with no mask at all.

Every kernel is launched with ``enable_fp_fusion=False``: decisions must fall as on every other backend.
"""

from __future__ import annotations

import contextlib
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._inspection import TritonVariant

TILE = 64  # boxes decided together: the bits of a mask word
CHUNK_TILES = 32
GATHER_BLOCK = 256
SUPPRESS_BLOCK = 128
KEPT_BLOCK = 256
STEP = 8  # rows tested at a time, against all columns of a program

_EXACT = {"enable_fp_fusion": False, "num_warps": 4}


@triton.jit
def _divide(a, b):
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b


@triton.jit
def _load_boxes(sorted_boxes, capacity, index):
    """Corners of shape [4][index]; ``sorted_boxes`` is [4, capacity]."""
    capacity = tl.full((), capacity, tl.int64)  # 3 * capacity may pass 2^31
    x1 = tl.load(sorted_boxes + index)
    y1 = tl.load(sorted_boxes + capacity + index)
    x2 = tl.load(sorted_boxes + 2 * capacity + index)
    y2 = tl.load(sorted_boxes + 3 * capacity + index)
    return x1, y1, x2, y2


@triton.jit
def _suppresses(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, threshold):
    """[R, C]: whether box r of ``a`` [R] overlaps box c of ``b`` [C] by more than the threshold."""
    area_a = ((ax2 - ax1) * (ay2 - ay1))[:, None]
    area_b = ((bx2 - bx1) * (by2 - by1))[None, :]
    width = tl.minimum(ax2[:, None], bx2[None, :]) - tl.maximum(ax1[:, None], bx1[None, :])
    height = tl.minimum(ay2[:, None], by2[None, :]) - tl.maximum(ay1[:, None], by1[None, :])
    inter = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    return _divide(inter, (area_a + area_b) - inter) > tl.full((), threshold, ax1.dtype)


@triton.jit(do_not_specialize=["n"])
def gather_kernel(
    boxes,
    box_stride,
    coord_stride,
    order,
    class_ids,
    class_stride,
    sorted_boxes,
    sorted_classes,
    removed,
    n,
    capacity,
    BLOCK: tl.constexpr,
):
    """Boxes in the order of their scores, in the type that decisions fall in: [4, capacity].

    The rest of the capacity counts as removed, so that the other kernels need no bounds checks.
    """
    capacity, coord_stride = tl.full((), capacity, tl.int64), tl.full((), coord_stride, tl.int64)
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    allocated = i < capacity
    source = tl.load(order + i, mask=inside, other=0)
    for coord in tl.static_range(4):
        value = tl.load(boxes + source * box_stride + coord * coord_stride, mask=inside, other=0)
        tl.store(sorted_boxes + coord * capacity + i, value.to(sorted_boxes.dtype.element_ty), mask=allocated)
    if class_ids is not None:
        class_id = tl.load(class_ids + source * class_stride, mask=inside, other=0)
        tl.store(sorted_classes + i, class_id, mask=allocated)
    tl.store(removed + i, tl.where(inside, 0, 1).to(tl.int8), mask=allocated)


@triton.jit(do_not_specialize=["tiles"])
def mask_kernel(
    sorted_boxes,
    sorted_classes,
    removed,
    mask,
    capacity,
    first,
    tiles,
    threshold: tl.float64,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    STEP: tl.constexpr,
):
    """mask[row tile, column]: the boxes of the tile that would suppress the column's box."""
    row_tile = tl.program_id(0) // tiles
    column_tile = tl.program_id(0) % tiles
    if row_tile > column_tile:
        return
    in_tile = tl.arange(0, TILE)
    column = column_tile * TILE + in_tile
    first_row = first + (row_tile * TILE).to(tl.int64)
    column_index = first + column.to(tl.int64)
    # A removed row is never kept and a removed column never looks: without an open one, no word is read.
    if tl.min(tl.load(removed + first_row + in_tile), 0) != 0:
        return
    if tl.min(tl.load(removed + column_index), 0) != 0:
        return
    bx1, by1, bx2, by2 = _load_boxes(sorted_boxes, capacity, column_index)
    if sorted_classes is not None:
        column_class = tl.load(sorted_classes + column_index)
    word = tl.zeros([TILE], tl.int64)
    for step in range(0, TILE, STEP):
        in_step = step + tl.arange(0, STEP)
        row_index = first_row + in_step
        ax1, ay1, ax2, ay2 = _load_boxes(sorted_boxes, capacity, row_index)
        hit = _suppresses(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, threshold)
        if sorted_classes is not None:
            hit &= tl.load(sorted_classes + row_index)[:, None] == column_class[None, :]
        bit = tl.full([STEP], 1, tl.int64) << in_step.to(tl.int64)
        word |= tl.sum(tl.where(hit, bit[:, None], 0), axis=0)
    # In the tile on the diagonal only earlier boxes suppress: the bits below a box's own.
    own = tl.full([TILE], 1, tl.int64) << in_tile.to(tl.int64)
    word &= tl.where(row_tile == column_tile, own - 1, -1)
    tl.store(mask + row_tile * CHUNK + column, word)


@triton.jit
def _word(flags, bit):
    return tl.sum(tl.where(flags, bit, 0), axis=0)


@triton.jit(do_not_specialize=["tiles"])
def resolve_kernel(
    order,
    removed,
    mask,
    kept_rows,
    kept_count,
    keep,
    count,
    first,
    tiles,
    TILE: tl.constexpr,
    CHUNK_TILES: tl.constexpr,
):
    """The greedy pass over one chunk. ``count`` grows by the kept boxes, whose indices go to ``keep``."""
    in_tile = tl.arange(0, TILE)
    row_tiles = tl.arange(0, CHUNK_TILES)
    bit = tl.full([TILE], 1, tl.int64) << in_tile.to(tl.int64)
    kept_words = tl.zeros([CHUNK_TILES], tl.int64)
    before = tl.load(count)
    kept_here = tl.zeros([], tl.int32)
    for tile in range(tiles):
        column = tile * TILE + in_tile
        index = first + column.to(tl.int64)
        earlier = row_tiles[:, None] < tile
        offset = row_tiles[:, None] * (CHUNK_TILES * TILE) + column[None, :]
        words = tl.load(mask + offset, mask=earlier, other=0)
        hits = tl.max(((words & kept_words[:, None]) != 0).to(tl.int32), axis=0)
        open_now = (tl.load(removed + index) == 0) & (hits == 0)
        within = tl.load(mask + tile * (CHUNK_TILES * TILE) + column)

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
        tl.store(kept_rows + rank, index.to(tl.int32), mask=kept != 0)
        tl.store(keep + before + rank, tl.load(order + index, mask=kept != 0, other=0), mask=kept != 0)
        kept_here += tl.sum(kept, axis=0)
    tl.store(kept_count, kept_here)
    tl.store(count, before + kept_here)


@triton.jit(do_not_specialize=["kept_blocks"])
def suppress_kernel(
    sorted_boxes,
    sorted_classes,
    removed,
    kept_rows,
    kept_count,
    capacity,
    later,
    kept_blocks,
    threshold: tl.float64,
    BLOCK: tl.constexpr,
    KEPT_BLOCK: tl.constexpr,
    STEP: tl.constexpr,
):
    """Removes the boxes from ``later`` on that a kept box of the chunk suppresses."""
    row = (tl.program_id(0) % kept_blocks) * KEPT_BLOCK
    last_row = tl.minimum(row + KEPT_BLOCK, tl.load(kept_count))
    column = later + (tl.program_id(0) // kept_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    # Programs that share columns only ever set the flag: an old value costs work, not the result.
    before = tl.load(removed + column)
    bx1, by1, bx2, by2 = _load_boxes(sorted_boxes, capacity, column)
    if sorted_classes is not None:
        column_class = tl.load(sorted_classes + column)
    now = before.to(tl.int32)
    while (row < last_row) & (tl.min(now, 0) == 0):
        rows = row + tl.arange(0, STEP)
        valid = rows < last_row
        index = tl.load(kept_rows + rows, mask=valid, other=0).to(tl.int64)
        ax1, ay1, ax2, ay2 = _load_boxes(sorted_boxes, capacity, index)
        hit = _suppresses(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, threshold) & valid[:, None]
        if sorted_classes is not None:
            hit &= tl.load(sorted_classes + index)[:, None] == column_class[None, :]
        now |= tl.max(hit.to(tl.int32), axis=0)
        row += STEP
    tl.store(removed + column, tl.full([BLOCK], 1, tl.int8), mask=(now != 0) & (before == 0))


def _compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _round_down(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of the dtype that is not above the threshold: exceeding either means the same."""
    if dtype == torch.float64:
        return threshold
    nearest = torch.tensor(threshold, dtype=dtype)
    if nearest.item() > threshold:
        nearest = torch.nextafter(nearest, torch.tensor(-math.inf, dtype=dtype))
    return nearest.item()


def _sort_by_score(scores: Tensor) -> Tensor:
    """Indices by score; all NaN are made one and -0 becomes +0, because a radix sort goes by bits."""
    keys = torch.nan_to_num(scores + 0.0, nan=math.nan, posinf=math.inf, neginf=-math.inf)
    return torch.sort(keys, stable=True, descending=True).indices


def _run(
    boxes: Tensor,
    scores: Tensor,
    class_ids: Tensor | None,
    iou_threshold: float,
    chunk_tiles: int = CHUNK_TILES,
) -> Tensor:
    n = boxes.shape[0]
    if n == 0:
        return boxes.new_empty(0, dtype=torch.int64)
    dtype = _compute_dtype(boxes.dtype)
    threshold = _round_down(iou_threshold, dtype)
    chunk = chunk_tiles * TILE
    # The last block of the suppress kernel starts at a multiple of TILE and may reach this far.
    capacity = triton.cdiv(n, TILE) * TILE + SUPPRESS_BLOCK
    order = _sort_by_score(scores)
    sorted_boxes = boxes.new_empty((4, capacity), dtype=dtype)
    classes = None if class_ids is None else boxes.new_empty(capacity, dtype=torch.int64)
    removed = boxes.new_empty(capacity, dtype=torch.int8)
    mask = boxes.new_empty((chunk_tiles, chunk), dtype=torch.int64)
    kept_rows = boxes.new_empty(chunk, dtype=torch.int32)
    kept_count = boxes.new_empty(1, dtype=torch.int32)
    keep = boxes.new_empty(n, dtype=torch.int64)
    count = boxes.new_zeros(1, dtype=torch.int64)

    gather_kernel[(triton.cdiv(capacity, GATHER_BLOCK),)](
        boxes, boxes.stride(0), boxes.stride(1), order,
        class_ids, 0 if class_ids is None else class_ids.stride(0),
        sorted_boxes, classes, removed, n, capacity, BLOCK=GATHER_BLOCK, **_EXACT,
    )  # fmt: skip
    for first in range(0, n, chunk):
        tiles = triton.cdiv(min(chunk, n - first), TILE)
        mask_kernel[(tiles * tiles,)](
            sorted_boxes, classes, removed, mask, capacity, first, tiles, threshold,
            TILE=TILE, CHUNK=chunk, STEP=STEP, **_EXACT,
        )  # fmt: skip
        resolve_kernel[(1,)](
            order, removed, mask, kept_rows, kept_count, keep, count, first, tiles,
            TILE=TILE, CHUNK_TILES=chunk_tiles, **_EXACT,
        )  # fmt: skip
        later = first + chunk
        if later < n:
            kept_blocks = triton.cdiv(chunk, KEPT_BLOCK)
            suppress_kernel[(triton.cdiv(n - later, SUPPRESS_BLOCK) * kept_blocks,)](
                sorted_boxes, classes, removed, kept_rows, kept_count, capacity, later, kept_blocks,
                threshold, BLOCK=SUPPRESS_BLOCK, KEPT_BLOCK=KEPT_BLOCK, STEP=STEP, **_EXACT,
            )  # fmt: skip
    return keep[: int(count)]


def _on_device(boxes: Tensor) -> contextlib.AbstractContextManager[object]:
    return torch.cuda.device(boxes.device) if boxes.is_cuda else contextlib.nullcontext()


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`gencv_fast.nms` by Triton; the arguments have been checked."""
    with _on_device(boxes):
        return _run(boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`gencv_fast.batched_nms` by Triton; the arguments have been checked."""
    with _on_device(boxes):
        return _run(boxes, scores, idxs, iou_threshold)


def _gather_variant(element: str, with_classes: bool) -> TritonVariant:
    compute = "fp64" if element == "fp64" else "fp32"
    signature = {
        "boxes": f"*{element}:16", "box_stride": "i32", "coord_stride": "i32", "order": "*i64:16",
        "class_ids": "*i64:16", "class_stride": "i32", "sorted_boxes": f"*{compute}:16",
        "sorted_classes": "*i64:16", "removed": "*i8:16", "n": "i32", "capacity": "i32:16",
    }  # fmt: skip
    return _variant("gather_kernel", gather_kernel, element, signature, {"BLOCK": GATHER_BLOCK}, with_classes)


def _mask_variant(compute: str, with_classes: bool) -> TritonVariant:
    signature = {
        "sorted_boxes": f"*{compute}:16", "sorted_classes": "*i64:16", "removed": "*i8:16", "mask": "*i64:16",
        "capacity": "i32:16", "first": "i32:16", "tiles": "i32", "threshold": "fp64",
    }  # fmt: skip
    constexprs = {"TILE": TILE, "CHUNK": CHUNK_TILES * TILE, "STEP": STEP}
    return _variant("mask_kernel", mask_kernel, compute, signature, constexprs, with_classes)


def _suppress_variant(compute: str, with_classes: bool) -> TritonVariant:
    signature = {
        "sorted_boxes": f"*{compute}:16", "sorted_classes": "*i64:16", "removed": "*i8:16",
        "kept_rows": "*i32:16", "kept_count": "*i32:16", "capacity": "i32:16", "later": "i32:16",
        "kept_blocks": "i32", "threshold": "fp64",
    }  # fmt: skip
    constexprs = {"BLOCK": SUPPRESS_BLOCK, "KEPT_BLOCK": KEPT_BLOCK, "STEP": STEP}
    return _variant("suppress_kernel", suppress_kernel, compute, signature, constexprs, with_classes)


def _variant(
    name: str,
    kernel: object,
    dtype: str,
    signature: dict[str, str],
    constexprs: dict[str, int],
    with_classes: bool,
) -> TritonVariant:
    optional = () if with_classes else ("class_ids", "sorted_classes")
    absent: dict[str, None] = dict.fromkeys(a for a in optional if a in signature)
    return TritonVariant(
        name=f"{name}<{dtype}{', classes' if with_classes else ''}>",
        kernel=kernel,
        signature={a: t for a, t in signature.items() if a not in absent},
        constexprs={**constexprs, **absent},
        num_warps=_EXACT["num_warps"],
        enable_fp_fusion=False,
        exact=True,
    )


_RESOLVE = TritonVariant(
    name="resolve_kernel",
    kernel=resolve_kernel,
    signature={
        "order": "*i64:16", "removed": "*i8:16", "mask": "*i64:16", "kept_rows": "*i32:16",
        "kept_count": "*i32:16", "keep": "*i64:16", "count": "*i64:16", "first": "i32:16", "tiles": "i32",
    },
    constexprs={"TILE": TILE, "CHUNK_TILES": CHUNK_TILES},
    num_warps=_EXACT["num_warps"],
    enable_fp_fusion=False,
    exact=True,
)  # fmt: skip

#: What `gencv-fast inspect` and the tests compile for every architecture, without a GPU.
KERNELS: tuple[TritonVariant, ...] = (
    *(_gather_variant(element, False) for element in ("fp32", "fp64", "fp16", "bf16")),
    _gather_variant("fp32", True),
    *(_mask_variant(compute, classes) for compute in ("fp32", "fp64") for classes in (False, True)),
    _RESOLVE,
    *(_suppress_variant(compute, classes) for compute in ("fp32", "fp64") for classes in (False, True)),
)
