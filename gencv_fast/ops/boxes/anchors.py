"""Anchor grids in plain PyTorch: a few additions, and kept once made."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ..._checks import FLOATS, require_pairs

#: Grids that are kept: image sizes times dtypes and devices that a process meets in turn.
MOST_KEPT = 32

_kept: OrderedDict[Any, tuple[Tensor, int]] = OrderedDict()
_lock = Lock()


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """float32 ``[A, 4]``: the anchors of one cell about its corner, ratio by ratio, rounded to whole pixels.

    On the CPU, whatever the default device: its roots and quotients are the ones every device is given.
    """
    size = torch.as_tensor(sizes, dtype=torch.float32, device="cpu")
    height = torch.as_tensor(aspect_ratios, dtype=torch.float32, device="cpu").sqrt()[:, None]
    widths, heights = (1 / height * size).flatten(), (height * size).flatten()
    return (torch.stack((-widths, -heights, widths, heights), 1) / 2).round()


def grid_of_cells(cells: Tensor, feature_size: Sequence[Any], stride: Sequence[Any]) -> Tensor:
    """``[H * W * A, 4]``: the anchors of a cell at every place of one feature map; sizes may be symbolic."""
    (height, width), (down, right) = feature_size, stride
    y = torch.arange(height, dtype=torch.int64, device=cells.device) * down
    x = torch.arange(width, dtype=torch.int64, device=cells.device) * right
    rows, columns = y[:, None].expand(height, width), x.expand(height, width)
    shifts = torch.stack((columns, rows, columns, rows), -1)
    return (shifts[:, :, None] + cells).reshape(-1, 4)


def anchor_grid(
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[int, int]],
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[Sequence[float]],
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The anchors of all cells of all feature maps, as torchvision's ``AnchorGenerator`` lays them out.

    Made once for each set of arguments and handed out again: take the tensor as read-only. One that torch has seen
    written to, or that was made to require a gradient, is made anew at the next call. Writes that torch does not
    count, through ``.numpy()`` or ``.data``, are not seen: later calls hand out what they left.

    Args:
        feature_sizes: ``(height, width)`` of each level, in cells.
        strides: ``(down, right)`` of each level: pixels from one cell to the next.
        sizes: per level, square roots of the anchors' areas, in pixels.
        aspect_ratios: per level, height over width.
        device: where the anchors go; by default the CPU.
        dtype: fp32, fp64, fp16 or bf16.

    Returns:
        ``[N, 4]`` corners: level by level, row by row, cell by cell, and in a cell ratio by ratio, then size by size.

    Raises:
        RuntimeError: numbers of levels that differ; sizes or strides that are not pairs; a negative size; another
            dtype.

    Example:
        >>> import gencv_fast
        >>> gencv_fast.anchor_grid([(1, 2)], [(16, 16)], [[32]], [[1.0]])
        tensor([[-16., -16.,  16.,  16.],
                [  0., -16.,  32.,  16.]])

    Paper: Ren et al., *Faster R-CNN*, NeurIPS 2015.
    """
    feature_sizes = require_pairs("anchor_grid", "feature_sizes", feature_sizes, "height, width")
    strides = require_pairs("anchor_grid", "strides", strides, "down, right")
    levels = [len(feature_sizes), len(strides), len(sizes), len(aspect_ratios)]
    if len(set(levels)) > 1:
        raise RuntimeError(
            f"anchor_grid: feature_sizes, strides, sizes and aspect_ratios must have one entry per level, got {levels}."
        )
    if any(size < 0 for pair in feature_sizes for size in pair if not isinstance(size, torch.SymInt)):
        raise RuntimeError(f"anchor_grid: feature_sizes must not be negative, got {feature_sizes}.")
    if dtype not in FLOATS:
        raise RuntimeError(f"anchor_grid: dtype must be float16, bfloat16, float32 or float64, got {dtype}.")
    # Of a tensor: "cuda" names one device now and may name another later.
    device = torch.empty(0, device="cpu" if device is None else device).device
    if _is_transformed() or _has_symbols(feature_sizes, strides):
        return _make(feature_sizes, strides, sizes, aspect_ratios, device, dtype)
    key = (*map(_frozen, (feature_sizes, strides, sizes, aspect_ratios)), device, dtype)
    with _lock:
        grid, version = _kept.pop(key, (None, 0))
        if grid is None or grid._version != version or grid.requires_grad:
            # Tensors of inference mode could not take part in training later.
            with torch.inference_mode(False):
                grid = _make(feature_sizes, strides, sizes, aspect_ratios, device, dtype)
        _kept[key] = grid, grid._version
        if len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    return grid


def _is_transformed() -> bool:
    """Whether tensors made now may be those of a trace or of a transform, which must not outlive it."""
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


def _has_symbols(*pairs: Sequence[Sequence[Any]]) -> bool:
    return any(isinstance(number, torch.SymInt) for group in pairs for pair in group for number in pair)


def _frozen(levels: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(map(tuple, levels))


def _make(
    feature_sizes: Sequence[Sequence[Any]],
    strides: Sequence[Sequence[Any]],
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[Sequence[float]],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    cells = [cell_anchors(*level).to(device, dtype) for level in zip(sizes, aspect_ratios, strict=True)]
    levels = zip(cells, feature_sizes, strides, strict=True)
    grids = [grid_of_cells(*level) for level in levels]
    return torch.cat(grids) if grids else torch.empty(0, 4, device=device, dtype=dtype)
