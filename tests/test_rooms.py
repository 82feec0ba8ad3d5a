"""Every operator has every face (docs/architecture.md), every file of a room belongs to one, and binaries are clean."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import torch

import gencv_fast
import gencv_fast.nn
import gencv_fast.onnx
from gencv_fast._dispatch import BACKENDS, OPS, Op, load_object
from gencv_fast._library import LIB_DIR
from tests.demo.libraries import BUILD_DIR, HOW_TO_BUILD
from tests.harness.backends import DTYPES
from tests.harness.parameters import ops
from tests.harness.processes import ROOT
from tests.harness.samples import tensors_of

ROOM_FILES = {
    "README.md",
    "__init__.py",
    "reference.py",
    "contract.py",
    "checks.py",
    "triton_kernels.py",
    "onnx_export.py",
    "samples.py",
}
COMPILED = ("*_cpu.cpp", "*_cuda.cu", "*_torch_cpu.cpp", "*_torch_cuda.cpp")


def public(op: Op) -> bool:
    """Of the package, and no backward of another operator."""
    return public_room(op) and op.onnx is not None


def room_name(op: Op) -> str:
    """Of the room itself where the operator lies in a wing of it, such as gencv_fast.ops.roi.align."""
    return op.room.removeprefix("gencv_fast.ops.").split(".")[0] if public_room(op) else op.room.rsplit(".", 1)[-1]


def public_room(op: Op) -> bool:
    return op.room.startswith("gencv_fast.")


def python_folder(op: Op) -> Path:
    return ROOT / op.room.replace(".", "/")


def csrc_folder(op: Op) -> Path:
    above = ROOT if public_room(op) else python_folder(op)
    return above / "csrc" / room_name(op)


def rooms() -> dict[str, Op]:
    """One operator of each room."""
    return {op.room: op for op in OPS.values() if not op.is_backward}


def names_it(text: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None


@ops()
def test_kernels(op: Op) -> None:
    """A compiled CPU and CUDA kernel, and a Triton one where the op claims it, registered in the room's bindings."""
    assert {"cpu", "cuda"} <= set(op.backends) <= set(BACKENDS)
    assert ("triton" in op.backends) == (op.triton is not None)
    for device in ("cpu", "cuda"):
        bindings = "".join(path.read_text() for path in csrc_folder(op).glob(f"*_torch_{device}.cpp"))
        assert f'm.impl("{op.name}", ' in bindings, f"no {device} binding registers {op.name}"
    if op.triton is not None:
        module, function = op.triton.split(":")
        assert module == f"{op.room}.triton_kernels"
        source = (python_folder(op) / "triton_kernels.py").read_text()
        assert f"def {function}(" in source


@ops()
def test_python_faces(op: Op) -> None:
    """Reference, check, fake, vmap, autograd pair, autocast rule and sharding rule are what their types say."""
    for face in (op.reference, op.check, op.fake, op.vmap):
        assert callable(face)
    assert inspect.getmodule(op.reference).__name__ == f"{op.room}.reference"
    assert (op.backward is None) == (op.setup_context is None)
    assert not op.double_backward or op.backward is not None
    assert op.autocast in (None, "lower_precision") or op.autocast.is_floating_point
    if op.sharding is not None:
        assert callable(load_object(op.sharding))
    for reason in op.why_not_room:
        assert reason in op.backends
    arguments = [a.name for a in op.overload._schema.arguments]
    assert list(inspect.signature(op.reference).parameters) == arguments
    assert list(inspect.signature(op.check).parameters)[: len(arguments)] == arguments


@ops(public)
def test_onnx_lowering(op: Op) -> None:
    assert op.onnx == f"{op.room}.onnx_export:{op.name}"
    assert callable(load_object(op.onnx))


@ops()
def test_samples(op: Op) -> None:
    """Legal and illegal calls, with unique names, empty ones and such as are not contiguous among them."""
    module = importlib.import_module(f"{op.room}.samples")
    tensors = []
    for dtype in DTYPES.values():
        samples = module.sample_inputs(op.name, dtype)
        names = [sample.name for sample in samples]
        assert len(names) == len(set(names))
        # ONNX Runtime's CPU provider lacks some operators for float64.
        assert samples[0].exportable or dtype == torch.float64
        floating = [t for s in samples for t in tensors_of(s.args) if t.is_floating_point()]
        # Gradients of overlaps and losses are wide, whatever the boxes.
        assert {dtype} <= {t.dtype for t in floating} <= {dtype, torch.float32}
        tensors += floating
    assert any(t.numel() == 0 for t in tensors)
    assert any(not t.is_contiguous() for t in tensors)
    assert any(not t.isfinite().all() for t in tensors)
    errors = module.error_inputs(op.name)
    assert errors
    assert len({error.name for error in errors}) == len(errors)
    tolerances = module.tolerances(op.name)
    assert tolerances.exact or set(DTYPES.values()) <= set(tolerances.floor)


def public_name(op: Op) -> str:
    return op.part_of or op.name


@ops(lambda op: public_room(op) and not op.is_backward)
def test_readme_and_benchmark(op: Op) -> None:
    readme = (python_folder(op) / "README.md").read_text()
    headings = [line for line in readme.splitlines() if line.startswith("#")]
    assert any(names_it(heading, public_name(op)) for heading in headings), "no section names the op"
    benchmarks = (ROOT / "benchmarks").glob(f"bench_{room_name(op)}*.py")
    assert any(names_it(path.read_text(), public_name(op)) for path in benchmarks)


@ops(lambda op: op.onnx is not None)
def test_docstring(op: Op) -> None:
    """Shapes, dtypes, errors and an example that runs."""
    module = importlib.import_module(op.room)
    function = getattr(module, op.name)
    text = inspect.getdoc(function)
    for part in ("Args:", "Returns:", "Raises:", "RuntimeError", "Example:", ">>> ", "fp32"):
        assert part in text, f"lacks {part!r}"
    signature = inspect.signature(function)
    for argument in op.overload._schema.arguments:
        assert f"{argument.name}: " in text
        assert argument.name in signature.parameters
    assert signature.parameters["backend"].kind is inspect.Parameter.KEYWORD_ONLY
    assert re.search(r"``\[[A-Z0-9., *]+\]``", text), "no shape"
    assert run_doctests(function, module) > 0


EXAMPLES = [
    (module, name)
    for module in (gencv_fast, gencv_fast.nn, gencv_fast.onnx)
    for name in module.__all__
    if name not in OPS  # whose examples have a test of their own
]


@pytest.mark.parametrize(("module", "name"), EXAMPLES, ids=[f"{module.__name__}.{name}" for module, name in EXAMPLES])
def test_examples(module: ModuleType, name: str) -> None:
    """Those that the docstrings have run; every module has one."""
    thing = getattr(module, name)
    examples = run_doctests(thing, importlib.import_module(thing.__module__))
    assert examples or module is not gencv_fast.nn


def run_doctests(thing: object, module: ModuleType) -> int:
    examples = 0
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder(recurse=False).find(thing, module=module):
        examples += len(test.examples)
        printed: list[str] = []
        runner.run(test, out=printed.append)
        assert not runner.failures, "".join(printed)
    return examples


def test_public_functions() -> None:
    """The package exports every public operator, documented, and nothing undocumented."""
    assert {name for name, op in OPS.items() if public(op)} <= set(gencv_fast.__all__)
    assert {op.part_of for op in OPS.values() if op.part_of is not None} <= set(gencv_fast.__all__)
    for name in gencv_fast.__all__:
        assert inspect.getdoc(getattr(gencv_fast, name)), name
    assert (ROOT / "gencv_fast" / "py.typed").exists()


@pytest.mark.parametrize("room", rooms())
def test_no_orphan_files(room: str) -> None:
    """Python files are faces; compiled files match a build rule; headers are included by a file of the room."""
    op = rooms()[room]
    folder = python_folder(op)
    own = {path.name for path in folder.iterdir() if path.is_file()}
    sources = "\n".join(path.read_text() for path in folder.glob("*.py"))
    parts = {f"{part}.py" for part in re.findall(r"from \.(\w+) import", sources)}
    assert own <= ROOM_FILES | parts, own - ROOM_FILES - parts
    csrc = csrc_folder(op)
    sources = {path for pattern in COMPILED for path in csrc.glob(pattern)}
    included = set(re.findall(rf'#include "{csrc.name}/([^"]+)"', "\n".join(p.read_text() for p in csrc.iterdir())))
    orphans = {path.name for path in csrc.iterdir() if path not in sources} - included
    assert not orphans, orphans


def symbols(path: Path, *options: str) -> list[str]:
    listing = subprocess.run(["nm", "-C", *options, str(path)], capture_output=True, text=True, check=True)
    return listing.stdout.splitlines()


@pytest.mark.parametrize("library", ["libgencv_fast_torch_cpu.so", "libgencv_fast_torch_cuda.so"])
def test_stable_abi(library: str) -> None:
    """No C++ symbol of torch is needed, so that one binary serves many versions of it."""
    path = LIB_DIR / library
    if "cuda" in library and not path.exists():
        pytest.skip(f"{library} is not built; build it with: GENCV_FAST_CUDA=ON pip install --no-build-isolation -e .")
    needed = symbols(path, "-D", "--undefined-only")
    assert any("torch_" in line or "aoti_torch_" in line for line in needed)
    assert not [line for line in needed if re.search(r"\b(at|c10|torch)::", line)]


def per_isa_objects() -> list[Path]:
    folders = ["common", *(room_name(op) for op in rooms().values())]
    found = [BUILD_DIR.glob(f"CMakeFiles/*_cpu_{folder}_*.dir/**/*_cpu.cpp.o") for folder in folders]
    return sorted(path for paths in found for path in paths if not re.search("_(asan|tsan)_", str(path)))


@pytest.mark.skipif(not per_isa_objects(), reason=f"no object files in {BUILD_DIR}; {HOW_TO_BUILD}")
def test_no_weak_symbols() -> None:
    """A weak symbol that two instruction sets share could give the newer one's code to an older processor."""
    for path in per_isa_objects():
        weak = [line for line in symbols(path, "--defined-only") if re.search(r" [VvWwu] ", line)]
        assert not weak, f"{path}: {weak}"


@pytest.mark.skipif(not per_isa_objects(), reason=f"no object files in {BUILD_DIR}; {HOW_TO_BUILD}")
def test_every_public_symbol_is_of_one_isa() -> None:
    """What a per-ISA object exports lies in the namespace of its instruction set."""
    for path in per_isa_objects():
        (isa,) = re.findall(r"_(baseline|avx2|avx512)\.dir", str(path))
        exported = [line.split(maxsplit=2)[2] for line in symbols(path, "--defined-only", "--extern-only")]
        assert exported
        assert all(name.startswith(f"gcv::{isa}::") for name in exported), exported
