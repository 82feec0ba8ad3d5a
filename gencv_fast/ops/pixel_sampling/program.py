"""What the sampler executes: values, the instructions that make them, and their form as a list of integers.

Lines and the pixels of a line are counted in the order in which pixels are drawn; a pixel is drawn in one step, or in
one for each colour. Channels of a value are sorted by the step in which they are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate


class Tier(IntEnum):
    """When a value is known, at a place of its own line."""

    CONSTANT = 0
    LINE_START = 1  # before the first pixel of the line is drawn
    PIXEL = 2  # in a pixel's step, before it draws
    DRAWN = 3  # in a pixel's step, after it has drawn
    LINE_END = 4  # after the last pixel of the line


class Kind(IntEnum):
    CONVOLUTION = 0
    ACTIVATION = 1
    ADD = 2
    MULTIPLY = 3
    COPY = 4


class Head(IntEnum):
    SOFTMAX = 0
    MIXTURE = 1
    BERNOULLI = 2


#: What is done to sums, by the number that stands for it.
ACTIVATIONS = ("none", "relu", "elu", "concat_elu", "gate", "tanh", "sigmoid")


@dataclass(frozen=True)
class Value:
    """
    Attributes:
        tier: when it is known.
        starts: the first channel of each step, and the number of all channels.
        kept_lines: how many lines later instructions look back over, the line itself among them; 0 where they look
            at the pixel alone.
        tensor: of a constant, ``[N, C]`` or ``[lines, pixels, N, C]``; -1 for others.
    """

    tier: Tier
    starts: tuple[int, ...]
    kept_lines: int = 0
    tensor: int = -1

    @property
    def channels(self) -> int:
        return self.starts[-1]


@dataclass(frozen=True)
class Tap:
    """Input channels [0, limits[step]) at so many lines and pixels from the place, weighed by weight[index]."""

    line: int
    pixel: int
    limits: tuple[int, ...]


@dataclass(frozen=True)
class Instruction:
    """
    Attributes:
        kind: what is done.
        output: number of the value that is made, in the tier of that value.
        inputs: numbers of values. A convolution has one, or a second one that is added to its sums.
        activation: of a convolution's sums, or of the input.
        weight, bias: numbers of tensors, ``[taps, C, O]`` and ``[O]``; -1 for none.
        taps: of a convolution.
        sources: of a copy, for each output channel the input, counted from 0, and its channel.
    """

    kind: Kind
    output: int
    inputs: tuple[int, ...]
    activation: str = "none"
    weight: int = -1
    bias: int = -1
    taps: tuple[Tap, ...] = ()
    sources: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Program:
    colours: int
    steps: int
    lines: int
    pixels: int
    head: Head
    mixtures: int
    image: int
    params: int
    values: tuple[Value, ...]
    instructions: tuple[Instruction, ...] = field(default=())

    def kept(self) -> list[int]:
        """The values of which whole lines are kept from call to call."""
        return [i for i, v in enumerate(self.values) if v.kept_lines and v.tier != Tier.CONSTANT]

    def state_sizes(self, images: int) -> list[tuple[int, int, int, int]]:
        """``[kept lines, pixels, images, channels]`` of each value that is kept, in the order in which they lie."""
        kept = (self.values[i] for i in self.kept())
        return [(v.kept_lines, self.pixels, images, v.channels) for v in kept]

    def state_numel(self, images: int) -> int:
        return sum(lines * pixels * n * channels for lines, pixels, n, channels in self.state_sizes(images))


def encode(p: Program) -> list[int]:
    numbers = [p.colours, p.steps, p.lines, p.pixels, p.head, p.mixtures, p.image, p.params]
    numbers += [len(p.values), len(p.instructions)]
    for v in p.values:
        numbers += [v.tier, v.kept_lines, v.tensor, *v.starts]
    for i in p.instructions:
        numbers += [i.kind, i.output, ACTIVATIONS.index(i.activation), i.weight, i.bias]
        numbers += [len(i.inputs), *i.inputs, len(i.taps), len(i.sources)]
        for tap in i.taps:
            numbers += [tap.line, tap.pixel, *tap.limits]
        for source in i.sources:
            numbers += source
    return [int(n) for n in numbers]


def decode(numbers: Sequence[int]) -> Program:
    rest = iter(numbers)
    colours, steps, lines, pixels, head, mixtures, image, params, value_count, instruction_count = _take(rest, 10)
    values = tuple(_value(rest, steps) for _ in range(value_count))
    instructions = tuple(_instruction(rest, steps) for _ in range(instruction_count))
    return Program(colours, steps, lines, pixels, Head(head), mixtures, image, params, values, instructions)


def _take(numbers: Iterator[int], count: int) -> tuple[int, ...]:
    return tuple(next(numbers) for _ in range(count))


def _value(rest: Iterator[int], steps: int) -> Value:
    tier, kept_lines, tensor, *starts = _take(rest, 3 + steps + 1)
    return Value(Tier(tier), tuple(starts), kept_lines, tensor)


def _instruction(rest: Iterator[int], steps: int) -> Instruction:
    kind, output, activation, weight, bias, input_count = _take(rest, 6)
    inputs = _take(rest, input_count)
    tap_count, source_count = _take(rest, 2)
    taps = []
    for _ in range(tap_count):
        line, pixel, *limits = _take(rest, 2 + steps)
        taps.append(Tap(line, pixel, tuple(limits)))
    sources = tuple((_take(rest, 1)[0], _take(rest, 1)[0]) for _ in range(source_count))
    return Instruction(Kind(kind), output, inputs, ACTIVATIONS[activation], weight, bias, tuple(taps), sources)


def starts_of(colours: Sequence[int], steps: int) -> tuple[int, ...]:
    """Of channels that are sorted by the step in which they are known."""
    return (0, *accumulate(sum(c == step for c in colours) for step in range(steps)))
