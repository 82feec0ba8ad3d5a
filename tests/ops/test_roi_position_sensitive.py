"""What is special to position-sensitive regions: torchvision as the oracle, and where it is none."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gencv_fast
import gencv_fast.nn
from gencv_fast._dispatch import OPS
from gencv_fast.onnx import translation_table
from gencv_fast.ops.roi.position_sensitive import samples
from tests.harness.backends import Runner, cpu_runners, kernels
from tests.harness.compare import assert_same_bits
from tests.ops.gpu_code import EMULATED, ORDERS

every_kernel = pytest.mark.parametrize(
    "runner",
    [k for k in kernels() if k.values[0].backend in ("cpu", "cuda") and k.values[0].order in (None, "forward")],
)
one_of_each = pytest.mark.parametrize(
    "runner",
    [
        k
        for k in kernels()
        if k.values[0].backend in ("cpu", "cuda")
        and k.values[0].order in (None, "forward")
        and k.values[0].isa in (None, cpu_runners()[-1].isa)
    ],
)

coordinates = st.floats(-40, 80, width=32) | st.integers(-20, 60).map(float) | st.sampled_from([0.5, 1.5, -0.5, 7.5])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, list[int], float]:
    """Maps, regions in any order of corners, bins and a scale."""
    images, channels = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    bins = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    rows = draw(st.lists(st.tuples(st.integers(0, images - 1).map(float), *[coordinates] * 4), max_size=20))
    maps = torch.randn(images, channels * bins[0] * bins[1], height, width, dtype=torch.float64)
    boxes = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    return maps, boxes, bins, draw(st.sampled_from([1.0, 0.5, 0.25, 0.1]))


@every_kernel
@settings(max_examples=60)
@given(problems(), st.integers(-1, 3))
def test_align_equals_torchvision(runner: Runner, problem: Any, sampling_ratio: int) -> None:
    maps, boxes, bins, scale = problem
    leaf = maps.clone().requires_grad_()
    theirs = torchvision.ops.ps_roi_align(leaf, boxes, bins, scale, sampling_ratio)
    maps.requires_grad_()
    with runner.active():
        ours = gencv_fast.ps_roi_align(maps, boxes, bins, scale, sampling_ratio, backend=runner.backend)
        # Without a sample theirs is 0 / 0.
        torch.testing.assert_close(ours, theirs.nan_to_num(), rtol=1e-9, atol=1e-9)
        (ours_grad,) = torch.autograd.grad(ours.sin().sum(), maps)
    (theirs_grad,) = torch.autograd.grad(theirs.nan_to_num().sin().sum(), leaf)
    torch.testing.assert_close(ours_grad, theirs_grad.nan_to_num(), rtol=1e-9, atol=1e-9)


@every_kernel
@settings(max_examples=80)
@given(problems(), st.booleans())
def test_pool_equals_torchvision(runner: Runner, problem: Any, single: bool) -> None:
    """In float32 too: which pixels a bin has is decided in the boxes' own precision."""
    maps, boxes, bins, scale = problem
    if single:
        maps, boxes = maps.float(), boxes.float()
    ours = runner(OPS["ps_roi_pool"], maps, boxes, bins, scale)
    theirs = torchvision.ops.ps_roi_pool(maps, boxes, bins, scale)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@every_kernel
@settings(max_examples=40)
@given(problems())
def test_gradient_of_pool_equals_torchvision(runner: Runner, problem: Any) -> None:
    """At the far border torchvision's backward has one row and one column more than its forward: on maps that are
    larger by those, whose bins end before them, the two agree."""
    maps, boxes, bins, scale = problem
    height, width = maps.shape[2:]
    size = torch.tensor([width - 1, height - 1]).double().repeat(2) / scale
    boxes[:, 1:] = torch.minimum(boxes[:, 1:], size)
    maps = torch.nn.functional.pad(maps, (0, 2, 0, 2))
    ours, theirs = (maps.clone().requires_grad_() for _ in range(2))
    with runner.active():
        result = gencv_fast.ps_roi_pool(ours, boxes, bins, scale, backend=runner.backend)
        (ours_grad,) = torch.autograd.grad(result.sin().sum(), ours)
    (theirs_grad,) = torch.autograd.grad(torchvision.ops.ps_roi_pool(theirs, boxes, bins, scale).sin().sum(), theirs)
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-9, atol=1e-9)


@every_kernel
def test_gradient_of_pool_equals_torchvision_inside(runner: Runner) -> None:
    """At the far border torchvision's backward has one row and one column more than its forward."""
    maps = torch.randn(2, 18, 20, 20, dtype=torch.float64, requires_grad=True)
    corners = torch.rand(30, 2, dtype=torch.float64) * 8
    boxes = torch.cat((torch.arange(30).double()[:, None] % 2, corners, corners + 9 * torch.rand(30, 2)), 1)
    with runner.active():
        ours = gencv_fast.ps_roi_pool(maps, boxes, 3, backend=runner.backend)
        (ours_grad,) = torch.autograd.grad(ours.sin().sum(), maps)
    (theirs_grad,) = torch.autograd.grad(torchvision.ops.ps_roi_pool(maps, boxes, 3).sin().sum(), maps)
    torch.testing.assert_close(ours_grad, theirs_grad)


def differentiable_case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(2, 6, 5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    rows = [(0, 0.37, 0.41, 3.13, 4.29), (1, -0.83, 1.21, 2.47, 3.33), (1, 1.07, 2.19, 5.71, 6.03)]
    return maps, torch.tensor(rows, dtype=torch.float64)


@one_of_each
@pytest.mark.parametrize("sampling_ratio", [2, -1])
def test_gradients_of_align(runner: Runner, sampling_ratio: int) -> None:
    maps, boxes = differentiable_case()

    def of_maps(maps: Tensor) -> Tensor:
        return gencv_fast.ps_roi_align(maps, boxes, [3, 2], 1.0, sampling_ratio, backend=runner.backend)

    def of_both(maps: Tensor, corners: Tensor) -> Tensor:
        rows = torch.cat((boxes[:, :1], corners), 1)
        options = {"differentiable_boxes": True, "backend": runner.backend}
        return gencv_fast.ps_roi_align(maps, rows, [3, 2], 1.0, sampling_ratio, **options)

    with runner.active():
        torch.autograd.gradcheck(of_maps, maps)
        torch.autograd.gradgradcheck(of_maps, maps)
        torch.autograd.gradcheck(of_both, (maps, boxes[:, 1:].clone().requires_grad_()))


@one_of_each
def test_boxes_get_no_gradient_unless_asked_for(runner: Runner) -> None:
    maps, boxes = differentiable_case()
    boxes.requires_grad_()
    with runner.active():
        for function in (gencv_fast.ps_roi_align, gencv_fast.ps_roi_pool):
            function(maps, boxes, [3, 2], backend=runner.backend).sum().backward()
            assert boxes.grad is None
        gencv_fast.ps_roi_align(maps, boxes, [3, 2], differentiable_boxes=True, backend=runner.backend).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad[:, 1:].abs().min() > 0


@every_kernel
@pytest.mark.parametrize("name", ["ps_roi_align", "ps_roi_pool"])
def test_regions_that_are_not_finite_pass_no_gradient(runner: Runner, name: str) -> None:
    maps, boxes = differentiable_case()
    spoiled = torch.cat((boxes, torch.tensor([[0, torch.nan, 1, 2, 3], [1, 0, 0, torch.inf, 3]]).double()))
    function = getattr(gencv_fast, name)
    with runner.active():
        sound = function(maps, boxes, [3, 2], backend=runner.backend)
        all_of_them = function(maps, spoiled, [3, 2], backend=runner.backend)
        assert all_of_them[3:].isnan().all()
        assert torch.equal(all_of_them[:3], sound)
        (grad,) = torch.autograd.grad(all_of_them.sum(), maps)
        (expected,) = torch.autograd.grad(sound.sum(), maps)
    assert torch.equal(grad, expected)


@one_of_each
@pytest.mark.parametrize("name", ["ps_roi_align", "ps_roi_pool"])
@pytest.mark.parametrize("index", [-1.0, 2.0, 1e9, torch.nan])
def test_index_of_no_image(runner: Runner, name: str, index: float) -> None:
    maps, boxes = differentiable_case()
    boxes[1, 0] = index
    function = getattr(gencv_fast, name)
    args = (maps.detach(), boxes, [3, 2])
    refusal = r"boxes\[1, 0\] must be the index of one of 2 images"
    with pytest.raises(RuntimeError, match=refusal):
        function(*args, backend="reference")
    with runner.active():
        if runner.device != "cpu":  # a GPU does not wait for a look at the index
            assert function(*args, backend=runner.backend)[1].isnan().all()
            return
        with pytest.raises(RuntimeError, match=refusal):
            function(*args, backend=runner.backend)


@every_kernel
def test_long_regions_take_no_longer(runner: Runner) -> None:
    """As many samples as pixels would be billions: those outside are not visited."""
    maps = torch.randn(1, 4, 6, 7, dtype=torch.float64)
    boxes = torch.tensor(
        [[0, -1e9, -1e9, 1e9, 1e9], [0, 1.3, -1e30, 5.1, 1e30], [0, -1e300, 0, 1e300, 5]], dtype=torch.float64
    )
    ours = runner(OPS["ps_roi_align"], maps, boxes, [2, 2])
    expected = OPS["ps_roi_align"](maps, boxes, [2, 2], backend="reference")
    assert expected.abs().max() > 0
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)


def test_same_bits_in_every_order() -> None:
    """The CUDA kernels add in a fixed order, without atomics."""
    runners = [k.values[0] for k in kernels() if k.values[0].order is not None]
    for name in ("ps_roi_align_backward", "ps_roi_pool_backward", "ps_roi_align_boxes_backward"):
        sample = next(s for s in samples.sample_inputs(name, torch.float32) if s.name == "many channels")
        results = [runner(OPS[name], *sample.args) for runner in runners]
        for result in results[1:]:
            assert_same_bits([result], results[:1])


@pytest.mark.parametrize("order", ORDERS)
def test_launchers(order: str) -> None:
    """The torch-free test program; tests/sanitize runs it under the sanitizers."""
    executable = EMULATED / "plain" / "roi_position_sensitive_emulated_test"
    if not executable.exists():
        pytest.skip(f"{executable} is not built (make build)")
    done = subprocess.run([executable, "--order", order], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules() -> None:
    maps = torch.randn(2, 90, 20, 30)
    per_image = [torch.rand(5, 4).cumsum(1) * 100, torch.rand(3, 4).cumsum(1) * 100]
    align = gencv_fast.nn.PSRoIAlign((3, 2), 1 / 16, 2)
    pool = gencv_fast.nn.PSRoIPool(3, 1 / 16)
    torch.testing.assert_close(align(maps, per_image), torchvision.ops.PSRoIAlign((3, 2), 1 / 16, 2)(maps, per_image))
    torch.testing.assert_close(pool(maps, per_image), torchvision.ops.PSRoIPool(3, 1 / 16)(maps, per_image))
    assert repr(align) == "PSRoIAlign(output_size=(3, 2), spatial_scale=0.0625, sampling_ratio=2)"
    assert repr(pool) == "PSRoIPool(output_size=3, spatial_scale=0.0625)"


def test_module_with_a_gradient_of_boxes() -> None:
    align = gencv_fast.nn.PSRoIAlign(2, 0.5, 2, differentiable_boxes=True)
    assert repr(align) == "PSRoIAlign(output_size=2, spatial_scale=0.5, sampling_ratio=2, differentiable_boxes=True)"
    maps, boxes = torch.randn(1, 4, 9, 9), torch.tensor([[0.0, 1.3, 2.1, 11.4, 12.7]], requires_grad=True)
    (grad,) = torch.autograd.grad(align(maps, boxes).square().sum(), boxes)
    of_function = gencv_fast.ps_roi_align(maps, boxes, 2, 0.5, 2, differentiable_boxes=True)
    (expected,) = torch.autograd.grad(of_function.square().sum(), boxes)
    assert grad[0, 1:].all()
    assert torch.equal(grad, expected)


@pytest.mark.parametrize("name", ["ps_roi_align", "ps_roi_pool"])
def test_bfloat16_is_not_exported(name: str, tmp_path: Path) -> None:
    class Model(torch.nn.Module):
        def forward(self, maps: Tensor, boxes: Tensor) -> Tensor:
            return getattr(gencv_fast, name)(maps, boxes, 2)

    maps, boxes = torch.randn(1, 8, 6, 6, dtype=torch.bfloat16), torch.tensor([[0.0, 1, 1, 4, 4]]).bfloat16()
    with pytest.raises(Exception, match="bfloat16 cannot be exported"):
        torch.onnx.export(
            Model(), (maps, boxes), tmp_path / "model.onnx", dynamo=True, custom_translation_table=translation_table()
        )
