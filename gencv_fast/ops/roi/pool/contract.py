"""What torch is told about the wing's operators: schemas, checks, fake kernels, gradients, vmap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...._checks import require, require_like, require_same_shape
from ...._dispatch import Op
from ...._register import register
from ..regions import check_regions, check_spatial_scale, fold_mapped
from . import reference

MOST_PIXELS = 2**31 - 1


def check_roi_pool(
    input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0, op: str = "roi_pool"
) -> None:
    check_regions(op, "input", input, boxes)
    expected = f"output_size must be two positive numbers, got {list(output_size)}"
    require(len(output_size) == 2, op, expected)
    for size in output_size:
        require(size > 0, op, expected)
    check_spatial_scale(op, spatial_scale)


def _check_pixel_numbers(op: str, input: Tensor) -> None:
    pixels = input.shape[2] * input.shape[3]
    require(pixels <= MOST_PIXELS, op, f"input must have at most {MOST_PIXELS} pixels in a map, got {pixels}")


def check_roi_pool_backward(grad: Tensor, input: Tensor, boxes: Tensor, spatial_scale: float = 1.0) -> None:
    op = "roi_pool_backward"
    check_regions(op, "input", input, boxes)
    require_like(op, "grad", grad, "input", input)
    regions, channels, shape = boxes.shape[0], input.shape[1], list(grad.shape)
    message = f"grad must be [{regions}, {channels}, rows, columns] with rows and columns, got {shape}"
    require(len(shape) == 4, op, message)
    require(shape[0] == regions, op, message)
    require(shape[1] == channels, op, message)
    require(shape[2] > 0, op, message)
    require(shape[3] > 0, op, message)
    _check_pixel_numbers(op, input)
    check_spatial_scale(op, spatial_scale)


def check_roi_pool_pick(
    values: Tensor, input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0
) -> None:
    op = "roi_pool_pick"
    check_roi_pool(input, boxes, output_size, spatial_scale, op)
    require_like(op, "values", values, "input", input)
    require_same_shape(op, "values", values, "input", input.shape)
    _check_pixel_numbers(op, input)


def _new_bins(input: Tensor, boxes: Tensor, output_size: Sequence[int]) -> Tensor:
    return input.new_empty((boxes.shape[0], input.shape[1], *output_size))


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, boxes, _, ctx.spatial_scale = inputs
    ctx.save_for_backward(input, boxes)


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
    """A maximum stays where it is while a region's corner moves within a pixel: boxes have the gradient zero."""
    input, boxes = ctx.saved_tensors
    grad_input = ROI_POOL_BACKWARD(grad, input, boxes, ctx.spatial_scale, backend=ctx.backend)
    return grad_input, torch.zeros_like(boxes) if ctx.needs_input_grad[1] else None, None, None


def setup_context_of_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, input, boxes, ctx.spatial_scale = inputs
    ctx.output_size = grad.shape[2:]
    ctx.save_for_backward(input, boxes)


def backward_of_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    picked = ROI_POOL_PICK(grad, *ctx.saved_tensors, ctx.output_size, ctx.spatial_scale, backend=ctx.backend)
    return picked, None, None, None


def setup_context_of_pick(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, input, boxes, _, ctx.spatial_scale = inputs
    ctx.save_for_backward(input, boxes)


def backward_of_pick(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    return ROI_POOL_BACKWARD(grad, *ctx.saved_tensors, ctx.spatial_scale, backend=ctx.backend), None, None, None, None


def vmap_roi_pool(
    info: Any, in_dims: Any, input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0
) -> tuple[Tensor, int]:
    maps, regions = fold_mapped(info.batch_size, input, in_dims[0], boxes, in_dims[1])
    return ROI_POOL(maps, regions, output_size, spatial_scale).unflatten(0, (info.batch_size, -1)), 0


def _mapped(size: int, tensor: Tensor, dim: int | None) -> Tensor:
    return tensor.movedim(dim, 0) if dim is not None else tensor.expand(size, *tensor.shape)


def vmap_roi_pool_backward(
    info: Any, in_dims: Any, grad: Tensor, input: Tensor, boxes: Tensor, spatial_scale: float = 1.0
) -> tuple[Tensor, int]:
    size = info.batch_size
    grads = _mapped(size, grad, in_dims[0]).flatten(0, 1)
    maps, regions = fold_mapped(size, _mapped(size, input, in_dims[1]), 0, boxes, in_dims[2])
    return ROI_POOL_BACKWARD(grads, maps, regions, spatial_scale).unflatten(0, (size, -1)), 0


def vmap_roi_pool_pick(
    info: Any,
    in_dims: Any,
    values: Tensor,
    input: Tensor,
    boxes: Tensor,
    output_size: Sequence[int],
    spatial_scale: float = 1.0,
) -> tuple[Tensor, int]:
    size = info.batch_size
    folded = _mapped(size, values, in_dims[0]).flatten(0, 1)
    maps, regions = fold_mapped(size, _mapped(size, input, in_dims[1]), 0, boxes, in_dims[2])
    return ROI_POOL_PICK(folded, maps, regions, output_size, spatial_scale).unflatten(0, (size, -1)), 0


_ROOM = "gencv_fast.ops.roi.pool"
_BACKENDS = ("cpu", "cuda", "triton")

ROI_POOL_BACKWARD = register(
    Op(
        name="roi_pool_backward",
        room=_ROOM,
        schema="(Tensor grad, Tensor input, Tensor boxes, float spatial_scale=1.0) -> Tensor",
        reference=reference.roi_pool_backward,
        check=check_roi_pool_backward,
        fake=lambda grad, input, *rest: torch.empty_like(input),
        backends=_BACKENDS,
        triton=f"{_ROOM}.triton_kernels:roi_pool_backward",
        backward=backward_of_backward,
        setup_context=setup_context_of_backward,
        double_backward=True,
        vmap=vmap_roi_pool_backward,
    )
)

ROI_POOL_PICK = register(
    Op(
        name="roi_pool_pick",
        room=_ROOM,
        schema="(Tensor values, Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0) -> Tensor",
        reference=reference.roi_pool_pick,
        check=check_roi_pool_pick,
        fake=lambda values, input, boxes, output_size, *rest: _new_bins(input, boxes, output_size),
        backends=_BACKENDS,
        triton=f"{_ROOM}.triton_kernels:roi_pool_pick",
        backward=backward_of_pick,
        setup_context=setup_context_of_pick,
        double_backward=True,
        vmap=vmap_roi_pool_pick,
    )
)

ROI_POOL = register(
    Op(
        name="roi_pool",
        room=_ROOM,
        schema="(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0) -> Tensor",
        reference=reference.roi_pool,
        check=check_roi_pool,
        fake=lambda input, boxes, output_size, *rest: _new_bins(input, boxes, output_size),
        backends=_BACKENDS,
        triton=f"{_ROOM}.triton_kernels:roi_pool",
        backward=backward,
        setup_context=setup_context,
        double_backward=True,
        vmap=vmap_roi_pool,
        onnx=f"{_ROOM}.onnx_export:roi_pool",
        sharding="gencv_fast.ops.roi.regions:shard_regions",
    )
)
