"""Exported operators in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

from gencv_fast._dispatch import Op
from gencv_fast._samples import Sample
from gencv_fast.onnx import translation_table

from .compare import assert_as_accurate, assert_same_bits
from .samples import expected, failing, samples, tensors_of, tolerances
from .transforms import Call, all_dynamic, has_no_small_size, ranks, rest_of


def exported(op: Op, sample: Sample, path: Path) -> onnxruntime.InferenceSession:
    """A session of a model whose every size is free and that has the sample's other arguments."""
    tensors = tensors_of(sample.args)
    torch.onnx.export(
        Call(op, sample.args).eval(),
        tensors,
        path,
        dynamo=True,
        custom_translation_table=translation_table(),
        dynamic_shapes=all_dynamic(tensors),
        verbose=False,
    )
    model = onnx.load(path)
    assert not model.functions, "not inlined"
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}, "not standard ONNX"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def _groups(op: Op, dtype: torch.dtype) -> list[list[Sample]]:
    """Samples that one model can serve, those of usual sizes first."""
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in sorted(samples(op.name, dtype), key=lambda s: not has_no_small_size(s)):
        if sample.exportable:
            dtypes = tuple(t.dtype for t in tensors_of(sample.args))
            groups.setdefault((dtypes, *ranks(sample.args), str(rest_of(sample.args))), []).append(sample)
    return [group for group in groups.values() if has_no_small_size(group[0])]


def check_onnx(op: Op, folder: Path, dtype: torch.dtype, models: int) -> None:
    """Indices equal the reference's, floating-point results lie as close as the room states."""
    floor = tolerances(op).floor[dtype]
    groups = _groups(op, dtype)
    assert groups or dtype == torch.float64
    for number, group in enumerate(groups[:models]):
        session = exported(op, group[0], folder / f"{op.name}_{number}.onnx")

        def check(sample: Sample, session: onnxruntime.InferenceSession = session) -> None:
            inputs = zip(session.get_inputs(), tensors_of(sample.args), strict=True)
            results = map(torch.from_numpy, session.run(None, {i.name: t.numpy() for i, t in inputs}))
            for result, reference in zip(results, expected(op.name, dtype)[sample.name], strict=True):
                if reference.is_floating_point():
                    assert_as_accurate([result], [reference], [reference.double()], floor)
                else:
                    assert_same_bits([result], [reference])

        failed = failing((sample.name, lambda s=sample: check(s)) for sample in group)
        assert not failed, "\n".join(failed)
