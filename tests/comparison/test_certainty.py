"""What a comparison says of bands, quantities, calibration and conserved quantities, and how the report shows it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

from romvae import quantities
from romvae.calibration import Calibration
from romvae.comparison import Comparison, compare
from romvae.comparison.bands import band_scores, held_by_bands
from romvae.comparison.points import distribution
from romvae.comparison.structure import conserved_drift, conserved_scores
from romvae.report.promises import uncertainty_rows
from romvae.rom import ROM
from romvae.solvers.advection import Advection1d
from romvae.testing import mock_snapshots
from romvae.training import recalibrate


@pytest.fixture(scope="module")
def compared() -> tuple[ROM, xr.Dataset, Comparison]:
    data = mock_snapshots(1, ("u",), trajectories=40, times=8)
    rom = ROM.for_data(data.isel(trajectory=slice(0, 10)), latent=3, channels=4, hidden=8, members=2)
    recalibrate(rom, data.isel(trajectory=slice(10, 25)))
    test = data.isel(trajectory=slice(25, 40))
    return rom, test, compare(rom, test, members=8)


def test_every_number_is_finite_and_survives_saving(compared, tmp_path):
    _, _, comparison = compared
    rom = comparison.metrics["rom"]
    for name in ("nrmse", "nll", "crps_over_mae", "interval_score_90", "ause", "spearman_points", "ssim"):
        assert np.isfinite(rom[name]), name
    assert 0 <= rom["valid_prediction_time"]["whole_horizon"] <= 1
    assert set(rom["quantities"]) == {each.name for each in quantities.standard(compared[0].schema)}
    comparison.save(tmp_path / "comparison")
    again = Comparison.load(tmp_path / "comparison")
    assert json.dumps(again.metrics) == json.dumps(comparison.metrics)
    assert {"pit", "sparsification", "rom_nll", "rom_spectral_error", "spectrum_truth_u"} <= set(again.series)


def test_parts_of_the_spread_add_up_over_lead_time(compared):
    series = compared[2].series
    parts = sum(series[f"rom_std_{part}"] ** 2 for part in ("decoder", "posterior", "ensemble"))
    np.testing.assert_allclose(parts, series["rom_std"] ** 2, rtol=1e-4)


def test_the_transform_is_told_over_the_horizon(compared):
    """A forecast that is right at first and ten times too narrow at the end."""
    rom, _, _ = compared
    rng = np.random.default_rng(0)
    coords = {"trajectory": np.arange(200), "time": np.arange(1, 8.0), "x": np.arange(40.0)}
    truth = xr.DataArray(rng.normal(size=(200, 7, 40)), coords, ["trajectory", "time", "x"])
    std = xr.ones_like(truth)
    std[:, 6:] = 0.1
    found = distribution(rom, *(each.to_dataset(name="u") for each in (truth, 0 * truth, std)))
    parts = found["pit_parts"]
    assert parts.sizes == {"part": 5, "bin": 10}
    np.testing.assert_allclose(parts[0], 1, atol=0.15)  # five standard deviations of a tenth of 16,000 values
    assert float(parts[-1, 0]) > 4
    assert float(parts[-1, 5]) < 0.6
    np.testing.assert_allclose(found["pit"], np.average(parts, axis=0, weights=[2, 2, 1, 1, 1]))


def test_bands_are_counted_by_run(compared):
    """A forecast that is wrong at every tenth point of a third of the runs, by far more than any band is wide."""
    rom, _, _ = compared
    rom.calibration = Calibration(1).fit(
        torch.arange(8), torch.rand(8, 1, 30, rom.schema.grid.points, generator=torch.Generator().manual_seed(0))
    )
    coords = {"trajectory": np.arange(9), "time": np.arange(1, 8.0), "x": np.arange(40.0)}
    truth = xr.DataArray(np.zeros((9, 7, 40)), coords, ["trajectory", "time", "x"])
    mean = truth.copy(deep=True)
    mean[:3, :, ::8] = 1e3
    std = xr.ones_like(truth).to_dataset(name="u")

    def scores() -> dict[str, dict[str, float]]:
        held = held_by_bands(rom, truth.to_dataset(name="u"), mean.to_dataset(name="u"), std)
        return band_scores(rom, held, 7, 9)

    found = scores()
    assert found["risk_band"]["runs_held"] == pytest.approx(6 / 9)
    assert found["whole_run"]["runs_held"] == pytest.approx(6 / 9)
    mean[:3, :, ::8] = 0
    mean[:3, :, ::20] = 1e3  # one point in twenty: the risk band allows for it, the simultaneous one does not
    found = scores()
    assert found["risk_band"]["runs_held"] == 1
    assert found["whole_field_at_each_time"]["runs_held"] == pytest.approx(6 / 9)
    low, high = (found["risk_band"][f"expected_{side}"] for side in ("low", "high"))
    assert low < 0.9 <= high


def test_drift_of_a_solver_s_conserved_quantities():
    solver = Advection1d(points=32)
    times = np.linspace(0, 0.3, 4)
    u0 = solver.initial(np.random.default_rng(0))
    x = np.asarray(solver.grid.axes[0].coordinates)
    truth = xr.Dataset(
        {solver.fields[0].name: (("trajectory", "time", "x"), solver.solve(u0, times)[None, :, 0])},
        {"time": times, "x": x, "trajectory": [0]},
    )
    found = conserved_scores(conserved_drift(solver, truth, truth + 1.0))
    assert found
    three = xr.concat([truth] * 3, "trajectory").assign_coords(trajectory=[0, 1, 2])
    moved = conserved_drift(solver, three, three + xr.DataArray([0.5, 1.0, 1.5], dims="trajectory"))
    scores = conserved_scores(moved)
    assert scores["mass"]["drift"] == pytest.approx(found["mass"]["drift"] * (3.5 / 3) ** 0.5, rel=1e-3)
    assert all(each["interval"][0] < each["drift"] < each["interval"][1] for each in scores.values())
    for each in found.values():
        assert each["drift_of_solver"] < 1e-6 * max(1.0, each["size"])
        assert each["drift"] > 0.1
    assert conserved_scores(conserved_drift(None, truth, truth)) == {}


def test_the_table_says_what_was_promised_and_what_held(compared):
    lines = dict(uncertainty_rows(compared[2].metrics))
    assert lines["what the intervals promise"].startswith("Calibrated on 15 trajectories")
    assert "of the runs (meant: 90 %" in lines["risk band: 90 % of the points of a run: held in"]
    assert lines["90 % interval of u_maximum"].startswith("holds ")
    assert uncertainty_rows({}) == []
