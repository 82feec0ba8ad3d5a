"""The benchmark suite itself: its checks can fail, its real inputs are there, its report can be drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gencv_fast
from benchmarks.checks import assert_equal, assert_greedy
from benchmarks.inputs import clustered_boxes, random_boxes
from benchmarks.report import load, write_report

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("boxes_of", [random_boxes, clustered_boxes])
def test_greedy_check_accepts_the_right_result_alone(boxes_of) -> None:
    boxes, scores = boxes_of(2000)
    kept = gencv_fast.nms(boxes, scores, 0.5)
    assert_greedy(kept, boxes, scores, 0.5)
    for wrong in (kept[:-1], kept.flip(0), gencv_fast.nms(boxes, scores, 0.4), gencv_fast.nms(boxes, scores, 0.6)):
        with pytest.raises(AssertionError):
            assert_greedy(wrong, boxes, scores, 0.5)


def test_equality_check_sees_one_wrong_value() -> None:
    with pytest.raises(AssertionError, match="1 of 3 values differ, the first at 2"):
        assert_equal(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4]))


def test_a_wrong_kernel_fails_its_benchmark_and_the_report_says_so(tmp_path: Path) -> None:
    """One real run of one small case, with a kernel that drops a box."""
    plugin = tmp_path / "wrong_kernel.py"
    plugin.write_text(
        "import gencv_fast\nright = gencv_fast.nms\ngencv_fast.nms = lambda *args, **kw: right(*args, **kw)[1:]\n"
    )
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "wrong_kernel", "benchmarks", "-c", "benchmarks/pytest.ini"]
    command += ["--rootdir", str(ROOT), "-k", "bench_nms_random and 1k", f"--benchmark-json={results}"]
    run = subprocess.run(command, cwd=ROOT, env=_environment(tmp_path), capture_output=True, text=True)
    assert run.returncode == 1, run.stdout
    assert "expected (" in run.stdout


def test_report_is_written_from_a_run(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "benchmarks",
        "-c",
        "benchmarks/pytest.ini",
        "--rootdir",
        str(ROOT),
    ]
    command += ["-k", "bench_call_overhead or (bench_nms_clustered and not 100k)", f"--benchmark-json={results}"]
    run = subprocess.run(command, cwd=ROOT, env=_environment(tmp_path), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    loaded = load(results)
    assert loaded["cases"]
    write_report(loaded, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "torchvision" in text
    assert json.loads((tmp_path / "report" / "results.json").read_text())["cases"]
    assert {"speedup_nms.png", "growth_nms.png"} <= {path.name for path in (tmp_path / "report").iterdir()}


def _environment(plugins: Path) -> dict[str, str]:
    # pytest-benchmark times nothing in a worker of pytest-xdist.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return inherited | {"PYTHONPATH": f"{plugins}{os.pathsep}{ROOT}"}
