"""Large CPU results leave their pages to the next ones, and nobody can tell."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gencv_fast
from gencv_fast._library import why_no_cpu_library
from tests.harness.processes import python

pytestmark = pytest.mark.skipif(why_no_cpu_library() is not None, reason=str(why_no_cpu_library()))

MIB = 1 << 20


def matrix(rows: int, columns: int = 1024, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes whose overlaps are rows * columns * 4 bytes."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(rows + columns, 2, generator=generator) * 100
    boxes = torch.cat((corners, corners + 1 + 50 * torch.rand(rows + columns, 2, generator=generator)), 1)
    return boxes[:rows], boxes[rows:]


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    gc.collect()
    gencv_fast.empty_cache()


def test_pages_go_to_the_next_result_of_about_its_size() -> None:
    a, b = matrix(2048)
    first = gencv_fast.box_iou(a, b)
    expected, where = first.clone(), first.data_ptr()
    del first
    again = gencv_fast.box_iou(a[:-100], b)
    assert again.data_ptr() == where
    assert torch.equal(again, expected[:-100])


@pytest.mark.parametrize("rows", [1024, 4096], ids=["too large", "too small"])
def test_pages_of_another_size_stay_where_they_are(rows: int) -> None:
    a, b = matrix(2048)
    where = gencv_fast.box_iou(a, b).data_ptr()
    assert gencv_fast.box_iou(*matrix(rows)).data_ptr() != where
    assert gencv_fast.box_iou(a, b).data_ptr() == where


def test_results_in_use_share_nothing() -> None:
    a, b = matrix(2048)
    [gencv_fast.box_iou(a, b) for _ in range(2)]  # leaves pages
    results = [gencv_fast.box_iou(a, b + i) for i in range(4)]
    view = results.pop(0)[5:, :7]  # alone keeps its result
    results += [gencv_fast.box_iou(a, b + i) for i in range(4, 7)]
    assert torch.equal(view, gencv_fast.box_iou(a, b, backend="reference")[5:, :7])
    for i, x in enumerate(results, 1):
        assert torch.equal(x, gencv_fast.box_iou(a, b + i, backend="reference"))


def test_a_result_is_a_tensor_like_any_other() -> None:
    result = gencv_fast.box_iou(*matrix(1024))
    expected = result.tolist()
    assert pickle.loads(pickle.dumps(result)).tolist() == expected
    assert copy.deepcopy(result).tolist() == expected
    assert result.share_memory_().tolist() == expected
    assert result.add_(1).sub_(1).shape == (1024, 1024)
    assert result.resize_(3, 3).shape == (3, 3)


def test_gradients_lie_in_kept_pages_too() -> None:
    maps = torch.randn(1, 64, 200, 200, requires_grad=True)
    boxes = torch.tensor([[0.0, 10.0, 10.0, 150.0, 150.0]])

    def gradient() -> Tensor:
        return torch.autograd.grad(gencv_fast.roi_pool(maps, boxes, 7).sum(), maps)[0]

    first = gradient()
    expected, where = first.clone(), first.data_ptr()
    del first
    again = gradient()
    assert again.data_ptr() == where
    assert torch.equal(again, expected)


def test_threads_take_and_give_back_at_once() -> None:
    a, b = matrix(1100)
    expected = gencv_fast.box_iou(a, b, backend="reference")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: torch.equal(gencv_fast.box_iou(a, b), expected), range(64)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_at_most_a_gibibyte_is_kept_and_empty_cache_returns_it() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    a, b = matrix(32 * 1024)
    before = resident()
    results = [gencv_fast.box_iou(a, b) for _ in range(10)]  # 128 MiB each
    assert resident() - before > 1270 * MIB
    del results
    assert 900 * MIB < resident() - before < 1100 * MIB
    gencv_fast.empty_cache()
    assert resident() - before < 100 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_system_may_take_all_but_the_latest() -> None:
    def offered() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("LazyFree:"))

    a, b = matrix(10 * 1024)
    gencv_fast.box_iou(a, b)  # 40 MiB
    assert offered() < MIB
    results = [gencv_fast.box_iou(a, b) for _ in range(3)]
    expected = results[0].clone()
    del results
    assert 70 * MIB < offered() < 90 * MIB
    assert torch.equal(gencv_fast.box_iou(a, b), expected)


def test_a_child_of_fork_has_pages_of_its_own() -> None:
    code = """
import os, torch, gencv_fast
boxes = torch.rand(1500, 4).cumsum(1)
expected = gencv_fast.box_iou(boxes, boxes, backend="reference")
gencv_fast.box_iou(boxes, boxes)
torch.set_num_threads(1)
child = os.fork()
same = all(torch.equal(gencv_fast.box_iou(boxes, boxes), expected) for _ in range(20))
if child == 0:
    os._exit(0 if same else 1)
print(same and os.waitpid(child, 0)[1] == 0)
"""
    assert python(code).strip() == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
def test_kept_pages_are_given_up_where_there_is_no_other_memory() -> None:
    code = """
import resource, torch, gencv_fast
def overlaps(n):
    boxes = torch.rand(n, 4).cumsum(1)
    return gencv_fast.box_iou(boxes, boxes)
torch.set_num_threads(1)
overlaps(100)
del_me = overlaps(12_000)  # 550 MiB
del del_me
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20),) * 2)
print(overlaps(12_900).shape[0])  # 635 MiB, which the kept block does not hold
"""
    assert python(code) == "12900"


def test_without_compiled_kernels_there_is_nothing_to_empty() -> None:
    assert python("import gencv_fast; print(gencv_fast.empty_cache())", GENCV_FAST_PURE="1").strip() == "None"
