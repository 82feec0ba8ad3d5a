"""Runs the torch-free test programs of every room under ASan + UBSan and TSan: the CPU kernels at each
instruction set and the CUDA kernels in the emulator. GENCV_FAST_SANITIZE=full adds larger cases.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BUILD = Path(os.environ.get("GENCV_FAST_BUILD_DIR", ROOT / "build"))
CMAKE = Path(sys.executable).with_name("cmake")
ROOMS = ("nms",)


@pytest.mark.parametrize("mode", ["asan", "tsan"])
@pytest.mark.parametrize("kind", ["cpu", "emulated"])
@pytest.mark.parametrize("room", ROOMS)
def test_clean(room: str, kind: str, mode: str) -> None:
    target = f"{room}_{kind}_test_{mode}"
    subprocess.run([CMAKE, "--build", BUILD, "--target", target], check=True, capture_output=True)
    (program,) = (path for path in BUILD.rglob(target) if path.is_file())
    size = [] if mode == "tsan" else [os.environ.get("GENCV_FAST_SANITIZE", "tiny")]
    run = subprocess.run([program, *size], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "all checks passed" in run.stdout
