"""What is special to the masked_conv room: who may see whom, on every backend, and what a mask must not touch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, elu

from gencv_fast.nn import GatedMaskedConv2d, MaskedConv2d
from gencv_fast.ops.masked_conv import gated_activation, masked_conv2d
from gencv_fast.ops.masked_conv.contract import (
    GATED_ACTIVATION,
    MASKED_CONV2D,
    MASKED_CONV2D_GRAD_INPUT,
    MASKED_CONV2D_GRAD_WEIGHT,
)
from gencv_fast.ops.masked_conv.taps import MASK_TYPES, ORDERINGS, tap_rules
from tests.harness.backends import REFERENCE, Runner, kernels

HEIGHT, WIDTH = 4, 5
runners = pytest.mark.parametrize("runner", [pytest.param(REFERENCE, id="reference"), *kernels()])


def lines(ordering: str) -> list[list[tuple[int, int]]]:
    """The pixels (y, x) line by line, in their order."""
    rows = [[(y, x) for x in range(WIDTH)] for y in range(HEIGHT)]
    columns = [[(y, x) for y in range(HEIGHT)] for x in range(WIDTH)]
    flips = ordering.partition("flip_")[2]
    found = columns if ordering.startswith("columns") else rows

    def flipped(pixel: tuple[int, int]) -> tuple[int, int]:
        y, x = pixel
        return (HEIGHT - 1 - y if "y" in flips else y), (WIDTH - 1 - x if "x" in flips else x)

    return [[flipped(pixel) for pixel in line] for line in found]


def allowed(mask_type: str, ordering: str, groups: int) -> Tensor:
    """``[G, H, W, G, H, W]``: whether the first place may see the second, were the kernel large enough."""
    line_of = torch.zeros(HEIGHT, WIDTH, dtype=torch.long)
    place_of = torch.zeros(HEIGHT, WIDTH, dtype=torch.long)
    for i, line in enumerate(lines(ordering)):
        for j, (y, x) in enumerate(line):
            line_of[y, x], place_of[y, x] = i, j
    shape = (groups, HEIGHT, WIDTH, groups, HEIGHT, WIDTH)
    line = line_of[None] - line_of[:, :, None, None, None]
    place = place_of[None] - place_of[:, :, None, None, None]
    colour = torch.arange(groups)
    earlier = (colour < colour[:, None])[:, None, None, :, None, None]
    same = (colour == colour[:, None])[:, None, None, :, None, None]
    at_centre = earlier | (same if mask_type.endswith("B") else same & False)
    before = (line == 0) & (place < 0)
    seen = {
        "vertical_A": line < 0,
        "vertical_B": line <= 0,
        "horizontal": before,
        "raster": (line < 0) | before,
    }[mask_type if mask_type.startswith("vertical") else mask_type.rpartition("_")[0] or "raster"]
    result = seen.expand(shape)
    if not mask_type.startswith("vertical"):
        result = result | (((line == 0) & (place == 0)) & at_centre)
    return result.expand(shape)


def reach(kernel: tuple[int, int]) -> Tensor:
    y, x = torch.arange(HEIGHT), torch.arange(WIDTH)
    near_y = (y - y[:, None]).abs() <= kernel[0] // 2
    near_x = (x - x[:, None]).abs() <= kernel[1] // 2
    return near_y[:, None, None, :, None] & near_x[None, :, None, None, :]


def units(channels: int) -> Tensor:
    """An image for each number of an image."""
    count = channels * HEIGHT * WIDTH
    return torch.eye(count).view(count, channels, HEIGHT, WIDTH)


def check_jacobians(mask_type: str, orderings: Sequence[str], groups: int, runner: Runner) -> None:
    kernel = (3, 5)
    weight = torch.rand(groups, groups, *kernel) + 0.5
    for ordering in orderings:
        geometry = (tap_rules(mask_type, kernel, ordering), groups, 1, [1, 1], [0, 0])
        expected = allowed(mask_type, ordering, groups) & reach(kernel)
        forward = runner(MASKED_CONV2D, units(groups), weight, None, None, *geometry, "none")
        backward = runner(MASKED_CONV2D_GRAD_INPUT, units(groups), weight, *geometry)
        shape = expected.shape
        assert torch.equal(forward.reshape(shape) != 0, expected.permute(3, 4, 5, 0, 1, 2)), ordering
        assert torch.equal(backward.reshape(shape) != 0, expected), ordering


#: The interpreter takes ten seconds for an order of three colours; here two orders, the others with the full suite.
INTERPRETED = ORDERINGS[::5]


@runners
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("mask_type", MASK_TYPES)
def test_jacobian(mask_type: str, groups: int, runner: Runner) -> None:
    """Exactly zero where the order forbids, not zero where it allows: forward and backward, in all eight orders."""
    check_jacobians(mask_type, INTERPRETED if runner.interpreted and groups > 1 else ORDERINGS, groups, runner)


@pytest.mark.full
@runners
@pytest.mark.parametrize("mask_type", MASK_TYPES)
def test_jacobian_in_every_order(mask_type: str, runner: Runner) -> None:
    check_jacobians(mask_type, ORDERINGS, 3, runner)


@runners
@pytest.mark.parametrize("mask_type", MASK_TYPES)
def test_hidden_weights_get_no_gradient(mask_type: str, runner: Runner) -> None:
    groups, kernel = 3, (3, 3)
    for ordering in ORDERINGS:
        geometry = (groups, 1, [1, 1], [0, 0])
        taps = tap_rules(mask_type, kernel, ordering)
        input, grad = torch.rand(2, 6, HEIGHT, WIDTH) + 0.5, torch.rand(2, 9, HEIGHT, WIDTH) + 0.5
        found = runner(MASKED_CONV2D_GRAD_WEIGHT, grad, input, taps, list(kernel), *geometry)
        colour_out, colour_in = torch.arange(9)[:, None] // 3, torch.arange(6) // 2
        rules = torch.tensor(taps).view(1, 1, *kernel)
        colour_out, colour_in = colour_out[..., None, None], colour_in[..., None, None]
        seen = (rules == 1) | ((rules == 2) & (colour_in < colour_out)) | ((rules == 3) & (colour_in <= colour_out))
        assert torch.equal(found != 0, seen), ordering


@runners
def test_hidden_values_are_not_touched(runner: Runner) -> None:
    """NaN in hidden weights and at later pixels reaches nobody who must not see it."""
    taps = tap_rules("B", (3, 3))
    weight = torch.rand(3, 3, 3, 3)
    weight[:, :, 2] = torch.nan
    weight[0, 1:, 1, 1] = torch.nan
    input = torch.rand(1, 3, HEIGHT, WIDTH)
    input[:, :, 2, 3] = torch.nan
    output = runner(MASKED_CONV2D, input, weight, None, None, taps, 3, 1, [1, 1], [0, 0], "none")
    assert output[:, :, :2].isfinite().all()
    assert output[:, :, 2, :3].isfinite().all()
    assert output[:, :, 2, 3:].isnan().any()


def masked(weight: Tensor, mask_type: str) -> Tensor:
    rows, columns = weight.shape[2:]
    mask = torch.ones(rows, columns)
    mask[rows // 2, columns // 2 + (mask_type == "B") :] = 0
    mask[rows // 2 + 1 :] = 0
    return weight * mask


@pytest.mark.parametrize(("mask_type", "size", "dilation"), [("A", 7, 1), ("B", 3, 1), ("B", 5, 2)])
def test_replaces_a_masked_weight(mask_type: str, size: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(0)
    input, weight = torch.randn(2, 5, 9, 8, generator=generator), torch.randn(7, 5, size, size, generator=generator)
    expected = conv2d(input, masked(weight, mask_type), padding=size // 2 * dilation, dilation=dilation)
    found = masked_conv2d(input, weight, None, mask_type, dilation=dilation, padding=size // 2 * dilation)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_activations() -> None:
    input, weight = torch.randn(2, 3, 4, 5), torch.randn(6, 3, 3, 3)
    sums = masked_conv2d(input, weight)
    a, b = sums.chunk(2, 1)
    expected = {
        "relu": sums.relu(),
        "elu": elu(sums),
        "concat_elu": elu(torch.cat((sums, -sums), 1)),
        "gate": a.tanh() * b.sigmoid(),
    }
    for activation, value in expected.items():
        torch.testing.assert_close(masked_conv2d(input, weight, activation=activation), value)
    torch.testing.assert_close(gated_activation(sums), expected["gate"])


def test_products_of_others_between_ours() -> None:
    """The processor's tiles are the thread's, and torch's own products of bf16 take them too."""
    input, weight = torch.randn(2, 64, 8, 32).bfloat16(), (torch.randn(64, 64, 3, 3) / 24).bfloat16()
    expected = masked_conv2d(input, weight)
    for _ in range(3):
        theirs = conv2d(input, weight, padding=1)
        assert torch.equal(masked_conv2d(input, weight), expected)
        assert torch.equal(conv2d(input, weight, padding=1), theirs)


def test_gate_keeps_its_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a gradient the convolution runs once, and the gate by itself."""
    ran: list[str] = []
    for op in (MASKED_CONV2D, GATED_ACTIVATION):
        monkeypatch.setattr(
            op, "_run", lambda overload, args, op=op: ran.append(op.name) or type(op)._run(op, overload, args)
        )
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    masked_conv2d(torch.randn(1, 3, 4, 4), weight, activation="gate").sum().backward()
    assert ran == ["masked_conv2d", "gated_activation"]
    masked_conv2d(torch.randn(1, 3, 4, 4), weight.detach(), activation="gate")
    assert ran == ["masked_conv2d", "gated_activation", "masked_conv2d"]


def test_markov_order() -> None:
    rules = torch.tensor(tap_rules("A", (5, 5), order=1)).view(5, 5)
    assert rules.nonzero().tolist() == [[1, 2], [2, 1], [2, 2]]


@pytest.mark.parametrize("ordering", ["raster", "columns_flip_y"])
def test_location_mask_of_a_raster_order(ordering: str) -> None:
    """Any order is given by what each pixel sees: here, one that the fast path knows too."""
    input, weight = torch.randn(2, 3, HEIGHT, WIDTH), torch.randn(4, 3, 3, 3)
    seen = torch.tensor(tap_rules("B", (3, 3), ordering)) > 0
    mask = seen.expand(HEIGHT * WIDTH, 9)
    found = masked_conv2d(input, weight, location_mask=mask)
    torch.testing.assert_close(found, masked_conv2d(input, weight, ordering=ordering))


def test_location_mask_of_a_random_order() -> None:
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(HEIGHT * WIDTH, generator=generator).view(HEIGHT, WIDTH)
    mask = torch.zeros(HEIGHT, WIDTH, 3, 3, dtype=torch.bool)
    for y, x, i, j in product(range(HEIGHT), range(WIDTH), range(3), range(3)):
        there = (y + i - 1, x + j - 1)
        if 0 <= there[0] < HEIGHT and 0 <= there[1] < WIDTH:
            mask[y, x, i, j] = order[there] < order[y, x]
    weight = torch.rand(1, 1, 3, 3) + 0.5
    found = masked_conv2d(units(1), weight, location_mask=mask.view(HEIGHT * WIDTH, 9))
    earlier = (order.flatten() < order.flatten()[:, None]).view(1, HEIGHT, WIDTH, 1, HEIGHT, WIDTH)
    expected = (earlier & reach((3, 3))).permute(3, 4, 5, 0, 1, 2)
    assert torch.equal(found.reshape(expected.shape) != 0, expected)


def test_location_mask_refuses_what_it_lacks() -> None:
    input, weight, mask = torch.rand(1, 1, 2, 2), torch.rand(1, 1, 1, 1), torch.ones(4, 1)
    for argument in ({"backend": "cpu"}, {"activation": "relu"}, {"shift": (1, 0)}):
        with pytest.raises(RuntimeError, match="masked_conv2d: location_mask takes none of"):
            masked_conv2d(input, weight, location_mask=mask, **argument)
    with pytest.raises(RuntimeError, match=r"location_mask must be \[H \* W, rows \* columns\]"):
        masked_conv2d(input, weight, location_mask=mask[1:])


def stack(layers: int, groups: int, ordering: str) -> nn.ModuleList:
    torch.manual_seed(1)
    kinds = ["A", *["B"] * (layers - 1)]
    widths = [groups, *[2 * groups] * (layers - 1)]
    made = [
        GatedMaskedConv2d(kind, width, 2 * groups, 3, channel_groups=groups, ordering=ordering)
        for kind, width in zip(kinds, widths, strict=True)
    ]
    return nn.ModuleList(made).double()


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("ordering", ORDERINGS)
def test_no_blind_spot(ordering: str, groups: int) -> None:
    """Every place of the last layer depends on every earlier one, and on nothing else."""
    layers = stack(6, groups, ordering)
    image = torch.rand(1, groups, HEIGHT, WIDTH, dtype=torch.float64)

    def last(image: Tensor) -> Tensor:
        vertical = horizontal = image
        for layer in layers:
            vertical, horizontal = layer(vertical, horizontal)
        return horizontal.view(groups, 2, HEIGHT, WIDTH).sum(1)

    jacobian = torch.autograd.functional.jacobian(last, image).squeeze(3)
    assert torch.equal(jacobian != 0, allowed("A", ordering, groups))


def test_module_replaces_the_usual_one() -> None:
    """Its state, with or without the mask that the usual one keeps."""

    class Usual(nn.Conv2d):
        def __init__(self, mask_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.register_buffer("mask", masked(torch.ones_like(self.weight), mask_type).detach())

        def forward(self, x: Tensor) -> Tensor:
            self.weight.data *= self.mask
            return super().forward(x)

    usual, ours = (kind("A", 3, 8, 5, padding=2) for kind in (Usual, MaskedConv2d))
    x = torch.randn(2, 3, 6, 7)
    before = usual.weight.detach().clone()
    ours.load_state_dict(usual.state_dict())
    torch.testing.assert_close(ours(x), usual(x))
    assert torch.equal(ours.weight, before)
    assert sorted(ours.state_dict()) == ["bias", "weight"]
    for argument in ({"stride": 2}, {"groups": 3}):
        with pytest.raises(RuntimeError, match="MaskedConv2d: stride and groups must be 1"):
            MaskedConv2d("A", 3, 6, 3, **argument)
    with pytest.raises(RuntimeError, match=r"padding must be 'same' or the numbers that keep the size \(1, 1\), got"):
        MaskedConv2d("A", 3, 6, 3, padding=2)(x)
    with pytest.raises(RuntimeError, match=r"^MaskedConv2d: mask_type must be one of"):
        MaskedConv2d("C", 3, 6, 3)
    with pytest.raises(RuntimeError, match=r"^MaskedConv2d: ordering must be one of raster, "):
        MaskedConv2d("A", 3, 6, 3, ordering="hilbert")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.zeros(6, 3, 3), r"weight must be \[out, in, rows, columns\] with rows and columns, got \[6, 3, 3\]"),
        (torch.zeros(6), r"weight must be \[out, in, rows, columns\] with rows and columns, got \[6\]"),
        (None, "weight must be a tensor, got None"),
    ],
)
def test_what_is_no_weight(weight: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=f"^masked_conv2d: {message}"):
        masked_conv2d(torch.zeros(1, 3, 4, 4), weight)


def test_one_graph_for_all_sizes() -> None:
    """Of the public function, which looks at the weight's sizes before the operator does."""
    torch._dynamo.reset()
    compiled = torch.compile(masked_conv2d, fullgraph=True, dynamic=True, backend="aot_eager")
    for channels, height in ((6, 5), (9, 7)):
        x, weight = torch.randn(2, channels, height, 8, requires_grad=True), torch.randn(12, channels, 3, 5)
        got, expected = (run(x, weight, None, "A", 3, activation="gate") for run in (compiled, masked_conv2d))
        assert torch.equal(got, expected)
        assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in (got, expected)))


def test_gated_module_with_condition_and_skip() -> None:
    layer = GatedMaskedConv2d("B", 4, 4, 3, condition_size=5, skip_channels=6)
    x, condition = torch.randn(2, 4, 5, 5), torch.randn(2, 5)
    vertical, horizontal, skip = layer(x, x, condition)
    assert [t.shape[1] for t in (vertical, horizontal, skip)] == [4, 4, 6]
    for changed in layer(x, x, -condition):
        assert not any(torch.equal(changed, t) for t in (vertical, horizontal, skip))
    (vertical.sum() + horizontal.sum() + skip.sum()).backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_no_channels_and_one_gradient_for_all() -> None:
    """What a sum sends back to a result without elements has strides of 0, and no memory."""
    x, weight = torch.rand(2, 3, 4, 5, requires_grad=True), torch.rand(0, 3, 3, 3, requires_grad=True)
    grads = torch.autograd.grad(masked_conv2d(x, weight, backend="cpu").sum(), (x, weight))
    assert torch.equal(grads[0], torch.zeros_like(x))
    assert grads[1].shape == weight.shape
