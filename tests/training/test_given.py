"""Forecasts that start from several fields: scored, calibrated, compared and asked for as they were trained."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

import romvae
from romvae import metrics as score
from romvae.alarm import Alarm
from romvae.baselines import Persistence
from romvae.candidates import forecast_error
from romvae.canonical import snapshots
from romvae.commands.run_folder import DataRecord, RunFolder
from romvae.data import open_snapshots, write_snapshots
from romvae.errors import ConfigError, DataError, OtherStartWarning
from romvae.quantities import calibrate as calibrate_quantities
from romvae.quantities import maximum
from romvae.rollout import posterior_means
from romvae.rom import ROM
from romvae.start import after_start, split_start, start_of
from romvae.testing import mock_snapshots
from romvae.training import fit
from romvae.training.batches import WindowBatches
from romvae.training.dynamics import Codes, forecast_score
from romvae.training.finetune import FieldWindows, field_score

GIVEN, TIMES = 3, 14
MODEL = {"latent": 1, "compression": "pod", "variance": "global", "stride": 1, "hidden": 16, "members": 2}


def _oscillators(count: int, times: int = TIMES) -> xr.Dataset:
    """u = a(t) sin(2 pi x) with a'' = -w^2 a: neither the velocity a' nor w is stored, but three fields tell both."""
    rng = np.random.default_rng(0)
    phase, size = rng.uniform(0, 2 * np.pi, (count, 1)), rng.uniform(0.5, 1.5, (count, 1))
    a = size * np.cos(rng.uniform(0.55, 0.65, (count, 1)) * np.arange(times) + phase)
    x = (np.arange(8) + 0.5) / 8
    ends = {"x": ("periodic", "periodic")}
    return snapshots({"u": a[..., None] * np.sin(2 * np.pi * x)}, {"x": x}, np.arange(float(times)), boundaries=ends)


def _fitted(parts, **choices) -> tuple[ROM, dict]:
    rom = ROM.for_data(parts.train, **{**MODEL, "dynamics": "gru", **choices})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(rom, parts, dynamics_steps=150, batch_size=32, horizon=5, seed=0)
    return rom, history.notes


@pytest.fixture(scope="module")
def known():
    """The same data and networks, once started from a single field and once from three."""
    ds = _oscillators(144)
    parts = romvae.split(ds, seed=0, fractions={"train": 56, "variance": 8, "calibration": 40, "test": 40})
    return SimpleNamespace(ds=ds, parts=parts, one=_fitted(parts)[0], several=_fitted(parts, given=GIVEN)[0])


def _scores(rom: ROM, test: xr.Dataset, fields: int) -> tuple[float, float]:
    """Relative error and coverage of forecasts from the third time on, with so many fields known."""
    start, truth = test.isel(time=slice(GIVEN - fields, GIVEN)), test.isel(time=slice(GIVEN - 1, None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OtherStartWarning)
        forecast = rom.rollout(start, truth.sizes["time"] - 1).assign_coords(time=truth.time)
    u, ahead = (each.isel(time=slice(1, None)) for each in (truth.u, forecast))
    error = float(np.sqrt(((ahead.u - u) ** 2).sum() / (u**2).sum()))
    return error, float(((ahead.u_lower <= u) & (u <= ahead.u_upper)).mean())


# -- what it is for


def test_with_several_fields_forecasts_are_better_and_their_intervals_hold(known):
    single, _ = _scores(known.one, known.parts.test, 1)
    error, coverage = _scores(known.several, known.parts.test, GIVEN)
    # Half of the variance of a phase is unknown from one field: no forecast from it is as good as 0.5.
    assert single > 0.5
    assert error < 0.6 * single
    # 40 calibration and 40 test runs, in each of which points and times err together: two standard deviations of
    # a share of 0.9 are sqrt(0.09 (1/40 + 1/40)) * 2 = 0.13.
    assert abs(coverage - 0.9) < 0.13
    assert _scores(known.several, known.parts.test, 1)[1] < 0.77  # of another kind of forecast they promise nothing


def test_what_is_calibrated_are_forecasts_from_the_given_fields(known):
    rom = known.several
    assert (rom.start_times, rom.steps, rom.steps_ahead) == (GIVEN, TIMES - 1, TIMES - GIVEN)
    assert int(rom.calibration.lead[-1]) == rom.trust.last_lead == rom.steps_ahead
    start, ahead = start_of(rom, known.parts.calibration), after_start(rom, known.parts.calibration)
    forecast = rom.rollout(start, members=32)
    assert forecast.sizes["time"] == ahead.sizes["time"]
    inside = (forecast.u_lower <= ahead.u) & (ahead.u <= forecast.u_upper)
    assert float(inside.mean()) == pytest.approx(0.9, abs=0.03)  # those that it was made of; with 16 members
    true = np.sqrt(((forecast.u - ahead.u) ** 2).mean("x")) / float(rom.normaliser.std[0])
    kept = np.asarray(rom.trust.get_buffer("true"))
    np.testing.assert_allclose(kept, true.transpose("trajectory", "time"), rtol=1e-3, atol=1e-5)


def test_quantities_are_calibrated_on_the_same_forecasts(known):
    watched = maximum("u")
    before = known.several.calibration.quantities.at(watched.name, torch.tensor([4]), 0.9)
    assert calibrate_quantities(known.several, known.parts.calibration, [watched]) == {watched.name: 40}
    after = known.several.calibration.quantities.at(watched.name, torch.tensor([4]), 0.9)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b)


def test_it_is_saved_and_an_older_file_is_given_one_field(known, tmp_path):
    again = ROM.load(known.several.save(tmp_path / "rom"))
    assert again.choices["given"] == GIVEN
    start = start_of(again, known.parts.test)
    xr.testing.assert_identical(again.rollout(start, members=8), known.several.rollout(start, members=8))
    older = known.one.description().replace('"given": 1,', "").replace('"linear_stable": true,', "")
    assert "given" not in older
    assert ROM.from_description(older).start_times == 1


def test_another_start_is_said_once(known):
    test = known.parts.test
    with pytest.warns(OtherStartWarning, match=r"start gives one field, but .* from 3 fields") as said:
        known.several.rollout(test.isel(time=0), members=8)
    assert len(said) == 1
    with pytest.warns(OtherStartWarning, match=r"gives 2 fields .* from one field\. .* train with given=2"):
        known.one.rollout(test.isel(time=[0, 1]), members=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherStartWarning)
        known.several.rollout(start_of(known.several, test), members=8)
        known.one.rollout(test.isel(time=0), members=8)


def test_a_comparison_scores_what_follows_the_start_and_baselines_begin_there(known):
    test, rom = known.parts.test, known.several
    found = romvae.compare(rom, test, train=known.parts.train, baselines=[Persistence()], cost_cap=1e-9, members=16)
    ahead = after_start(rom, test)
    forecast = rom.rollout(start_of(rom, test), members=16).assign_coords(time=ahead.time)
    still = ahead.isel(time=[0] * ahead.sizes["time"]).assign_coords(time=ahead.time)
    for scores, guess in ((found.metrics["rom"], forecast), (found.metrics["baselines"]["persistence"], still)):
        later = (each[["u"]].isel(time=slice(1, None)) for each in (ahead, guess))
        expected = float(score.over_fields(score.relative_l2(*later), root_mean_square=True))
        assert scores["relative_l2"] == pytest.approx(expected, rel=1e-4)
    assert found.metrics["data"]["times"] == TIMES + 1 - GIVEN
    assert found.metrics["data"]["start_times"] == GIVEN
    assert found.metrics["cost"]["rom"]["ensemble"]["relative_l2"] > 0


def test_models_with_other_starts_are_ranked_by_the_same_times(known):
    data = known.parts.variance
    for rom, fields in ((known.one, 1), (known.several, GIVEN)):
        own = data.isel(time=slice(GIVEN - fields, None))
        assert forecast_error(rom, data, GIVEN) == forecast_error(rom, own)
    assert forecast_error(known.several, data, GIVEN) == forecast_error(known.several, data)


# -- training


def test_windows_hold_as_many_earlier_latents_as_a_forecast(known):
    mean = torch.arange(20.0).expand(1, 4, 20)[..., None]
    codes = {"mean": mean, "std": torch.zeros_like(mean), "c": torch.zeros(4, 0)}
    batches = WindowBatches(**codes, members=2, batch_size=3, stride=2, horizon=2, steps=40, seed=0, window=4, given=3)
    counts = []
    for k in range(40):
        batch = batches.batch(torch.Generator().manual_seed(k), k)
        counts.append(batch["past"].shape[-2])
        back = 2.0 * torch.arange(counts[-1], 0, -1)[:, None]
        assert torch.equal(batch["past"], batch["z0"].unsqueeze(-2) - back)
    assert set(counts) == {1, 2, 3}
    assert counts.count(2) > 20  # in half of the steps, and by chance in a third of the others


def test_field_windows_hold_the_given_fields():
    x = torch.arange(20.0).expand(4, 20)[..., None, None].expand(-1, -1, 1, 8)
    none = torch.zeros(4, 0)
    windows = FieldWindows(x, none, none, 2, 4, 1, 6, 3, 9, 30, 0, given=3)
    for k in range(30):
        batch = windows.batch(torch.Generator().manual_seed(k), k)
        assert torch.equal(batch["past"], batch["x0"].unsqueeze(1) - torch.tensor([6.0, 3.0]).reshape(1, 2, 1, 1))
        assert torch.equal(batch["target"], batch["x0"] + batch["leads"].reshape(-1, 1, 1, 1))


def test_scores_of_held_out_forecasts_look_back(known):
    rom, data = known.several, known.parts.test
    x, c = rom.normalised(data)
    z = posterior_means(rom.vae, x)[None].detach()
    held = Codes(z, torch.ones_like(z), c)
    past, ahead = split_start(rom, x)
    several = held.started(GIVEN, 1)
    assert several.mean.shape[2] == TIMES + 1 - GIVEN
    assert torch.equal(several.past, z[0, :, : GIVEN - 1])
    alone = Codes(several.mean, several.std, c)
    weight = torch.ones(1)
    assert forecast_score(rom.dynamics, several, weight).crps < 0.6 * forecast_score(rom.dynamics, alone, weight).crps
    assert held.started(1, 1) is held
    with_past = field_score(rom.vae, rom.dynamics, ahead, c, 0, past=past)
    assert with_past["crps"] < 0.6 * field_score(rom.vae, rom.dynamics, ahead, c, 0)["crps"]


def test_a_choice_by_forecasts_rewards_memory(known, monkeypatch):
    monkeypatch.setattr("romvae.training.selection.CANDIDATES", ("residual", "gru"))
    rom, notes = _fitted(known.parts, dynamics="auto", given=GIVEN)
    scores = notes["dynamics"]["scores"]
    assert notes["dynamics"]["kind"] == rom.choices["dynamics"] == "gru"
    assert scores["gru"]["crps"] < scores["residual"]["crps"]  # by a fifth of the steps
    assert rom.start_times == GIVEN


def test_a_kind_without_memory_that_is_chosen_starts_from_one_field(tmp_path, monkeypatch):
    monkeypatch.setattr("romvae.training.selection.CANDIDATES", ("residual",))
    parts = romvae.split(mock_snapshots(1, trajectories=12, times=8), seed=0)
    rom = ROM.for_data(parts.train, latent=2, channels=4, hidden=8, members=2, stride=1, dynamics="auto", given=2)
    assert rom.start_times == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(rom, parts, vae_steps=4, variance_steps=2, dynamics_steps=5, batch_size=4)
    assert (rom.choices["dynamics"], rom.choices["given"], rom.start_times) == ("residual", 1, 1)
    assert int(rom.calibration.lead[-1]) == rom.steps_ahead == 7
    assert ROM.load(rom.save(tmp_path / "rom")).config == rom.config


def test_a_large_step_apart_means_stored_times_between(tmp_path):
    parts = romvae.split(mock_snapshots(1, trajectories=12, times=12), seed=0)
    rom = ROM.for_data(
        parts.train, latent=2, channels=4, hidden=8, members=2, stride=3, dynamics="transformer", given=3
    )
    assert (rom.start_times, rom.steps_ahead) == (7, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps = {"vae_steps": 4, "variance_steps": 2, "dynamics_steps": 4, "finetune_steps": 2}
        fit(rom, parts, batch_size=8, finetune="crps", fallback="never", **steps)
        forecast = rom.rollout(start_of(rom, parts.test))
    assert forecast.sizes["time"] == 6
    assert float(forecast.time[0]) == float(parts.test.time[6])


# -- what is refused


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"given": 2}, r"given is 2, but dynamics 'residual' has no memory .* choose dynamics='gru'"),
        ({"given": 2, "dynamics": "linear"}, r"given is 2, but dynamics 'linear' has no memory"),
        ({"given": 0, "dynamics": "gru"}, r"given is 0, expected 1 or more"),
        ({"given": 3, "dynamics": "gru", "history": 2}, r"looks back on 2 latents \(history\)\. Raise history"),
    ],
)
def test_a_history_that_cannot_be_looked_back_on_is_refused(choices, reason):
    with pytest.raises(ConfigError, match=reason):
        ROM.for_data(mock_snapshots(1), latent=2, channels=4, **choices)


def test_trajectories_that_end_before_a_forecast_begins_are_refused(known):
    short = known.parts.train.isel(time=slice(0, GIVEN))
    with pytest.raises(
        DataError, match=r"ROM.for_data: trajectories hold 3 times, but forecasts start from the first 3"
    ):
        ROM.for_data(short, **MODEL, dynamics="gru", given=GIVEN)
    with pytest.raises(DataError, match=r"hold 2 times, .* Take trajectories of 4 times or more"):
        romvae.compare(known.several, known.parts.test.isel(time=slice(0, 2)), cost_cap=0)
    with pytest.raises(DataError, match=r"trust horizon: trajectories hold 3 times"):
        romvae.calibrate_trust(known.several, known.parts.test.isel(time=slice(0, GIVEN)))


def test_a_hybrid_rollout_cannot_keep_a_memory(known):
    start = known.parts.test.isel(time=0)
    for rom in (known.one, known.several):
        with pytest.raises(ConfigError, match=r"hybrid: dynamics 'gru' has memory, .* Train with dynamics='residual'"):
            romvae.hybrid_rollout(rom, "heat_1d", start, Alarm(0.1, 1, None, False, None, None, 0, 1.0))


# -- on the command line


@pytest.fixture(scope="module")
def folder(known, tmp_path_factory):
    top = tmp_path_factory.mktemp("given")
    write_snapshots(known.parts.whole.drop_vars("split"), top / "data.h5")
    RunFolder(top / "run").begin("seed: 0\n", DataRecord.of(top / "data.h5", known.parts, 0), "romvae train")
    known.several.save(top / "run" / "model")
    return top


def test_commands_start_from_the_first_times_of_their_own_data_and_the_last_of_others(known, folder, run, tmp_path):
    rom, test = known.several, known.parts.test
    words = ["rollout", folder / "run", "--members", "8", "--start"]
    other = test.isel(trajectory=slice(0, 4), time=slice(0, 6))
    write_snapshots(other.drop_vars("split", errors="ignore"), tmp_path / "other.h5")
    for data, start, more in (
        (folder / "data.h5", start_of(rom, test), []),
        (tmp_path / "other.h5", other.isel(time=slice(-GIVEN, None)), ["--workers", "1"]),
    ):
        out = tmp_path / f"from_{data.stem}.h5"
        code, told, err = run(*words, data, "--out", out, *more)
        assert code == 0, err
        assert f"forecasts of {rom.steps_ahead} steps" in told
        expected = rom.rollout(start, members=8)
        with open_snapshots(out, check=False) as found:
            np.testing.assert_allclose(found.u, expected.u, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found.time, expected.time)
    short = other.isel(time=slice(0, GIVEN - 1)).drop_vars("split", errors="ignore")
    write_snapshots(short, tmp_path / "short.h5")
    code, _, err = run(*words, tmp_path / "short.h5", "--out", tmp_path / "none.h5")
    assert code == DataError.exit_code
    assert "short.h5: trajectories hold 2 times, but forecasts of this run start from 3" in err


def test_a_study_starts_from_the_same_times(known, folder, run, tmp_path):
    words = ["study", folder / "run", "--start", folder / "data.h5", "--quantity", "max:u", "--members", "8"]
    code, _, err = run(*words, "--workers", "1", "--tolerance", "0.5", "--out", tmp_path / "study")
    assert code == 0, err
    expected = known.several.rollout(start_of(known.several, known.parts.test), members=8, quantities=[maximum("u")])
    with xr.open_dataset(tmp_path / "study" / "study.nc", engine="h5netcdf") as found:
        np.testing.assert_allclose(found.u_maximum, expected.u_maximum, rtol=1e-4, atol=1e-5)
        assert found.sizes["time"] == known.several.steps_ahead + 1
