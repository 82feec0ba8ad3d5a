"""What `verify` accepts and refuses: sizes, inputs, and detections that differ or nearly tie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gencv_fast.onnx import export, verify
from gencv_fast.onnx._verify import Tolerance, _Errors, one_to_one
from tests.test_onnx_export import Difference, small_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def dynamic_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return export(small_model(), torch.rand(1, 3, 20, 30), path, dynamic=True).path


def refusal(path: Path, inputs: list[Any], model: nn.Module | None = None) -> str:
    with pytest.raises(RuntimeError, match=r"^verify: ") as caught:
        verify(path, model or small_model(), inputs)
    return str(caught.value)


def test_dynamic_sizes_must_be_shown_at_other_sizes(dynamic_file: Path) -> None:
    assert "'height' of other sizes than 20" in refusal(dynamic_file, [torch.rand(1, 3, 20, 30)] * 2)
    assert "'width' of other sizes than 30" in refusal(dynamic_file, [torch.rand(1, 3, 40, 30)])
    verify(dynamic_file, small_model(), [torch.rand(1, 3, 20, 31), torch.rand(1, 3, 21, 30)])


def test_a_file_that_does_not_say_what_was_traced_needs_two_sizes(dynamic_file: Path, tmp_path: Path) -> None:
    plain = onnx.load(dynamic_file)
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "plain.onnx")
    assert "other sizes than 40" in refusal(tmp_path / "plain.onnx", [torch.rand(1, 3, 40, 50)])
    verify(tmp_path / "plain.onnx", small_model(), [torch.rand(1, 3, 40, 50), torch.rand(1, 3, 30, 20)])


def test_a_dynamic_size_needs_no_name(dynamic_file: Path, tmp_path: Path) -> None:
    unnamed = onnx.load(dynamic_file)
    unnamed.graph.input[0].type.tensor_type.shape.dim[2].Clear()
    path = tmp_path / "unnamed.onnx"
    onnx.save(unnamed, path)
    verify(path, small_model(), [torch.rand(1, 3, 40, 50)])
    assert "dimension 2 of input 0 of other sizes than 20" in refusal(path, [torch.rand(1, 3, 20, 50)])
    assert "must be [1, 3, ?, width], as the file asks" in refusal(path, [torch.rand(2, 3, 40, 50)])


def test_inputs_must_fit_the_file(dynamic_file: Path) -> None:
    image = torch.rand(1, 3, 40, 50)
    assert "at least one run" in refusal(dynamic_file, [])
    assert "inputs[1] must hold 1 tensors, as the file does, got 2" in refusal(dynamic_file, [image, (image, image)])
    assert "[1, 3, height, width], as the file asks, got [2, 3, 40, 50]" in refusal(
        dynamic_file, [image.repeat(2, 1, 1, 1)]
    )


def test_a_dict_is_fed_by_its_keys(tmp_path: Path) -> None:
    parts = {"b": torch.rand(3), "a": torch.rand(5, 3)}
    path = export(Difference(), parts, tmp_path / "model.onnx").path
    verify(path, Difference(), [parts, {"a": torch.rand(5, 3), "b": torch.rand(3)}])


def test_another_model_is_not_equal(dynamic_file: Path) -> None:
    other = small_model()
    other[3].weight.data[0, 0] += 1e-2
    assert "values of output differ from PyTorch's" in refusal(dynamic_file, [torch.rand(1, 3, 40, 50)], other)
    shape = nn.Sequential(small_model(), nn.Flatten())
    assert "output must be" in refusal(dynamic_file, [torch.rand(1, 3, 40, 50)], shape)


def detections(*rows: tuple[float, float, int], shift: float = 0.0) -> dict[str, Tensor]:
    """Rows of left edge, score and label."""
    left, scores, labels = (torch.tensor(column) for column in zip(*rows, strict=True))
    boxes = torch.stack((left + shift, left, left + 10, left + 10), 1)
    return {"boxes": boxes, "scores": scores, "labels": labels}


def compare(have: dict[str, Tensor], want: dict[str, Tensor]) -> _Errors:
    errors = _Errors(Tolerance(box=0.05, score=1e-4, rtol=1e-3, atol=1e-4), "for a test")
    errors.compare([have], [want], "output")
    return errors


WANT = ((0.0, 0.9, 1), (50.0, 0.80005, 2), (20.0, 0.8, 1), (70.0, 0.3, 3))


def test_near_ties_may_swap() -> None:
    errors = compare(detections(WANT[0], WANT[2], WANT[1], WANT[3], shift=0.03), detections(*WANT))
    assert errors.detections == 4
    assert errors.box == pytest.approx(0.03, abs=1e-4)


@pytest.mark.parametrize(
    ("have", "reason"),
    [
        (detections(*WANT[:3]), r"output\[0\] must hold 4 detections, as in PyTorch, got 3"),
        (detections(*WANT, shift=0.06), "4 of 4 detections .* no partner"),
        (detections((0.0, 0.9002, 1), *WANT[1:]), "1 of 4 detections .* no partner"),
        (detections((0.0, 0.9, 2), *WANT[1:]), "1 of 4 detections .* no partner"),
        (detections(WANT[0], WANT[0], *WANT[2:]), "1 of 4 detections .* no partner"),
        (detections(*WANT[:2], WANT[3], WANT[2]), "another order"),
    ],
)
def test_detections_that_differ(have: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(RuntimeError, match=f"^verify: .*{reason}.* for a test"):
        compare(have, detections(*WANT))


@pytest.mark.parametrize(
    ("have", "tie"),
    [
        (detections((0.0, 0.9, 1), (30.0, 0.80003, 2), (20.0, 0.8, 1), (70.0, 0.3, 3)), True),
        (detections(*WANT[:2], WANT[3]), True),
        (detections(*WANT[:3]), False),
        (detections(*WANT[:3], (75.0, 0.3, 3)), False),
        (detections(*WANT[:3], (10.0, 0.30004, 3)), True),  # another object has just got below the limit
        (detections(*WANT[:3], (70.0, 0.30004, 1)), True),
        (detections(*WANT[:3], (10.0, 0.3002, 3)), False),
        (detections((40.0, 0.9, 1), *WANT[1:]), False),  # far from the limit
    ],
)
def test_scores_that_nearly_tie_are_named(have: dict[str, Tensor], tie: bool) -> None:
    with pytest.raises(RuntimeError, match=r"^verify: ") as caught:
        compare(have, detections(*WANT))
    assert ("nearly tie" in str(caught.value)) == tie


def test_other_entries_follow_their_detections() -> None:
    want, have = detections(*WANT), detections(WANT[0], WANT[2], WANT[1], WANT[3])
    want["masks"], have["masks"] = torch.arange(4.0), torch.tensor([0.0, 2, 1, 3])
    compare(have, want)
    have["masks"] = torch.arange(4.0)
    with pytest.raises(RuntimeError, match="'masks'"):
        compare(have, want)


def test_masks_count_where_rounding_moved_no_corner() -> None:
    """Grown by 30 / 28 about its middle, the third box begins just before a whole pixel, or just after it."""
    want, have = (detections(*WANT[:2], (left, 0.8, 1), WANT[3]) for left in (20.3570, 20.3573))
    want["masks"], have["masks"] = torch.zeros(4, 1, 6, 5), torch.zeros(4, 1, 6, 5)
    have["masks"][2] = 0.2
    assert compare(have, want).moved_masks == 1
    have["masks"][1] = 0.2
    with pytest.raises(RuntimeError, match="'masks'"):
        compare(have, want)


def test_no_pair_is_given_away() -> None:
    alike = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 1]], dtype=torch.bool)
    assert one_to_one(alike) == [1, 0, 2]
    assert one_to_one(alike[:, :2]).count(None) == 1
    assert one_to_one(torch.zeros(0, 0, dtype=torch.bool)) == []


def test_many_alike_are_paired() -> None:
    assert sorted(one_to_one(torch.ones(1500, 1500, dtype=torch.bool))) == list(range(1500))
    # Row i may have columns i and i + 1, the last row the first column only: all others must move on.
    chain = torch.eye(1500, dtype=torch.bool) | torch.eye(1500, dtype=torch.bool).roll(1, 1)
    chain[-1, -1] = False
    assert one_to_one(chain) == [*range(1, 1500), 0]
