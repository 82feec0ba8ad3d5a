"""What the room's operators ask of their arguments, in the words of csrc/mixture/mixture_checks.h."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import require, require_device, require_float, require_same_shape
from . import reference


def _check_params(op: str, params: Tensor, channels: int) -> None:
    require(channels in (1, 3), op, f"channels must be 1 or 3, got {channels}")
    require_float(op, "params", params)
    require(params.dim() == 4, op, f"params must be [N, C, H, W], got {list(params.shape)}")
    given, blocks = params.shape[1], reference.block_count(channels)
    wanted = f"params must have a multiple of {blocks} channels where channels is {channels}, got {given}"
    require(given > 0, op, wanted)
    require(given % blocks == 0, op, wanted)


def _check_pair(op: str, params: Tensor, x: Tensor, channels: int) -> None:
    _check_params(op, params, channels)
    wanted = f"x must be uint8 or have the dtype of params ({params.dtype}), got {x.dtype}"
    require(x.dtype in (torch.uint8, params.dtype), op, wanted)
    require_device(op, "x", x, "params", params)
    batch, _, height, width = params.shape
    require_same_shape(op, "x", x, "the image", [batch, channels, height, width])


def check_mixture_logistics_nll(params: Tensor, x: Tensor, channels: int = 3) -> None:
    _check_pair("mixture_logistics_nll", params, x, channels)


def check_mixture_logistics_nll_backward(grad: Tensor, params: Tensor, x: Tensor, channels: int = 3) -> None:
    op = "mixture_logistics_nll_backward"
    _check_pair(op, params, x, channels)
    dtype, (batch, _, height, width) = reference.compute_dtype(params.dtype), params.shape
    require(grad.dtype == dtype, op, f"grad must have the dtype of the loss ({dtype}), got {grad.dtype}")
    require_device(op, "grad", grad, "params", params)
    require_same_shape(op, "grad", grad, "the loss", [batch, height, width])


def check_mixture_logistics_sample(
    params: Tensor, channels: int = 3, seed: int = 0, temperature: float = 1.0, noise: Tensor | None = None
) -> None:
    op = "mixture_logistics_sample"
    require(temperature > 0, op, f"temperature must be positive, got {temperature:g}")
    _check_params(op, params, channels)
    if noise is None:
        return
    require(noise.dtype == torch.float32, op, f"noise must be float32, got {noise.dtype}")
    require_device(op, "noise", noise, "params", params)
    batch, _, height, width = params.shape
    wanted = "a number for the component and for each colour"
    require_same_shape(op, "noise", noise, wanted, [batch, 1 + channels, height, width])
