"""pytest parameters: operators, operators with the backends that they have, dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gencv_fast._dispatch import OPS, Op

from .backends import DTYPES, Runner, cpu_runners, kernels

all_dtypes = pytest.mark.parametrize("dtype", [pytest.param(dtype, id=name) for name, dtype in DTYPES.items()])

every_isa = pytest.mark.parametrize("isa", [pytest.param(runner, id=runner.name) for runner in cpu_runners()])


def any_op(op: Op) -> bool:
    return True


def differentiable(op: Op) -> bool:
    return op.backward is not None


def ops(choose: Callable[[Op], bool] = any_op) -> Any:
    """Parametrises `op` over the operators for which the check means something."""
    return pytest.mark.parametrize("op", [pytest.param(op, id=name) for name, op in OPS.items() if choose(op)])


def ops_and_kernels(
    choose: Callable[[Op], bool] = any_op, choose_runner: Callable[[Runner], bool] = lambda runner: True
) -> Any:
    """Parametrises `op` and `runner` over the operators and the kernels that each has."""
    pairs = []
    for name, op in OPS.items():
        for kernel in kernels():
            (runner,) = kernel.values
            if choose(op) and choose_runner(runner) and runner.backend in op.backends:
                pairs.append(pytest.param(op, runner, id=f"{name}-{runner.name}", marks=kernel.marks))
    return pytest.mark.parametrize(("op", "runner"), pairs)
