"""What is special to yolo: the formulas of each version, written as their papers have them; torchvision suppresses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gencv_fast
import gencv_fast.nn
from gencv_fast._dispatch import OPS
from gencv_fast.ops.yolo import samples
from gencv_fast.ops.yolo.checks import VERSIONS
from tests.harness.backends import Runner
from tests.harness.compare import assert_same_bits
from tests.harness.parameters import every_isa, ops_and_kernels

DECODE, DETECT = OPS["yolo_decode"], OPS["yolo_detect"]


def cell_box(values: Tensor, case: samples.Maps, level: int, anchor: int, y: int, x: int) -> tuple[list[float], Tensor]:
    """One box's corners and scores from the channels of its cell, by torch's own sigmoid, exp and softmax."""
    stride, version = case.strides[level], case.version
    height, width = case.preds[level].shape[2:]
    if version == "v8":
        bins, classes = values[: 4 * case.reg_max].view(4, -1), values[4 * case.reg_max :]
        left, top, right, bottom = (bins.softmax(1) @ torch.arange(case.reg_max, dtype=values.dtype)).tolist()
        box = [x + 0.5 - left, y + 0.5 - top, x + 0.5 + right, y + 0.5 + bottom]
        return [side * stride for side in box], classes.sigmoid()
    if version == "v1":
        own, classes = values[5 * anchor : 5 * anchor + 5], values[5 * case.boxes_per_cell :]
        cx, cy = (float(own[0]) + x) * stride, (float(own[1]) + y) * stride
        w, h = float(own[2]) ** 2 * width * stride, float(own[3]) ** 2 * height * stride
        scores = own[4] * classes
    else:
        own = values.unflatten(0, (len(case.anchors) // (2 * len(case.preds)), -1))[anchor]
        number = 2 * (level * (len(case.anchors) // (2 * len(case.preds))) + anchor)
        anchor_w, anchor_h = case.anchors[number : number + 2]
        s = own[:4].sigmoid().tolist()
        if version == "v5":
            cx, cy = (2 * s[0] - 0.5 + x) * stride, (2 * s[1] - 0.5 + y) * stride
            w, h = (2 * s[2]) ** 2 * anchor_w, (2 * s[3]) ** 2 * anchor_h
        else:
            cx, cy = (s[0] + x) * stride, (s[1] + y) * stride
            w, h = math.exp(own[2]) * anchor_w, math.exp(own[3]) * anchor_h
        scores = own[4].sigmoid() * (own[5:].softmax(0) if version == "v2" else own[5:].sigmoid())
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], scores


def cell_by_cell(case: samples.Maps) -> tuple[Tensor, Tensor]:
    anchors = (
        case.boxes_per_cell
        if case.version == "v1"
        else len(case.anchors or [0, 0] * len(case.preds)) // (2 * len(case.preds))
    )
    boxes, scores = [], []
    for image in range(len(case.preds[0])):
        for level, pred in enumerate(case.preds):
            for anchor in range(anchors):
                for y in range(pred.shape[2]):
                    for x in range(pred.shape[3]):
                        box, score = cell_box(pred[image, :, y, x], case, level, anchor, y, x)
                        boxes.append(torch.tensor(box, dtype=pred.dtype))
                        scores.append(score)
    batch = len(case.preds[0])
    return torch.stack(boxes).view(batch, -1, 4), torch.stack(scores).view(batch, len(boxes) // batch, -1)


@st.composite
def networks(draw: st.DrawFn) -> samples.Maps:
    side = st.integers(1, 5)
    sizes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=3))
    version = draw(st.sampled_from(VERSIONS))
    return samples.maps(version, sizes, draw(st.integers(1, 2)), draw(st.integers(1, 5)), draw(st.integers(1, 3)))


def kernels_of(name: str) -> Any:
    return ops_and_kernels(lambda op: op.name == name, lambda r: r.backend == "cpu" or r.order == "forward")


@kernels_of("yolo_decode")
@given(case=networks())
@settings(max_examples=25, deadline=None)
def test_formulas(op: Any, runner: Runner, case: samples.Maps) -> None:
    boxes, scores = runner(DECODE, *case.decode())
    expected_boxes, expected_scores = cell_by_cell(case)
    torch.testing.assert_close(boxes, expected_boxes)
    torch.testing.assert_close(scores, expected_scores)


def plain_detections(case: samples.Maps, limits: tuple[Any, ...]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Decode, filter and suppress in plain PyTorch with torchvision's operators."""
    threshold, iou, most, agnostic, multi_label, most_candidates = limits
    found = []
    for boxes, scores in zip(*cell_by_cell(case), strict=True):
        if multi_label:
            label, box = torch.where(scores.t() > threshold)
        else:
            best, label = scores.max(1)
            box = torch.where(best > threshold)[0]
            label = label[box]
        score = scores[box, label]
        order = score.sort(descending=True, stable=True).indices[:most_candidates]
        box, label, score = boxes[box[order]], label[order], score[order]
        groups = torch.zeros_like(label) if agnostic else label
        keep = torchvision.ops.batched_nms(box, score, groups, iou)[:most]
        found.append((box[keep], score[keep], label[keep]))
    return found


@kernels_of("yolo_detect")
@given(
    case=networks(),
    threshold=st.sampled_from((0.01, 0.2, 0.5)),
    iou=st.sampled_from((0.3, 0.6, 0.9)),
    most=st.sampled_from((1, 5, 100)),
    agnostic=st.booleans(),
    multi_label=st.booleans(),
    most_candidates=st.sampled_from((4, 30, 1000)),
)
@settings(max_examples=40, deadline=None)
def test_torchvision_suppresses(op: Any, runner: Runner, case: samples.Maps, **limits: Any) -> None:
    chosen = tuple(limits[k] for k in ("threshold", "iou", "most", "agnostic", "multi_label", "most_candidates"))
    boxes, scores, labels, counts = runner(DETECT, *case.detect(*chosen))
    expected = plain_detections(case, chosen)
    assert counts.tolist() == [len(b) for b, _, _ in expected]
    for i, (their_boxes, their_scores, their_labels) in enumerate(expected):
        count = len(their_boxes)
        torch.testing.assert_close(boxes[i, :count], their_boxes)
        torch.testing.assert_close(scores[i, :count], their_scores)
        assert labels[i, :count].tolist() == their_labels.tolist()
        assert not boxes[i, count:].any()
        assert not scores[i, count:].any()
        assert (labels[i, count:] == -1).all()


def crowd(version: str) -> samples.Maps:
    """Boxes that all overlap, so that each of 200 classes keeps one; the last class's scores exceed 65% of all."""
    box = {"v8": 4 * [*(15 * [0.0]), 20.0], "v5": [0.0, 0.0, 0.0, 0.0, 20.0], "v1": [0.5, 0.5, 8.0, 8.0, 1.0]}[version]
    preds = []
    for side in (12, 6):
        classes = torch.randn(1, 200, side, side, generator=torch.Generator().manual_seed(side))
        classes[:, -1] = 0.385
        preds.append(torch.cat((torch.tensor(box).view(1, -1, 1, 1).expand(1, -1, side, side), classes), 1))
    return samples.Maps(preds, [4000.0] * 4 if version == "v5" else None, [8, 16], version, 1)


@every_isa
@pytest.mark.parametrize(("most_candidates", "found"), [(30000, 200), (15000, 200), (10000, 199)])
@pytest.mark.parametrize("version", ["v8", "v5", "v1"])
def test_high_scores_do_not_suffice(isa: Runner, version: str, most_candidates: int, found: int) -> None:
    """Candidates of low scores have their turn too, as far as the limit allows: the last class's are about the
    12,600th of 36,000, and the 8,000 best are looked at first."""
    args = crowd(version).detect(0.01, 0.01, 250, False, True, most_candidates)
    result = isa(DETECT, *args)
    assert_same_bits(result, DETECT.run_reference(*args))
    assert result[3].tolist() == [found]


@every_isa
@pytest.mark.parametrize(("version", "threshold"), [("v8", 0.9), ("v5", 0.9), ("v1", 2.2)])
def test_fewer_than_expected_exceed_the_threshold(isa: Runner, version: str, threshold: float) -> None:
    args = crowd(version).detect(threshold, 0.01, 250, False, True, 30000)
    assert_same_bits(isa(DETECT, *args), DETECT.run_reference(*args))


@every_isa
def test_threshold_is_that_of_the_score(isa: Runner) -> None:
    """The prefilter by the outputs never decides: scores at, just above and just below the threshold."""
    outputs = torch.linspace(-12, 18, 4001)
    pred = torch.cat((torch.zeros(1, 4, 1, 4001), outputs.view(1, 1, 1, -1)), 1)
    scores = gencv_fast.yolo_decode([pred], None, [8], "v8", reg_max=1)[1].flatten()
    for place in (0, 1, 703, 2000, 2431, 3999):  # two of them the last of a block of 64
        for threshold in (float(scores[place]), math.nextafter(float(scores[place]), 0), 1 - 1e-7):
            counts = isa(DETECT, [pred], None, [8], "v8", threshold, 1.0, 5000, False, False, 5000, None, 2, 1)[3]
            assert int(counts) == int((scores.double() > threshold).sum())


@pytest.mark.parametrize("version", VERSIONS)
def test_half_types_are_computed_in_fp32(version: str) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        case = samples.maps(version).changed(lambda p, dtype=dtype: p.to(dtype))
        wide = case.changed(Tensor.float)
        boxes, scores = DECODE(*wide.decode())
        assert_same_bits(DECODE(*case.decode()), (boxes.to(dtype), scores.to(dtype)))
        boxes, scores, *rest = DETECT(*wide.detect())
        assert_same_bits(DETECT(*case.detect()), (boxes.to(dtype), scores.to(dtype), *rest))


def test_letterbox() -> None:
    """Scale, then padding; clipped to the original image; decisions fall before."""
    maps = torch.full((1, 6, 2, 3), -9.0)
    maps[0, :4] = torch.tensor([0.0]).view(1, 1, 1)
    maps[0, 4, 1, 2] = 3.0
    args = ([maps], None, [10])
    rest = {"reg_max": 1, "max_detections": 1}
    plain = gencv_fast.yolo_detect(*args, **rest)[0]
    assert plain[0, 0].tolist() == [25, 15, 25, 15]
    box = torch.tensor([[0.5, 5.0, 3.0, 20.0, 100.0]])
    assert gencv_fast.yolo_detect(*args, letterbox=box, **rest)[0][0, 0].tolist() == [40, 20, 40, 20]


@pytest.mark.parametrize("anchors", [[[(8, 8)], [(8, 8), (9, 9)]], [[8, 8], [9, 9]], 8, [[(8,)], [(9,)]]])
def test_anchors_that_are_no_pairs(anchors: Any) -> None:
    maps = [torch.zeros(1, 6, 2, 2)] * 2
    for call in (gencv_fast.yolo_decode, gencv_fast.yolo_detect):
        with pytest.raises(RuntimeError, match=f"{call.__name__}: anchors must be pairs"):
            call(maps, anchors, [8, 16], "v5")


@pytest.mark.parametrize("backend", [None, "cpu", "reference"])
@pytest.mark.parametrize("call", [gencv_fast.yolo_decode, gencv_fast.yolo_detect])
def test_no_levels(call: Any, backend: str | None) -> None:
    """Not even a device to run on."""
    with pytest.raises(RuntimeError, match=rf"^{call.__name__}: preds must be 1 to 8 tensors, got 0\.$"):
        call([], None, [], backend=backend)


def test_anchors_as_a_tensor() -> None:
    case = samples.maps("v5")
    nested = torch.tensor(case.anchors).view(2, 2, 2)
    assert_same_bits(gencv_fast.yolo_decode(case.preds, nested, case.strides, "v5"), DECODE(*case.decode()))


def test_module() -> None:
    case = samples.maps("v5").changed(Tensor.float)
    nested = torch.tensor(case.anchors).view(2, 2, 2).tolist()
    module = gencv_fast.nn.YOLODetect(case.strides, nested, "v5", score_threshold=0.3, max_detections=6)
    assert_same_bits(
        module(case.preds),
        gencv_fast.yolo_detect(case.preds, nested, case.strides, "v5", score_threshold=0.3, max_detections=6),
    )
    assert "v5" in repr(module)
