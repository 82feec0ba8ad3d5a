"""Convolutions that do not see what an order of pixels and colours hides, and their gate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._checks import require, why_wrong_type
from .contract import GATED_ACTIVATION, MASKED_CONV2D
from .locations import locally_masked_conv2d
from .taps import tap_rules

__all__ = ["gated_activation", "masked_conv2d"]


def _pair(number: int | Sequence[int]) -> list[int]:
    return [number, number] if isinstance(number, int) else list(number)


def _require_same(padding: str | int | Sequence[int], kernel_size: Sequence[int], dilation: Sequence[int]) -> None:
    """Numbers are taken where they mean the same."""
    if padding == "same":
        return
    numbers = None if isinstance(padding, str) else _pair(padding)
    same = [(size - 1) * d / 2 for size, d in zip(kernel_size, dilation, strict=True)]
    shown = ", ".join(f"{number:g}" for number in same)
    message = f"padding must be 'same' or the numbers that keep the size ({shown}), got {padding!r}"
    require(numbers == same, "masked_conv2d", message)


def _kernel_size(weight: Tensor) -> list[int]:
    reason = why_wrong_type("weight", weight, "Tensor")
    require(reason is None, "masked_conv2d", str(reason))
    shape = list(weight.shape)
    message = f"weight must be [out, in, rows, columns] with rows and columns, got {shape}"
    require(len(shape) == 4, "masked_conv2d", message)
    return shape[2:]


def _wants_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask_type: str = "B",
    channel_groups: int = 1,
    dilation: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = "same",
    *,
    ordering: str = "raster",
    order: int | None = None,
    activation: str = "none",
    condition: Tensor | None = None,
    taps: Sequence[int] | None = None,
    halves: int | None = None,
    shift: Sequence[int] = (0, 0),
    location_mask: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """A convolution that sees what comes earlier in an order of the pixels, and nothing of what comes later.

    What is hidden is not multiplied, forward or backward: its weights get a gradient of exactly zero, and NaN there
    changes nothing. The weight is never modified.

    Args:
        input: ``[N, C, H, W]``, any strides; fp16, bf16, fp32 or fp64.
        weight: ``[O, C, rows, columns]``; the centre is ``(rows // 2, columns // 2)``.
        bias: ``[O]``.
        mask_type: ``"A"`` hides the centre, ``"B"`` shows it. Of the two stacks of a gated PixelCNN, ``"vertical_A"``
            sees the lines before the pixel's own, ``"vertical_B"`` that line as well, all of it; ``"horizontal_A"``
            and ``"horizontal_B"`` see the pixel's own line.
        channel_groups: colours: input and output channels are so many equal blocks. At the centre a colour sees the
            earlier colours, with B its own too.
        dilation: pixels from tap to tap, one number or (rows, columns).
        padding: ``"same"``, or the numbers that keep the size.
        ordering: the eight raster orders, at one speed: ``"raster"`` (rows from the top, pixels from the left),
            ``"raster_flip_x"``, ``"raster_flip_y"``, ``"raster_flip_xy"`` (the same of an image so flipped), and
            ``"columns"``, ``"columns_flip_x"``, ``"columns_flip_y"``, ``"columns_flip_xy"`` (columns for rows).
        order: of a Markov model: taps more than so many steps up, down, left and right from the centre are hidden.
        activation: of the sums: ``"none"``, ``"relu"``, ``"elu"``, ``"concat_elu"`` (elu(x), and behind it elu(-x))
            or ``"gate"`` (tanh of the first half of the channels by the sigmoid of the second).
        condition: ``[N, O]`` or ``[N, O, H, W]``, added to the sums before the activation.
        taps: in the place of mask_type, ordering and order, a number for each tap, by rows: 0 hidden, 1 all
            channels, 2 earlier colours, 3 earlier colours and the same one.
        halves: 2 where the output channels are two halves that each have all colours, as before a gate; else 1.
        shift: by how many rows and columns the result is moved, down and to the right, zeros coming after.
        location_mask: ``[H * W, rows * columns]``: what each pixel sees, in the place of all other masks: any order
            of the pixels. Plain PyTorch, which multiplies all taps, so slower, and without channel_groups.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[N, O, H, W]``, with concat_elu ``2 * O`` and with gate ``O / 2`` channels, of input's dtype and memory
        format. fp16 and bf16 are summed in fp32.

    Raises:
        RuntimeError: a wrong shape, dtype or device; channels that the groups do not divide; an unknown name.

    Example:
        >>> import torch, gencv_fast
        >>> image = torch.arange(1.0, 7.0).view(1, 1, 2, 3)
        >>> gencv_fast.masked_conv2d(image, torch.ones(1, 1, 3, 3), mask_type="A")
        tensor([[[[ 0.,  1.,  2.],
                  [ 3., 10., 10.]]]])

    Papers: van den Oord et al., *Pixel Recurrent Neural Networks*, ICML 2016, and *Conditional Image Generation with
    PixelCNN Decoders*, NeurIPS 2016; Jain et al., *Locally Masked Convolution*, UAI 2020.
    """
    pair, size = _pair(dilation), _kernel_size(weight)
    _require_same(padding, size, pair)
    if location_mask is not None:
        message = "location_mask takes none of channel_groups, activation, condition, taps, shift and backend"
        plain = channel_groups == 1 and activation == "none" and condition is None and taps is None
        require(plain and tuple(shift) == (0, 0) and backend in (None, "reference"), "masked_conv2d", message)
        return locally_masked_conv2d(input, weight, bias, location_mask, pair)
    rules = tap_rules(mask_type, size, ordering, order) if taps is None else list(taps)
    halves = (2 if activation == "gate" else 1) if halves is None else halves
    geometry = (rules, channel_groups, halves, pair, list(shift))
    if activation == "gate" and _wants_gradient(input, weight, bias, condition):
        # Backward reads the sums again: kept, they cost less than another convolution.
        sums = MASKED_CONV2D(input, weight, bias, condition, *geometry, "none", backend=backend)
        return GATED_ACTIVATION(sums, None, backend=backend)
    return MASKED_CONV2D(input, weight, bias, condition, *geometry, activation, backend=backend)


def gated_activation(input: Tensor, condition: Tensor | None = None, *, backend: str | None = None) -> Tensor:
    """``tanh(a) * sigmoid(b)`` of the two halves of the channels, in one pass, forward and backward.

    Args:
        input: ``[N, 2 * C, H, W]``, any strides; fp16, bf16, fp32 or fp64.
        condition: ``[N, 2 * C]`` or ``[N, 2 * C, H, W]``, added to input before.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        ``[N, C, H, W]`` of input's dtype and memory format.

    Raises:
        RuntimeError: an odd number of channels; a wrong shape, dtype or device.

    Example:
        >>> import torch, gencv_fast
        >>> gencv_fast.gated_activation(torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)).item()
        0.231...

    Paper: van den Oord et al., *Conditional Image Generation with PixelCNN Decoders*, NeurIPS 2016.
    """
    return GATED_ACTIVATION(input, condition, backend=backend)
