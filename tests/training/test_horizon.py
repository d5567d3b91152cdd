"""The trust horizon is calibrated wherever a calibration is made, on a few trajectories, with the same bits."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from romvae import calibrate_trust
from romvae.canonical import canonical
from romvae.data import open_snapshots, split, write_snapshots
from romvae.errors import NumericsError
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import calibrate as stage
from romvae.training import fit, recalibrate
from romvae.trust import predicted_error, true_error

from .test_ragged import LENGTHS, cut

SMALL = {"latent": 3, "channels": 4, "hidden": 8, "members": 2}
STEPS = {"vae_steps": 4, "variance_steps": 3, "dynamics_steps": 4, "batch_size": 4}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    return mock_snapshots(1, ("u", "p"), trajectories=12, times=12)


@pytest.fixture(scope="module")
def rom(data) -> ROM:
    """Has learned nothing, and is calibrated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return recalibrate(ROM.for_data(data, **SMALL), data)


def errors(rom: ROM) -> torch.Tensor:
    """True and predicted ones."""
    return torch.stack([rom.trust.get_buffer(name) for name in ("true", "predicted")])


@pytest.mark.parametrize("kind", ["plain", "controls", "ragged", "streamed"])
def test_a_fitted_rom_has_it_with_the_same_bits_and_keeps_it(data, tmp_path, kind):
    more = {}
    if kind == "ragged":
        data = cut(data, LENGTHS)
    if kind == "controls":
        waves = np.sin(np.arange(12) + np.arange(12)[:, None])
        forced = data.assign(f=(("trajectory", "time"), waves, {"units": "1", "romvae_role": "forcing"}))
        data = canonical(forced)
    if kind == "streamed":
        data = open_snapshots(write_snapshots(data, tmp_path / "data.h5"))
        more = {"memory_budget": 1e-5}
    parts, made = split(data, seed=0), []
    for _ in range(2):
        rom = ROM.for_data(parts.train, **SMALL)
        fit(rom, parts, threads=1, **STEPS, **more)
        made.append(rom)
    assert 0 < made[0].trust.trajectories <= parts.calibration.sizes["trajectory"]
    assert bool(errors(made[0]).isfinite().all())
    assert torch.equal(errors(made[0]), errors(made[1]))
    again = ROM.load(made[0].save(tmp_path / "rom"))
    assert torch.equal(errors(again), errors(made[0]))
    assert again.trust.threshold(0.5, 0.5) == made[0].trust.threshold(0.5, 0.5)


def test_errors_are_those_of_rollouts_of_evenly_chosen_trajectories(rom, data, monkeypatch):
    monkeypatch.setattr(stage, "TRUSTED", 4)
    recalibrate(rom, data)
    some = data.isel(trajectory=[0, 4, 7, 11])
    made = rom.rollout(some.isel(time=0), steps=11)
    expected = [
        e.transpose("trajectory", "time").values for e in (true_error(rom, some, made), predicted_error(rom, made))
    ]
    np.testing.assert_allclose(errors(rom), expected, rtol=1e-5)  # means of float32 numbers in another order


def test_another_calibration_renews_it(rom, data):
    recalibrate(rom, data)
    before = errors(rom)
    assert rom.trust.trajectories == 12
    recalibrate(rom, data.isel(trajectory=slice(0, 6)))  # other factors, and therefore other predictions
    assert rom.trust.trajectories == 6
    torch.testing.assert_close(errors(rom)[0], before[0, :6], rtol=1e-4, atol=1e-4)  # rounding of another batch
    assert float((errors(rom)[1] / before[1, :6] - 1).abs().max()) > 1e-2


def test_of_ragged_trajectories_the_even_part_counts(rom, data):
    calibrate_trust(rom, cut(data, LENGTHS))
    ragged = errors(rom)
    kept = ragged.shape[2] <= LENGTHS
    calibrate_trust(rom, data.isel(trajectory=kept, time=slice(0, ragged.shape[2])))
    assert torch.equal(ragged, errors(rom))


def test_a_forecast_that_diverges_leaves_it_out_and_the_log_says_so(rom, data, monkeypatch, caplog):
    def diverging(*args, **kwargs):
        raise NumericsError("the latent is not finite at step 3")

    monkeypatch.setattr(stage, "calibrate_trust", diverging)
    with caplog.at_level(logging.WARNING):
        recalibrate(rom, data)
    assert "no trust horizon: the latent is not finite at step 3" in caplog.text
    assert rom.trust.trajectories == 0
