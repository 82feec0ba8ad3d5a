"""What torch is told about the room's operator: schema, checks, fake kernel, vmap, sharding, export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._checks import require, require_float, require_like, require_shape
from ..._dispatch import Op
from ..._register import register
from . import reference

MOST_LEVELS = 16
_OP = "rpn_proposals"


def _check_level(i: int, objectness: Tensor, deltas: Tensor, first: Tensor) -> None:
    shape = list(objectness.shape)
    require(len(shape) == 4, _OP, f"objectness[{i}] must be [B, A, H, W], got {shape}")
    batch, anchors, height, width = shape
    wanted = f"objectness[{i}] must have the batch size of objectness[0] ({first.shape[0]})"
    require(batch == first.shape[0], _OP, f"{wanted}, got {batch}")
    expected = [batch, 4 * anchors, height, width]
    require_shape(_OP, deltas, expected, f"deltas[{i}] must be {expected}")
    require_like(_OP, f"objectness[{i}]", objectness, "objectness[0]", first)
    require_like(_OP, f"deltas[{i}]", deltas, "objectness[0]", first)
    most = 2**31 - 1
    n = anchors * height * width
    require(n <= most, _OP, f"objectness[{i}] must have at most {most} candidates per image, got {n}")


def _check_anchors(objectness: Sequence[Tensor], anchors: Tensor, strides: Sequence[int] | None) -> None:
    first, levels = objectness[0], len(objectness)
    if strides is None:
        n = sum(o.shape[1] * o.shape[2] * o.shape[3] for o in objectness)
    else:
        n = sum(o.shape[1] for o in objectness)
        require(len(strides) == 2 * levels, _OP, f"strides must be two per level ({2 * levels}), got {len(strides)}")
    wanted = f"anchors must be [{n}, 4] or [{first.shape[0]}, {n}, 4], got {list(anchors.shape)}"
    require(anchors.dim() in (2, 3) and anchors.shape[-1] == 4, _OP, wanted)
    require(anchors.shape[-2] == n, _OP, wanted)
    if anchors.dim() == 3:
        require(anchors.shape[0] == first.shape[0], _OP, wanted)
    require_like(_OP, "anchors", anchors, "objectness[0]", first)


def check_rpn_proposals(
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
) -> None:
    levels = len(objectness)
    require(1 <= levels <= MOST_LEVELS, _OP, f"objectness must be 1 to {MOST_LEVELS} tensors, got {levels}")
    require(len(deltas) == levels, _OP, f"deltas must have one tensor per level ({levels}), got {len(deltas)}")
    first = objectness[0]
    require_float(_OP, "objectness[0]", first)
    for i, pair in enumerate(zip(objectness, deltas, strict=True)):
        _check_level(i, *pair, first)
    _check_anchors(objectness, anchors, strides)
    numbers, wanted = len(image_sizes), 2 * first.shape[0]
    require(numbers == wanted, _OP, f"image_sizes must be two per image ({wanted}), got {numbers}")
    limits = {"pre_nms_top_n": [pre_nms_top_n], "post_nms_top_n": [post_nms_top_n], "image_sizes": image_sizes}
    for name, values in {**limits, "strides": strides or ()}.items():
        for value in values:
            require(value >= 0, _OP, f"{name} must not be negative, got {value}")


def fake_rpn_proposals(
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Tensor,
    image_sizes: Sequence[int],
    pre_nms_top_n: int,
    post_nms_top_n: int,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    batch = objectness[0].shape[0]
    return (
        anchors.new_empty((batch, post_nms_top_n, 4)),
        anchors.new_empty((batch, post_nms_top_n)),
        anchors.new_empty((batch,), dtype=torch.int64),
    )


def vmap_rpn_proposals(
    info: Any,
    in_dims: Any,
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Tensor,
    image_sizes: Sequence[int],
    *rest: Any,
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Folds the mapped dimension into the batch."""

    batch = len(image_sizes) // 2

    def spread(tensor: Tensor, dim: int | None) -> Tensor:
        return tensor.movedim(dim, 0) if dim is not None else tensor.expand(info.batch_size, *tensor.shape)

    def fold(tensors: Sequence[Tensor], dims: Sequence[int | None]) -> list[Tensor]:
        return [spread(tensor, dim).flatten(0, 1) for tensor, dim in zip(tensors, dims, strict=True)]

    if in_dims[2] is not None or anchors.dim() == 3:
        anchors = spread(anchors, in_dims[2])
        of_images = anchors if anchors.dim() == 4 else anchors[:, None].expand(-1, batch, -1, -1)
        anchors = of_images.flatten(0, 1)
    results = RPN_PROPOSALS(
        fold(objectness, in_dims[0]), fold(deltas, in_dims[1]), anchors, list(image_sizes) * info.batch_size, *rest
    )
    return tuple(r.unflatten(0, (info.batch_size, batch)) for r in results), (0, 0, 0)


RPN_PROPOSALS = register(
    Op(
        name=_OP,
        room="gencv_fast.ops.rpn",
        schema="(Tensor[] objectness, Tensor[] deltas, Tensor anchors, SymInt[] image_sizes, int pre_nms_top_n, "
        "int post_nms_top_n, float nms_threshold, float score_threshold=0.0, float min_size=0.001, "
        "SymInt[]? strides=None) -> (Tensor, Tensor, Tensor)",
        reference=reference.rpn_proposals,
        check=check_rpn_proposals,
        fake=fake_rpn_proposals,
        backends=("cpu", "cuda", "triton"),
        triton="gencv_fast.ops.rpn.triton_kernels:rpn_proposals",
        vmap=vmap_rpn_proposals,
        onnx="gencv_fast.ops.rpn.onnx_export:rpn_proposals",
        # No sharding rule: image_sizes are those of the whole batch, and no shard knows which are its own.
    )
)
