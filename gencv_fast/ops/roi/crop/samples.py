"""Inputs of the wing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...._samples import ErrorSample, Sample, Tolerances
from .checks import result_dtype

Args = tuple[Any, ...]

HUGE = [[-1e38, -1e38, 1e38, 1e38], [-3e38, 0.0, 3e38, 1.0], [0.2, 0.2, 3e38, 0.9], [0.1, 0.1, 0.9, 0.8]]
NOT_FINITE = [[math.nan, 0.1, 0.9, 0.8], [0.1, 0.2, math.inf, 0.9], [0.3, 0.1, 0.8, 0.7], [0.0, -math.inf, 1.0, 1.0]]


def random_images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def random_bytes(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def random_boxes(count: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Tensor:
    """Boxes ``[count, 4]`` with corners in [low, high), not reversed."""
    generator = torch.Generator().manual_seed(seed + count)
    corners = low + (high - low) * torch.rand(count, 2, 2, generator=generator, dtype=torch.float64)
    return corners.sort(1).values.flatten(1)


def _args(
    images: Tensor,
    boxes: Any,
    size: tuple[int, int],
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    differentiable_boxes: bool = False,
    indices: torch.dtype = torch.int64,
) -> Args:
    boxes = torch.as_tensor(boxes, dtype=torch.float64)
    box_indices = (3 * torch.arange(len(boxes)) + 1) % max(images.shape[0], 1)
    tail = (size, method, extrapolation_value, mean, std, differentiable_boxes)
    return (images, boxes, box_indices.to(indices), *tail)


def _channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)


def _cases() -> dict[str, Args]:
    """The plainest first."""
    images, boxes = random_images(2, 3, 9, 11), random_boxes(5)
    wide, many = random_images(2, 2, 5, 170), random_images(2, 67, 6, 7)
    around = random_boxes(6, -0.4, 1.4, seed=2)
    mean, std = [0.5, -0.25, 0.125], [0.5, 2.0, 1.5]
    return {
        "plain": _args(images, boxes, (4, 6)),
        "normalised": _args(images, around, (5, 7), "bilinear", 0.75, mean, std),
        "differentiable boxes": _args(images, around, (5, 7), differentiable_boxes=True),
        "more boxes": _args(images, random_boxes(17), (4, 6)),
        "enlarged": _args(images, boxes, (21, 35)),
        "reduced": _args(wide, boxes, (3, 20)),
        "reduced to a few": _args(wide, boxes, (3, 4)),
        "many channels": _args(many, boxes, (3, 4)),
        "reversed": _args(images, boxes[:, [2, 3, 0, 1]], (4, 6)),
        "half reversed": _args(images, boxes[:, [0, 3, 2, 1]], (4, 6)),
        "outside": _args(images, around, (6, 19), extrapolation_value=-1.5),
        "far outside": _args(images, around + 5, (4, 6), extrapolation_value=2.5),
        "whole images": _args(images, [[0, 0, 1, 1], [1, 1, 0, 0]], (7, 13)),
        "images as they are": _args(images, [[0, 0, 1, 1], [0, 0, 1, 1]], (9, 11)),
        "pixels": _args(images, boxes, (1, 1)),
        "rows": _args(images, around, (1, 6)),
        "columns": _args(images, around, (5, 1)),
        "zero area": _args(images, boxes[:, [0, 1, 0, 1]], (4, 6)),
        "one pixel images": _args(random_images(2, 3, 1, 1), around, (2, 3)),
        "nearest": _args(images, boxes, (4, 6), "nearest"),
        "nearest outside": _args(images, around, (5, 18), "nearest", 0.25, mean, std),
        "nearest enlarged": _args(wide, around, (11, 400), "nearest"),
        "mean alone": _args(images, boxes, (4, 6), mean=mean),
        "std alone": _args(images, boxes, (4, 6), std=std),
        "int32 indices": _args(images, boxes, (4, 6), indices=torch.int32),
        "bytes": _args(random_bytes(2, 3, 9, 40), around, (4, 26), extrapolation_value=7.0),
        "bytes normalised": _args(
            random_bytes(2, 3, 9, 11), around, (4, 6), "bilinear", 128.0, [120.0] * 3, [58.0] * 3
        ),
        "bytes nearest": _args(random_bytes(2, 3, 9, 11), around, (4, 6), "nearest"),
        "bytes channels last": _args(_channels_last(random_bytes(2, 3, 9, 40)), around, (4, 26)),
        "bytes, differentiable boxes": _args(random_bytes(2, 3, 9, 11), around, (4, 6), differentiable_boxes=True),
        "normalised, differentiable boxes": _args(images, around, (4, 6), "bilinear", 0.5, mean, std, True),
        "channels last": _args(_channels_last(images), around, (5, 7), "bilinear", 0.75, mean, std),
        "channels last, wide": _args(_channels_last(wide), around, (5, 60)),
        "channels last, tall": _args(_channels_last(images), around, (70, 5)),
        "channels last, nearest": _args(_channels_last(images), around, (5, 7), "nearest", 0.75),
        "many channels last": _args(
            _channels_last(many), around, (5, 7), "bilinear", 0.75, None, [2.0 + i for i in range(67)]
        ),
        "many channels last, nearest": _args(_channels_last(many), around, (5, 7), "nearest", 0.75),
        "many channels last, differentiable boxes": _args(
            _channels_last(many), around, (5, 7), differentiable_boxes=True
        ),
        "a window": _args(_channels_last(random_images(2, 3, 12, 14))[:, :, 2:9, 3:11], around, (5, 7)),
        "every second": _args(random_images(4, 5, 9, 20)[::2, ::2, ::2, ::2], around, (4, 6)),
        "expanded": _args(random_images(1, 3, 9, 11).expand(2, 3, 9, 11), around, (4, 6)),
        "transposed boxes": _args(images, random_boxes(4).T.contiguous().T, (4, 6)),
        "no boxes": _args(images, boxes[:0], (4, 6)),
        "no images": _args(images[:0], boxes[:0], (4, 6)),
        "no channels": _args(images[:, :0], boxes, (4, 6)),
        "huge": _args(images, HUGE, (4, 6), extrapolation_value=3.0),
        "not finite": _args(images, NOT_FINITE, (4, 6)),
        "not finite, one pixel": _args(images, NOT_FINITE, (1, 1)),
        "not finite, differentiable boxes": _args(images, NOT_FINITE, (4, 6), differentiable_boxes=True),
    }


def _crops() -> list[Sample]:
    found = []
    for name, args in _cases().items():
        # Without a gradient of the boxes nothing of a call on bytes has one.
        differentiable = args[0].is_floating_point() or args[-1]
        exportable = name not in ("huge", "no channels") and not name.startswith("not finite")
        found.append(Sample(name, args, exportable, differentiable))
    return found


def _grad(args: Args) -> Tensor:
    """An incoming gradient, in the layout of the result."""
    images, boxes, _, (height, width), *_ = args
    shape = len(boxes), images.shape[1], height, width
    values = torch.cos(torch.arange(math.prod(shape), dtype=torch.float64) * 1.7).view(shape)
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return _channels_last(values) if channels_last else values


def _with_nan(grad: Tensor) -> Tensor:
    grad = grad.clone()
    grad[0, 0, 1, 2] = math.nan
    return grad


def _backwards() -> list[Sample]:
    found = []
    for name, args in _cases().items():
        images, boxes, indices, _, method, _, _, std, _ = args
        if images.is_floating_point():
            size = (images.shape[0], *images.shape[2:])
            found.append(Sample(name, (_grad(args), boxes, indices, size, method, std)))
    grad, *rest = found[0].args
    expanded = (torch.ones((), dtype=torch.float64).expand(grad.shape), *rest)
    return [*found, Sample("NaN", (_with_nan(grad), *rest), differentiable=False), Sample("expanded grad", expanded)]


def _boxes_backwards() -> list[Sample]:
    found = []
    for name, args in _cases().items():
        images, boxes, indices, _, method, _, _, std, _ = args
        if method == "bilinear":
            found.append(Sample(name, (_grad(args), images, boxes, indices, std)))
    grad, *rest = found[0].args
    return [*found, Sample("NaN", (_with_nan(grad), *rest))]


def _keeping_strides(t: Tensor, dtype: torch.dtype) -> Tensor:
    """``t`` in another dtype, still a view of the same kind: `Tensor.to` makes views dense."""
    storage = t.new_empty(0).set_(t.untyped_storage())
    return storage.to(dtype).as_strided(t.shape, t.stride(), t.storage_offset())


def _converted(args: Args, dtype: torch.dtype) -> Args:
    def convert(a: Any) -> Any:
        return _keeping_strides(a, dtype) if isinstance(a, Tensor) and a.is_floating_point() else a

    return tuple(convert(a) for a in args)


def sample_inputs(op_name: str, dtype: torch.dtype) -> list[Sample]:
    """Legal calls, the plainest first."""
    found = {
        "crop_and_resize": _crops,
        "crop_and_resize_backward": _backwards,
        "crop_and_resize_boxes_backward": _boxes_backwards,
    }[op_name]()
    samples = [Sample(s.name, _converted(s.args, dtype), s.exportable, s.differentiable) for s in found]
    if op_name == "crop_and_resize_boxes_backward":
        # The gradient has the dtype of the result, which is float32 for bytes.
        samples = [
            Sample(s.name, (s.args[0].to(result_dtype(s.args[1])), *s.args[1:]), s.exportable, s.differentiable)
            for s in samples
        ]
    at = 2 if op_name == "crop_and_resize_boxes_backward" else 1
    args = tuple(a.float() if i == at else a for i, a in enumerate(samples[0].args))
    return [*samples, Sample("boxes of float32", args)]


def _boxes_errors(before: Args, after: Args) -> list[ErrorSample]:
    """Of boxes and their indices, between the other arguments."""
    boxes, indices = random_boxes(3).float(), torch.tensor([0, 1, 0])

    def error(name: str, b: Tensor, i: Tensor, message: str) -> ErrorSample:
        return ErrorSample(name, (*before, b, i, *after), message)

    return [
        error("dtype of boxes", boxes.double(), indices, r"boxes must have the dtype of \w+ \(torch.float32\) or be"),
        error("shape of boxes", boxes[:, :3], indices, r"boxes must be \[K, 4\], got \[3, 3\]"),
        error("rank of boxes", boxes[0], indices, r"boxes must be \[K, 4\], got \[4\]"),
        error("dtype of box_indices", boxes, indices.float(), "box_indices must be int32 or int64, got torch.float32"),
        error("length of box_indices", boxes, indices[:2], r"box_indices must be \[K\] with K = 3, got \[2\]"),
        error("rank of box_indices", boxes, indices[:, None], r"with K = 3, got \[3, 1\]"),
    ]


def _crop_errors() -> list[ErrorSample]:
    images, boxes, indices = random_images(2, 3, 5, 6).float(), random_boxes(3).float(), torch.tensor([0, 1, 0])
    tail = ("bilinear", 0.0, None, None, False)

    def error(name: str, message: str, i: Tensor = images, size: Any = (4, 4), tail: Args = tail) -> ErrorSample:
        return ErrorSample(name, (i, boxes, indices, size, *tail), message)

    return [
        error("dtype of images", "images must be uint8, float16, .* got torch.int64", images.long()),
        error("rank of images", r"images must be \[N, C, H, W\], got \[3, 5, 6\]", images[0]),
        error("no rows", r"at least one row and one column, got \[2, 3, 0, 6\]", images[:, :, :0]),
        *_boxes_errors((images,), ((4, 4), *tail)),
        ErrorSample(
            "boxes of bytes",
            (images.byte(), boxes.long(), indices, (4, 4), *tail),
            "boxes must be float16, bfloat16, float32 or float64, got torch.int64",
        ),
        error("length of size", r"size must be \(height, width\), got 3 numbers", size=(4, 4, 4)),
        error("size", r"size must be positive, got \(4, 0\)", size=(4, 0)),
        error("method", "method must be 'bilinear' or 'nearest', got 'cubic'", tail=("cubic", *tail[1:])),
        error(
            "mean",
            "mean must be one number for each of 3 channels, got 2",
            tail=("nearest", 0.0, [1.0] * 2, None, False),
        ),
        error(
            "std", "std must be one number for each of 3 channels, got 4", tail=("nearest", 0.0, None, [1.0] * 4, False)
        ),
        error("derivative", "must be False for method 'nearest', got True", tail=("nearest", 0.0, None, None, True)),
    ]


def _backward_errors() -> list[ErrorSample]:
    grad, boxes = torch.ones(3, 2, 4, 4), random_boxes(3).float()
    indices = torch.tensor([0, 1, 0])
    tail = ((2, 5, 6), "bilinear", None)

    def error(name: str, message: str, g: Tensor = grad, tail: Args = tail) -> ErrorSample:
        return ErrorSample(name, (g, boxes, indices, *tail), message)

    return [
        error("dtype of grad", "grad must be float16, .* got torch.uint8", grad.byte()),
        error("rank of grad", r"grad must be \[K, C, height, width\], got \[2, 4, 4\]", grad[0]),
        error("no columns", r"at least one row and one column, got \[3, 2, 4, 0\]", grad[..., :0]),
        error("length of grad", r"grad must have the length of boxes \(3\), got \[2, 2, 4, 4\]", grad[:2]),
        *_boxes_errors((grad,), tail),
        error(
            "length of image_size", r"must be \(number, height, width\), got 2 numbers", tail=((5, 6), "nearest", None)
        ),
        error("image_size", r"images with pixels, got \(2, 0, 6\)", tail=((2, 0, 6), "nearest", None)),
        error("method", "method must be 'bilinear' or 'nearest', got 'cubic'", tail=((2, 5, 6), "cubic", None)),
        error("std", "std must be one number for each of 2 channels, got 3", tail=((2, 5, 6), "nearest", [1.0] * 3)),
    ]


def _boxes_backward_errors() -> list[ErrorSample]:
    images, boxes, indices = random_images(2, 3, 5, 6).float(), random_boxes(3).float(), torch.tensor([0, 1, 0])
    grad = torch.ones(3, 3, 4, 4)

    def error(name: str, message: str, g: Tensor = grad, i: Tensor = images, std: Any = None) -> ErrorSample:
        return ErrorSample(name, (g, i, boxes, indices, std), message)

    return [
        error("dtype of images", "images must be uint8, float16, .* got torch.int64", i=images.long()),
        error("rank of images", r"images must be \[N, C, H, W\], got \[3, 5, 6\]", i=images[0]),
        *_boxes_errors((grad, images), (None,)),
        error("dtype of grad", r"the dtype of the result \(torch.float32\), got torch.float64", grad.double()),
        error("rank of grad", r"grad must be \[K, C, height, width\], got \[3, 4, 4\]", grad[0]),
        error("length of grad", r"length of boxes \(3\) and 3 channels, got \[2, 3, 4, 4\]", grad[:2]),
        error("channels of grad", r"length of boxes \(3\) and 3 channels, got \[3, 2, 4, 4\]", grad[:, :2]),
        error("std", "std must be one number for each of 3 channels, got 1", std=[1.0]),
    ]


def error_inputs(op_name: str) -> list[ErrorSample]:
    """Calls that must raise, with the message."""
    return {
        "crop_and_resize": _crop_errors,
        "crop_and_resize_backward": _backward_errors,
        "crop_and_resize_boxes_backward": _boxes_backward_errors,
    }[op_name]()


def tolerances(op_name: str) -> Tolerances:
    return Tolerances()
