"""``gencv-fast export``: a model as ONNX, verified in onnxruntime, with its latency against PyTorch."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn

    from ..onnx import ExportedModel, Verification

_OTHER_SIZES = ((1.25, 0.8), (0.7, 1.1))  # factors of height and width at which a dynamic model is verified too
_RUNS = 5


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A torchvision model's name, or package.module:function that takes nothing and returns it."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The file to write.")],
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Make height and width dynamic.")] = False,
    opset: Annotated[int, typer.Option(help="Version of the standard operators, 18 or later.")] = 20,
    size: Annotated[str, typer.Option(help="HxW of the example image.")] = "320x320",
    batch: Annotated[int, typer.Option(help="Images of a run.", min=1)] = 1,
    weights: Annotated[
        str, typer.Option(help="torchvision's name of trained weights, which are downloaded; or random.")
    ] = "DEFAULT",
) -> None:
    """Export a model to ONNX, verify it in onnxruntime, and compare its speed with PyTorch's."""
    from ..onnx import export as export_model
    from ..onnx import verify

    height, width = _parse_size(size)
    network = _load(model, weights).eval()
    example = _example(network, batch, height, width)
    other_batch = batch + 1 if batch > 1 and not isinstance(example, list) else batch
    exported = export_model(network, example, output, dynamic=dynamic, opset=opset)
    others = [(round(height * y), round(width * x)) for y, x in _OTHER_SIZES] if dynamic else []
    inputs = [example, *(_example(network, other_batch, *other) for other in others)]
    try:
        report = verify(output, network, inputs)
    except RuntimeError as error:
        if weights != "random" or ":" in model or not isinstance(example, list):
            raise
        raise RuntimeError(
            f"{error} The scores of random weights tie: take --weights DEFAULT, or package.module:function for a "
            "detector whose heads are calibrated."
        ) from error
    _render(exported, report, _milliseconds(network, example, output))


def _parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise RuntimeError(f"--size: expected HxW such as 480x640; got {text!r}.")
    return int(height), int(width)


def _load(name: str, weights: str) -> nn.Module:
    from torch import nn

    network = _call_factory(name) if ":" in name else _torchvision_model(name, weights)
    if not isinstance(network, nn.Module):
        raise RuntimeError(f"export: {name} must return a torch.nn.Module, got {type(network).__name__}.")
    return network


def _call_factory(path: str) -> Any:
    module, _, name = path.partition(":")
    sys.path.insert(0, "")  # as python -m does, so that a file of the working directory is found
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"export: cannot import {path}: {error}.") from error
    finally:
        sys.path.remove("")
    return factory()


def _torchvision_model(name: str, weights: str) -> Any:
    try:
        from torchvision import models
    except ImportError as error:
        raise RuntimeError("export: torchvision is not installed; pip install torchvision.") from error
    if name not in models.list_models():
        raise RuntimeError(
            f"export: {name!r} is neither a model of torchvision nor a factory such as package.module:function."
        )
    options: dict[str, Any] = {"weights": weights}
    if weights == "random":
        options["weights"] = None
        if name in models.list_models(module=models.detection):
            options["weights_backbone"] = None
    try:
        return models.get_model(name, **options)
    except (KeyError, ValueError) as error:
        raise RuntimeError(f"--weights: torchvision has no weights {weights!r} for {name}.") from error


def _example(network: nn.Module, batch: int, height: int, width: int) -> Any:
    """Smooth noise in [0, 1]: a list of images for torchvision's detectors, a batch for other models."""
    import torch

    from ..onnx._export import is_detector

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return list(images) if is_detector(network) else images


def _milliseconds(network: nn.Module, example: Any, path: Path) -> tuple[float, float]:
    """The fastest runs of onnxruntime and PyTorch, in turns."""
    import onnxruntime
    import torch

    from ..onnx._verify import run_session

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        pairs = [
            (_seconds(lambda: run_session(session, (example,))), _seconds(lambda: network(example)))
            for _ in range(_RUNS)
        ]
    onnx, pytorch = (1e3 * min(times) for times in zip(*pairs, strict=True))
    return onnx, pytorch


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _render(exported: ExportedModel, report: Verification, milliseconds: tuple[float, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("written", f"{exported.path}, {exported.size / 1e6:.1f} MB, opset {exported.opset}")
    for name, shape in exported.inputs.items():
        table.add_row("input", f"{name} ({', '.join(map(str, shape))})")
    table.add_row("outputs", ", ".join(exported.outputs))
    table.add_row("operators", "  ".join(f"{name} [bold]{count}[/]" for name, count in exported.ops.items()))
    table.add_row("verified", _verified_text(report))
    onnx, pytorch = milliseconds
    table.add_row("latency", f"onnxruntime {onnx:.1f} ms, PyTorch {pytorch:.1f} ms ({pytorch / onnx:.2f}x)")
    Console().print(table, highlight=False)


def _verified_text(report: Verification) -> str:
    comparisons = report.comparisons
    sizes = ", ".join("x".join(map(str, comparison.shapes[0][-2:])) for comparison in comparisons)
    if report.detections is None:
        return f"[green]equal[/] at {sizes}, differences up to {max(c.error for c in comparisons):.1g}"
    if report.detections == 0:
        return f"[yellow]nothing was detected[/] at {sizes}, in PyTorch neither"
    box, score = max(c.box_error for c in comparisons), max(c.score_error for c in comparisons)
    return f"[green]equal[/] at {sizes}: {report.detections} detections, boxes within {box:.1g} px, scores {score:.1g}"
