"""What depends on the environment at import: interpreted Triton, a package without kernels, overrides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.processes import ROOT, python

ALL_OPS_ON_THE_REFERENCE = """
import torch, gencv_fast, tests.demo
from gencv_fast._dispatch import OPS
from tests.harness.compare import assert_same_bits
from tests.harness.numerics import requiring_grad
from tests.harness.samples import as_tuple, expected, samples
for name, op in OPS.items():
    for sample in samples(name, torch.float32)[:3]:
        plain = expected(name, torch.float32)[sample.name]
        assert_same_bits(as_tuple(op(*sample.args)), plain)
        explanation = gencv_fast.explain(name, *sample.args)
        assert explanation.chosen == "reference", explanation
"""

NOT_IMPORTED = """
import sys
for module in ("triton", "onnx", "onnxscript", "matplotlib", "torch.distributed.tensor", "torch._dynamo", "rich"):
    assert module not in sys.modules, module
"""


COMPILED_FIRST = """
import torch, gencv_fast
from gencv_fast._dispatch import OPS, load_object
for name, op in OPS.items():
    sample = load_object(f"{op.room}.samples:sample_inputs")(name, torch.float32)[0]
    torch._dynamo.reset()
    compiled = torch.compile(lambda *args, op=op: op(*args), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*sample.args), op(*sample.args))
"""

OVERLAPPING_THREADS = """
import threading, torch, gencv_fast
entered, left = threading.Barrier(2), threading.Event()

def first():
    with gencv_fast.use_backend("reference"):
        entered.wait()
    left.set()

def second():
    with gencv_fast.use_backend("cpu"):
        entered.wait()
        left.wait()

threads = [threading.Thread(target=f) for f in (first, second)]
for thread in threads: thread.start()
for thread in threads: thread.join()
boxes, scores = torch.rand(3, 4).cumsum(1), torch.rand(3)
text = str(gencv_fast.explain("nms", boxes, scores, 0.5))
assert "cpu       chosen" in text, text
with gencv_fast.use_backend("cuda"):
    text = str(gencv_fast.explain("nms", boxes, scores, 0.5))
assert "asked for, but the call will fail: the tensor is on cpu" in text, text
"""


def interpreted_session(*arguments: str) -> None:
    """Runs the tests of Triton's kernels (see conftest.py) by Triton's interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


#: Each takes minutes; together they are all.
INTERPRETED = ("roi_align", "roi_pool", "spatial_pyramid", "masked_conv or gated")
INTERPRETED += (f"not ({' or '.join(INTERPRETED)})",)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", INTERPRETED)
def test_triton_in_the_interpreter(part: str) -> None:
    interpreted_session("tests", "-k", part)


@pytest.mark.full
@pytest.mark.timeout(7200)
def test_triton_in_the_interpreter_on_every_sample() -> None:
    interpreted_session("tests", "-m", "full")


def test_an_op_can_be_compiled_before_its_first_eager_call() -> None:
    python(COMPILED_FIRST)


def test_overlapping_overrides_leave_nothing_behind() -> None:
    python(OVERLAPPING_THREADS)


def test_import_needs_no_home_and_nothing_heavy(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    python("import gencv_fast", NOT_IMPORTED, HOME=str(home), XDG_CACHE_HOME=str(home / "cache"), TMPDIR=str(home))
    assert not list(home.iterdir())


def test_pure() -> None:
    """Without the compiled kernels every op runs its reference, and says why."""
    reason = "GENCV_FAST_PURE=1 leaves the compiled kernels out"
    asked = f"""
for name, op in OPS.items():
    args = samples(name, torch.float32)[0].args
    try:
        op(*args, backend="cpu")
    except RuntimeError as error:
        assert str(error) == f"{{name}}: backend 'cpu' cannot run: {reason}.", error
    else:
        raise AssertionError(name)
    assert_same_bits(as_tuple(op.overload(*args)), as_tuple(op(*args)))
    results = as_tuple(op(*requiring_grad(args)))
    assert any(r.requires_grad for r in results) == (op.backward is not None or op.is_backward), name
    torch._dynamo.reset()
    compiled = torch.compile(op, fullgraph=True, dynamic=True, backend="aot_eager")
    assert_same_bits(as_tuple(compiled(*args)), as_tuple(op(*args)))
"""
    python("import warnings; warnings.simplefilter('error')", ALL_OPS_ON_THE_REFERENCE, asked, GENCV_FAST_PURE="1")


def test_backend_from_the_environment() -> None:
    python(ALL_OPS_ON_THE_REFERENCE, GENCV_FAST_BACKEND="reference")


def test_isa_from_the_environment() -> None:
    code = "import gencv_fast; from gencv_fast import _native; print(_native.isa(), *_native.available_isas())"
    used, *usable = python(code).split()
    assert used == usable[-1]
    assert python(code, GENCV_FAST_ISA=usable[0]).split() == [usable[0], *usable]


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("GENCV_FAST_ISA", "GENCV_FAST_ISA: expected one of baseline"),
        ("GENCV_FAST_BACKEND", "GENCV_FAST_BACKEND: expected one of cpu, cuda, triton, reference, got 'x87'"),
    ],
)
def test_unknown_names_in_the_environment(variable: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        python("import gencv_fast", **{variable: "x87"})


def test_a_missing_library_is_told() -> None:
    """The package warns at import, runs the reference, and says what is missing."""
    python("""
import pathlib, warnings, torch
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path, **kw: not path.name.startswith("libgencv_fast") and exists(path, **kw)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import gencv_fast
reason = "libgencv_fast_torch_cpu.so was not built"
assert [w for w in caught if reason in str(w.message)], caught
explanation = gencv_fast.explain("nms", torch.zeros(1, 4), torch.zeros(1), 0.5)
assert explanation.chosen == "reference"
assert explanation.reasons["cpu"] == reason
assert gencv_fast.nms(torch.zeros(1, 4), torch.zeros(1), 0.5).tolist() == [0]
""")
