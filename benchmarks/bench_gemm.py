"""Benchmarks of the products inside kernels (csrc/common/gemm.h) against torch's matrix product.

No operator of the package is a plain product, so the development build brings one before the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.products.libraries import HOW_TO_BUILD, is_built, load_libraries

from .harness import Case, Compare, Peer
from .limits import Work

# Side of the blocks, and how many of them one call multiplies, so that the call itself does not count.
BLOCKS = {64: 64, 128: 16, 256: 4, 512: 1, 1024: 1, 2048: 1}
DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def products() -> Callable[[Tensor, Tensor, Tensor], None]:
    if not is_built():
        pytest.skip(HOW_TO_BUILD)
    load_libraries()
    return torch.ops.gencv_fast_products.products.default


def one_by_one(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    for left, right, product in zip(a, b, out, strict=True):
        torch.mm(left, right, out=product)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", BLOCKS)
def bench_gemm(compare: Compare, device: str, products: Callable[..., None], side: int, dtype: str) -> None:
    if device != "cpu":
        pytest.skip("GPU kernels have products of their own")
    count = BLOCKS[side]
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, count, side, side, generator=generator, dtype=torch.float64).to(DTYPES[dtype])
    sums = torch.empty(count, side, side, dtype=torch.promote_types(a.dtype, torch.float32))
    theirs = torch.empty_like(a)
    expected = a.double() @ b.double()

    def ours() -> Tensor:
        products(a, b, sums)
        return sums

    def check(result: Tensor) -> None:
        error = (result.double() - expected).abs().max() / expected.abs().max()
        assert error < (1e-14 if dtype == "fp64" else 1e-5), f"an error of {error:.1e}"

    peers = {"torch": Peer(lambda: one_by_one(a, b, theirs), "torch.mm, block by block")}
    if count > 1:
        peers["torch.bmm"] = Peer(lambda: torch.bmm(a, b, out=theirs), "torch.bmm")
    compare(
        Case(
            room="gemm",
            op="gemm",
            name=f"{side} {dtype}",
            shape=f"{count} of {side} x {side} x {side}",
            dtype=dtype,
            n=side,
            series=dtype,
            ours=ours,
            check=check,
            checked_against="torch.matmul in fp64",
            peers=peers,
            # The limit is the rate of fp32.
            work=Work(3 * a.nbytes, 2 * count * side**3) if dtype == "fp32" else None,
        )
    )
