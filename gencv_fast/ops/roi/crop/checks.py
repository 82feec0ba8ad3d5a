"""What the operators of the wing refuse, word for word as csrc/roi/crop_checks.h."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from ...._checks import FLOATS, require, require_device, require_float

METHODS = ("bilinear", "nearest")


def result_dtype(images: Tensor) -> torch.dtype:
    return images.dtype if images.is_floating_point() else torch.float32


def is_channels_last(images: Tensor) -> bool:
    """Whether the channels of a pixel are neighbours and pixels follow each other: then the result is alike."""
    channels = images.shape[1]
    return bool(channels > 1 and images.stride(1) == 1 and images.stride(3) == channels)


def _check_images(op: str, images: Tensor) -> None:
    expected = "images must be uint8, float16, bfloat16, float32 or float64"
    require(images.dtype in (torch.uint8, *FLOATS), op, f"{expected}, got {images.dtype}")
    require(images.dim() == 4, op, f"images must be [N, C, H, W], got {list(images.shape)}")
    has_pixels = images.shape[2] > 0 and images.shape[3] > 0
    require(has_pixels, op, f"images must have at least one row and one column, got {list(images.shape)}")


def _check_boxes(op: str, name: str, maps: Tensor, boxes: Tensor, box_indices: Tensor) -> None:
    """`maps`, called `name`, has the dtype and the device that boxes must have."""
    if maps.is_floating_point():
        expected = f"boxes must have the dtype of {name} ({maps.dtype}) or be float32"
        require(boxes.dtype in (maps.dtype, torch.float32), op, f"{expected}, got {boxes.dtype}")
    else:
        require_float(op, "boxes", boxes)
    require_device(op, "boxes", boxes, name, maps)
    require(boxes.dim() == 2 and boxes.shape[1] == 4, op, f"boxes must be [K, 4], got {list(boxes.shape)}")
    whole = box_indices.dtype in (torch.int32, torch.int64)
    require(whole, op, f"box_indices must be int32 or int64, got {box_indices.dtype}")
    require_device(op, "box_indices", box_indices, name, maps)
    shape = f"box_indices must be [K] with K = {boxes.shape[0]}, got {list(box_indices.shape)}"
    require(box_indices.dim() == 1, op, shape)
    require(box_indices.shape[0] == boxes.shape[0], op, shape)


def _check_indices(op: str, box_indices: Tensor, images: int) -> None:
    """On the CPU, where looking costs nothing, an index of no image is an error. On a GPU such a box gives NaN."""
    hidden = isinstance(box_indices, FakeTensor) or torch._C._functorch.is_functorch_wrapped_tensor(box_indices)
    if box_indices.device.type != "cpu" or hidden or torch.compiler.is_compiling():
        return
    wrong = ((box_indices < 0) | (box_indices >= images)).nonzero()
    if len(wrong):
        k = int(wrong[0])
        got = int(box_indices[k])
        require(False, op, f"box_indices[{k}] must be the index of one of {images} images, got {got}")


def _check_method(op: str, method: str) -> None:
    require(method in METHODS, op, f"method must be 'bilinear' or 'nearest', got '{method}'")


def _check_channels(op: str, name: str, numbers: Sequence[float] | None, channels: int) -> None:
    if numbers is not None:
        message = f"{name} must be one number for each of {channels} channels, got {len(numbers)}"
        require(len(numbers) == channels, op, message)


def check_crop_and_resize(
    images: Tensor,
    boxes: Tensor,
    box_indices: Tensor,
    size: Sequence[int],
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    differentiable_boxes: bool = False,
) -> None:
    op = "crop_and_resize"
    _check_images(op, images)
    _check_boxes(op, "images", images, boxes, box_indices)
    require(len(size) == 2, op, f"size must be (height, width), got {len(size)} numbers")
    require(size[0] > 0 and size[1] > 0, op, f"size must be positive, got ({size[0]}, {size[1]})")
    _check_method(op, method)
    _check_channels(op, "mean", mean, images.shape[1])
    _check_channels(op, "std", std, images.shape[1])
    has_derivative = method == "bilinear" or not differentiable_boxes
    require(has_derivative, op, f"differentiable_boxes must be False for method '{method}', got True")
    _check_indices(op, box_indices, images.shape[0])


def _check_grad_rank(op: str, grad: Tensor) -> None:
    require(grad.dim() == 4, op, f"grad must be [K, C, height, width], got {list(grad.shape)}")
    has_pixels = grad.shape[2] > 0 and grad.shape[3] > 0
    require(has_pixels, op, f"grad must have at least one row and one column, got {list(grad.shape)}")


def check_crop_and_resize_backward(
    grad: Tensor,
    boxes: Tensor,
    box_indices: Tensor,
    image_size: Sequence[int],
    method: str,
    std: Sequence[float] | None,
) -> None:
    op = "crop_and_resize_backward"
    require_float(op, "grad", grad)
    _check_grad_rank(op, grad)
    _check_boxes(op, "grad", grad, boxes, box_indices)
    crops = f"grad must have the length of boxes ({boxes.shape[0]}), got {list(grad.shape)}"
    require(grad.shape[0] == boxes.shape[0], op, crops)
    require(len(image_size) == 3, op, f"image_size must be (number, height, width), got {len(image_size)} numbers")
    number, height, width = image_size
    possible = number >= 0 and height > 0 and width > 0
    require(possible, op, f"image_size must be of images with pixels, got ({number}, {height}, {width})")
    _check_method(op, method)
    _check_channels(op, "std", std, grad.shape[1])
    _check_indices(op, box_indices, number)


def check_crop_and_resize_boxes_backward(
    grad: Tensor, images: Tensor, boxes: Tensor, box_indices: Tensor, std: Sequence[float] | None
) -> None:
    op = "crop_and_resize_boxes_backward"
    _check_images(op, images)
    _check_boxes(op, "images", images, boxes, box_indices)
    dtype = result_dtype(images)
    require(grad.dtype == dtype, op, f"grad must have the dtype of the result ({dtype}), got {grad.dtype}")
    require_device(op, "grad", grad, "images", images)
    _check_grad_rank(op, grad)
    count, channels = boxes.shape[0], images.shape[1]
    expected = f"grad must have the length of boxes ({count}) and {channels} channels, got {list(grad.shape)}"
    require(grad.shape[0] == count, op, expected)
    require(grad.shape[1] == channels, op, expected)
    _check_channels(op, "std", std, channels)
    _check_indices(op, box_indices, images.shape[0])
