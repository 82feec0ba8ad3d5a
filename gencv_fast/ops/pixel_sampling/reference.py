"""The room's truth: the program executed pixel by pixel in plain PyTorch, one small product for each tap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import elu

from ..mixture.heads import bernoulli_sample, softmax_sample
from ..mixture.reference import mixture_logistics_sample, values_of
from .program import Head, Instruction, Kind, Program, Tier, decode


def activated(x: Tensor, activation: str) -> Tensor:
    """``[N, C]``"""
    if activation == "gate":
        a, b = x.chunk(2, 1)
        return torch.tanh(a) * torch.sigmoid(b)
    if activation == "concat_elu":
        return torch.cat((elu(x), elu(-x)), 1)
    if activation == "elu":
        return elu(x)
    return x if activation == "none" else getattr(torch, activation)(x)


class _Sampler:
    """Lines of values by number: ``maps[value][line % kept, pixel]`` is ``[N, C]``."""

    def __init__(self, program: Program, levels: Tensor, state: Tensor, tensors: Sequence[Tensor]) -> None:
        self.program, self.levels = program, levels
        self.tensors = [t.to(state.dtype) for t in tensors]
        images = len(levels)
        kept = program.kept()
        sizes = program.state_sizes(images)
        pieces = state.split([torch.Size(size).numel() for size in sizes])
        self.maps = {v: piece.view(size) for v, piece, size in zip(kept, pieces, sizes, strict=True)}
        for i, value in enumerate(program.values):
            if value.tier == Tier.CONSTANT:
                tensor = self.tensors[value.tensor]
                self.maps[i] = tensor.expand(program.lines, program.pixels, *tensor.shape[-2:])
            elif i not in self.maps:
                self.maps[i] = state.new_zeros(1, program.pixels, images, value.channels)

    def at(self, value: int, line: int, pixel: int) -> Tensor:
        lines = self.maps[value]
        return lines[line % len(lines), pixel]

    def run(self, tier: Tier, line: int, pixel: int, step: int) -> None:
        for instruction in self.program.instructions:
            if self.program.values[instruction.output].tier == tier:
                self._execute(instruction, line, pixel, step)

    def run_line(self, tier: Tier, line: int) -> None:
        """Instruction by instruction: one may look to the right on what the one before has made."""
        for instruction in self.program.instructions:
            if self.program.values[instruction.output].tier == tier:
                for pixel in range(self.program.pixels):
                    for step in range(self.program.steps):
                        self._execute(instruction, line, pixel, step)

    def _execute(self, i: Instruction, line: int, pixel: int, step: int) -> None:
        first, last = self.program.values[i.output].starts[step : step + 2]
        if first == last:
            return
        output = self.at(i.output, line, pixel)[:, first:last]
        inputs = [self.at(v, line, pixel) for v in i.inputs]
        if i.kind == Kind.CONVOLUTION:
            output.copy_(activated(self._sums(i, line, pixel, step), i.activation))
        elif i.kind == Kind.ACTIVATION:
            begin, end = self.program.values[i.inputs[0]].starts[step : step + 2]
            output.copy_(activated(inputs[0][:, begin:end], i.activation))
        elif i.kind == Kind.COPY:
            columns = [inputs[which][:, channel] for which, channel in i.sources[first:last]]
            output.copy_(torch.stack(columns, 1))
        else:
            a, b = (x[:, first:last] for x in inputs)
            output.copy_(a + b if i.kind == Kind.ADD else a * b)

    def _sums(self, i: Instruction, line: int, pixel: int, step: int) -> Tensor:
        weight = self.tensors[i.weight]
        first, last = self._columns(i, step)
        sums = weight.new_zeros(len(self.levels), last - first)
        for tap, of_tap in zip(i.taps, weight, strict=True):
            y, x = line + tap.line, pixel + tap.pixel
            if y >= 0 and 0 <= x < self.program.pixels:
                limit = tap.limits[step]
                sums = sums + self.at(i.inputs[0], y, x)[:, :limit] @ of_tap[:limit, first:last]
        if i.bias >= 0:
            sums = sums + self.tensors[i.bias][first:last]
        if len(i.inputs) > 1:
            sums = sums + self.at(i.inputs[1], line, pixel)[:, first:last]
        return sums

    def _columns(self, i: Instruction, step: int) -> tuple[int, int]:
        """Of the sums, of which a gate makes half as many channels and concat_elu twice as many."""
        times = {"gate": (2, 1), "concat_elu": (1, 2)}.get(i.activation, (1, 1))
        first, last = self.program.values[i.output].starts[step : step + 2]
        return first * times[0] // times[1], last * times[0] // times[1]

    def draw(self, line: int, pixel: int, step: int, given: Tensor, noise: Tensor, temperature: float) -> None:
        p = self.program
        first, last = p.values[p.params].starts[step : step + 2]
        params = self.at(p.params, line, pixel)[:, first:last, None, None]
        colours = slice(0, p.colours) if p.steps == 1 else slice(step, step + 1)
        if p.head == Head.MIXTURE:
            drawn = mixture_logistics_sample(params, p.colours, 0, temperature, noise[..., None, None])
        else:
            sample = softmax_sample if p.head == Head.SOFTMAX else bernoulli_sample
            drawn = sample(params, 0, temperature, noise[:, colours, None, None])
        known = self.levels[:, colours, line, pixel]
        known.copy_(torch.where(given[:, colours], known, drawn[..., 0, 0]))
        image = self.at(p.image, line, pixel)[:, colours]
        image.copy_(known if p.head == Head.BERNOULLI else values_of(known.to(image.dtype)))


def pixel_sampling_lines(
    levels: Tensor,
    given: Tensor,
    noise: Tensor,
    state: Tensor,
    tensors: Sequence[Tensor],
    program: Sequence[int],
    first: int,
    count: int,
    temperature: float = 1.0,
    keep_params: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    p = decode(program)
    levels, state = levels.clone(), state.contiguous().clone()
    params = state.new_zeros(count if keep_params else 0, p.pixels, len(levels), p.values[p.params].channels)
    sampler = _Sampler(p, levels, state, tensors)
    for line in range(first, first + count):
        sampler.run_line(Tier.LINE_START, line)
        for pixel in range(p.pixels):
            for step in range(p.steps):
                sampler.run(Tier.PIXEL, line, pixel, step)
                here = given[:, :, line, pixel], noise[:, :, line, pixel]
                sampler.draw(line, pixel, step, *here, temperature)
                sampler.run(Tier.DRAWN, line, pixel, step)
            if keep_params:
                params[line - first, pixel] = sampler.at(p.params, line, pixel)
        sampler.run_line(Tier.LINE_END, line)
    return levels, state, params
