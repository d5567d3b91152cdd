"""Grid points outside of the domain: nothing that stands there may matter, and nothing may be claimed about them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.baselines import default_baselines
from romvae.canonical import MASK, MASK_ATTRS
from romvae.data import split
from romvae.errors import OutOfRangeWarning, SchemaError
from romvae.invariance import shift_axes
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import fit

TINY = {"latent": 3, "channels": 4, "hidden": 8, "members": 2}
STEPS = {"vae_steps": 6, "variance_steps": 4, "dynamics_steps": 6}


def _with_obstacle(outside: float) -> xr.Dataset:
    """Two fields on a non-square grid with an obstacle off the centre, in which `outside` stands."""
    data = mock_snapshots(2, ("u", "v"), trajectories=14, times=8)
    inside = np.ones([data.sizes[d] for d in ("y", "x")], dtype=np.int8)
    inside[1:4, 2:4] = 0
    data[MASK] = (("y", "x"), inside, MASK_ATTRS)
    for name in ("u", "v"):
        data[name] = data[name].where(data[MASK] == 1, outside).assign_attrs(data[name].attrs)
    return data


def _trained(data: xr.Dataset, **choices: str) -> ROM:
    parts = split(data, seed=0)
    rom = ROM.for_data(parts.train, **TINY, **choices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        fit(rom, parts, seed=0, batch_size=8, **STEPS)
    return rom


@pytest.fixture(scope="module")
def roms() -> tuple[ROM, ROM]:
    return _trained(_with_obstacle(np.nan)), _trained(_with_obstacle(1e3))


@pytest.mark.parametrize("choices", [{}, {"variance": "student_t"}, {"variance": "global"}, {"compression": "ppca"}])
def test_what_stands_outside_changes_neither_weights_nor_calibration(roms, choices):
    one, other = (
        roms if not choices else (_trained(_with_obstacle(np.nan), **choices), _trained(_with_obstacle(7.0), **choices))
    )
    for name, value in one.state_arrays().items():
        assert torch.equal(value, other.state_arrays()[name]), name
        assert bool(value.isfinite().all()), name


def test_forecast_repeats_the_start_outside_and_claims_no_spread_there(roms):
    data = _with_obstacle(1e3).isel(trajectory=slice(0, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        forecast = roms[0].rollout(data.isel(time=0), steps=4, members=8)
        alone = roms[0].rollout(data.isel(time=0, trajectory=1), steps=4, members=8)
    outside = data[MASK] == 0
    for kind in ("", "_lower", "_upper"):
        assert (
            float(forecast["u" + kind].where(outside).min()) == float(forecast["u" + kind].where(outside).max()) == 1e3
        )
    for kind in ("_std", "_std_decoder", "_std_dynamics"):
        assert float(forecast["u" + kind].where(outside, 0.0).max()) == 0.0
        assert float(forecast["u" + kind].where(~outside).min()) > 0.0
    assert alone["u"].where(outside).max() == 1e3
    xr.testing.assert_equal(forecast[MASK], data[MASK])


def test_a_start_without_the_mask_gives_the_same_forecast_inside(roms):
    data = _with_obstacle(1e3).isel(trajectory=slice(0, 2), time=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        with_mask = roms[0].rollout(data, steps=3, members=8)
        without = roms[0].rollout(data.drop_vars(MASK), steps=3, members=8)
    xr.testing.assert_equal(with_mask, without)


def test_the_mask_is_saved_and_another_one_is_refused(roms, tmp_path):
    roms[0].save(tmp_path / "rom")
    loaded = ROM.load(tmp_path / "rom")
    np.testing.assert_array_equal(loaded.mask, roms[0].mask)
    assert int((~loaded.mask).sum()) == 6
    start = _with_obstacle(0.0).isel(time=0)
    moved = start.assign({MASK: start[MASK].roll(x=1)})
    with pytest.raises(SchemaError, match=r"'mask' differs from the training data's at 6 points, first at y=1, x=2"):
        loaded.rollout(moved, steps=1, members=8)
    plain = ROM.for_data(mock_snapshots(2, ("u", "v")), **TINY)
    with pytest.raises(SchemaError, match="'mask' leaves 6 points out of the domain, but this ROM was trained without"):
        plain.rollout(start, steps=1, members=8)


def test_likelihood_is_that_of_the_points_inside(roms):
    rom = roms[0]
    x, _ = rom.normalised(_with_obstacle(np.nan).isel(trajectory=slice(0, 2)))
    p = rom.vae.decoder(rom.vae.encoder(x.flatten(0, 1)).mean)
    inside = torch.from_numpy(rom.mask)
    each = torch.distributions.Normal(p.base_dist.mean, p.base_dist.stddev).log_prob(x.flatten(0, 1))
    torch.testing.assert_close(p.log_prob(x.flatten(0, 1)), each[..., inside].sum((1, 2)))
    assert rom.vae.decoder.points == inside.sum()


def test_baselines_neither_see_nor_forecast_what_stands_outside():
    forecasts = []
    for value in (np.nan, 5.0):
        data = _with_obstacle(value)
        parts = split(data, seed=0)
        for baseline in default_baselines(parts.train, 3):
            forecasts.append(baseline.fit(parts.train).rollout(parts.test.isel(time=0), parts.test["time"].values))
    half = len(forecasts) // 2
    inside = _with_obstacle(0.0)[MASK] == 1
    for one, other in zip(forecasts[:half], forecasts[half:], strict=True):
        xr.testing.assert_equal(one.where(inside), other.where(inside))
        assert bool(one["u"].where(inside, 0.0).notnull().all())
        assert bool((other["u"].where(~inside, 5.0) == 5.0).all())


def test_an_obstacle_breaks_the_symmetry_of_shifts(roms):
    x = torch.randn(40, 6, 1, 8, 12)
    schema = roms[0].schema
    free = shift_axes(x, schema)
    band = np.ones((8, 12), dtype=bool)
    band[3] = False
    spot = band.copy()
    spot[3, 1:] = True
    assert free == (1,)
    assert shift_axes(x, schema, band) == (1,)
    assert shift_axes(x, schema, spot) == ()
