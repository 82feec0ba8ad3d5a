"""Real input: windows over photos that scikit-image and scikit-learn carry in their wheels.

Windows of many scales and shapes slide over the picture. A window scores by the edges that it encloses, less
those that it cuts, so the best ones crowd around objects just as a detector's candidates do.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PHOTOS = {
    "astronaut": ("skimage.data", "astronaut.png"),
    "chelsea": ("skimage.data", "chelsea.png"),
    "coffee": ("skimage.data", "coffee.png"),
    "rocket": ("skimage.data", "rocket.jpg"),
    "motorcycle": ("skimage.data", "motorcycle_left.png"),
    "coins": ("skimage.data", "coins.png"),
    "china": ("sklearn.datasets.images", "china.jpg"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
}
SCALES = 10
ORIENTATIONS = 8
CLASSES = SCALES * ORIENTATIONS
_ASPECTS = (0.4, 0.6, 0.8, 1.0, 1.25, 1.67, 2.5)
_STEP = 0.08
_BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


@cache
def photo(name: str) -> np.ndarray:
    """The picture as uint8 [height, width, 3]."""
    from PIL import Image

    package, file = PHOTOS[name]
    with files(package).joinpath(file).open("rb") as stream:
        return np.asarray(Image.open(stream).convert("RGB"))


def _edges(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and orientation bin of the gradient of the grey, blurred picture, both [height, width]."""
    grey: np.ndarray = picture.astype(np.float64) @ (0.299 / 255, 0.587 / 255, 0.114 / 255)
    for axis in (0, 1):
        padded = np.pad(grey, [(2, 2) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        length = grey.shape[axis]
        taps = (padded.take(range(k, k + length), axis) for k in range(5))
        grey = np.tensordot(_BLUR, np.stack(list(taps)), 1)
    dy, dx = np.gradient(grey)
    magnitude = np.hypot(dx, dy)
    # Faint texture would drown the outlines of objects.
    magnitude = np.clip(magnitude - np.median(magnitude), 0, np.quantile(magnitude, 0.98))
    angle = np.arctan2(dy, dx) % math.pi
    return magnitude, np.minimum((angle * (ORIENTATIONS / math.pi)).astype(np.int64), ORIENTATIONS - 1)


def _integral(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((1, 0), (1, 0))).cumsum(0).cumsum(1)


def _box_sum(integral: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = boxes.T
    return integral[y2, x2] - integral[y1, x2] - integral[y2, x1] + integral[y1, x1]


def _windows(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """All windows, int64 [M, 4], and the scale bin of each."""
    boxes, scales = [], []
    smallest, largest = 0.06 * min(height, width), 0.75 * min(height, width)
    for scale in range(SCALES):
        side = smallest * (largest / smallest) ** (scale / (SCALES - 1))
        for aspect in _ASPECTS:
            w, h = side * math.sqrt(aspect), side / math.sqrt(aspect)
            x, y = np.meshgrid(np.arange(0, width - w, _STEP * w), np.arange(0, height - h, _STEP * h))
            corners = np.stack((x, y, x + w, y + h), -1).reshape(-1, 4)
            boxes.append(np.rint(corners).astype(np.int64))
            scales.append(np.full(len(corners), scale))
    return np.concatenate(boxes), np.concatenate(scales)


def _score(magnitude: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Edges inside less edges that the rim cuts, over the perimeter to the power 1.5 (so size has no say)."""
    integral = _integral(magnitude)
    height, width = magnitude.shape
    size = boxes[:, 2:] - boxes[:, :2]
    rim = np.maximum(size // 10, 1)
    inner = np.concatenate((boxes[:, :2] + rim, boxes[:, 2:] - rim), 1)
    outer = np.concatenate((boxes[:, :2] - rim, boxes[:, 2:] + rim), 1)
    outer = outer.clip(0, (width, height, width, height))
    inside = _box_sum(integral, inner)
    cut = _box_sum(integral, outer) - inside
    return (inside - 0.8 * cut) / (2.0 * size.sum(1)) ** 1.5


def photo_boxes(name: str, n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """The n best windows of a photo: boxes [n, 4] in pixels, scores [n] in [0.01, 1], class ids [n].

    The class is the window's scale and its dominant gradient orientation (80 classes). Windows come in the
    order of sliding, not of score.
    """
    magnitude, orientation = _edges(photo(name))
    boxes, scales = _windows(*magnitude.shape)
    if n > len(boxes):
        raise ValueError(f"{name} has {len(boxes)} windows, and {n} were asked for")
    scores = _score(magnitude, boxes)
    best = np.sort(np.argsort(-scores, kind="stable")[:n])
    boxes, scores, scales = boxes[best], scores[best], scales[best]
    by_bin = [_box_sum(_integral(magnitude * (orientation == k)), boxes) for k in range(ORIENTATIONS)]
    classes = scales * ORIENTATIONS + np.argmax(by_bin, 0)
    unit = 0.01 + 0.99 * (scores - scores.min()) / max(np.ptp(scores), 1e-12)
    return torch.from_numpy(boxes).to(dtype), torch.from_numpy(unit).to(dtype), torch.from_numpy(classes)


def draw(name: str, boxes: Tensor, kept: Tensor, path: Path | str, show: int = 24) -> None:
    """Saves a PNG: how densely the candidates lie over the photo, and beside it the best kept boxes."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    picture = photo(name)
    height, width = picture.shape[:2]
    grey = np.repeat(picture.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    figure = Figure(figsize=(12, 6 * height / width + 0.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(grey, alpha=0.6)
    cover = np.ma.masked_less(_cover(boxes, height, width), 1)
    left.imshow(cover, cmap="inferno", norm=LogNorm(vmin=1), alpha=0.6)
    left.set_title(f"{len(boxes):,} candidates: windows over each pixel", fontsize=11)
    right.imshow(picture)
    for rank, (x1, y1, x2, y2) in reversed(list(enumerate(boxes[kept[:show]].tolist()))):
        for colour, line in (("black", 3.4), ((1.0, 0.9 * rank / show, 0.1), 1.9)):
            outline = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=line)
            right.add_patch(outline)
    right.set_title(f"{len(kept):,} kept; the best {min(show, len(kept))} shown, red first", fontsize=11)
    for axes in (left, right):
        axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    figure.savefig(path, bbox_inches="tight")


def _cover(boxes: Tensor, height: int, width: int) -> np.ndarray:
    """How many boxes lie over each pixel."""
    x1, y1, x2, y2 = boxes.round().long().clamp(min=0).T.numpy()
    change = np.zeros((height + 1, width + 1), dtype=np.int64)
    for y, x, sign in ((y1, x1, 1), (y1, x2, -1), (y2, x1, -1), (y2, x2, 1)):
        np.add.at(change, (y.clip(max=height), x.clip(max=width)), sign)
    return change.cumsum(0).cumsum(1)[:height, :width]
