"""How many registers a kernel may take."""

from __future__ import annotations

import torch

#: Of a thread: more than any kernel needs that says so. Where it is left to ptxas, that takes fewer, for the sake
#: of occupancy, and spills around its calls of division routines.
MOST_REGISTERS = 128


def register_options() -> dict[str, int]:
    """The option of a launch; AMD's compiler knows none."""
    return {} if torch.version.hip else {"maxnreg": MOST_REGISTERS}
