"""`export`: a whole model, torchvision's detectors included, as a file of standard ONNX operators."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ._resize import RESIZED_SIZE, resized_size_to_onnx
from ._translation import require_installed, translation_table
from ._walls import past_walls

# Key of the model's metadata: for each input, in order, where it stood in the example's arguments, and its shape.
TRACED_INPUTS = "gencv_fast.traced_inputs"


@dataclass(frozen=True)
class ExportedModel:
    """What `export` wrote.

    Attributes:
        path: of the file.
        opset: version of the standard operators.
        ops: how often each operator occurs, most frequent first, subgraphs included.
        size: of the file in bytes, weights included.
        inputs: the shape of each input; a name stands for a dynamic size.
        outputs: the names of the outputs.
    """

    path: Path
    opset: int
    ops: Mapping[str, int]
    size: int
    inputs: Mapping[str, tuple[int | str, ...]]
    outputs: tuple[str, ...]


def export(
    model: nn.Module,
    args: Any,
    path: str | os.PathLike[str],
    *,
    dynamic: bool | dict[str, Any] | tuple[Any, ...] = False,
    opset: int = 20,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    custom_translation_table: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
) -> ExportedModel:
    """Write a model as ONNX, with every operator of this package lowered to standard operators.

    :func:`torch.onnx.export` with what torchvision's detectors need besides: while it runs, the functions of
    torchvision that cannot be exported, or are exported wrongly without a word, are replaced by ones that can; see
    docs/onnx_export.md. The replacement is process-wide: run no torchvision model in another thread meanwhile.
    RetinaNet, FCOS, SSDLite, Faster R-CNN and Mask R-CNN are exported at fixed and dynamic image size.

    Args:
        model: any module, or a torchvision detector. It is exported in eval mode and gets its mode back.
        args: tuple of the model's example arguments; anything else is the only argument. A detector's argument is a
            list of images ``[3, H, W]``; the exported model takes as many images as the list has.
        path: of the file to write. Weights above 2 GB go to a second file beside it.
        dynamic: ``True`` makes the height and width of each image dynamic, that is of each floating-point tensor
            ``[C, H, W]`` or ``[N, C, H, W]``, and N too where it is 2 or more in the example and the model allows it;
            a detector has an output for each image, so its N stays.
            A dict or tuple is what torch.onnx.export takes as ``dynamic_shapes``.
        opset: version of the standard operators, 18 or later. ONNX Runtime 1.32 lacks some operators of 22 on the CPU.
        input_names, output_names: as in torch.onnx.export. A detector's outputs are otherwise called after its
            result: ``boxes``, ``scores``, ``labels``, ``masks``, with the image's number appended if there are several.
        custom_translation_table: lowerings of operators that neither torch nor this package knows.

    Returns:
        Path, opset, operators with counts, size in bytes, names and shapes of inputs, names of outputs.

    Raises:
        RuntimeError: a package of ``gencv_fast[onnx]`` is missing; the installed onnx has no such opset; there is no
            image to be made dynamic. Errors of torch.onnx.export come as they are.

    Example:
        >>> model = torchvision.models.detection.retinanet_resnet50_fpn()  # doctest: +SKIP
        >>> exported = gencv_fast.onnx.export(model, [image], "model.onnx", dynamic=True)  # doctest: +SKIP
        >>> gencv_fast.onnx.verify("model.onnx", model, [[image], [larger_image]])  # doctest: +SKIP
    """
    require_installed("export", "onnx", "onnxscript")
    _check_opset(opset)
    args = as_args(args)
    table: dict[Any, Any] = {**translation_table(), RESIZED_SIZE: resized_size_to_onnx}
    with evaluating(model), torch.no_grad(), _settled(model, args), past_walls(), _without_naming_advice():
        program = torch.onnx.export(
            model,
            _without_keywords(args),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=input_names,
            dynamic_shapes=_dynamic_shapes(args, frozen_batch=is_detector(model))
            if dynamic is True
            else dynamic or None,
            custom_translation_table=table | dict(custom_translation_table or {}),
        )
    assert program is not None
    _name_outputs(program, output_names)
    traced = {place: list(tensor.shape) for place, tensor in tensors_of(args).items()}
    program.model.metadata_props[TRACED_INPUTS] = json.dumps(traced)
    program.save(path)
    return _described(program.model, Path(path))


def _check_opset(opset: Any) -> None:
    from onnx.defs import onnx_opset_version

    newest = onnx_opset_version()
    if not (type(opset) is int and 18 <= opset <= newest):
        raise RuntimeError(f"export: opset must be a number from 18 to {newest}, got {opset!r}.")


def as_args(args: Any) -> tuple[Any, ...]:
    """A tuple is the model's arguments, anything else its only argument."""
    return args if isinstance(args, tuple) else (args,)


def tensors_of(args: tuple[Any, ...]) -> dict[str, Tensor]:
    """The tensors among nested arguments by their places, such as ``[0]['image']``."""
    leaves, _ = pytree.tree_flatten_with_path(args)
    return {pytree.keystr(place): leaf for place, leaf in leaves if isinstance(leaf, Tensor)}


def _without_keywords(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """torch.onnx.export takes a dict in the last place for keyword arguments, so an empty one goes behind it."""
    return (*args, {}) if args and isinstance(args[-1], dict) else args


def is_detector(model: nn.Module) -> bool:
    """Whether the model holds the transform of torchvision's detectors, which takes images one by one."""
    transform = sys.modules.get("torchvision.models.detection.transform")
    return transform is not None and any(isinstance(m, transform.GeneralizedRCNNTransform) for m in model.modules())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside a ``with`` block; afterwards every submodule is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _settled(model: nn.Module, args: tuple[Any, ...]) -> Iterator[None]:
    """Runs a model of two stages that never ran: its pooling of regions takes the levels' scales from the first run.

    Traced, that would turn symbolic sizes into numbers. Afterwards they are forgotten again.
    """
    poolers = sys.modules.get("torchvision.ops.poolers")
    new = [m for m in model.modules() if poolers and isinstance(m, poolers.MultiScaleRoIAlign) and m.scales is None]
    if new:
        model(*args)
    try:
        yield
    finally:
        for module in new:
            module.scales = module.map_levels = None


@contextmanager
def _without_naming_advice() -> Iterator[None]:
    """torch suggests for each named size that torch.export.Dim be used, which refuses sizes it could export."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        yield


def _dynamic_shapes(args: tuple[Any, ...], *, frozen_batch: bool) -> tuple[Any, ...]:
    images = [leaf for leaf in pytree.tree_leaves(args) if _is_image(leaf)]
    if not images:
        raise RuntimeError(
            "export: dynamic must be a dict of dynamic shapes where no argument is an image [C, H, W] or [N, C, H, W], "
            "got True."
        )
    numbers = iter([""] if len(images) == 1 else [f"_{number}" for number in range(len(images))])
    shapes: tuple[Any, ...] = pytree.tree_map(
        lambda leaf: _image_shape(leaf, next(numbers), frozen_batch) if _is_image(leaf) else None, args
    )
    return shapes


def _is_image(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() in (3, 4)


def _image_shape(image: Tensor, number: str, frozen_batch: bool) -> dict[int, Any]:
    shape: dict[int, Any] = {image.dim() - 2: f"height{number}", image.dim() - 1: f"width{number}"}
    if not frozen_batch and image.dim() == 4 and image.shape[0] > 1:  # torch.export takes a size of 1 for a constant
        shape[0] = torch.export.Dim.AUTO
    return shape


def _name_outputs(program: Any, names: Sequence[str] | None) -> None:
    """The given names, or those of the result's parts where it is a detector's."""
    outputs = program.model.graph.outputs
    names = names if names is not None else _detection_names(program.exported_program.call_spec.out_spec)
    for value, name in zip(outputs, names, strict=False):
        value.name = name


def _detection_names(spec: pytree.TreeSpec) -> list[str]:
    result = pytree.tree_unflatten(range(spec.num_leaves), spec)
    if not (isinstance(result, list) and all(isinstance(image, dict) for image in result)):
        return []
    several = len(result) > 1
    return [f"{part}_{number}" if several else str(part) for number, image in enumerate(result) for part in image]


def _described(model: Any, path: Path) -> ExportedModel:
    counts = Counter(node.op_type for node in model.graph.all_nodes())
    weights = Path(f"{path}.data")
    return ExportedModel(
        path=path,
        opset=model.graph.opset_imports[""],
        ops=dict(counts.most_common()),
        size=path.stat().st_size + (weights.stat().st_size if weights.exists() else 0),
        inputs={value.name: _shape_of(value) for value in model.graph.inputs},
        outputs=tuple(value.name for value in model.graph.outputs),
    )


def _shape_of(value: Any) -> tuple[int | str, ...]:
    return tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
