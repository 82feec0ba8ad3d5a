"""What the sampler executes: values, the instructions that make them, and their form as a list of integers.

Lines and the pixels of a line are counted in the order in which pixels are drawn; a pixel is drawn in one step, or in
one for each colour. Channels of a value are sorted by the step in which they are known.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class UnfitError(ValueError):
    """Why numbers are no program, or none for these tensors."""


def require_fit(condition: bool, why: str) -> None:
    if not condition:
        raise UnfitError(why)


class _Reader:
    """Takes numbers one after another, in the order in which the compiled kernels read them."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers, self.at = numbers, 0

    def take(self, count: int) -> tuple[int, ...]:
        require_fit(0 <= count <= len(self.numbers) - self.at, "it ends early")
        self.at += count
        return tuple(self.numbers[self.at - count : self.at])

    def program(self) -> Program:
        colours, steps, lines, pixels, head, mixtures, image, params, value_count, instruction_count = self.take(10)
        require_fit(colours > 0 and steps in (1, colours), "its steps are wrong")
        require_fit(0 <= head < len(Head), "its head is none")
        require_fit(all(0 <= n <= len(self.numbers) for n in (value_count, instruction_count)), "its counts are wrong")
        values = tuple(self._value(steps) for _ in range(value_count))
        instructions = tuple(self._instruction(steps) for _ in range(instruction_count))
        require_fit(self.at == len(self.numbers), "it goes on behind its end")
        return Program(colours, steps, lines, pixels, Head(head), mixtures, image, params, values, instructions)

    def _value(self, steps: int) -> Value:
        tier, kept_lines, tensor = self.take(3)
        require_fit(0 <= tier < len(Tier), "a tier is none")
        return Value(Tier(tier), self.take(steps + 1), kept_lines, tensor)

    def _instruction(self, steps: int) -> Instruction:
        kind, output, activation, weight, bias, input_count = self.take(6)
        require_fit(0 <= kind < len(Kind), "an instruction is none")
        require_fit(0 <= activation < len(ACTIVATIONS), "an activation is none")
        inputs = self.take(input_count)
        tap_count, source_count = self.take(2)
        require_fit(all(0 <= n <= len(self.numbers) for n in (tap_count, source_count)), "it ends early")
        taps = []
        for _ in range(tap_count):
            line, pixel, *limits = self.take(2 + steps)
            taps.append(Tap(line, pixel, tuple(limits)))
        pairs = self.take(2 * source_count)
        sources = tuple(zip(pairs[::2], pairs[1::2], strict=True))
        return Instruction(Kind(kind), output, inputs, ACTIVATIONS[activation], weight, bias, tuple(taps), sources)


def decode(numbers: Sequence[int]) -> Program:
    """The inverse of `encode`; raises UnfitError."""
    return _Reader(numbers).program()


def starts_of(colours: Sequence[int], steps: int) -> tuple[int, ...]:
    """Of channels that are sorted by the step in which they are known."""
    return (0, *accumulate(sum(c == step for c in colours) for step in range(steps)))
