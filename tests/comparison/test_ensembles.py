"""Scores of members over lead time: those of `romvae.metrics` on what `rom.rollout(keep_members=True)` gives."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae import metrics
from romvae.baselines import Persistence
from romvae.baselines.model import BaselineModel
from romvae.canonical import MASK, MASK_ATTRS
from romvae.comparison import compare, ensembles
from romvae.comparison.ensembles import ensemble_scores
from romvae.comparison.significance import confidence_intervals
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import recalibrate

pytestmark = pytest.mark.filterwarnings("ignore:parameter:romvae.errors.OutOfRangeWarning")


def _trained(masked: bool) -> tuple[ROM, xr.Dataset]:
    ds = mock_snapshots(2, ("u", "v"), trajectories=29, times=7, shape=(12, 8))
    ds["v"] = 3 * ds["v"] + 1
    if masked:
        inside = np.ones((12, 8), np.int8)
        inside[3:6, 2:5] = 0
        ds[MASK] = (("y", "x"), inside, MASK_ATTRS)
    rom = ROM.for_data(ds.isel(trajectory=slice(0, 10)), latent=3, channels=4, hidden=8, members=2)
    return recalibrate(rom, ds.isel(trajectory=slice(10, 24))), ds.isel(trajectory=slice(24, 29))


@pytest.mark.parametrize("masked", [False, True])
def test_the_scores_are_those_of_the_members_of_one_rollout(masked, monkeypatch):
    rom, test = _trained(masked)
    monkeypatch.setattr(ensembles, "AT_ONCE", 5 * 2 * 12 * 8 * 2)  # two times of the five trajectories
    monkeypatch.setattr(ensembles, "MOST", 10)
    numbers, series, each = ensemble_scores(rom, test, 12, 3)
    forecast = rom.rollout(test.isel(time=0), 6, 10, 3, keep_members=True).assign_coords(time=test.time)
    later = slice(1, None)
    truth = metrics.in_domain(test[["u", "v"]].isel(time=later), rom.mask)
    members = forecast[["u_members", "v_members"]].isel(time=later).rename(u_members="u", v_members="v")
    if not masked:
        members = members.transpose("trajectory", "time", "member", "y", "x")
    members = metrics.in_domain(members, rom.mask)
    space = [d for d in truth.dims if d not in ("trajectory", "time")]
    energy = metrics.energy_score(truth, members, "trajectory")
    crps = metrics.ensemble_crps(truth, members, ["trajectory", *space])
    for name, expected in (("energy_score", energy), ("ensemble_crps", crps)):
        expected = metrics.over_fields(expected)
        np.testing.assert_allclose(series[f"rom_{name}"], expected, rtol=1e-5)  # blocks round differently
        assert numbers[name] == pytest.approx(float(expected.mean()), rel=1e-5)
        assert each[name].shape == (2, 5, 6)
        low, high = confidence_intervals(each)[name]
        assert low < numbers[name] < high
    ranks = metrics.over_fields(metrics.rank_histogram(truth, members))
    # A fifth of the values of v are equal to all members; at random these go to 11 ranks, 15 of 5760 one way or other.
    np.testing.assert_allclose(series["rank_histogram"], ranks, atol=4 * 15 / 5760)
    assert numbers["ensemble"] == {"members": 10, "trajectories": 5}
    np.testing.assert_array_equal(series.time, test.time[1:])


def test_the_fair_scores_of_exchangeable_members_do_not_depend_on_their_number():
    """What is scored are the distributions: of sixteen and of four draws the expectations are the same."""
    rng = np.random.default_rng(0)
    dims = ("trajectory", "time", "x")
    truth = xr.DataArray(rng.standard_normal((2000, 1, 4)), dims=dims)
    every = xr.DataArray(rng.standard_normal((2000, 1, 4, 16)), dims=(*dims, "member"))
    for kind in (metrics.ensemble_crps, metrics.energy_score):
        found = [float(kind(truth, every.isel(member=slice(0, count)))) for count in (4, 16)]
        assert found[0] == pytest.approx(found[1], rel=0.02)  # 8000 values, a relative deviation of 0.7 per cent


def test_fewer_trajectories_of_large_fields_are_scored(monkeypatch):
    rom, test = _trained(False)
    each = 8 * 2 * 7 * 12 * 8
    monkeypatch.setattr(ensembles, "LEAST", 1)
    for decoded, taken in ((3 * each, 3), (each // 2, 1), (100 * each, 5)):
        monkeypatch.setattr(ensembles, "DECODED", decoded)
        assert ensemble_scores(rom, test, 8, 0)[0]["ensemble"]["trajectories"] == taken


def test_a_single_member_and_a_baseline_have_no_ensemble():
    rom, test = _trained(False)
    fitted = BaselineModel.calibrated(Persistence().fit(test), rom.schema, test, 6)
    for model, members in ((rom, 1), (fitted, 16)):
        numbers, series, _ = ensemble_scores(model, test, members, 0)
        assert not numbers
        assert not series.data_vars


def test_a_comparison_has_errors_and_scores_over_lead_time(compared, rom, test_part):
    series, scores = compared.series, compared.metrics["rom"]
    assert scores["ensemble"] == {"members": 8, "trajectories": test_part.sizes["trajectory"]}
    for name in ("energy_score", "ensemble_crps"):
        assert scores[name] == pytest.approx(float(series[f"rom_{name}"].mean()))
    forecast = rom.rollout(test_part.isel(time=0), 10, 8).assign_coords(time=test_part.time)
    u, v = (ds["u"].isel(time=slice(1, None)) for ds in (test_part, forecast))
    np.testing.assert_allclose(series["rom_nrmse"], metrics.nrmse(u, v, ["trajectory", "x"]), rtol=1e-5)
    np.testing.assert_allclose(series["rom_vrmse"], metrics.vrmse(u, v).mean("trajectory"), rtol=1e-5)
    assert float(series["rank_histogram"].sum()) == pytest.approx(1)
    # Without the spread of a posterior, the ensemble's score lies between error and that of the right spread.
    error = float(abs(u - v).mean())
    assert scores["ensemble_crps"] < 1.1 * error


def test_a_comparison_with_one_member_has_no_ensemble_scores(rom, parts):
    with pytest.warns(UserWarning, match="1 members say little"):
        found = compare(rom, parts.test.isel(trajectory=slice(0, 2)), members=1, cost_cap=0.0)
    assert "energy_score" not in found.metrics["rom"]
    assert "rom_energy_score" not in found.series
