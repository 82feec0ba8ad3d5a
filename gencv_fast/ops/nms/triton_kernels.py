"""Greedy NMS in Triton: boxes gathered in the order of their scores, then the pass of `_triton.greedy_nms`."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._inspection import TritonVariant
from ..._triton.exact import compute_dtype
from ..._triton.greedy_nms import EXACT, Problems, capacity_for, decide, exact_variant, on_device, variants

CHUNK_TILES = 32
GATHER_BLOCK = 256


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
    capacity = capacity_for(n)
    order = _sort_by_score(scores)
    sorted_boxes = boxes.new_empty((1, 4, capacity), dtype=compute_dtype(boxes.dtype))
    classes = None if class_ids is None else boxes.new_empty(capacity, dtype=torch.int64)
    removed = boxes.new_empty((1, capacity), dtype=torch.int8)
    gather_kernel[(triton.cdiv(capacity, GATHER_BLOCK),)](
        boxes, boxes.stride(0), boxes.stride(1), order,
        class_ids, 0 if class_ids is None else class_ids.stride(0),
        sorted_boxes, classes, removed, n, capacity, BLOCK=GATHER_BLOCK, **EXACT,
    )  # fmt: skip
    problem = Problems(sorted_boxes, removed, n, n, classes, order)
    keep, count = decide(problem, iou_threshold, chunk_tiles)
    return keep[0, : int(count)]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`gencv_fast.nms` by Triton; the arguments have been checked."""
    with on_device(boxes):
        return _run(boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`gencv_fast.batched_nms` by Triton; the arguments have been checked."""
    with on_device(boxes):
        return _run(boxes, scores, idxs, iou_threshold)


def _gather_variant(element: str, with_classes: bool) -> TritonVariant:
    compute = "fp64" if element == "fp64" else "fp32"
    signature = {
        "boxes": f"*{element}:16", "box_stride": "i32", "coord_stride": "i32", "order": "*i64:16",
        "class_ids": "*i64:16", "class_stride": "i32", "sorted_boxes": f"*{compute}:16",
        "sorted_classes": "*i64:16", "removed": "*i8:16", "n": "i32", "capacity": "i32:16",
    }  # fmt: skip
    absent: dict[str, object] = {} if with_classes else {"class_ids": None, "sorted_classes": None}
    name = f"gather_kernel<{element}{', classes' if with_classes else ''}>"
    return exact_variant(name, gather_kernel, signature, {"BLOCK": GATHER_BLOCK, **absent})


#: What `gencv-fast inspect` and the tests compile for every architecture, without a GPU.
KERNELS: tuple[TritonVariant, ...] = (
    *(_gather_variant(element, False) for element in ("fp32", "fp64", "fp16", "bf16")),
    _gather_variant("fp32", True),
    *variants(CHUNK_TILES, with_classes=False, with_order=True),
    *(v for v in variants(CHUNK_TILES, with_classes=True, with_order=True) if "classes" in v.signature),
)
