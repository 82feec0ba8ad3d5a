"""What torch is told about the wing's operators: schemas, fake kernels, autograd, vmap, sharding, export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...._dispatch import Op
from ...._register import register
from . import checks, reference
from .checks import is_channels_last, result_dtype

ROOM = "gencv_fast.ops.roi.crop"


# Fake kernels


def _new_maps(like: Tensor, shape: Sequence[int], channels_last: bool, dtype: torch.dtype) -> Tensor:
    count, channels, height, width = shape
    if not channels_last:
        return like.new_empty((count, channels, height, width), dtype=dtype)
    return like.new_empty((count, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)


def _fake_crops(images: Tensor, boxes: Tensor, box_indices: Tensor, size: Sequence[int], *rest: Any) -> Tensor:
    shape = (boxes.shape[0], images.shape[1], *size)
    return _new_maps(images, shape, is_channels_last(images), result_dtype(images))


def _fake_backward(grad: Tensor, boxes: Tensor, box_indices: Tensor, image_size: Sequence[int], *rest: Any) -> Tensor:
    number, height, width = image_size
    return _new_maps(grad, (number, grad.shape[1], height, width), is_channels_last(grad), grad.dtype)


def _fake_boxes_backward(grad: Tensor, images: Tensor, boxes: Tensor, *rest: Any) -> Tensor:
    return boxes.new_empty(boxes.shape)


# Autograd


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    images, boxes, box_indices, _, ctx.method, _, _, ctx.std, ctx.differentiable_boxes = inputs
    ctx.image_size = (images.shape[0], *images.shape[2:])
    # Only the gradient of the boxes looks at the pixels.
    ctx.save_for_backward(boxes, box_indices, *((images,) if ctx.differentiable_boxes else ()))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    boxes, box_indices, *images = ctx.saved_tensors
    grad_images = grad_boxes = None
    if ctx.needs_input_grad[0]:
        grad_images = CROP_AND_RESIZE_BACKWARD(
            grad, boxes, box_indices, ctx.image_size, ctx.method, ctx.std, backend=ctx.backend
        )
    if ctx.differentiable_boxes and ctx.needs_input_grad[1]:
        grad_boxes = CROP_AND_RESIZE_BOXES_BACKWARD(grad, images[0], boxes, box_indices, ctx.std, backend=ctx.backend)
    return (grad_images, grad_boxes, *(None for _ in range(7)))


def _save_of_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, boxes, box_indices, _, ctx.method, ctx.std = inputs
    ctx.size = tuple(grad.shape[2:])
    ctx.save_for_backward(boxes, box_indices)


def _double_backward(ctx: Any, grad_of_grad: Tensor) -> tuple[Tensor | None, ...]:
    """Cropping is linear in the images: the gradient of its gradient is a crop, with nothing outside."""
    boxes, box_indices = ctx.saved_tensors
    crops = CROP_AND_RESIZE(
        grad_of_grad, boxes, box_indices, ctx.size, ctx.method, 0.0, None, ctx.std, False, backend=ctx.backend
    )
    sound = reference.sound_boxes(boxes, box_indices, grad_of_grad.shape[0])
    return (crops.masked_fill(~sound[:, None, None, None], 0.0), *(None for _ in range(5)))


# vmap


def _spread(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.movedim(dim, 0) if dim is not None else tensor.expand(size, *tensor.shape)


def _fold_boxes(
    size: int, images: int | None, boxes: Tensor, boxes_dim: int | None, indices: Tensor, indices_dim: int | None
) -> tuple[Tensor, Tensor]:
    """Boxes ``[V * K, 4]`` and their indices, into a batch of V times as many images unless `images` is None."""
    boxes, indices = _spread(boxes, boxes_dim, size), _spread(indices, indices_dim, size)
    if images is not None:
        shifted = indices + images * torch.arange(size, dtype=indices.dtype, device=indices.device)[:, None]
        indices = torch.where((indices >= 0) & (indices < images), shifted, -1)
    return boxes.flatten(0, 1), indices.flatten(0, 1)


def _vmap(
    info: Any, in_dims: Any, images: Tensor, boxes: Tensor, box_indices: Tensor, *rest: Any
) -> tuple[Tensor, int]:
    mapped = in_dims[0] is not None
    number = images.movedim(in_dims[0], 0).shape[1] if mapped else None
    count = boxes.shape[0] if in_dims[1] is None else boxes.movedim(in_dims[1], 0).shape[1]
    rows = _fold_boxes(info.batch_size, number, boxes, in_dims[1], box_indices, in_dims[2])
    images = images.movedim(in_dims[0], 0).flatten(0, 1) if mapped else images
    return CROP_AND_RESIZE(images, *rows, *rest).unflatten(0, (info.batch_size, count)), 0


def _vmap_backward(
    info: Any,
    in_dims: Any,
    grad: Tensor,
    boxes: Tensor,
    box_indices: Tensor,
    image_size: Sequence[int],
    *rest: Any,
) -> tuple[Tensor, int]:
    number, height, width = image_size
    rows = _fold_boxes(info.batch_size, number, boxes, in_dims[1], box_indices, in_dims[2])
    grad = _spread(grad, in_dims[0], info.batch_size).flatten(0, 1)
    images = CROP_AND_RESIZE_BACKWARD(grad, *rows, (info.batch_size * number, height, width), *rest)
    return images.unflatten(0, (info.batch_size, number)), 0


def _vmap_boxes_backward(
    info: Any, in_dims: Any, grad: Tensor, images: Tensor, boxes: Tensor, box_indices: Tensor, *rest: Any
) -> tuple[Tensor, int]:
    mapped = in_dims[1] is not None
    number = images.movedim(in_dims[1], 0).shape[1] if mapped else None
    rows = _fold_boxes(info.batch_size, number, boxes, in_dims[2], box_indices, in_dims[3])
    images = images.movedim(in_dims[1], 0).flatten(0, 1) if mapped else images
    grad = _spread(grad, in_dims[0], info.batch_size)
    grads = CROP_AND_RESIZE_BOXES_BACKWARD(grad.flatten(0, 1), images, *rows, *rest)
    return grads.unflatten(0, (info.batch_size, grad.shape[1])), 0


def shard_crops(
    images: Any,
    boxes: Any,
    box_indices: Any,
    size: Any,
    method: Any = "bilinear",
    extrapolation_value: Any = 0.0,
    mean: Any = None,
    std: Any = None,
    differentiable_boxes: Any = False,
) -> list[tuple[list[Any], list[Any]]]:
    """DTensor: every box by itself on whole images, since indices are global; or every channel by itself."""
    from torch.distributed.tensor import Replicate, Shard

    fixed = [None] * 6
    rules: list[tuple[list[Any], list[Any]]] = [
        ([Replicate()], [Replicate(), Replicate(), Replicate(), *fixed]),
        ([Shard(0)], [Replicate(), Shard(0), Shard(0), *fixed]),
    ]
    # mean and std are of all channels, and no shard knows which are its own.
    if mean is None and std is None:
        rules.append(([Shard(1)], [Shard(1), Replicate(), Replicate(), *fixed]))
    return rules


CROP_AND_RESIZE_BOXES_BACKWARD = register(
    Op(
        name="crop_and_resize_boxes_backward",
        room=ROOM,
        schema="(Tensor grad, Tensor images, Tensor boxes, Tensor box_indices, float[]? std) -> Tensor",
        reference=reference.crop_and_resize_boxes_backward,
        check=checks.check_crop_and_resize_boxes_backward,
        fake=_fake_boxes_backward,
        backends=("cpu", "cuda"),
        vmap=_vmap_boxes_backward,
    )
)

CROP_AND_RESIZE_BACKWARD = register(
    Op(
        name="crop_and_resize_backward",
        room=ROOM,
        schema="(Tensor grad, Tensor boxes, Tensor box_indices, SymInt[] image_size, str method, float[]? std) "
        "-> Tensor",
        reference=reference.crop_and_resize_backward,
        check=checks.check_crop_and_resize_backward,
        fake=_fake_backward,
        backends=("cpu", "cuda"),
        backward=_double_backward,
        setup_context=_save_of_backward,
        double_backward=True,
        detached=True,
        vmap=_vmap_backward,
    )
)

CROP_AND_RESIZE = register(
    Op(
        name="crop_and_resize",
        room=ROOM,
        schema="(Tensor images, Tensor boxes, Tensor box_indices, SymInt[] size, str method='bilinear', "
        "float extrapolation_value=0.0, float[]? mean=None, float[]? std=None, bool differentiable_boxes=False) "
        "-> Tensor",
        reference=reference.crop_and_resize,
        check=checks.check_crop_and_resize,
        fake=_fake_crops,
        backends=("cpu", "cuda"),
        backward=_backward,
        setup_context=_save,
        double_backward=True,
        detached=True,
        vmap=_vmap,
        onnx=f"{ROOM}.onnx_export:crop_and_resize",
        sharding=f"{ROOM}.contract:shard_crops",
    )
)
