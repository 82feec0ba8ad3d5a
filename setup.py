"""Drives CMake; CMakeLists.txt is the only build description."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
OPTIONS = ("GENCV_FAST_CUDA", "GENCV_FAST_CUDA_ARCHS", "GENCV_FAST_DEV")
PURE = os.environ.get("GENCV_FAST_PURE", "0") == "1"


def find_cmake() -> str:
    beside = Path(sys.executable).with_name("cmake")
    found = str(beside) if beside.exists() else shutil.which("cmake")
    if found is None:
        raise SystemExit("gencv_fast: building needs CMake 3.22 or newer (pip install cmake).")
    return found


class CMakeBuild(build_ext):
    """Configures, builds and installs into the package folder (of the source tree for an editable install)."""

    def run(self) -> None:
        if PURE:
            return
        in_place = self.inplace or self.editable_mode
        # An isolated build must not meet the cache of another environment's build.
        default_dir = ROOT / "build" if in_place else Path(self.build_temp, "cmake").resolve()
        build_dir = Path(os.environ.get("GENCV_FAST_BUILD_DIR", default_dir))
        target = ROOT / "gencv_fast" if in_place else Path(self.build_lib, "gencv_fast")
        if not in_place:
            shutil.rmtree(target / "_lib", ignore_errors=True)  # setuptools keeps build_lib from build to build
        cmake = find_cmake()
        configure = [cmake, "-S", str(ROOT), "-B", str(build_dir), f"-DGENCV_FAST_PYTHON={sys.executable}"]
        configure += [f"-D{option}={os.environ[option]}" for option in OPTIONS if option in os.environ]
        if ninja := shutil.which("ninja"):
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        subprocess.run(configure, check=True)
        subprocess.run([cmake, "--build", str(build_dir), "-j", jobs], check=True)
        subprocess.run([cmake, "--install", str(build_dir), "--prefix", str(target.resolve())], check=True)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


setup(
    ext_modules=[] if PURE else [Extension("gencv_fast._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
