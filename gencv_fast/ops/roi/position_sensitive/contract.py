"""What torch is told about the wing's operators: schemas, fake kernels, autograd, vmap, sharding, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...._dispatch import Op
from ...._register import register
from ..regions import fold_mapped, sound_regions
from . import checks, reference

ROOM = "gencv_fast.ops.roi.position_sensitive"


# Fake kernels


def _fake_forward(input: Tensor, boxes: Tensor, output_size: Sequence[int], *rest: Any) -> Tensor:
    height, width = output_size
    return input.new_empty((boxes.shape[0], input.shape[1] // (height * width), height, width))


def _fake_backward(grad: Tensor, boxes: Tensor, input_size: Sequence[int], *rest: Any) -> Tensor:
    return grad.new_empty(tuple(input_size))


def _fake_boxes_backward(grad: Tensor, input: Tensor, boxes: Tensor, *rest: Any) -> Tensor:
    return boxes.new_empty((boxes.shape[0], 5))


# Autograd: the operators are linear in the input, so that the gradient's own gradient is the operator again


def _setup_align(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, boxes, _, *ctx.options, ctx.differentiable_boxes = inputs
    ctx.input_size = input.shape
    ctx.save_for_backward(*((boxes, input) if ctx.differentiable_boxes else (boxes.detach(),)))


def _align_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    boxes, *input = ctx.saved_tensors
    grad_input = grad_boxes = None
    if ctx.needs_input_grad[0]:
        grad_input = PS_ROI_ALIGN_BACKWARD(grad, boxes, ctx.input_size, *ctx.options, backend=ctx.backend)
    if ctx.differentiable_boxes and ctx.needs_input_grad[1]:
        grad_boxes = PS_ROI_ALIGN_BOXES_BACKWARD(grad, *input, boxes, *ctx.options, backend=ctx.backend)
    return grad_input, grad_boxes, None, None, None, None


def _without_unsound(results: Tensor, boxes: Tensor, images: int, spatial_scale: float) -> Tensor:
    """A region that gives NaN passes no gradient, which therefore has none either."""
    corners = boxes[:, 1:].detach().to(torch.float64 if results.dtype == torch.float64 else torch.float32)
    sizes = corners[:, 2:] * spatial_scale - corners[:, :2] * spatial_scale
    sound = sound_regions(boxes.detach(), images) & sizes.isfinite().all(1)
    return torch.where(sound[:, None, None, None], results, 0)


def _setup_align_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, boxes, _, *ctx.options = inputs
    ctx.output_size = grad.shape[2:]
    ctx.save_for_backward(grad, boxes)


def _align_double_backward(ctx: Any, grad_of_grad: Tensor) -> tuple[Tensor | None, ...]:
    grad, boxes = ctx.saved_tensors
    grad_grad = grad_boxes = None
    if ctx.needs_input_grad[0]:
        results = PS_ROI_ALIGN(grad_of_grad, boxes, ctx.output_size, *ctx.options, False, backend=ctx.backend)
        grad_grad = _without_unsound(results, boxes, grad_of_grad.shape[0], ctx.options[0])
    if ctx.needs_input_grad[1]:
        grad_boxes = PS_ROI_ALIGN_BOXES_BACKWARD(grad, grad_of_grad, boxes, *ctx.options, backend=ctx.backend)
    return grad_grad, grad_boxes, None, None, None


def _setup_pool(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, boxes, _, ctx.spatial_scale = inputs
    ctx.input_size = input.shape
    ctx.save_for_backward(boxes)


def _pool_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (boxes,) = ctx.saved_tensors
    grad_input = PS_ROI_POOL_BACKWARD(grad, boxes, ctx.input_size, ctx.spatial_scale, backend=ctx.backend)
    return grad_input, None, None, None


def _setup_pool_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, boxes, _, ctx.spatial_scale = inputs
    ctx.output_size = grad.shape[2:]
    ctx.save_for_backward(boxes)


def _pool_double_backward(ctx: Any, grad_of_grad: Tensor) -> tuple[Tensor | None, ...]:
    (boxes,) = ctx.saved_tensors
    results = PS_ROI_POOL(grad_of_grad, boxes, ctx.output_size, ctx.spatial_scale, backend=ctx.backend)
    return _without_unsound(results, boxes, grad_of_grad.shape[0], ctx.spatial_scale), None, None, None


# vmap: the maps of all calls are the images of one


def _vmap_forward(op: Callable[[], Op]) -> Callable[..., Any]:
    def vmap(info: Any, in_dims: Any, input: Tensor, boxes: Tensor, *rest: Any) -> tuple[Tensor, int]:
        size = info.batch_size
        results = op()(*fold_mapped(size, input, in_dims[0], boxes, in_dims[1]), *rest)
        return results.unflatten(0, (size, results.shape[0] // size)), 0

    return vmap


def _mapped(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.movedim(dim, 0) if dim is not None else tensor.expand(size, *tensor.shape)


def _vmap_backward(op: Callable[[], Op]) -> Callable[..., Any]:
    def vmap(
        info: Any, in_dims: Any, grad: Tensor, boxes: Tensor, input_size: Sequence[int], *rest: Any
    ) -> tuple[Tensor, int]:
        size, images = info.batch_size, input_size[0]
        # Stands for the maps, of which only the number counts here.
        _, regions = fold_mapped(size, boxes.new_empty((size, images)), 0, boxes, in_dims[1])
        grads = _mapped(grad, in_dims[0], size).flatten(0, 1)
        results = op()(grads, regions, [size * images, *input_size[1:]], *rest)
        return results.unflatten(0, (size, images)), 0

    return vmap


def _vmap_boxes_backward(
    info: Any, in_dims: Any, grad: Tensor, input: Tensor, boxes: Tensor, *rest: Any
) -> tuple[Tensor, int]:
    size = info.batch_size
    maps, regions = fold_mapped(size, input, in_dims[1], boxes, in_dims[2])
    grads = _mapped(grad, in_dims[0], size).flatten(0, 1)
    results = PS_ROI_ALIGN_BOXES_BACKWARD(grads, maps, regions, *rest).to(boxes.dtype)
    return results.unflatten(0, (size, results.shape[0] // size)), 0


# DTensor rules: a region by itself on whole maps; channels cannot be told apart from bins


def shard_forward(input: Any, boxes: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Replicate, Shard

    fixed = [None for _ in rest]
    return [([p], [Replicate(), p, *fixed]) for p in (Replicate(), Shard(0))]


def shard_backward(grad: Any, boxes: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Partial, Replicate, Shard

    fixed = [None for _ in rest]
    return [
        ([Replicate()], [Replicate(), Replicate(), *fixed]),
        ([Partial()], [Shard(0), Shard(0), *fixed]),
    ]


def shard_boxes_backward(grad: Any, input: Any, boxes: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Replicate, Shard

    fixed = [None for _ in rest]
    return [([p], [p, Replicate(), p, *fixed]) for p in (Replicate(), Shard(0))]


PS_ROI_ALIGN_BOXES_BACKWARD: Op = register(
    Op(
        name="ps_roi_align_boxes_backward",
        room=ROOM,
        schema="(Tensor grad, Tensor input, Tensor boxes, float spatial_scale, int sampling_ratio) -> Tensor",
        reference=reference.ps_roi_align_boxes_backward,
        check=checks.check_ps_roi_align_boxes_backward,
        fake=_fake_boxes_backward,
        backends=("cpu", "cuda"),
        vmap=_vmap_boxes_backward,
        sharding=f"{ROOM}.contract:shard_boxes_backward",
    )
)

PS_ROI_ALIGN_BACKWARD: Op = register(
    Op(
        name="ps_roi_align_backward",
        room=ROOM,
        schema="(Tensor grad, Tensor boxes, SymInt[] input_size, float spatial_scale, int sampling_ratio) -> Tensor",
        reference=reference.ps_roi_align_backward,
        check=checks.check_ps_roi_align_backward,
        fake=_fake_backward,
        backends=("cpu", "cuda"),
        backward=_align_double_backward,
        setup_context=_setup_align_backward,
        vmap=_vmap_backward(lambda: PS_ROI_ALIGN_BACKWARD),
        sharding=f"{ROOM}.contract:shard_backward",
    )
)

PS_ROI_ALIGN: Op = register(
    Op(
        name="ps_roi_align",
        room=ROOM,
        schema="(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0, int sampling_ratio=-1, "
        "bool differentiable_boxes=False) -> Tensor",
        reference=reference.ps_roi_align,
        check=checks.check_ps_roi_align,
        fake=_fake_forward,
        backends=("cpu", "cuda"),
        backward=_align_backward,
        setup_context=_setup_align,
        double_backward=True,
        # Boxes are, unless asked for.
        detached=True,
        vmap=_vmap_forward(lambda: PS_ROI_ALIGN),
        onnx=f"{ROOM}.onnx_export:ps_roi_align",
        sharding=f"{ROOM}.contract:shard_forward",
    )
)

PS_ROI_POOL_BACKWARD: Op = register(
    Op(
        name="ps_roi_pool_backward",
        room=ROOM,
        schema="(Tensor grad, Tensor boxes, SymInt[] input_size, float spatial_scale) -> Tensor",
        reference=reference.ps_roi_pool_backward,
        check=checks.check_ps_roi_pool_backward,
        fake=_fake_backward,
        backends=("cpu", "cuda"),
        backward=_pool_double_backward,
        setup_context=_setup_pool_backward,
        vmap=_vmap_backward(lambda: PS_ROI_POOL_BACKWARD),
        sharding=f"{ROOM}.contract:shard_backward",
    )
)

PS_ROI_POOL: Op = register(
    Op(
        name="ps_roi_pool",
        room=ROOM,
        schema="(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0) -> Tensor",
        reference=reference.ps_roi_pool,
        check=checks.check_ps_roi_pool,
        fake=_fake_forward,
        backends=("cpu", "cuda"),
        backward=_pool_backward,
        setup_context=_setup_pool,
        double_backward=True,
        vmap=_vmap_forward(lambda: PS_ROI_POOL),
        onnx=f"{ROOM}.onnx_export:ps_roi_pool",
        sharding=f"{ROOM}.contract:shard_forward",
    )
)
