"""What the wings of the room share: regions, and sizes of what they give."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import gencv_fast

WINGS: dict[str, Callable[..., Any]] = {
    "roi_align": gencv_fast.roi_align,
    "roi_pool": gencv_fast.roi_pool,
    "ps_roi_align": gencv_fast.ps_roi_align,
    "ps_roi_pool": gencv_fast.ps_roi_pool,
    "multiscale_roi_align": lambda maps, boxes, size: gencv_fast.multiscale_roi_align(
        [maps], boxes, None, size, 2, scales=[1.0]
    ),
    "spatial_pyramid_pool": lambda maps, boxes, size: gencv_fast.spatial_pyramid_pool(maps, boxes=boxes),
}
BOXES = torch.tensor([[0.0, 0, 4, 4]])
REGIONS = torch.tensor([[0.0, 0, 0, 4, 4]])


def refused(op: str, call: Callable[[], Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(f"{op}: {message}.")):
        call()


@pytest.mark.parametrize("op", WINGS)
@pytest.mark.parametrize(
    ("boxes", "came"),
    [
        (3, "3"),
        ({}, "dict"),
        (REGIONS.numpy(), "ndarray"),
        ([], "[]"),
        ("", ""),
        ("ab", "'a' for image 0"),
        ([[0.0, 0, 4, 4]], "list for image 0"),
        ([BOXES, None], "None for image 1"),
    ],
    ids=str,
)
def test_no_boxes(op: str, boxes: Any, came: str) -> None:
    expected = "boxes must be a tensor [K, 5] or a list with a tensor for each image"
    refused(op, lambda: WINGS[op](torch.zeros(2, 4, 6, 6), boxes, 2), f"{expected}, got {came}")


@pytest.mark.parametrize("op", WINGS)
def test_lists_of_boxes(op: str) -> None:
    maps = torch.zeros(2, 4, 6, 6)
    refused(op, lambda: WINGS[op](maps, [BOXES, BOXES[0]], 2), "boxes[1] must be [L, 4], got [4]")
    elsewhere = "boxes[1] must be on the device of boxes[0] (cpu), got meta"
    refused(op, lambda: WINGS[op](maps, [BOXES, BOXES.to("meta")], 2), elsewhere)


@pytest.mark.parametrize("op", [op for op in WINGS if op != "spatial_pyramid_pool"])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        (None, "output_size must be one or two whole numbers, got None"),
        (2.5, "output_size must be one or two whole numbers, got 2.5"),
        ("22", "output_size must be one or two whole numbers, got '22'"),
        (torch.tensor([2, 2]), "output_size must be one or two whole numbers, got Tensor"),
        ((2, 2.5), "output_size[1] must be a whole number, got 2.5"),
        ((None, 2), "output_size[0] must be a whole number, got None"),
    ],
    ids=str,
)
def test_no_output_size(op: str, size: Any, message: str) -> None:
    refused(op, lambda: WINGS[op](torch.zeros(1, 4, 6, 6), REGIONS, size), message)


@pytest.mark.parametrize("wrong", [None, 2.5, "22"])
def test_no_size(wrong: Any) -> None:
    images, index = torch.zeros(1, 3, 6, 6), torch.tensor([0])
    crop = "size must be one or two whole numbers"
    came = repr(wrong)
    refused("crop_and_resize", lambda: gencv_fast.crop_and_resize(images, BOXES, index, wrong), f"{crop}, got {came}")
    paste = "image_size must be a list of whole numbers"
    refused("paste_masks", lambda: gencv_fast.paste_masks(images[:, :1], BOXES, wrong), f"{paste}, got {came}")
    levels = "levels must be a list of whole numbers" if wrong != "22" else "levels[0] must be a whole number"
    came = came if wrong != "22" else "'2'"
    refused("spatial_pyramid_pool", lambda: gencv_fast.spatial_pyramid_pool(images, wrong), f"{levels}, got {came}")
