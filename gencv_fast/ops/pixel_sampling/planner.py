"""The parts of a sampler's program: values by the time at which they are known, and what makes them.

Every convolution is turned into taps that count lines and pixels in the order of drawing, so one program serves the
eight raster orders.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...nn.masked_conv import MaskedConv2d
from ...nn.mixture import Bernoulli, MixtureLogistics, Softmax256
from ..masked_conv.reference import ALL, EARLIER, HIDDEN
from ..masked_conv.taps import in_order, tap_rules
from .orders import in_line_shape, to_lines
from .program import Head, Instruction, Kind, Program, Tap, Tier, Value, starts_of

HEADS = {MixtureLogistics: Head.MIXTURE, Softmax256: Head.SOFTMAX, Bernoulli: Head.BERNOULLI}


def refuse(reason: str) -> RuntimeError:
    return RuntimeError(f"sample: {reason}.")


@dataclass(frozen=True)
class Known:
    """A value by number, with the order of its channels: which of the model's own stands where, known in which step."""

    number: int
    order: tuple[int, ...]
    colours: tuple[int, ...]  # by the model's own channels


@dataclass(frozen=True)
class Plan:
    program: Program
    tensors: tuple[Tensor, ...]


def _sorted_by(colours: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(colours)), key=lambda c: colours[c]))


class Planner:
    """Values and the instructions that make them, and when each is known; `name` is what refusals speak of."""

    def __init__(
        self, model: nn.Module, head: nn.Module, images: int, shape: Sequence[int], dtype: torch.dtype
    ) -> None:
        self.model, self.head, self.images, self.dtype = model, head, images, dtype
        self.colours, self.height, self.width = shape
        convolutions = [m for m in model.modules() if isinstance(m, MaskedConv2d)]
        if not convolutions:
            raise refuse("the model has no MaskedConv2d, so nothing says in which order it draws")
        orderings = {m.ordering for m in convolutions if max(m.kernel_size) > 1 or any(m.shift)}
        if len(orderings) > 1:
            raise refuse(f"all layers must have one ordering, got {', '.join(sorted(orderings))}")
        self.ordering = next(iter(orderings), "raster")
        groups = {m.channel_groups for m in convolutions}
        if len(groups) > 1:
            raise refuse(f"all layers must have one number of channel_groups, got {sorted(groups)}")
        self.steps = groups.pop()
        if self.steps not in (1, self.colours):
            raise refuse(f"channel_groups must be 1 or the image's channels ({self.colours}), got {self.steps}")
        self.values: list[Value] = []
        self.instructions: list[Instruction] = []
        self.tensors: list[Tensor] = []
        self.name = ""

    # Values and tensors.

    def _tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor.detach().to(self.dtype).contiguous())
        return len(self.tensors) - 1

    def _value(self, tier: Tier, colours: Sequence[int], tensor: int = -1) -> Known:
        self.values.append(Value(tier, starts_of(colours, self.steps), tensor=tensor))
        return Known(len(self.values) - 1, _sorted_by(colours), tuple(colours))

    def _tier(self, known: Known) -> Tier:
        return self.values[known.number].tier

    def _look_back(self, known: Known, lines: int) -> None:
        value = self.values[known.number]
        self.values[known.number] = replace(value, kept_lines=max(value.kept_lines, lines + 1))

    def image(self) -> Known:
        return self._value(Tier.DRAWN, list(range(self.colours)) if self.steps > 1 else [0] * self.colours)

    def constant(self, tensor: Tensor) -> Known:
        """``[N, C]``, ``[N, C, 1, 1]`` or ``[N, C, H, W]``, or what broadcasts to one of them."""
        if tensor.shape[0] not in (1, self.images):
            raise refuse(f"{self.name} is given a condition for {tensor.shape[0]} images, and n is {self.images}")
        if tensor.dim() == 4 and tensor.shape[2:] != (1, 1):
            tensor = tensor.expand(self.images, -1, self.height, self.width)
            tensor = to_lines(tensor, self.ordering).permute(2, 3, 0, 1)
        else:
            tensor = tensor.flatten(1).expand(self.images, -1)
        return self._value(Tier.CONSTANT, [0] * tensor.shape[-1], self._tensor(tensor))

    # Instructions.

    def convolution(self, input: Known, module: nn.Conv2d, condition: Known | None) -> Known:
        if len(input.order) != module.in_channels:
            raise refuse(f"{self.name} wants {module.in_channels} channels and gets {len(input.order)}")
        rules, activation, halves, shift, groups = self._geometry(module)
        seen = self._seen(module, rules, shift, groups)
        tier = max((self._tier_of_tap(input, at, rule) for at, rule, _ in seen), default=Tier.LINE_START)
        if condition is not None:
            tier = max(tier, self._tier(condition))
        colours = self._output_colours(module, halves, groups)
        taps = tuple(Tap(*at, self._limits(input, at, rule, groups, tier)) for at, rule, _ in seen)
        output = self._value(tier, self._activated_colours(colours, activation))
        self._look_back_for(input, taps)
        order, columns = torch.tensor(_sorted_by(colours)), torch.tensor(input.order)
        weight = module.weight.detach().flatten(2)[order][:, columns].permute(2, 1, 0)  # [taps, C, O]
        inputs = [input] if condition is None else [input, self._in_order(condition, colours)]
        self.instructions.append(
            Instruction(
                Kind.CONVOLUTION,
                output.number,
                tuple(v.number for v in inputs),
                activation,
                self._tensor(weight[[index for _, _, index in seen]]),
                -1 if module.bias is None else self._tensor(module.bias.detach()[order]),
                taps,
            )
        )
        return output

    def _seen(
        self, module: nn.Conv2d, rules: Sequence[int], shift: Sequence[int], groups: int
    ) -> list[tuple[tuple[int, int], int, int]]:
        """Of each tap that shows something: how many lines and pixels further it looks, its rule and its number."""
        found = []
        for index, rule in enumerate(rules):
            row, column = divmod(index, module.kernel_size[1])
            dy = (row - module.kernel_size[0] // 2) * module.dilation[0] - shift[0]
            dx = (column - module.kernel_size[1] // 2) * module.dilation[1] - shift[1]
            if rule != HIDDEN and not (rule == EARLIER and groups == 1):
                found.append((in_order(self.ordering, dy, dx), rule, index))
        return found

    def _geometry(self, module: nn.Conv2d) -> tuple[list[int], str, int, Sequence[int], int]:
        """Rules of the taps, activation, halves, shift and groups."""
        if isinstance(module, MaskedConv2d):
            rules = tap_rules(module.mask_type, module.kernel_size, module.ordering, module.order)
            gate = module.activation == "gate"
            halves = (2 if gate else 1) if module.halves is None else module.halves
            return rules, module.activation, halves, module.shift, module.channel_groups
        keeps_size = module.padding in ("same", "valid", (0, 0)) and module.stride == (1, 1)
        if module.kernel_size != (1, 1) or module.groups != 1 or not keeps_size:
            raise refuse(f"{self.name} is a convolution without a mask; only 1 x 1 ones look at no other pixel")
        return [ALL], "none", 1, (0, 0), 1

    def _tier_of_tap(self, input: Known, at: tuple[int, int], rule: int) -> Tier:
        """When a place can have what it sees at this tap."""
        tier, (line, pixel) = self._tier(input), at
        if line < 0:
            return Tier.LINE_START
        if line > 0:
            raise refuse(f"{self.name} sees lines that are drawn later in the order {self.ordering!r}")
        if tier in (Tier.LINE_START, Tier.LINE_END):
            return tier
        if pixel > 0:
            return Tier.LINE_END
        return Tier.PIXEL if pixel < 0 or rule == EARLIER else tier

    def _limits(self, input: Known, at: tuple[int, int], rule: int, groups: int, tier: Tier) -> tuple[int, ...]:
        """How many of the input's channels each step sees."""
        channels = len(input.order)
        seen = [c * groups // max(channels, 1) for c in input.order]
        if rule == ALL or groups == 1:
            limits = (channels,) * self.steps
        elif seen == sorted(seen):
            limits = tuple(sum(c < step + (rule != EARLIER) for c in seen) for step in range(self.steps))
        else:
            raise refuse(f"{self.name} takes the channels of its input for other colours than they are")
        in_steps = {tier, self._tier(input)} <= {Tier.PIXEL, Tier.DRAWN}
        if at == (0, 0) and in_steps and groups > 1:
            late = rule == EARLIER and self._tier(input) == Tier.DRAWN
            known = self.values[input.number].starts
            if any(limit > known[step if late else step + 1] for step, limit in enumerate(limits)):
                raise refuse(f"{self.name} sees colours of its pixel that are drawn later")
        return limits

    def _output_colours(self, module: nn.Conv2d, halves: int, groups: int) -> list[int]:
        if groups == 1:
            return [self.steps - 1] * module.out_channels
        half = module.out_channels // halves
        return [c % half * groups // half for c in range(module.out_channels)]

    @staticmethod
    def _activated_colours(colours: Sequence[int], activation: str) -> list[int]:
        if activation == "gate":
            return list(colours[: len(colours) // 2])
        return [*colours, *colours] if activation == "concat_elu" else list(colours)

    def _look_back_for(self, input: Known, taps: Sequence[Tap]) -> None:
        """Lines are kept where other pixels are looked at."""
        away = [tap.line for tap in taps if (tap.line, tap.pixel) != (0, 0)]
        if away:
            self._look_back(input, -min(away))

    def _look_back_at_line_ends(self) -> None:
        """Also where a pixel is looked at only when its line has ended."""
        for instruction in self.instructions:
            if self.values[instruction.output].tier == Tier.LINE_END:
                for number in instruction.inputs:
                    if self.values[number].tier in (Tier.PIXEL, Tier.DRAWN):
                        value = self.values[number]
                        self.values[number] = replace(value, kept_lines=max(1, value.kept_lines))

    def activation(self, input: Known, activation: str) -> Known:
        if activation == "none":
            return input
        colours = self._activated_colours(input.colours, activation)
        output = self._value(self._tier(input), colours)
        self.instructions.append(Instruction(Kind.ACTIVATION, output.number, (input.number,), activation))
        return output

    def pair(self, kind: Kind, a: Known, b: Known) -> Known:
        if len(a.colours) != len(b.colours):
            raise refuse(f"{self.name} joins values of {len(a.colours)} and {len(b.colours)} channels")
        self._require_one_time(a, b)
        colours = tuple(map(max, a.colours, b.colours))
        output = self._value(max(self._tier(a), self._tier(b)), colours)
        inputs = tuple(self._in_order(v, colours).number for v in (a, b))
        self.instructions.append(Instruction(kind, output.number, inputs))
        return output

    def copy(self, inputs: Sequence[Known], sources: Sequence[tuple[int, int]], colours: Sequence[int]) -> Known:
        """``sources``: an input and the model's own channel of it, for each of the output."""
        self._require_one_time(*inputs)
        output = self._value(max(map(self._tier, inputs)), colours)
        places = [{channel: i for i, channel in enumerate(v.order)} for v in inputs]
        inner = tuple((which, places[which][channel]) for which, channel in (sources[c] for c in output.order))
        self.instructions.append(Instruction(Kind.COPY, output.number, tuple(v.number for v in inputs), sources=inner))
        return output

    def _in_order(self, known: Known, colours: Sequence[int]) -> Known:
        """The value, or a copy, whose channels are sorted as these colours have them."""
        if known.order == _sorted_by(colours):
            return known
        if self._tier(known) == Tier.CONSTANT:
            tensor = self.tensors[self.values[known.number].tensor]
            order = torch.tensor([known.order.index(c) for c in _sorted_by(colours)], device=tensor.device)
            return self._value(Tier.CONSTANT, colours, self._tensor(tensor[..., order]))
        return self.copy([known], [(0, c) for c in range(len(colours))], colours)

    def _require_one_time(self, *inputs: Known) -> None:
        tiers = {self._tier(v) for v in inputs} - {Tier.CONSTANT, Tier.LINE_START}
        if len(tiers) > 1 and Tier.LINE_END in tiers:
            raise refuse(f"{self.name} joins values of a whole line with those of single pixels")

    def concatenation(self, inputs: Sequence[Known]) -> Known:
        """Two at a time, as a copy takes them."""
        return functools.reduce(lambda a, b: self._joined((a, b)), inputs)

    def _joined(self, inputs: Sequence[Known]) -> Known:
        sources = [(which, c) for which, v in enumerate(inputs) for c in range(len(v.colours))]
        return self.copy(inputs, sources, [c for v in inputs for c in v.colours])

    def channels(self, input: Known, first: int, last: int) -> Known:
        return self.copy([input], [(0, c) for c in range(first, last)], input.colours[first:last])

    # The whole.

    def finish(self, image: Known, params: Any) -> Plan:
        if not isinstance(params, Known):
            raise refuse("the model must return the head's params, one tensor")
        wanted = self.head.params_per_pixel
        if len(params.colours) != wanted:
            raise refuse(f"the head wants {wanted} params for a pixel, the model gives {len(params.colours)}")
        if self.head.channels != self.colours:
            raise refuse(f"the head has {self.head.channels} colours, the image {self.colours}")
        head = HEADS[type(self.head)]
        if self._tier(params) in (Tier.DRAWN, Tier.LINE_END):
            raise refuse("what the model returns for a pixel depends on that pixel, or on later ones")
        if self.steps > 1:
            self._require_colours(head, params)
        self._look_back_at_line_ends()
        program = Program(
            self.colours,
            self.steps,
            *in_line_shape(self.height, self.width, self.ordering),
            head,
            getattr(self.head, "mixtures", 0),
            image.number,
            params.number,
            tuple(self.values),
            tuple(self.instructions),
        )
        return Plan(program, tuple(self.tensors))

    def _require_colours(self, head: Head, params: Known) -> None:
        if head == Head.MIXTURE:
            raise refuse("a mixture draws all colours of a pixel at once, so channel_groups must be 1")
        each = len(params.colours) // self.colours
        if any(colour > c // each for c, colour in enumerate(params.colours)):
            raise refuse("the params of a colour depend on that colour, or on later ones")
        if list(params.colours) != sorted(params.colours):
            raise refuse("the params must lie by colours")
