"""What stands between torchvision's detectors and torch.onnx.export, and what gets past it.

A wall is a function of torchvision that torch.export cannot trace, or traces into something else without a word. Each
has a replacement here that computes the same and can be exported. `past_walls` puts the replacements in place for the
time of an export.

That is process-wide: another thread that runs a torchvision model meanwhile runs the replacements too, which give it
the same detections in eval mode but refuse training targets. Exports of several threads wait for each other.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from ..ops.nms import batched_nms as class_aware_nms
from ..ops.roi import multiscale_roi_align, paste_masks
from ._resize import RESIZED_SIZE, resize_bilinear

_LOCK = RLock()


@dataclass(frozen=True)
class Wall:
    """An attribute of a torchvision module or class, and its exportable replacement.

    Attributes:
        owner: ``"package.module"`` or ``"package.module:Class"``.
        name: of the attribute.
        replacement: takes the same arguments; its docstring says what cannot be exported, and how that shows.
    """

    owner: str
    name: str
    replacement: Callable[..., Any]

    def find_owner(self) -> Any:
        module, _, name = self.owner.partition(":")
        found: Any = importlib.import_module(module)
        return getattr(found, name) if name else found


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """The original picks one of two algorithms by the number of boxes, which is unknown before the model runs.

    Shows as GuardOnDataDependentSymNode. `gencv_fast.batched_nms` is one operator, with the detections of the
    original's loop over classes.
    """
    return class_aware_nms(boxes, scores, idxs, iou_threshold)


def resize_image_and_masks(
    image: Tensor,
    self_min_size: int,
    self_max_size: int,
    target: dict[str, Tensor] | None = None,
    fixed_size: tuple[int, int] | None = None,
) -> tuple[Tensor, None]:
    """The original compares height with width, and computes the new size in a way that ONNX rounds differently.

    Silent: the model is exported, and wrong at other sizes than the traced one. `gencv_fast.onnx._resize` says how.
    """
    if target is not None:
        raise RuntimeError("export: a model with training targets cannot be exported, nor trained during an export.")
    if fixed_size is not None:
        size = (fixed_size[1], fixed_size[0])
    else:
        size = RESIZED_SIZE(image, float(self_min_size), float(self_max_size))
    return resize_bilinear(image, size), None


def batch_images(self: Any, images: Sequence[Tensor], size_divisible: int = 32) -> Tensor:
    """The original rounds the padded size up with ``int(math.ceil(float(...)))``, which turns a symbol into a number.

    Silent: every image is padded to the size that the traced one needed. Here symbols stay symbols.
    """
    height = _padded_size([image.shape[-2] for image in images], size_divisible)
    width = _padded_size([image.shape[-1] for image in images], size_divisible)
    padded = [
        torch.nn.functional.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in images
    ]
    return torch.stack(padded)


def _padded_size(sizes: Sequence[Any], divisor: int) -> Any:
    # Not -(-size // divisor): in ONNX, // rounds towards zero.
    return (reduce(torch.sym_max, sizes) + divisor - 1) // divisor * divisor


def decode(self: Any, rel_codes: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """``BoxCoder.decode`` of the original asks whether there are boxes, which is unknown before the model runs.

    Shows as GuardOnDataDependentSymNode, in two-stage detectors. No boxes need no case of their own here.
    """
    decoded = self.decode_single(rel_codes, torch.cat(list(boxes)))
    return decoded.unflatten(1, (decoded.shape[1] // 4, 4))


def pool_levels(
    x_filtered: Sequence[Tensor],
    boxes: Sequence[Tensor],
    output_size: Sequence[int],
    sampling_ratio: int,
    scales: Sequence[float],
    mapper: Any,
) -> Tensor:
    """The original asks for ``len`` of the regions, which must be a number, and is unknown before the model runs.

    Shows as "Could not extract specialized integer", in two-stage detectors. `gencv_fast.multiscale_roi_align` is one
    operator, whatever the number.
    """
    levels = (mapper.s0, mapper.lvl0)
    return multiscale_roi_align(x_filtered, boxes, None, output_size, sampling_ratio, *levels, scales=scales)


def paste_masks_in_image(masks: Tensor, boxes: Tensor, img_shape: tuple[int, int], padding: int = 1) -> Tensor:
    """The original loops over the masks, whose number is unknown before the model runs.

    Shows as GuardOnDataDependentSymNode, in Mask R-CNN. `gencv_fast.paste_masks` has no loop.
    """
    return paste_masks(masks, boxes, img_shape, padding=padding)


WALLS = (
    Wall("torchvision.ops.boxes", "batched_nms", batched_nms),
    Wall("torchvision.ops", "batched_nms", batched_nms),
    Wall("torchvision.models.detection.transform", "_resize_image_and_masks", resize_image_and_masks),
    Wall("torchvision.models.detection.transform:GeneralizedRCNNTransform", "batch_images", batch_images),
    Wall("torchvision.models.detection._utils:BoxCoder", "decode", decode),
    Wall("torchvision.ops.poolers", "_multiscale_roi_align", pool_levels),
    Wall("torchvision.models.detection.transform", "paste_masks_in_image", paste_masks_in_image),
)


@contextmanager
def past_walls(walls: Sequence[Wall] = WALLS) -> Iterator[None]:
    """Puts the replacements in place inside a ``with`` block; afterwards the originals are back, error or not."""
    if "torchvision" not in sys.modules:  # then no model is made of it
        yield
        return
    with _LOCK, ExitStack() as originals:
        for wall in walls:
            owner = wall.find_owner()
            originals.callback(setattr, owner, wall.name, getattr(owner, wall.name))
            setattr(owner, wall.name, wall.replacement)
        yield
