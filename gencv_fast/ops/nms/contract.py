"""What torch is told about the room's operators: schemas, checks, fake kernels, vmap, sharding, export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._checks import require, require_device, require_float, require_like
from ..._dispatch import Op
from ..._register import register
from . import reference

ID_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
METHODS = ("linear", "gaussian")


def _check_pair(op: str, boxes: Tensor, scores: Tensor) -> None:
    require_float(op, "boxes", boxes)
    require_like(op, "scores", scores, "boxes", boxes)


def _check_per_box(op: str, name: str, boxes: Tensor, values: Tensor) -> None:
    require(values.dim() == 1, op, f"{name} must be [N], got {list(values.shape)}")
    expected = f"{name} must have one entry per box ({boxes.shape[0]})"
    require(values.shape[0] == boxes.shape[0], op, f"{expected}, got {values.shape[0]}")


def _check_flat(op: str, boxes: Tensor, scores: Tensor) -> None:
    require(boxes.dim() == 2 and boxes.shape[1] == 4, op, f"boxes must be [N, 4], got {list(boxes.shape)}")
    _check_per_box(op, "scores", boxes, scores)
    _check_pair(op, boxes, scores)


def check_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    _check_flat("nms", boxes, scores)


def check_batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> None:
    op = "batched_nms"
    _check_flat(op, boxes, scores)
    require(idxs.dtype in ID_DTYPES, op, f"idxs must be int64, int32, int16, int8 or uint8, got {idxs.dtype}")
    _check_per_box(op, "idxs", boxes, idxs)
    require_device(op, "idxs", idxs, "boxes", boxes)


def check_soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 1e-3,
    method: str = "linear",
) -> None:
    op = "soft_nms"
    _check_flat(op, boxes, scores)
    require(method in METHODS, op, f"method must be 'linear' or 'gaussian', got '{method}'")
    require(method != "gaussian" or sigma > 0, op, f"sigma must be greater than 0, got {sigma:g}")


def check_multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_output_per_class: int,
    max_total: int,
) -> None:
    op = "multiclass_nms"
    require(boxes.dim() == 3 and boxes.shape[2] == 4, op, f"boxes must be [B, N, 4], got {list(boxes.shape)}")
    require(scores.dim() == 3, op, f"scores must be [B, C, N], got {list(scores.shape)}")
    expected = f"scores must have the batch size of boxes ({boxes.shape[0]})"
    require(scores.shape[0] == boxes.shape[0], op, f"{expected}, got {scores.shape[0]}")
    expected = f"scores must have one entry per box ({boxes.shape[1]})"
    require(scores.shape[2] == boxes.shape[1], op, f"{expected}, got {scores.shape[2]}")
    _check_pair(op, boxes, scores)
    require(max_output_per_class >= 0, op, f"max_output_per_class must not be negative, got {max_output_per_class}")
    require(max_total >= 0, op, f"max_total must not be negative, got {max_total}")


def fake_indices(boxes: Tensor, *rest: Any) -> Tensor:
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(),), dtype=torch.int64)


def fake_soft_nms(boxes: Tensor, scores: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((kept,), dtype=torch.int64), scores.new_empty((kept,))


def fake_multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_output_per_class: int,
    max_total: int,
) -> tuple[Tensor, Tensor, Tensor]:
    batch = boxes.shape[0]
    return (
        boxes.new_empty((batch, max_total, 2), dtype=torch.int64),
        scores.new_empty((batch, max_total)),
        boxes.new_empty((batch,), dtype=torch.int64),
    )


def _ragged(op: str) -> Any:
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        raise RuntimeError(
            f"{op}: vmap would give a result of another length for each sample; "
            "use multiclass_nms, whose padded results have one shape."
        )

    vmap.is_ragged = True  # type: ignore[attr-defined]  # the tests expect a refusal of these alone
    return vmap


def vmap_multiclass_nms(info: Any, in_dims: Any, boxes: Tensor, scores: Tensor, *rest: Any) -> Any:
    """Folds the mapped dimension into the batch."""

    def fold(tensor: Tensor, dim: int | None) -> Tensor:
        mapped = tensor.movedim(dim, 0) if dim is not None else tensor.expand(info.batch_size, *tensor.shape)
        return mapped.flatten(0, 1)

    batch = boxes.shape[0 if in_dims[0] != 0 else 1]
    results = MULTICLASS_NMS(fold(boxes, in_dims[0]), fold(scores, in_dims[1]), *rest)
    return tuple(r.unflatten(0, (info.batch_size, batch)) for r in results), (0, 0, 0)


def shard_multiclass_nms(boxes: Any, scores: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    """Images are independent: shard the batch, or replicate."""
    from torch.distributed.tensor import Replicate, Shard

    scalars = [None] * len(rest)
    return [
        ([Replicate()] * 3, [Replicate(), Replicate(), *scalars]),
        ([Shard(0)] * 3, [Shard(0), Shard(0), *scalars]),
    ]


NMS = register(
    Op(
        name="nms",
        room="gencv_fast.ops.nms",
        schema="(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor",
        reference=reference.nms,
        check=check_nms,
        fake=fake_indices,
        backends=("cpu", "cuda", "triton"),
        triton="gencv_fast.ops.nms.triton_kernels:nms",
        vmap=_ragged("nms"),
        onnx="gencv_fast.ops.nms.onnx_export:nms",
    )
)

BATCHED_NMS = register(
    Op(
        name="batched_nms",
        room="gencv_fast.ops.nms",
        schema="(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor",
        reference=reference.batched_nms,
        check=check_batched_nms,
        fake=fake_indices,
        backends=("cpu", "cuda", "triton"),
        triton="gencv_fast.ops.nms.triton_kernels:batched_nms",
        vmap=_ragged("batched_nms"),
        onnx="gencv_fast.ops.nms.onnx_export:batched_nms",
    )
)

SOFT_NMS = register(
    Op(
        name="soft_nms",
        room="gencv_fast.ops.nms",
        schema="(Tensor boxes, Tensor scores, float iou_threshold=0.3, float sigma=0.5, "
        'float score_threshold=0.001, str method="linear") -> (Tensor, Tensor)',
        reference=reference.soft_nms,
        check=check_soft_nms,
        fake=fake_soft_nms,
        backends=("cpu", "cuda"),
        vmap=_ragged("soft_nms"),
        onnx="gencv_fast.ops.nms.onnx_export:soft_nms",
    )
)

MULTICLASS_NMS = register(
    Op(
        name="multiclass_nms",
        room="gencv_fast.ops.nms",
        schema="(Tensor boxes, Tensor scores, float iou_threshold, float score_threshold, "
        "int max_output_per_class, int max_total) -> (Tensor, Tensor, Tensor)",
        reference=reference.multiclass_nms,
        check=check_multiclass_nms,
        fake=fake_multiclass_nms,
        backends=("cpu", "cuda"),
        vmap=vmap_multiclass_nms,
        onnx="gencv_fast.ops.nms.onnx_export:multiclass_nms",
        sharding="gencv_fast.ops.nms.contract:shard_multiclass_nms",
    )
)
