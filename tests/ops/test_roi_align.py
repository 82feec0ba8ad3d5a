"""What is special to roi_align and multiscale_roi_align: torchvision decides, on any regions."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import gencv_fast
from gencv_fast._dispatch import OPS
from gencv_fast.nn import MultiScaleRoIAlign, RoIAlign
from tests.harness.backends import REFERENCE, Runner, kernels

every_kernel = pytest.mark.parametrize("runner", [*kernels(), pytest.param(REFERENCE, id="reference")])
NAN, INFINITY = float("nan"), float("inf")

Call = tuple[Tensor, Tensor, tuple[int, int], float, int, bool]


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Regions on cells' borders, reversed, outside, of no size and anywhere."""
    images, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    maps = normal(images, channels, draw(st.integers(1, 7)), draw(st.integers(1, 9)), dtype=torch.float64)
    scale = draw(st.sampled_from((1.0, 0.5, 0.25, 1 / 16, 3.0)))
    on_halves = st.integers(-6, 24).map(lambda n: n / 2 / scale)
    anywhere = st.floats(-10, 30, width=32).map(lambda x: x / scale)
    corner = st.one_of(on_halves, anywhere)
    image = st.integers(0, images - 1).map(float)
    rows = draw(st.lists(st.tuples(image, corner, corner, corner, corner), max_size=4))
    boxes = torch.tensor(rows, dtype=torch.float64).view(-1, 5)
    size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    ratio, aligned = draw(st.sampled_from((-1, 0, 1, 2, 3))), draw(st.booleans())
    # torchvision counts the samples of such a region as less than none, and fails.
    assume(ratio > 0 or not aligned or bool((boxes[:, 3:] >= boxes[:, 1:3]).all()))
    return maps, boxes, size, scale, ratio, aligned


@every_kernel
@settings(deadline=None, max_examples=25 if os.environ.get("TRITON_INTERPRET") == "1" else 100)
@given(call=calls())
def test_equals_torchvision(runner: Runner, call: Call) -> None:
    """Results and gradients, in float64: a sample on a cell's border has one value from either side."""
    maps, *rest = call
    ours, theirs = (maps.clone().requires_grad_() for _ in range(2))
    expected = torchvision.ops.roi_align(theirs, *rest)
    grad = torch.cos(torch.arange(expected.numel(), dtype=torch.float64)).view(expected.shape)
    with runner.active():
        result = OPS["roi_align"](ours, *rest, backend=runner.backend)
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)
        result.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)


def pyramid(dtype: torch.dtype = torch.float32) -> OrderedDict[str, Tensor]:
    return OrderedDict((str(s), normal(2, 3, 512 // s, 640 // s, dtype=dtype)) for s in (4, 8, 16, 32))


def squares(*sides: float) -> Tensor:
    corner = torch.tensor([3.3, 5.7]).expand(len(sides), 2)
    return torch.cat((torch.zeros(len(sides), 1), corner, corner + torch.tensor(sides)[:, None]), 1)


@every_kernel
def test_multiscale_equals_torchvision_at_boundaries_of_levels(runner: Runner) -> None:
    """Sides of exactly 112, 224 and 448 pixels belong to the coarser level."""
    maps = pyramid(torch.float64)
    sides = torch.tensor([0.0, 20, 111.9, 112, 112.1, 223.9, 224, 224.1, 447.9, 448, 448.1, 600], dtype=torch.float64)
    boxes = torch.cat((torch.zeros(len(sides), 2), sides[:, None], sides[:, None]), 1).to(torch.float64)
    images = [(512, 640)] * 2
    expected = torchvision.ops.MultiScaleRoIAlign(list(maps), 2, 2)(maps, [boxes, boxes[:3]], images)
    rows = torch.cat((torch.zeros(len(sides), 1), boxes), 1), torch.cat((torch.ones(3, 1), boxes[:3]), 1)
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    result = runner(OPS["multiscale_roi_align"], list(maps.values()), torch.cat(rows), (2, 2), scales, 2)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)


def test_multiscale_module_is_torchvisions() -> None:
    maps = pyramid()
    boxes, images = [squares(20, 150, 300, 460)[:, 1:], squares(90)[:, 1:]], [(512, 640), (500, 600)]
    theirs = torchvision.ops.MultiScaleRoIAlign(["4", "8", "16"], 3, 2)
    ours = MultiScaleRoIAlign(["4", "8", "16"], 3, 2)
    assert repr(ours) == repr(theirs)
    torch.testing.assert_close(ours(maps, boxes, images), theirs(maps, boxes, images), rtol=1e-5, atol=1e-5)
    assert ours.scales == theirs.scales
    assert ours.state_dict() == theirs.state_dict()


def test_multiscale_module_with_shifted_regions() -> None:
    maps, boxes, images = pyramid(), [squares(20, 150)[:, 1:]] * 2, [(512, 640)] * 2
    names = list(maps)
    ours = MultiScaleRoIAlign(names, 3, 2, aligned=True)
    assert (
        repr(ours) == f"MultiScaleRoIAlign(featmap_names={names}, output_size=(3, 3), sampling_ratio=2, aligned=True)"
    )
    expected = gencv_fast.multiscale_roi_align(maps, boxes, images, 3, 2, aligned=True)
    assert torch.equal(ours(maps, boxes, images), expected)
    assert not torch.equal(MultiScaleRoIAlign(names, 3, 2)(maps, boxes, images), expected)


def test_levels_with_the_finest_last() -> None:
    """torchvision pools zeros from them without a word: no region belongs to a level between 3 and 2."""
    maps = OrderedDict(reversed(pyramid().items()))
    boxes, images = [squares(20, 150)[:, 1:]] * 2, [(512, 640)] * 2
    names = list(maps)
    assert not torchvision.ops.MultiScaleRoIAlign(names, 3, 2)(maps, boxes, images).any()
    message = r"features must come finest first, got the scales \[0.03125, 0.0625, 0.125, 0.25\]"
    for call in (MultiScaleRoIAlign(names, 3, 2), lambda *args: gencv_fast.multiscale_roi_align(*args, 3, 2)):
        with pytest.raises(RuntimeError, match=message):
            call(maps, boxes, images)


def test_levels_whose_middle_is_out_of_order() -> None:
    """Numbers of levels are counted between the first and the last scale, as in torchvision."""
    maps = pyramid()
    maps.move_to_end("32")
    maps.move_to_end("8")
    boxes, images = [squares(20, 150, 300, 460)[:, 1:]] * 2, [(512, 640)] * 2
    expected = torchvision.ops.MultiScaleRoIAlign(list(maps), 3, 2)(maps, boxes, images)
    result = MultiScaleRoIAlign(list(maps), 3, 2)(maps, boxes, images)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


SIZES = [(512, 640)] * 2


@pytest.mark.parametrize(
    ("features", "sizes", "message"),
    [
        (None, SIZES, "features must be a list of tensors, got None"),
        ({"4": "x"}, SIZES, r"features\[0\] must be a tensor, got 'x'"),
        ([], SIZES, "features must be 1 to 16 tensors, got 0"),
        (torch.zeros(3, 4, 4), SIZES, r"features\[0\] must be \[N, C, H, W\], got \[4, 4\]"),
        (
            [torch.zeros(2, 3, 0, 0)],
            SIZES,
            r"features\[0\] must have a row and a column to infer a scale, got \[2, 3, 0",
        ),
        (
            [torch.zeros(2, 3, 8, 4)],
            SIZES,
            r"features\[0\] must have one scale for both sides, got \[0.0078125, 0.015625",
        ),
        (pyramid(), None, "image_sizes must be given where scales are not, got None"),
        (pyramid(), [], "image_sizes must be of one image or more, got none"),
        (pyramid(), [(512,)], r"image_sizes must be pairs \(height, width\), got \[\(512,\)\]"),
        (pyramid(), [(512, "w")], r"image_sizes must be positive numbers, got \[\(512, 'w'\)\]"),
        (pyramid(), [(512, 0)], r"image_sizes must be positive numbers, got \[\(512, 0\)\]"),
        (pyramid(), [(512, NAN)], r"image_sizes must be positive numbers, got \[\(512, nan\)\]"),
    ],
)
def test_no_scales_to_infer(features: Any, sizes: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=f"^multiscale_roi_align: {message}"):
        gencv_fast.multiscale_roi_align(features, [squares(20)[:, 1:]] * 2, sizes, 2, 2)


def test_module_is_torchvisions() -> None:
    theirs, ours = torchvision.ops.RoIAlign(2, 0.5, 2, True), RoIAlign(2, 0.5, 2, True)
    assert repr(ours) == repr(theirs)
    maps, rois = normal(1, 3, 8, 8), [torch.tensor([[0.0, 0, 15, 15]])]
    torch.testing.assert_close(ours(maps, rois), theirs(maps, rois), rtol=1e-5, atol=1e-5)
    assert ours.state_dict() == theirs.state_dict()


def test_module_with_more_than_torchvisions() -> None:
    ours = RoIAlign(2, 0.5, 2, mode="max", differentiable_boxes=True, channels_last=True)
    plain = "output_size=2, spatial_scale=0.5, sampling_ratio=2, aligned=False"
    assert repr(ours) == f"RoIAlign({plain}, mode='max', differentiable_boxes=True, channels_last=True)"
    maps, boxes = normal(1, 3, 8, 8), torch.tensor([[0.0, 1.3, 2.1, 11.4, 12.7]], requires_grad=True)
    result = ours(maps, boxes)
    assert torch.equal(result, gencv_fast.roi_align(maps, boxes, 2, 0.5, 2, mode="max"))
    assert result.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(result.sum(), boxes)
    assert grad[0, 1:].any()


def test_list_of_boxes_and_one_size() -> None:
    maps = normal(2, 3, 8, 8)
    boxes = [torch.tensor([[0.0, 0, 5, 5], [1, 2, 7, 7]]), torch.tensor([[3.0, 3, 4, 9]])]
    expected = torchvision.ops.roi_align(maps, boxes, 2, 0.5)
    torch.testing.assert_close(gencv_fast.roi_align(maps, boxes, 2, 0.5), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("image", [-1.0, 2.0, NAN])
def test_index_of_no_image_raises(image: float) -> None:
    boxes = torch.tensor([[image, 0, 0, 3, 3]])
    with pytest.raises(RuntimeError, match="roi_align: "):
        gencv_fast.roi_align(normal(2, 3, 4, 4), boxes, 2, backend="cpu")


@every_kernel
@pytest.mark.parametrize("bad", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_boxes_that_are_not_finite(runner: Runner, bad: float, at: int) -> None:
    boxes = torch.tensor([[0.0, 0, 0, 3, 3], [0, 0.5, 0.5, 3, 3]])
    boxes[0, at] = bad
    x = normal(1, 2, 4, 4).requires_grad_()
    with runner.active():
        result = OPS["roi_align"](x, boxes, (2, 2), 1.0, 2, backend=runner.backend)
        result.sum().backward()
    assert result[0].isnan().all()
    assert not result[1].isnan().any()
    alone = x.detach().clone().requires_grad_()
    torchvision.ops.roi_align(alone, boxes[1:], (2, 2), 1.0, 2).sum().backward()
    torch.testing.assert_close(x.grad, alone.grad, rtol=1e-5, atol=1e-5)


@every_kernel
@pytest.mark.parametrize("side", [1e6, 1e9, 1e30, float(np.finfo(np.float32).max)])
def test_huge_boxes_end_quickly(runner: Runner, side: float) -> None:
    boxes = torch.tensor([[0.0, -side, -side, side, side]])
    start = time.perf_counter()
    result = runner(OPS["roi_align"], normal(1, 2, 4, 4), boxes, (1, 2), 1.0, -1)
    assert time.perf_counter() - start < 30
    assert result.shape == (1, 2, 1, 2)


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_with_single_boxes(runner: Runner, dtype: torch.dtype) -> None:
    maps = normal(2, 5, 9, 11).to(dtype)
    boxes = torch.cat((torch.arange(6.0)[:, None] % 2, squares(3, 20, 41.3, 77, 110, 150)[:, 1:]), 1)
    expected = torchvision.ops.roi_align(maps.float(), boxes, (3, 2), 1 / 16, 2)
    result = runner(OPS["roi_align"], maps, boxes, (3, 2), 1 / 16, 2)
    rtol = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    torch.testing.assert_close(result.float(), expected, rtol=rtol, atol=1e-3)


@every_kernel
@pytest.mark.parametrize("channels", [3, 64, 70])
def test_channels_last_in_and_out(runner: Runner, channels: int) -> None:
    channels = min(channels, 3) if runner.interpreted else channels  # which is slow
    x = normal(2, channels, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    boxes = torch.tensor([[1.0, 0.2, 0.3, 5, 3.4], [0, 1, 1, 4, 2]])
    with runner.active():
        args = (x, boxes, (2, 3), 1.0, 2, False, "avg", False, True)
        result = OPS["roi_align"](*args, backend=runner.backend)
        result.sum().backward()
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    expected = torchvision.ops.roi_align(x.detach(), boxes, (2, 3), 1.0, 2)
    torch.testing.assert_close(result.detach(), expected, rtol=1e-5, atol=1e-5)


def smooth_case() -> tuple[Tensor, Tensor]:
    """No sample of these boxes is at a cell's border."""
    boxes = torch.tensor([[0, 0.63, 0.41, 3.87, 3.23], [1, 0.37, 1.13, 2.91, 3.69]], dtype=torch.float64)
    return normal(2, 2, 5, 5, dtype=torch.float64), boxes


def align(x: Tensor, boxes: Tensor, runner: Runner, mode: str = "avg", of_boxes: bool = False) -> Tensor:
    args: tuple[Any, ...] = ((2, 2), 1.0, 2, True, mode, of_boxes)
    return OPS["roi_align"](x, boxes, *args, backend=runner.backend)


# The interpreter is too slow for difference quotients.
every_compiled = pytest.mark.parametrize("runner", [k for k in kernels() if not k.values[0].interpreted])


@every_compiled
def test_gradgradcheck_of_the_input(runner: Runner) -> None:
    x, boxes = smooth_case()
    with runner.active():
        assert torch.autograd.gradgradcheck(lambda t: align(t, boxes, runner), [x[:, :1].requires_grad_()])


@every_compiled
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_gradcheck_of_the_boxes(runner: Runner, mode: str) -> None:
    x, boxes = smooth_case()
    image, corners = boxes[:, :1], boxes[:, 1:].clone().requires_grad_()
    with runner.active():
        check = lambda c: align(x, torch.cat((image, c), 1), runner, mode, True)  # noqa: E731
        assert torch.autograd.gradcheck(check, [corners], eps=1e-6)


@pytest.mark.parametrize("runner", kernels())
def test_second_derivative_of_the_largest_is_refused(runner: Runner) -> None:
    x, boxes = smooth_case()
    x.requires_grad_()
    with runner.active():
        result = align(x, boxes, runner, "max")
        weights = torch.ones_like(result).requires_grad_()
        (grad,) = torch.autograd.grad(result, x, weights, create_graph=True)
        with pytest.raises(RuntimeError, match="mode 'max' cannot be differentiated once more"):
            grad.sum().backward()
