"""What the wing's operators refuse, in the words of csrc/roi/roi_align_checks.h."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...._checks import require, require_device, require_float, require_like, require_same_shape
from ..regions import check_images_of, check_regions, check_spatial_scale
from .reference import level_range

FLOAT32 = torch.float32
MODES = ("avg", "max")
MOST_LEVELS = 16


def _check_output_size(op: str, output_size: Sequence[int]) -> None:
    numbers = list(output_size)
    require(len(numbers) == 2, op, f"output_size must be two numbers, got {len(numbers)}")
    for number in numbers:
        require(number > 0, op, f"output_size must be positive, got {numbers}")


def _check_samples(op: str, sampling_ratio: int) -> None:
    most = 2**31 - 1
    require(sampling_ratio <= most, op, f"sampling_ratio must be at most {most}, got {sampling_ratio}")


def _check_mode(op: str, mode: str) -> None:
    require(mode in MODES, op, f"mode must be 'avg' or 'max', got '{mode}'")


def check_roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    mode: str = "avg",
    differentiable_boxes: bool = False,
    channels_last: bool = False,
) -> None:
    op = "roi_align"
    check_regions(op, "input", input, boxes)
    _check_output_size(op, output_size)
    check_spatial_scale(op, spatial_scale)
    _check_samples(op, sampling_ratio)
    _check_mode(op, mode)


def _check_grad(op: str, grad: Tensor, boxes: Tensor, images: int) -> None:
    """``grad`` is ``[K, C, bins, bins]``."""
    require_float(op, "grad", grad)
    require(grad.dim() == 4, op, f"grad must be [K, C, H, W], got {list(grad.shape)}")
    expected = f"boxes must have the dtype of grad ({grad.dtype}) or be float32"
    require(boxes.dtype in (grad.dtype, FLOAT32), op, f"{expected}, got {boxes.dtype}")
    require_device(op, "boxes", boxes, "grad", grad)
    wanted = f"boxes must be [{grad.shape[0]}, 5], got {list(boxes.shape)}"
    require(boxes.dim() == 2 and boxes.shape[1] == 5, op, wanted)
    require(boxes.shape[0] == grad.shape[0], op, wanted)
    _check_output_size(op, grad.shape[2:])
    if boxes.device.type == "cpu":
        check_images_of(op, boxes, images)


def check_roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    input: Tensor | None,
    input_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    mode: str,
    differentiable_boxes: bool,
    channels_last: bool,
) -> None:
    op = "roi_align_backward"
    sizes = list(input_size)
    require(len(sizes) == 3, op, f"input_size must be three numbers, got {len(sizes)}")
    for size in sizes:
        require(size >= 0, op, f"input_size must not be negative, got {sizes}")
    _check_grad(op, grad, boxes, sizes[0])
    check_spatial_scale(op, spatial_scale)
    _check_samples(op, sampling_ratio)
    _check_mode(op, mode)
    needed = mode == "max" or differentiable_boxes
    require(not needed or input is not None, op, "input must be given for mode 'max' and for gradients of boxes")
    if input is not None:
        require_like(op, "input", input, "grad", grad)
        images, height, width = sizes
        expected = [images, grad.shape[1], height, width]
        require_same_shape(op, "input", input, "input_size", expected)


def _check_scales(op: str, scales: Sequence[float], levels: int) -> None:
    require(1 <= levels <= MOST_LEVELS, op, f"features must be 1 to {MOST_LEVELS} tensors, got {levels}")
    require(len(scales) == levels, op, f"scales must be one per level ({levels}), got {len(scales)}")
    for scale in scales:
        require(0 < scale < float("inf"), op, f"scales must be positive, got {scale:g}")
    finest, coarsest = level_range(scales)
    span = coarsest - finest
    wanted = f"scales must fall, to no less than 2^-{MOST_LEVELS - 1} of the first"
    require(0 <= span < MOST_LEVELS, op, f"{wanted}, got {scales[0]:g} and {scales[-1]:g} at the ends")


def _check_canonical_scale(op: str, canonical_scale: int) -> None:
    require(canonical_scale > 0, op, f"canonical_scale must be positive, got {canonical_scale}")


def check_multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    output_size: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    canonical_scale: int = 224,
    canonical_level: int = 4,
    aligned: bool = False,
) -> None:
    op = "multiscale_roi_align"
    _check_scales(op, scales, len(features))
    first = features[0]
    check_regions(op, "features[0]", first, boxes)
    for i, level in enumerate(features):
        name = f"features[{i}]"
        require(level.dim() == 4, op, f"{name} must be [N, C, H, W], got {list(level.shape)}")
        expected = f"{name} must have the images and channels of features[0] ({list(first.shape[:2])})"
        for d in range(2):
            require(level.shape[d] == first.shape[d], op, f"{expected}, got {list(level.shape[:2])}")
        require_like(op, name, level, "features[0]", first)
    _check_output_size(op, output_size)
    _check_samples(op, sampling_ratio)
    _check_canonical_scale(op, canonical_scale)


def check_multiscale_roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    feature_sizes: Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int,
    canonical_scale: int,
    canonical_level: int,
    aligned: bool,
    channels_last: bool,
) -> None:
    op = "multiscale_roi_align_backward"
    sizes = list(feature_sizes)
    _check_scales(op, scales, len(scales))
    wanted = f"feature_sizes must be {2 * len(scales) + 1} numbers, got {len(sizes)}"
    require(len(sizes) == 2 * len(scales) + 1, op, wanted)
    for size in sizes:
        require(size >= 0, op, f"feature_sizes must not be negative, got {sizes}")
    _check_grad(op, grad, boxes, sizes[0])
    _check_samples(op, sampling_ratio)
    _check_canonical_scale(op, canonical_scale)
