"""The room's ONNX lowering where sizes change: of the images, of the batch's, of an input that has one of 0 or 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import gencv_fast
from gencv_fast._dispatch import OPS
from gencv_fast.ops.rpn import samples
from gencv_fast.ops.rpn.reference import all_anchors

onnxruntime = pytest.importorskip("onnxruntime")
onnx_export = pytest.importorskip("gencv_fast.ops.rpn.onnx_export")

OP = OPS["rpn_proposals"]


class Detector(nn.Module):
    """Proposals whose image sizes, strides and anchors follow the input."""

    def __init__(self, grid: bool) -> None:
        super().__init__()
        self.grid = grid
        self.objectness, self.deltas = nn.Conv2d(3, 3, 4, stride=4), nn.Conv2d(3, 12, 4, stride=4)
        self.register_buffer("cells", samples.cell_anchors(((3, 1, 1), (3, 1, 1)), (4, 4, 8, 8)).float())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        levels = [images, nn.functional.max_pool2d(images, 2)]
        objectness, deltas = [8 * self.objectness(x) for x in levels], [self.deltas(x) for x in levels]
        height, width = images.shape[2:]
        strides = [(height // o.shape[2], width // o.shape[3]) for o in objectness]
        sizes = [(height, width), (height - 10, width - 3)]
        if self.grid:
            return gencv_fast.rpn_proposals(objectness, deltas, self.cells, sizes, 50, 40, 0.6, strides=strides)
        anchors = all_anchors(objectness, self.cells, [side for pair in strides for side in pair])
        return gencv_fast.rpn_proposals(objectness, deltas, anchors, sizes, 50, 40, 0.6)


def session_of(model: nn.Module, args: tuple[Any, ...], path: Path, dynamic: Any) -> Any:
    table = {OP.overload: onnx_export.rpn_proposals}
    torch.onnx.export(
        model.eval(), args, path, dynamo=True, custom_translation_table=table, dynamic_shapes=dynamic, verbose=False
    )
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_agrees(session: Any, tensors: list[Tensor], expected: tuple[Tensor, ...]) -> None:
    inputs = {i.name: t.numpy() for i, t in zip(session.get_inputs(), tensors, strict=True)}
    boxes, scores, counts = map(torch.from_numpy, session.run(None, inputs))
    assert counts.tolist() == expected[2].tolist()
    torch.testing.assert_close(boxes, expected[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(scores, expected[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("grid", [True, False], ids=["grid", "all anchors"])
def test_image_size_may_change(grid: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Detector(grid)
    dynamic = ({2: Dim("height", min=16, max=4096), 3: Dim("width", min=16, max=4096)},)
    with torch.no_grad():
        session = session_of(model, (torch.rand(2, 3, 64, 96),), tmp_path / "model.onnx", dynamic)
        for height, width in ((64, 96), (96, 64), (41, 133), (200, 70)):
            images = torch.rand(2, 3, height, width)
            expected = model(images)
            assert expected[2].min() > 10
            assert_agrees(session, [images], expected)


@pytest.mark.parametrize("name", ["one image and level", "one candidate", "sixteen levels", "no images"])
def test_sizes_that_torch_takes_for_constants(name: str, tmp_path: Path) -> None:
    (sample,) = (s for s in samples.sample_inputs("rpn_proposals", torch.float32) if s.name == name)

    class Model(nn.Module):
        def forward(self, objectness: list[Tensor], deltas: list[Tensor], anchors: Tensor) -> tuple[Tensor, ...]:
            return OP(objectness, deltas, anchors, *sample.args[3:])

    session = session_of(Model(), sample.args[:3], tmp_path / "model.onnx", None)
    tensors = [*sample.args[0], *sample.args[1], sample.args[2]]
    assert_agrees(session, tensors, OP(*sample.args))


def test_refusals() -> None:
    for dtype, threshold, message in (
        (torch.bfloat16, 0.5, "anchors of bfloat16"),
        (torch.float32, -0.5, "nms_threshold"),
    ):
        objectness, deltas, anchors, *rest = samples.sample_inputs("rpn_proposals", dtype)[0].args

        class Model(nn.Module):
            def forward(self, x: Tensor, rest: Any = (*rest[:3], threshold), fixed: Any = (objectness, deltas)) -> Any:
                return OP(*fixed, x, *rest)

        with pytest.raises(Exception, match="rpn_proposals: ") as caught:
            session_of(Model(), (anchors,), Path("unused.onnx"), None)
        assert message in f"{caught.value} {caught.value.__cause__}"
