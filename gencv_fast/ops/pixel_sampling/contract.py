"""What torch is told about the room's operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..._dispatch import Op
from ..._register import register
from . import checks, reference
from .program import decode

_ROOM = "gencv_fast.ops.pixel_sampling"


def fake_lines(
    levels: Tensor,
    given: Tensor,
    noise: Tensor,
    state: Tensor,
    tensors: Sequence[Tensor],
    program: Sequence[int],
    first: int,
    count: int,
    temperature: float = 1.0,
    keep_params: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    p = decode(program)
    params = state.new_empty((count if keep_params else 0, p.pixels, levels.shape[0], p.values[p.params].channels))
    return torch.empty_like(levels), state.new_empty(state.shape), params


def vmap_lines(info: Any, in_dims: Any, *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """One call for each slice: every one may have weights of its own."""

    def of(slice: int) -> list[Any]:
        leaves, structure = tree_flatten(list(args))
        dims = tree_flatten(list(in_dims), is_leaf=lambda d: d is None)[0]
        picked = [a if d is None else a.select(d, slice) for a, d in zip(leaves, dims, strict=True)]
        return tree_unflatten(picked, structure)

    results = [PIXEL_SAMPLING_LINES(*of(i)) for i in range(info.batch_size)]
    return tuple(map(torch.stack, zip(*results, strict=True))), (0, 0, 0)


PIXEL_SAMPLING_LINES = register(
    Op(
        name="pixel_sampling_lines",
        room=_ROOM,
        schema=(
            "(Tensor levels, Tensor given, Tensor noise, Tensor state, Tensor[] tensors, int[] program, int first,"
            " int count, float temperature=1.0, bool keep_params=False) -> (Tensor, Tensor, Tensor)"
        ),
        reference=reference.pixel_sampling_lines,
        check=checks.check_pixel_sampling_lines,
        fake=fake_lines,
        backends=("cpu", "cuda"),
        vmap=vmap_lines,
        part_of="sample",
    )
)
