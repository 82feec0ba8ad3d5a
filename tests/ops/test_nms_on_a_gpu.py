"""What only a GPU can show: streams, devices, synchronisation, graph capture, memory. `make gpu` runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import gencv_fast
from gencv_fast.ops.nms.samples import random_boxes, random_scores

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
BACKENDS = ("cuda", "triton")
LIMITS = (0.5, 0.1, 50, 100)


def problem(n: int, device: str = "cuda") -> tuple[Tensor, Tensor]:
    return random_boxes(n).float().to(device), random_scores(n).float().to(device)


def batch(n: int) -> tuple[Tensor, Tensor]:
    boxes, scores = problem(4 * n)
    return boxes.view(2, 2 * n, 4), scores.view(2, 1, 2 * n).expand(2, 3, 2 * n).contiguous()


@contextmanager
def no_sync() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_multiclass_nms_does_not_synchronise() -> None:
    boxes, scores = batch(100)
    with no_sync():
        gencv_fast.multiclass_nms(boxes, scores, *LIMITS, backend="cuda")


def test_multiclass_nms_in_a_cuda_graph() -> None:
    boxes, scores = batch(100)
    expected = gencv_fast.multiclass_nms(boxes, scores, *LIMITS)  # warms up, too
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gencv_fast.multiclass_nms(boxes, scores, *LIMITS)
    graph.replay()
    for ours, theirs in zip(captured, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_current_stream(backend: str) -> None:
    """The inputs are written late on a side stream: kernels of another stream would read the old ones."""
    boxes, scores = problem(3000)
    expected = gencv_fast.nms(boxes, scores, 0.5, backend=backend)
    late = torch.zeros_like(boxes)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        late.copy_(boxes)
        assert torch.equal(gencv_fast.nms(late, scores, 0.5, backend=backend), expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one CUDA device")
@pytest.mark.parametrize("backend", BACKENDS)
def test_another_device_than_the_current_one(backend: str) -> None:
    boxes, scores = problem(3000, "cuda:1")
    kept = gencv_fast.nms(boxes, scores, 0.5, backend=backend)
    assert kept.device == boxes.device
    assert torch.equal(kept.cpu(), gencv_fast.nms(boxes.cpu(), scores.cpu(), 0.5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_grows_with_n_alone(backend: str) -> None:
    boxes, scores = problem(100_000)
    gencv_fast.nms(boxes, scores, 0.5, backend=backend)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    gencv_fast.nms(boxes, scores, 0.5, backend=backend)
    assert torch.cuda.max_memory_allocated() - before < 64 << 20


def test_scores_on_another_device() -> None:
    boxes, scores = problem(5)
    with pytest.raises(RuntimeError, match=r"nms: scores must be on the device of boxes \(cuda:0\), got cpu"):
        torch.ops.gencv_fast.nms(boxes, scores.cpu(), 0.5)
