"""What the room refuses, in the words of csrc/masked_conv/masked_conv_checks.h."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..._checks import require, require_float, require_like, require_same_shape

ACTIVATIONS = ("none", "relu", "elu", "concat_elu", "gate")

#: The kernels are given a list of the taps that show something.
MOST_TAPS = 512


def _require_maps(op: str, name: str, maps: Tensor) -> None:
    require_float(op, name, maps)
    require(maps.dim() == 4, op, f"{name} must be [N, C, H, W], got {list(maps.shape)}")


def _require_pair(op: str, name: str, pair: Sequence[int], what: str) -> None:
    require(len(pair) == 2, op, f"{name} must be two {what}, got {list(pair)}")


def check_geometry(
    op: str,
    kernel_size: Sequence[int],
    taps: Sequence[int],
    channel_groups: int,
    halves: int,
    dilation: Sequence[int],
    shift: Sequence[int],
) -> None:
    height, width = kernel_size
    expected = f"taps must be {height} * {width} numbers from 0 to 3"
    require(len(taps) == height * width, op, f"{expected}, got {len(taps)} numbers")
    for rule in taps:
        require(0 <= rule <= 3, op, f"{expected}, got {rule}")
    seen = sum(rule > 0 for rule in taps)
    require(seen <= MOST_TAPS, op, f"taps must show at most {MOST_TAPS} places, got {seen}")
    require(channel_groups >= 1, op, f"channel_groups must be positive, got {channel_groups}")
    require(1 <= halves <= 2, op, f"halves must be 1 or 2, got {halves}")
    _require_pair(op, "dilation", dilation, "positive numbers")
    for number in dilation:
        require(number > 0, op, f"dilation must be two positive numbers, got {list(dilation)}")
    _require_pair(op, "shift", shift, "numbers")


def check_channels(op: str, out_channels: Any, in_channels: Any, channel_groups: int, halves: int) -> None:
    message = f"input must have a number of channels that channel_groups ({channel_groups}) divides, got {in_channels}"
    require(in_channels % channel_groups == 0, op, message)
    blocks = channel_groups * halves
    message = f"weight must have a number of output channels that channel_groups * halves ({blocks}) divides"
    require(out_channels % blocks == 0, op, f"{message}, got {out_channels}")


def _check_weight(op: str, weight: Tensor, of: str, like: Tensor) -> tuple[int, int]:
    """Returns the kernel's size, which a graph fixes as it does the taps."""
    require_like(op, "weight", weight, of, like)
    message = f"weight must be [out, in, rows, columns] with rows and columns, got {list(weight.shape)}"
    require(weight.dim() == 4, op, message)
    height, width = int(weight.shape[2]), int(weight.shape[3])
    require(height > 0 and width > 0, op, message)
    return height, width


def check_condition(op: str, condition: Tensor | None, input: Tensor, channels: Any) -> None:
    if condition is None:
        return
    require_like(op, "condition", condition, "input", input)
    n, height, width = input.shape[0], *input.shape[2:]
    shapes = [[n, channels], [n, channels, height, width]]
    message = f"condition must be {shapes[0]} or {shapes[1]}, got {list(condition.shape)}"
    require(condition.dim() in (2, 4), op, message)
    for ours, theirs in zip(condition.shape, shapes[condition.dim() == 4], strict=True):
        require(ours == theirs, op, message)


def check_masked_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    condition: Tensor | None,
    taps: Sequence[int],
    channel_groups: int,
    halves: int,
    dilation: Sequence[int],
    shift: Sequence[int],
    activation: str,
) -> None:
    op = "masked_conv2d"
    _require_maps(op, "input", input)
    size = _check_weight(op, weight, "input", input)
    message = f"weight must have as many input channels as input ({input.shape[1]}), got {weight.shape[1]}"
    require(weight.shape[1] == input.shape[1], op, message)
    if bias is not None:
        require_like(op, "bias", bias, "input", input)
        message = f"bias must be one number for each output channel ([{weight.shape[0]}]), got {list(bias.shape)}"
        require(bias.dim() == 1, op, message)
        require(bias.shape[0] == weight.shape[0], op, message)
    check_condition(op, condition, input, weight.shape[0])
    check_geometry(op, size, taps, channel_groups, halves, dilation, shift)
    check_channels(op, weight.shape[0], input.shape[1], channel_groups, halves)
    require(activation in ACTIVATIONS, op, f"activation must be one of {', '.join(ACTIVATIONS)}, got '{activation}'")
    require(activation != "gate" or halves == 2, op, f"halves must be 2 before a gate, got {halves}")
    message = "activation concat_elu mixes the colours of channel_groups, which must be 1 with it"
    require(activation != "concat_elu" or channel_groups == 1, op, f"{message}, got {channel_groups}")


def check_masked_conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    taps: Sequence[int],
    channel_groups: int,
    halves: int,
    dilation: Sequence[int],
    shift: Sequence[int],
) -> None:
    op = "masked_conv2d_grad_input"
    _require_maps(op, "grad", grad)
    size = _check_weight(op, weight, "grad", grad)
    message = f"weight must have as many output channels as grad ({grad.shape[1]}), got {weight.shape[0]}"
    require(weight.shape[0] == grad.shape[1], op, message)
    check_geometry(op, size, taps, channel_groups, halves, dilation, shift)
    check_channels(op, weight.shape[0], weight.shape[1], channel_groups, halves)


def check_masked_conv2d_grad_weight(
    grad: Tensor,
    input: Tensor,
    taps: Sequence[int],
    kernel_size: Sequence[int],
    channel_groups: int,
    halves: int,
    dilation: Sequence[int],
    shift: Sequence[int],
) -> None:
    op = "masked_conv2d_grad_weight"
    _require_maps(op, "grad", grad)
    _require_maps(op, "input", input)
    require_like(op, "input", input, "grad", grad)
    n, height, width = grad.shape[0], *grad.shape[2:]
    message = f"input must have the images and pixels of grad ([{n}, C, {height}, {width}]), got {list(input.shape)}"
    for dim in (0, 2, 3):
        require(input.shape[dim] == grad.shape[dim], op, message)
    _require_pair(op, "kernel_size", kernel_size, "positive numbers")
    for number in kernel_size:
        require(number > 0, op, f"kernel_size must be two positive numbers, got {list(kernel_size)}")
    check_geometry(op, kernel_size, taps, channel_groups, halves, dilation, shift)
    check_channels(op, grad.shape[1], input.shape[1], channel_groups, halves)


def check_gated_activation(input: Tensor, condition: Tensor | None, op: str = "gated_activation") -> None:
    _require_maps(op, "input", input)
    message = f"input must have two halves of channels, got {list(input.shape)}"
    require(input.shape[1] % 2 == 0, op, message)
    check_condition(op, condition, input, input.shape[1])


def check_gated_activation_backward(grad: Tensor, input: Tensor, condition: Tensor | None) -> None:
    op = "gated_activation_backward"
    check_gated_activation(input, condition, op)
    require_like(op, "grad", grad, "input", input)
    n, channels, height, width = input.shape
    require_same_shape(op, "grad", grad, "the output", [n, channels // 2, height, width])
