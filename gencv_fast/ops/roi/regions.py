"""What the wings share: regions ``[K, 5]`` (index of the image, x1, y1, x2, y2) of a batch of maps."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from ..._checks import require, require_device, require_float, what_came


def as_regions(op: str, boxes: Tensor | Sequence[Tensor]) -> Tensor:
    """Regions ``[K, 5]`` as they are; a list of boxes ``[L, 4]``, one tensor an image, becomes regions."""
    if isinstance(boxes, Tensor):
        return boxes
    expected = "boxes must be a tensor [K, 5] or a list with a tensor for each image"
    require(isinstance(boxes, Sequence), op, f"{expected}, got {what_came(boxes)}")
    if not boxes:  # only then: tensors would be printed for nothing, which waits for a GPU
        raise RuntimeError(f"{op}: {expected}, got {boxes}.")
    for i, some in enumerate(boxes):
        require(isinstance(some, Tensor), op, f"{expected}, got {what_came(some)} for image {i}")
        require(some.dim() == 2 and some.shape[1] == 4, op, f"boxes[{i}] must be [L, 4], got {list(some.shape)}")
        require_device(op, f"boxes[{i}]", some, "boxes[0]", boxes[0])
    images = [torch.full_like(some[:, :1], i) for i, some in enumerate(boxes)]
    return torch.cat([torch.cat(images), torch.cat(list(boxes))], 1)


def check_regions(op: str, name: str, maps: Tensor, boxes: Tensor) -> None:
    """``maps`` is ``[N, C, H, W]``, ``boxes`` ``[K, 5]`` of the same dtype or float32."""
    check_kinds(op, name, maps, boxes)
    if boxes.device.type == "cpu":
        check_images_of(op, boxes, maps.shape[0])


def check_spatial_scale(op: str, spatial_scale: float) -> None:
    require(math.isfinite(spatial_scale), op, "spatial_scale must be finite, got another number")


def pair(op: str, name: str, size: SupportsIndex | Sequence[int]) -> list[int]:
    """Rows and columns, which one number stands for where they are equal."""
    if isinstance(size, Sequence) and not isinstance(size, str):
        return list(size)
    try:
        side: Any = size if isinstance(size, (int, torch.SymInt)) else operator.index(size)
    except TypeError:
        raise RuntimeError(f"{op}: {name} must be one or two whole numbers, got {what_came(size)}.") from None
    return [side, side]


def check_kinds(op: str, name: str, maps: Tensor, boxes: Tensor) -> None:
    """What `check_regions` checks without a look at the regions' images."""
    require_float(op, name, maps)
    require(maps.dim() == 4, op, f"{name} must be [N, C, H, W], got {list(maps.shape)}")
    expected = f"boxes must have the dtype of {name} ({maps.dtype}) or be float32"
    require(boxes.dtype in (maps.dtype, torch.float32), op, f"{expected}, got {boxes.dtype}")
    require_device(op, "boxes", boxes, name, maps)
    require(boxes.dim() == 2 and boxes.shape[1] == 5, op, f"boxes must be [K, 5], got {list(boxes.shape)}")


def check_images_of(op: str, boxes: Tensor, images: int) -> None:
    """On the CPU, where looking costs nothing, an index of no image is an error. On a GPU such a region gives NaN."""
    if isinstance(boxes, FakeTensor) or torch.compiler.is_compiling() or _is_transformed(boxes):
        return
    index = boxes.detach()[:, 0]
    wrong = (~((index > -1) & (index < images))).nonzero()
    if len(wrong):
        at = f"boxes[{int(wrong[0])}, 0]"
        require(False, op, f"{at} must be the index of one of {images} images, got another number")


def _is_transformed(tensor: Tensor) -> bool:
    """Inside vmap, or some other transform that hides the values."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def sound_regions(boxes: Tensor, images: int) -> Tensor:
    """``[K]``: whether a region is of one of the images and has finite coordinates. One that is not gives NaN."""
    return (boxes[:, 0] > -1) & (boxes[:, 0] < images) & boxes[:, 1:].isfinite().all(1)


def fold_mapped(
    size: int, maps: Tensor, maps_dim: int | None, boxes: Tensor, boxes_dim: int | None
) -> tuple[Tensor, Tensor]:
    """One call's arguments for the ``size`` calls of a vmap: maps ``[V * N, C, H, W]``, regions ``[V * K, 5]``.

    Maps that are not mapped stay ``[N, C, H, W]``. The results are those of V calls with K regions each.
    """
    rows = boxes.movedim(boxes_dim, 0) if boxes_dim is not None else boxes.expand(size, *boxes.shape)
    if maps_dim is None:
        return maps, rows.flatten(0, 1)
    maps = maps.movedim(maps_dim, 0)
    images = maps.shape[1]
    # Half precision has no room for the larger indices.
    rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    index = rows[..., :1]
    shifted = index + images * torch.arange(size, dtype=rows.dtype, device=rows.device)[:, None, None]
    index = torch.where((index > -1) & (index < images), shifted, -1)
    return maps.flatten(0, 1), torch.cat((index, rows[..., 1:]), -1).flatten(0, 1)


def shard_regions(maps: Any, boxes: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    """DTensor: every region by itself on whole maps, since indices are global; or every channel by itself."""
    from torch.distributed.tensor import Replicate, Shard

    fixed = [None for _ in rest]
    return [
        ([Replicate()], [Replicate(), Replicate(), *fixed]),
        ([Shard(0)], [Replicate(), Shard(0), *fixed]),
        ([Shard(1)], [Shard(1), Replicate(), *fixed]),
    ]
