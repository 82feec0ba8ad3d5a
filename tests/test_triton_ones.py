"""Triton makes a constant of every whole number that is 1, which has no ``.to``: kernels must take it all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gencv_fast._inspection.triton import compile_variant, room_modules, triton_variants
from gencv_fast._inspection.variants import TritonVariant
from gencv_fast._library import triton_interpreted

pytestmark = pytest.mark.skipif(triton_interpreted(), reason="an interpreted kernel cannot be compiled")


def with_ones(variant: TritonVariant) -> TritonVariant:
    """As a launch with 1 for every whole number would compile it."""
    ones = {name: 1 for name, kind in variant.signature.items() if kind == "i32"}
    rest = {name: kind for name, kind in variant.signature.items() if name not in ones}
    return replace(variant, signature=rest, constexprs={**variant.constexprs, **ones})


def variants() -> list[TritonVariant]:
    pytest.importorskip("triton")
    return [variant for _, variant in triton_variants(room_modules())]


@pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)
def test_numbers_that_are_one(variant: TritonVariant) -> None:
    compile_variant(with_ones(variant), 90)
