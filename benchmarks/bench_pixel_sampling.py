"""Benchmarks of the sampler against drawing with a whole pass for every colour of every pixel."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from torch import Tensor, nn

import gencv_fast
from gencv_fast.nn import MaskedConv2d, Softmax256
from gencv_fast.ops.mixture.reference import pixel_noise, values_of
from gencv_fast.ops.pixel_sampling.plan import make_plan
from gencv_fast.ops.pixel_sampling.program import Kind, Program

from . import digits
from .harness import Case, Compare, Peer
from .limits import Work

COLOURS, SIDE, LAYERS, FEATURES = 3, 32, 15, 129  # 43 features for each colour
SHAPE = (COLOURS, SIDE, SIDE)


def pixelcnn(device: str) -> nn.Sequential:
    """15 layers: 7 x 7, twelve 3 x 3, two 1 x 1; 256 levels of each colour."""
    torch.manual_seed(0)

    def layer(mask_type: str, inputs: int, size: int) -> MaskedConv2d:
        return MaskedConv2d(mask_type, inputs, FEATURES, size, channel_groups=COLOURS, activation="relu")

    layers = [layer("A", COLOURS, 7), *(layer("B", FEATURES, 3) for _ in range(LAYERS - 3)), layer("B", FEATURES, 1)]
    last = MaskedConv2d("B", FEATURES, 256 * COLOURS, 1, channel_groups=COLOURS)
    return nn.Sequential(*layers, last).to(device).eval()


def handmade(model: nn.Sequential) -> nn.Sequential:
    """The same in PyTorch's own layers, with the weights masked once."""
    layers: list[nn.Module] = []
    for masked in model:
        assert isinstance(masked, MaskedConv2d)
        plain = nn.Conv2d(masked.in_channels, masked.out_channels, masked.kernel_size, padding="same")
        with torch.no_grad():
            plain.weight.copy_(masked.weight * mask_of(masked))
            plain.bias.copy_(masked.bias)
        layers += [plain, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(next(model.parameters()).device).eval()


def mask_of(layer: MaskedConv2d) -> Tensor:
    """What the layer shows, by its gradient: that of a hidden weight is exactly zero."""
    probe = copy.deepcopy(layer)
    probe.activation = "none"
    x = torch.ones(1, layer.in_channels, 16, 16, device=probe.weight.device)
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(probe(x).sum(), probe.weight)
    return (grad != 0).to(layer.weight.dtype)


def operations(p: Program, images: int) -> int:
    """Of all taps that show something, for the pixels that they do not leave."""
    total = 0
    for i in p.instructions:
        starts = p.values[i.output].starts
        for tap in i.taps if i.kind == Kind.CONVOLUTION else ():
            pixels = (p.lines - abs(tap.line)) * (p.pixels - abs(tap.pixel))
            products = sum(limit * (starts[s + 1] - starts[s]) for s, limit in enumerate(tap.limits))
            total += 2 * images * max(pixels, 0) * products
    return total


def weight_bytes(p: Program) -> int:
    """Of what one pixel's steps multiply by."""
    found = 0
    for i in p.instructions:
        starts = p.values[i.output].starts
        for tap in i.taps:
            found += 4 * sum(limit * (starts[s + 1] - starts[s]) for s, limit in enumerate(tap.limits))
    return found


@pytest.mark.parametrize("batch", [1, 4, 16, 64])
def bench_sample(compare: Compare, device: str, batch: int) -> None:
    """Also prints the bytes of the caches."""
    model, head = pixelcnn(device), Softmax256(COLOURS)
    plain = handmade(model)
    image = torch.rand(batch, *SHAPE, device=device) * 2 - 1
    program = make_plan(model, head, batch, SHAPE, torch.float32)[0].program
    cache = gencv_fast.cache_bytes(model, SHAPE, batch, head)
    by_layers = sum(4 * v.channels * SIDE * v.kept_lines * batch for v in program.values)
    assert cache == by_layers

    @torch.no_grad()
    def check(result: Tensor) -> None:
        """The whole model, shown the image, draws the same image; a sum in another order may flip a near tie."""
        noise = pixel_noise(1, batch, *SHAPE, torch.device("cpu")).to(device)
        again = head.sample(model(values_of(result.float())), 0, 1.0, noise)
        wrong = int((again != result).sum())
        assert wrong <= 1e-4 * result.numel(), f"{wrong} of {result.numel()} levels differ from the whole model's"

    @torch.no_grad()
    def whole_pass(network: nn.Module = plain) -> Tensor:
        return network(image)

    torch.testing.assert_close(whole_pass(), whole_pass(model), rtol=1e-3, atol=1e-4)
    passes = SIDE * SIDE * COLOURS
    compare(
        Case(
            room="pixel_sampling",
            op="sample",
            name=f"PixelCNN, {batch} images",
            shape=f"{batch} x 3 x 32 x 32, 15 layers of 129; caches of {cache / 1e6:.2f} MB",
            dtype="fp32",
            n=batch,
            ours=lambda: gencv_fast.sample(model, SHAPE, batch, seed=1, progress=False, head=head),
            check=check,
            checked_against="what the whole model draws, shown the result",
            work=Work(SIDE * SIDE * weight_bytes(program), operations(program, batch)),
            series="PixelCNN",
            peers={
                "PyTorch": Peer(
                    whole_pass,
                    f"{passes} passes of nn.Conv2d with masked weights, of which one is timed",
                    repeats=passes,
                ),
                "own passes": Peer(
                    lambda: whole_pass(model),
                    f"{passes} passes of our own layers, of which one is timed",
                    repeats=passes,
                ),
            },
        )
    )


def bench_sample_digits(compare: Compare, device: str, suite: str) -> None:
    """A gated PixelCNN of scanned digits, trained first, which takes half a minute."""
    if suite == "quick":
        pytest.skip("training belongs to the full suite")
    start = time.perf_counter()
    model = digits.train()
    seconds = time.perf_counter() - start
    bits = digits.bits(model, digits.grays()[1])
    assert bits < digits.markov_bits() - 0.2 < digits.independent_bits() - 0.3
    model = model.to(device)
    batch, shape = 40, (1, digits.SIDE, digits.SIDE)
    image = torch.zeros(batch, *shape, device=device)

    @torch.no_grad()
    def whole_pass() -> Tensor:
        return model(image)

    @torch.no_grad()
    def check(result: Tensor) -> None:
        noise = pixel_noise(1, batch, *shape, torch.device("cpu")).to(device)
        wrong = int((digits.Step(model)(result, noise) != result).sum())
        assert wrong <= 1e-3 * result.numel(), f"{wrong} of {result.numel()} levels differ from the whole model's"

    compare(
        Case(
            room="pixel_sampling",
            op="sample",
            name="digits, gated PixelCNN",
            shape=f"{batch} x 1 x 8 x 8; {bits:.2f} bits a pixel after {seconds:.0f} s of training",
            dtype="fp32",
            n=batch,
            ours=lambda: gencv_fast.sample(model, shape, batch, seed=1, progress=False),
            check=check,
            checked_against="what the whole model draws, shown the result",
            draw=lambda drawn, path: digits.picture(drawn.cpu(), path),
            peers={"own passes": Peer(whole_pass, "64 passes of our own layers, of which one is timed", repeats=64)},
        )
    )
