"""Two tiny Triton kernels with known machine code, for test_inspect.py."""

from __future__ import annotations

import triton
import triton.language as tl

from gencv_fast._inspection import TritonVariant


@triton.jit
def matmul_kernel(a, b, c, K, BLOCK: tl.constexpr):
    """One BLOCK x BLOCK tile of c = a b, for row-major fp16 matrices of K columns."""
    rows = tl.arange(0, BLOCK)
    columns = tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK, BLOCK), tl.float32)
    for k in range(0, K, BLOCK):
        x = tl.load(a + rows[:, None] * K + (k + columns)[None, :])
        y = tl.load(b + (k + rows)[:, None] * K + columns[None, :])
        acc += tl.dot(x, y)
    tl.store(c + rows[:, None] * K + columns[None, :], acc.to(tl.float16))


@triton.jit
def multiply_add_kernel(a, b, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(a + i) * tl.load(b + i) + 1.5)


_HALVES = {"a": "*fp16:16", "b": "*fp16:16", "c": "*fp16:16", "K": "i32:16"}
_FLOATS = {"a": "*fp32:16", "b": "*fp32:16", "out": "*fp32:16"}

KERNELS = (
    TritonVariant("matmul_kernel", matmul_kernel, _HALVES, {"BLOCK": 64}),
    TritonVariant("multiply_add_kernel<fused>", multiply_add_kernel, _FLOATS, {"BLOCK": 512}),
    TritonVariant(
        "multiply_add_kernel<exact>",
        multiply_add_kernel,
        _FLOATS,
        {"BLOCK": 512},
        enable_fp_fusion=False,
        exact=True,
    ),
)
