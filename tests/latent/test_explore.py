"""Walks in the latent space: where they end, what they are made of, and that they are the same each time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from romvae import latent as looking
from romvae.errors import ConfigError
from romvae.schema import LATENT


def _space(rom) -> tuple[str, ...]:
    return rom.schema.grid.names


def _check(rom, fields: xr.Dataset, *lead: str) -> None:
    """Each field and its deviation, on the leading dims and the grid, with coordinates and units."""
    for name in rom.schema.field_names:
        for both in (name, f"{name}_std"):
            assert fields[both].dims == (*lead, *_space(rom))
            assert fields[both].attrs["units"] == "m s-1"
            assert bool(np.isfinite(fields[both]).all())
    for axis in _space(rom):
        assert fields[axis].attrs["units"] == "m"
    assert all(dim in fields.coords for dim in lead)


def _one(parts, time: int = 3) -> xr.Dataset:
    return parts.test.isel(trajectory=[0], time=[time])


def test_every_walk_has_dims_coordinates_and_units(each):
    rom, parts = each
    _check(rom, looking.reconstruct(rom, parts.test), "trajectory", "time")
    _check(rom, looking.sample_prior(rom, 3), "sample")
    _check(rom, looking.neighbourhood(rom, _one(parts), 3), "sample")
    _check(rom, looking.interpolate(rom, _one(parts, 0), _one(parts, 5), 4), "position")
    _check(rom, looking.traverse(rom, _one(parts), [0, 2], steps=3), LATENT, "position")
    _check(rom, looking.manifold(rom, parts.test, size=3), "row", "column")


def test_reconstruction_lies_on_the_snapshots_and_takes_any_times(line):
    rom, parts = line
    whole = looking.reconstruct(rom, parts.test)
    thinned = looking.reconstruct(rom, parts.test.isel(time=[0, 3, 4]))
    np.testing.assert_allclose(thinned["u"], whole["u"].isel(time=[0, 3, 4]), atol=1e-5)
    error = parts.test["u"] - whole["u"]
    assert error.sizes == parts.test["u"].sizes


def test_the_same_seed_gives_the_same_fields_and_the_global_state_is_left_alone(line):
    rom, parts = line
    before = torch.get_rng_state()
    for draw in (
        lambda seed: looking.sample_prior(rom, 4, seed=seed),
        lambda seed: looking.neighbourhood(rom, _one(parts), 4, seed=seed),
    ):
        assert draw(1).identical(draw(1))
        assert not draw(1).identical(draw(2))
    assert torch.equal(before, torch.get_rng_state())
    for walk in (looking.traverse, looking.project, looking.manifold):
        assert walk(rom, _one(parts) if walk is looking.traverse else parts.test).identical(
            walk(rom, _one(parts) if walk is looking.traverse else parts.test)
        )


def test_walks_pass_through_the_reconstruction(each):
    """The middle of a traversal, both ends of an interpolation and a neighbourhood of width zero."""
    rom, parts = each
    first, second = _one(parts, 0), _one(parts, 5)
    at = [looking.reconstruct(rom, end)["u"].values[0, 0] for end in (first, second)]
    middle = looking.traverse(rom, first, steps=5)["u"]
    assert middle["position"].values[2] == 0.0
    between = looking.interpolate(rom, first, second, 5)["u"]
    near = looking.neighbourhood(rom, first, 3, width=0.0)["u"]
    tolerance = {"rtol": 0, "atol": 1e-5}  # float32, in batches of other sizes
    for i in range(rom.vae.latent):
        np.testing.assert_allclose(middle.values[i, 2], at[0], **tolerance)
    np.testing.assert_allclose(between.values[0], at[0], **tolerance)
    np.testing.assert_allclose(between.values[-1], at[1], **tolerance)
    np.testing.assert_allclose(near.values, np.broadcast_to(at[0], near.shape), **tolerance)


def test_a_neighbourhood_is_as_wide_as_the_posterior(line):
    """Twice the width moves the fields about twice as far: to first order, and by the same noise."""
    rom, parts = line
    centre = looking.reconstruct(rom, _one(parts))["u"].values[0, 0]
    small = 2e-4 / float(rom.encode(_one(parts))["latent_std"].max())
    far, near = (looking.neighbourhood(rom, _one(parts), 64, width=w)["u"].values - centre for w in (2 * small, small))
    assert np.sqrt((far**2).mean() / (near**2).mean()) == pytest.approx(2, rel=0.05)


def test_interpolation_is_measured_at_the_true_states(line):
    rom, parts = line
    errors = looking.interpolation_error(rom, parts.test, 4)
    assert errors["time"].values.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(errors["field"][[0, -1]], 0, atol=1e-7)
    np.testing.assert_allclose(errors["latent"][[0, -1]], errors["encoding"][[0, -1]], rtol=1e-5)
    assert float(errors["field"][2]) > float(errors["field"][1]) > 0  # a wave travels between the ends


def test_projection_keeps_the_codes_own_distances(line):
    rom, parts = line
    found = looking.project(rom, parts.test)
    codes = rom.encode(parts.test)["latent_mean"].values.reshape(-1, rom.vae.latent).astype(float)
    variance = codes.var(0).sum()
    first, second = (float(found[name].var()) for name in ("first", "second"))
    assert found.attrs["share"] == pytest.approx([first / variance, second / variance], rel=1e-4)
    assert 1.0001 >= sum(found.attrs["share"]) > found.attrs["share"][0] > found.attrs["share"][1]
    assert found["viscosity"].dims == ("trajectory",)
    mean = np.sqrt(float((found["error"] ** 2).mean()))
    assert mean == pytest.approx(looking.activity(rom, parts.test).relative_error, rel=1e-4)


def test_the_manifold_runs_over_equal_quantiles_of_the_chosen_latents(line):
    rom, parts = line
    found = looking.manifold(rom, parts.test, axes=(2, 0), size=3)
    assert found.attrs["latents"] == [2, 0]
    np.testing.assert_allclose(found["row"], [-0.9674, 0, 0.9674], atol=1e-4)  # quantiles 1/6, 1/2, 5/6
    table = looking.activity(rom, parts.test).table
    assert looking.manifold(rom, parts.test, size=2).attrs["latents"] == table["kl"].values.argsort()[::-1][:2].tolist()


def test_refusals_say_what_to_do(line):
    rom, parts = line
    with pytest.raises(ConfigError, match=r"steps is 1, expected at least 2"):
        looking.interpolate(rom, _one(parts), _one(parts), 1)
    with pytest.raises(ConfigError, match=r"one snapshot at either end\. Select one with isel"):
        looking.interpolate(rom, parts.test, _one(parts))
    with pytest.raises(ConfigError, match=r"gap is 9, expected 2 to 7"):
        looking.interpolation_error(rom, parts.test, 9)
