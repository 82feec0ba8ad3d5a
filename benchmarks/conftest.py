"""Options, the `compare` fixture, and what the run's JSON says about the machine."""

from __future__ import annotations

import importlib
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from .harness import EFFORTS, Compare
from .limits import Limits, busy_cpus, measure

_LIMITS = pytest.StashKey[Limits]()
_BUSY = pytest.StashKey[float | None]()
_FAILED = pytest.StashKey[list[dict[str, str]]]()
_VERSIONS = (
    "gencv_fast",
    "torch",
    "torchvision",
    "onnxruntime",
    "powerboxes",
    "lsnms",
    "ensemble-boxes",
    "numpy",
)


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gencv_fast")
    group.addoption("--suite", choices=sorted(EFFORTS), default="quick")
    group.addoption("--threads", type=int, default=usable_cpus(), help="threads of torch and of every peer")
    group.addoption("--device", choices=("cpu", "cuda"), default="cpu")
    group.addoption("--pictures", type=Path, default=None, help="folder for drawings of results")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FAILED] = []
    threads = config.getoption("--threads")
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32 for every contestant
    for variable in ("RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"):  # read when a peer is first imported
        os.environ.setdefault(variable, str(threads))
    pictures = config.getoption("--pictures")
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> str:
    chosen = pytestconfig.getoption("--device")
    if chosen == "cuda" and not torch.cuda.is_available():
        pytest.exit("--device cuda: torch sees no CUDA device", returncode=2)
    return chosen


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> str:
    return pytestconfig.getoption("--suite")


@pytest.fixture(scope="session")
def limits(pytestconfig: pytest.Config, device: str) -> Limits:
    pytestconfig.stash[_BUSY] = busy_cpus()
    pytestconfig.stash[_LIMITS] = measured = measure(device)
    return measured


@pytest.fixture
def compare(benchmark: Any, pytestconfig: pytest.Config, suite: str, limits: Limits, device: str) -> Compare:
    return Compare(benchmark, suite, limits, device, pytestconfig.getoption("--pictures"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed and call.excinfo:
        why = str(call.excinfo.value).strip().split("\n")[0] or call.excinfo.typename
        item.config.stash[_FAILED].append({"benchmark": item.name, "why": why})
    return report


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        try:
            return getattr(importlib.import_module(package.replace("-", "_")), "__version__", None)
        except ImportError:
            return None


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    limits = config.stash.get(_LIMITS, None)
    cpu = output_json["machine_info"].get("cpu", {})
    device = config.getoption("--device")
    output_json["gencv_fast"] = {
        "suite": config.getoption("--suite"),
        "threads": config.getoption("--threads"),
        "cpu": cpu.get("brand_raw") or output_json["machine_info"].get("processor") or "unknown CPU",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "versions": {package: version for package in _VERSIONS if (version := _version(package))},
        "busy_cpus_before": config.stash.get(_BUSY, None),
        "failed": config.stash[_FAILED],
        "limits": limits.as_dict() if limits else {},
    }
