"""The room's truth in plain PyTorch, written to be checked by eye."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..nms.reference import batched_nms, compute_dtype

#: Deltas grow a side at most by this factor's logarithm.
MOST_GROWTH = math.log(1000.0 / 16)

# The constants of csrc/common/exp.h: ln 2 in two pieces, and the polynomial's coefficients, highest power first.
_LN2 = {
    torch.float32: ("0x1.62e4p-1", "0x1.7f7d1cp-20"),
    torch.float64: ("0x1.62e42fefa3p-1", "0x1.3de6af278ece6p-42"),
}
_POLYNOMIAL = {
    torch.float32: ("0x1.6d113cp-10", "0x1.120ba2p-7", "0x1.55551ap-5", "0x1.5554dcp-3", "0x1p-1"),
    torch.float64: (
        "0x1.1f731ea5352cap-29", "0x1.af4e196027428p-26", "0x1.27e4db57442fbp-22", "0x1.71de021a90822p-19",
        "0x1.a01a01a6dcaffp-16", "0x1.a01a01abef415p-13", "0x1.6c16c16c162ccp-10", "0x1.11111111100cep-7",
        "0x1.5555555555556p-5", "0x1.5555555555557p-3", "0x1p-1",
    ),
}  # fmt: skip
_LEAST_AND_MOST = {torch.float32: (-104.0, 89.0), torch.float64: (-746.0, 710.0)}


def exponential(x: Tensor) -> Tensor:
    """exp(x) from separately rounded sums and products alone, so that every backend finds the same bits.

    x = k ln 2 + r, a polynomial for exp(r), and 2^k in two steps that neither overflow nor round twice.
    """
    x = x.clamp(*_LEAST_AND_MOST[x.dtype])  # leaves NaN
    k = torch.round(x * (1 / math.log(2)))
    high, low = map(float.fromhex, _LN2[x.dtype])
    r = (x - k * high) - k * low
    y = torch.zeros_like(r)
    for coefficient in _POLYNOMIAL[x.dtype]:
        y = y * r + float.fromhex(coefficient)
    y = ((r * r) * y + r) + 1
    half = torch.floor(k / 2)
    return torch.ldexp(torch.ldexp(y, half), k - half)


def sigmoid(x: Tensor) -> Tensor:
    return torch.ones_like(x) / (1 + exponential(-x))


def decode(anchors: Tensor, deltas: Tensor) -> Tensor:
    """[N, 4] corners and [N, 4] deltas -> [N, 4] corners: the centre shifted, the sides grown."""
    low, high = anchors[:, :2], anchors[:, 2:]
    length = high - low
    centre = deltas[:, :2] * length + (low + 0.5 * length)
    growth = torch.where(deltas[:, 2:] > MOST_GROWTH, MOST_GROWTH, deltas[:, 2:])
    half = 0.5 * (exponential(growth) * length)
    return torch.cat((centre - half, centre + half), dim=1)


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    most = boxes.new_tensor([width, height, width, height])
    boxes = torch.where(boxes < 0, 0, boxes)
    return torch.where(boxes > most, most, boxes)


def grid_anchors(level: Tensor, cell_anchors: Tensor, stride_h: int, stride_w: int) -> Tensor:
    """The anchors [..., H * W * A, 4] of a level whose objectness is [B, A, H, W]: those of a cell, shifted."""
    height, width = level.shape[2:]
    y = torch.arange(height, device=level.device) * stride_h
    x = torch.arange(width, device=level.device) * stride_w
    shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((shift_x, shift_y, shift_x, shift_y), dim=2).to(cell_anchors.dtype)
    return (shifts[:, :, None] + cell_anchors[..., None, None, :, :]).flatten(-4, -2)


def all_anchors(objectness: Sequence[Tensor], anchors: Tensor, strides: Sequence[int] | None) -> Tensor:
    """[..., sum of A H W, 4]"""
    if strides is None:
        return anchors
    cells = anchors.split([level.shape[1] for level in objectness], dim=-2)
    pairs = zip(strides[::2], strides[1::2], strict=True)
    grids = [grid_anchors(o, cell, *pair) for o, cell, pair in zip(objectness, cells, pairs, strict=True)]
    return torch.cat(grids, dim=-2)


def rpn_proposals(
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Tensor,
    image_sizes: Sequence[int],
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    score_threshold: float = 0.0,
    min_size: float = 1e-3,
    strides: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(anchors.dtype)
    batch = objectness[0].shape[0]
    anchors_of_images = all_anchors(objectness, anchors.to(dtype), strides).expand(batch, -1, -1)
    out_boxes = anchors.new_zeros((batch, post_nms_top_n, 4))
    out_scores = anchors.new_zeros((batch, post_nms_top_n))
    counts = torch.zeros(batch, dtype=torch.int64, device=anchors.device)
    for b in range(batch):
        logits_of = [o[b].permute(1, 2, 0).flatten().to(dtype) for o in objectness]
        deltas_of = [d[b].unflatten(0, (-1, 4)).permute(2, 3, 0, 1).reshape(-1, 4).to(dtype) for d in deltas]
        anchors_of = anchors_of_images[b].split([len(logits) for logits in logits_of])
        best = [logits.sort(descending=True, stable=True).indices[:pre_nms_top_n] for logits in logits_of]
        levels = torch.cat([torch.full_like(chosen, level) for level, chosen in enumerate(best)])
        scores = sigmoid(torch.cat([logits[chosen] for logits, chosen in zip(logits_of, best, strict=True)]))
        decoded = [decode(anchors_of[level][chosen], deltas_of[level][chosen]) for level, chosen in enumerate(best)]
        boxes = clip(torch.cat(decoded), image_sizes[2 * b], image_sizes[2 * b + 1])
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        good = (width >= min_size) & (height >= min_size) & (scores >= score_threshold)
        boxes, scores, levels = boxes[good], scores[good], levels[good]
        keep = batched_nms(boxes, scores, levels, nms_threshold)[:post_nms_top_n]
        counts[b] = len(keep)
        out_boxes[b, : len(keep)] = boxes[keep]
        out_scores[b, : len(keep)] = scores[keep]
    return out_boxes, out_scores, counts
