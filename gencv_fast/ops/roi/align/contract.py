"""What torch is told about the wing's operators: schemas, fake kernels, autograd, vmap, sharding, export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...._dispatch import Op
from ...._register import register
from ..regions import fold_mapped
from . import checks, reference

ROOM = "gencv_fast.ops.roi.align"


def _empty(like: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def lies_channels_last(maps: Tensor) -> bool:
    """In this format alone; a gradient lies in memory as its maps do."""
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


# Fake kernels


def fake_roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    mode: str = "avg",
    differentiable_boxes: bool = False,
    channels_last: bool = False,
) -> Tensor:
    return _empty(input, (boxes.shape[0], input.shape[1], *output_size), channels_last)


def fake_roi_align_backward(
    grad: Tensor, boxes: Tensor, input: Tensor | None, input_size: Sequence[int], *rest: Any
) -> tuple[Tensor, Tensor]:
    images, height, width = input_size
    return _empty(grad, (images, grad.shape[1], height, width), rest[-1]), boxes.new_empty(boxes.shape)


def fake_multiscale_roi_align(
    features: Sequence[Tensor], boxes: Tensor, output_size: Sequence[int], *rest: Any
) -> Tensor:
    first = features[0]
    return first.new_empty((boxes.shape[0], first.shape[1], *output_size))


def fake_multiscale_roi_align_backward(
    grad: Tensor, boxes: Tensor, feature_sizes: Sequence[int], *rest: Any
) -> list[Tensor]:
    images, sides = feature_sizes[0], feature_sizes[1:]
    return [_empty(grad, (images, grad.shape[1], h, w), rest[-1]) for h, w in zip(sides[::2], sides[1::2], strict=True)]


# Autograd


def setup_roi_align(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, boxes, _, scale, sampling_ratio, aligned, mode, differentiable_boxes, _ = inputs
    needed = mode == "max" or differentiable_boxes
    ctx.save_for_backward(boxes, *([input] if needed else []))
    ctx.sizes = (input.shape[0], *input.shape[2:])
    ctx.rest = (scale, sampling_ratio, aligned, mode, differentiable_boxes, lies_channels_last(input))


def backward_of_roi_align(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    boxes, *saved = ctx.saved_tensors
    args = (grad, boxes, saved[0] if saved else None, ctx.sizes, *ctx.rest)
    grad_input, grad_boxes = ROI_ALIGN_BACKWARD(*args, backend=ctx.backend)
    differentiable_boxes = ctx.rest[4]
    return grad_input, grad_boxes if differentiable_boxes else None, *(None,) * 7


def setup_roi_align_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, boxes, _, _, *rest = inputs
    differentiable_boxes = rest[4]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(boxes, *([grad] if differentiable_boxes else []))
    ctx.output_size, ctx.rest = tuple(grad.shape[2:]), rest


def double_backward_of_roi_align(ctx: Any, grad_of_input: Tensor | None, grad_of_boxes: Tensor | None) -> Any:
    """The gradient of the input is linear in that of the output: its transpose is the operator itself."""
    boxes, *saved = ctx.saved_tensors
    scale, sampling_ratio, aligned, mode, differentiable_boxes, _ = ctx.rest
    if mode == "max":
        raise RuntimeError("roi_align_backward: a gradient of mode 'max' cannot be differentiated once more.")
    if differentiable_boxes and grad_of_boxes is not None:
        raise RuntimeError("roi_align_backward: a gradient of boxes cannot be differentiated once more.")
    if grad_of_input is None:
        return (None,) * 10
    args = (scale, sampling_ratio, aligned, mode)
    of_grad = ROI_ALIGN(grad_of_input, boxes, ctx.output_size, *args, False, False, backend=ctx.backend)
    of_boxes = None
    if differentiable_boxes:
        sizes = (grad_of_input.shape[0], *grad_of_input.shape[2:])
        rest = (grad_of_input, sizes, *args, True, False)
        of_boxes = ROI_ALIGN_BACKWARD(saved[0], boxes, *rest, backend=ctx.backend)[1]
    return of_grad, of_boxes, *(None,) * 8


def setup_multiscale_roi_align(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    features, boxes, _, *rest = inputs
    ctx.save_for_backward(boxes)
    ctx.sizes = [features[0].shape[0], *(side for level in features for side in level.shape[2:])]
    ctx.rest = (*rest, all(map(lies_channels_last, features)))


def backward_of_multiscale_roi_align(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    grads = MULTISCALE_ROI_ALIGN_BACKWARD(grad, *ctx.saved_tensors, ctx.sizes, *ctx.rest, backend=ctx.backend)
    return list(grads), *(None,) * 7


def setup_multiscale_roi_align_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, boxes, _, *rest = inputs
    ctx.save_for_backward(boxes)
    ctx.output_size, ctx.rest = tuple(grad.shape[2:]), rest[:-1]


def double_backward_of_multiscale_roi_align(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    args = (grads, *ctx.saved_tensors, ctx.output_size, *ctx.rest)
    return MULTISCALE_ROI_ALIGN(*args, backend=ctx.backend), *(None,) * 8


# vmap


def vmap_roi_align(
    info: Any, in_dims: Any, input: Tensor, boxes: Tensor, output_size: Sequence[int], *rest: Any
) -> tuple[Tensor, int]:
    size = info.batch_size
    output = ROI_ALIGN(*fold_mapped(size, input, in_dims[0], boxes, in_dims[1]), output_size, *rest)
    return output.unflatten(0, (size, -1)) if output.shape[0] else output.unflatten(0, (size, 0)), 0


def _spread(size: int, tensor: Tensor, dim: int | None) -> Tensor:
    """Copies of the mapped dimension, folded into the first."""
    spread = tensor.movedim(dim, 0) if dim is not None else tensor.expand(size, *tensor.shape)
    return spread.flatten(0, 1)


def vmap_roi_align_backward(
    info: Any,
    in_dims: Any,
    grad: Tensor,
    boxes: Tensor,
    input: Tensor | None,
    input_size: Sequence[int],
    *rest: Any,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """Every slice has maps of its own."""
    size, (images, *sides) = info.batch_size, input_size
    rows = _shifted(size, boxes, in_dims[1], images)
    maps = None if input is None else _spread(size, input, in_dims[2])
    args = (_spread(size, grad, in_dims[0]), rows, maps, (size * images, *sides))
    grad_input, grad_boxes = ROI_ALIGN_BACKWARD(*args, *rest)
    regions = rows.shape[0] // size
    grad_boxes = grad_boxes.to(boxes.dtype).unflatten(0, (size, regions))
    return (grad_input.unflatten(0, (size, images)), grad_boxes), (0, 0)


def _shifted(size: int, boxes: Tensor, dim: int | None, images: int) -> Tensor:
    """Regions of ``size`` batches in a row."""
    none = boxes.new_empty(size, images, 0, 0, 0)
    return fold_mapped(size, none, 0, boxes, dim)[1]


def vmap_multiscale_roi_align(
    info: Any, in_dims: Any, features: Sequence[Tensor], boxes: Tensor, *rest: Any
) -> tuple[Tensor, int]:
    size = info.batch_size
    rows = _shifted(size, boxes, in_dims[1], _images(features[0], in_dims[0][0]))
    maps = [_spread(size, level, dim) for level, dim in zip(features, in_dims[0], strict=True)]
    return MULTISCALE_ROI_ALIGN(maps, rows, *rest).unflatten(0, (size, rows.shape[0] // size)), 0


def _images(maps: Tensor, dim: int | None) -> int:
    return maps.shape[0] if dim is None else maps.movedim(dim, 0).shape[1]


def vmap_multiscale_roi_align_backward(
    info: Any, in_dims: Any, grad: Tensor, boxes: Tensor, feature_sizes: Sequence[int], *rest: Any
) -> tuple[list[Tensor], list[int]]:
    size, (images, *sides) = info.batch_size, feature_sizes
    rows = _shifted(size, boxes, in_dims[1], images)
    grads = MULTISCALE_ROI_ALIGN_BACKWARD(_spread(size, grad, in_dims[0]), rows, [size * images, *sides], *rest)
    return [g.unflatten(0, (size, images)) for g in grads], [0] * len(grads)


# Sharding


def shard_roi_align_backward(grad: Any, boxes: Any, input: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    """As forward; what a shard of regions gives to the maps, and one of channels to the boxes, is a part of a sum."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    def rule(out: list[Any], grad: Any, boxes: Any, maps: Any) -> tuple[list[Any], list[Any]]:
        return out, [grad, boxes, None if input is None else maps, *(None for _ in rest)]

    whole = Replicate()
    return [
        rule([whole, whole], whole, whole, whole),
        rule([Partial(), Shard(0)], Shard(0), Shard(0), whole),
        rule([Shard(1), Partial()], Shard(1), whole, Shard(1)),
    ]


ROI_ALIGN_BACKWARD = register(
    Op(
        name="roi_align_backward",
        room=ROOM,
        schema="(Tensor grad, Tensor boxes, Tensor? input, SymInt[] input_size, float spatial_scale, "
        "int sampling_ratio, bool aligned, str mode, bool differentiable_boxes, bool channels_last) "
        "-> (Tensor, Tensor)",
        reference=reference.roi_align_backward,
        check=checks.check_roi_align_backward,
        fake=fake_roi_align_backward,
        backends=("cpu", "cuda", "triton"),
        triton=f"{ROOM}.triton_kernels:roi_align_backward",
        backward=double_backward_of_roi_align,
        setup_context=setup_roi_align_backward,
        vmap=vmap_roi_align_backward,
        sharding=f"{ROOM}.contract:shard_roi_align_backward",
        # Regions are constants to it.
        detached=True,
    )
)

ROI_ALIGN = register(
    Op(
        name="roi_align",
        room=ROOM,
        schema="(Tensor input, Tensor boxes, SymInt[] output_size, float spatial_scale=1.0, int sampling_ratio=-1, "
        'bool aligned=False, str mode="avg", bool differentiable_boxes=False, bool channels_last=False) -> Tensor',
        reference=reference.roi_align,
        check=checks.check_roi_align,
        fake=fake_roi_align,
        backends=("cpu", "cuda", "triton"),
        triton=f"{ROOM}.triton_kernels:roi_align",
        backward=backward_of_roi_align,
        setup_context=setup_roi_align,
        double_backward=True,
        vmap=vmap_roi_align,
        onnx=f"{ROOM}.onnx_export:roi_align",
        sharding="gencv_fast.ops.roi.regions:shard_regions",
        # Unless differentiable_boxes asks for more, regions are constants to the gradient.
        detached=True,
    )
)

MULTISCALE_ROI_ALIGN_BACKWARD = register(
    Op(
        name="multiscale_roi_align_backward",
        room=ROOM,
        schema="(Tensor grad, Tensor boxes, SymInt[] feature_sizes, float[] scales, int sampling_ratio, "
        "int canonical_scale, int canonical_level, bool aligned, bool channels_last) -> Tensor[]",
        reference=reference.multiscale_roi_align_backward,
        check=checks.check_multiscale_roi_align_backward,
        fake=fake_multiscale_roi_align_backward,
        backends=("cpu", "cuda", "triton"),
        triton=f"{ROOM}.triton_kernels:multiscale_roi_align_backward",
        backward=double_backward_of_multiscale_roi_align,
        setup_context=setup_multiscale_roi_align_backward,
        vmap=vmap_multiscale_roi_align_backward,
        detached=True,
    )
)

MULTISCALE_ROI_ALIGN = register(
    Op(
        name="multiscale_roi_align",
        room=ROOM,
        schema="(Tensor[] features, Tensor boxes, SymInt[] output_size, float[] scales, int sampling_ratio, "
        "int canonical_scale=224, int canonical_level=4, bool aligned=False) -> Tensor",
        reference=reference.multiscale_roi_align,
        check=checks.check_multiscale_roi_align,
        fake=fake_multiscale_roi_align,
        backends=("cpu", "cuda", "triton"),
        triton=f"{ROOM}.triton_kernels:multiscale_roi_align",
        backward=backward_of_multiscale_roi_align,
        setup_context=setup_multiscale_roi_align,
        double_backward=True,
        vmap=vmap_multiscale_roi_align,
        onnx=f"{ROOM}.onnx_export:multiscale_roi_align",
        detached=True,
    )
)
