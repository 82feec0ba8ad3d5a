"""Seeds, the hypothesis profile, and the demo room among the registered operators."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

# Read by the CPU kernels at their first call: working memory starts as garbage in every test.
os.environ.setdefault("GENCV_FAST_POISON_SCRATCH", "1")

import hypothesis
import pytest
import torch

from gencv_fast._library import triton_interpreted
from tests.demo.libraries import is_built
from tests.harness.backends import Runner

if is_built():
    import tests.demo  # noqa: F401  (registers its operators)

hypothesis.settings.register_profile(
    "gencv_fast",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("gencv_fast")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A session with TRITON_INTERPRET=1 runs the Triton kernels' tests and nothing else.

    What may take long comes first, so that no process is left with it when the others are done.
    """
    if triton_interpreted():
        chosen = [item for item in items if _runs_triton(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
    items.sort(key=_time_limit, reverse=True)


def _time_limit(item: pytest.Item) -> float:
    own = item.get_closest_marker("timeout")
    return own.args[0] if own else 0


def _runs_triton(item: pytest.Item) -> bool:
    runner = getattr(item, "callspec", None) and item.callspec.params.get("runner")
    return isinstance(runner, Runner) and runner.backend == "triton"


MISSING_DEVICES = ("torch sees no CUDA device", "there is one CUDA device")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Any:
    return _fail_if_hidden((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Any:
    return _fail_if_hidden((yield))


def _fail_if_hidden(report: Any) -> Any:
    """`make test` builds and installs everything, so there only a missing device may leave a check out."""
    strict = os.environ.get("GENCV_FAST_STRICT_SKIPS") == "1"
    if strict and report.skipped and not any(device in str(report.longrepr) for device in MISSING_DEVICES):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()
