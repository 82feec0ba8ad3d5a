"""`gencv-fast bench`: runs the benchmark suite of a source checkout and renders its report."""

from __future__ import annotations

import os
import sys
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_NEEDED = (
    "pytest",
    "pytest_benchmark",
    "torchvision",
    "onnx",
    "onnxruntime",
    "powerboxes",
    "lsnms",
    "ensemble_boxes",
    "matplotlib",
    "PIL",
    "skimage",
    "sklearn",
)
_WIDTH_OF_FILES = 132


class Suite(str, Enum):
    quick = "quick"
    full = "full"


class Device(str, Enum):
    cpu = "cpu"
    cuda = "cuda"


def bench(
    suite: Annotated[
        Suite, typer.Option(help="quick: under 5 minutes; full: slow peers, torch.compile, larger cases")
    ] = Suite.quick,
    rooms: Annotated[list[str] | None, typer.Argument(help="rooms to measure; all if none")] = None,
    output: Annotated[Path, typer.Option(help="folder for the report")] = Path("bench_report"),
    threads: Annotated[int | None, typer.Option(help="threads; the CPUs if not given")] = None,
    device: Annotated[Device, typer.Option(help="where the tensors live")] = Device.cpu,
) -> None:
    """Measure gencv_fast and its peers in turns, and write tables, Markdown, JSON and charts."""
    files = _benchmark_files(rooms or [])
    _require_dependencies()
    output.mkdir(parents=True, exist_ok=True)
    data = output / "pytest-benchmark.json"
    data.unlink(missing_ok=True)
    options = [f"--suite={suite.value}", f"--device={device.value}"]
    if threads:
        options.append(f"--threads={threads}")

    # pytest captures file descriptor 1 while a benchmark runs; the progress bar writes to a copy of it.
    with os.fdopen(os.dup(1), "w") as terminal:
        console = Console(file=terminal, width=None if terminal.isatty() else _WIDTH_OF_FILES)
        failures = _run(files, data, [*options, f"--pictures={output}"], console)
        if data.exists():
            _report(data, output, console)
        else:
            console.print("[red]No benchmark finished, so there is no report.[/red]")
        if failures:
            console.print(f"[red]{failures} failed; `python -m pytest benchmarks` shows the details.[/red]")
            raise typer.Exit(1)


def _fail(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(2)


def _benchmark_files(rooms: list[str]) -> list[Path]:
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    if not (folder / "conftest.py").is_file():
        raise _fail(
            "The benchmarks are part of the source checkout, not of the installed package: there are none at "
            f"{folder}. Clone the repository, run `pip install -e '.[bench]'` in it, and try again."
        )
    found = {file.stem.removeprefix("bench_"): file for file in sorted(folder.glob("bench_*.py"))}
    if unknown := [room for room in rooms if room not in found]:
        raise _fail(f"No benchmarks for {', '.join(unknown)}; there are some for {', '.join(found)}.")
    return [found[room] for room in rooms or found]


def _require_dependencies() -> None:
    if missing := [module for module in _NEEDED if find_spec(module) is None]:
        raise _fail(
            f"The benchmarks need {', '.join(missing)}, not found here. Install them with "
            "`pip install 'gencv_fast[bench]'` (in the checkout: `pip install -e '.[bench]'`)."
        )


def _run(files: list[Path], data: Path, options: list[str], console: Console) -> int:
    """Runs pytest in this process; returns the number of failures."""
    import pytest

    folder = files[0].parent
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as progress:
        watcher = _Watcher(progress)
        arguments = [*map(str, files), f"--rootdir={folder}", "-c", str(folder / "pytest.ini")]
        arguments += ["-p", "no:terminal", "-p", "no:xdist", "--benchmark-quiet", f"--benchmark-json={data}"]
        status = pytest.main([*arguments, *options], plugins=[watcher])
        progress.update(watcher.task, description="done")
    return watcher.failures or int(status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED))


class _Watcher:
    """A pytest plugin that moves the progress bar and says at once what failed."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("collecting", total=None)
        self.failures = 0

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._fail(report)

    def pytest_collection_finish(self, session: Any) -> None:
        self.progress.update(self.task, total=len(session.items))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.progress.update(self.task, description=nodeid.split("::")[-1].removeprefix("bench_"))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._fail(report)
        if report.when == "teardown":
            self.progress.advance(self.task)

    def _fail(self, report: Any) -> None:
        self.failures += 1
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = crash.message if crash else report.longreprtext
        lines = [f"FAILED {report.nodeid}", *reason.strip().splitlines()[:3]]
        self.progress.console.print("\n    ".join(lines), style="red", markup=False, highlight=False)


def _report(data: Path, output: Path, console: Console) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from benchmarks.report import caption, limits_line, load, terminal_tables, write_report

    results = load(data)
    paths = write_report(results, output)
    for table in terminal_tables(results):
        console.print(table)
    console.print(f"{caption(results)}.\n{limits_line(results)}", style="dim", highlight=False)
    console.print("Written: " + ", ".join(map(str, paths)), highlight=False)
