"""Images drawn pixel by pixel from an autoregressive model, every activation computed once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..mixture.reference import pixel_noise
from .contract import PIXEL_SAMPLING_LINES
from .orders import from_lines, to_lines
from .plan import make_plan
from .planner import HEADS, Plan, refuse
from .program import Head, encode

__all__ = ["cache_bytes", "sample"]

#: A native call cannot be interrupted; it takes about so many seconds.
_SECONDS_PER_CALL = 0.2
_SECONDS_WITHOUT_BAR = 1.0


def sample(
    model: nn.Module,
    shape: Sequence[int],
    n: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    given: Tensor | None = None,
    progress: bool = True,
    *,
    head: nn.Module | None = None,
    condition: Any = None,
    backend: str | None = None,
) -> Tensor:
    """Draws images from an autoregressive model, with every activation computed once.

    The model's layers are read from its graph; whole lines, or a few pixels, of what later pixels look at are kept.
    The images are those that drawing pixel by pixel with the whole model would give.

    Args:
        model: called as ``model(x)`` or ``model(x, condition)``; made of :class:`gencv_fast.nn.MaskedConv2d` (so
            :class:`gencv_fast.nn.GatedMaskedConv2d` too), 1 x 1 convolutions, activations, sums, products, chunks and
            concatenations, in any arrangement. It returns the params of the head and takes images in [-1, 1]
            (``levels / 127.5 - 1``), or 0 and 1 where the head is :class:`gencv_fast.nn.Bernoulli`.
        shape: ``(channels, height, width)`` of an image.
        n: how many images.
        temperature: as of the head's ``sample``; positive.
        seed: of the noise, which is a function of it, of the image's number and of the pixel's place.
        given: integers ``[n or 1, channels, height, width]``: levels of pixels that are known, and -1 for those to be
            drawn; of a mixture's pixels all colours or none. None draws all.
        progress: shows a bar when drawing takes longer than a second.
        head: what draws levels; None takes ``model.head``, or the last module of a Sequential.
        condition: the model's second argument, for n images.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"``, or ``None`` to choose.

    Returns:
        uint8 ``[n, channels, height, width]``, on the model's device. When interrupted (Ctrl-C), what has been drawn
        so far, with a warning that says how much; pixels not yet drawn are 0.

    Raises:
        RuntimeError: a layer that cannot be cached, with its name and the reason; a wrong shape or a level that is
            not one.

    Example:
        >>> import torch, gencv_fast
        >>> from gencv_fast.nn import Bernoulli, MaskedConv2d
        >>> model = torch.nn.Sequential(
        ...     MaskedConv2d("A", 1, 8, 3), torch.nn.ReLU(), MaskedConv2d("B", 8, 1, 3), Bernoulli())
        >>> gencv_fast.sample(model, (1, 4, 4), n=2, seed=1).shape
        torch.Size([2, 1, 4, 4])

    Papers: Ramachandran et al., *Fast Generation for Convolutional Autoregressive Models*, 2017; van den Oord et al.,
    *Pixel Recurrent Neural Networks*, ICML 2016.
    """
    drawing = _Drawing(model, shape, n, seed, given, head, condition, backend)
    return drawing.run(temperature, progress)


def cache_bytes(
    model: nn.Module,
    shape: Sequence[int],
    n: int = 1,
    head: nn.Module | None = None,
    condition: Any = None,
) -> int:
    """The bytes that :func:`sample` keeps between pixels: of each layer, width x kept lines x channels x images.

    Args:
        model, shape, n, head, condition: as of :func:`sample`.

    Raises:
        RuntimeError: a model that cannot be cached.

    Example:
        >>> import torch, gencv_fast
        >>> from gencv_fast.nn import Bernoulli, MaskedConv2d
        >>> model = torch.nn.Sequential(MaskedConv2d("A", 1, 8, 3), MaskedConv2d("B", 8, 1, 3), Bernoulli())
        >>> gencv_fast.cache_bytes(model, (1, 28, 28))  # 2 lines of 28 pixels of 1 + 8 channels in fp32
        2016
    """
    network, head = _split(model, head)
    plan, _ = make_plan(network, head, n, shape, _dtype_of(network), condition)
    return plan.program.state_numel(n) * (8 if _dtype_of(network) == torch.float64 else 4)


def _split(model: nn.Module, head: nn.Module | None) -> tuple[nn.Module, Any]:
    """The network and its head."""
    if head is None and isinstance(model, nn.Sequential) and len(model) and type(model[-1]) in HEADS:
        return model[:-1], model[-1]
    head = getattr(model, "head", None) if head is None else head
    if type(head) not in HEADS:
        names = ", ".join(kind.__name__ for kind in HEADS)
        raise refuse(f"head must be one of {names}, got {type(head).__name__}")
    return model, head


def _dtype_of(network: nn.Module) -> torch.dtype:
    """fp16 and bf16 are sampled in fp32."""
    wide = any(p.dtype == torch.float64 for p in network.parameters())
    return torch.float64 if wide else torch.float32


class _Drawing:
    """One call of `sample`: the plan, and tensors whose lines stand in the order of drawing."""

    def __init__(
        self,
        model: nn.Module,
        shape: Sequence[int],
        n: int,
        seed: int,
        given: Tensor | None,
        head: nn.Module | None,
        condition: Any,
        backend: str | None,
    ) -> None:
        if len(shape) != 3 or min(shape) < 1 or n < 0:
            raise refuse(f"shape must be three positive numbers and n not negative, got {tuple(shape)} and {n}")
        network, head = _split(model, head)
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        plan, self.ordering = make_plan(network, head, n, shape, _dtype_of(network), condition)
        self.plan: Plan = plan
        self.backend = backend
        numbers = shape[0] + (plan.program.head == Head.MIXTURE)
        noise = pixel_noise(seed, n, numbers, shape[1], shape[2], device)
        self.noise = to_lines(noise, self.ordering).contiguous()
        levels, known = self._given(given, n, shape, device)
        self.levels = to_lines(levels, self.ordering).contiguous()
        self.known = to_lines(known, self.ordering).contiguous()
        self.state = torch.zeros(plan.program.state_numel(n), dtype=_dtype_of(network), device=device)

    def _given(self, given: Tensor | None, n: int, shape: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        if given is None:
            levels = torch.zeros(n, *shape, dtype=torch.uint8, device=device)
            return levels, torch.zeros_like(levels, dtype=torch.bool)
        if given.dim() != 4 or given.shape[0] not in (1, n) or list(given.shape[1:]) != list(shape):
            raise refuse(f"given must be [{n} or 1, {', '.join(map(str, shape))}], got {list(given.shape)}")
        if given.is_floating_point() or given.dtype == torch.bool:
            raise refuse(f"given must be integers, got {given.dtype}")
        given = given.to(device).expand(n, *shape)
        most = 1 if self.plan.program.head == Head.BERNOULLI else 255
        if given.numel() and (given.to(torch.int64).max() > most or given.to(torch.int64).min() < -1):
            raise refuse(f"given must lie in [-1, {most}]")
        known = given >= 0
        if self.plan.program.head == Head.MIXTURE and (known != known[:, :1]).any():
            raise refuse("a mixture draws all colours of a pixel at once, so given must give all of them or none")
        return torch.where(known, given, 0).to(torch.uint8), known

    def run(self, temperature: float, progress: bool) -> Tensor:
        done, lines = 0, self.plan.program.lines
        program = encode(self.plan.program)
        count = 1
        try:
            with _progress_bar(lines, progress) as show:
                while done < lines:
                    started = time.perf_counter()
                    count = min(count, lines - done)
                    self.levels, self.state, _ = PIXEL_SAMPLING_LINES(
                        self.levels,
                        self.known,
                        self.noise,
                        self.state,
                        list(self.plan.tensors),
                        program,
                        done,
                        count,
                        temperature,
                        backend=self.backend,
                    )
                    done += count
                    show(done)
                    seconds = time.perf_counter() - started
                    count = max(1, int(count * min(2.0, _SECONDS_PER_CALL / max(seconds, 1e-9))))
        except KeyboardInterrupt:
            warnings.warn(f"sample: interrupted, {done} of {lines} lines are drawn.", stacklevel=3)
            self.levels[:, :, done:] = 0
        return from_lines(self.levels, self.ordering).contiguous()


@contextmanager
def _progress_bar(lines: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Shown only when it is worth it."""
    with ExitStack() as stack:
        started, bar = time.perf_counter(), None

        def show(done: int) -> None:
            nonlocal bar
            if wanted and bar is None and time.perf_counter() - started > _SECONDS_WITHOUT_BAR:
                from rich.progress import Progress

                bar = stack.enter_context(Progress(transient=True))
                bar.add_task("sampling", total=lines)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)

        yield show
