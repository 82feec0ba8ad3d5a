"""What is special to paste_masks: torchvision's loop decides, wherever it has an answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

import gencv_fast
from gencv_fast._dispatch import OPS
from gencv_fast.ops.roi.masks.reference import grown_boxes
from gencv_fast.ops.roi.masks.samples import random_boxes
from tests.harness.backends import Runner
from tests.harness.numerics import threads
from tests.harness.parameters import every_isa, ops_and_kernels

OP = OPS["paste_masks"]


def torchvision_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], padding: int) -> Tensor:
    """One by one, since its slices fail, or wrap around, where a box lies beside the image: there is nothing."""
    found = []
    for mask, box in zip(masks, boxes, strict=True):
        left, top, right, bottom = grown_boxes(box[None], masks.shape[-1], padding)[0].long().tolist()
        if right < 0 or bottom < 0 or left >= size[1] or top >= size[0] or right < left or bottom < top:
            found.append(masks.new_zeros(1, *size))
        else:
            found.append(paste_masks_in_image(mask[None], box[None], size, padding)[0])
    return torch.stack(found) if found else masks.new_zeros(0, 1, *size)


@st.composite
def pastings(draw: st.DrawFn) -> tuple[Any, ...]:
    count, side = draw(st.integers(0, 4)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    reach = draw(st.sampled_from((1.0, 20.0, 100.0)))
    corners = reach * torch.randn(count, 4, generator=generator)
    boxes = torch.cat((torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])), 1)
    kind = draw(st.sampled_from(("any", "whole", "reversed", "without an extent")))
    if kind == "whole":
        boxes = boxes.round()
    elif kind == "reversed":
        boxes = boxes[:, [2, 3, 0, 1]]
    elif kind == "without an extent":
        boxes = boxes[:, [0, 1, 0, 3]]
    return torch.rand(count, 1, side, side, generator=generator), boxes, size, draw(st.integers(0, 2))


@ops_and_kernels(lambda op: op.name == "paste_masks")
@given(pasting=pastings())
@settings(max_examples=60)
def test_torchvision_on_any_masks(op: Any, runner: Runner, pasting: tuple[Any, ...]) -> None:
    expected = torchvision_masks(*pasting)
    torch.testing.assert_close(runner(op, *pasting).cpu(), expected, atol=1e-4, rtol=1e-5)


@every_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchvision_on_photo_sizes(isa: Runner, dtype: torch.dtype) -> None:
    """Strips, tiles and several threads; gradients too."""
    masks = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    boxes = random_boxes(12, 330, 1100).to(dtype)
    ours, theirs = masks.clone().requires_grad_(), masks.clone().requires_grad_()
    expected = torchvision_masks(theirs, boxes, (330, 1100), 1)
    with threads(2), isa.active():
        result = OP(ours, boxes, (330, 1100), 1, backend="cpu")
        weights = torch.cos(torch.arange(result.numel(), dtype=dtype)).view(result.shape)
        (result * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=2e-3, rtol=1e-3)


def test_border_is_nothing_to_the_gradient_of_boxes() -> None:
    masks, boxes = torch.rand(2, 1, 4, 4, requires_grad=True), random_boxes(2, 9, 9).float().requires_grad_()
    gencv_fast.paste_masks(masks, boxes, (9, 9)).sum().backward()
    assert boxes.grad is None
    assert masks.grad is not None


def test_a_box_that_is_not_finite_is_alone_in_that() -> None:
    masks = torch.rand(2, 1, 4, 4, requires_grad=True)
    boxes = torch.tensor([[1.0, torch.nan, 5, 5], [1, 1, 5, 5]])
    for backend in ("cpu", "reference"):
        result = gencv_fast.paste_masks(masks, boxes, (9, 9), backend=backend)
        assert result[0].isnan().all()
        assert result[1].isfinite().all()
    (grad,) = torch.autograd.grad(gencv_fast.paste_masks(masks, boxes, (9, 9), backend="cpu").sum(), masks)
    assert not grad[0].any()
    assert grad[1].any()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gradient_of_the_gradient_beside_a_box_that_is_not_finite(backend: str) -> None:
    """The last box would overflow if it grew by the ratio of the heights."""
    masks = torch.rand(3, 1, 1, 9, requires_grad=True)
    boxes = torch.tensor([[1.0, torch.nan, 5, 5], [1, 1, 5, 5], [0, 0, 2e38, 5]])
    weights = torch.rand(3, 1, 9, 9, requires_grad=True)
    images = gencv_fast.paste_masks(masks, boxes, (9, 9), backend=backend)
    (grad,) = torch.autograd.grad(images, masks, weights, create_graph=True)
    (twice,) = torch.autograd.grad(grad.sum(), weights)
    assert not twice[0].any()
    assert twice.isfinite().all()
    assert twice[1].any()
    assert twice[2].any()
