"""Bad input of the room's operator, in the words and the order of its C++ checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._checks import require, require_device, require_float, require_same_shape
from .program import (
    Head,
    Instruction,
    Kind,
    Program,
    Tap,
    Tier,
    UnfitError,
    Value,
    decode,
    require_fit,
)

OP = "pixel_sampling_lines"
MOST_TAPS = 1024
MOST_CHANNELS = 1 << 20


def check_pixel_sampling_lines(
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
) -> None:
    require(levels.dim() == 4, OP, f"levels must be [N, C, lines, pixels], got {list(levels.shape)}")
    require(levels.dtype == torch.uint8, OP, f"levels must be uint8, got {levels.dtype}")
    require(given.dtype == torch.bool, OP, f"given must be bool, got {given.dtype}")
    require(noise.dtype == torch.float32, OP, f"noise must be float32, got {noise.dtype}")
    floats = (torch.float32, torch.float64)
    require(state.dtype in floats, OP, f"state must be float32 or float64, got {state.dtype}")
    require_same_shape(OP, "given", given, "levels", list(levels.shape))
    for name, tensor in (("given", given), ("noise", noise), ("state", state)):
        require_device(OP, name, tensor, "levels", levels)
    for i, tensor in enumerate(tensors):
        require_float(OP, f"tensors[{i}]", tensor)
        require_device(OP, f"tensors[{i}]", tensor, "levels", levels)
    require(temperature > 0, OP, f"temperature must be positive, got {temperature:g}")
    lines = int(levels.shape[2])
    message = f"lines [{first}, {first + count}) must lie in [0, {lines})"
    require(first >= 0 and count >= 0 and first + count <= lines, OP, message)
    try:
        _Fit(decode(program), tensors).check(levels, noise, state)
    except UnfitError as reason:
        raise RuntimeError(f"{OP}: program must be one that fits the tensors, but {reason}.") from None


class _Fit:
    """Whether a program looks only at what there is."""

    def __init__(self, program: Program, tensors: Sequence[Tensor]) -> None:
        self.p, self.tensors = program, tensors

    def check(self, levels: Tensor, noise: Tensor, state: Tensor) -> None:
        p = self.p
        images, shape = levels.shape[0], [p.colours, p.lines, p.pixels]
        require_fit(list(levels.shape[1:]) == shape, "levels have another shape")
        shape[0] += p.head == Head.MIXTURE
        require_fit(list(noise.shape) == [images, *shape], "noise has another shape")
        for value in p.values:
            self._check_value(value, images)
        self._check_head()
        for instruction in p.instructions:
            self._check_instruction(instruction)
        require_fit(list(state.shape) == [p.state_numel(images)], "state has another size")

    def _check_value(self, v: Value, images: int) -> None:
        p = self.p
        require_fit(v.starts[0] == 0 and list(v.starts) == sorted(v.starts), "a value is none")
        require_fit(v.channels <= MOST_CHANNELS and 0 <= v.kept_lines <= p.lines + 1, "a value is none")
        if v.tier == Tier.CONSTANT:
            require_fit(0 <= v.tensor < len(self.tensors), "a constant has no tensor")
            last = [images, v.channels]
            shapes = (last, [p.lines, p.pixels, *last])
            require_fit(list(self.tensors[v.tensor].shape) in shapes, "a constant has another shape")

    def _check_head(self) -> None:
        p = self.p
        require_fit(all(0 <= v < len(p.values) for v in (p.image, p.params)), "its image or params are no value")
        image, params = p.values[p.image], p.values[p.params]
        if p.head == Head.MIXTURE:
            one_draw = p.steps == 1 and p.colours in (1, 3)
            require_fit(one_draw and 0 < p.mixtures <= MOST_CHANNELS, "its mixture is none")
        blocks = 10 if p.colours == 3 else 3
        by_head = {Head.SOFTMAX: 256 * p.colours, Head.MIXTURE: p.mixtures * blocks, Head.BERNOULLI: p.colours}
        require_fit(image.tier == Tier.DRAWN and image.channels == p.colours, "its image is none")
        require_fit(params.channels == by_head[p.head], "its params are not the head's")
        require_fit(params.tier in (Tier.LINE_START, Tier.PIXEL), "its params come late")
        if p.steps > 1:
            steps = range(p.steps + 1)
            by_colours = all(params.starts[s] * p.colours == s * params.channels for s in steps)
            require_fit(by_colours and all(image.starts[s] == s for s in steps), "its params do not lie by colours")

    def _check_instruction(self, i: Instruction) -> None:
        values = self.p.values
        require_fit(0 <= i.output < len(values), "an output is no value")
        output = values[i.output]
        require_fit(output.tier != Tier.CONSTANT, "an instruction makes a constant")
        is_pair = i.kind in (Kind.ADD, Kind.MULTIPLY)
        least = 2 if is_pair else 1
        most = 1 if i.kind == Kind.ACTIVATION else 2
        require_fit(least <= len(i.inputs) <= most, "an instruction has too few or too many inputs")
        require_fit(all(0 <= v < len(values) for v in i.inputs), "an input is no value")
        inputs = [values[v] for v in i.inputs]
        if i.kind != Kind.CONVOLUTION:
            require_fit(all(v.tier <= output.tier for v in inputs), "an input is not yet known")
        if is_pair:
            require_fit(all(v.channels == output.channels for v in inputs), "a sum's or product's inputs differ")
        require_fit(len(i.sources) == (output.channels if i.kind == Kind.COPY else 0), "sources are wrong")
        for which, channel in i.sources:
            require_fit(0 <= which < len(inputs) and 0 <= channel < inputs[which].channels, "a source is no channel")
        if i.kind == Kind.ACTIVATION:
            same = all(self._activated(i, self._known(inputs[0], s)) == self._known(output, s) for s in self._steps())
            require_fit(same, "an activation has other channels than its input")
        if i.kind == Kind.CONVOLUTION:
            self._check_convolution(i, inputs, output)

    def _steps(self) -> range:
        return range(self.p.steps)

    @staticmethod
    def _known(v: Value, step: int) -> int:
        return v.starts[step + 1] - v.starts[step]

    @staticmethod
    def _activated(i: Instruction, channels: int) -> int:
        if i.activation == "gate":
            return channels // 2 if channels % 2 == 0 else -1
        return 2 * channels if i.activation == "concat_elu" else channels

    def _check_convolution(self, i: Instruction, inputs: Sequence[Value], output: Value) -> None:
        require_fit(inputs[0].tier != Tier.CONSTANT, "a convolution is of a constant")
        even = i.activation != "concat_elu" or all(self._known(output, s) % 2 == 0 for s in self._steps())
        require_fit(even, "a convolution has odd channels")
        columns = output.channels
        columns = 2 * columns if i.activation == "gate" else columns // 2 if i.activation == "concat_elu" else columns
        require_fit(0 <= i.weight < len(self.tensors), "a convolution has no weight")
        shape = [len(i.taps), inputs[0].channels, columns]
        right = list(self.tensors[i.weight].shape) == shape and len(i.taps) <= MOST_TAPS
        require_fit(right, "a weight has another shape")
        if i.bias >= 0:
            right = i.bias < len(self.tensors) and list(self.tensors[i.bias].shape) == [columns]
            require_fit(right, "a bias has another shape")
        if len(inputs) > 1:
            right = inputs[1].channels == columns and inputs[1].tier <= output.tier
            require_fit(right, "a condition has other channels or is not yet known")
        for tap in i.taps:
            self._check_tap(tap, inputs[0], output)

    def _check_tap(self, tap: Tap, input: Value, output: Value) -> None:
        """What is looked at lies in memory, and, but for the centre's colours, has been computed."""
        in_steps = (Tier.PIXEL, Tier.DRAWN)
        require_fit(tap.line <= 0, "a tap looks ahead")
        require_fit(-self.p.pixels <= tap.pixel <= self.p.pixels, "a tap looks beyond the line")
        away = tap.line != 0 or tap.pixel != 0
        one_pixel = input.kept_lines == 0 and input.tier in in_steps
        kept = not one_pixel and tap.line > -max(1, input.kept_lines)
        require_fit(not away or kept, "a tap looks at what is not kept")
        require_fit(not one_pixel or output.tier in in_steps, "a line looks at what is not kept")
        seen = all(0 <= limit <= input.channels for limit in tap.limits)
        require_fit(seen, "a tap sees other channels than there are")
