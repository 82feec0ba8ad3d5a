"""What the rooms' lowerings to ONNX share. Only ``onnx_export.py`` files import this: it needs onnxscript."""

from __future__ import annotations

from typing import Any

from onnxscript import ir, opset18

op: Any = opset18  # the oldest that torch's exporter writes; it raises the graph to the opset asked for
Value = Any  # of the graph under construction; the exporter reads annotations and knows no type for it


def require_exportable(name: str, tensor: Value, argument: str = "boxes") -> None:
    """bfloat16 is refused."""
    if tensor.dtype == ir.DataType.BFLOAT16:
        raise RuntimeError(
            f"{name}: {argument} of bfloat16 cannot be exported, since ONNX Runtime's CPU provider runs hardly "
            "any operator in bfloat16; convert the model to float32 or float16 first."
        )


def refuse_double(name: str, tensor: Value, operator: str) -> None:
    if tensor.dtype == ir.DataType.DOUBLE:
        raise RuntimeError(
            f"{name}: float64 cannot be exported, since ONNX Runtime's CPU provider has no {operator} for it; "
            "convert the model to float32 first."
        )


def work_dtype(tensor: Value) -> ir.DataType:
    return ir.DataType.DOUBLE if tensor.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT


def cast(tensor: Value, dtype: ir.DataType) -> Value:
    return tensor if tensor.dtype == dtype else op.Cast(tensor, to=dtype)


def scalar(value: float, dtype: ir.DataType) -> Value:
    return op.Constant(value=ir.tensor(value, dtype=dtype))


def vector(values: Any, dtype: ir.DataType) -> Value:
    return op.Constant(value=ir.tensor(list(values), dtype=dtype))
