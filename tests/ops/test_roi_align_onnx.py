"""RoI align in onnxruntime, beyond the samples that the harness exports."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gencv_fast
from gencv_fast.ops.roi.align import reference

pytest.importorskip("onnxruntime")
from gencv_fast.onnx import translation_table

onnx = pytest.importorskip("onnx")

MAPS = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
BOXES = torch.tensor(
    [
        [0.0, 10, 10, 50, 60],
        [1, -20, -20, 30, 30],  # partly outside
        [0, 60, 50, 120, 110],
        [0, 5, 5, 5, 5],  # empty
        [1, 0, 20, 80, 20],
        [0, 30, 30, 10, 10],  # reversed
        [0, 30, 10, 10, 40],
        [0, -500, -500, -400, -400],  # far outside
        [0, 500, 500, 600, 600],
        [1, -1000, 5, 1000, 40],
        [0, -8, -8, -8, -8],  # on the border
        [0, 88, 72, 88, 72],
        [1, torch.nan, 1, 2, 3],  # not sound
        [0, 1, 2, torch.inf, 3],
    ]
)


class Align(torch.nn.Module):
    def __init__(self, *args: Any) -> None:
        super().__init__()
        self.args = args

    def forward(self, maps: Tensor, boxes: Tensor) -> Tensor:
        return gencv_fast.roi_align(maps, boxes, *self.args)


class Multiscale(torch.nn.Module):
    args = (2, 32, 3)

    def forward(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        op = torch.ops.gencv_fast.multiscale_roi_align
        return op(maps, boxes, [3, 2], [1 / 4, 1 / 8, 1 / 16], *self.args)


def session(module: torch.nn.Module, maps: Any, boxes: Tensor, path: Path) -> Any:
    import onnxruntime

    sizes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    dynamic = ([sizes for _ in maps] if isinstance(maps, list) else sizes, {0: torch.export.Dim.DYNAMIC})
    torch.onnx.export(
        module,
        (maps, boxes),
        path,
        dynamo=True,
        dynamic_shapes=dynamic,
        custom_translation_table=translation_table(),
        verbose=False,
    )
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(model: Any, *tensors: Tensor) -> Tensor:
    inputs = {i.name: t.numpy() for i, t in zip(model.get_inputs(), tensors, strict=True)}
    return torch.from_numpy(model.run(None, inputs)[0])


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(("ratio", "mode"), [(-1, "avg"), (1, "avg"), (3, "avg"), (1, "max"), (2, "max")])
def test_regions_of_every_kind(ratio: int, mode: str, aligned: bool, tmp_path: Path) -> None:
    args = ((3, 2), 1 / 8, ratio, aligned, mode)
    model = session(Align(*args), MAPS, BOXES, tmp_path / "align.onnx")
    for maps, boxes in ((MAPS, BOXES), (MAPS[:, :, :5, :7], BOXES[:3]), (MAPS, BOXES[:0])):
        expected = reference.roi_align(maps, boxes, *args)
        torch.testing.assert_close(run(model, maps.contiguous(), boxes), expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_half_precision(mode: str, tmp_path: Path) -> None:
    args = ((2, 2), 1 / 8, 2, True, mode)
    maps = MAPS.half()
    model = session(Align(*args), maps, BOXES, tmp_path / "half.onnx")
    got, expected = run(model, maps, BOXES), reference.roi_align(maps, BOXES, *args)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=1e-3, equal_nan=True)


def test_pyramid(tmp_path: Path) -> None:
    """Regions on every level, on one only, and none at all; each is aligned once."""
    maps = [torch.randn(2, 3, 16, 20), torch.randn(2, 3, 8, 10), torch.randn(2, 3, 4, 5)]
    path = tmp_path / "pyramid.onnx"
    model = session(Multiscale(), maps, BOXES, path)
    assert Counter(node.op_type for node in onnx.load(path).graph.node)["RoiAlign"] == len(maps)
    small = torch.tensor([[1.0, 2, 3, 9, 11], [0, 5, 1, 8, 9]])
    large = torch.tensor([[1.0, 0, 0, 79, 60]])
    for boxes in (BOXES, small, large, torch.cat((large, small, large)), BOXES[:0], BOXES[12:]):
        expected = reference.multiscale_roi_align(maps, boxes, (3, 2), (1 / 4, 1 / 8, 1 / 16), *Multiscale.args)
        torch.testing.assert_close(run(model, *maps, boxes), expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    adaptive = Align((2, 2), 1.0, -1, False, "max")
    with pytest.raises(Exception, match="sampling_ratio must be positive for mode 'max' to be exported"):
        session(adaptive, MAPS, BOXES, tmp_path / "refused.onnx")
    with pytest.raises(Exception, match="input of bfloat16 cannot be exported"):
        session(Align((2, 2)), MAPS.bfloat16(), BOXES, tmp_path / "refused.onnx")
