"""What crops and resizes boxes elsewhere: onnxruntime's contrib operator, grid_sample, and loops over the boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate
from torchvision.transforms.functional import InterpolationMode, resized_crop


def onnxruntime_crop(
    size: Sequence[int], method: str = "bilinear", extrapolation_value: float = 0.0, threads: int = 1
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Its ``com.microsoft.CropAndResize``, which follows TensorFlow, of fp32 images, boxes and their indices."""
    attributes = {"mode": method, "extrapolation_value": extrapolation_value}
    names = ["images", "boxes", "indices"]
    node = helper.make_node("CropAndResize", [*names, "size"], ["crops"], domain="com.microsoft", **attributes)
    types = [(TensorProto.FLOAT, 4), (TensorProto.FLOAT, 2), (TensorProto.INT32, 1)]
    inputs = [helper.make_tensor_value_info(n, t, [None] * rank) for n, (t, rank) in zip(names, types, strict=True)]
    output = helper.make_tensor_value_info("crops", TensorProto.FLOAT, [None] * 4)
    fixed = helper.make_tensor("size", TensorProto.INT32, [2], list(size))
    graph = helper.make_graph([node], "crop", inputs, [output], [fixed])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor, boxes: Tensor, indices: Tensor) -> Tensor:
        feeds: dict[str, np.ndarray] = {"images": images.numpy(), "boxes": boxes.numpy()}
        return torch.from_numpy(session.run(None, {**feeds, "indices": indices.int().numpy()})[0])

    return run


def grid_of(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """The samples of every box for grid_sample with aligned corners, ``[K, height, width, 2]``."""
    y1, x1, y2, x2 = (2 * boxes - 1)[:, :, None].unbind(1)
    y = y1 + (y2 - y1) * torch.linspace(0, 1, size[0], device=boxes.device)
    x = x1 + (x2 - x1) * torch.linspace(0, 1, size[1], device=boxes.device)
    return torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)


def grid_sample_crop(images: Tensor, boxes: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
    """One call for each image, with all its boxes on top of each other as one grid: no copy of an image per box."""
    crops = []
    for i, image in enumerate(images):
        grid = grid_of(boxes[indices == i], size)
        sampled = grid_sample(image[None], grid.flatten(0, 1)[None], align_corners=True)
        crops.append(sampled[0].unflatten(1, (len(grid), size[0])).transpose(0, 1))
    return torch.cat(crops)


def pixel_boxes(boxes: Tensor, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """First row and column, height and width of boxes whose corners are pixels."""
    scale = torch.tensor([height - 1, width - 1] * 2)
    corners = (boxes * scale).round().int().tolist()
    return [(y1, x1, y2 - y1 + 1, x2 - x1 + 1) for y1, x1, y2, x2 in corners]


def interpolate_loop(image: Tensor, pixels: list[tuple[int, int, int, int]], size: Sequence[int]) -> Tensor:
    crops = [image[:, :, y : y + h, x : x + w] for y, x, h, w in pixels]
    return torch.cat([interpolate(c, size, mode="bilinear", align_corners=True) for c in crops])


def torchvision_loop(image: Tensor, pixels: list[tuple[int, int, int, int]], size: Sequence[int]) -> Tensor:
    mode = InterpolationMode.BILINEAR
    return torch.stack([resized_crop(image[0], *box, list(size), mode, antialias=False) for box in pixels])
