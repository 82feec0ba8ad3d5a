"""Benchmarks of paste_masks: Mask R-CNN's hundred masks of an image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

import gencv_fast

from .harness import Case, Compare, Peer
from .limits import Work

HEIGHT, WIDTH = SIZE = (800, 1088)
HARDLY_ANY = 1e-4


def scene(count: int, device: str) -> tuple[Tensor, Tensor]:
    """Masks, and boxes of 16 to 400 pixels inside the image."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(count, 1, 28, 28, generator=generator)
    sides = 16 * 25 ** torch.rand(count, 2, generator=generator)
    corners = torch.rand(count, 2, generator=generator) * (torch.tensor([WIDTH, HEIGHT]) - sides)
    return masks.to(device), torch.cat((corners, corners + sides), 1).to(device)


@pytest.mark.parametrize("count", [10, 100])
def bench_paste_masks(compare: Compare, device: str, count: int) -> None:
    masks, boxes = scene(count, device)
    expected = paste_masks_in_image(masks, boxes, SIZE)

    def check(result: Tensor) -> None:
        torch.testing.assert_close(result, expected, atol=HARDLY_ANY, rtol=0)

    output = expected.numel() * expected.element_size()
    compare(
        Case(
            room="roi",
            op="paste_masks",
            name=f"{count} masks",
            shape=f"{count} masks 28 x 28, image {WIDTH} x {HEIGHT}",
            dtype="fp32",
            n=count,
            ours=lambda: gencv_fast.paste_masks(masks, boxes, SIZE),
            check=check,
            checked_against="torchvision's paste_masks_in_image",
            peers={
                "torchvision": Peer(lambda: paste_masks_in_image(masks, boxes, SIZE), "paste_masks_in_image, a loop"),
            },
            work=Work(moved_bytes=output + masks.nbytes),
        )
    )


def bench_paste_masks_backward(compare: Compare, device: str) -> None:
    masks, boxes = scene(100, device)
    grad = torch.randn(100, 1, *SIZE, generator=torch.Generator().manual_seed(1)).to(device)
    leaves = masks.clone().requires_grad_(), masks.clone().requires_grad_()

    def run(masks: Tensor, ours: bool) -> Tensor:
        paste = gencv_fast.paste_masks if ours else paste_masks_in_image
        return torch.autograd.grad(paste(masks, boxes, SIZE), masks, grad)[0]

    expected = run(leaves[1], False)

    def check(result: Tensor) -> None:
        torch.testing.assert_close(result, expected, atol=1e-2, rtol=1e-3)

    output = grad.nbytes
    compare(
        Case(
            room="roi",
            op="paste_masks",
            name="100 masks, forward and backward",
            shape=f"100 masks 28 x 28, image {WIDTH} x {HEIGHT}",
            dtype="fp32",
            n=100,
            ours=lambda: run(leaves[0], True),
            check=check,
            checked_against="torchvision's paste_masks_in_image",
            peers={"torchvision": Peer(lambda: run(leaves[1], False), "paste_masks_in_image, a loop")},
            work=Work(moved_bytes=output + 2 * masks.nbytes),
        )
    )
