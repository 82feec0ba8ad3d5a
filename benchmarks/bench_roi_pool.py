"""Benchmarks of RoI pooling: roi_pool on the feature maps of Fast R-CNN."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from torch import Tensor

import gencv_fast

from .harness import Case, Compare, Peer
from .limits import Work

SCALE = 1 / 16
SIZE = (7, 7)


def maps(batch: int = 2, channels: int = 256, height: int = 50, width: int = 68) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def random_regions(count: int, images: int = 2) -> Tensor:
    """Corner uniform in 900 x 600 image pixels, width and height in [8, 208)."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([900.0, 600.0])
    size = torch.rand(count, 2, generator=generator) * 200 + 8
    image = torch.randint(images, (count, 1), generator=generator).float()
    return torch.cat((image, corner, corner + size), 1)


def onnx_session() -> onnxruntime.InferenceSession:
    """MaxRoiPool as onnxruntime has it, with torch's number of threads."""
    node = onnx.helper.make_node("MaxRoiPool", ["x", "r"], ["y"], pooled_shape=SIZE, spatial_scale=SCALE)
    tensors = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None] * d)
        for n, d in zip("xry", (4, 2, 4), strict=True)
    ]
    graph = onnx.helper.make_graph([node], "pool", tensors[:2], tensors[2:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def forward_work(x: Tensor, regions: Tensor) -> Work:
    """The maps are read and the bins written once."""
    bins = len(regions) * x.shape[1] * SIZE[0] * SIZE[1] * x.element_size()
    return Work(x.nbytes + regions.nbytes + bins)


def forward_case(name: str, x: Tensor, regions: Tensor, peers: dict[str, Peer]) -> Case:
    expected = torchvision.ops.roi_pool(x, regions, SIZE, SCALE)

    def check(result: Tensor) -> None:
        assert torch.equal(result, expected)

    return Case(
        room="roi",
        op="roi_pool",
        name=name,
        shape=f"{len(regions):,} regions of {' x '.join(map(str, x.shape))}, 7 x 7",
        dtype="fp32",
        n=len(regions),
        ours=lambda: gencv_fast.roi_pool(x, regions, SIZE, SCALE),
        check=check,
        checked_against="torchvision, same bits",
        peers={"torchvision": Peer(lambda: torchvision.ops.roi_pool(x, regions, SIZE, SCALE), "ops.roi_pool"), **peers},
        work=forward_work(x, regions),
    )


@pytest.mark.parametrize("count", [10, 100, 1000])
def bench_roi_pool_forward(compare: Compare, device: str, count: int) -> None:
    x, regions = maps().to(device), random_regions(count).to(device)
    peers = {}
    if device == "cpu":
        session, feed = onnx_session(), {"x": x.numpy(), "r": regions.numpy()}

        def differing(result: list[np.ndarray]) -> int:
            return int((torch.from_numpy(result[0]) != torchvision.ops.roi_pool(x, regions, SIZE, SCALE)).sum())

        peers["onnxruntime"] = Peer(lambda: session.run(None, feed), "MaxRoiPool", differing=differing)
    compare(forward_case(f"forward, {count:,}", x, regions, peers))


def bench_roi_pool_channels_last(compare: Compare, device: str) -> None:
    x = maps().to(device).to(memory_format=torch.channels_last)
    compare(forward_case("forward, channels_last", x, random_regions(1000).to(device), {}))


def bench_roi_pool_backward(compare: Compare, device: str) -> None:
    """Forward and backward together."""
    x, regions = maps().to(device).requires_grad_(), random_regions(1000).to(device)
    grad = torch.randn(1000, x.shape[1], *SIZE, generator=torch.Generator().manual_seed(2)).to(device)

    def gradient(pool: Callable[..., Tensor]) -> Tensor:
        return torch.autograd.grad(pool(x, regions, SIZE, SCALE), x, grad)[0]

    expected = gradient(torchvision.ops.roi_pool)

    def check(result: Tensor) -> None:
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-4)

    forward = forward_work(x, regions)
    # Then gradients of bins and maps are read once, and the gradient of the maps written.
    moved = forward.moved_bytes + grad.nbytes + 2 * x.nbytes
    compare(
        Case(
            room="roi",
            op="roi_pool",
            name="forward and backward",
            shape="1,000 regions of 2 x 256 x 50 x 68, 7 x 7",
            dtype="fp32",
            n=1000,
            ours=lambda: gradient(gencv_fast.roi_pool),
            check=check,
            checked_against="torchvision, to rounding",
            peers={"torchvision": Peer(lambda: gradient(torchvision.ops.roi_pool), "ops.roi_pool and its backward")},
            work=Work(moved),
        )
    )
