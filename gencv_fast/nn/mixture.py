"""Heads of autoregressive models: what becomes of a network's last channels."""

from __future__ import annotations

from torch import Tensor, nn

from ..ops.mixture import (
    bernoulli_nll,
    bernoulli_sample,
    mixture_logistics_nll,
    mixture_logistics_sample,
    softmax_nll,
    softmax_sample,
)


class _Head(nn.Module):
    """``forward(params, x)`` is the loss, ``sample(params)`` draws; ``params_per_pixel`` says how many channels."""

    params_per_pixel: int

    def __init__(self, channels: int, reduction: str) -> None:
        super().__init__()
        self.channels = channels
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"channels={self.channels}, reduction={self.reduction!r}"


class MixtureLogistics(_Head):
    """:func:`gencv_fast.mixture_logistics_nll` and :func:`gencv_fast.mixture_logistics_sample`.

    Args:
        mixtures: components of the mixture.
        channels: colours of a pixel, 3 or 1.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``.

    Example:
        >>> import torch, gencv_fast.nn
        >>> head = gencv_fast.nn.MixtureLogistics(mixtures=5)
        >>> params = torch.nn.Conv2d(8, head.params_per_pixel, 1)(torch.randn(2, 8, 4, 4))
        >>> x = torch.randint(0, 256, (2, 3, 4, 4)).to(torch.uint8)
        >>> head(params, x).shape, head.sample(params, seed=1).shape
        (torch.Size([]), torch.Size([2, 3, 4, 4]))
    """

    def __init__(self, mixtures: int = 10, channels: int = 3, reduction: str = "mean") -> None:
        super().__init__(channels, reduction)
        self.mixtures = mixtures
        self.params_per_pixel = mixtures * (10 if channels == 3 else 3)

    def forward(self, params: Tensor, x: Tensor) -> Tensor:
        """The negative log-likelihood of ``x``, levels or numbers in [-1, 1]."""
        values = x.to(params.dtype) if x.is_floating_point() else x
        return mixture_logistics_nll(params, values, self.reduction)

    def sample(self, params: Tensor, seed: int = 0, temperature: float = 1.0, noise: Tensor | None = None) -> Tensor:
        return mixture_logistics_sample(params, self.channels, seed, temperature, noise)

    def extra_repr(self) -> str:
        return f"mixtures={self.mixtures}, {super().extra_repr()}"


class Softmax256(_Head):
    """:func:`gencv_fast.softmax_nll` and :func:`gencv_fast.softmax_sample`.

    Args:
        channels: colours of a pixel.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``.

    Example:
        >>> import torch, gencv_fast.nn
        >>> head = gencv_fast.nn.Softmax256()
        >>> params = torch.nn.Conv2d(8, head.params_per_pixel, 1)(torch.randn(2, 8, 4, 4))
        >>> x = torch.randint(0, 256, (2, 3, 4, 4)).to(torch.uint8)
        >>> head(params, x).shape, head.sample(params, seed=1).shape
        (torch.Size([]), torch.Size([2, 3, 4, 4]))
    """

    def __init__(self, channels: int = 3, reduction: str = "mean") -> None:
        super().__init__(channels, reduction)
        self.params_per_pixel = 256 * channels

    def forward(self, params: Tensor, x: Tensor) -> Tensor:
        return softmax_nll(params, x, self.reduction)

    def sample(self, params: Tensor, seed: int = 0, temperature: float = 1.0, noise: Tensor | None = None) -> Tensor:
        return softmax_sample(params, seed, temperature, noise)


class Bernoulli(_Head):
    """:func:`gencv_fast.bernoulli_nll` and :func:`gencv_fast.bernoulli_sample`, for binary images.

    Args:
        channels: colours of a pixel.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``.

    Example:
        >>> import torch, gencv_fast.nn
        >>> head = gencv_fast.nn.Bernoulli()
        >>> params = torch.nn.Conv2d(8, head.params_per_pixel, 1)(torch.randn(2, 8, 4, 4))
        >>> x = torch.randint(0, 2, (2, 1, 4, 4)).to(torch.uint8)
        >>> head(params, x).shape, head.sample(params, seed=1).shape
        (torch.Size([]), torch.Size([2, 1, 4, 4]))
    """

    def __init__(self, channels: int = 1, reduction: str = "mean") -> None:
        super().__init__(channels, reduction)
        self.params_per_pixel = channels

    def forward(self, params: Tensor, x: Tensor) -> Tensor:
        return bernoulli_nll(params, x, self.reduction)

    def sample(self, params: Tensor, seed: int = 0, temperature: float = 1.0, noise: Tensor | None = None) -> Tensor:
        return bernoulli_sample(params, seed, temperature, noise)
