"""A gated PixelCNN learns real digits, draws them, and its density and a step of drawing run in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gencv_fast
from benchmarks import digits
from gencv_fast.onnx import export, verify
from gencv_fast.ops.mixture.reference import pixel_noise
from tests.harness.numerics import threads

SHAPE = (1, digits.SIDE, digits.SIDE)


def check_it_knows_more_than_single_pixels_and_their_neighbours(model: digits.GatedPixelCNN) -> None:
    independent, markov, bits = digits.independent_bits(), digits.markov_bits(), digits.bits(model, digits.grays()[1])
    assert bits < markov - 0.2
    assert markov < independent - 0.1


def check_what_it_draws(model: digits.GatedPixelCNN, backend: str, tmp_path: Path) -> None:
    """Images as probable as real ones; whole passes, shown one, draw it again."""
    number = 40 if backend == "cpu" else 3
    drawn = gencv_fast.sample(model, SHAPE, number, seed=1, progress=False, backend=backend)
    noise = pixel_noise(1, number, *SHAPE, torch.device("cpu"))
    with torch.no_grad():
        assert (digits.Step(model)(drawn, noise) != drawn).sum() <= 2  # near ties
        nats = digits.Density(model)(drawn)
    grays = torch.isin(drawn, digits.LEVELS.to(torch.uint8))
    assert grays.float().mean() > 0.97
    if backend == "cpu":
        assert abs(float(nats.mean()) / 0.6931 - digits.bits(model, digits.grays()[1])) < 0.25
        digits.picture(drawn, tmp_path / "digits.png")
        assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


def check_completion_of_half_a_digit(model: digits.GatedPixelCNN) -> None:
    """The lower halves of real digits are more probable under their own upper halves than under others'."""
    levels = digits.levels_of(digits.grays()[1][:64])
    given = levels.long()
    given[:, :, 4:] = -1
    drawn = gencv_fast.sample(model, SHAPE, 64, seed=2, given=given, progress=False)
    assert torch.equal(drawn[:, :, :4], levels[:, :, :4])
    assert not torch.equal(drawn, levels)
    swapped = torch.cat((drawn[:, :, :4], drawn[:, :, 4:].roll(1, 0)), 2)
    density = digits.Density(model)
    with torch.no_grad():
        own, others = density(drawn)[:, 4:].mean(), density(swapped)[:, 4:].mean()
    assert own < others - 0.1


def check_density_and_step_in_onnxruntime(model: digits.GatedPixelCNN, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    levels = digits.levels_of(digits.grays()[1])
    noise = pixel_noise(3, 2, *SHAPE, torch.device("cpu"))
    density, step = digits.Density(model).eval(), digits.Step(model).eval()
    export(density, (levels[:2],), tmp_path / "density.onnx", dynamic=({0: "n"},))
    verify(tmp_path / "density.onnx", density, [(levels[:2],), (levels[:50],)])
    export(step, (levels[:2], noise), tmp_path / "step.onnx", dynamic=({0: "n"}, {0: "n"}))
    session = ort.InferenceSession(tmp_path / "step.onnx")
    names = [i.name for i in session.get_inputs()]
    drawn = torch.zeros(2, *SHAPE, dtype=torch.uint8)
    for place in range(digits.SIDE * digits.SIDE):
        (found,) = session.run(None, dict(zip(names, (drawn.numpy(), noise.numpy()), strict=True)))
        drawn.view(2, -1)[:, place] = torch.from_numpy(found).view(2, -1)[:, place]
    assert torch.equal(drawn, gencv_fast.sample(model, SHAPE, 2, seed=3, progress=False))


def test_a_gated_pixelcnn_of_digits(tmp_path: Path) -> None:
    """In one test, since training takes most of it."""
    # Two threads would wait for each other at every layer wherever other tests run beside.
    with threads(1):
        model = digits.train()
    check_it_knows_more_than_single_pixels_and_their_neighbours(model)
    for backend in ("cpu", "reference"):
        check_what_it_draws(model, backend, tmp_path)
    check_completion_of_half_a_digit(model)
    check_density_and_step_in_onnxruntime(model, tmp_path)
