"""A C++ program finds the installed package and calls a kernel without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gencv_fast

ROOT = Path(__file__).parent.parent
CMAKE = Path(sys.executable).with_name("cmake")


def test_find_package_and_call(tmp_path: Path) -> None:
    package = Path(gencv_fast.__file__).parent / "cmake"
    build = tmp_path / "build"
    configure = [CMAKE, "-S", ROOT / "examples/cpp", "-B", build, f"-Dgencv_fast_DIR={package}"]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run([CMAKE, "--build", build], check=True, capture_output=True)
    run = subprocess.run([build / "nms_example"], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["1", "2"]
    libraries = subprocess.run(["ldd", build / "nms_example"], check=True, capture_output=True, text=True).stdout
    assert "gencv_fast_kernels_cpu" in libraries
    assert "torch" not in libraries
