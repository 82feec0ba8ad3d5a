"""What torch is told about the room's operators: schemas, fake kernels, gradients, vmap, sharding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..._dispatch import Op
from ..._register import register
from . import checks, reference


def lies_channels_last(maps: Tensor) -> bool:
    """Unlike maps that could be either."""
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


def _new_maps(like: Tensor, channels: Any) -> Tensor:
    """Dense, in the layout of ``like`` or the one that comes nearest."""
    layout = torch.channels_last if lies_channels_last(like) else torch.contiguous_format
    shape = (like.shape[0], channels, *like.shape[2:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def output_channels(out_channels: Any, activation: str) -> Any:
    if activation == "gate":
        return out_channels // 2
    return 2 * out_channels if activation == "concat_elu" else out_channels


def fake_masked_conv2d(input: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return _new_maps(input, output_channels(weight.shape[0], rest[-1]))


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, weight, bias, condition, *ctx.geometry, ctx.activation = inputs
    ctx.save_for_backward(input, weight, bias, condition, output)


def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    input, weight, bias, condition, output = ctx.saved_tensors
    if ctx.activation == "gate":
        # Sums that nobody kept; the public function keeps them where gradients are wanted.
        sums = MASKED_CONV2D(input, weight, bias, condition, *ctx.geometry, "none", backend=ctx.backend)
        grad = GATED_ACTIVATION_BACKWARD(grad, sums, None, backend=ctx.backend)
    else:
        grad = _grad_of_sums(grad, output, ctx.activation)
    taps, *rest = ctx.geometry
    wanted = ctx.needs_input_grad
    grad_input = grad_weight = grad_bias = None
    if wanted[0]:
        grad_input = MASKED_CONV2D_GRAD_INPUT(grad, weight, taps, *rest, backend=ctx.backend)
    if wanted[1]:
        size = list(weight.shape[2:])
        grad_weight = MASKED_CONV2D_GRAD_WEIGHT(grad, input, taps, size, *rest, backend=ctx.backend)
    if wanted[2]:
        grad_bias = grad.sum((0, 2, 3))
    return grad_input, grad_weight, grad_bias, _grad_of_condition(grad, condition, wanted[3]), *(None,) * 6


def _grad_of_sums(grad: Tensor, output: Tensor, activation: str) -> Tensor:
    """torch has kernels for these, which read a slope off the output."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(grad, output, 0)
    if activation == "elu":
        return torch.ops.aten.elu_backward(grad, 1, 1, 1, True, output)
    if activation == "concat_elu":
        (grad, against), (plus, minus) = grad.chunk(2, 1), output.chunk(2, 1)
        return _grad_of_sums(grad, plus, "elu") - _grad_of_sums(against, minus, "elu")
    return grad


def _grad_of_condition(grad: Tensor, condition: Tensor | None, wanted: bool) -> Tensor | None:
    if condition is None or not wanted:
        return None
    return grad.sum((2, 3)) if condition.dim() == 2 else grad


def setup_context_of_grad_input(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, weight, *ctx.geometry = inputs
    ctx.save_for_backward(grad, weight)


def backward_of_grad_input(ctx: Any, along: Tensor) -> tuple[Any, ...]:
    """It is linear in both; ``along`` has the shape of the convolution's input."""
    grad, weight = ctx.saved_tensors
    taps, *rest = ctx.geometry
    grad_grad = grad_weight = None
    if ctx.needs_input_grad[0]:
        grad_grad = MASKED_CONV2D(along, weight, None, None, taps, *rest, "none", backend=ctx.backend)
    if ctx.needs_input_grad[1]:
        size = list(weight.shape[2:])
        grad_weight = MASKED_CONV2D_GRAD_WEIGHT(grad, along, taps, size, *rest, backend=ctx.backend)
    return grad_grad, grad_weight, *(None,) * 5


def setup_context_of_grad_weight(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, input, ctx.taps, _, *ctx.rest = inputs
    ctx.save_for_backward(grad, input)


def backward_of_grad_weight(ctx: Any, along: Tensor) -> tuple[Any, ...]:
    """It is linear in both; ``along`` has the shape of the weight."""
    grad, input = ctx.saved_tensors
    grad_grad = grad_input = None
    if ctx.needs_input_grad[0]:
        grad_grad = MASKED_CONV2D(input, along, None, None, ctx.taps, *ctx.rest, "none", backend=ctx.backend)
    if ctx.needs_input_grad[1]:
        grad_input = MASKED_CONV2D_GRAD_INPUT(grad, along, ctx.taps, *ctx.rest, backend=ctx.backend)
    return grad_grad, grad_input, *(None,) * 6


def setup_context_of_gate(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def backward_of_gate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    input, condition = ctx.saved_tensors
    grad_sums = GATED_ACTIVATION_BACKWARD(grad, input, condition, backend=ctx.backend)
    return grad_sums, _grad_of_condition(grad_sums, condition, ctx.needs_input_grad[1])


def double_backward_of_gate(ctx: Any, along: Tensor) -> tuple[Any, ...]:
    """Cheap enough as a formula: the gradients of `reference.gated_activation_backward`."""
    grad, input, condition = ctx.saved_tensors
    sums, dtype, grad = reference.wide(input), along.dtype, reference.wide(grad)
    if condition is not None:
        sums = sums + reference.over_pixels(reference.wide(condition))
    (a, b), (along_a, along_b) = sums.chunk(2, 1), reference.wide(along).chunk(2, 1)
    t, s = a.tanh(), b.sigmoid()
    t_slope, s_slope = 1 - t * t, s * (1 - s)
    grad_grad = along_a * s * t_slope + along_b * t * s_slope
    grad_a = grad * t_slope * (along_b * s_slope - 2 * along_a * s * t)
    grad_b = grad * s_slope * (along_a * t_slope + along_b * t * (1 - 2 * s))
    grad_sums = torch.cat((grad_a, grad_b), 1).to(dtype)
    return grad_grad.to(dtype), grad_sums, _grad_of_condition(grad_sums, condition, ctx.needs_input_grad[2])


def _mapped(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.movedim(dim, 0) if dim is not None else tensor.expand(size, *tensor.shape)


def _folded(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """The mapped dimension joins the images."""
    return _mapped(tensor, dim, size).flatten(0, 1)


def _slice_by_slice(run: Callable[..., Tensor], size: int, in_dims: Any, args: tuple[Any, ...]) -> tuple[Tensor, int]:
    def of(arg: Any, dim: int | None, i: int) -> Any:
        return arg if dim is None else arg.select(dim, i)

    dims = (*in_dims, *(None,) * (len(args) - len(in_dims)))
    return torch.stack([run(*(of(a, d, i) for a, d in zip(args, dims, strict=True))) for i in range(size)]), 0


def _tensor_dims(in_dims: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(d if isinstance(a, Tensor) else None for a, d in zip(args, in_dims, strict=True))


def vmap_masked_conv2d(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    """Weights of its own for every slice are as many convolutions; else there are more images."""
    size, dims = info.batch_size, _tensor_dims(in_dims, args)
    if dims[1] is not None or dims[2] is not None or size == 0:
        return _slice_by_slice(MASKED_CONV2D, size, dims, args)
    input, weight, bias, condition, *rest = args
    condition = None if condition is None else _folded(condition, dims[3], size)
    output = MASKED_CONV2D(_folded(input, dims[0], size), weight, bias, condition, *rest)
    return output.unflatten(0, (size, -1)), 0


def vmap_masked_conv2d_grad_input(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    size, dims = info.batch_size, _tensor_dims(in_dims, args)
    if dims[1] is not None or size == 0:
        return _slice_by_slice(MASKED_CONV2D_GRAD_INPUT, size, dims, args)
    grad, weight, *rest = args
    return MASKED_CONV2D_GRAD_INPUT(_folded(grad, dims[0], size), weight, *rest).unflatten(0, (size, -1)), 0


def vmap_masked_conv2d_grad_weight(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    return _slice_by_slice(MASKED_CONV2D_GRAD_WEIGHT, info.batch_size, _tensor_dims(in_dims, args), args)


def _vmap_gate(op: Callable[..., Tensor], info: Any, in_dims: Any, args: tuple[Any, ...]) -> tuple[Tensor, int]:
    size = info.batch_size
    folded = [None if a is None else _folded(a, d, size) for a, d in zip(args, in_dims, strict=True)]
    return op(*folded).unflatten(0, (size, -1)), 0


def vmap_gated_activation(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    return _vmap_gate(GATED_ACTIVATION, info, in_dims, args)


def vmap_gated_activation_backward(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
    return _vmap_gate(GATED_ACTIVATION_BACKWARD, info, in_dims, args)


def _by_images(*args: Any, whole: tuple[int, ...] = ()) -> list[Any]:
    """The placements of arguments of which some are whole and the others shared out by images."""
    from torch.distributed.tensor import Replicate, Shard

    return [(Replicate() if i in whole else Shard(0)) if _is_tensor(a) else None for i, a in enumerate(args)]


def _is_tensor(argument: Any) -> bool:
    return hasattr(argument, "shape")


def _replicated(*args: Any) -> list[Any]:
    return _by_images(*args, whole=tuple(range(len(args))))


def shard_masked_conv2d(*args: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Replicate, Shard

    return [([Replicate()], _replicated(*args)), ([Shard(0)], _by_images(*args, whole=(1, 2)))]


def shard_masked_conv2d_grad_input(*args: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Replicate, Shard

    return [([Replicate()], _replicated(*args)), ([Shard(0)], _by_images(*args, whole=(1,)))]


def shard_masked_conv2d_grad_weight(*args: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Partial, Replicate

    return [([Replicate()], _replicated(*args)), ([Partial()], _by_images(*args))]


def shard_gate(*args: Any) -> list[tuple[list[Any], list[Any]]]:
    from torch.distributed.tensor import Replicate, Shard

    return [([Replicate()], _replicated(*args)), ([Shard(0)], _by_images(*args))]


_ROOM = "gencv_fast.ops.masked_conv"
_BACKENDS = ("cpu", "cuda", "triton")
_GEOMETRY = "int channel_groups, int halves, int[] dilation, int[] shift"

MASKED_CONV2D_GRAD_INPUT = register(
    Op(
        name="masked_conv2d_grad_input",
        room=_ROOM,
        schema=f"(Tensor grad, Tensor weight, int[] taps, {_GEOMETRY}) -> Tensor",
        reference=reference.masked_conv2d_grad_input,
        check=checks.check_masked_conv2d_grad_input,
        fake=lambda grad, weight, *rest: _new_maps(grad, weight.shape[1]),
        backends=_BACKENDS,
        triton=f"{_ROOM}.triton_kernels:masked_conv2d_grad_input",
        backward=backward_of_grad_input,
        setup_context=setup_context_of_grad_input,
        double_backward=True,
        vmap=vmap_masked_conv2d_grad_input,
        sharding=f"{_ROOM}.contract:shard_masked_conv2d_grad_input",
    )
)

MASKED_CONV2D_GRAD_WEIGHT = register(
    Op(
        name="masked_conv2d_grad_weight",
        room=_ROOM,
        schema=f"(Tensor grad, Tensor input, int[] taps, int[] kernel_size, {_GEOMETRY}) -> Tensor",
        reference=reference.masked_conv2d_grad_weight,
        check=checks.check_masked_conv2d_grad_weight,
        fake=lambda grad, input, taps, size, *rest: grad.new_empty((grad.shape[1], input.shape[1], *size)),
        backends=_BACKENDS,
        triton=f"{_ROOM}.triton_kernels:masked_conv2d_grad_weight",
        backward=backward_of_grad_weight,
        setup_context=setup_context_of_grad_weight,
        double_backward=True,
        vmap=vmap_masked_conv2d_grad_weight,
        sharding=f"{_ROOM}.contract:shard_masked_conv2d_grad_weight",
    )
)

GATED_ACTIVATION_BACKWARD = register(
    Op(
        name="gated_activation_backward",
        room=_ROOM,
        schema="(Tensor grad, Tensor input, Tensor? condition) -> Tensor",
        reference=reference.gated_activation_backward,
        check=checks.check_gated_activation_backward,
        fake=lambda grad, input, condition: _new_maps(input, input.shape[1]),
        backends=_BACKENDS,
        triton=f"{_ROOM}.triton_kernels:gated_activation_backward",
        backward=double_backward_of_gate,
        setup_context=setup_context_of_gate,
        double_backward=True,
        vmap=vmap_gated_activation_backward,
        sharding=f"{_ROOM}.contract:shard_gate",
    )
)

GATED_ACTIVATION = register(
    Op(
        name="gated_activation",
        room=_ROOM,
        schema="(Tensor input, Tensor? condition) -> Tensor",
        reference=reference.gated_activation,
        check=checks.check_gated_activation,
        fake=lambda input, condition: _new_maps(input, input.shape[1] // 2),
        backends=_BACKENDS,
        triton=f"{_ROOM}.triton_kernels:gated_activation",
        backward=backward_of_gate,
        setup_context=setup_context_of_gate,
        double_backward=True,
        vmap=vmap_gated_activation,
        onnx=f"{_ROOM}.onnx_export:gated_activation",
        sharding=f"{_ROOM}.contract:shard_gate",
    )
)

MASKED_CONV2D = register(
    Op(
        name="masked_conv2d",
        room=_ROOM,
        schema=f"(Tensor input, Tensor weight, Tensor? bias, Tensor? condition, int[] taps, {_GEOMETRY}, "
        "str activation) -> Tensor",
        reference=reference.masked_conv2d,
        check=checks.check_masked_conv2d,
        fake=fake_masked_conv2d,
        backends=_BACKENDS,
        triton=f"{_ROOM}.triton_kernels:masked_conv2d",
        backward=backward,
        setup_context=setup_context,
        double_backward=True,
        autocast="lower_precision",
        vmap=vmap_masked_conv2d,
        onnx=f"{_ROOM}.onnx_export:masked_conv2d",
        sharding=f"{_ROOM}.contract:shard_masked_conv2d",
    )
)
