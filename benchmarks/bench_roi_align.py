"""Benchmarks of RoI align: on one map, and on the levels of a feature pyramid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from torch import Tensor

import gencv_fast
from gencv_fast.nn import MultiScaleRoIAlign

from .harness import Case, Compare, Peer
from .limits import Work

SCALE = 1 / 16
RATIO = 2
IMAGE = (800, 1088)

Align = Callable[..., Tensor]


def maps(height: int = 50, width: int = 68) -> Tensor:
    return torch.randn(2, 256, height, width, generator=torch.Generator().manual_seed(height))


def random_regions(count: int) -> Tensor:
    """Corner uniform in the image, width and height in [8, 208), cut at the image's border."""
    generator = torch.Generator().manual_seed(1)
    height, width = IMAGE
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width - 8.0, height - 8.0])
    size = torch.rand(count, 2, generator=generator) * 200 + 8
    opposite = torch.minimum(corner + size, torch.tensor([float(width), float(height)]))
    image = torch.randint(2, (count, 1), generator=generator).float()
    return torch.cat((image, corner, opposite), 1)


def onnx_session(size: int) -> onnxruntime.InferenceSession:
    """RoiAlign as onnxruntime has it, with torch's number of threads."""
    node = onnx.helper.make_node(
        "RoiAlign",
        ["x", "r", "i"],
        ["y"],
        output_height=size,
        output_width=size,
        sampling_ratio=RATIO,
        spatial_scale=SCALE,
        coordinate_transformation_mode="output_half_pixel",
    )
    kinds = {"x": (onnx.TensorProto.FLOAT, 4), "r": (onnx.TensorProto.FLOAT, 2), "i": (onnx.TensorProto.INT64, 1)}
    inputs = [onnx.helper.make_tensor_value_info(n, kind, [None] * d) for n, (kind, d) in kinds.items()]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * 4)
    graph = onnx.helper.make_graph([node], "align", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 16)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnx_peer(x: Tensor, regions: Tensor, size: int, expected: Tensor) -> Peer:
    session = onnx_session(size)
    feed = {"x": x.numpy(), "r": regions[:, 1:].contiguous().numpy(), "i": regions[:, 0].long().numpy()}

    def differing(result: list[np.ndarray]) -> int:
        return int((~torch.isclose(torch.from_numpy(result[0]), expected, rtol=1e-4, atol=1e-4)).sum())

    return Peer(lambda: session.run(None, feed), "RoiAlign of opset 16", differing=differing)


def run(align: Align, x: Tensor, regions: Tensor, size: int, **options: bool) -> Tensor:
    return align(x, regions, (size, size), SCALE, RATIO, **options)


def forward_work(features: list[Tensor], regions: Tensor, size: int) -> Work:
    """The maps are read and the bins written once."""
    first = features[0]
    bins = len(regions) * first.shape[1] * size * size * first.element_size()
    return Work(sum(x.nbytes for x in features) + regions.nbytes + bins)


def close_to(expected: Tensor, tolerance: float = 1e-4) -> Callable[[Tensor], None]:
    def check(result: Tensor) -> None:
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)

    return check


def case(name: str, regions: Tensor, size: int, ours: Callable[[], Tensor], expected: Tensor, **rest: object) -> Case:
    return Case(
        room="roi",
        op="roi_align",
        name=name,
        shape=f"{len(regions):,} regions of 2 x 256 x 50 x 68, {size} x {size}, 2 x 2 samples",
        dtype="fp32",
        n=len(regions),
        ours=ours,
        check=close_to(expected),
        checked_against="torchvision, to rounding",
        **rest,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("count", "size"), [(1000, 7), (300, 14)])
def bench_roi_align_forward(compare: Compare, device: str, count: int, size: int) -> None:
    x, regions = maps().to(device), random_regions(count).to(device)
    theirs = torchvision.ops.roi_align
    expected = run(theirs, x, regions, size)
    compiled = torch.compile(lambda: run(theirs, x, regions, size))
    peers = {
        "torchvision": Peer(lambda: run(theirs, x, regions, size), "ops.roi_align"),
        "torch.compile": Peer(compiled, "of torchvision's", full_only=True),
    }
    if device == "cpu":
        peers["onnxruntime"] = onnx_peer(x, regions, size, expected)
    work = forward_work([x], regions, size)
    ours = lambda: run(gencv_fast.roi_align, x, regions, size)  # noqa: E731
    compare(case(f"forward, {count:,}, {size} x {size}", regions, size, ours, expected, peers=peers, work=work))


def bench_roi_align_channels_last(compare: Compare, device: str) -> None:
    """Maps and result in channels_last, beside our own with both in planes."""
    planes, regions = maps().to(device), random_regions(1000).to(device)
    x = planes.to(memory_format=torch.channels_last)
    theirs = torchvision.ops.roi_align
    peers = {
        "gencv_fast NCHW": Peer(lambda: run(gencv_fast.roi_align, planes, regions, 7), "maps and result in planes"),
        "torchvision": Peer(lambda: run(theirs, x, regions, 7), "ops.roi_align, which copies to planes"),
    }
    expected = run(theirs, planes, regions, 7)
    work = forward_work([x], regions, 7)
    ours = lambda: run(gencv_fast.roi_align, x, regions, 7, channels_last=True)  # noqa: E731
    compare(case("forward, channels_last", regions, 7, ours, expected, peers=peers, work=work))


def bench_roi_align_backward(compare: Compare, device: str) -> None:
    """Forward and backward together."""
    x, regions = maps().to(device).requires_grad_(), random_regions(1000).to(device)
    grad = torch.randn(1000, 256, 7, 7, generator=torch.Generator().manual_seed(2)).to(device)

    def gradient(align: Align) -> Tensor:
        return torch.autograd.grad(run(align, x, regions, 7), x, grad)[0]

    theirs = torchvision.ops.roi_align
    forward = forward_work([x], regions, 7)
    # Then gradients of bins are read, and the gradient of the maps written once.
    work = Work(forward.moved_bytes + grad.nbytes + x.nbytes)
    peers = {"torchvision": Peer(lambda: gradient(theirs), "ops.roi_align and its backward")}
    ours = lambda: gradient(gencv_fast.roi_align)  # noqa: E731
    compare(case("forward and backward", regions, 7, ours, gradient(theirs), peers=peers, work=work))


@pytest.mark.parametrize("levels", [4, 5])
def bench_multiscale_roi_align(compare: Compare, device: str, levels: int) -> None:
    """Boxes with sides from 16 to 800 pixels, evenly on a scale of logarithms, so that every level has some."""
    strides = [4 << i for i in range(levels)]
    features = OrderedDict((str(s), maps(-(-IMAGE[0] // s), -(-IMAGE[1] // s)).to(device)) for s in strides)
    generator = torch.Generator().manual_seed(3)
    limits = torch.tensor([IMAGE[1], IMAGE[0]]).float()
    size = (16 * 50 ** torch.rand(2, 500, 2, generator=generator)).minimum(limits)
    corner = torch.rand(2, 500, 2, generator=generator) * (limits - size)
    boxes = list(torch.cat((corner, corner + size), 2).to(device))
    names, images = list(features), [IMAGE, IMAGE]
    theirs = torchvision.ops.MultiScaleRoIAlign(names, 7, RATIO)
    ours = MultiScaleRoIAlign(names, 7, RATIO)
    compare(
        Case(
            room="roi",
            op="multiscale_roi_align",
            name=f"{levels} levels",
            shape=f"2 images of {IMAGE[0]} x {IMAGE[1]}, {levels} levels of 256 channels, 1,000 regions, 7 x 7",
            dtype="fp32",
            n=1000,
            ours=lambda: ours(features, boxes, images),
            check=close_to(theirs(features, boxes, images)),
            checked_against="torchvision, to rounding",
            peers={"torchvision": Peer(lambda: theirs(features, boxes, images), "ops.MultiScaleRoIAlign")},
            work=forward_work(list(features.values()), torch.cat(boxes), 7),
        )
    )
