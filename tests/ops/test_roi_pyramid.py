"""What is special to spatial pyramid pooling: torch's pools over crops are the oracle."""

from __future__ import annotations

import subprocess

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, max_pool2d

import gencv_fast
import gencv_fast.nn
from gencv_fast.ops.roi.pyramid.contract import POOL
from gencv_fast.ops.roi.pyramid.reference import bin_windows, region_cells
from tests.harness.backends import REFERENCE, Runner, kernels
from tests.ops.gpu_code import EMULATED, ORDERS

backends = pytest.mark.parametrize("runner", [*kernels(), pytest.param(REFERENCE, id="reference")])
POOLS = {"max": adaptive_max_pool2d, "avg": adaptive_avg_pool2d}


def over_levels(maps: Tensor, levels: list[int], mode: str) -> Tensor:
    return torch.cat([POOLS[mode](maps, level).flatten(1) for level in levels], 1)


def over_crops(maps: Tensor, levels: list[int], mode: str, boxes: Tensor, scale: float) -> Tensor:
    cells = region_cells(boxes, *maps.shape[2:], scale).tolist()
    rows = [maps.new_zeros(0, maps.shape[1] * sum(level * level for level in levels))]
    for image, (x1, x2, y1, y2) in zip(boxes[:, 0].int().tolist(), cells, strict=True):
        crop = maps[image : image + 1, :, y1:y2, x1:x2]
        rows.append(over_levels(crop, levels, mode) if crop[0, 0].numel() else torch.zeros(1, rows[0].shape[1]))
    return torch.cat(rows)


coordinates = st.floats(-40, 200, width=32) | st.integers(-3, 24).map(lambda i: 8.0 * i) | st.just(1e30)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Tensor, list[int], str, Tensor, float]:
    n, c = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 17]))
    h, w = draw(st.integers(1, 14)), draw(st.integers(1, 19))
    levels = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    mode = draw(st.sampled_from(["max", "avg"]))
    rows = draw(st.lists(st.tuples(st.integers(0, n - 1), *[coordinates] * 4), max_size=4))
    boxes = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    maps = torch.randn(n, c, h, w, generator=generator).round(decimals=draw(st.sampled_from([0, 3])))
    return maps, levels, mode, boxes, draw(st.sampled_from([1 / 16, 0.125, 1.0]))


def assert_same(result: Tensor, expected: Tensor, mode: str) -> None:
    tolerance = 0.0 if mode == "max" else 1e-5
    torch.testing.assert_close(result.cpu(), expected, rtol=tolerance, atol=tolerance)


@backends
def test_equals_pools_over_crops(runner: Runner) -> None:
    most = 5 if runner.interpreted else 60

    @settings(max_examples=most, deadline=None, database=None)
    @given(calls())
    def check(call: tuple[Tensor, list[int], str, Tensor, float]) -> None:
        maps, levels, mode, boxes, scale = call
        result = runner(POOL, maps, levels, mode, "adaptive", boxes, scale)
        assert_same(result, over_crops(maps, levels, mode, boxes, scale), mode)
        assert_same(runner(POOL, maps, levels, mode, "adaptive", None, 1.0), over_levels(maps, levels, mode), mode)

    check()


@backends
def test_gradients_equal_those_of_pools_over_crops(runner: Runner) -> None:
    """Of maxima to the first of equal cells, as torch."""
    most = 3 if runner.interpreted else 40

    @settings(max_examples=most, deadline=None, database=None)
    @given(calls())
    def check(call: tuple[Tensor, list[int], str, Tensor, float]) -> None:
        maps, levels, mode, boxes, scale = call
        ours, theirs = (maps.clone().requires_grad_() for _ in range(2))
        with runner.active():
            result = POOL(ours, levels, mode, "adaptive", boxes, scale, backend=runner.backend)
            grad = torch.arange(result.numel(), dtype=maps.dtype).view(result.shape) % 7
            (result * grad).sum().backward()
        over_all = (over_crops(theirs, levels, mode, boxes, scale) * grad).sum()
        (over_all + 0 * theirs.sum()).backward()  # where no box has a cell, too
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)

    check()


@backends
@pytest.mark.parametrize(("size", "level"), [(13, 6), (13, 3), (13, 2), (12, 5), (7, 7), (9, 4)])
def test_paper_bins_are_a_sliding_window(runner: Runner, size: int, level: int) -> None:
    maps = torch.randn(1, 2, size, size)
    window, stride = -(-size // level), size // level
    expected = max_pool2d(maps, window, stride)[..., :level, :level].flatten(1)
    assert_same(runner(POOL, maps, [level], "max", "paper", None, 1.0), expected, "max")


@pytest.mark.parametrize("bins", ["paper", "adaptive"])
def test_windows_lie_on_the_map(bins: str) -> None:
    for size in range(1, 40):
        for level in range(1, 12):
            windows = bin_windows(size, level, bins)
            assert len(windows) == level
            assert all(0 <= w.begin < w.end <= size for w in windows)


def test_projection_of_corners() -> None:
    """SPPNet, appendix A."""
    boxes = torch.tensor([[0, 8.0, 16.0, 40.0, 41.0], [0, 16, 16, 17, 17], [0, -90, 0, -80, 64]])
    assert region_cells(boxes, 8, 8, 1 / 16).tolist() == [[1, 3, 2, 3], [1, 2, 1, 2], [0, 0, 1, 4]]


def test_list_of_boxes_and_module() -> None:
    maps = torch.randn(2, 4, 9, 11)
    boxes = [torch.tensor([[0.0, 0, 60, 50]]), torch.tensor([[10.0, 20, 70, 60], [5, 5, 6, 6]])]
    regions = torch.cat([torch.cat((torch.full((len(b), 1), float(i)), b), 1) for i, b in enumerate(boxes)])
    module = gencv_fast.nn.SpatialPyramidPool((1, 3), "avg", spatial_scale=0.125)
    expected = gencv_fast.spatial_pyramid_pool(maps, (1, 3), "avg", boxes=regions, spatial_scale=0.125)
    assert torch.equal(module(maps, boxes), expected)
    assert module.features(4) == expected.shape[1]


def test_gradient_goes_to_the_first_maximum() -> None:
    maps = torch.zeros(1, 1, 4, 4, requires_grad=True)
    gencv_fast.spatial_pyramid_pool(maps, (1, 2)).sum().backward()
    assert maps.grad.nonzero()[:, 2:].tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]
    assert maps.grad[0, 0, 0, 0] == 2


def test_index_of_no_image() -> None:
    with pytest.raises(RuntimeError, match=r"boxes\[0, 0\] must be the index of one of 1 images"):
        gencv_fast.spatial_pyramid_pool(torch.rand(1, 1, 4, 4), boxes=torch.tensor([[1.0, 0, 0, 4, 4]]))


@pytest.mark.parametrize("order", ORDERS)
def test_launchers(order: str) -> None:
    """The torch-free test program; tests/sanitize runs it under the sanitizers."""
    executable = EMULATED / "plain" / "roi_pyramid_emulated_test"
    if not executable.exists():
        pytest.skip(f"{executable} is not built (make build)")
    done = subprocess.run([executable, "--order", order], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
