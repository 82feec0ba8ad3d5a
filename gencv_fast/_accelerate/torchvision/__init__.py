"""torchvision's table of routes: one module per room."""

from __future__ import annotations

import functools

import torch
import torchvision  # noqa: F401  (defines the operators that are re-routed)

from ..routes import KernelRoute, Table, has_kernel
from . import boxes, nms, roi, rpn


@functools.cache
def table() -> Table:
    routes = (*nms.ROUTES, *boxes.ROUTES, *rpn.ROUTES, *roi.ROUTES)
    taken = {route.name for route in routes if isinstance(route, KernelRoute)}
    operators = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("torchvision::")}
    return Table(routes, tuple(name for name in sorted(operators - taken) if has_kernel(name, "cpu")))
