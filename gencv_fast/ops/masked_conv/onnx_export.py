"""The room in standard ONNX operators: Conv with a masked weight, which multiplies what is hidden by zero.

fp16 is computed in fp32. bf16 and fp64 are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxscript import ir

from ...onnx.lowering import Value, cast, op, refuse_double, require_exportable, scalar, vector
from .reference import ALL, EARLIER, NOT_LATER

_FLOAT, _INT = ir.DataType.FLOAT, ir.DataType.INT64


def _size(tensor: Value, dim: int) -> Value:
    return op.Shape(tensor, start=dim, end=dim + 1)  # [1]


def _plane(weight: Value, taps: Sequence[int], rule: int) -> Value:
    """Ones at the taps that have the rule: ``[1, 1, rows, columns]``."""
    plane = [float(tap == rule) for tap in taps]
    return op.Reshape(vector(plane, _FLOAT), op.Concat(vector([1, 1], _INT), op.Shape(weight, start=2), axis=0))


def _colours(channels: Value, blocks: int, groups: int) -> Value:
    """The colour of each of as many channels."""
    zero, one = scalar(0, _INT), scalar(1, _INT)
    number = op.Range(zero, op.Squeeze(channels, [0]), one)
    return op.Mod(op.Div(op.Mul(number, scalar(blocks, _INT)), channels), scalar(groups, _INT))


def _mask(weight: Value, taps: Sequence[int], groups: int, halves: int) -> Value:
    mask = _plane(weight, taps, ALL)
    if groups == 1:
        return op.Add(mask, _plane(weight, taps, NOT_LATER))
    out_colour = op.Unsqueeze(_colours(_size(weight, 0), groups * halves, groups), [1, 2, 3])
    in_colour = op.Unsqueeze(_colours(_size(weight, 1), groups, groups), [0, 2, 3])
    for rule, seen in ((EARLIER, op.Less), (NOT_LATER, op.LessOrEqual)):
        shown = op.Cast(seen(in_colour, out_colour), to=_FLOAT)
        mask = op.Add(mask, op.Mul(shown, _plane(weight, taps, rule)))
    return mask


def _pads(kernel_size: Sequence[int], dilation: Sequence[int], shift: Sequence[int]) -> list[int]:
    before = [size // 2 * d + s for size, d, s in zip(kernel_size, dilation, shift, strict=True)]
    all_of = [(size - 1) * d for size, d in zip(kernel_size, dilation, strict=True)]
    return [*before, *(a - b for a, b in zip(all_of, before, strict=True))]


def _padded(x: Value, weight: Value, dilation: Sequence[int], shift: Sequence[int]) -> Value:
    """By an operator of its own, which may also cut, and which reads the kernel's size off the weight."""
    size, steps = op.Shape(weight, start=2), vector(dilation, _INT)
    before = op.Add(op.Mul(op.Div(size, vector([2, 2], _INT)), steps), vector(shift, _INT))
    after = op.Sub(op.Mul(op.Sub(size, vector([1, 1], _INT)), steps), before)
    none = vector([0, 0], _INT)
    return op.Pad(x, op.Concat(none, before, none, after, axis=0), scalar(0.0, _FLOAT))


def _sums(x: Value, weight: Value, addends: Sequence[Value], dilation: Sequence[int], shift: Sequence[int]) -> Value:
    sizes = list(weight.shape)[2:]
    if all(isinstance(size, int) for size in sizes):
        pads = _pads(sizes, dilation, shift)
        if min(pads) >= 0:
            return op.Conv(x, weight, *addends, pads=pads, dilations=dilation)
    return op.Conv(_padded(x, weight, dilation, shift), weight, *addends, dilations=dilation)


def _gate(sums: Value) -> Value:
    a, b = op.Split(sums, num_outputs=2, axis=1)
    return op.Mul(op.Tanh(a), op.Sigmoid(b))


def _activated(sums: Value, activation: str) -> Value:
    if activation == "relu":
        return op.Relu(sums)
    if activation == "elu":
        return op.Elu(sums)
    if activation == "concat_elu":
        return op.Elu(op.Concat(sums, op.Neg(sums), axis=1))
    return _gate(sums) if activation == "gate" else sums


def _over_pixels(condition: Value) -> Value:
    wide = cast(condition, _FLOAT)
    return op.Unsqueeze(wide, [2, 3]) if len(condition.shape) == 2 else wide


def masked_conv2d(
    input: Value,
    weight: Value,
    bias: Value | None,
    condition: Value | None,
    taps: Sequence[Any],
    channel_groups: int,
    halves: int,
    dilation: Sequence[Any],
    shift: Sequence[Any],
    activation: str,
) -> Value:
    name = "masked_conv2d"
    require_exportable(name, input, "input")
    refuse_double(name, input, "Conv")
    seen = op.Mul(cast(weight, _FLOAT), _mask(weight, taps, channel_groups, halves))
    seen.shape = weight.shape
    addends = [] if bias is None else [cast(bias, _FLOAT)]
    sums = _sums(cast(input, _FLOAT), seen, addends, [int(d) for d in dilation], [int(s) for s in shift])
    if condition is not None:
        sums = op.Add(sums, _over_pixels(condition))
    return cast(_activated(sums, activation), input.dtype)


def gated_activation(input: Value, condition: Value | None = None) -> Value:
    name = "gated_activation"
    require_exportable(name, input, "input")
    refuse_double(name, input, "Tanh")
    sums = cast(input, _FLOAT)
    if condition is not None:
        sums = op.Add(sums, _over_pixels(condition))
    return cast(_gate(sums), input.dtype)
