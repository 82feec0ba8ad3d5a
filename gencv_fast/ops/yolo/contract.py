"""What torch is told about the room's operators: schemas, fake kernels, gradient, vmap, sharding, export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._dispatch import Op
from ..._register import register
from . import checks, reference

_ROOM = "gencv_fast.ops.yolo"
_MAPS = 'Tensor[] preds, float[]? anchors, int[] strides, str version="v8"'
_HEAD = "int boxes_per_cell=2, int reg_max=16"


def fake_yolo_decode(
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    boxes_per_cell: int = 2,
    reg_max: int = 16,
) -> tuple[Tensor, Tensor]:
    first = preds[0]
    boxes = checks.boxes_in_cell(preds, anchors, version, boxes_per_cell)
    batch, n = first.shape[0], checks.box_count(preds, boxes)
    classes = checks.class_count(first.shape[1], boxes, version, reg_max)
    return first.new_empty((batch, n, 4)), first.new_empty((batch, classes, n)).transpose(1, 2)


def fake_yolo_decode_backward(grad_boxes: Tensor, grad_scores: Tensor, preds: Sequence[Tensor], *rest: Any) -> Tensor:
    numbers = sum(pred.shape[1] * pred.shape[2] * pred.shape[3] for pred in preds)
    return preds[0].new_empty((preds[0].shape[0], numbers))


def fake_yolo_detect(
    preds: Sequence[Tensor],
    anchors: Sequence[float] | None,
    strides: Sequence[int],
    version: str = "v8",
    score_threshold: float = 0.25,
    iou_threshold: float = 0.45,
    max_detections: int = 300,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first, batch = preds[0], preds[0].shape[0]
    return (
        first.new_empty((batch, max_detections, 4)),
        first.new_empty((batch, max_detections)),
        first.new_empty((batch, max_detections), dtype=torch.int64),
        first.new_empty((batch,), dtype=torch.int64),
    )


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    preds, *ctx.rest = inputs
    ctx.save_for_backward(*preds)


def backward(ctx: Any, grad_boxes: Tensor, grad_scores: Tensor) -> tuple[Any, ...]:
    preds = list(ctx.saved_tensors)
    flat = YOLO_DECODE_BACKWARD(grad_boxes, grad_scores, preds, *ctx.rest, backend=ctx.backend)
    parts = flat.split([pred.shape[1] * pred.shape[2] * pred.shape[3] for pred in preds], dim=1)
    grads = [part.reshape(pred.shape) for part, pred in zip(parts, preds, strict=True)]
    return (grads, *(None for _ in ctx.rest))


def _folded(info: Any, value: Any, dim: Any) -> Any:
    """The mapped dimension goes into the batch, in lists too."""
    if isinstance(value, Tensor):
        mapped = value.movedim(dim, 0) if dim is not None else value.expand(info.batch_size, *value.shape)
        return mapped.flatten(0, 1)
    if isinstance(value, Sequence) and value and isinstance(value[0], Tensor):
        return [_folded(info, *pair) for pair in zip(value, dim, strict=True)]
    return value


def _fold(info: Any, in_dims: Any, args: tuple[Any, ...], preds_at: int) -> tuple[list[Any], tuple[Any, int]]:
    """Arguments of one call for all, and how its results unfold."""
    first, dim = args[preds_at][0], in_dims[preds_at][0]
    batch = first.shape[0 if dim != 0 else 1]
    return [_folded(info, *pair) for pair in zip(args, in_dims, strict=True)], (info.batch_size, batch)


def vmap_yolo_decode(info: Any, in_dims: Any, *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    folded, sizes = _fold(info, in_dims, args, 0)
    return tuple(result.unflatten(0, sizes) for result in YOLO_DECODE(*folded)), (0, 0)


def vmap_yolo_decode_backward(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    folded, sizes = _fold(info, in_dims, args, 2)
    return YOLO_DECODE_BACKWARD(*folded).unflatten(0, sizes), 0


def vmap_yolo_detect(info: Any, in_dims: Any, *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    folded, sizes = _fold(info, in_dims, args, 0)
    return tuple(result.unflatten(0, sizes) for result in YOLO_DETECT(*folded)), (0, 0, 0, 0)


def _shard_images(outputs: int, tensors: int, others: int) -> list[tuple[list[Any], list[Any]]]:
    """Images are independent: shard the batch of every tensor, or replicate."""
    from torch.distributed.tensor import Replicate, Shard

    return [([p] * outputs, [p] * tensors + [None] * others) for p in (Replicate(), Shard(0))]


def shard_yolo_decode(preds: Sequence[Any], *rest: Any) -> Any:
    return _shard_images(2, len(preds), len(rest))


def shard_yolo_decode_backward(grad_boxes: Any, grad_scores: Any, preds: Sequence[Any], *rest: Any) -> Any:
    return _shard_images(1, 2 + len(preds), len(rest))


def shard_yolo_detect(preds: Sequence[Any], *rest: Any) -> Any:
    letterbox = rest[9] if len(rest) > 9 else None
    return _shard_images(4, len(preds) + (letterbox is not None), len(rest) - (letterbox is not None))


YOLO_DECODE_BACKWARD = register(
    Op(
        name="yolo_decode_backward",
        room=_ROOM,
        schema=f"(Tensor grad_boxes, Tensor grad_scores, {_MAPS}, {_HEAD}) -> Tensor",
        reference=reference.yolo_decode_backward,
        check=checks.check_yolo_decode_backward,
        fake=fake_yolo_decode_backward,
        backends=("cpu", "cuda"),
        vmap=vmap_yolo_decode_backward,
        sharding=f"{_ROOM}.contract:shard_yolo_decode_backward",
    )
)

YOLO_DECODE = register(
    Op(
        name="yolo_decode",
        room=_ROOM,
        schema=f"({_MAPS}, {_HEAD}) -> (Tensor, Tensor)",
        reference=reference.yolo_decode,
        check=checks.check_yolo_decode,
        fake=fake_yolo_decode,
        backends=("cpu", "cuda"),
        backward=backward,
        setup_context=setup_context,
        vmap=vmap_yolo_decode,
        onnx=f"{_ROOM}.onnx_export:yolo_decode",
        sharding=f"{_ROOM}.contract:shard_yolo_decode",
    )
)

YOLO_DETECT = register(
    Op(
        name="yolo_detect",
        room=_ROOM,
        schema=f"({_MAPS}, float score_threshold=0.25, float iou_threshold=0.45, int max_detections=300, "
        "bool class_agnostic=False, bool multi_label=False, int max_candidates=30000, Tensor? letterbox=None, "
        f"{_HEAD}) -> (Tensor, Tensor, Tensor, Tensor)",
        reference=reference.yolo_detect,
        check=checks.check_yolo_detect,
        fake=fake_yolo_detect,
        backends=("cpu", "cuda"),
        vmap=vmap_yolo_detect,
        onnx=f"{_ROOM}.onnx_export:yolo_detect",
        sharding=f"{_ROOM}.contract:shard_yolo_detect",
    )
)
