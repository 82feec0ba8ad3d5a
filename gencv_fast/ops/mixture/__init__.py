"""Distributions of pixels: discretised mixtures of logistics, 256-way softmax, Bernoulli."""

from __future__ import annotations

from torch import Tensor

from .contract import MIXTURE_LOGISTICS_NLL, MIXTURE_LOGISTICS_SAMPLE
from .heads import bernoulli_nll, bernoulli_sample, bits_per_dim, reduced, softmax_nll, softmax_sample

__all__ = [
    "bernoulli_nll",
    "bernoulli_sample",
    "bits_per_dim",
    "mixture_logistics_nll",
    "mixture_logistics_sample",
    "softmax_nll",
    "softmax_sample",
]


def mixture_logistics_nll(
    params: Tensor, x: Tensor, reduction: str = "mean", channels: int | None = None, *, backend: str | None = None
) -> Tensor:
    """Negative log-likelihood of images under a discretised mixture of logistics. Differentiable in ``params``.

    Args:
        params: ``[N, 10 * K, H, W]`` for three colours, ``[N, 3 * K, H, W]`` for one; fp16, bf16, fp32 or fp64, any
            strides, channels_last among them. Blocks of K channels, one for each component: the logits; then for each
            colour the means, the log-scales and, where there are three colours, a coefficient. Those of the first
            colour's block are green's on red, of the second's blue's on red, of the third's blue's on green, each
            before its tanh. This is the layout of PixelCNN++ with its channels in front.
        x: ``[N, 3, H, W]`` or ``[N, 1, H, W]``: levels 0 to 255 in uint8, or numbers in [-1, 1] in the dtype of
            ``params``, each of which goes to the nearest of the 256 levels. No gradient.
        reduction: ``"none"`` gives ``[N, H, W]``, in nats for a pixel with all its colours; ``"sum"``; ``"mean"`` is
            that over pixels. :func:`bits_per_dim` converts.
        channels: colours of a pixel, 3 or 1; None takes them from ``x``.
        backend: ``"cpu"``, ``"cuda"``, ``"triton"``, ``"reference"``, or ``None`` to choose.

    Returns:
        The loss in float32, or in float64 for fp64 ``params``; fp16 and bf16 are computed in fp32. NaN where a number
        of the pixel is NaN.

    Log-scales are clamped at -7 from below, where they have no gradient. The probabilities of the 256 levels sum to
    1: the first and the last reach to infinity. The gradient cannot be differentiated once more.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device, or an unknown reduction.

    Example:
        >>> import torch, gencv_fast
        >>> params = torch.zeros(1, 3 * 2, 1, 2)
        >>> x = torch.tensor([[[[0, 128]]]], dtype=torch.uint8)
        >>> gencv_fast.mixture_logistics_nll(params, x, "none")
        tensor([[[1.3104, 6.2344]]])

    Paper: Salimans et al., *PixelCNN++*, ICLR 2017.
    """
    if channels is None:
        channels = int(x.shape[1]) if x.dim() == 4 else 3
    nll = MIXTURE_LOGISTICS_NLL(params, x, channels, backend=backend)
    return reduced("mixture_logistics_nll", nll, reduction)


def mixture_logistics_sample(
    params: Tensor,
    channels: int = 3,
    seed: int = 0,
    temperature: float = 1.0,
    noise: Tensor | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Levels drawn from a discretised mixture of logistics, with the probabilities of the loss.

    Args:
        params: as :func:`mixture_logistics_nll` takes them: ``[N, 10 * K, H, W]`` for three colours,
            ``[N, 3 * K, H, W]`` for one; fp16, bf16, fp32 or fp64.
        channels: colours of a pixel, 3 or 1.
        seed: the noise is a function of it, of the image's number in the batch and of the pixel's place in the image:
            the same on every device.
        temperature: logits are divided by it and scales multiplied; positive.
        noise: numbers in (0, 1), float32 ``[N, 1 + channels, H, W]``, in place of those made from the seed: the first
            chooses the component, the others the colours.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        uint8 ``[N, channels, H, W]``; ``levels / 127.5 - 1`` is what networks take. The same levels on every backend.
        A level whose mean or log-scale is NaN is 0. No gradient.

    Raises:
        RuntimeError: a wrong rank, shape, dtype or device, or a temperature that is not positive.

    Example:
        >>> import torch, gencv_fast
        >>> params = torch.full((1, 3, 1, 4), -5.0)
        >>> params[:, 1] = torch.tensor([-1.0, 0.0, 0.5, 1.0])
        >>> gencv_fast.mixture_logistics_sample(params, channels=1, seed=1)
        tensor([[[[  2, 129, 191, 252]]]], dtype=torch.uint8)

    Papers: Salimans et al., *PixelCNN++*, ICLR 2017; Salmon et al., *Parallel Random Numbers: As Easy as 1, 2, 3*,
    2011, for the noise.
    """
    return MIXTURE_LOGISTICS_SAMPLE(params, channels, seed, temperature, noise, backend=backend)
