"""The gate in Triton, and what the room's kernels share."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._inspection import TritonVariant

BLOCK = 512
DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16}


@triton.jit
def tanh(x):
    """Without loss near zero."""
    square = x * x
    size = tl.where(x < 0, -x, x)
    shrunk = tl.exp(-2 * size)
    large = (1 - shrunk) / (1 + shrunk)
    large = tl.where(x < 0, -large, large)
    # The series' next term is 62 / 2835 x^9.
    small = x * (1 - square * (1.0 / 3 - square * (2.0 / 15 - square * (17.0 / 315))))
    return tl.where(size < 0.05, small, large)


@triton.jit
def sigmoid(x):
    size = tl.where(x < 0, -x, x)
    shrunk = tl.exp(-size)
    return tl.where(x < 0, shrunk, 1.0) / (1 + shrunk)


@triton.jit
def gate_kernel(
    input, condition, grad, output, numbers, channels, height, width,
    input_n, input_c, input_y, input_x, condition_n, condition_c, condition_y, condition_x,
    grad_n, grad_c, grad_y, grad_x, output_n, output_c, output_y, output_x,
    BACKWARD: tl.constexpr, LAST: tl.constexpr, HAS_CONDITION: tl.constexpr, COMPUTE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """LAST: neighbouring lanes take neighbouring channels, else neighbouring pixels."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = i < numbers
    if LAST:
        c, pixel = i % channels, i // channels
        x, y, n = pixel % width, pixel // width % height, pixel // width // height
    else:
        x, y, c, n = i % width, i // width % height, i // width // height % channels, i // width // height // channels
    at = input + n * input_n + c * input_c + y * input_y + x * input_x
    a = tl.load(at, live, 0.0).to(COMPUTE)
    b = tl.load(at + channels * input_c, live, 0.0).to(COMPUTE)
    if HAS_CONDITION:
        at = condition + n * condition_n + c * condition_c + y * condition_y + x * condition_x
        a += tl.load(at, live, 0.0).to(COMPUTE)
        b += tl.load(at + channels * condition_c, live, 0.0).to(COMPUTE)
    t, s = tanh(a), sigmoid(b)
    to = output + n * output_n + c * output_c + y * output_y + x * output_x
    if BACKWARD:
        g = tl.load(grad + n * grad_n + c * grad_c + y * grad_y + x * grad_x, live, 0.0).to(COMPUTE)
        tl.store(to, (g * s * (1 - t) * (1 + t)).to(output.dtype.element_ty), live)
        tl.store(to + channels * output_c, (g * t * s * (1 - s)).to(output.dtype.element_ty), live)
    else:
        tl.store(to, (t * s).to(output.dtype.element_ty), live)


def compute_type(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def strides_over_pixels(condition: Tensor | None) -> tuple[int, ...]:
    if condition is None:
        return (0, 0, 0, 0)
    return (*condition.stride(), 0, 0) if condition.dim() == 2 else condition.stride()


def run_gate(input: Tensor, condition: Tensor | None, grad: Tensor, output: Tensor, *, backward: bool) -> Tensor:
    channels = input.shape[1] // 2
    if (numbers := input.numel() // 2) > 0:
        gate_kernel[(triton.cdiv(numbers, BLOCK),)](
            input, condition if condition is not None else input, grad, output, numbers, channels, *input.shape[2:],
            *input.stride(), *strides_over_pixels(condition), *grad.stride(), *output.stride(),
            BACKWARD=backward, LAST=input.stride(1) == 1, HAS_CONDITION=condition is not None,
            COMPUTE=compute_type(input.dtype), BLOCK=BLOCK,
        )  # fmt: skip
    return output


def numbers_of(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "i32")


def strides_of(name: str, dims: str = "ncyx") -> dict[str, str]:
    return {f"{name}_{dim}": "i32" for dim in dims}


def gate_variants(dtype: str) -> list[TritonVariant]:
    pointer = f"*{dtype}:16"
    signature = {
        **dict.fromkeys(("input", "condition", "grad", "output"), pointer),
        **numbers_of("numbers", "channels", "height", "width"), **strides_of("input"), **strides_of("condition"),
        **strides_of("grad"), **strides_of("output"),
    }  # fmt: skip
    lanes = {"LAST": False, "HAS_CONDITION": True, "COMPUTE": compute_type(DTYPES[dtype]), "BLOCK": BLOCK}
    return [
        TritonVariant(f"gate_kernel<{dtype}>", gate_kernel, signature, {"BACKWARD": False, **lanes}),
        TritonVariant(f"gate_kernel<backward, {dtype}>", gate_kernel, signature, {"BACKWARD": True, **lanes}),
    ]
