"""What torch is told about spatial pyramid pooling: schemas, checks, fake kernels, gradients, vmap, sharding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...._dispatch import Op
from ...._register import register
from ..regions import fold_mapped
from . import checks, reference

ROOM = "gencv_fast.ops.roi.pyramid"
_BACKENDS = ("cpu", "cuda", "triton")


def _fake_pool(
    input: Tensor, levels: Sequence[int], mode: str, bins: str, boxes: Tensor | None, spatial_scale: float
) -> Tensor:
    regions = input.shape[0] if boxes is None else boxes.shape[0]
    return input.new_empty(regions, checks.features_of(input, levels))


def _setup_pool(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, levels, mode, bins, boxes, spatial_scale = inputs
    # An average needs no values to be differentiated, only their number.
    ctx.save_for_backward(input if mode == "max" else None, boxes)
    ctx.shape, ctx.rest = input.shape, (levels, mode, bins, spatial_scale)


def _backward_pool(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    input, boxes = ctx.saved_tensors
    levels, mode, bins, spatial_scale = ctx.rest
    if input is None:
        input = grad.new_zeros(()).expand(ctx.shape)
    result = BACKWARD(grad, input, levels, mode, bins, boxes, spatial_scale, backend=ctx.backend)
    return result, None, None, None, None, None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, input, levels, mode, bins, boxes, spatial_scale = inputs
    ctx.save_for_backward(input, boxes)
    ctx.rest = (levels, mode, bins, spatial_scale)


def _double_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """The backward op is linear in its gradient: its transpose is the pooling, at the maxima of the input."""
    input, boxes = ctx.saved_tensors
    levels, mode, bins, spatial_scale = ctx.rest
    if mode == "avg":
        result = POOL(grad, levels, mode, bins, boxes, spatial_scale, backend=ctx.backend)
    else:
        result = AT(grad, input, levels, bins, boxes, spatial_scale, backend=ctx.backend)
    # A region that is not sound passes no gradient, and its own result depends on none.
    result = _without_unsound(result, boxes, input.shape[0])
    return result, None, None, None, None, None, None


def _without_unsound(result: Tensor, boxes: Tensor | None, images: int) -> Tensor:
    if boxes is None:
        return result
    sound = (boxes[:, 0] > -1) & (boxes[:, 0] < images) & boxes[:, 1:].isfinite().all(1)
    return torch.where(sound[:, None], result, 0.0)


def _fold(size: int, in_dims: Sequence[Any], maps: Sequence[Tensor], boxes: Tensor | None) -> tuple[list[Tensor], Any]:
    """Maps of one call for all; each is there for every call, mapped or not."""
    folded = []
    dims = [*in_dims]
    every = [
        m.movedim(d, 0) if d is not None else m.expand(size, *m.shape)
        for m, d in zip(maps, dims[: len(maps)], strict=True)
    ]
    if boxes is None:
        return [m.flatten(0, 1) for m in every], None
    for m in every:
        flat, rows = fold_mapped(size, m, 0, boxes, dims[len(maps)])
        folded.append(flat)
    return folded, rows


def _vmap_pool(info: Any, in_dims: Any, input: Tensor, *rest: Any) -> tuple[Tensor, int]:
    levels, mode, bins, boxes, spatial_scale = rest
    if boxes is not None and in_dims[0] is None:
        maps, rows = fold_mapped(info.batch_size, input, None, boxes, in_dims[4])
    else:
        (maps,), rows = _fold(info.batch_size, (in_dims[0], in_dims[4]), [input], boxes)
    result = POOL(maps, levels, mode, bins, rows, spatial_scale)
    return result.unflatten(0, (info.batch_size, -1 if boxes is None else boxes_of(boxes, in_dims[4]))), 0


def boxes_of(boxes: Tensor, dim: int | None) -> int:
    """Regions of one call."""
    return boxes.shape[0] if dim is None else boxes.movedim(dim, 0).shape[1]


def _vmap_backward(info: Any, in_dims: Any, grad: Tensor, input: Tensor, *rest: Any) -> tuple[Tensor, int]:
    levels, mode, bins, boxes, spatial_scale = rest
    (maps,), rows = _fold(info.batch_size, (in_dims[1], in_dims[5]), [input], boxes)
    grads = grad.movedim(in_dims[0], 0) if in_dims[0] is not None else grad.expand(info.batch_size, *grad.shape)
    result = BACKWARD(grads.flatten(0, 1), maps, levels, mode, bins, rows, spatial_scale)
    return result.unflatten(0, (info.batch_size, -1)), 0


def _vmap_at(info: Any, in_dims: Any, values: Tensor, input: Tensor, *rest: Any) -> tuple[Tensor, int]:
    levels, bins, boxes, spatial_scale = rest
    maps, rows = _fold(info.batch_size, (in_dims[0], in_dims[1], in_dims[4]), [values, input], boxes)
    result = AT(*maps, levels, bins, rows, spatial_scale)
    return result.unflatten(0, (info.batch_size, -1)), 0


def shard_pool(input: Any, levels: Any, mode: Any, bins: Any, boxes: Any, spatial_scale: Any) -> list[Any]:
    """DTensor: every region by itself on whole maps, or every image where it is a region."""
    from torch.distributed.tensor import Replicate, Shard

    if boxes is None:
        return [
            ([Replicate()], [Replicate(), None, None, None, None, None]),
            ([Shard(0)], [Shard(0), None, None, None, None, None]),
        ]
    return [
        ([Replicate()], [Replicate(), None, None, None, Replicate(), None]),
        ([Shard(0)], [Replicate(), None, None, None, Shard(0), None]),
    ]


AT = register(
    Op(
        name="spatial_pyramid_pool_at",
        room=ROOM,
        schema="(Tensor values, Tensor input, int[] levels, str bins, Tensor? boxes, float spatial_scale) -> Tensor",
        reference=reference.spatial_pyramid_pool_at,
        check=checks.check_spatial_pyramid_pool_at,
        fake=lambda values, input, levels, bins, boxes, spatial_scale: _fake_pool(
            input, levels, "max", bins, boxes, spatial_scale
        ),
        backends=_BACKENDS,
        triton=f"{ROOM}.triton_kernels:spatial_pyramid_pool_at",
        vmap=_vmap_at,
    )
)

BACKWARD = register(
    Op(
        name="spatial_pyramid_pool_backward",
        room=ROOM,
        schema=(
            "(Tensor grad, Tensor input, int[] levels, str mode, str bins, Tensor? boxes, float spatial_scale)"
            " -> Tensor"
        ),
        reference=reference.spatial_pyramid_pool_backward,
        check=checks.check_spatial_pyramid_pool_backward,
        fake=lambda grad, input, *rest: torch.empty_like(input),
        backends=_BACKENDS,
        triton=f"{ROOM}.triton_kernels:spatial_pyramid_pool_backward",
        backward=_double_backward,
        setup_context=_setup_backward,
        vmap=_vmap_backward,
    )
)

POOL = register(
    Op(
        name="spatial_pyramid_pool",
        room=ROOM,
        schema=("(Tensor input, int[] levels, str mode, str bins, Tensor? boxes, float spatial_scale) -> Tensor"),
        reference=reference.spatial_pyramid_pool,
        check=checks.check_spatial_pyramid_pool,
        fake=_fake_pool,
        backends=_BACKENDS,
        triton=f"{ROOM}.triton_kernels:spatial_pyramid_pool",
        backward=_backward_pool,
        setup_context=_setup_pool,
        double_backward=True,
        vmap=_vmap_pool,
        onnx=f"{ROOM}.onnx_export:spatial_pyramid_pool",
        sharding=f"{ROOM}.contract:shard_pool",
    )
)
