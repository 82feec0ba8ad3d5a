"""What a user would pick instead of the nms room, each under the name the report shows.

Every peer gets its inputs in the array type and dtype it wants, converted before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import ensemble_boxes
import lsnms
import numpy as np
import onnxruntime
import powerboxes
import torch
import torchvision
from onnx import TensorProto, helper
from torch import Tensor

from .checks import kept_differing
from .harness import Peer

_ABOUT = {
    "torchvision": "torchvision.ops.nms, C++; one thread, every pair of boxes",
    "onnxruntime": "NonMaxSuppression in an InferenceSession, NumPy in and out, the run's number of threads",
    "powerboxes rtree": "powerboxes.rtree_nms, Rust with an R-tree; float64 scores",
    "powerboxes": "powerboxes.nms, Rust, every pair of boxes; float64 scores",
    "lsnms": "lsnms.nms, Rust with an R-tree; drops at IoU >= threshold where the others drop at >",
}


@cache
def _session(
    iou_threshold: float, score_threshold: float, per_class: int, threads: int
) -> onnxruntime.InferenceSession:
    inputs: dict[str, list[int | None]] = {"boxes": [None, None, 4], "scores": [None, None, None]}
    constants = [
        helper.make_tensor("per_class", TensorProto.INT64, [1], [per_class]),
        helper.make_tensor("iou_threshold", TensorProto.FLOAT, [1], [iou_threshold]),
        helper.make_tensor("score_threshold", TensorProto.FLOAT, [1], [score_threshold]),
    ]
    names = [*inputs, *(constant.name for constant in constants)]
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", names, ["selected"])],
        "nms",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("selected", TensorProto.INT64, [None, 3])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def nms_peers(
    boxes: Tensor, scores: Tensor, iou_threshold: float, expected: Tensor, full_only: tuple[str, ...] = ()
) -> dict[str, Peer]:
    """The peers of nms; on CUDA torchvision alone. `full_only` names those too slow for the quick suite."""
    runs: dict[str, Callable[[], Any]] = {"torchvision": partial(torchvision.ops.nms, boxes, scores, iou_threshold)}
    if boxes.device.type == "cpu":
        xyxy, score = boxes.numpy(), scores.numpy()
        wide = score.astype(np.float64)
        session = _session(iou_threshold, -3e38, 2**31 - 1, torch.get_num_threads())
        feed = {"boxes": xyxy[None], "scores": score[None, None]}
        runs |= {
            "onnxruntime": lambda: session.run(None, feed)[0][:, 2],
            "powerboxes rtree": lambda: powerboxes.rtree_nms(xyxy, wide, iou_threshold, 0.0),
            "powerboxes": lambda: powerboxes.nms(xyxy, wide, iou_threshold, 0.0),
            "lsnms": lambda: lsnms.nms(xyxy, score, iou_threshold, 0.0),
        }

    def differing(result: Any) -> int:
        return kept_differing(_host(result), expected)

    return {name: Peer(run, _ABOUT[name], name in full_only, differing) for name, run in runs.items()}


def _host(result: Any) -> Any:
    return result.cpu().numpy() if isinstance(result, Tensor) else result


def batched_peers(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float, expected: Tensor
) -> dict[str, Peer]:
    """The peers of batched_nms; on CUDA torchvision alone."""

    def differing(result: Any) -> int:
        return kept_differing(_host(result), expected)

    peers = {
        "torchvision": Peer(
            lambda: torchvision.ops.batched_nms(boxes, scores, idxs, iou_threshold),
            "torchvision.ops.batched_nms: from 1,001 boxes a Python loop of nms over the classes",
            differing=differing,
        )
    }
    if boxes.device.type != "cpu":
        return peers
    xyxy, score, classes = boxes.numpy(), scores.numpy(), idxs.numpy()
    wide = score.astype(np.float64)

    def offset_rtree() -> np.ndarray:
        apart = classes[:, None] * (xyxy.max() + np.float32(1))
        return powerboxes.rtree_nms((xyxy + apart).astype(np.float32), wide, iou_threshold, 0.0)

    return peers | {
        "powerboxes rtree": Peer(
            offset_rtree, "powerboxes.rtree_nms on boxes moved apart by class", differing=differing
        ),
        "lsnms": Peer(
            lambda: lsnms.nms(xyxy, score, iou_threshold, 0.0, classes),
            "lsnms.nms with class_ids; drops at IoU >= threshold",
            differing=differing,
        ),
    }


def ensemble_soft_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, sigma: float, method: str
) -> Callable[[], np.ndarray]:
    """ensemble-boxes' soft_nms over boxes in [0, 1]; returns the kept boxes."""
    arguments = ([boxes.numpy()], [scores.numpy()], [np.zeros(len(scores), np.int64)])
    number = {"linear": 1, "gaussian": 2}[method]
    return lambda: ensemble_boxes.soft_nms(*arguments, number, iou_threshold, sigma, 1e-3)[0]


def soft_nms_loop(
    boxes: Tensor, scores: Tensor, iou_threshold: float, sigma: float, method: str, compiled: bool
) -> Callable[[], Tensor]:
    """Soft-NMS as one writes it in PyTorch, a step per kept box, through torch.compile if asked."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    def step(left: Tensor, best: Tensor) -> Tensor:
        corner = torch.maximum(boxes[:, :2], boxes[best, :2])
        size = (torch.minimum(boxes[:, 2:], boxes[best, 2:]) - corner).clamp(min=0)
        inter = size[:, 0] * size[:, 1]
        iou = inter / (areas + areas[best] - inter)
        if method == "linear":
            left = torch.where(iou > iou_threshold, left * (1 - iou), left)
        else:
            left = left * torch.exp(-(iou * iou) / sigma)
        return left.index_fill(0, best, 0.0)

    advance = torch.compile(step, fullgraph=True) if compiled else step

    def run() -> Tensor:
        left = scores.clone()
        kept: list[Tensor] = []
        while True:
            best = left.argmax()
            if left[best] <= 1e-3:
                return torch.stack(kept)
            kept.append(best)
            left = advance(left, best)

    return run


def torchvision_multiclass(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, per_class: int, total: int
) -> tuple[Tensor, Tensor, Tensor]:
    """multiclass_nms by torchvision: nms for every image and class, then the best of all classes."""
    images, classes, _ = scores.shape
    indices = torch.full((images, total, 2), -1, device=boxes.device)
    best = scores.new_zeros(images, total)
    counts = torch.zeros(images, dtype=torch.int64, device=boxes.device)
    for image in range(images):
        chosen = []
        for label in range(classes):
            candidates = (scores[image, label] > score_threshold).nonzero()[:, 0]
            kept = torchvision.ops.nms(boxes[image, candidates], scores[image, label, candidates], iou_threshold)
            box = candidates[kept[:per_class]]
            chosen.append(torch.stack((torch.full_like(box, label), box), 1))
        pairs = torch.cat(chosen)
        order = scores[image, pairs[:, 0], pairs[:, 1]].sort(descending=True, stable=True)
        count = min(len(pairs), total)
        indices[image, :count] = pairs[order.indices[:count]]
        best[image, :count] = order.values[:count]
        counts[image] = count
    return indices, best, counts


def onnxruntime_multiclass(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, per_class: int, total: int
) -> Callable[[], list[np.ndarray]]:
    """multiclass_nms by onnxruntime's NonMaxSuppression, and NumPy for the best of all classes."""
    session = _session(iou_threshold, score_threshold, per_class, torch.get_num_threads())
    score = scores.numpy()
    feed = {"boxes": boxes.numpy(), "scores": score}

    def run() -> list[np.ndarray]:
        selected = session.run(None, feed)[0]
        results = []
        for image in range(len(score)):
            rows = selected[selected[:, 0] == image]
            order = np.argsort(-score[image, rows[:, 1], rows[:, 2]], kind="stable")[:total]
            results.append(rows[order, 1:])
        return results

    return run
