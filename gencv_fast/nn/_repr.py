"""How modules show themselves: as torchvision's do, unless they were asked for more."""

from __future__ import annotations

from typing import Any

from torch import nn


def chosen(module: nn.Module, **defaults: Any) -> str:
    """Those arguments that are not the default."""
    values = {name: getattr(module, name) for name in defaults}
    return "".join(f", {name}={value!r}" for name, value in values.items() if value != defaults[name])
