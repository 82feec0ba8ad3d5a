"""Turns the JSON of a benchmark run into terminal tables, report.md, results.json and charts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Results = dict[str, Any]
_OURS = "gencv_fast"


def load(path: Path | str) -> Results:
    """Reads pytest-benchmark's JSON into {"context", "failed", "cases"}, our times beside the peers'."""
    raw = json.loads(Path(path).read_text())
    context = raw["gencv_fast"]
    cases = []
    for benchmark in raw["benchmarks"]:
        stats = benchmark["stats"]
        ours = {key: stats[key] for key in ("median", "min", "max", "rounds")}
        ours["calls"] = stats["iterations"]
        cases.append(benchmark["extra_info"] | {"ours": ours})
    context["datetime"] = raw["datetime"]
    return {"failed": context.pop("failed"), "context": context, "cases": cases}


def caption(results: Results) -> str:
    context = results["context"]
    versions = ", ".join(f"{package} {version}" for package, version in context["versions"].items())
    device = "" if context["device"] == "cpu" else f"{context['device']}, "
    threads = "1 thread" if context["threads"] == 1 else f"{context['threads']} threads"
    return f"{device}{context['cpu']}, {threads}, {context['suite']} suite; {versions}"


def limits_line(results: Results) -> str:
    limits = results["context"]["limits"]
    if not limits:
        return ""
    busy = results["context"]["busy_cpus_before"] or 0.0
    noise = f" Other processes kept {busy:.1f} CPUs busy, so times are noisy." if busy > 0.25 else ""
    return (
        f"Limits measured in the same run: stream copy {limits['stream_bytes_per_s'] / 1e9:.0f} GB/s, "
        f"fp32 matrix product {limits['matmul_flops_per_s'] / 1e9:.0f} GFLOP/s, "
        f"argsort {limits['sort_s_per_comparison'] * 1e9:.2f} ns a comparison.{noise}"
    )


def duration(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 0.9995:
            return f"{significant(seconds * factor)} {unit}"
    return f"{significant(seconds * 1e9)} ns"


def significant(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _tables(results: Results) -> Iterator[tuple[str, list[str], list[dict[str, Any]]]]:
    """Cases of one op with the same peers share a table: (title, peers, cases)."""
    titles = set()
    for (op, *peers), group in groupby(results["cases"], lambda case: (case["op"], *case["peers"])):
        cases = list(group)
        title = f"{op}: {', '.join(case['name'] for case in cases)}" if op in titles else op
        titles.add(op)
        yield title, peers, cases


def _limit(case: dict[str, Any]) -> str:
    return f"{case['work']['fraction']:.1%}" if "work" in case else ""


def terminal_tables(results: Results) -> list[Table]:
    """A rich table for each op: our median, then each peer's median and how many times ours it is."""
    from rich import box
    from rich.table import Table

    tables = []
    for title, peers, cases in _tables(results):
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        table.add_column("case")
        for column in (_OURS, *peers, "of limit"):
            table.add_column(column, justify="right")
        for case in cases:
            cells = [_rich_cell(case["peers"][peer]) for peer in peers]
            table.add_row(case["name"], duration(case["ours"]["median"]), *cells, _limit(case))
        table.caption = "\n".join(_memory_lines(cases)) or None
        tables.append(table)
    return tables


def _rich_cell(peer: dict[str, Any]) -> str:
    if "skipped" in peer:
        return f"[dim]{peer['skipped']}[/dim]"
    colour = "green" if peer["ratio"] >= 1 else "red"
    # A narrow terminal shall break the line before the ratio, not before the unit.
    median = duration(peer["median"]).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{median} [{colour}]{significant(peer['ratio'])}x[/{colour}]"


def markdown(results: Results, charts: list[str]) -> str:
    lines = ["# Benchmarks", "", caption(results) + ".", ""]
    lines += [
        "Medians; behind each peer's time, how many times ours it is. All take turns in one process.",
        "`of limit`: the time an ideal kernel would need on this machine, over ours. " + limits_line(results),
        "Our result was checked before and after timing, as the notes say; a wrong one has no row.",
        "",
    ]
    for failure in results["failed"]:
        lines.append(f"**FAILED** {failure['benchmark']}: {failure['why']}\n")
    for title, peers, cases in _tables(results):
        lines += [f"## {title}", "", *_markdown_table(peers, cases), "", *_notes(peers, cases), ""]
    for heading, names in (("Charts", charts), ("Pictures", _pictures(results))):
        if names:
            lines += [f"## {heading}", "", *(f"![{Path(name).stem}]({name})\n" for name in names)]
    return "\n".join(lines).rstrip() + "\n"


def _pictures(results: Results) -> list[str]:
    return [case["picture"] for case in results["cases"] if "picture" in case]


def _markdown_table(peers: list[str], cases: list[dict[str, Any]]) -> Iterator[str]:
    columns = ["case", "size", "dtype", _OURS, *peers, "of limit"]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * 3}{'---:|' * (len(columns) - 3)}"
    for case in cases:
        cells = [case["name"], case["shape"], case["dtype"], f"**{duration(case['ours']['median'])}**"]
        cells += [_markdown_cell(case["peers"][peer]) for peer in peers]
        yield f"| {' | '.join([*cells, _limit(case)])} |"


def _markdown_cell(peer: dict[str, Any]) -> str:
    if "skipped" in peer:
        return peer["skipped"]
    return f"{duration(peer['median'])} ({significant(peer['ratio'])}x)"


def _notes(peers: list[str], cases: list[dict[str, Any]]) -> Iterator[str]:
    for source in dict.fromkeys(case["checked_against"] for case in cases):
        yield f"- Checked against {source}."
    for line in _memory_lines(cases):
        yield f"- {line}."
    for peer in peers:
        strays = [
            f"{case['peers'][peer]['differing']} in {case['name']}"
            for case in cases
            if case["peers"][peer].get("differing")
        ]
        note = f"- {peer}: {cases[0]['peers'][peer]['about']}."
        yield note + (f" Another result than ours: {', '.join(strays)}." if strays else "")


def _memory_lines(cases: list[dict[str, Any]]) -> Iterator[str]:
    for case in cases:
        ours = case.get("peak_extra_bytes")
        if not ours:
            continue
        texts = [f"{_OURS} {megabytes(ours)}"]
        for name, facts in case["peers"].items():
            if peak := facts.get("peak_extra_bytes"):
                texts.append(f"{name} {megabytes(peak)} ({significant(peak / ours)}x)")
        yield f"Peak extra memory in {case['name']}, result included: {', '.join(texts)}"


def megabytes(count: int) -> str:
    return f"{significant(count / 1e6)} MB"


def write_report(results: Results, out_dir: Path | str) -> list[Path]:
    """Writes report.md, results.json and the charts into out_dir; returns their paths, report.md first."""
    from .charts import write_charts

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    charts = write_charts(results, out_dir)
    report, data = out_dir / "report.md", out_dir / "results.json"
    report.write_text(markdown(results, [chart.name for chart in charts]))
    data.write_text(json.dumps(results, indent=2) + "\n")
    return [report, data, *charts]
