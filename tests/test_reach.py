"""Where a forecast is worth little: beyond the calibrated lead times, and where its latent state diverges."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

import romvae
from romvae.baselines.model import BaselineModel
from romvae.baselines.persistence import Persistence
from romvae.data import split
from romvae.dynamics.extent import unbounded
from romvae.errors import BeyondCalibrationWarning, DivergedError, HeldBackWarning, NumericsError, OutOfRangeWarning
from romvae.rollout import check_finite
from romvae.rom import ROM
from romvae.studies import blocks
from romvae.testing import mock_snapshots
from romvae.training import fit

TINY = {"latent": 3, "channels": 4, "hidden": 8, "members": 2}
STEPS = {"vae_steps": 4, "variance_steps": 2, "dynamics_steps": 4, "fallback": "never"}


@pytest.fixture(scope="module")
def trained():
    data = mock_snapshots(1, trajectories=14, times=8)
    parts = split(data, seed=0)
    rom = ROM.for_data(parts.train, **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        fit(rom, parts, seed=0, batch_size=8, **STEPS)
    return rom, data.isel(time=0)


def _growing(rom: ROM, factor: float) -> ROM:
    """The same with latents that grow by `factor` in every step, from wherever they are."""
    wild = copy.deepcopy(rom)
    with torch.no_grad():
        for part in (*wild.dynamics.weights, *wild.dynamics.biases, wild.dynamics.linear):
            part.zero_()
        wild.dynamics.centre.zero_()
        wild.dynamics.scale.fill_(1.0)
        wild.dynamics.bounds.copy_(unbounded(wild.vae.latent))  # as in models of earlier versions
        wild.dynamics.linear[:, : wild.vae.latent] = (factor - 1) * torch.eye(wild.vae.latent)
    return wild


def test_a_forecast_says_how_far_it_is_calibrated_and_warns_once_beyond(trained):
    rom, start = trained
    with warnings.catch_warnings():
        warnings.simplefilter("error", BeyondCalibrationWarning)
        assert rom.rollout(start, members=8).attrs["calibrated_steps"] == 7
    with pytest.warns(BeyondCalibrationWarning) as seen:
        found = rom.rollout(start, steps=20, members=8)
    said = [str(each.message) for each in seen if each.category is BeyondCalibrationWarning]
    assert said == [
        "rollout: steps 8 to 20 are beyond the 7 that this model was calibrated on; intervals there are those of the "
        "last one and not calibrated"
    ]
    assert seen[0].filename == __file__
    assert found.attrs["calibrated_steps"] == 7
    with pytest.warns(BeyondCalibrationWarning, match="step 8 is beyond the 7"):
        rom.rollout(start, steps=8, members=8)


def test_one_that_was_never_calibrated_claims_no_step(trained):
    _, start = trained
    raw = ROM.for_data(mock_snapshots(1, trajectories=8, times=4), **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BeyondCalibrationWarning)
        assert raw.rollout(start, steps=9, members=8).attrs["calibrated_steps"] == 0


def test_rollouts_on_disk_and_studies_and_baselines_warn_once_too(trained, tmp_path):
    rom, start = trained
    for work in (
        lambda: romvae.rollout_to(tmp_path / "a.h5", rom, start, steps=9, members=8),
        lambda: romvae.study(rom, start, steps=9, members=8, quantities=["mean:u"], calibration=_calibration()),
    ):
        with pytest.warns(BeyondCalibrationWarning) as seen:
            found = work()
        assert sum(each.category is BeyondCalibrationWarning for each in seen) == 1
    assert found.attrs["calibrated_steps"] == 7
    with romvae.open_snapshots(tmp_path / "a.h5", check=False) as written:
        assert written.attrs["calibrated_steps"] == 7
    parts = split(mock_snapshots(1, trajectories=14, times=8), seed=0)
    baseline = BaselineModel.calibrated(Persistence().fit(parts.train), rom.schema, parts.calibration, 7)
    with pytest.warns(BeyondCalibrationWarning, match="steps 8 to 9 are beyond the 7"):
        assert baseline.rollout(start, steps=9).attrs["calibrated_steps"] == 7


def _calibration():
    return mock_snapshots(1, trajectories=14, times=8).isel(trajectory=slice(0, 12))


def test_every_trajectory_that_diverges_is_known_with_its_first_step_and_its_place_among_all():
    path = torch.zeros(6, 2, 4, 3)
    path[3:, 1, 2] = 2e4
    path[5:, 0, 0] = torch.nan
    with pytest.raises(DivergedError) as error:
        check_finite(path, 29, 10, torch.zeros(4, 3), first=16)
    assert error.value.steps == {18: 13, 16: 15}
    first = (
        "rollout: the latent state of trajectory 18 (the first is 0) has grown more than 10000 times at step 13 of 29"
    )
    assert str(error.value).startswith(f"{first}, that of 1 other at that step or later. ")
    assert "trajectory 16 (the first is 0) has grown more than 10000 times at step 15 of 29. " in error.value.of_one(16)
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.steps, again.of) == (str(error.value), error.value.steps, 29)


def test_what_diverges_is_named_by_its_place_among_all_with_parameters_out_of_range_and_advice(trained):
    rom, start = trained
    wild, value = _growing(rom, 9.0), 10 * float(start["viscosity"].max())
    many = start.isel(trajectory=[0] * 20)
    many = many.assign_coords(trajectory=np.arange(20), viscosity=many["viscosity"].copy())
    many["viscosity"][:] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        with pytest.raises(NumericsError) as error:
            wild.rollout(many, steps=12, members=8)
        text = str(error.value)
        assert f"Its parameters lie outside of the trained range (viscosity = {value:.6g}, trained from" in text
        assert "train the dynamics for more steps (--training.dynamics-steps)" in text
        assert "longer windows (--training.horizon)" in text
        with pytest.raises(NumericsError) as error:
            wild.rollout(start, steps=12, members=8)
    assert "outside of the trained range" not in str(error.value)


def test_on_disk_too_each_failure_names_its_own_trajectory(trained, tmp_path):
    """Only the wanted one of a block is computed; copies of it take the places of the others and diverge with it."""
    rom, start = trained
    ask = romvae.forecast.Request(steps=12, members=8)
    block = blocks.RolloutBlock(0, (2,), start.isel(trajectory=slice(0, 4)), None)
    job = blocks.Job(None, ask, ("u",), None)
    (failure,) = blocks._outcomes(_growing(rom, 9.0), job, block, (2,), None)
    assert failure.index == 2
    assert "the latent state of trajectory 2 (the first is 0)" in failure.why


def test_a_forecast_that_is_held_back_says_of_which_trajectory_and_from_which_step(trained):
    rom, start = trained
    wild = _growing(rom, 9.0)
    wild.dynamics.bounds.copy_(rom.dynamics.bounds)
    found = r"latents of trajectory 0 \(the first is 0\) go twice as far out .* at step \d+ of 12 and are held there"
    with pytest.warns(HeldBackWarning, match=found):
        forecast = wild.rollout(start, steps=12, members=8)
    assert all(bool(np.isfinite(forecast[name]).all()) for name in rom.schema.field_names)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HeldBackWarning)
        rom.rollout(start, steps=7, members=8)
