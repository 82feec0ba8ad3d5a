"""When are two results the same?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _assert_alike(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype, f"dtype {actual.dtype}, expected {expected.dtype}"
    assert actual.shape == expected.shape, f"shape {list(actual.shape)}, expected {list(expected.shape)}"


def _bits(tensor: Tensor) -> Tensor:
    """Integers that are equal where the bits are, and for any two NaN."""
    if not tensor.is_floating_point():
        return tensor
    return torch.where(tensor.isnan(), torch.nan, tensor).view(_BITS[tensor.element_size()])


def assert_same_bits(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        a, e = a.cpu(), e.cpu()
        _assert_alike(a, e)
        wrong = (_bits(a) != _bits(e)).flatten().nonzero().flatten()
        assert not len(wrong), (
            f"result {i}: {len(wrong)} of {e.numel()} values differ, the first at {int(wrong[0])}: "
            f"{a.flatten()[wrong[0]]}, expected {e.flatten()[wrong[0]]}"
        )


def assert_as_accurate(
    actual: Sequence[Tensor], plain: Sequence[Tensor], truth: Sequence[Tensor], floor: float
) -> None:
    """The error against the truth is at most twice plain PyTorch's, plus the floor; both relative to the result."""
    for i, (a, p, t) in enumerate(zip(actual, plain, truth, strict=True)):
        a, p, t = a.cpu(), p.cpu(), t.cpu()
        _assert_alike(a, p)
        assert _same_non_finite(a, p), f"result {i}: not finite in other places than plain PyTorch's"
        finite = p.isfinite() & t.isfinite()
        size = float(t[finite].abs().max()) if finite.any() else 1.0
        error, plain_error = (float((x.double() - t)[finite].abs().max()) if finite.any() else 0.0 for x in (a, p))
        allowed = 2 * plain_error + floor * (size or 1.0)
        assert error <= allowed, f"result {i}: error {error:.3g}, allowed {allowed:.3g} (plain {plain_error:.3g})"


def _same_non_finite(a: Tensor, p: Tensor) -> bool:
    infinite = a.isinf() | p.isinf()
    return torch.equal(a.isnan(), p.isnan()) and torch.equal(a[infinite], p[infinite])
