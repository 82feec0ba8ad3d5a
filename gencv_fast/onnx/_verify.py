"""`verify`: an ONNX file in onnxruntime against the PyTorch model that it came from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..ops.roi.masks.reference import grown_boxes
from ._export import TRACED_INPUTS, as_args, evaluating, tensors_of
from ._translation import require_installed


@dataclass(frozen=True)
class Tolerance:
    """How far results may lie apart: boxes in pixels, scores, and other tensors as in torch.testing.assert_close."""

    box: float
    score: float
    rtol: float
    atol: float


@dataclass(frozen=True)
class Comparison:
    """One input's results, found equal within the tolerances.

    Attributes:
        shapes: of the input's tensors.
        detections: how many there are; None where the model is no detector.
        box_error: greatest difference of a box coordinate in pixels.
        score_error: greatest difference of a score.
        error: greatest difference in any other floating-point tensor.
        moved_masks: masks that were not compared, since a corner of their box lies so near a whole pixel that
            rounding put it on the next one, and the mask with it.
    """

    shapes: tuple[tuple[int, ...], ...]
    detections: int | None = None
    box_error: float = 0.0
    score_error: float = 0.0
    error: float = 0.0
    moved_masks: int = 0


@dataclass(frozen=True)
class Verification:
    """What `verify` compared: a `Comparison` per input."""

    path: Path
    comparisons: tuple[Comparison, ...]

    @property
    def detections(self) -> int | None:
        """Of all inputs together; None where the model is no detector."""
        counts = [c.detections for c in self.comparisons if c.detections is not None]
        return sum(counts) if counts else None


def verify(
    path: str | os.PathLike[str],
    model: nn.Module,
    inputs: Sequence[Any],
    *,
    box_tolerance: float = 0.05,
    score_tolerance: float = 1e-4,
    rtol: float = 1e-3,
    atol: float = 1e-4,
) -> Verification:
    """Run an ONNX file in onnxruntime and its PyTorch model on the same inputs, and demand equal results.

    Detections, that is dicts with ``boxes``, ``scores`` and ``labels``, are paired one to one: equal labels, boxes
    and scores within the tolerances, in the same order but for scores closer than ``score_tolerance``. Other
    entries of such a dict are compared by pairs; masks only where both boxes of the pair have their corners in the
    same pixels. Other results must have equal shapes and dtypes, and be equal within ``rtol`` and ``atol``, or
    exactly if they are integers.

    Args:
        path: of a file that `export` wrote; any other ONNX file with the model's inputs and outputs will do.
        model: as it was exported. It runs in eval mode and gets its mode back.
        inputs: the arguments of each run, as `export` takes them. A model with dynamic sizes needs sizes other than
            the exported example's among them, since a size that was fixed by mistake shows in no other way.
        box_tolerance: in pixels.
        score_tolerance, rtol, atol: without unit.

    Returns:
        The greatest differences and the number of detections, for each input.

    Raises:
        RuntimeError: the results differ; the inputs do not fit the file, or say nothing about its dynamic sizes;
            onnxruntime is not installed.

    Example:
        >>> report = gencv_fast.onnx.verify("model.onnx", model, [[image], [larger_image]])  # doctest: +SKIP
        >>> report.detections, [c.box_error for c in report.comparisons]  # doctest: +SKIP
    """
    require_installed("verify", "onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    calls = [as_args(args) for args in inputs]
    _check_inputs(session, calls)
    tolerance = Tolerance(box_tolerance, score_tolerance, rtol, atol)
    with evaluating(model), torch.no_grad():
        return Verification(Path(path), tuple(_compared(session, model, args, tolerance) for args in calls))


def run_session(session: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """The outputs of an onnxruntime session for a model's arguments."""
    tensors = _in_the_files_order(session, args)
    feeds = {value.name: t.detach().cpu().numpy() for value, t in zip(session.get_inputs(), tensors, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, feeds)]


def _in_the_files_order(session: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """The tensors as they were traced, whatever the order of a dict's keys; as they come where the file is silent."""
    tensors, traced = tensors_of(args), _traced_inputs(session)
    return [tensors[place] for place in (traced if traced.keys() == tensors.keys() else tensors)]


def _traced_inputs(session: Any) -> dict[str, list[int]]:
    """Place and shape of each input when the file was exported; empty where the file does not say it."""
    traced: dict[str, list[int]] = json.loads(session.get_modelmeta().custom_metadata_map.get(TRACED_INPUTS, "{}"))
    return traced


def _check_inputs(session: Any, calls: Sequence[tuple[Any, ...]]) -> None:
    if not calls:
        raise RuntimeError("verify: inputs must hold the arguments of at least one run, got none.")
    wanted = [tuple(value.shape) for value in session.get_inputs()]
    shapes = [[tuple(tensor.shape) for tensor in _in_the_files_order(session, args)] for args in calls]
    for number, got in enumerate(shapes):
        _check_shapes(f"inputs[{number}]", wanted, got)
    _check_other_sizes(wanted, shapes, list(_traced_inputs(session).values()))


def _check_shapes(
    argument: str, wanted: Sequence[tuple[int | str | None, ...]], got: Sequence[tuple[int, ...]]
) -> None:
    if len(got) != len(wanted):
        raise RuntimeError(f"verify: {argument} must hold {len(wanted)} tensors, as the file does, got {len(got)}.")
    for want, have in zip(wanted, got, strict=True):
        fits = len(want) == len(have) and all(_is_dynamic(w) or w == h for w, h in zip(want, have, strict=True))
        if not fits:
            raise RuntimeError(f"verify: {argument} must be {_text(want)}, as the file asks, got {_text(have)}.")


def _check_other_sizes(
    wanted: Sequence[tuple[Any, ...]], shapes: Sequence[Sequence[tuple[int, ...]]], traced: Sequence[Sequence[int]]
) -> None:
    """Each dynamic size must differ from the traced one in some run; or between runs, if the file does not say it."""
    first = traced or shapes[0]
    for i, shape in enumerate(wanted):
        for dim, name in enumerate(shape):
            if _is_dynamic(name) and all(s[i][dim] == first[i][dim] for s in shapes):
                raise RuntimeError(
                    f"verify: inputs must have {_size_text(name, i, dim)} of other sizes than {first[i][dim]}, which "
                    "was traced, to show that it is dynamic; got no other."
                )


def _is_dynamic(size: int | str | None) -> bool:
    """A dynamic size has a name, or none where the file gives it none."""
    return not isinstance(size, int)


def _size_text(name: str | None, tensor: int, dim: int) -> str:
    return repr(name) if name else f"dimension {dim} of input {tensor}"


def _text(shape: Sequence[Any]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _compared(session: Any, model: nn.Module, args: tuple[Any, ...], tolerance: Tolerance) -> Comparison:
    shapes = tuple(tuple(tensor.shape) for tensor in tensors_of(args).values())
    where = f"for an input of {', '.join(map(_text, shapes))}"
    have = run_session(session, args)
    leaves, spec = pytree.tree_flatten(model(*args))
    if len(leaves) != len(have):
        raise RuntimeError(f"verify: the file must have the model's {len(leaves)} outputs, got {len(have)}.")
    errors = _Errors(tolerance, where)
    errors.compare(pytree.tree_unflatten(have, spec), pytree.tree_unflatten(leaves, spec), "output")
    return Comparison(shapes, errors.detections, errors.box, errors.score, errors.other, errors.moved_masks)


def _corners(boxes: Tensor) -> Tensor:
    """The pixels from and to which Mask R-CNN's masks of 28 x 28 cells, and one more on each side, are stretched."""
    return grown_boxes(boxes, columns=28, padding=1).long()


class _Errors:
    """Compares results, raises where they differ, and keeps the greatest differences."""

    def __init__(self, tolerance: Tolerance, where: str) -> None:
        self.tolerance = tolerance
        self.where = where
        self.detections: int | None = None
        self.box = self.score = self.other = 0.0
        self.moved_masks = 0

    def compare(self, have: Any, want: Any, name: str) -> None:
        if isinstance(want, Mapping) and {"boxes", "scores", "labels"} <= want.keys():
            self._compare_detections(have, want, name)
        elif isinstance(want, Mapping):
            for key in want:
                self.compare(have[key], want[key], f"{name}[{key!r}]")
        elif isinstance(want, (list, tuple)):
            for number, part in enumerate(want):
                self.compare(have[number], part, f"{name}[{number}]")
        else:
            self._compare_tensors(have, torch.as_tensor(want).cpu(), name)

    def _compare_tensors(self, have: Tensor, want: Tensor, name: str) -> None:
        if have.shape != want.shape or have.dtype != want.dtype:
            got = f"{_text(have.shape)} of {have.dtype}"
            self._fail(f"{name} must be {_text(want.shape)} of {want.dtype}, as in PyTorch, got {got}")
        if not want.is_floating_point():
            if not torch.equal(have, want):
                self._fail(f"{int((have != want).sum())} of {want.numel()} values of {name} differ from PyTorch's")
            return
        close = torch.isclose(have, want, rtol=self.tolerance.rtol, atol=self.tolerance.atol, equal_nan=True)
        difference = _greatest((have - want)[have != want])
        if not close.all():
            far = int((~close).sum())
            self._fail(f"{far} of {want.numel()} values of {name} differ from PyTorch's, by up to {difference:.3g}")
        self.other = max(self.other, difference)

    def _compare_detections(self, have: Mapping[str, Tensor], want: Mapping[str, Tensor], name: str) -> None:
        want = {key: value.cpu() for key, value in want.items()}
        found, expected = len(have["scores"]), len(want["scores"])
        box_differences = (have["boxes"][:, None] - want["boxes"][None]).abs().amax(2)
        score_differences = (have["scores"][:, None] - want["scores"][None]).abs()
        alike = have["labels"][:, None] == want["labels"][None]
        alike &= (box_differences <= self.tolerance.box) & (score_differences <= self.tolerance.score)
        partner = one_to_one(alike)
        hint = self._tie_hint(partner, have, want)
        if found != expected:
            self._fail(f"{name} must hold {expected} detections, as in PyTorch, got {found}{hint}")
        if unpaired := partner.count(None):
            self._fail(
                f"{unpaired} of {expected} detections of {name} have no partner in PyTorch with the label, the box "
                f"within {self.tolerance.box:g} pixels and the score within {self.tolerance.score:g}{hint}"
            )
        order = torch.tensor(partner, dtype=torch.int64)
        self._check_order(order, want["scores"], name)
        rows = torch.arange(expected)
        self.detections = (self.detections or 0) + expected
        self.box = max(self.box, _greatest(box_differences[rows, order]))
        self.score = max(self.score, _greatest(score_differences[rows, order]))
        still = _corners(have["boxes"]).eq(_corners(want["boxes"][order])).all(1)
        for key in want.keys() - {"boxes", "scores", "labels"}:
            rows = still if key == "masks" else torch.ones_like(still)
            self._compare_tensors(have[key][rows], want[key][order][rows], f"{name}[{key!r}]")
        if "masks" in want:
            self.moved_masks += int((~still).sum())

    def _tie_hint(self, partner: Sequence[int | None], have: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> str:
        """Scores that nearly tie are sorted by their last bits: those decide what is kept, no fault of the file."""
        here = [row for row, column in enumerate(partner) if column is None]
        there = sorted(set(range(len(want["scores"]))).difference(partner))
        if self._near_another(have["scores"], here) or self._near_another(want["scores"], there):
            return _TIE.format("NMS keeps")
        lone_here, lone_there = (_at_the_cut(d, rows, self.tolerance) for d, rows in ((have, here), (want, there)))
        scores_near = (lone_here["scores"][:, None] - lone_there["scores"]).abs() <= self.tolerance.score
        tie = (scores_near & _are_others(lone_here, lone_there)).any() and len(have["scores"]) == len(want["scores"])
        return _TIE.format("is the last that the limit lets pass") if tie else ""

    def _near_another(self, scores: Tensor, rows: Sequence[int]) -> bool:
        near = (scores[list(rows), None] - scores[None]).abs() <= self.tolerance.score
        return bool((near.sum(1) > 1).any())  # each is near itself

    def _check_order(self, order: Tensor, scores: Tensor, name: str) -> None:
        """Detections in another order than PyTorch's must have nearly equal scores."""
        swapped = (order[:, None] > order[None]).triu()
        apart = (scores[order][:, None] - scores[order][None]).abs() > self.tolerance.score
        if (swapped & apart).any():
            self._fail(f"the detections of {name} come in another order than in PyTorch")

    def _fail(self, reason: str) -> None:
        raise RuntimeError(f"verify: {reason}, {self.where}.")


_TIE = " (some of their scores nearly tie, and then rounding decides which {}: try other images)"


def _at_the_cut(found: Mapping[str, Tensor], rows: Sequence[int], tolerance: Tolerance) -> dict[str, Tensor]:
    """Of these rows, those whose score is nearly the lowest: the next one may just have missed the limit."""
    lowest = found["scores"].amin() if rows else 0
    last = [row for row in rows if found["scores"][row] - lowest <= tolerance.score]
    return {key: found[key][last] for key in ("boxes", "scores", "labels")}


def _are_others(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Tensor:
    """Pairs of different objects, rather than one object that has moved."""
    apart = here["boxes"][:, None, :2] >= there["boxes"][:, 2:]
    apart |= here["boxes"][:, None, 2:] <= there["boxes"][:, :2]
    return apart.any(2) | (here["labels"][:, None] != there["labels"])


def one_to_one(alike: Tensor) -> list[int | None]:
    """For each row a column that it is alike, no column twice; None where a row gets none. As many pairs as can be."""
    choices = [row.nonzero().flatten().tolist() for row in alike]
    row_of: dict[int, int] = {}
    for row in range(len(choices)):
        _place(row, choices, row_of)
    column_of = {row: column for column, row in row_of.items()}
    return [column_of.get(row) for row in range(len(choices))]


def _place(start: int, choices: Sequence[Sequence[int]], row_of: dict[int, int]) -> None:
    """Gives a row a column; if all of its own are taken, the rows that have them move on, breadth first."""
    reached_from: dict[int, int] = {}  # column -> the row that would take it
    held: dict[int, int | None] = {start: None}  # row -> the column that it would give up
    for row in (waiting := [start]):
        for column in choices[row]:
            if column in reached_from:
                continue
            reached_from[column] = row
            if column not in row_of:
                _shift(column, reached_from, held, row_of)
                return
            held[row_of[column]] = column
            waiting.append(row_of[column])


def _shift(free: int, reached_from: Mapping[int, int], held: Mapping[int, int | None], row_of: dict[int, int]) -> None:
    column: int | None = free
    while column is not None:
        row = row_of[column] = reached_from[column]
        column = held[row]


def _greatest(differences: Tensor) -> float:
    return float(differences.abs().max()) if differences.numel() else 0.0
