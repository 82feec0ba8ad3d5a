"""The `gencv-fast` command, as a user calls it."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
from typer.testing import CliRunner

import gencv_fast
from gencv_fast import _inspection
from gencv_fast._dispatch import BACKENDS, OPS
from gencv_fast._inspection import KernelReport, theoretical_occupancy
from gencv_fast.cli import app, main

_REPORT = KernelReport(
    name="soft_kernel<float>",
    language="cuda",
    origin="soft_cuda.cu",
    arch=90,
    registers=32,
    stack_bytes=16,
    spill_store_bytes=8,
    spill_load_bytes=12,
    static_shared_bytes=512,
    dynamic_shared_bytes=None,
    block_threads=256,
    occupancy=theoretical_occupancy(90, 32, 256, 512),
    instructions=3,
    counts={"FFMA": 2, "LDG.128": 1},
    loops=(),
)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture
def call_main(monkeypatch, capsys):
    """Runs `gencv-fast` in this process; returns the exit code, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gencv-fast", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


@pytest.fixture
def one_kernel(monkeypatch):
    monkeypatch.setattr(_inspection, "why_not_cuda", lambda arch: None)
    monkeypatch.setattr(
        _inspection, "cuda_reports", lambda archs, *options: [dataclasses.replace(_REPORT, arch=archs[0])]
    )


def test_version(run):
    assert run("--version").output == f"gencv_fast {gencv_fast.__version__}\n"


def test_help_names_every_command(run):
    overview = run("--help").output
    for command in ("doctor", "bench", "inspect", "export"):
        assert command in overview
        text = run(command, "--help")
        assert text.exit_code == 0
        assert "Usage" in text.output


def test_doctor_json_says_what_runs_and_why_the_rest_does_not(run):
    facts = json.loads(run("doctor", "--json").output)
    assert facts["versions"]["gencv_fast"] == gencv_fast.__version__
    assert facts["versions"]["torch"]
    assert set(facts["ops"]) == set(OPS)
    for name, state in facts["ops"].items():
        assert set(state["why_not"]) == set(BACKENDS)
        assert state["why_not"]["reference"] is None
        assert state["why_not"][state["chosen_for_cpu_tensors"]] is None, name
    for library in facts["libraries"]:
        assert library["loaded"] == (library["why_not"] is None)
    assert bool(facts["cuda"]["devices"]) == (facts["cuda"]["why_not"] is None)
    if facts["cpu"]["isa"]:
        assert facts["cpu"]["isa"] in facts["cpu"]["isas_usable"]


def test_doctor_prints_the_same_for_people(run):
    facts = json.loads(run("doctor", "--json").output)
    result = run("doctor")
    assert result.exit_code == 0
    for name in OPS:
        assert name in result.output
    for library in facts["libraries"]:
        assert library["name"] in result.output
    assert max(map(len, result.output.splitlines())) <= 120


def test_inspect_json(run, one_kernel):
    answer = json.loads(run("inspect", "--arch", "90", "--language", "cuda", "--json").output)
    [kernel] = answer["kernels"]
    assert kernel["name"] == "soft_kernel<float>"
    assert kernel["counts"] == {"FFMA": 2, "LDG.128": 1}
    assert kernel["occupancy"]["fraction"] == 1.0
    assert answer["notes"] == []


def test_inspect_table(run, one_kernel):
    result = run("inspect", "--arch", "80,90", "--language", "cuda", "--instructions")
    assert result.exit_code == 0
    for expected in ("sm_80", "sm_90", "soft_kernel<float>", "8+12", "FFMA 2", "LDG.128 1"):
        assert expected in result.output
    assert max(map(len, result.output.splitlines())) <= 120


def test_inspect_check_fails_on_a_spill(call_main, one_kernel):
    code, _, error = call_main("inspect", "--arch", "90", "--language", "cuda", "--check")
    assert code == 1
    assert error == "Error: 1 kernel spills registers: soft_kernel<float> on sm_90.\n"


def test_inspect_says_what_it_cannot_show(run, monkeypatch):
    monkeypatch.setattr(_inspection, "why_not_cuda", lambda arch: "nvcc was not found")
    result = run("inspect", "--arch", "90", "--language", "cuda", "--kernel", "soft")
    assert "The CUDA kernels are not shown for sm_90: nvcc was not found." in result.output
    assert "No kernel has 'soft' in its name." in result.output


def test_inspect_runs_on_the_real_kernels(run):
    if reason := _inspection.why_not_cuda(80):
        pytest.skip(reason)
    kernels = json.loads(run("inspect", "--arch", "80", "--language", "cuda", "--json").output)["kernels"]
    assert kernels
    assert all(kernel["registers"] > 0 and kernel["instructions"] > 0 for kernel in kernels)


def test_an_error_is_one_sentence(call_main):
    code, _, error = call_main("inspect", "--arch", "ninety")
    assert code == 1
    assert error == "Error: --arch: expected numbers such as 80 or 90, or an AMD name such as gfx942; got 'ninety'.\n"
