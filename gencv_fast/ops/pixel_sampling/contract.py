"""What torch is told about the room's operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..._dispatch import Op, register
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
) -> tuple[Tensor, Tensor, Tensor]:
    p = decode(program)
    params = state.new_empty((count, p.pixels, levels.shape[0], p.values[p.params].channels))
    return levels.new_empty(levels.shape), state.new_empty(state.shape), params


def no_vmap(info: Any, in_dims: Any, *args: Any) -> Any:
    raise RuntimeError("pixel_sampling_lines: vmap has no rule; the images are a dimension of their own.")


PIXEL_SAMPLING_LINES = register(
    Op(
        name="pixel_sampling_lines",
        room=_ROOM,
        schema=(
            "(Tensor levels, Tensor given, Tensor noise, Tensor state, Tensor[] tensors, int[] program, int first,"
            " int count, float temperature=1.0) -> (Tensor, Tensor, Tensor)"
        ),
        reference=reference.pixel_sampling_lines,
        check=checks.check_pixel_sampling_lines,
        fake=fake_lines,
        backends=("cpu",),
        vmap=no_vmap,
        onnx=f"{_ROOM}.onnx_export:pixel_sampling_lines",
    )
)
