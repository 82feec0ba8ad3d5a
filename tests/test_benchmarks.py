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
from benchmarks.checks import assert_as_near_detections, assert_equal, assert_greedy, assert_same_detections
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


def detections(count: int = 5, box: float = 0.0, score: float = 0.0) -> dict[str, torch.Tensor]:
    """Far from each other, the last one off by this much."""
    corners = 100 * torch.arange(count, dtype=torch.float64)[:, None] + torch.tensor([0.0, 0, 50, 50])
    scores = torch.linspace(0.9, 0.1, count, dtype=torch.float64)
    corners[-1, 2] += box
    scores[-1] += score
    return {"boxes": corners, "scores": scores, "labels": torch.arange(count) % 3}


def changed(**entries: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**detections(), **entries}


STRANGERS = [
    (detections(4), "4 detections, expected 5"),
    (changed(labels=torch.tensor([0, 1, 2, 0, 2])), "1 of 5 detections have no counterpart"),
    (changed(**{key: detections()[key][[0, 0, 2, 3, 4]] for key in detections()}), "the same counterpart"),
]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [*STRANGERS, (detections(box=0.011), "no counterpart"), (detections(score=-1.1e-5), "no counterpart")],
)
def test_check_of_detections_can_fail(wrong: dict[str, torch.Tensor], message: str) -> None:
    assert_same_detections(detections(box=-0.009, score=9e-6), detections())
    swapped = {key: value.flip(0) for key, value in detections().items()}
    assert_same_detections(swapped, detections())
    with pytest.raises(AssertionError, match=message):
        assert_same_detections(wrong, detections())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *STRANGERS,
        (detections(box=0.0041), "boxes are off by 0.0041, more than 0.004; the peer's are by 0.002"),
        (detections(score=1.7e-5), "scores are off by 1.7e-05, more than 1.6e-05; the peer's are by 8e-06"),
    ],
)
def test_check_against_float64_can_fail(wrong: dict[str, torch.Tensor], message: str) -> None:
    theirs, truth = detections(box=0.002, score=8e-6), detections()
    assert_as_near_detections(detections(box=-0.0039, score=-1.5e-5), theirs, truth)
    with pytest.raises(AssertionError, match=message):
        assert_as_near_detections(wrong, theirs, truth)


def test_check_against_float64_asks_more_where_the_peer_is_nearer() -> None:
    exact = detections()
    assert_as_near_detections(detections(box=9e-4, score=9e-7), exact, exact)
    for wrong in (detections(box=1.1e-3), detections(score=1.1e-6)):
        with pytest.raises(AssertionError, match="are off by"):
            assert_as_near_detections(wrong, exact, exact)


def test_check_against_float64_is_void_where_the_peer_differs() -> None:
    """It must not pass because the peer is as wrong."""
    theirs = detections(score=1.1e-4)
    with pytest.raises(AssertionError, match="no counterpart"):
        assert_as_near_detections(theirs, theirs, detections())


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
