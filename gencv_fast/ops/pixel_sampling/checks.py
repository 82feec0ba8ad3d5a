"""Bad input of the room's operator, in the words of its C++ checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._checks import require, require_device, require_same_shape

OP = "pixel_sampling_lines"


def check_pixel_sampling_lines(
    levels: Tensor,
    given: Tensor,
    noise: Tensor,
    state: Tensor,
    tensors: Sequence[Tensor],
    program: Sequence[int],
    first: int,
    count: int,
    temperature: float = 1.0,
) -> None:
    require(levels.dim() == 4, OP, f"levels must be [N, C, lines, pixels], got {list(levels.shape)}")
    require(levels.dtype == torch.uint8, OP, f"levels must be uint8, got {levels.dtype}")
    require(given.dtype == torch.bool, OP, f"given must be bool, got {given.dtype}")
    require(noise.dtype == torch.float32, OP, f"noise must be float32, got {noise.dtype}")
    floats = (torch.float32, torch.float64)
    require(state.dtype in floats, OP, f"state must be float32 or float64, got {state.dtype}")
    require_same_shape(OP, "given", given, "levels", list(levels.shape))
    for name, tensor in (("given", given), ("noise", noise), ("state", state)):
        require_device(OP, name, tensor, "levels", levels)
    for i, tensor in enumerate(tensors):
        require(tensor.dtype == state.dtype, OP, f"tensors[{i}] must have the dtype of state, got {tensor.dtype}")
        require_device(OP, f"tensors[{i}]", tensor, "levels", levels)
    require(temperature > 0, OP, f"temperature must be positive, got {temperature:g}")
    lines = int(levels.shape[2])
    message = f"lines [{first}, {first + count}) must lie in [0, {lines})"
    require(first >= 0 and count >= 0 and first + count <= lines, OP, message)
