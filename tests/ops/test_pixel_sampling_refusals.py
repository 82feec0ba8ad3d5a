"""What the sampler cannot cache is refused with a reason, and a program that means nothing alike everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gencv_fast
from gencv_fast._dispatch import OPS
from gencv_fast.nn import Bernoulli, MaskedConv2d, MixtureLogistics
from tests.harness.backends import cpu_runners
from tests.harness.samples import samples
from tests.harness.transforms import message_of

LINES = OPS["pixel_sampling_lines"]


class Called(nn.Module):
    """A masked convolution and what a test does with its output."""

    def __init__(self, then: Callable[[Tensor, Tensor], Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.first, self.then, self.others = MaskedConv2d("A", 1, 2, 3), then, nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.first(x), x)


def _in_place(h: Tensor, x: Tensor) -> Tensor:
    return functional.relu(h, inplace=True) + h


def _in_place_by_position(h: Tensor, x: Tensor) -> Tensor:
    return functional.relu(h, True) + h


def _part_in_place(h: Tensor, x: Tensor) -> Tensor:
    first, _ = h.chunk(2, 1)
    first += 1
    return h


class OwnForward(MaskedConv2d):
    def forward(self, input: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(input).mean(1, keepdim=True)


class ByCases(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d("A", 1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) if x.sum() > 0 else x


def _sequential(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "no mask": (_sequential(nn.Conv2d(1, 1, 1)), "the model has no MaskedConv2d"),
    "3 x 3 without a mask": (
        _sequential(MaskedConv2d("A", 1, 2, 3), nn.Conv2d(2, 1, 3, padding=1)),
        "1 is a convolution without a mask; only 1 x 1 ones look at no other pixel",
    ),
    "orderings": (
        _sequential(MaskedConv2d("A", 1, 2, 3), MaskedConv2d("B", 2, 1, 3, ordering="columns")),
        "all layers must have one ordering, got columns, raster",
    ),
    "groups": (
        _sequential(MaskedConv2d("A", 1, 3, 3), MaskedConv2d("B", 3, 3, 3, channel_groups=3)),
        "all layers must have one number of channel_groups",
    ),
    "sees itself": (_sequential(MaskedConv2d("B", 1, 1, 3)), "depends on that pixel, or on later ones"),
    "sees later lines": (
        _sequential(MaskedConv2d("A", 1, 1, 3), MaskedConv2d("B", 1, 1, 3, shift=(-2, 0))),
        "1 sees lines that are drawn later in the order 'raster'",
    ),
    "normalised": (_sequential(MaskedConv2d("A", 1, 1, 3), nn.BatchNorm2d(1)), r"1 \(BatchNorm2d\) has no cached form"),
    "elu of another alpha": (_sequential(MaskedConv2d("A", 1, 1, 3), nn.ELU(0.5)), r"1 \(ELU\) has no cached form"),
    "function of another alpha": (
        Called(lambda h, x: functional.elu(h, alpha=0.5)),
        "elu with an alpha other than 1",
    ),
    "mean": (Called(lambda h, x: h.mean(1, keepdim=True)), "mean of what depends on the image has no cached form"),
    "in place": (Called(_in_place), "relu changes in place what is used elsewhere too"),
    "in place by position": (Called(_in_place_by_position), "relu changes in place what is used elsewhere too"),
    "a part in place": (Called(_part_in_place), "iadd changes in place what is used elsewhere too"),
    "a subclass of its own": (_sequential(OwnForward("A", 1, 2, 3)), "torch.fx cannot trace the model"),
    "by cases": (ByCases(), "torch.fx cannot trace the model: symbolically traced variables"),
    "padded": (
        _sequential(MaskedConv2d("A", 1, 2, 3), nn.Conv2d(2, 1, 1, padding=1)),
        "1 is a convolution without a mask",
    ),
    "every second channel": (Called(lambda h, x: h[:, ::2]), "getitem of what depends on the image has no cached"),
    "a line of pixels": (Called(lambda h, x: h[:, :1, 1:]), "getitem of what depends on the image has no cached"),
    "quotient": (Called(lambda h, x: 1 / h), "truediv of what depends on the image has no cached form"),
    "channels": (_sequential(MaskedConv2d("A", 1, 2, 3), MaskedConv2d("B", 3, 1, 1)), "1 wants 3 channels and gets 2"),
    "params": (_sequential(MaskedConv2d("A", 1, 2, 3)), "the head wants 1 params for a pixel, the model gives 2"),
    "image": (Called(lambda h, x: torch.cat((h, x), 1)), "depends on that pixel, or on later ones|the head wants 1"),
    "no params": (Called(lambda h, x: (h, h)), "the model must return the head's params, one tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_a_reason(name: str) -> None:
    model, reason = REFUSED[name]
    with pytest.raises(RuntimeError, match=f"^sample: .*{reason}"):
        gencv_fast.sample(model, (1, 4, 4), head=Bernoulli())


def test_refuses_colours_out_of_order() -> None:
    """The gate's input, taken for another number of halves than it has."""
    crooked = nn.Sequential(
        MaskedConv2d("A", 3, 12, 3, channel_groups=3, halves=2), MaskedConv2d("B", 12, 3, 1, channel_groups=3)
    )
    with pytest.raises(RuntimeError, match="takes the channels of its input for other colours than they are"):
        gencv_fast.sample(crooked, (3, 4, 4), head=Bernoulli(3))
    mixed = nn.Sequential(MaskedConv2d("A", 3, 30, 3, channel_groups=3))
    with pytest.raises(RuntimeError, match="channel_groups must be 1"):
        gencv_fast.sample(mixed, (3, 4, 4), head=MixtureLogistics(3))


def refusal(*args: Any) -> str | None:
    try:
        LINES.check(*args)
    except RuntimeError as error:
        return str(error)
    return None


def test_any_numbers_are_refused_alike() -> None:
    """A program with some numbers changed runs on every backend, or is refused by all in the same words."""
    generator = torch.Generator().manual_seed(0)
    refused = ran = 0
    for sample in samples(LINES.name, torch.float32)[:14]:
        numbers = sample.args[5]
        for _ in range(40):
            place = int(torch.randint(len(numbers), (), generator=generator))
            to = (-1, 0, 1, 2, 3, 7, 2**20, 2**62, -(2**63))[int(torch.randint(9, (), generator=generator))]
            args = *sample.args[:5], [*numbers[:place], to, *numbers[place + 1 :]], *sample.args[6:]
            if (reason := refusal(*args)) is None:
                LINES(*args, backend="cpu")
                ran += 1
            else:
                assert message_of(cpu_runners()[-1], LINES, *args) == reason, (sample.name, place, to)
                refused += 1
    assert refused > 200
    assert ran > 20
