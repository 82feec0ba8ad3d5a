"""What is special to the boxes room: torchvision as the oracle, and what it gets wrong."""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher

import gencv_fast
from gencv_fast.ops.boxes.checks import FORMATS
from gencv_fast.ops.boxes.samples import DEGENERATE, INFINITE_AND_REVERSED, NOT_FINITE, SSD, random_boxes

ops = torchvision.ops
PAIRWISE = ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"]
LOSSES = ["generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss"]

finite = st.floats(-1e4, 1e4, width=32)
whole = st.integers(-8, 8).map(float)
awkward = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-40, 3e38])


def boxes_of(coordinates: st.SearchStrategy[float], most: int = 12) -> st.SearchStrategy[Tensor]:
    rows = st.lists(st.tuples(*[coordinates] * 4), max_size=most)
    return rows.map(lambda found: torch.tensor(found, dtype=torch.float32).reshape(-1, 4))


def pair(seed: int = 0, n: int = 9, m: int = 11) -> tuple[Tensor, Tensor]:
    return random_boxes(n, seed=seed).float(), random_boxes(m, seed=seed + 1).float()


@settings(max_examples=150, deadline=None)
@given(boxes_of(finite | whole | awkward), boxes_of(finite | whole | awkward))
def test_box_iou_has_the_bits_of_torchvision(a: Tensor, b: Tensor) -> None:
    ours, theirs = gencv_fast.box_iou(a, b), ops.box_iou(a, b)
    assert torch.equal(ours.nan_to_num(nan=-1), theirs.nan_to_num(nan=-1))


@pytest.mark.parametrize("name", PAIRWISE)
@settings(max_examples=60, deadline=None)
@given(boxes_of(whole), boxes_of(whole))
def test_pairwise_equals_torchvision(name: str, a: Tensor, b: Tensor) -> None:
    """Whole coordinates from few: empty, reversed, equal and touching boxes."""
    ours, theirs = getattr(gencv_fast, name)(a, b), getattr(ops, name)(a, b)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_whole_numbers(name: str, dtype: torch.dtype) -> None:
    a, b = (boxes.to(dtype) for boxes in pair())
    result = getattr(gencv_fast, name)(a, b)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, getattr(ops, name)(a.float(), b.float()))


@pytest.mark.parametrize("name", PAIRWISE)
def test_leading_dimensions_broadcast(name: str) -> None:
    a, b = random_boxes(3, 1, 5, seed=1).float(), random_boxes(2, 7, seed=2).float()
    torch.testing.assert_close(getattr(gencv_fast, name)(a, b), getattr(ops, name)(a, b))


@pytest.mark.parametrize("fmt", ["xyxy", "xywh", "cxcywh"])
def test_formats_of_box_iou(fmt: str) -> None:
    a, b = (ops.box_convert(boxes, "xyxy", fmt) for boxes in pair())
    torch.testing.assert_close(gencv_fast.box_iou(a, b, fmt), ops.box_iou(a, b, fmt))
    whole_numbers = [boxes.round().long() for boxes in (a, b)]
    theirs = ops.box_iou(*(boxes.float() for boxes in whole_numbers), fmt)
    torch.testing.assert_close(gencv_fast.box_iou(*whole_numbers, fmt), theirs)


def test_unknown_format_of_box_iou() -> None:
    a, b = pair()
    with pytest.raises(RuntimeError, match="box_iou: fmt must be xyxy, xywh or cxcywh, got 'cxcywhr'"):
        gencv_fast.box_iou(a, b, "cxcywhr")


def gradients(run: Callable[..., Tensor], *boxes: Tensor) -> tuple[Tensor, ...]:
    leaves = [b.clone().requires_grad_() for b in boxes]
    result = run(*leaves)
    weights = torch.cos(torch.arange(result.numel(), dtype=result.dtype)).view(result.shape)
    return torch.autograd.grad((result * weights).sum(), leaves)


@pytest.mark.parametrize("name", PAIRWISE)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_gradients_at_ties(name: str, seed: int) -> None:
    """Where sides coincide there are many gradients; ours is the one that torch's max and min choose."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 4, (2, 7, 2), generator=generator)
    boxes = torch.cat((low, low + torch.randint(1, 4, (2, 7, 2), generator=generator)), -1).double()
    ours = gradients(getattr(gencv_fast, name), *boxes)
    theirs = gradients(getattr(ops, name), *boxes)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_losses_equal_torchvision(name: str, reduction: str, dtype: torch.dtype) -> None:
    a, b = (boxes.to(dtype) for boxes in pair(n=40, m=40))
    ours, theirs = getattr(gencv_fast, name)(a, b, reduction), getattr(ops, name)(a, b, reduction)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    run = [gradients(lambda *x, f=f: getattr(f, name)(*x, reduction), a, b) for f in (gencv_fast, ops)]
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-10}.get(dtype, 1e-2)
    torch.testing.assert_close(*run, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses_of_no_boxes(name: str, reduction: str) -> None:
    """They are 0, and give the gradient of none."""
    empty = torch.zeros(0, 4, requires_grad=True)
    loss = getattr(gencv_fast, name)(empty, empty, reduction)
    assert loss.sum() == 0
    loss.sum().backward()
    assert empty.grad.shape == (0, 4)


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_reduction(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"{name}: reduction must be 'none', 'mean' or 'sum', got 'xyz'"):
        getattr(gencv_fast, name)(*pair(n=3, m=3), reduction="xyz")


def test_eps_of_the_complete_loss_reaches_the_distance() -> None:
    """torchvision 0.29 computes the distance term with its default whatever it is told."""
    a, b = pair(n=6, m=6)
    penalty = gencv_fast.complete_box_iou_loss(a, b) - gencv_fast.distance_box_iou_loss(a, b)
    ours = gencv_fast.complete_box_iou_loss(a, b, eps=1.0) - gencv_fast.distance_box_iou_loss(a, b, eps=1.0)
    torch.testing.assert_close(ours, penalty, rtol=0.5, atol=1e-3)
    assert not torch.allclose(gencv_fast.distance_box_iou_loss(a, b, eps=100.0), gencv_fast.distance_box_iou_loss(a, b))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), SSD])
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 4))
def test_coder_equals_torchvision(weights: tuple[float, ...], seed: int, n: int, classes: int) -> None:
    coder = BoxCoder(weights)
    anchors, boxes = random_boxes(n, seed=seed).float(), random_boxes(n, seed=seed + 1).float()
    encoded = gencv_fast.box_encode(boxes, anchors, weights)
    torch.testing.assert_close(encoded, coder.encode_single(boxes, anchors), rtol=1e-5, atol=1e-5)
    deltas = 3 * torch.randn(n, 4 * classes, generator=torch.Generator().manual_seed(seed))
    decoded = gencv_fast.box_decode(deltas, anchors, weights)
    torch.testing.assert_close(decoded, coder.decode_single(deltas, anchors), rtol=1e-5, atol=1e-3)


def test_decoding_undoes_encoding() -> None:
    boxes, anchors = pair(n=50, m=50)
    decoded = gencv_fast.box_decode(gencv_fast.box_encode(boxes, anchors, SSD), anchors, SSD)
    torch.testing.assert_close(decoded, boxes, rtol=1e-5, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(boxes_of(finite | whole | awkward), st.integers(0, 3000), st.integers(0, 3000))
def test_clip_boxes_equals_torchvision(boxes: Tensor, height: int, width: int) -> None:
    ours = gencv_fast.clip_boxes(boxes, (height, width))
    theirs = ops.clip_boxes_to_image(boxes, (height, width))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(boxes_of(finite | whole | awkward), st.floats(-10, 1e4))
def test_remove_small_boxes_equals_torchvision(boxes: Tensor, min_size: float) -> None:
    assert torch.equal(gencv_fast.remove_small_boxes(boxes, min_size), ops.remove_small_boxes(boxes, min_size))


def test_remove_small_boxes_of_many_blocks() -> None:
    boxes = random_boxes(70_001, seed=5).float()
    assert torch.equal(gencv_fast.remove_small_boxes(boxes, 20.0), ops.remove_small_boxes(boxes, 20.0))


def boxes_in(fmt: str) -> Tensor:
    if FORMATS[fmt] == 4:
        return ops.box_convert(random_boxes(9, seed=3).float(), "xyxy", fmt)
    degrees = torch.tensor([0.0, 30.0, 90.0, -45.0, 179.0, 300.0, 720.0, -90.0, 1e-3])
    turned = torch.cat((ops.box_convert(random_boxes(9, seed=4).float(), "xyxy", "xywh"), degrees[:, None]), 1)
    return turned if fmt == "xywhr" else ops.box_convert(turned, "xywhr", fmt)


@pytest.mark.parametrize("in_fmt", FORMATS)
@pytest.mark.parametrize("out_fmt", FORMATS)
def test_box_convert_equals_torchvision(in_fmt: str, out_fmt: str) -> None:
    boxes = boxes_in(in_fmt)
    try:
        theirs = ops.box_convert(boxes, in_fmt, out_fmt)
    except NotImplementedError:
        with pytest.raises(RuntimeError, match=f"box_convert: cannot convert from {in_fmt} to {out_fmt}"):
            gencv_fast.box_convert(boxes, in_fmt, out_fmt)
        return
    torch.testing.assert_close(gencv_fast.box_convert(boxes, in_fmt, out_fmt), theirs, rtol=1e-5, atol=1e-3)


def test_box_convert_copies() -> None:
    boxes = pair()[0]
    same = gencv_fast.box_convert(boxes, "xyxy", "xyxy")
    assert torch.equal(same, boxes)
    assert same.data_ptr() != boxes.data_ptr()


def matches_of_torchvision(gt: Tensor, anchors: Tensor, high: float, low: float, low_quality: bool) -> Tensor:
    return Matcher(high, low, low_quality)(ops.box_iou(gt, anchors))


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize(("high", "low"), [(0.7, 0.3), (0.5, 0.5), (0.2, 0.0), (1.0, 0.1)])
@settings(max_examples=40, deadline=None)
@given(boxes_of(whole, most=6), boxes_of(whole, most=40))
def test_match_boxes_equals_torchvision(
    high: float, low: float, low_quality: bool, gt: Tensor, anchors: Tensor
) -> None:
    ours = gencv_fast.match_boxes(gt, anchors, high, low, low_quality)
    if len(gt) and len(anchors):
        assert torch.equal(ours, matches_of_torchvision(gt, anchors, high, low, low_quality))
    else:  # torchvision raises
        assert torch.equal(ours, torch.full((len(anchors),), -1))


@pytest.mark.parametrize("low_quality", [False, True])
def test_match_boxes_of_an_anchor_grid(low_quality: bool) -> None:
    """Whole rows of anchors are out of a box's reach, many are as near as others."""
    grids, strides = [(50, 68), (25, 34)], [(16, 16), (32, 32)]
    anchors = gencv_fast.anchor_grid(grids, strides, [(64,), (128,)], [(0.5, 1.0, 2.0)] * 2)
    gt = torch.cat((8 * random_boxes(40, seed=3).round(), DEGENERATE)).float()
    ours = gencv_fast.match_boxes(gt, anchors, 0.7, 0.3, low_quality)
    assert torch.equal(ours, matches_of_torchvision(gt, anchors, 0.7, 0.3, low_quality))
    assert (ours >= 0).sum() > (40 if low_quality else 2)


@pytest.mark.parametrize("low_quality", [False, True])
def test_match_boxes_of_infinite_reversed_boxes(low_quality: bool) -> None:
    """Their area may be positive, and their IoU NaN where they do not touch."""
    gt, anchor = (boxes.float() for boxes in INFINITE_AND_REVERSED)
    anchors = torch.cat((anchor, random_boxes(100, seed=1).float(), anchor))
    ours = gencv_fast.match_boxes(gt, anchors, 0.5, 0.3, low_quality)
    assert torch.equal(ours, matches_of_torchvision(gt, anchors, 0.5, 0.3, low_quality))
    assert ours[0] == ours[-1] == 0


@pytest.mark.parametrize("low_quality", [False, True])
def test_match_boxes_with_nan(low_quality: bool) -> None:
    special = torch.cat((DEGENERATE, NOT_FINITE)).float()
    anchors = torch.cat((special, random_boxes(1200, seed=2).float(), special))
    for gt in (special, special.flip(0), random_boxes(5, seed=1).float()):
        ours = gencv_fast.match_boxes(gt, anchors, 0.7, 0.3, low_quality)
        assert torch.equal(ours, matches_of_torchvision(gt, anchors, 0.7, 0.3, low_quality))


@pytest.mark.parametrize("other", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_promote(other: torch.dtype) -> None:
    """As in torchvision: heads under autocast meet boxes in fp32."""
    a, b = pair(n=7, m=7)
    narrow, wide = a.to(other), torch.promote_types(torch.float32, other)
    for name in PAIRWISE + LOSSES:
        ours, theirs = getattr(gencv_fast, name)(narrow, b), getattr(ops, name)(narrow, b)
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)
        assert torch.equal(ours, getattr(gencv_fast, name)(narrow.to(wide), b.to(wide)))
    assert gencv_fast.box_encode(narrow, b).dtype == wide
    decoded = gencv_fast.box_decode(narrow / 100, b)
    assert decoded.dtype == BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(narrow / 100, b).dtype == other
    leaf = narrow.clone().requires_grad_()
    gencv_fast.complete_box_iou_loss(leaf, b, "sum").backward()
    assert leaf.grad.dtype == other


def test_rules_of_one_thread_leave_the_others_alone() -> None:
    """vmap calls operators on a backend of its own choice; meanwhile use_backend holds elsewhere."""
    a, b = pair()
    stop = threading.Event()

    def mapped() -> None:
        while not stop.is_set():
            torch.vmap(lambda x: gencv_fast.box_iou(x, b, backend="cpu"))(a[None])

    thread = threading.Thread(target=mapped)
    with gencv_fast.use_backend("reference"):
        thread.start()
        try:
            chosen = {gencv_fast.explain("box_iou", a, b).chosen for _ in range(3000)}
        finally:
            stop.set()
            thread.join()
    assert chosen == {"reference"}


def test_a_second_derivative_is_refused() -> None:
    """Else it would silently count as zero."""
    a, b = (boxes.double().requires_grad_() for boxes in pair())
    loss = gencv_fast.box_iou(a, b).sum()
    (grad,) = torch.autograd.grad(loss, a, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated once more"):
        grad.square().sum().backward()


def test_export_of_float64_angles_is_refused(tmp_path: Any) -> None:
    from gencv_fast.onnx import translation_table

    class Complete(torch.nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return gencv_fast.complete_box_iou(a, b)

    a, b = (boxes.double() for boxes in pair())
    table = translation_table()
    with pytest.raises(torch.onnx.errors.OnnxExporterError) as caught:
        torch.onnx.export(Complete(), (a, b), tmp_path / "m.onnx", dynamo=True, custom_translation_table=table)
    reasons = "".join(traceback.format_exception(caught.value))
    assert "complete_box_iou: float64 cannot be exported" in reasons
