"""The room in standard ONNX operators, for ``torch.onnx.export(..., dynamo=True)``.

Every size may be dynamic but the number of colours. Sampling takes its noise as an input; its exponentials and
logarithms are ONNX's, so that a level may differ from the reference's by one where the last digit decides.
"""

from __future__ import annotations

from typing import Any

from onnxscript import ir

from ...onnx.lowering import Value, cast, op, refuse_double, require_exportable, scalar, work_dtype
from .reference import BIN, LEAST_LOG_SCALE, block_count


class _Maths:
    """Numbers of the type that is computed in."""

    def __init__(self, params: Value, channels: int) -> None:
        self.dtype = work_dtype(params)
        blocks = op.Constant(value_ints=[block_count(channels)])
        mixtures = op.Div(op.Shape(params, start=1, end=2), blocks)
        batch, size = op.Shape(params, start=0, end=1), op.Shape(params, start=2, end=4)
        shape = op.Concat(batch, blocks, mixtures, size, axis=0)
        self.blocks = op.Reshape(cast(params, self.dtype), shape, allowzero=1)

    def number(self, value: float) -> Value:
        return scalar(value, self.dtype)

    def block(self, number: int) -> Value:
        """[N, K, H, W]"""
        return op.Gather(self.blocks, op.Constant(value_int=number), axis=1)

    def value(self, level: Value) -> Value:
        return op.Sub(op.Mul(level, self.number(BIN)), self.number(1.0))

    def level(self, x: Value) -> Value:
        scaled = op.Mul(op.Add(x, self.number(1.0)), self.number(127.5))
        return op.Round(op.Clip(scaled, self.number(0.0), self.number(255.0)))

    def mean(self, colour: int, values: list[Value], number: Any) -> Value:
        """The mean given the colours before; ``number`` gives a block."""
        mean = number(1 + 3 * colour)
        for coefficient, on in ((0, 0),) if colour == 1 else ((1, 0), (2, 1)) if colour == 2 else ():
            mean = op.Add(mean, op.Mul(op.Tanh(number(3 + 3 * coefficient)), values[on]))
        return mean


def _log_sigmoid(x: Value) -> Value:
    return op.Neg(op.Softplus(op.Neg(x)))


def _log_bin(maths: _Maths, level: Value, mean: Value, log_scale: Value) -> Value:
    """As `reference.log_bin`. ONNX has no expm1: 1 - e^-y is 2 e^(-y/2) sinh(y/2), by a series where y is small."""
    number = maths.number
    log_scale = op.Max(log_scale, number(LEAST_LOG_SCALE))
    inverse = op.Exp(op.Neg(log_scale))
    centre = op.Sub(maths.value(level), mean)
    half = op.Mul(inverse, number(BIN / 2))
    distance = op.Mul(centre, inverse)
    first, last = _log_sigmoid(op.Add(distance, half)), _log_sigmoid(op.Sub(half, distance))
    square = op.Mul(half, half)
    series = number(1 / 362880)
    for coefficient in (1 / 5040, 1 / 120, 1 / 6, 1.0):
        series = op.Add(op.Mul(series, square), number(coefficient))
    safe = op.Max(half, number(0.5))
    quotient = op.Div(op.Sub(op.Exp(safe), op.Exp(op.Neg(safe))), op.Mul(safe, number(2.0)))
    log_ratio = op.Log(op.Where(op.Less(half, number(0.5)), series, quotient))
    width = op.Sub(op.Sub(op.Add(log_ratio, op.Log(number(BIN))), log_scale), half)
    inner = op.Add(op.Add(first, last), width)
    ends = op.Where(op.Equal(level, number(255.0)), last, inner)
    return op.Where(op.Equal(level, number(0.0)), first, ends)


def mixture_logistics_nll(params: Any, x: Any, channels: int = 3) -> Any:
    name = "mixture_logistics_nll"
    require_exportable(name, params, "params")
    refuse_double(name, params, "Softplus")
    maths = _Maths(params, channels)
    numbers = cast(x, maths.dtype)
    levels = numbers if x.dtype == ir.DataType.UINT8 else maths.level(numbers)
    level = [op.Gather(levels, op.Constant(value_ints=[c]), axis=1) for c in range(channels)]
    values = [maths.value(v) for v in level]
    joint = op.LogSoftmax(maths.block(0), axis=1)
    for c in range(channels):
        mean = maths.mean(c, values, maths.block)
        joint = op.Add(joint, _log_bin(maths, level[c], mean, maths.block(2 + 3 * c)))
    return op.Neg(op.ReduceLogSumExp(joint, [1], keepdims=0))


def mixture_logistics_sample(
    params: Any, channels: int = 3, seed: int = 0, temperature: float = 1.0, noise: Any = None
) -> Any:
    name = "mixture_logistics_sample"
    require_exportable(name, params, "params")
    if noise is None:
        raise RuntimeError(
            f"{name}: noise must be given where the call is exported, since ONNX has no such generator; "
            "make it an input of the model."
        )
    maths = _Maths(params, channels)
    number, heat = maths.number, maths.number(temperature)
    uniform = [op.Gather(cast(noise, maths.dtype), op.Constant(value_ints=[c]), axis=1) for c in range(1 + channels)]
    logits = maths.block(0)
    weights = op.Exp(op.Div(op.Sub(logits, op.ReduceMax(logits, [1], keepdims=1)), heat))
    sums = op.CumSum(weights, op.Constant(value_int=1))
    last = op.Sub(op.Shape(logits, start=1, end=2), op.Constant(value_ints=[1]))
    target = op.Mul(uniform[0], op.Gather(sums, last, axis=1))
    passed = op.Cast(op.LessOrEqual(sums, target), to=ir.DataType.INT64)
    chosen = op.Min(op.ReduceSum(passed, [1], keepdims=1), last)  # [N, 1, H, W]

    def mine(block: int) -> Value:
        return op.GatherElements(maths.block(block), chosen, axis=1)

    levels: list[Value] = []
    values: list[Value] = []
    for c in range(channels):
        scale = op.Mul(op.Exp(op.Max(mine(2 + 3 * c), number(LEAST_LOG_SCALE))), heat)
        below = uniform[1 + c]
        odds = op.Log(op.Div(below, op.Sub(number(1.0), below)))
        level = maths.level(op.Add(maths.mean(c, values, mine), op.Mul(scale, odds)))
        levels.append(level)
        values.append(maths.value(level))
    return op.Cast(op.Concat(*levels, axis=1), to=ir.DataType.UINT8)
