"""Proposals in Triton; torch sorts.

1. key: every logit as an integer that holds its index, too, so that `torch.topk` keeps the order of ties;
2. decode: the best ones' boxes, clipped, scored and filtered: one problem for each image and level;
3. the greedy pass of `_triton.greedy_nms`;
4. gather: the best kept boxes of all levels, in the order of a stable sort.

Nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._inspection import TritonVariant
from ..._triton.exact import compute_dtype, decode_interval, sigmoid
from ..._triton.greedy_nms import EXACT, Problems, capacity_for, decide, exact_variant, on_device, variants
from .reference import MOST_GROWTH

CHUNK_TILES = 16
KEY_BLOCK = 512
DECODE_BLOCK = 128
GATHER_BLOCK = 128

_MOST_GROWTH = tl.constexpr(MOST_GROWTH)
#: Numbers that differ from level to level: a kernel for each of their kinds would gain nothing.
_OBJECTNESS_STRIDES = ("image_stride", "anchor_stride", "row_stride", "column_stride")
_DELTAS_STRIDES = ("delta_image_stride", "channel_stride", "delta_row_stride", "delta_column_stride")
_ANCHORS_STRIDES = ("anchors_image_stride", "anchors_row_stride", "anchors_coord_stride")
_OF_KEYS = (*_OBJECTNESS_STRIDES, "anchors_per_cell", "width", "n")
_OF_DECODING = (
    *_OBJECTNESS_STRIDES, *_DELTAS_STRIDES, *_ANCHORS_STRIDES, "anchors_per_cell", "width", "cell_height",
    "cell_width", "selected", "level", "levels",
)  # fmt: skip


@triton.jit
def _place(index, anchors_per_cell, width):
    """Row, column and anchor of a candidate."""
    index = index.to(tl.int32)
    cell = index // anchors_per_cell
    row = cell // width
    return row.to(tl.int64), (cell - row * width).to(tl.int64), (index - cell * anchors_per_cell).to(tl.int64)


@triton.jit
def _load_wide(pointer, mask):
    value = tl.load(pointer, mask=mask, other=0)
    return value if value.dtype == tl.float64 else value.to(tl.float32)


@triton.jit(do_not_specialize=_OF_KEYS)
def key_kernel(
    objectness,
    image_stride,
    anchor_stride,
    row_stride,
    column_stride,
    anchors_per_cell,
    width,
    n,
    keys,
    BLOCK: tl.constexpr,
):
    """keys[image, index]: unique integers in the order of (logit, -index).

    float64 leaves no room for the index: logits as they are, but with one zero and one NaN.
    """
    blocks = tl.cdiv(n, BLOCK)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    index = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < n
    row, column, anchor = _place(index, anchors_per_cell, width)
    offset = image * image_stride + anchor * anchor_stride + row * row_stride + column * column_stride
    logit = _load_wide(objectness + offset, inside)
    if logit.dtype == tl.float64:
        key = tl.where(logit == 0, 0.0, tl.where(logit != logit, float("nan"), logit))
    else:
        bits = logit.to(tl.int32, bitcast=True)
        order = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        order = tl.where(logit == 0, 0, tl.where(logit != logit, 0x7FFFFFFF, order))
        key = (order.to(tl.int64) << 32) | (0x7FFFFFFF - index)
    tl.store(keys + image * n + index, key, mask=inside)


@triton.jit
def _clip(coordinate, most):
    floored = tl.where(coordinate < 0, 0.0, coordinate)  # comparisons leave NaN as it is
    return tl.where(floored > most, most, floored)


@triton.jit(do_not_specialize=_OF_DECODING)
def decode_kernel(
    objectness,
    image_stride,
    anchor_stride,
    row_stride,
    column_stride,
    deltas,
    delta_image_stride,
    channel_stride,
    delta_row_stride,
    delta_column_stride,
    anchors,
    anchors_image_stride,
    anchors_row_stride,
    anchors_coord_stride,
    anchors_per_cell,
    width,
    cell_height,
    cell_width,
    image_sizes,
    best,
    selected,
    boxes,
    scores,
    removed,
    level,
    levels,
    capacity,
    min_size: tl.float64,
    score_threshold: tl.float64,
    GRID: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Boxes [image, level, 4, capacity], scores and removed [image, level, capacity] of one level's best."""
    blocks = tl.cdiv(selected, BLOCK)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    rank = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = rank < selected
    index = tl.load(best + image * selected + rank, mask=inside, other=0)
    row, column, anchor = _place(index, anchors_per_cell, width)

    own_anchors = anchors + image * anchors_image_stride + (anchor if GRID else index) * anchors_row_stride
    coord_stride = tl.full((), anchors_coord_stride, tl.int64)
    x1 = _load_wide(own_anchors, inside)
    y1 = _load_wide(own_anchors + coord_stride, inside)
    x2 = _load_wide(own_anchors + 2 * coord_stride, inside)
    y2 = _load_wide(own_anchors + 3 * coord_stride, inside)
    if GRID:
        shift_x, shift_y = (column * cell_width).to(x1.dtype), (row * cell_height).to(x1.dtype)
        x1, x2 = x1 + shift_x, x2 + shift_x
        y1, y2 = y1 + shift_y, y2 + shift_y

    own_deltas = deltas + image * delta_image_stride + row * delta_row_stride + column * delta_column_stride
    channel = 4 * anchor
    dx = _load_wide(own_deltas + channel * channel_stride, inside)
    dy = _load_wide(own_deltas + (channel + 1) * channel_stride, inside)
    dw = _load_wide(own_deltas + (channel + 2) * channel_stride, inside)
    dh = _load_wide(own_deltas + (channel + 3) * channel_stride, inside)
    x1, x2 = decode_interval(x1, x2, dx, dw, _MOST_GROWTH)
    y1, y2 = decode_interval(y1, y2, dy, dh, _MOST_GROWTH)

    right = tl.load(image_sizes + 2 * image + 1).to(x1.dtype)
    bottom = tl.load(image_sizes + 2 * image).to(x1.dtype)
    x1, x2 = _clip(x1, right), _clip(x2, right)
    y1, y2 = _clip(y1, bottom), _clip(y2, bottom)
    own_logit = image * image_stride + anchor * anchor_stride + row * row_stride + column * column_stride
    score = sigmoid(_load_wide(objectness + own_logit, inside))
    side = tl.full((), min_size, x1.dtype)
    kept = (x2 - x1 >= side) & (y2 - y1 >= side) & (score >= tl.full((), score_threshold, x1.dtype))

    problem = image * levels + level
    out = boxes + problem * 4 * capacity + rank
    capacity = tl.full((), capacity, tl.int64)  # 3 * capacity may pass 2^31
    tl.store(out, x1, mask=inside)
    tl.store(out + capacity, y1, mask=inside)
    tl.store(out + 2 * capacity, x2, mask=inside)
    tl.store(out + 3 * capacity, y2, mask=inside)
    tl.store(scores + problem * capacity + rank, score, mask=inside)
    tl.store(removed + problem * capacity + rank, tl.where(kept, 0, 1).to(tl.int8), mask=inside)


@triton.jit(do_not_specialize=["limit", "levels", "n"])
def gather_kernel(
    boxes,
    scores,
    keep,
    order,
    counts,
    out_boxes,
    out_scores,
    capacity,
    limit,
    levels,
    n,
    BLOCK: tl.constexpr,
):
    """Row i of an image: the kept box at its place order[i] among those of all levels [level, limit]; or zeros."""
    blocks = tl.cdiv(n, BLOCK)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    i = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = i < tl.load(counts + image)
    slot = tl.load(order + image * levels * limit + i, mask=valid, other=0)
    problem = image * levels + slot // limit
    row = tl.load(keep + image * levels * limit + slot, mask=valid, other=0)
    score = tl.load(scores + problem * capacity + row, mask=valid, other=0)
    tl.store(out_scores + image * n + i, score, mask=i < n)
    for coord in tl.static_range(4):
        value = tl.load(boxes + (problem * 4 + coord) * capacity + row, mask=valid, other=0)
        tl.store(out_boxes + (image * n + i) * 4 + coord, value, mask=i < n)


def _select(objectness: Tensor, selected: int) -> Tensor:
    """[B, selected]: indices of a level's best logits, highest first, ties by index."""
    batch, anchors_per_cell, height, width = objectness.shape
    n = anchors_per_cell * height * width
    is_wide = objectness.dtype == torch.float64
    keys = objectness.new_empty((batch, n), dtype=torch.float64 if is_wide else torch.int64)
    key_kernel[(batch * triton.cdiv(n, KEY_BLOCK),)](
        objectness, *objectness.stride(), anchors_per_cell, width, n, keys, BLOCK=KEY_BLOCK, **EXACT
    )
    if is_wide:
        return torch.sort(keys, stable=True, descending=True).indices[:, :selected].contiguous()
    return torch.topk(keys, selected).indices


def _on_device_of(tensor: Tensor, numbers: Sequence[int]) -> Tensor:
    """The numbers, without waiting for the copy."""
    host = torch.tensor(list(numbers), dtype=torch.int64)
    return host.pin_memory().to(tensor.device, non_blocking=True) if tensor.is_cuda else host


class _Candidates:
    """What is selected of every image and level: problems for the greedy pass."""

    def __init__(self, batch: int, levels: int, most: int, like: Tensor) -> None:
        self.levels, self.most, self.capacity = levels, most, capacity_for(most)
        rows = (batch * levels, self.capacity)
        dtype = compute_dtype(like.dtype)
        self.boxes = like.new_zeros((batch * levels, 4, self.capacity), dtype=dtype)
        self.scores = like.new_empty(rows, dtype=dtype)
        self.removed = like.new_ones(rows, dtype=torch.int8)

    def add(
        self,
        level: int,
        objectness: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        sizes: Tensor,
        selected: int,
        thresholds: tuple[float, float],
        cell: tuple[int, int] | None,
    ) -> None:
        """A level's best; its anchors are ``[B, n, 4]``."""
        batch, anchors_per_cell, _, width = objectness.shape
        decode_kernel[(batch * triton.cdiv(selected, DECODE_BLOCK),)](
            objectness, *objectness.stride(), deltas, *deltas.stride(), anchors, *anchors.stride(),
            anchors_per_cell, width, *(cell or (0, 0)), sizes, _select(objectness, selected), selected,
            self.boxes, self.scores, self.removed, level, self.levels, self.capacity, *thresholds,
            GRID=cell is not None, BLOCK=DECODE_BLOCK, **EXACT,
        )  # fmt: skip

    def merge(self, batch: int, post_nms_top_n: int, nms_threshold: float, like: Tensor) -> tuple[Tensor, ...]:
        """The kept boxes of all levels, best first."""
        limit = min(post_nms_top_n, self.most)
        keep, counts = decide(Problems(self.boxes, self.removed, self.most, limit), nms_threshold, CHUNK_TILES)
        is_kept = torch.arange(limit, device=keep.device) < counts[:, None]
        kept_scores = torch.where(is_kept, self.scores.gather(1, keep), -1.0)
        order = kept_scores.view(batch, -1).sort(stable=True, descending=True).indices
        counts = counts.view(batch, -1).sum(1).clamp(max=post_nms_top_n)
        boxes = like.new_empty((batch, post_nms_top_n, 4), dtype=self.boxes.dtype)
        scores = like.new_empty((batch, post_nms_top_n), dtype=self.boxes.dtype)
        gather_kernel[(batch * triton.cdiv(post_nms_top_n, GATHER_BLOCK),)](
            self.boxes, self.scores, keep, order, counts, boxes, scores,
            self.capacity, limit, self.levels, post_nms_top_n, BLOCK=GATHER_BLOCK, **EXACT,
        )  # fmt: skip
        return boxes.to(like.dtype), scores.to(like.dtype), counts


def rpn_proposals(
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Tensor,
    image_sizes: Sequence[int],
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    score_threshold: float = 0.0,
    min_size: float = 1e-3,
    strides: Sequence[int] | None = None,
) -> tuple[Tensor, ...]:
    """`gencv_fast.rpn_proposals` by Triton; the arguments have been checked."""
    batch, levels = len(image_sizes) // 2, len(objectness)
    selected = [min(pre_nms_top_n, level[0].numel() if batch else 0) for level in objectness]
    if max(selected) == 0 or post_nms_top_n == 0:
        boxes = anchors.new_zeros((batch, post_nms_top_n, 4))
        return boxes, boxes.new_zeros(boxes.shape[:2]), boxes.new_zeros(batch, dtype=torch.int64)
    with on_device(anchors):
        sizes = _on_device_of(anchors, image_sizes)
        candidates = _Candidates(batch, levels, max(selected), anchors)
        counts = [o.shape[1] if strides else o[0].numel() for o in objectness]
        of_levels = anchors.expand(batch, -1, -1).split(counts, dim=1)
        for level, (o, d, a) in enumerate(zip(objectness, deltas, of_levels, strict=True)):
            cell = (strides[2 * level], strides[2 * level + 1]) if strides else None
            if selected[level] > 0:
                candidates.add(level, o, d, a, sizes, selected[level], (min_size, score_threshold), cell)
        return candidates.merge(batch, post_nms_top_n, nms_threshold, anchors)


def _compute(element: str) -> str:
    return "fp64" if element == "fp64" else "fp32"


def _key_variant(element: str) -> TritonVariant:
    keys = "*fp64:16" if element == "fp64" else "*i64:16"
    signature = {"objectness": f"*{element}:16", **dict.fromkeys(_OF_KEYS, "i32"), "keys": keys}
    return exact_variant(f"key_kernel<{element}>", key_kernel, signature, {"BLOCK": KEY_BLOCK})


def _decode_variant(element: str, grid: bool) -> TritonVariant:
    inputs = dict.fromkeys(("objectness", "deltas", "anchors"), f"*{element}:16")
    outputs = dict.fromkeys(("boxes", "scores"), f"*{_compute(element)}:16")
    signature = {
        **inputs, **outputs, **dict.fromkeys(_OF_DECODING, "i32"), "image_sizes": "*i64:16", "best": "*i64:16",
        "removed": "*i8:16", "capacity": "i32:16", "min_size": "fp64", "score_threshold": "fp64",
    }  # fmt: skip
    name = f"decode_kernel<{element}{', grid' if grid else ''}>"
    return exact_variant(name, decode_kernel, signature, {"GRID": grid, "BLOCK": DECODE_BLOCK})


def _gather_variant(compute: str) -> TritonVariant:
    signature = {
        **dict.fromkeys(("boxes", "scores", "out_boxes", "out_scores"), f"*{compute}:16"),
        **dict.fromkeys(("keep", "order", "counts"), "*i64:16"),
        "capacity": "i32:16", "limit": "i32", "levels": "i32", "n": "i32",
    }  # fmt: skip
    return exact_variant(f"gather_kernel<{compute}>", gather_kernel, signature, {"BLOCK": GATHER_BLOCK})


_ELEMENTS = ("fp32", "fp64", "fp16", "bf16")

#: What `gencv-fast inspect` and the tests compile for every architecture, without a GPU.
KERNELS: tuple[TritonVariant, ...] = (
    *(_key_variant(element) for element in _ELEMENTS),
    *(_decode_variant(element, False) for element in _ELEMENTS),
    _decode_variant("fp32", True),
    *variants(CHUNK_TILES, with_classes=False, with_order=False),
    *(_gather_variant(compute) for compute in ("fp32", "fp64")),
)
