"""Whether first-order moments stand for members: never by chance, and by the same choice for all trajectories."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import romvae
from romvae import forecast as forecast_module
from romvae.agreement import TOLERANCE, agreement, chosen, sampled
from romvae.data import open_snapshots
from romvae.forecast import Course, Inputs, Request
from romvae.quantities import calibrate, mean
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from tests.test_propagation import GivenPosterior, curved_rom, linear_rom

ASK = Request(steps=4, members=64, propagation="auto")


def test_a_linear_model_agrees_to_rounding():
    rom, x0, c, _ = linear_rom()
    found = agreement(rom, Inputs(x0, c, None, None), [0, 2, 4], rom.vae.decoder)
    assert found.error < 1e-9
    assert found.frames == 6


def test_disagreement_vanishes_with_the_spread():
    """What first order leaves out of mean and variance is of second order in the width: a slope of 1 at least."""
    rom, x0, c = curved_rom()
    encoder, given = rom.vae.encoder, Inputs(x0, c, None, None)
    errors = []
    for width in (0.04, 0.02, 0.01):
        rom.vae.encoder = GivenPosterior(encoder, width * torch.eye(3).double())
        errors.append(agreement(rom, given, [1, 4], rom.vae.decoder).error)
    slopes = -np.diff(np.log2(errors))
    assert (slopes > 0.9).all()


def test_the_choice_follows_agreement_and_cost():
    rom, x0, c = curved_rom()
    encoder, given, told = rom.vae.encoder, Inputs(x0, c, None, None), (range(5), rom.vae.decoder)
    rom.vae.encoder = GivenPosterior(encoder, 1e-3 * torch.eye(3).double())
    kind, why = chosen(rom, given, ASK, *told)
    assert kind == "linear"
    assert "of the standard deviation from members at 6 sampled frames, and cost as much as" in why
    assert chosen(rom, given, replace(ASK, members=5), *told)[0] == "members"
    kind, why = chosen(rom, given, replace(ASK, members=4), *told)
    assert (kind, why) == ("members", "4 cost no more than first-order moments")
    rom.vae.encoder = GivenPosterior(encoder, 2 * torch.eye(3).double())
    assert agreement(rom, given, [0, 2, 4], rom.vae.decoder).error > TOLERANCE
    kind, why = chosen(rom, given, ASK, *told)
    assert kind == "members"
    assert "more than 0.1" in why


def test_what_first_order_cannot_give_takes_members(monkeypatch):
    rom, x0, c, _ = linear_rom()
    given, told = Inputs(x0, c, None, None), (range(5), rom.vae.decoder)
    quantities = replace(ASK, quantities=(mean("u"),))
    assert chosen(rom, given, quantities, *told) == ("members", "quantities are computed from members")
    rom.vae.encoder.kind = "flow"
    assert chosen(rom, given, ASK, *told) == ("members", "the posterior is no Gaussian")
    monkeypatch.setattr(type(rom.dynamics), "stochastic", True)
    assert chosen(rom, given, ASK, *told)[1].startswith("the dynamics draw noise")
    monkeypatch.setattr(type(rom.dynamics), "stochastic", False)
    rom.vae.encoder.kind = "full"
    with torch.no_grad():
        rom.dynamics.linear.fill_(1e200)
    assert chosen(rom, given, ASK, *told) == ("members", "a derivative in the latent space stopped being finite")


@pytest.mark.parametrize(("trajectories", "expected"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (9, [0, 4, 8])])
def test_the_sample_follows_from_the_number_of_trajectories(trajectories, expected):
    assert sampled(trajectories) == expected
    assert sampled(len(expected)) == list(range(len(expected)))  # the sample of the sample is the sample


@pytest.fixture(scope="module")
def small() -> tuple[ROM, xr.Dataset]:
    data = mock_snapshots(1, ("u", "v"), trajectories=7, times=6)
    rom = ROM.for_data(data, latent=4, channels=4, hidden=8, members=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in rom.dynamics.weights:
            part.add_(0.1 * torch.randn(part.shape, generator=generator))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calibrate(rom, data, [mean("u")])
    return rom.eval(), data.isel(time=0)


def rolled(small: tuple[ROM, xr.Dataset], **told: object) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return small[0].rollout(small[1], 4, 64, **told)


def test_a_forecast_says_what_was_chosen_and_is_that_forecast(small):
    found, linear = rolled(small, propagation="auto"), rolled(small, propagation="linear")
    assert found.attrs["propagation"] == "linear"
    assert found.attrs["propagation_choice"].startswith("linear: first-order moments are off by")
    xr.testing.assert_identical(found.drop_attrs(), linear.drop_attrs())
    members = rolled(small)
    assert "propagation_choice" not in members.attrs
    kept = rolled(small, propagation="auto", quantities=(mean("u"),))
    assert kept.attrs["propagation_choice"] == "members: quantities are computed from members"
    expected = rolled(small, quantities=(mean("u"),))
    xr.testing.assert_identical(kept.drop_attrs(), expected.drop_attrs())


def test_the_choice_is_made_once_however_trajectories_are_blocked(small, monkeypatch):
    calls = []
    original = forecast_module.chosen
    monkeypatch.setattr(forecast_module, "chosen", lambda *args: calls.append(0) or original(*args))
    whole = rolled(small, propagation="auto")
    monkeypatch.setattr(forecast_module, "BLOCK", 2)
    parts = rolled(small, propagation="auto")
    assert len(calls) == 2
    assert parts.attrs == whole.attrs
    xr.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-4)  # rounding of float32 in other batches


def test_a_store_is_that_of_a_rollout_to_the_bit_and_goes_on_with_the_same_choice(small, tmp_path, monkeypatch):
    """Also where a shard is lost and its neighbours' places are filled with others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(forecast_module, "BLOCK", 4)
    rom, start = small
    told = {"steps": 4, "members": 64, "propagation": "auto"}

    def stopped(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "rollout" and done >= 4:
            raise KeyboardInterrupt

    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        romvae.rollout_to(out, rom, start, **told, progress=stopped)
    for path in sorted(Path(f"{out}.partial").glob("*.shard"))[1:3]:
        path.unlink()
    romvae.rollout_to(out, rom, start, **told)
    expected = rolled(small, propagation="auto")
    with open_snapshots(out) as found:
        assert found.load().identical(expected)
    torch.set_num_threads(threads)


def test_a_region_is_looked_at_as_it_is_decoded(small):
    rom, start = small
    ask = replace(ASK, region={"x": (0.2, 0.5)}, times=(0.1, 0.3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        course = Course.of(rom, start, ask)
    assert course.ask.propagation == "linear"
    assert "at 6 sampled frames" in course.ask.choice


@pytest.mark.slow
@pytest.mark.parametrize("propagation", ["auto", "linear"])
def test_two_processes_give_the_same_store(small, tmp_path, monkeypatch, propagation):
    """Four blocks, of which each takes some."""
    monkeypatch.setattr(forecast_module, "BLOCK", 2)
    rom, start = small
    told = {"steps": 4, "members": 64, "propagation": propagation}
    one, two = (romvae.rollout_to(tmp_path / f"{n}.h5", rom, start, workers=n, **told) for n in (1, 2))
    with open_snapshots(one) as a, open_snapshots(two) as b:
        assert a.load().identical(b.load())
