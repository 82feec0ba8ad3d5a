"""``gencv-fast doctor``: what runs on this machine, and why the rest does not."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

_PACKAGES = ("torch", "torchvision", "triton", "onnx", "onnxruntime", "onnxscript")
_VARIABLES = (
    "GENCV_FAST_BACKEND",
    "GENCV_FAST_ISA",
    "GENCV_FAST_PURE",
    "TRITON_INTERPRET",
    "CUDA_VISIBLE_DEVICES",
)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what runs here, and why the rest does not."""
    facts = collect()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _render(facts)


def collect() -> dict[str, Any]:
    """Everything `doctor` reports, as plain values."""
    return {
        "versions": _versions(),
        "system": _system(),
        "cpu": _cpu(),
        "build": _build(),
        "libraries": _libraries(),
        "cuda": _cuda(),
        "triton": _triton(),
        "onnx": _onnx(),
        "tools": _tools(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "ops": _ops(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str | None]:
    from .. import __version__

    return {"gencv_fast": __version__, **{package: _version(package) for package in _PACKAGES}}


def _system() -> dict[str, Any]:
    import torch

    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "os": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _native() -> Any:
    try:
        return importlib.import_module("gencv_fast._native")
    except ImportError:
        return None


def _cpu() -> dict[str, Any]:
    native = _native()
    x86 = platform.machine() in ("x86_64", "AMD64")
    wanted = os.environ.get("GENCV_FAST_ISA")
    return {
        "model": _cpu_model(),
        "features": native.cpu_features() if native else [],
        "isas_built": (["baseline", "avx2", "avx512"] if x86 else ["baseline"]) if native else [],
        "isas_usable": native.available_isas() if native else [],
        "isa": native.isa() if native else None,
        "override": f"GENCV_FAST_ISA={wanted}" if wanted else None,
    }


def _build() -> dict[str, Any]:
    native = _native()
    return dict(native.build_info()) if native else {}


def _libraries() -> list[dict[str, Any]]:
    from .. import _library

    reasons = {
        "libgencv_fast_torch_cpu.so": _library.why_no_cpu_library(),
        "libgencv_fast_torch_cuda.so": _library.why_no_cuda_library(),
    }
    listed = [
        {
            "name": name,
            "built": (_library.LIB_DIR / name).is_file(),
            "loaded": reason is None,
            "why_not": reason,
        }
        for name, reason in reasons.items()
    ]
    missing = None if _native() else "the Python binding _native was not built"
    return [
        *listed,
        {"name": "_native", "built": missing is None, "loaded": missing is None, "why_not": missing},
    ]


def why_no_gpu() -> str | None:
    """Why torch sees no GPU; None where it does."""
    import torch

    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return str(error).split(". ")[0].strip().rstrip(".")
    return "torch finds no CUDA device"


def _cuda() -> dict[str, Any]:
    import torch

    reason = why_no_gpu()
    devices = [] if reason else [_device(index) for index in range(torch.cuda.device_count())]
    return {"torch_cuda": torch.version.cuda, "devices": devices, "why_not": reason}


def _device(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
    }


def _triton() -> dict[str, Any]:
    from .._library import triton_interpreted, why_no_triton

    reason = why_no_triton()
    if reason is None and triton_interpreted():
        return {"runs": "in the interpreter, on the CPU", "why_not": None}
    reason = reason or why_no_gpu()
    if reason:
        return {
            "runs": None,
            "why_not": f"{reason}; TRITON_INTERPRET=1 would run Triton kernels on the CPU, slowly",
        }
    return {"runs": "on the GPU", "why_not": None}


def _onnx() -> dict[str, Any]:
    missing = [package for package in ("onnx", "onnxscript") if _version(package) is None]
    providers: list[str] = []
    if _version("onnxruntime") is not None:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    return {
        "export": not missing,
        "why_not": f"not installed: {', '.join(missing)}" if missing else None,
        "onnxruntime_providers": providers,
    }


def _tools() -> dict[str, str | None]:
    from .._inspection import find_tool

    found = {name: find_tool(name) for name in ("nvcc", "cuobjdump")}
    return {name: str(path) if path else None for name, path in found.items()}


def _ops() -> dict[str, dict[str, Any]]:
    from .._dispatch import OPS

    return {name: _op_state(op, args) for name, op in OPS.items() for args in [_sample_arguments(op)]}


def _sample_arguments(op: Any) -> tuple[Any, ...]:
    import torch

    from .._dispatch import load_object

    return next(iter(load_object(f"{op.room}.samples:sample_inputs")(op.name, torch.float32))).args


def _op_state(op: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    from .._dispatch import BACKENDS

    reasons = {backend: _why_not(op, backend, args) for backend in BACKENDS}
    return {"chosen_for_cpu_tensors": op.choose(*args), "why_not": reasons}


def _why_not(op: Any, backend: str, args: tuple[Any, ...]) -> str | None:
    """As `Op.why_not`, with tensors on the device that the backend is for."""
    from .. import _library

    if backend in ("cpu", "reference") or backend not in op.backends:
        return op.why_not(backend, *args)
    if backend == "triton":
        if reason := _library.why_no_triton():
            return reason
        if _library.triton_interpreted():
            return op.why_not(backend, *args)
    elif reason := _library.why_no_cuda_library():
        return reason
    return why_no_gpu() or op.why_not(backend, *_on_gpu(args))


def _on_gpu(args: tuple[Any, ...]) -> Iterator[Any]:
    import torch

    return (arg.cuda() if isinstance(arg, torch.Tensor) else arg for arg in args)


def _render(facts: Mapping[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    console.print(_facts_table(facts))
    console.print()
    if facts["ops"]:
        console.print(_ops_table(facts["ops"]))
    for line in _reason_lines(facts["ops"]):
        console.print(line, highlight=False)


def _yes(text: str = "yes") -> str:
    return f"[green]{text}[/]"


def _no(reason: str) -> str:
    return f"[yellow]no:[/] {reason}"


def _facts_table(facts: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _fact_rows(facts):
        table.add_row(label, text)
    return table


def _fact_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    versions, system, cpu = facts["versions"], facts["system"], facts["cpu"]
    yield "gencv_fast", f"{versions['gencv_fast']}{_built_with(facts['build'])}"
    yield "packages", ", ".join(f"{p} {versions[p] or '[yellow]missing[/]'}" for p in _PACKAGES)
    yield "system", f"Python {system['python']}, {system['os']}"
    yield (
        "processor",
        f"{cpu['model']}, {system['cores']} cores, torch uses {system['torch_threads']} threads",
    )
    yield "", " ".join(cpu["features"])
    yield "instruction set", _isa_text(cpu)
    for library in facts["libraries"]:
        yield library["name"], _yes("loaded") if library["loaded"] else _no(library["why_not"])
    yield "CUDA", _cuda_text(facts["cuda"])
    yield (
        "Triton",
        _yes(facts["triton"]["runs"]) if facts["triton"]["runs"] else _no(facts["triton"]["why_not"]),
    )
    yield "ONNX", _onnx_text(facts["onnx"])
    yield (
        "tools",
        ", ".join(f"{name} {path or '[yellow]not found[/]'}" for name, path in facts["tools"].items()),
    )
    if facts["environment"]:
        yield "environment", ", ".join(f"{name}={value}" for name, value in facts["environment"].items())


def _built_with(build: Mapping[str, Any]) -> str:
    if not build:
        return ""
    cuda = f", {build['cuda_compiler']} for sm {build['cuda_archs']}" if build["cuda_compiler"] else ", without CUDA"
    return f", built with {build['compiler']}{cuda}, for torch {build['torch_target']} and later"


def _isa_text(cpu: Mapping[str, Any]) -> str:
    if cpu["isa"] is None:
        return _no("the compiled kernels are not here, the reference runs instead")
    unusable = [isa for isa in cpu["isas_built"] if isa not in cpu["isas_usable"]]
    rest = f"; this processor lacks {', '.join(unusable)}" if unusable else ""
    because = f"asked for by {cpu['override']}" if cpu["override"] else "the best one; GENCV_FAST_ISA overrides"
    if cpu["override"] and cpu["override"].split("=")[1] != cpu["isa"]:
        because = f"{cpu['override']} cannot be had"
    return f"{_yes(cpu['isa'])} ({because}), usable: {', '.join(cpu['isas_usable'])}{rest}"


def _cuda_text(cuda: Mapping[str, Any]) -> str:
    version = f"torch built for CUDA {cuda['torch_cuda']}" if cuda["torch_cuda"] else "torch built without CUDA"
    if cuda["why_not"]:
        return f"{_no(cuda['why_not'])} ({version})"
    devices = (f"{d['name']} (sm {d['capability']}, {d['memory_gib']} GiB)" for d in cuda["devices"])
    return f"{_yes(', '.join(devices))}; {version}"


def _onnx_text(onnx: Mapping[str, Any]) -> str:
    export = _yes("export works") if onnx["export"] else _no(onnx["why_not"])
    providers = ", ".join(onnx["onnxruntime_providers"]) or "not installed"
    return f"{export}; onnxruntime: {providers}"


def _ops_table(ops: Mapping[str, Mapping[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table

    backends = list(next(iter(ops.values()))["why_not"])
    title = "operators (*: what CPU tensors take)"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", *backends):
        table.add_column(name)
    for name, state in ops.items():
        chosen = state["chosen_for_cpu_tensors"]
        cells = (
            "[yellow]no[/]" if reason else _yes("yes *" if backend == chosen else "yes")
            for backend, reason in state["why_not"].items()
        )
        table.add_row(name, *cells)
    return table


def _reason_lines(ops: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Each reason once, with the operators that it stops."""
    stopped: dict[tuple[str, str], list[str]] = {}
    for name, state in ops.items():
        for backend, reason in state["why_not"].items():
            if reason:
                stopped.setdefault((backend, reason.replace(name, "the operator")), []).append(name)
    for (backend, reason), names in stopped.items():
        which = "runs none of them" if len(names) == len(ops) else f"does not run {', '.join(names)}"
        yield f"[bold]{backend}[/] {which}: {reason}."
