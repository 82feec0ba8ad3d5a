"""Convolution whose mask is another one at every pixel, in plain PyTorch: any order of the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._checks import require
from .reference import moved


def locally_masked_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, location_mask: Tensor, dilation: Sequence[int]
) -> Tensor:
    """Tap by tap, a product of the pixels that see something through it. All taps are multiplied everywhere."""
    op = "masked_conv2d"
    height, width = input.shape[2:]
    rows, columns = weight.shape[2:]
    shape = [height * width, rows * columns]
    message = f"location_mask must be [H * W, rows * columns] ({shape}), got {list(location_mask.shape)}"
    require(list(location_mask.shape) == shape, op, message)
    seen = (location_mask != 0).t().reshape(rows, columns, height, width)
    output = torch.einsum("nchw,oc->nohw", input[:, :0], weight[:, :0, 0, 0])  # zeros
    for i in range(rows):
        for j in range(columns):
            there = moved(input, (i - rows // 2) * dilation[0], (j - columns // 2) * dilation[1])
            there = torch.where(seen[i, j], there, torch.zeros((), dtype=input.dtype, device=input.device))
            output = output + torch.einsum("nchw,oc->nohw", there, weight[:, :, i, j])
    return output if bias is None else output + bias[:, None, None]
