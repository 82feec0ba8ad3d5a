"""A gated PixelCNN of real data: scikit-learn's scans of handwritten digits, 8 x 8 pixels of 17 levels."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from gencv_fast.nn import GatedMaskedConv2d, Softmax256
from gencv_fast.ops.mixture import bits_per_dim, softmax_nll, softmax_sample
from gencv_fast.ops.mixture.reference import values_of

SIDE = 8
GRAYS = 17
#: Grays 0 to 16 as levels 0 to 255.
LEVELS = torch.arange(GRAYS) * 255 // (GRAYS - 1)
_HELD_OUT = 360


class GatedPixelCNN(nn.Module):
    """Layers of two stacks; their skips meet before the head."""

    def __init__(self, features: int = 32, layers: int = 5) -> None:
        super().__init__()
        sizes = [1] + [features] * (layers - 1)
        self.layers = nn.ModuleList(
            GatedMaskedConv2d("A" if i == 0 else "B", size, features, 3, skip_channels=features)
            for i, size in enumerate(sizes)
        )
        self.dropout = nn.Dropout(0.2)
        self.mixed = nn.Conv2d(features, features, 1)
        self.head = Softmax256(1)
        self.out = nn.Conv2d(features, self.head.params_per_pixel, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Values in [-1, 1] to the head's params."""
        vertical = horizontal = x
        skips: Tensor | float = 0.0
        for layer in self.layers:
            vertical, horizontal, skip = layer(vertical, horizontal)
            skips = skip + skips
        return self.out(torch.relu(self.mixed(torch.relu(self.dropout(skips)))))


@cache
def grays() -> tuple[Tensor, Tensor]:
    """``[N, 1, 8, 8]`` of 0 to 16: for training, and held out."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images).to(torch.int64).unsqueeze(1)
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    return images[_HELD_OUT:], images[:_HELD_OUT]


def levels_of(gray: Tensor) -> Tensor:
    return LEVELS[gray].to(torch.uint8)


def bits(model: GatedPixelCNN, gray: Tensor) -> float:
    """Bits for each pixel."""
    levels = levels_of(gray)
    with torch.no_grad():
        return float(bits_per_dim(model.head(model(values_of(levels.float())), levels), 1))


def train(epochs: int = 20, seed: int = 0) -> GatedPixelCNN:
    torch.manual_seed(seed)
    model = GatedPixelCNN()
    images = levels_of(grays()[0])
    batch = 64
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            levels = images[chosen]
            optimizer.zero_grad()
            model.head(model(values_of(levels.float())), levels).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def _bits_of_counts(counts: Tensor, observed: tuple[Tensor, ...]) -> float:
    """Of held-out grays, with what was counted; no count is zero."""
    smooth = counts + 0.1
    probabilities = smooth / smooth.sum(-1, keepdim=True)
    return float(-torch.log(probabilities[observed]).mean()) / math.log(2)


def independent_bits() -> float:
    """Each pixel has a histogram of its own."""
    train, test = (g.flatten(1) for g in grays())
    counts = nn.functional.one_hot(train, GRAYS).sum(0).float()
    place = torch.arange(SIDE * SIDE).expand_as(test)
    return _bits_of_counts(counts, (place, test))


def markov_bits() -> float:
    """Each pixel has a histogram for each gray of the pixel before it, in raster order."""
    train, test = (g.flatten(1) for g in grays())
    before, place = (nn.functional.pad(g[:, :-1], (1, 0)) for g in (train, test)), torch.arange(SIDE * SIDE)
    train_before, test_before = before
    counts = torch.zeros(SIDE * SIDE, GRAYS, GRAYS)
    where = (place.expand_as(train), train_before, train)
    counts.index_put_(where, torch.ones(()), accumulate=True)
    return _bits_of_counts(counts, (place.expand_as(test), test_before, test))


class Density(nn.Module):
    """Levels to the nats of each pixel: what deployment scores images with."""

    def __init__(self, model: GatedPixelCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, levels: Tensor) -> Tensor:
        return softmax_nll(self.model(values_of(levels.float())), levels, "none")


class Step(nn.Module):
    """One step of drawing, without caches: levels so far and noise to levels drawn at every pixel."""

    def __init__(self, model: GatedPixelCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, levels: Tensor, noise: Tensor) -> Tensor:
        return softmax_sample(self.model(values_of(levels.float())), noise=noise)


def picture(drawn: Tensor, path: Path | str) -> None:
    """Saves a PNG: held-out scans above, drawn digits below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), dpi=110, layout="constrained")
    for axes, images, title in zip(
        figure.subplots(2, 1), (levels_of(grays()[1]), drawn), ("scans", "drawn by the model"), strict=True
    ):
        spaced = nn.functional.pad(images[:40, 0], (1, 1, 1, 1))
        rows = [torch.cat(list(row), 1) for row in spaced.split(20)]
        axes.imshow(torch.cat(rows).numpy(), cmap="gray_r", vmin=0, vmax=255)
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(path)
