"""What torch is told about the demo room's operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gencv_fast._checks import require, require_float, require_like, require_same_shape
from gencv_fast._dispatch import Op
from gencv_fast._register import register

from . import reference
from .libraries import load_libraries
from .reference import per_channel


def check_scaled_tanh(x: Tensor, scale: Tensor, op: str = "scaled_tanh") -> None:
    require(x.dim() == 4, op, f"x must be [N, C, H, W], got {list(x.shape)}")
    require_float(op, "x", x)
    require(scale.dim() == 1, op, f"scale must be [C], got {list(scale.shape)}")
    expected = f"scale must have one entry per channel ({x.shape[1]})"
    require(scale.shape[0] == x.shape[1], op, f"{expected}, got {scale.shape[0]}")
    require_like(op, "scale", scale, "x", x)


def check_scaled_tanh_backward(grad: Tensor, x: Tensor, scale: Tensor) -> None:
    op = "scaled_tanh_backward"
    check_scaled_tanh(x, scale, op)
    require_same_shape(op, "grad", grad, "x", x.shape)
    require_like(op, "grad", grad, "x", x)


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    return SCALED_TANH_BACKWARD(grad, *ctx.saved_tensors, backend=ctx.backend)


def double_backward(ctx: Any, grad_of_x: Tensor, grad_of_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cheap enough as a formula: the gradients of `reference.scaled_tanh_backward`."""
    grad, x, scale = ctx.saved_tensors
    t = torch.tanh(x)
    slope = 1 - t * t
    along_scale = per_channel(grad_of_scale)
    wrt_grad = grad_of_x * per_channel(scale) * slope + along_scale * t
    wrt_x = grad * slope * (along_scale - 2 * grad_of_x * per_channel(scale) * t)
    return wrt_grad, wrt_x, (grad_of_x * grad * slope).sum((0, 2, 3))


def vmap_scaled_tanh(info: Any, in_dims: Any, x: Tensor, scale: Tensor) -> tuple[Tensor, int]:
    """[V, N, C, H, W] is [N, V * C, H, W] to an operator that treats every channel by itself."""
    x = _mapped(x, in_dims[0], info.batch_size)
    scale = _mapped(scale, in_dims[1], info.batch_size)
    y = SCALED_TANH(_channels_joined(x), scale.flatten())
    return _channels_split(y, info.batch_size), 0


def vmap_scaled_tanh_backward(info: Any, in_dims: Any, *args: Tensor) -> tuple[tuple[Tensor, Tensor], Any]:
    grad, x, scale = (_mapped(a, dim, info.batch_size) for a, dim in zip(args, in_dims, strict=True))
    grad_x, grad_scale = SCALED_TANH_BACKWARD(_channels_joined(grad), _channels_joined(x), scale.flatten())
    grads = _channels_split(grad_x, info.batch_size), grad_scale.unflatten(0, (info.batch_size, -1))
    return grads, (0, 0)


def _mapped(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.movedim(dim, 0) if dim is not None else tensor.expand(size, *tensor.shape)


def _channels_joined(x: Tensor) -> Tensor:
    return x.movedim(0, 1).flatten(1, 2)


def _channels_split(x: Tensor, size: int) -> Tensor:
    return x.unflatten(1, (size, x.shape[1] // size)).movedim(1, 0)


def shard_scaled_tanh(x: Any, scale: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Replicate, Shard

    return [
        ([Replicate()], [Replicate(), Replicate()]),
        ([Shard(1)], [Shard(1), Shard(0)]),
        *(([Shard(dim)], [Shard(dim), Replicate()]) for dim in (0, 2, 3)),
    ]


def shard_scaled_tanh_backward(grad: Any, x: Any, scale: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Partial, Replicate, Shard

    return [
        ([Replicate()] * 2, [Replicate()] * 3),
        ([Shard(1), Shard(0)], [Shard(1), Shard(1), Shard(0)]),
        *(([Shard(dim), Partial()], [Shard(dim), Shard(dim), Replicate()]) for dim in (0, 2, 3)),
    ]


load_libraries()

SCALED_TANH_BACKWARD = register(
    Op(
        name="scaled_tanh_backward",
        room="tests.demo",
        schema="(Tensor grad, Tensor x, Tensor scale) -> (Tensor, Tensor)",
        reference=reference.scaled_tanh_backward,
        check=check_scaled_tanh_backward,
        fake=lambda grad, x, scale: (torch.empty_like(x), torch.empty_like(scale)),
        backends=("cpu", "cuda", "triton"),
        triton="tests.demo.triton_kernels:scaled_tanh_backward",
        backward=double_backward,
        setup_context=setup_context,
        autocast=torch.float32,
        vmap=vmap_scaled_tanh_backward,
        sharding="tests.demo.contract:shard_scaled_tanh_backward",
    )
)

SCALED_TANH = register(
    Op(
        name="scaled_tanh",
        room="tests.demo",
        schema="(Tensor x, Tensor scale) -> Tensor",
        reference=reference.scaled_tanh,
        check=check_scaled_tanh,
        fake=lambda x, scale: torch.empty_like(x),
        backends=("cpu", "cuda", "triton"),
        triton="tests.demo.triton_kernels:scaled_tanh",
        backward=backward,
        setup_context=setup_context,
        double_backward=True,
        autocast=torch.float32,
        vmap=vmap_scaled_tanh,
        onnx="tests.demo.onnx_export:scaled_tanh",
        sharding="tests.demo.contract:shard_scaled_tanh",
    )
)
