"""What torch is told of an operator: schemas, kernels, and the rules around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from ._dispatch import OPS, Op, inside_rule, load_object, register_sharding
from ._library import LIBRARY, triton_interpreted


def register(op: Op) -> Op:
    """Define the op's schemas and give torch every rule it needs: kernels, fake, autograd, autocast, vmap."""
    OPS[op.name] = op
    _register_rival(op, op.name, None)
    # Devices without a compiled kernel run the reference, so that graphs still run.
    LIBRARY.impl(op.name, op.run_reference, "CompositeExplicitAutograd")
    if op.triton is not None:
        _register_rival(op, f"{op.name}_triton", "triton")
        _register_triton(op, op.triton)
    register_sharding(op)
    return op


def _register_rival(op: Op, name: str, backend: str | None) -> None:
    LIBRARY.define(name + op.schema, tags=(torch.Tag.pt2_compliant_tag,))
    register_rules(op, f"gencv_fast::{name}", backend, LIBRARY)


def register_rules(op: Op, qualified: str, backend: str | None, library: torch.library.Library) -> None:
    """Give torch everything but the kernels; ``backend`` is what the backward operator is asked for."""

    def fake(*args: Any) -> Any:
        op.check(*args)
        return op.fake(*args)

    torch.library.register_fake(qualified, fake, lib=library)

    def vmap(*args: Any) -> Any:
        # The rule calls the op again: on this rival, whatever use_backend asks of other calls.
        with inside_rule(backend):
            return op.vmap(*args)

    torch.library.register_vmap(qualified, vmap, lib=library)
    _register_autograd(op, qualified, backend, library)
    if op.autocast is not None:
        for device in ("cpu", "cuda"):
            if isinstance(op.autocast, torch.dtype):
                torch.library.register_autocast(qualified, device, op.autocast, lib=library)
            else:
                _register_lower_precision(qualified, device, library)


def _register_lower_precision(qualified: str, device: str, library: torch.library.Library) -> None:
    """As torch.library.register_autocast, which knows only dtypes that are fixed."""
    namespace, name = qualified.split("::")
    overload = getattr(getattr(torch.ops, namespace), name).default
    key = getattr(torch._C.DispatchKey, f"Autocast{torch._C._dispatch_key_for_device(device)}")

    def run(*args: Any) -> Any:
        dtype = torch.get_autocast_dtype(device)

        def cast(tensor: torch.Tensor) -> torch.Tensor:
            wide = tensor.is_floating_point() and tensor.dtype != torch.float64
            return tensor.to(dtype) if wide else tensor

        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
            return overload(*tree_map_only(torch.Tensor, cast, args))

    library.impl(name, run, key.name)


def _register_autograd(op: Op, qualified: str, backend: str | None, library: torch.library.Library) -> None:
    if op.backward is not None:
        setup_context = partial(_setup_context, op, backend)
        backward = partial(_backward, op.backward)
        torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=library)
    elif op.is_backward:
        # Else a second derivative would silently count as zero.
        torch.library.register_autograd(qualified, partial(_refuse_second_derivative, op), lib=library)
    else:
        # Without this, torch marks floating-point results as requiring a gradient that does not exist.
        library.impl(qualified, torch.library.fallthrough_kernel, "Autograd")


def _refuse_second_derivative(op: Op, ctx: Any, *grads: Any) -> Any:
    raise RuntimeError(f"{op.name}: this gradient cannot be differentiated once more.")


def _setup_context(op: Op, backend: str | None, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.backend = backend
    if op.setup_context is not None:
        op.setup_context(ctx, inputs, output)


def _backward(rule: Callable[..., Any], ctx: Any, *grads: Any) -> Any:
    """Runs the rule on the rival that ran forward, whatever use_backend asks of other calls."""
    with inside_rule(ctx.backend):
        gradients = rule(ctx, *grads)
    # Older versions of torch want none for arguments that were left to their defaults.
    return gradients[: len(ctx.needs_input_grad)]


def _register_triton(op: Op, kernel: str) -> None:
    def run(*args: Any) -> Any:
        op.check(*args)
        return load_object(kernel)(*args)

    LIBRARY.impl(f"{op.name}_triton", run, "CUDA")
    if triton_interpreted():
        LIBRARY.impl(f"{op.name}_triton", run, "CPU")
