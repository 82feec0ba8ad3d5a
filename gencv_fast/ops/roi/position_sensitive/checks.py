"""Checks of the wing's arguments; word for word those of csrc/roi/position_sensitive_checks.h."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...._checks import require, require_like
from ..regions import check_images_of, check_kinds

#: The kernels count the pixels of a plane in 32 bits.
MOST_PIXELS = 2**30


def _check_images(op: str, boxes: Tensor, images: int) -> None:
    if boxes.device.type == "cpu":
        check_images_of(op, boxes, images)


def _check_planes(op: str, height: int, width: int) -> None:
    message = f"input must have at most {MOST_PIXELS} pixels in a plane, got {height} x {width}"
    require(height * width <= MOST_PIXELS, op, message)


def _check_forward(op: str, input: Tensor, boxes: Tensor, output_size: Sequence[int]) -> None:
    check_kinds(op, "input", input, boxes)
    sizes = list(output_size)
    message = f"output_size must be two positive numbers, got {sizes}"
    require(len(sizes) == 2, op, message)
    for size in sizes:
        require(size > 0, op, message)
    height, width = sizes
    expected = f"input must have a multiple of {height} * {width} channels"
    require(input.shape[1] % (height * width) == 0, op, f"{expected}, got {input.shape[1]}")
    _check_planes(op, *input.shape[2:])
    _check_images(op, boxes, input.shape[0])


def _check_grad(op: str, grad: Tensor, regions: int, channels: int) -> None:
    expected = f"grad must be [K, c, h, w] for {regions} boxes and c * h * w = {channels} channels"
    message = f"{expected}, got {list(grad.shape)}"
    require(grad.dim() == 4, op, message)
    k, c, h, w = grad.shape
    require(k == regions, op, message)
    require(h * w > 0, op, message)
    require(c * h * w == channels, op, message)


def _check_backward(op: str, grad: Tensor, boxes: Tensor, input_size: Sequence[int]) -> None:
    check_kinds(op, "grad", grad, boxes)
    sizes = list(input_size)
    message = f"input_size must be four numbers that are not negative, got {sizes}"
    require(len(sizes) == 4, op, message)
    for size in sizes:
        require(size >= 0, op, message)
    _check_grad(op, grad, boxes.shape[0], sizes[1])
    _check_planes(op, *sizes[2:])
    _check_images(op, boxes, sizes[0])


def check_ps_roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    differentiable_boxes: bool = False,
) -> None:
    _check_forward("ps_roi_align", input, boxes, output_size)


def check_ps_roi_pool(input: Tensor, boxes: Tensor, output_size: Sequence[int], spatial_scale: float = 1.0) -> None:
    _check_forward("ps_roi_pool", input, boxes, output_size)


def check_ps_roi_align_backward(
    grad: Tensor, boxes: Tensor, input_size: Sequence[int], spatial_scale: float, sampling_ratio: int
) -> None:
    _check_backward("ps_roi_align_backward", grad, boxes, input_size)


def check_ps_roi_pool_backward(grad: Tensor, boxes: Tensor, input_size: Sequence[int], spatial_scale: float) -> None:
    _check_backward("ps_roi_pool_backward", grad, boxes, input_size)


def check_ps_roi_align_boxes_backward(
    grad: Tensor, input: Tensor, boxes: Tensor, spatial_scale: float, sampling_ratio: int
) -> None:
    op = "ps_roi_align_boxes_backward"
    check_kinds(op, "input", input, boxes)
    require_like(op, "grad", grad, "input", input)
    _check_grad(op, grad, boxes.shape[0], input.shape[1])
    _check_planes(op, *input.shape[2:])
    _check_images(op, boxes, input.shape[0])
