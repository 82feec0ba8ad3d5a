"""What torch is told about the room's operators: schemas, fake kernels, autograd, vmap, sharding, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._dispatch import Op
from ..._register import register
from . import checks, reference
from .checks import FORMATS, wide_dtype

ROOM = "gencv_fast.ops.boxes"

#: The weight of the aspect ratio carries no gradient.
DETACHED = ("complete_box_iou", "complete_box_iou_loss")


# Fake kernels


def _fake_pairwise(boxes1: Tensor, boxes2: Tensor, eps: float = 0.0) -> Tensor:
    return boxes1.new_empty((*boxes1.shape[:-1], boxes2.shape[-2]), dtype=wide_dtype(boxes1))


def _fake_loss(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    return boxes1.new_empty(boxes1.shape[:-1], dtype=wide_dtype(boxes1))


def _dense_like(tensor: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape)


def _fake_two_gradients(grad: Tensor, a: Tensor, b: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _dense_like(a), _dense_like(b)


def _fake_like_first(first: Tensor, *rest: Any) -> Tensor:
    return _dense_like(first)


def _fake_like_second(grad: Tensor, boxes: Tensor, *rest: Any) -> Tensor:
    return _dense_like(boxes)


def _fake_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    return boxes.new_empty((*boxes.shape[:-1], FORMATS[out_fmt]))


def _fake_small(boxes: Tensor, min_size: float) -> Tensor:
    return boxes.new_empty((torch.library.get_ctx().new_dynamic_size(),), dtype=torch.int64)


def _fake_matches(gt_boxes: Tensor, anchors: Tensor, *rest: Any) -> Tensor:
    return anchors.new_empty((anchors.shape[0],), dtype=torch.int64)


# Autograd


def _save(tensors: int) -> Callable[..., None]:
    """Keeps the first inputs for the backward pass, and the others beside them."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:tensors])
        ctx.rest = inputs[tensors:]

    return setup_context


def _backward_by(name: str, *fixed: Any) -> Callable[..., Any]:
    """The gradient of the tensors by the operator ``name``; ``fixed`` comes before the arguments that were kept."""

    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        grads = OPERATORS[name](grad, *ctx.saved_tensors, *fixed, *ctx.rest, backend=ctx.backend)
        grads = grads if isinstance(grads, tuple) else (grads,)
        return (*grads, *(None for _ in ctx.rest))

    return backward


def _clip_double_backward(ctx: Any, grad_of_grad: Tensor) -> tuple[Tensor, Tensor, None]:
    """Clipping is linear almost everywhere: the incoming gradient passes where the first one did."""
    _, boxes = ctx.saved_tensors
    passed = OPERATORS["clip_boxes_backward"](grad_of_grad, boxes, *ctx.rest, backend=ctx.backend)
    return passed, torch.zeros_like(boxes), None


def _convert_double_backward(ctx: Any, grad_of_grad: Tensor) -> tuple[Tensor | None, ...]:
    """Conversions are linear but for angles, whose second derivatives are left to plain PyTorch."""
    grad, boxes = ctx.saved_tensors
    in_fmt, out_fmt = ctx.rest
    if FORMATS[in_fmt] == 4:
        converted = OPERATORS["box_convert"](grad_of_grad, in_fmt, out_fmt, backend=ctx.backend)
        return converted, torch.zeros_like(boxes), None, None

    def first(grad: Tensor, boxes: Tensor) -> Tensor:
        return reference.box_convert_backward(grad, boxes, in_fmt, out_fmt)

    return *reference.gradients(first, (grad, boxes), grad_of_grad), None, None


# vmap: operators of leading dimensions take one more


def _mapped(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.movedim(dim, 0) if dim is not None else tensor.expand(size, *tensor.shape)


def _all_mapped(args: tuple[Any, ...], in_dims: tuple[Any, ...], size: int) -> list[Any]:
    pairs = zip(args, in_dims, strict=True)
    return [_mapped(a, dim, size) if isinstance(a, Tensor) else a for a, dim in pairs]


def _vmap_leading(name: str) -> Callable[..., Any]:
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        results = OPERATORS[name](*_all_mapped(args, in_dims, info.batch_size))
        return results, (0,) * len(results) if isinstance(results, tuple) else 0

    return vmap


def _vmap_rows(name: str) -> Callable[..., Any]:
    """Operators on ``[N, ...]`` whose rows are independent: the mapped dimension goes into the rows."""

    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        moved = _all_mapped(args, in_dims, info.batch_size)
        rows = moved[0].shape[1]
        results = OPERATORS[name](*(m.flatten(0, 1) if isinstance(m, Tensor) else m for m in moved))
        if isinstance(results, tuple):
            return tuple(r.unflatten(0, (info.batch_size, rows)) for r in results), (0,) * len(results)
        return results.unflatten(0, (info.batch_size, rows)), 0

    return vmap


def _vmap_matches(info: Any, in_dims: Any, gt_boxes: Tensor, anchors: Tensor, *rest: Any) -> tuple[Tensor, int]:
    """Images have their own ground truth: one call each."""
    boxes, grids, *_ = _all_mapped((gt_boxes, anchors), in_dims[:2], info.batch_size)
    return torch.stack([OPERATORS["match_boxes"](*pair, *rest) for pair in zip(boxes, grids, strict=True)]), 0


def _vmap_small(info: Any, in_dims: Any, *args: Any) -> Any:
    raise RuntimeError(
        "remove_small_boxes: vmap would give a result of another length for each sample; "
        "use rpn_proposals, which drops small boxes inside and whose padded results have one shape."
    )


_vmap_small.is_ragged = True  # type: ignore[attr-defined]  # the tests expect a refusal of these alone


# DTensor rules


def _placed(outputs: Sequence[Any], inputs: Sequence[Any], scalars: int) -> tuple[list[Any], list[Any]]:
    return list(outputs), [*inputs, *(None for _ in range(scalars))]


def shard_rows(*args: Any) -> list[tuple[list[Any], list[Any]]]:
    """Every row by itself: shard any dimension but that of the coordinates, in all tensors alike."""
    from torch.distributed.tensor import Replicate, Shard

    tensors = [a for a in args if hasattr(a, "ndim")]
    outputs = 2 if len(tensors) == 3 else 1
    places = [Replicate(), *(Shard(dim) for dim in range(tensors[-1].ndim - 1))]
    return [_placed([p] * outputs, [p] * len(tensors), len(args) - len(tensors)) for p in places]


def shard_pairwise(boxes1: Any, boxes2: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    """Shard leading dimensions, rows or columns."""
    from torch.distributed.tensor import Replicate, Shard

    row = boxes1.ndim - 2
    together = [Replicate(), *(Shard(dim) for dim in range(row))]
    return [
        *(_placed([p], [p, p], len(rest)) for p in together),
        _placed([Shard(row)], [Shard(row), Replicate()], len(rest)),
        _placed([Shard(row + 1)], [Replicate(), Shard(row)], len(rest)),
    ]


def shard_pairwise_backward(grad: Any, boxes1: Any, boxes2: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    """The set that is not sharded gets a gradient from every shard of the other."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    row = boxes1.ndim - 2
    together = [Replicate(), *(Shard(dim) for dim in range(row))]
    return [
        *(_placed([p, p], [p, p, p], len(rest)) for p in together),
        _placed([Shard(row), Partial()], [Shard(row), Shard(row), Replicate()], len(rest)),
        _placed([Partial(), Shard(row)], [Shard(row + 1), Replicate(), Shard(row)], len(rest)),
    ]


def shard_matches(gt_boxes: Any, anchors: Any, *rest: Any) -> list[tuple[list[Any], list[Any]]]:
    """Anchors are independent, unless a box looks for its best one among all of them."""
    from torch.distributed.tensor import Replicate, Shard

    whole = _placed([Replicate()], [Replicate(), Replicate()], len(rest))
    looks_for_best = len(rest) > 2 and rest[2]
    return [whole] if looks_for_best else [whole, _placed([Shard(0)], [Replicate(), Shard(0)], len(rest))]


def _op(name: str, schema: str, **faces: Any) -> Op:
    """An operator of this room: reference, checks and lowering bear its name."""
    return register(
        Op(
            name=name,
            room=ROOM,
            schema=schema,
            reference=getattr(reference, name),
            check=getattr(checks, f"check_{name}"),
            backends=("cpu", "cuda"),
            onnx=None if name.endswith("_backward") else f"{ROOM}.onnx_export:{name}",
            **faces,
        )
    )


def _leading(name: str, **faces: Any) -> dict[str, Any]:
    return {"vmap": _vmap_leading(name), "sharding": f"{ROOM}.contract:shard_rows", **faces}


_PAIRWISE = {
    "box_iou": ("(Tensor boxes1, Tensor boxes2) -> Tensor", _backward_by("pairwise_box_iou_backward", "iou", 0.0)),
    "generalized_box_iou": (
        "(Tensor boxes1, Tensor boxes2) -> Tensor",
        _backward_by("pairwise_box_iou_backward", "giou", 0.0),
    ),
    "distance_box_iou": (
        "(Tensor boxes1, Tensor boxes2, float eps=1e-07) -> Tensor",
        _backward_by("pairwise_box_iou_backward", "diou"),
    ),
    "complete_box_iou": (
        "(Tensor boxes1, Tensor boxes2, float eps=1e-07) -> Tensor",
        _backward_by("pairwise_box_iou_backward", "ciou"),
    ),
}
_LOSSES = {"generalized_box_iou_loss": "giou", "distance_box_iou_loss": "diou", "complete_box_iou_loss": "ciou"}

_OPERATORS = [
    _op(
        "pairwise_box_iou_backward",
        "(Tensor grad, Tensor boxes1, Tensor boxes2, str kind, float eps) -> (Tensor, Tensor)",
        fake=_fake_two_gradients,
        vmap=_vmap_leading("pairwise_box_iou_backward"),
        sharding=f"{ROOM}.contract:shard_pairwise_backward",
    ),
    *(
        _op(
            name,
            schema,
            fake=_fake_pairwise,
            setup_context=_save(2),
            backward=backward,
            detached=name in DETACHED,
            vmap=_vmap_leading(name),
            sharding=f"{ROOM}.contract:shard_pairwise",
        )
        for name, (schema, backward) in _PAIRWISE.items()
    ),
    _op(
        "box_iou_loss_backward",
        "(Tensor grad, Tensor boxes1, Tensor boxes2, str kind, float eps) -> (Tensor, Tensor)",
        fake=_fake_two_gradients,
        **_leading("box_iou_loss_backward"),
    ),
    *(
        _op(
            name,
            "(Tensor boxes1, Tensor boxes2, float eps=1e-07) -> Tensor",
            fake=_fake_loss,
            setup_context=_save(2),
            backward=_backward_by("box_iou_loss_backward", kind),
            detached=name in DETACHED,
            **_leading(name),
        )
        for name, kind in _LOSSES.items()
    ),
    _op(
        "box_encode_backward",
        "(Tensor grad, Tensor reference_boxes, Tensor proposals, float[] weights) -> (Tensor, Tensor)",
        fake=_fake_two_gradients,
        **_leading("box_encode_backward"),
    ),
    _op(
        "box_encode",
        "(Tensor reference_boxes, Tensor proposals, float[] weights) -> Tensor",
        fake=_fake_like_first,
        setup_context=_save(2),
        backward=_backward_by("box_encode_backward"),
        **_leading("box_encode"),
    ),
    _op(
        "box_decode_backward",
        "(Tensor grad, Tensor deltas, Tensor anchors, float[] weights, float clip) -> (Tensor, Tensor)",
        fake=_fake_two_gradients,
        **_leading("box_decode_backward", vmap=_vmap_rows("box_decode_backward")),
    ),
    _op(
        "box_decode",
        "(Tensor deltas, Tensor anchors, float[] weights, float clip) -> Tensor",
        fake=_fake_like_first,
        setup_context=_save(2),
        backward=_backward_by("box_decode_backward"),
        **_leading("box_decode", vmap=_vmap_rows("box_decode")),
    ),
    _op(
        "clip_boxes_backward",
        "(Tensor grad, Tensor boxes, SymInt[] size) -> Tensor",
        fake=_fake_like_second,
        setup_context=_save(2),
        backward=_clip_double_backward,
        **_leading("clip_boxes_backward"),
    ),
    _op(
        "clip_boxes",
        "(Tensor boxes, SymInt[] size) -> Tensor",
        fake=_fake_like_first,
        setup_context=_save(1),
        backward=_backward_by("clip_boxes_backward"),
        double_backward=True,
        **_leading("clip_boxes"),
    ),
    _op(
        "box_convert_backward",
        "(Tensor grad, Tensor boxes, str in_fmt, str out_fmt) -> Tensor",
        fake=_fake_like_second,
        setup_context=_save(2),
        backward=_convert_double_backward,
        **_leading("box_convert_backward"),
    ),
    _op(
        "box_convert",
        "(Tensor boxes, str in_fmt, str out_fmt) -> Tensor",
        fake=_fake_convert,
        setup_context=_save(1),
        backward=_backward_by("box_convert_backward"),
        double_backward=True,
        **_leading("box_convert"),
    ),
    _op(
        "remove_small_boxes",
        "(Tensor boxes, float min_size) -> Tensor",
        fake=_fake_small,
        vmap=_vmap_small,
    ),
    _op(
        "match_boxes",
        "(Tensor gt_boxes, Tensor anchors, float high_threshold, float low_threshold, "
        "bool allow_low_quality_matches=False) -> Tensor",
        fake=_fake_matches,
        vmap=_vmap_matches,
        sharding=f"{ROOM}.contract:shard_matches",
    ),
]
OPERATORS = {op.name: op for op in _OPERATORS}
