"""What is special to crop_and_resize: onnxruntime as the oracle, exact results, gradients, bytes, bad indices."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gencv_fast
import gencv_fast.nn
from benchmarks.crop_peers import onnxruntime_crop
from gencv_fast._dispatch import OPS, Op
from gencv_fast.ops.roi.crop.samples import random_boxes, random_bytes, random_images, sample_inputs
from tests.harness.backends import REFERENCE, Runner
from tests.harness.compare import assert_same_bits
from tests.harness.numerics import threads
from tests.harness.parameters import ops_and_kernels
from tests.harness.samples import expected

CROP = OPS["crop_and_resize"]
JUST_INSIDE, JUST_OUTSIDE = 1 - 2.0**-24, 1 + 2.0**-23


def crops_on(choose_runner: Callable[[Runner], bool] = lambda runner: True) -> Any:
    return ops_and_kernels(lambda op: op is CROP, choose_runner)


def crop(runner: Runner, *args: Any, **options: Any) -> Tensor:
    with runner.active():
        return gencv_fast.crop_and_resize(*runner.to_device(args), backend=runner.backend, **options).cpu()


oracle = cache(onnxruntime_crop)

coordinate = st.floats(-0.5, 1.5, width=32) | st.sampled_from([0.0, 1.0, 0.5, 0.25, JUST_INSIDE, JUST_OUTSIDE, -1e-8])
boxes_of_four = st.lists(st.tuples(*[coordinate] * 4), max_size=4).map(
    lambda found: torch.tensor(found, dtype=torch.float32).reshape(-1, 4)
)
sides = st.integers(1, 9) | st.sampled_from([1, 2, 40])


@crops_on(lambda runner: runner.order in (None, "forward"))
@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 20), sides, sides),
    boxes_of_four,
    st.tuples(sides, sides),
    st.sampled_from(["bilinear", "nearest"]),
    st.sampled_from([0.0, -1.5]),
    st.booleans(),
)
def test_has_the_bits_of_onnxruntime(
    op: Op,
    runner: Runner,
    shape: tuple[int, ...],
    boxes: Tensor,
    size: tuple[int, int],
    method: str,
    outside: float,
    channels_last: bool,
) -> None:
    """Outside, reversed, empty and whole boxes; images and crops of one row or column."""
    images = random_images(*shape).float()
    indices = torch.arange(len(boxes)) % shape[0]
    if len(boxes) == 0:
        assert crop(runner, images, boxes, indices, size).shape == (0, shape[1], *size)
        return
    theirs = oracle(size, method, outside)(images, boxes, indices)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    ours = crop(runner, images, boxes, indices, size, method, outside)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@crops_on()
def test_has_the_bits_of_the_reference(op: Op, runner: Runner) -> None:
    """Where nothing is normalised."""
    for sample in sample_inputs(op.name, torch.float32):
        *_, mean, std, _ = sample.args
        if mean is None and std is None:
            assert_same_bits([runner(op, *sample.args)], expected(op.name, torch.float32)[sample.name])


@crops_on()
def test_bytes_are_their_numbers(op: Op, runner: Runner) -> None:
    images, boxes = random_bytes(2, 3, 9, 40), random_boxes(6, -0.2, 1.2).float()
    args = boxes, torch.arange(6) % 2, (4, 26), "bilinear", 7.0
    assert_same_bits([crop(runner, images, *args)], [crop(runner, images.float(), *args)])


@crops_on()
def test_normalises_what_is_outside_too(op: Op, runner: Runner) -> None:
    images, boxes, indices = random_images(2, 3, 9, 11).float(), random_boxes(6, -0.4, 1.4).float(), torch.arange(6) % 2
    mean, std = [0.5, -1.0, 2.0], [0.25, 3.0, 7.0]
    plain = crop(runner, images, boxes, indices, (5, 7), extrapolation_value=4.0)
    wanted = (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    ours = crop(runner, images, boxes, indices, (5, 7), extrapolation_value=4.0, mean=mean, std=std)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)


@crops_on(lambda runner: runner.order in (None, "forward"))
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradgradcheck(op: Op, runner: Runner, method: str, layout: torch.memory_format) -> None:
    """Of the images, in which cropping is linear."""
    images = random_images(2, 2, 4, 3).contiguous(memory_format=layout).requires_grad_()
    boxes, indices = random_boxes(3, -0.2, 1.2), torch.tensor([1, 0, 1])

    def run(images: Tensor) -> Tensor:
        args = images, boxes, indices, (3, 4), method, 0.5, [0.1, 0.2], [0.5, 2.0]
        return gencv_fast.crop_and_resize(*args, backend=runner.backend)

    with runner.active():
        torch.autograd.gradcheck(run, images)
        torch.autograd.gradgradcheck(run, images)


@crops_on(lambda runner: runner.order in (None, "forward"))
@pytest.mark.parametrize("size", [(3, 4), (1, 5), (6, 1)])
def test_gradcheck_of_boxes(op: Op, runner: Runner, size: tuple[int, int]) -> None:
    images, boxes = random_images(2, 2, 7, 6), random_boxes(3, -0.2, 1.2)
    boxes[0] = boxes[0][[2, 3, 0, 1]]
    inputs = images.requires_grad_(), boxes.requires_grad_()

    def run(images: Tensor, boxes: Tensor) -> Tensor:
        args = images, boxes, torch.tensor([1, 0, 1]), size
        return gencv_fast.crop_and_resize(*args, std=[0.5, 2.0], differentiable_boxes=True, backend=runner.backend)

    with runner.active():
        torch.autograd.gradcheck(run, inputs)


@crops_on()
def test_boxes_have_no_gradient_unless_asked(op: Op, runner: Runner) -> None:
    images, boxes = random_images(2, 2, 7, 6).requires_grad_(), random_boxes(3).requires_grad_()
    with runner.active():
        crops = gencv_fast.crop_and_resize(images, boxes, torch.tensor([1, 0, 1]), 3, backend=runner.backend)
        crops.sum().backward()
    assert boxes.grad is None
    assert images.grad is not None


@crops_on()
def test_gradients_of_a_box_that_is_not_finite(op: Op, runner: Runner) -> None:
    """It passes none, not even to what its NaN crops are differentiated once more by."""
    images, boxes = random_images(1, 2, 4, 5).requires_grad_(), random_boxes(2)
    boxes[1, 2] = torch.inf
    with runner.active():
        crops = gencv_fast.crop_and_resize(images, boxes, torch.tensor([0, 0]), 3, backend=runner.backend)
        assert crops[1].isnan().all()
        incoming = torch.ones_like(crops, requires_grad=True)
        (grad,) = torch.autograd.grad(crops, images, incoming, create_graph=True)
        assert grad.isfinite().all()
        (again,) = torch.autograd.grad(grad.square().sum(), incoming)
    assert torch.equal(again[1], torch.zeros_like(again[1]))
    assert again[0].ne(0).any()


@crops_on(lambda runner: runner.backend == "cpu")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("wrong", [-1, 2, 2**31 - 1])
def test_an_index_of_no_image_raises(op: Op, runner: Runner, dtype: torch.dtype, wrong: int) -> None:
    images, boxes = random_images(2, 3, 5, 6), random_boxes(3)
    indices = torch.tensor([0, 1, wrong], dtype=dtype)
    grad = torch.ones(3, 3, 4, 4, dtype=torch.float64)
    calls = {
        "crop_and_resize": (images, boxes, indices, (4, 4)),
        "crop_and_resize_backward": (grad, boxes, indices, (2, 5, 6), "bilinear", None),
        "crop_and_resize_boxes_backward": (grad, images, boxes, indices, None),
    }
    for name, args in calls.items():
        message = rf"^{name}: box_indices\[2\] must be the index of one of 2 images, got {wrong}\.$"
        for run in (runner, REFERENCE):
            with pytest.raises(RuntimeError, match=message):
                run(OPS[name], *args)


@crops_on(lambda runner: runner.order is not None or runner.device == "cuda")
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("wrong", [-1, 2, 2**31 - 1])
def test_an_index_of_no_image_gives_nan(op: Op, runner: Runner, dtype: torch.dtype, wrong: int) -> None:
    images, boxes = random_images(2, 3, 5, 6), random_boxes(3)
    indices = torch.tensor([0, 1, wrong], dtype=dtype)
    crops = crop(runner, images, boxes, indices, (4, 4))
    assert crops[2].isnan().all()
    assert_same_bits([crops[:2]], [crop(REFERENCE, images, boxes[:2], indices[:2], (4, 4))])
    grad = torch.ones(3, 3, 4, 4, dtype=torch.float64)
    grad_images = runner(OPS["crop_and_resize_backward"], grad, boxes, indices, (2, 5, 6), "bilinear", None)
    assert float(grad_images.sum()) == pytest.approx(2 * 3 * 16)
    grad_boxes = runner(OPS["crop_and_resize_boxes_backward"], grad, images, boxes, indices, None).cpu()
    assert torch.equal(grad_boxes[2], torch.zeros(4, dtype=torch.float64))


@crops_on(lambda runner: runner.backend == "cpu")
def test_threads_that_share_boxes(op: Op, runner: Runner) -> None:
    """Enough work for two threads, and boxes that several tasks of the backward pass meet."""
    for images in (random_images(2, 40, 30, 20).float(), random_images(2, 5, 30, 20).float()):
        for layout in (torch.contiguous_format, torch.channels_last):
            maps = images.contiguous(memory_format=layout).requires_grad_()
            boxes, indices = random_boxes(60, -0.1, 1.1).float(), torch.arange(60) % 2

            def run(maps: Tensor = maps, boxes: Tensor = boxes, indices: Tensor = indices) -> list[Tensor]:
                with runner.active():
                    crops = gencv_fast.crop_and_resize(maps, boxes, indices, (35, 9), backend="cpu")
                    return [crops, *torch.autograd.grad(crops, maps, crops.cos())]

            with threads(2):
                together = run()
            with threads(1):
                alone = run()
            assert_same_bits(together, alone)
            assert_same_bits(together[:1], [crop(REFERENCE, maps.detach(), boxes, indices, (35, 9))])
            leaf = maps.detach().double().requires_grad_()
            plain = gencv_fast.crop_and_resize(leaf, boxes.double(), indices, (35, 9), backend="reference")
            (wanted,) = torch.autograd.grad(plain, leaf, together[0].cos().double())
            torch.testing.assert_close(together[1].double(), wanted, rtol=1e-4, atol=1e-4)


def test_layouts_of_results() -> None:
    """channels_last in, channels_last out; a photo as decoders give it, and a window of one, are such."""
    boxes, indices = random_boxes(2).float(), torch.tensor([0, 0])
    photo = random_bytes(12, 14, 3)
    for images in (photo.permute(2, 0, 1)[None], photo[2:9, 3:11].permute(2, 0, 1)[None]):
        crops = gencv_fast.crop_and_resize(images, boxes, indices, (4, 5))
        assert crops.is_contiguous(memory_format=torch.channels_last)
        plain = gencv_fast.crop_and_resize(images.contiguous(), boxes, indices, (4, 5))
        assert plain.is_contiguous()
        assert torch.equal(crops, plain)


def test_module() -> None:
    images, boxes, indices = random_images(2, 3, 9, 11).float(), random_boxes(3).float(), torch.tensor([0, 1, 0])
    module = gencv_fast.nn.CropAndResize((4, 6), "nearest", 0.5, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    wanted = gencv_fast.crop_and_resize(images, boxes, indices, (4, 6), "nearest", 0.5, [1, 2, 3], [4, 5, 6])
    assert torch.equal(module(images, boxes, indices), wanted)
    shown = "size=(4, 6), method='nearest', extrapolation_value=0.5, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0]"
    assert repr(module) == f"CropAndResize({shown})"
    plain = gencv_fast.nn.CropAndResize(5)
    assert repr(plain) == "CropAndResize(size=5, method='bilinear')"
    assert plain(images, boxes, indices).shape == (3, 3, 5, 5)
