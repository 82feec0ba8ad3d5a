"""Where the emulated kernels lie, and what the machine code of kernels that decide must not hold."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from gencv_fast._inspection import instruction_counts

REPOSITORY = Path(__file__).resolve().parents[2]
EMULATED = Path(os.environ.get("GENCV_FAST_BUILD_DIR", REPOSITORY / "build")) / "emulated"
ORDERS = ("forward", "reverse", "random:5")
ARCHS = (80, 90, *(pytest.param(arch, marks=pytest.mark.full) for arch in (100, 120)))


def assert_nothing_contracted(reports: list[Any]) -> None:
    assert reports
    for report in reports:
        counts = instruction_counts(report)
        fused = {name: counts[name] for name in ("FFMA", "DFMA", "HFMA2") if counts[name]}
        assert not fused, f"{report.name} on sm_{report.arch}: {fused}"


def ptx_operations(ptx: str, pattern: str) -> set[str]:
    return set(re.findall(rf"\b(?:{pattern})\.[\w.]*f(?:32|64)\b", ptx))
