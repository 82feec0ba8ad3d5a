"""Finds and runs the CUDA command-line tools; none of them needs a GPU."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


class InspectionError(RuntimeError):
    """A kernel could not be inspected; the message is a whole sentence."""


def _package_dir(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def find_tool(name: str) -> Path | None:
    """The path of ``cuobjdump``, ``nvcc`` ...: from PATH, the CUDA toolkit or Triton's wheel."""
    candidates = [Path("/usr/local/cuda/bin") / name]
    if triton := _package_dir("triton"):
        candidates.append(triton / "backends" / "nvidia" / "bin" / name)
    if on_path := shutil.which(name):
        return Path(on_path)
    return next((path for path in candidates if path.is_file()), None)


def cuda_include_dirs() -> list[Path]:
    """Folders of CUDA headers in the wheels that torch depends on."""
    nvidia = _package_dir("nvidia")
    return sorted(nvidia.glob("cu*/include")) if nvidia else []


def run_tool(name: str, arguments: Sequence[str | Path]) -> str:
    """Run a tool and return its standard output; raise InspectionError where it is absent or fails."""
    tool = find_tool(name)
    if tool is None:
        raise InspectionError(f"{name} was not found: it comes with the CUDA toolkit and with the triton package.")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InspectionError(f"{name} failed with exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


@cache
def _cxa_demangle() -> Any:
    try:
        function = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
    return function


def demangle(name: str) -> str:
    """``_ZN3gcv4axpyIfEEvPf`` -> ``gcv::axpy<float>``: without the return type and the parameters."""
    function = _cxa_demangle()
    if function is None or not name.startswith("_Z"):
        return name
    status = ctypes.c_int()
    text = function(name.encode(), None, None, ctypes.byref(status))
    if not text:
        return name
    full = ctypes.string_at(text).decode()
    ctypes.CDLL(None).free(ctypes.c_void_p(text))
    return _without_signature(full)


def _without_signature(demangled: str) -> str:
    text = re.sub(r"\(anonymous namespace\)::|_INTERNAL_\w+::", "", demangled)
    text = re.sub(r"\((?:bool|int|unsigned int|long|unsigned long|[\w:]+)\)(?=-?\d)", "", text)
    depth = 0
    start = 0
    for position, char in enumerate(text):
        depth += (char in "<[") - (char in ">]")
        if depth == 0 and char == " ":
            start = position + 1
        if depth == 0 and char == "(":
            return text[start:position]
    return text
