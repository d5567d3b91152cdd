"""Quantities of interest: their values, their own calibration, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from romvae import quantities as q
from romvae.calibration import ScalarScores, coverage_law
from romvae.data import split
from romvae.errors import ConfigError, DataError, SchemaError
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import fit, recalibrate


def _field(x: np.ndarray) -> xr.DataArray:
    values = np.stack([np.sin(2 * np.pi * x), 2.0 + 0 * x])
    return xr.DataArray(values, {"x": x}, ("trajectory", "x"))


def test_means_on_a_stretched_grid_are_integrals():
    x = np.linspace(0, 1, 401) ** 2
    u = _field(x)
    exact_mean, exact_l2 = (1 - np.cos(2 * np.pi)) / (2 * np.pi), 0.5**0.5
    # Second order in a step of at most 0.005, and the ends count a little too much.
    np.testing.assert_allclose(q.mean("u").of(u), [exact_mean, 2.0], atol=2e-3)
    np.testing.assert_allclose(q.l2("u").of(u), [exact_l2, 2.0], atol=2e-3)
    assert abs(float(u[0].mean()) - exact_mean) > 0.05  # what equal weights would give


def test_maximum_minimum_and_probe():
    u = _field(np.linspace(0, 1, 5))
    np.testing.assert_allclose(q.maximum("u").of(u), [1, 2])
    np.testing.assert_allclose(q.minimum("u").of(u), [-1, 2], atol=1e-12)
    np.testing.assert_allclose(q.probe("u", x=0.27).of(u), [1, 2])
    with pytest.raises(ConfigError, match=r"the place has \['y'\], expected \['x'\]"):
        q.probe("u", y=0.5).of(u)


def test_points_outside_of_the_domain_have_no_say():
    u = _field(np.linspace(0, 1, 8, endpoint=False)).where(np.arange(8) != 2, 1e9)
    u = u.where(np.arange(8) != 2)
    rest = np.delete(np.arange(8), 2)
    np.testing.assert_allclose(q.maximum("u").of(u), u.values[:, rest].max(1))
    np.testing.assert_allclose(q.mean("u").of(u), u.values[:, rest].mean(1), atol=1e-15)


def test_intervals_of_a_quantity_cover_new_trajectories_though_its_raw_spread_is_wrong():
    """Scores of 60 trajectories with heavy tails, 2,000 new ones: within a wide finite-sample interval, at 5 leads."""
    rng = np.random.default_rng(0)
    scale = np.array([0.2, 1.0, 3.0, 5.0, 9.0])[:, None]
    scores = ScalarScores()
    scores.keep("u_maximum", torch.arange(5), torch.from_numpy(scale * np.abs(rng.standard_t(3, (5, 60)))))
    new = scale * np.abs(rng.standard_t(3, (5, 2000)))
    std, width = scores.at("u_maximum", torch.arange(5), 0.9)
    low, high = coverage_law(60, 0.9, 0.998)
    for covered in (new <= width.numpy()[:, None]).mean(1):
        assert low - 0.02 < covered < high + 0.02
    assert bool((std > 0).all())


@pytest.fixture(scope="module")
def rom_and_data() -> tuple[ROM, xr.Dataset]:
    data = mock_snapshots(2, ("u", "v"), trajectories=14, times=6)
    rom = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2)
    return recalibrate(rom, data.isel(trajectory=slice(2, None))), data


def test_standard_quantities_are_calibrated_with_the_rom_and_forecast_with_intervals(rom_and_data):
    rom, data = rom_and_data
    watched = q.standard(rom.schema)
    assert rom.calibration.quantities.names == sorted(each.name for each in watched)
    start = data.isel(time=0, trajectory=slice(0, 2))
    forecast = rom.rollout(start, steps=5, members=8, quantities=watched)
    for each in watched:
        low, centre, high = (forecast[each.name + kind] for kind in ("_lower", "", "_upper"))
        assert centre.dims == ("trajectory", "time")
        assert centre.attrs["units"] == data[each.field].attrs["units"]
        assert centre.attrs["calibration_trajectories"] == 12
        assert bool((low <= centre).all())
        assert bool((centre <= high).all())
        assert each.name.endswith("_mean") or bool((low < high).all())  # the mean of these fields is zero, always
    # The mean is linear: its forecast is that of the mean field.
    np.testing.assert_allclose(forecast["u_mean"], forecast["u"].mean(["y", "x"]), rtol=1e-4, atol=1e-5)
    assert bool((forecast["u_maximum"] >= forecast["u"].max(["y", "x"]) - 1e-5).all())  # by convexity


def test_intervals_hold_the_calibration_trajectories_themselves(rom_and_data):
    """12 trajectories at 0.9 take the largest score: all are inside at calibrated lead times, if the members agree."""
    rom, data = rom_and_data
    watched = q.standard(rom.schema)
    mine = data.isel(trajectory=slice(2, None))
    forecast = rom.rollout(mine.isel(time=0), steps=5, members=16, quantities=watched)
    for each in watched:
        truth = each.function(mine[each.field])
        slack = 1e-4 * float(abs(truth).max())
        assert bool((truth >= forecast[f"{each.name}_lower"] - slack).all())
        assert bool((truth <= forecast[f"{each.name}_upper"] + slack).all())


def test_a_user_s_own_quantity_is_calibrated_saved_and_asked_for_by_name(rom_and_data, tmp_path):
    rom, data = rom_and_data
    own = q.Quantity("enstrophy", "v", lambda v: (v**2).mean(["y", "x"]), units="m2 s-2")
    start = data.isel(time=0, trajectory=[0])
    with pytest.raises(ConfigError, match=r"quantity 'enstrophy' is not calibrated in this ROM .*romvae\.quantities"):
        rom.rollout(start, steps=2, members=8, quantities=[own])
    assert q.calibrate(rom, data.isel(trajectory=slice(2, 14)), [own]) == {"enstrophy": 12}
    rom.save(tmp_path / "rom")
    one, other = (r.rollout(start, steps=4, members=8, quantities=[own]) for r in (rom, ROM.load(tmp_path / "rom")))
    xr.testing.assert_identical(one, other)
    assert one["enstrophy_upper"].attrs["units"] == "m2 s-2"


def test_too_few_trajectories_give_an_infinite_interval(rom_and_data):
    rom, data = rom_and_data
    watched = [q.probe("u", x=0.5, y=0.5)]
    q.calibrate(rom, data.isel(trajectory=slice(2, 7)), watched)
    forecast = rom.rollout(data.isel(time=0, trajectory=[0]), steps=2, members=8, quantities=watched)
    assert bool(np.isposinf(forecast["u_probe_upper"]).all())
    assert forecast["u_probe"].attrs["calibration_trajectories"] == 5


def test_trajectories_that_end_early_count_as_far_as_all_go(rom_and_data):
    rom, data = rom_and_data
    watched = [q.maximum("v")]
    mine = data.isel(trajectory=slice(2, None))
    lengths = np.where(np.arange(12) < 9, 6, 3)
    short = mine.where(xr.DataArray(np.arange(6), dims="time") < xr.DataArray(lengths, dims="trajectory"))
    short = short.transpose(*mine["u"].dims).assign_coords(n_steps=("trajectory", lengths))
    assert q.calibrate(rom, short, watched) == {"v_maximum": 9}
    start = data.isel(time=0, trajectory=[0])
    ragged = rom.rollout(start, steps=5, members=8, quantities=watched)
    assert bool(np.isfinite(ragged["v_maximum_upper"]).all())
    assert "given these 9: " in ragged["v_maximum"].attrs["guarantee"]
    q.calibrate(rom, mine.isel(trajectory=slice(0, 9)), watched)
    xr.testing.assert_identical(rom.rollout(start, steps=5, members=8, quantities=watched), ragged)
    q.calibrate(rom, mine, watched)


def test_what_makes_no_sense_is_refused(rom_and_data):
    rom, data = rom_and_data
    start = data.isel(time=0, trajectory=[0])
    with pytest.raises(ConfigError, match="the name 'my peak' is no variable name"):
        q.Quantity("my peak", "u", lambda u: u)
    with pytest.raises(SchemaError, match="quantity 'w_mean': there is no field 'w', only u, v"):
        rom.rollout(start, steps=2, members=8, quantities=[q.mean("w")])
    with pytest.raises(DataError, match=r"its function returns dims \('time', 'member', 'trajectory', 'x'\), expected"):
        q.calibrate(rom, data, [q.Quantity("row", "u", lambda u: u.mean("y"))])
    with pytest.raises(ConfigError, match="quantities are computed from members"):
        rom.rollout(start, steps=2, members=8, quantities=[q.mean("u")], propagation="linear")


def test_quantities_of_a_field_are_kept_whatever_the_field_is_called(tmp_path):
    """Trained, saved, loaded and rolled out: the names of fields belong to the data."""
    fields = ("vel-x", "T__w", "T.w", "2d u", "p%2E")
    data = mock_snapshots(1, fields, trajectories=10, times=5)
    parts = split(data)
    rom = ROM.for_data(parts.train, latent=2, channels=4, hidden=8, members=2)
    fit(rom, parts, vae_steps=2, variance_steps=1, dynamics_steps=2)
    rom.save(tmp_path / "rom")
    kept = ROM.load(tmp_path / "rom")
    watched = q.standard(rom.schema)
    assert kept.calibration.quantities.names == sorted(each.name for each in watched)
    start = data.isel(time=0, trajectory=slice(0, 2))
    one, other = (each.rollout(start, steps=3, members=8, quantities=watched) for each in (rom, kept))
    assert all(f"{field}_maximum_upper" in other for field in fields)
    xr.testing.assert_identical(one, other)


def test_the_part_of_a_quantity_name_that_is_chosen_is_a_variable_name():
    for name, field in (("vel-x", "u"), ("a b", "u"), ("u__m", "u"), ("vel-x_a-b", "vel-x"), ("", "u")):
        with pytest.raises(ConfigError, match="is no variable name"):
            q.Quantity(name, field, lambda u: u)
