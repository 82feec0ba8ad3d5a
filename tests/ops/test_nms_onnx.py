"""The room's ONNX lowerings, exported with dynamic sizes and run in onnxruntime, equal the reference."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import gencv_fast
from gencv_fast._dispatch import OPS
from gencv_fast.onnx import translation_table

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
ir = pytest.importorskip("onnxscript").ir

pytestmark = pytest.mark.filterwarnings("ignore:# The axis name:UserWarning")

SIZES = (0, 1, 2, 50, 1000)
DTYPES = (torch.float32, torch.float16, torch.float64)
NUMBER = Dim("number")
IMAGES = Dim("images")
SHAPES = {  # of the tensors of each op; NUMBER and IMAGES may change at run time
    "nms": ({0: NUMBER}, {0: NUMBER}),
    "batched_nms": ({0: NUMBER}, {0: NUMBER}, {0: NUMBER}),
    "soft_nms": ({0: NUMBER}, {0: NUMBER}),
    "multiclass_nms": ({0: IMAGES, 1: NUMBER}, {0: IMAGES, 2: NUMBER}),
}
DEFAULTS: dict[str, tuple[Any, ...]] = {
    "nms": (0.3,),
    "batched_nms": (0.3,),
    "soft_nms": (0.3, 0.5, 0.05, "linear"),
    "multiclass_nms": (0.3, 0.2, 20, 30),
}


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any], scalars: tuple[Any, ...]) -> None:
        super().__init__()
        self.function = function
        self.scalars = scalars

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors, *self.scalars)


def make_boxes(count: int, generator: torch.Generator, *images: int) -> Tensor:
    """On a grid of halves, which every dtype holds exactly."""
    corner = torch.randint(0, 80, (*images, count, 2), generator=generator)
    return torch.cat((corner, corner + torch.randint(1, 40, corner.shape, generator=generator)), dim=-1) / 2


def make_inputs(name: str, count: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    if name == "multiclass_nms":
        boxes = make_boxes(count, generator, 2)
        return boxes.to(dtype), torch.rand(2, 3, count, generator=generator).to(dtype)
    boxes, scores = make_boxes(count, generator), torch.rand(count, generator=generator)
    idxs = (torch.randint(-4, 4, (count,), generator=generator),) if name == "batched_nms" else ()
    return boxes.to(dtype), scores.to(dtype), *idxs


def export(module: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple[Any, ...]) -> torch.onnx.ONNXProgram:
    return torch.onnx.export(
        module.eval(),
        inputs,
        dynamo=True,
        verbose=False,
        custom_translation_table=translation_table(),
        dynamic_shapes=(shapes,),
    )


@functools.cache
def exported(
    name: str,
    dtype: torch.dtype = torch.float32,
    scalars: tuple[Any, ...] = (),
    idxs: torch.dtype = torch.int64,
) -> torch.onnx.ONNXProgram:
    boxes, scores, *rest = make_inputs(name, 50, dtype)
    module = Call(getattr(gencv_fast, name), scalars or DEFAULTS[name])
    return export(module, (boxes, scores, *(r.to(idxs) for r in rest)), SHAPES[name])


@functools.cache
def session(program: torch.onnx.ONNXProgram) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString())


def run(program: torch.onnx.ONNXProgram, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    loaded = session(program)
    return loaded.run(None, {i.name: t.numpy() for i, t in zip(loaded.get_inputs(), inputs, strict=True)})


def expect_reference(
    name: str, inputs: tuple[Tensor, ...], scalars: tuple[Any, ...] = (), dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    idxs = inputs[2].dtype if name == "batched_nms" else torch.int64
    actual = run(exported(name, dtype, scalars, idxs), inputs)
    expected = getattr(gencv_fast, name)(*inputs, *(scalars or DEFAULTS[name]), backend="reference")
    expected = expected if isinstance(expected, tuple) else (expected,)
    for have, want in zip(actual, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(have), want, rtol=1e-6, atol=0)
    return expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_reference_at_every_size(name: str, dtype: torch.dtype) -> None:
    for count in SIZES:
        expect_reference(name, make_inputs(name, count, dtype), dtype=dtype)


@pytest.mark.parametrize("name", SHAPES)
def test_ties_and_overlaps_equal_to_the_threshold(name: str) -> None:
    # An overlap of 3 / 10 in fp32 is greater than 0.3, but not greater than 0.3 in fp32.
    for seed in range(10):
        boxes, scores, *rest = make_inputs(name, 60, seed=seed)
        boxes, scores = boxes.round().div(4, rounding_mode="floor"), scores.mul(8).round().div(8)
        expect_reference(name, (boxes, scores, *rest))


def odd_boxes() -> Tensor:
    nan, inf = math.nan, math.inf
    return torch.tensor(
        [
            [0.0, 0, 10, 10],
            [10, 10, 0, 0],  # reversed: an area of 100, but no overlap
            [10, 0, 0, 10],
            [0, 0, 10, 9],
            [nan, 0, 10, 10],
            [0, 0, nan, 10],
            [nan, nan, nan, nan],
            [5, 5, 5, 5],
            [0, 0, 10, 0],
            [0, 0, inf, 10],
            [-inf, -inf, inf, inf],
            [inf, inf, inf, inf],
            [0, 0, 1e30, 1e30],
            [-10, -10, 5, 5],
            [0, 0, 10, 10],
        ]
    )


@pytest.mark.parametrize("name", SHAPES)
def test_odd_boxes(name: str) -> None:
    boxes = odd_boxes()
    for seed in range(5):
        _, scores, *rest = make_inputs(name, len(boxes), seed=seed)
        expect_reference(name, (boxes.expand(2, -1, -1) if scores.dim() == 3 else boxes, scores, *rest))


@pytest.mark.parametrize("name", SHAPES)
def test_odd_scores(name: str) -> None:
    odd = [math.nan, -math.inf, 0.0, -0.0, -1.0, 1e-40, math.nan, 3e38, -3e38, 0.2, 0.5, 0.5]
    if name in ("soft_nms", "multiclass_nms"):
        odd += [math.inf, math.inf]  # in nms and batched_nms they would rank with NaN
    boxes, _, *rest = make_inputs(name, len(odd))
    for shift in range(len(odd)):
        scores = torch.tensor(odd).roll(shift)
        expect_reference(name, (boxes, scores.expand(2, 3, -1) if boxes.dim() == 3 else scores, *rest))


@pytest.mark.parametrize(
    ("name", "iou_threshold"), [("nms", 0), ("nms", 1.5), ("batched_nms", 1), ("multiclass_nms", 1.5)]
)
def test_iou_threshold_at_the_ends(name: str, iou_threshold: float) -> None:
    expect_reference(name, make_inputs(name, 50), (iou_threshold, *DEFAULTS[name][1:]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_any_class_ids(dtype: torch.dtype) -> None:
    limits = torch.iinfo(dtype)
    boxes, scores, _ = make_inputs("batched_nms", 300)
    few = torch.tensor([limits.min, limits.max, limits.max - 1, 0, 7])
    each = torch.arange(300)
    for idxs in (few[each % 5], each, torch.zeros(300), each.clamp(min=150)):
        expect_reference("batched_nms", (boxes, scores, idxs.to(dtype)))


@pytest.mark.parametrize("scalars", [(0.3, 0.5, 0.05, "gaussian"), (-0.5, 0.5, -0.3, "linear")], ids=str)
def test_soft_nms_methods(scalars: tuple[Any, ...]) -> None:
    for count in SIZES:
        boxes, scores = make_inputs("soft_nms", count)
        # Negative scores rise as they decay, here above the threshold.
        expect_reference("soft_nms", (boxes, scores - 0.4 if scalars[2] < 0 else scores), scalars)


@pytest.mark.parametrize(("images", "count"), [(0, 5), (1, 0), (1, 7), (3, 40)])
def test_multiclass_nms_of_any_batch(images: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, scores = make_boxes(count, generator, images), torch.rand(images, 3, count, generator=generator)
    expect_reference("multiclass_nms", (boxes, scores))
    _, _, counts = expect_reference("multiclass_nms", (boxes, scores * 0.1))
    assert not counts.any()


@pytest.mark.parametrize("limits", [(0.7, 0, 5), (0.7, 2, 5), (0.7, 50, 0), (-math.inf, 1000, 1000)], ids=str)
def test_multiclass_nms_limits(limits: tuple[float, int, int]) -> None:
    expect_reference("multiclass_nms", make_inputs("multiclass_nms", 50), (0.5, *limits))


def test_multiclass_nms_without_classes() -> None:
    program = export(
        Call(gencv_fast.multiclass_nms, (0.5, 0.1, 5, 4)),
        (make_inputs("multiclass_nms", 50)[0], torch.zeros(2, 0, 50)),
        SHAPES["multiclass_nms"],
    )
    indices, scores, counts = run(program, (torch.zeros(3, 6, 4), torch.zeros(3, 0, 6)))
    assert (indices == -1).all()
    assert indices.shape == (3, 4, 2)
    assert not scores.any()
    assert not counts.any()


def test_number_of_boxes_known_only_at_run_time() -> None:
    def confident(boxes: Tensor, scores: Tensor) -> Tensor:
        chosen = scores > 0.5
        kept = gencv_fast.nms(boxes[chosen], scores[chosen], 0.4)
        return boxes[chosen][kept] * 2

    program = export(Call(confident, ()), make_inputs("nms", 50), SHAPES["nms"])
    boxes, scores = make_inputs("nms", 200)
    for factor in (1, 0):
        (have,) = run(program, (boxes, scores * factor))
        torch.testing.assert_close(torch.from_numpy(have), confident(boxes, scores * factor))


@pytest.mark.parametrize("name", SHAPES)
def test_only_standard_operators_of_opset_20(name: str) -> None:
    program = exported(name)
    model = program.model
    onnx.checker.check_model(program.model_proto, full_check=True)
    assert not model.functions
    assert dict(model.graph.opset_imports) == {"": 20}
    assert {node.domain for node in model.graph.all_nodes()} == {""}


def test_triton_rivals_have_the_same_lowering() -> None:
    table = translation_table()
    for op in (op for op in OPS.values() if op.onnx is not None):
        assert callable(table[op.overload])
        if op.triton is not None:
            assert table[op.triton_overload] is table[op.overload]


def lower(name: str, dtype: ir.DataType, *scalars: float) -> None:
    """Calls the lowering as the exporter does, far enough for a refusal."""
    boxes, scores = (ir.Value(name=n, type=ir.TensorType(dtype)) for n in ("boxes", "scores"))
    idxs = (ir.Value(name="idxs", type=ir.TensorType(ir.DataType.INT64)),) if name == "batched_nms" else ()
    translation_table()[OPS[name].overload](boxes, scores, *idxs, *scalars)


@pytest.mark.parametrize("name", SHAPES)
def test_bfloat16_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{name}: boxes of bfloat16 .* float16 first"):
        lower(name, ir.DataType.BFLOAT16, *DEFAULTS[name])


@pytest.mark.parametrize("name", ["nms", "batched_nms", "multiclass_nms"])
def test_negative_iou_threshold_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{name}: iou_threshold must not be negative .* got -0.25"):
        lower(name, ir.DataType.FLOAT, -0.25, *DEFAULTS[name][1:])


def test_refusal_is_the_cause_of_the_exporters_error() -> None:
    with pytest.raises(RuntimeError) as caught:
        exported("nms", scalars=(-0.25,))
    error: BaseException = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert str(error).startswith("nms: iou_threshold must not be negative")
