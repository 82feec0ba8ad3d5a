"""ONNX export: whole models with `export`, checked by `verify`; `translation_table` for calls of torch.onnx.export."""

from __future__ import annotations

from ._export import ExportedModel, export
from ._translation import translation_table
from ._verify import Comparison, Verification, verify

__all__ = ["Comparison", "ExportedModel", "Verification", "export", "translation_table", "verify"]
