"""How detectors resize images, in a form that keeps its meaning and its digits in ONNX.

Two things are lost if torchvision's resizing goes to ONNX as it stands:

- The new size is computed in double precision and rounded down. The exporter writes the arithmetic of symbolic sizes in
  float32, where one size in ten comes out a pixel off. So it is an operator here, ``gencv_fast::_resized_size``, whose
  lowering computes in double. Its fake gives the size as an expression of the image's size, so the sizes of all that
  follows stay expressions too.
- ONNX Runtime's Resize computes sampling positions in another order than PyTorch does. At a height of some hundred
  pixels that moves a sample by 1e-5 pixels, and a random detector's boxes by up to 0.1. So positions and weights are
  written out here as PyTorch computes them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .._library import LIBRARY


def _resized_size(image: Tensor, min_size: float, max_size: float) -> Any:
    """Height and width after the shorter side is scaled to ``min_size``, or the longer to ``max_size`` if smaller."""
    height, width = image.shape[-2:]
    scale = torch.sym_min(min_size / torch.sym_min(height, width), max_size / torch.sym_max(height, width))
    # math.floor of a symbolic float is symbolic; of a float it is an int.
    return math.floor(torch.sym_float(height) * scale), math.floor(torch.sym_float(width) * scale)


LIBRARY.define(
    "_resized_size(Tensor image, float min_size, float max_size) -> (SymInt, SymInt)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
LIBRARY.impl("_resized_size", _resized_size, "CompositeExplicitAutograd")
torch.library.register_fake("gencv_fast::_resized_size", _resized_size, lib=LIBRARY)

RESIZED_SIZE = torch.ops.gencv_fast._resized_size.default


def resized_size_to_onnx(image: Any, min_size: float, max_size: float) -> tuple[Any, Any]:
    """The operator in standard ONNX operators, in double precision."""
    from onnxscript import ir, opset18

    op: Any = opset18

    def double(value: float) -> Any:
        return op.Constant(value=ir.tensor(value, dtype=ir.DataType.DOUBLE))

    shape = op.Cast(op.Shape(image, start=-2), to=ir.DataType.DOUBLE)
    shorter, longer = op.ReduceMin(shape, keepdims=0), op.ReduceMax(shape, keepdims=0)
    scale = op.Min(op.Div(double(min_size), shorter), op.Div(double(max_size), longer))
    size = op.Cast(op.Floor(op.Mul(shape, scale)), to=ir.DataType.INT64)
    return op.Gather(size, 0), op.Gather(size, 1)


def resize_bilinear(image: Tensor, size: tuple[int, int]) -> Tensor:
    """``[C, H, W]`` -> ``[C, *size]``, as interpolate(mode="bilinear", align_corners=False) without antialiasing."""
    return _resize_dim(_resize_dim(image, 1, size[0]), 2, size[1])


def _resize_dim(image: Tensor, dim: int, size: int) -> Tensor:
    old, device = image.shape[dim], image.device
    number = partial(torch.full, (), dtype=torch.float32, device=device)
    step = number(old) / number(size)
    centers = torch.arange(size, dtype=torch.float64, device=device) + 0.5
    # PyTorch's kernels fuse multiplication and subtraction: one rounding, from a product that is exact in double.
    position = (centers * step.double() - 0.5).float().clamp(min=0)
    below = position.long().clamp(max=old - 1)
    above = (below + 1).clamp(max=old - 1)
    weight = (position - below).to(image.dtype)
    if dim == 1:
        weight = weight[:, None]
    return image.index_select(dim, below) * (1 - weight) + image.index_select(dim, above) * weight
