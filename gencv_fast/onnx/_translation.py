"""How torch.onnx.export learns to write the package's operators in standard ONNX."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from torch._ops import OpOverload

from .._dispatch import OPS, load_object


def translation_table() -> dict[OpOverload, Callable[..., Any]]:
    """Every operator of the package with the function that lowers it to standard ONNX operators.

    Returns:
        What ``torch.onnx.export(..., dynamo=True)`` takes as ``custom_translation_table``. The Triton rival
        of an operator has the same lowering.

    Raises:
        RuntimeError: onnxscript is not installed.

    Example:
        >>> torch.onnx.export(  # doctest: +SKIP
        ...     model, args, "model.onnx", dynamo=True,
        ...     custom_translation_table=gencv_fast.onnx.translation_table(),
        ... )
    """
    require_installed("translation_table", "onnxscript")
    table = {}
    for op in OPS.values():
        if op.onnx is None:
            continue
        lowering = load_object(op.onnx)
        table[op.overload] = lowering
        if op.triton is not None:
            table[op.triton_overload] = lowering
    return table


def require_installed(caller: str, *packages: str) -> None:
    """Raises RuntimeError if one of the packages of ``gencv_fast[onnx]`` is missing."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise RuntimeError(f"{caller}: {package} is not installed; pip install 'gencv_fast[onnx]'.")
