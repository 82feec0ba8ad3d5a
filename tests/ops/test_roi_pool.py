"""What is special to roi_pool: torchvision decides, on any regions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gencv_fast
from gencv_fast._dispatch import OPS
from gencv_fast.nn import RoIPool
from gencv_fast.ops.roi.pool import reference
from tests.harness.backends import REFERENCE, Runner, kernels
from tests.harness.compare import assert_same_bits
from tests.ops.gpu_code import EMULATED, ORDERS, REPOSITORY

every_kernel = pytest.mark.parametrize("runner", [*kernels(), pytest.param(REFERENCE, id="reference")])


@st.composite
def calls(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple[int, int], float]:
    """Maps with ties and special values; regions on half pixels, reversed, outside, of no size and anywhere."""
    images, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    scale = draw(st.sampled_from((1.0, 0.5, 0.25, 1 / 16, 1 / 3, 0.1, 3.0)))
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    number = st.one_of(st.integers(-3, 3).map(float), st.sampled_from((0.25, -0.0, np.nan, np.inf, -np.inf, 1e30)))
    count = images * channels * height * width
    values = draw(st.lists(number, min_size=count, max_size=count))
    on_halves = st.integers(-6, 24).map(lambda n: n / 2 / scale)
    anywhere = st.floats(-10, 30, width=32).map(lambda x: x / scale)
    far = st.sampled_from((-1e6, 1e6))
    corner = st.one_of(on_halves, anywhere, far)
    image = st.integers(0, images - 1).map(float)
    rows = draw(st.lists(st.tuples(image, corner, corner, corner, corner), max_size=4))
    maps = torch.tensor(values, dtype=dtype).view(images, channels, height, width)
    # Up to whole blocks of channels and a rest.
    maps = maps.repeat(1, draw(st.sampled_from((1, 1, 12))), 1, 1)
    if draw(st.booleans()):
        maps = maps.contiguous(memory_format=torch.channels_last)
    size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return maps, torch.tensor(rows, dtype=dtype).view(-1, 5), size, scale


@every_kernel
@settings(deadline=None, max_examples=10 if os.environ.get("TRITON_INTERPRET") == "1" else 50)
@given(call=calls())
def test_equals_torchvision(runner: Runner, call: tuple[Tensor, Tensor, tuple[int, int], float]) -> None:
    """Results and gradients, to the bit: no sum has more than a few equal terms."""
    maps, boxes, size, scale = call
    ours, theirs = (maps.clone().requires_grad_() for _ in range(2))
    with runner.active():
        result = OPS["roi_pool"](ours, boxes, size, scale, backend=runner.backend)
        expected = torchvision.ops.roi_pool(theirs, boxes, size, scale)
        assert_same_bits([result.detach()], [expected.detach()])
        grad = torch.arange(expected.numel(), dtype=maps.dtype).view(expected.shape) % 7
        result.backward(grad)
    expected.backward(grad)
    assert_same_bits([ours.grad], [theirs.grad])


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_equals_torchvision_in_single(runner: Runner, dtype: torch.dtype) -> None:
    """The maxima of fp16 numbers are fp16 numbers; coordinates are computed in fp32."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 9, 11, generator=generator).to(dtype)
    boxes = torch.cat((torch.arange(8.0)[:, None] % 2, 170 * torch.rand(8, 4, generator=generator)), 1)
    result = runner(OPS["roi_pool"], maps, boxes, (3, 2), 1 / 16)
    assert_same_bits([result], [torchvision.ops.roi_pool(maps.float(), boxes, (3, 2), 1 / 16).to(dtype)])


@every_kernel
def test_halves_are_rounded_away_from_zero(runner: Runner) -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, -0.49999997, 8388607.5])
    maps = torch.arange(12.0).view(1, 1, 1, 12)
    boxes = torch.stack((x * 0, x, x * 0, x, x * 0), 1)
    result = runner(OPS["roi_pool"], maps, boxes, (1, 1), 1.0).flatten()
    assert result.tolist() == [1, 2, 3, 0, 0, 0, 0, 0]
    assert reference.rounded(x).tolist() == [1, 2, 3, -1, -2, 0, 0, 8388608]


@every_kernel
def test_the_first_of_equal_pixels_gets_the_gradient(runner: Runner) -> None:
    maps = torch.zeros(1, 1, 3, 4)
    maps[0, 0, 1] = maps[0, 0, 2] = torch.tensor([-0.0, 2, 2, torch.nan])
    x = maps.requires_grad_()
    with runner.active():
        OPS["roi_pool"](x, torch.tensor([[0.0, 0, 0, 3, 2]]), (1, 1), 1.0, backend=runner.backend).backward()
    assert x.grad.nonzero().tolist() == [[0, 0, 1, 1]]


@every_kernel
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradient_lies_in_memory_as_the_input(runner: Runner, channels_last: bool) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 5, 4, 6).contiguous(memory_format=layout).requires_grad_()
    with runner.active():
        OPS["roi_pool"](x, torch.tensor([[1.0, 0, 0, 5, 3]]), (2, 2), 1.0, backend=runner.backend).sum().backward()
    assert x.grad.is_contiguous(memory_format=layout)


@every_kernel
@pytest.mark.parametrize("index", [2, -1, 1e30, torch.nan])
def test_index_of_no_image(runner: Runner, index: float) -> None:
    maps, boxes = torch.randn(2, 3, 8, 8), torch.tensor([[1.0, 0, 0, 5, 5], [index, 0, 0, 5, 5]])
    grad = torch.randn(2, 3, 2, 2)
    calls = {
        "roi_pool": (maps, boxes, (2, 2), 1.0),
        "roi_pool_pick": (maps, maps, boxes, (2, 2), 1.0),
        "roi_pool_backward": (grad, maps, boxes, 1.0),
    }
    for name, args in calls.items():
        if runner.device == "cpu":
            with pytest.raises(RuntimeError, match=rf"{name}: boxes\[1, 0\] must be the index of one of 2 images"):
                runner(OPS[name], *args)
        else:
            result = runner(OPS[name], *args)
            assert not result.isfinite()[1:].any() if name == "roi_pool" else result.isfinite().all()


def test_many_regions_in_large_results() -> None:
    """Results that are written past the caches, whole blocks of channels and a rest; each ISA has its blocks."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 150, 20, 21, generator=generator)
    boxes = torch.cat((torch.arange(300.0)[:, None] % 2, 330 * torch.rand(300, 4, generator=generator)), 1)
    expected = torchvision.ops.roi_pool(maps, boxes, (5, 7), 1 / 16)
    for runner in (k.values[0] for k in kernels() if k.values[0].backend == "cpu"):
        for x in (maps, maps.contiguous(memory_format=torch.channels_last)):
            assert_same_bits([runner(OPS["roi_pool"], x, boxes, (5, 7), 1 / 16)], [expected])


def test_regions_that_cover_a_map_a_thousand_times() -> None:
    """Pixels of the last few channels are copied: there is room for the largest region, wherever it comes."""
    maps = torch.randn(1, 3, 100, 100).contiguous(memory_format=torch.channels_last)
    boxes = torch.tensor([[0.0, 20, 20, 51, 51]]).repeat(10_000, 1)
    boxes[-1, 1:] = torch.tensor([0.0, 0, 99, 99])
    expected = torchvision.ops.roi_pool(maps, boxes, (1, 1), 1.0)
    assert_same_bits([gencv_fast.roi_pool(maps, boxes, (1, 1), 1.0)], [expected])


def test_list_of_boxes_and_one_size() -> None:
    maps = torch.randn(2, 3, 8, 8)
    boxes = [torch.tensor([[0.0, 0, 5, 5], [1, 2, 7, 7]]), torch.tensor([[3.0, 3, 4, 9]])]
    expected = torchvision.ops.roi_pool(maps, boxes, 2, 0.5)
    assert_same_bits([gencv_fast.roi_pool(maps, boxes, 2, 0.5)], [expected])


def test_module_is_torchvisions() -> None:
    theirs, ours = torchvision.ops.RoIPool(2, 0.5), RoIPool(2, 0.5)
    assert repr(ours) == repr(theirs)
    maps, rois = torch.randn(1, 3, 8, 8), [torch.tensor([[0.0, 0, 15, 15]])]
    assert_same_bits([ours(maps, rois)], [theirs(maps, rois)])


@pytest.mark.parametrize("order", ORDERS)
def test_launchers(order: str) -> None:
    """The torch-free test program; tests/sanitize runs it under the sanitizers."""
    executable = EMULATED / "plain" / "roi_pool_emulated_test"
    if not executable.exists():
        pytest.skip(f"{executable} is not built (make build)")
    done = subprocess.run([executable, "--order", order], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


INTERPRETED = """
import torch
from gencv_fast.ops.roi.pool import reference, samples, triton_kernels
from tests.harness.compare import assert_same_bits

maps = torch.randn(2, 34, 5, 35, dtype=torch.float64)
boxes = torch.tensor([[0.0, 30, 0, 34, 4], [1, 0, 0, 34, 4], [2, 0, 0, 3, 3], [-1, 0, 0, 3, 3]], dtype=torch.float64)
grad = torch.randn(4, 34, 2, 3, dtype=torch.float64)
pooled = reference.roi_pool(maps, boxes, (2, 3))
assert pooled[2:].isnan().all() and not pooled[:2].isnan().any()
assert_same_bits([triton_kernels.roi_pool(maps, boxes, (2, 3))], [pooled])
assert_same_bits([triton_kernels.roi_pool_backward(grad, maps, boxes)],
                 [reference.roi_pool_backward(grad, maps, boxes)])
"""


def test_triton_in_the_interpreter(tmp_path: Path) -> None:
    """Regions of no image, as a GPU may meet them; several owners of a row and of the channels."""
    pytest.importorskip("triton")
    script = tmp_path / "interpreted.py"
    script.write_text(INTERPRETED)
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
