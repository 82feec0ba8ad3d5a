"""What torch is told about the wing's operators: schemas, fake kernels, autograd, vmap, sharding, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ...._dispatch import Op
from ...._register import register
from . import checks, reference

ROOM = "gencv_fast.ops.roi.masks"


def _fake(maps: Tensor, boxes: Tensor, size: Sequence[int], padding: int = 1) -> Tensor:
    return maps.new_empty((*maps.shape[:2], *size))


# Autograd: pasting is linear in the masks, so that the gradient's own gradient is pasted again


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    maps, boxes, _, ctx.padding = inputs
    ctx.size = tuple(maps.shape[2:])
    ctx.save_for_backward(boxes)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (boxes,) = ctx.saved_tensors
    return PASTE_MASKS_BACKWARD(grad, boxes, ctx.size, ctx.padding, backend=ctx.backend), None, None, None


def _save_of_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _save(ctx, inputs, output)
    ctx.columns = inputs[2][1]


def _double_backward(ctx: Any, grad_of_grad: Tensor) -> tuple[Tensor | None, ...]:
    (boxes,) = ctx.saved_tensors
    pasted = PASTE_MASKS(grad_of_grad, boxes, ctx.size, ctx.padding, backend=ctx.backend)
    sound = reference.sound_boxes(boxes, ctx.columns, ctx.padding)
    return pasted.masked_fill(~sound[:, None, None, None], 0.0), None, None, None


# vmap: the masks of all calls are those of one


def _spread(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.movedim(dim, 0) if dim is not None else tensor.expand(size, *tensor.shape)


def _vmap(op: Callable[[], Op]) -> Callable[..., Any]:
    def vmap(info: Any, in_dims: Any, maps: Tensor, boxes: Tensor, *rest: Any) -> tuple[Tensor, int]:
        size = info.batch_size
        maps, boxes = _spread(maps, in_dims[0], size), _spread(boxes, in_dims[1], size)
        results = op()(maps.flatten(0, 1), boxes.flatten(0, 1), *rest)
        return results.unflatten(0, (size, maps.shape[1])), 0

    return vmap


def shard_masks(maps: Any, boxes: Any, size: Any, padding: Any = 1) -> list[tuple[list[Any], list[Any]]]:
    """DTensor: every mask by itself, or every channel."""
    from torch.distributed.tensor import Replicate, Shard

    both = [([p], [p, p, None, None]) for p in (Replicate(), Shard(0))]
    return [*both, ([Shard(1)], [Shard(1), Replicate(), None, None])]


PASTE_MASKS_BACKWARD: Op = register(
    Op(
        name="paste_masks_backward",
        room=ROOM,
        schema="(Tensor grad, Tensor boxes, SymInt[] mask_size, int padding=1) -> Tensor",
        reference=reference.paste_masks_backward,
        check=checks.check_paste_masks_backward,
        fake=_fake,
        backends=("cpu", "cuda"),
        backward=_double_backward,
        setup_context=_save_of_backward,
        vmap=_vmap(lambda: PASTE_MASKS_BACKWARD),
        sharding=f"{ROOM}.contract:shard_masks",
    )
)

PASTE_MASKS: Op = register(
    Op(
        name="paste_masks",
        room=ROOM,
        schema="(Tensor masks, Tensor boxes, SymInt[] image_size, int padding=1) -> Tensor",
        reference=reference.paste_masks,
        check=checks.check_paste_masks,
        fake=_fake,
        backends=("cpu", "cuda"),
        backward=_backward,
        setup_context=_save,
        double_backward=True,
        vmap=_vmap(lambda: PASTE_MASKS),
        onnx=f"{ROOM}.onnx_export:paste_masks",
        sharding=f"{ROOM}.contract:shard_masks",
    )
)
