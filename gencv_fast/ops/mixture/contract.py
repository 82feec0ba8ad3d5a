"""What torch is told about the room's operators: schemas, fake kernels, gradient, vmap, sharding, export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._dispatch import Op
from ..._register import register
from . import checks, reference

_ROOM = "gencv_fast.ops.mixture"


def fake_nll(params: Tensor, x: Tensor, channels: int = 3) -> Tensor:
    batch, _, height, width = params.shape
    return params.new_empty((batch, height, width), dtype=reference.compute_dtype(params.dtype))


def fake_sample(params: Tensor, channels: int = 3, *rest: Any) -> Tensor:
    batch, _, height, width = params.shape
    return params.new_empty((batch, channels, height, width), dtype=torch.uint8)


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    params, x, ctx.channels = inputs
    ctx.save_for_backward(params, x)


def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    params, x = ctx.saved_tensors
    return MIXTURE_LOGISTICS_NLL_BACKWARD(grad, params, x, ctx.channels, backend=ctx.backend), None, None


def _fold(info: Any, in_dims: Any, args: tuple[Any, ...]) -> list[Any]:
    """The mapped dimension goes into the batch."""

    def folded(value: Any, dim: int | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        mapped = value.movedim(dim, 0) if dim is not None else value.expand(info.batch_size, *value.shape)
        return mapped.flatten(0, 1)

    return [folded(*pair) for pair in zip(args, in_dims, strict=True)]


def _unfolded(info: Any, result: Tensor) -> tuple[Tensor, int]:
    return result.unflatten(0, (info.batch_size, result.shape[0] // info.batch_size)), 0


def vmap_nll(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    return _unfolded(info, MIXTURE_LOGISTICS_NLL(*_fold(info, in_dims, args)))


def vmap_nll_backward(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    return _unfolded(info, MIXTURE_LOGISTICS_NLL_BACKWARD(*_fold(info, in_dims, args)))


def vmap_sample(
    info: Any,
    in_dims: Any,
    params: Tensor,
    channels: int = 3,
    seed: int = 0,
    temperature: float = 1.0,
    noise: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Every slice gets the noise that it would have alone."""
    in_dims = (*in_dims, *(None for _ in range(5 - len(in_dims))))
    (params,) = _fold(info, in_dims[:1], (params,))
    if noise is None:
        batch, _, height, width = params.shape
        noise = reference.pixel_noise(seed, batch // info.batch_size, 1 + channels, height, width, params.device)
    (noise,) = _fold(info, in_dims[4:], (noise,))
    return _unfolded(info, MIXTURE_LOGISTICS_SAMPLE(params, channels, seed, temperature, noise))


def _shard_images(tensors: int, others: int) -> list[tuple[list[Any], list[Any]]]:
    """Images are independent: shard the batch of every tensor, or replicate."""
    from torch.distributed.tensor import Replicate, Shard

    return [([p], [p] * tensors + [None] * others) for p in (Replicate(), Shard(0))]


def shard_nll(params: Any, x: Any, *channels: Any) -> Any:
    return _shard_images(2, len(channels))


def shard_nll_backward(grad: Any, params: Any, x: Any, *channels: Any) -> Any:
    return _shard_images(3, len(channels))


def shard_sample(params: Any, *rest: Any) -> Any:
    """Noise from a seed depends on the image's number in the whole batch: then all is replicated."""
    from torch.distributed.tensor import Replicate, Shard

    has_noise = len(rest) == 4 and rest[3] is not None
    placements = (Replicate(), Shard(0)) if has_noise else (Replicate(),)
    others = rest[:3] if has_noise else rest
    return [([p], [p, *(None for _ in others), *([p] if has_noise else [])]) for p in placements]


MIXTURE_LOGISTICS_NLL_BACKWARD = register(
    Op(
        name="mixture_logistics_nll_backward",
        room=_ROOM,
        schema="(Tensor grad, Tensor params, Tensor x, int channels=3) -> Tensor",
        reference=reference.mixture_logistics_nll_backward,
        check=checks.check_mixture_logistics_nll_backward,
        fake=lambda grad, params, *rest: torch.empty_like(params),
        backends=("cpu", "cuda", "triton"),
        triton=f"{_ROOM}.triton_kernels:mixture_logistics_nll_backward",
        vmap=vmap_nll_backward,
        sharding=f"{_ROOM}.contract:shard_nll_backward",
    )
)

MIXTURE_LOGISTICS_NLL = register(
    Op(
        name="mixture_logistics_nll",
        room=_ROOM,
        schema="(Tensor params, Tensor x, int channels=3) -> Tensor",
        reference=reference.mixture_logistics_nll,
        check=checks.check_mixture_logistics_nll,
        fake=fake_nll,
        backends=("cpu", "cuda", "triton"),
        triton=f"{_ROOM}.triton_kernels:mixture_logistics_nll",
        backward=backward,
        setup_context=setup_context,
        vmap=vmap_nll,
        onnx=f"{_ROOM}.onnx_export:mixture_logistics_nll",
        sharding=f"{_ROOM}.contract:shard_nll",
    )
)

MIXTURE_LOGISTICS_SAMPLE = register(
    Op(
        name="mixture_logistics_sample",
        room=_ROOM,
        schema="(Tensor params, int channels=3, int seed=0, float temperature=1.0, Tensor? noise=None) -> Tensor",
        reference=reference.mixture_logistics_sample,
        check=checks.check_mixture_logistics_sample,
        fake=fake_sample,
        backends=("cpu", "cuda"),
        vmap=vmap_sample,
        onnx=f"{_ROOM}.onnx_export:mixture_logistics_sample",
        sharding=f"{_ROOM}.contract:shard_sample",
    )
)
