"""The report's charts: speed-ups, growth with size, and distance from the machine's limits."""

from __future__ import annotations

import textwrap
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS_COLOUR = "#d62839"
_PEER_COLOURS = (
    *("#264653", "#2a9d8f", "#e9a03b", "#7b6ca8", "#5b8fb9"),
    *("#9c6644", "#8d99ae", "#588157", "#c77dff", "#bc4749"),
)
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 130,
}


def write_charts(results: dict[str, Any], out_dir: Path) -> list[Path]:
    """Draws what the cases allow: speedup_<op>.png, growth_<op>.png, limit.png."""
    import matplotlib

    from .report import caption

    cases = results["cases"]
    colours = _peer_colours(cases)
    figures: dict[str, Figure] = {}
    with matplotlib.rc_context(_STYLE):
        for op, group in groupby(cases, lambda case: case["op"]):
            of_op = list(group)
            figures[f"speedup_{op}"] = _speedup(op, of_op, colours)
            if any(case["series"] for case in of_op):
                figures[f"growth_{op}"] = _growth(op, of_op, colours)
        if counted := [case for case in cases if "work" in case]:
            figures["limit"] = _limit(counted)
        paths = [_save(figure, out_dir / f"{name}.png", caption(results)) for name, figure in figures.items()]
    return paths


def _peer_colours(cases: list[dict[str, Any]]) -> dict[str, str]:
    peers = dict.fromkeys(peer for case in cases for peer in case["peers"])
    return {peer: _PEER_COLOURS[index % len(_PEER_COLOURS)] for index, peer in enumerate(peers)}


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _save(figure: Figure, path: Path, caption: str) -> Path:
    wrapped = textwrap.fill(caption, int(figure.get_figwidth() * 16))
    figure.supxlabel(wrapped, fontsize=7.5, color="#666666", x=0.01, ha="left")
    figure.savefig(path)
    return path


def _speedup(op: str, cases: list[dict[str, Any]], colours: dict[str, str]) -> Figure:
    rows: list[tuple[float, str, float]] = []
    ticks: list[tuple[float, str]] = []
    y = 0.0
    for case in cases:
        timed = {name: peer["ratio"] for name, peer in case["peers"].items() if "ratio" in peer}
        ticks.append((y + (len(timed) - 1) / 2, case["name"]))
        for name, ratio in timed.items():
            rows.append((y, name, ratio))
            y += 1
        y += 0.8
    figure, (axes,) = _figure(9, 1.3 + 0.17 * y)
    shown = dict.fromkeys(name for _, name, _ in rows)
    for peer in shown:
        places = [place for place, name, _ in rows if name == peer]
        ratios = [ratio for _, name, ratio in rows if name == peer]
        # Bars start at 1, so on the log axis those of faster peers point to the left.
        axes.barh(places, [r - 1 for r in ratios], left=1, height=0.86, color=colours[peer], label=peer)
        for place, ratio in zip(places, ratios, strict=True):
            away, side = (3, "left") if ratio >= 1 else (-3, "right")
            text = f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2f}x"
            axes.annotate(text, (ratio, place), (away, 0), textcoords="offset points", ha=side, va="center", fontsize=7)
    every_ratio = [ratio for _, _, ratio in rows]
    axes.set_xscale("log")
    axes.set_xlim(min(0.8, 0.55 * min(every_ratio)), max(2.0, 1.6 * max(every_ratio)))
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_yticks([place for place, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(y - 0.4, -0.9)
    axes.tick_params(axis="y", length=0)
    _plain_decades(axes.xaxis)
    axes.grid(axis="x")
    axes.set_title(f"{op}: the peer's time over ours (right of 1: gencv_fast is faster)", fontsize=10.5, pad=26)
    legend: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(**legend, ncols=len(shown), fontsize=8, columnspacing=1, handlelength=1.3)
    return figure


def _plain_decades(axis: Any) -> None:
    """Labels 1, 10, 100 instead of powers."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _growth(op: str, cases: list[dict[str, Any]], colours: dict[str, str]) -> Figure:
    series = list(dict.fromkeys(case["series"] for case in cases if case["series"]))
    figure, panels = _figure(max(6.5, 5.3 * len(series)), 4.6, len(series))
    for axes, name in zip(panels, series, strict=True):
        points = sorted((case for case in cases if case["series"] == name), key=lambda case: case["n"])
        _growth_panel(axes, points, colours)
        axes.set_title(f"{op}, {name}", fontsize=10.5)
    panels[0].set_ylabel("median time, ms")
    return figure


def _growth_panel(axes: Axes, points: list[dict[str, Any]], colours: dict[str, str]) -> None:
    for peer in dict.fromkeys(peer for case in points for peer in case["peers"]):
        timed = [
            (case["n"], case["peers"][peer]["median"] * 1e3)
            for case in points
            if "median" in case["peers"].get(peer, {})
        ]
        if timed:
            axes.plot(*np.array(timed).T, "o-", color=colours[peer], linewidth=1.4, markersize=3.5, label=peer)
    sizes = np.array([case["n"] for case in points], float)
    ours = np.array([case["ours"]["median"] * 1e3 for case in points])
    large = sizes >= 1_000
    label = "gencv_fast"
    if large.sum() > 1:
        exponent = np.polyfit(np.log(sizes[large]), np.log(ours[large]), 1)[0]
        label += f" (~ n^{exponent:.2f} from 1k on)"
    axes.plot(sizes, ours, "o-", color=_OURS_COLOUR, linewidth=2.6, markersize=5.5, label=label, zorder=5)
    _quadratic_guide(axes, sizes[large], ours[large])
    axes.set(xscale="log", yscale="log", xlabel="boxes")
    _plain_decades(axes.xaxis)
    _plain_decades(axes.yaxis)
    axes.grid()
    axes.legend(fontsize=8, loc="upper left")


def _quadratic_guide(axes: Axes, sizes: np.ndarray, ours: np.ndarray) -> None:
    """Where quadratic growth would lead from our first large point."""
    if len(sizes) > 1:
        times = ours[0] * (sizes / sizes[0]) ** 2
        axes.plot(sizes, times, "--", color="#aaaaaa", linewidth=1.2, label="quadratic")


def _limit(cases: list[dict[str, Any]]) -> Figure:
    figure, (axes,) = _figure(9, 1.3 + 0.26 * len(cases))
    percent = [100 * case["work"]["fraction"] for case in cases]
    names = [f"{case['op']}  {case['name']}" for case in cases]
    bars = axes.barh(names, percent, height=0.7, color=_OURS_COLOUR)
    axes.bar_label(bars, [f"{value:.1f}%" for value in percent], padding=3, fontsize=8)
    axes.set_xlim(0, 1.1 * max(100, *percent))
    axes.axvline(100, color="#333333", linewidth=1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_title("Share of the limit: an ideal kernel's time over ours, in percent", fontsize=10.5)
    return figure
