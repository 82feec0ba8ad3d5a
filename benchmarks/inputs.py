"""Synthetic inputs of the benchmarks, with fixed seeds. Boxes are x1, y1, x2, y2 in pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def distinct_scores(n: int, generator: torch.Generator) -> Tensor:
    """Scores in (0, 1] without ties, because peers break ties in ways of their own."""
    return (torch.randperm(n, generator=generator) + 1).float() / n


def random_boxes(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Top-left corner uniform in a square of 1,000 px (10,000 px from 100k boxes on), sides in [5, 105)."""
    generator = torch.Generator().manual_seed(seed)
    extent = 1_000.0 if n < 100_000 else 10_000.0
    corner = torch.rand(n, 2, generator=generator) * extent
    size = torch.rand(n, 2, generator=generator) * 100 + 5
    return torch.cat((corner, corner + size), 1), distinct_scores(n, generator)


def clustered_boxes(n: int, objects: int = 1_000, extent: float = 4_000.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """What a detector emits before NMS: every object has n / objects boxes that scatter around it.

    Positions and log sizes are off by a tenth of the object's size, and the score falls with that error.
    """
    generator = torch.Generator().manual_seed(seed)
    owner = torch.arange(n) % objects
    size = 20 * 10 ** torch.rand(objects, 2, generator=generator)
    centre = torch.rand(objects, 2, generator=generator) * extent
    shift, stretch = 0.1 * torch.randn(2, n, 2, generator=generator)
    box_centre = centre[owner] + shift * size[owner]
    half = 0.5 * size[owner] * stretch.exp()
    quality = -(shift.square() + stretch.square()).sum(1) + 0.02 * torch.randn(n, generator=generator)
    scores = torch.empty(n)
    scores[quality.argsort()] = torch.arange(1, n + 1).float() / n
    return torch.cat((box_centre - half, box_centre + half), 1), scores


def class_ids(n: int, classes: int, seed: int = 1) -> Tensor:
    """One class per box, uniform."""
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


def detections(images: int, classes: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A detector head's output: boxes [images, n, 4] around objects and sigmoid scores [images, classes, n].

    A box scores high for the class of its object; of its other scores about one in fifty passes 0.05.
    """
    generator = torch.Generator().manual_seed(seed)
    per_image = [clustered_boxes(n, max(1, n // 40), 1_000.0, seed + image) for image in range(images)]
    boxes = torch.stack([boxes for boxes, _ in per_image])
    logits = torch.randn(images, classes, n, generator=generator) - 5
    owner = torch.arange(n) % max(1, n // 40)
    label = torch.randint(classes, (images, int(owner.max()) + 1), generator=generator)[:, owner]
    quality = torch.stack([scores for _, scores in per_image])
    logits.scatter_(1, label[:, None], (6 * quality - 3)[:, None])
    return boxes, logits.sigmoid()
