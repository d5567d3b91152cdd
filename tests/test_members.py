"""Members of a forecast as fields: their mean is the forecast's, their variance the part of the dynamics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import romvae
from romvae import forecast as forecast_module
from romvae import rollout as rollout_module
from romvae.data import open_snapshots
from romvae.errors import ConfigError, NotEnoughMemoryError, SchemaError
from romvae.forecast import Request, together
from romvae.quantities import calibrate, maximum
from romvae.rom import ROM
from romvae.testing import mock_snapshots

ROUND = 2e-6
"""Single precision: means of eight values of order one."""


def _rom(ndim: int = 1, fields: tuple[str, ...] = ("u",)) -> tuple[ROM, xr.Dataset]:
    """Untrained, and its decoder far from linear."""
    data = mock_snapshots(ndim, fields, trajectories=6, times=8)
    rom = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in rom.vae.decoder.parameters():
            each.add_(0.2 * torch.randn(each.shape, generator=generator))
    return rom.eval(), data


@pytest.mark.parametrize(("ndim", "fields"), [(1, ("u",)), (2, ("v", "p")), (3, ("u",))])
@pytest.mark.parametrize("at_once", [None, 3], ids=["together", "in parts"])
def test_the_mean_over_members_is_the_forecast_and_their_variance_that_of_the_dynamics(
    ndim, fields, at_once, monkeypatch
):
    """Whether all members of a lead time are decoded at once or some of them in turn."""
    rom, data = _rom(ndim, fields)
    if at_once is not None:
        monkeypatch.setattr(rollout_module, "snapshots_at_once", lambda points: at_once)
    found = rom.rollout(data.isel(time=0), 5, 8, keep_members=True)
    for name in fields:
        members = found[f"{name}_members"]
        assert members.dims == ("member", *found[name].dims)
        assert members.sizes["member"] == 8
        assert members.attrs["units"] == found[name].attrs["units"]
        scale = float(abs(found[name]).max())
        np.testing.assert_allclose(members.mean("member"), found[name], rtol=0, atol=ROUND * scale)
        # The calibration has not been fitted: it leaves variances as they are.
        spread = members.astype(float).std("member", ddof=1)
        np.testing.assert_allclose(spread, found[f"{name}_std_dynamics"], rtol=1e-3, atol=1e-5 * scale)
        assert float(spread.max()) > 1e-2 * scale


def test_a_member_is_its_own_code_decoded():
    rom, data = _rom()
    start = data.isel(time=0)
    found = rom.rollout(start, 3, 8, keep_members=True)["u_members"]
    x, c = rom.normalised(start)
    with torch.no_grad():
        path = rollout_module.latent_members(rom.vae, rom.dynamics, x[:, -1], c, 3, 8, 0)
        expected = rom.normaliser.inverse(rom.vae.decoder(path[2, 1]).mean)[:, 0].numpy()
    np.testing.assert_allclose(found.isel(member=1, time=2), expected, rtol=1e-4, atol=1e-5)


def test_everything_else_is_that_of_a_forecast_without_them():
    rom, data = _rom(2, ("v", "p"))
    start = data.isel(time=0)
    with_them, without = rom.rollout(start, 5, 8, keep_members=True), rom.rollout(start, 5, 8)
    kept = {"v_members", "p_members"}
    assert set(with_them.data_vars) - set(without.data_vars) == kept
    xr.testing.assert_allclose(with_them.drop_vars(kept), without, rtol=2e-5, atol=2e-6)
    assert "keep" not in " ".join(without.attrs)


def test_parts_of_a_forecast_and_quantities_have_their_members_too():
    rom, data = _rom()
    watched = [maximum("u")]
    calibrate(rom, data, watched, members=8)
    start, times = data.isel(time=0), data["time"].values[[1, 4]]
    whole = rom.rollout(start, 5, 8, keep_members=True)["u_members"]
    part = rom.rollout(start, 5, 8, keep_members=True, times=times, region={"x": (0.2, 0.5)})["u_members"]
    xr.testing.assert_allclose(part, whole.sel(time=times, x=slice(0.2, 0.5)), rtol=2e-5, atol=2e-6)
    found = rom.rollout(start, 5, 8, keep_members=True, quantities=watched)
    np.testing.assert_allclose(found["u_members"], whole, rtol=2e-5, atol=2e-6)
    highest = found["u_members"].max("x").mean("member")
    np.testing.assert_allclose(highest, found["u_maximum"], rtol=1e-5)
    single = rom.rollout(start.isel(trajectory=2), 5, 8, keep_members=True)["u_members"]
    assert single.dims == ("member", "time", "x")


def test_outside_of_the_domain_every_member_repeats_the_start():
    rom, data = _rom()
    mask = np.ones(data.sizes["x"], bool)
    mask[4:9] = False
    rom.vae.decoder.mask = torch.from_numpy(mask)
    found = rom.rollout(data.isel(time=0), 4, 8, keep_members=True)["u_members"].values
    given = data["u"].isel(time=0).values[:, ~mask]
    np.testing.assert_array_equal(found[..., ~mask], np.broadcast_to(given[None, :, None], (8, 6, 5, 5)))


@pytest.mark.parametrize("propagation", ["linear", "mean", "auto"])
def test_where_no_members_are_followed_none_are_kept(propagation, tmp_path):
    rom, data = _rom()
    start = data.isel(time=0)
    message = f"propagation='{propagation}' follows no members that could be kept. Use propagation='members'"
    with pytest.raises(ConfigError, match=message):
        rom.rollout(start, 3, 8, propagation=propagation, keep_members=True)
    with pytest.raises(ConfigError, match=message):
        romvae.rollout_to(tmp_path / "a.h5", rom, start, 3, 8, propagation=propagation, keep_members=True)
    assert not list(tmp_path.iterdir())


def test_a_field_that_has_the_name_of_members_is_refused():
    rom, data = _rom(1, ("u", "u_members"))
    start = data.isel(time=0)
    rom.rollout(start, 2, 8)
    with pytest.raises(SchemaError, match="the members of 'u' would have the name of the field 'u_members'"):
        rom.rollout(start, 2, 8, keep_members=True)


def test_blocks_are_smaller_where_members_are_kept(monkeypatch):
    """Eight kinds of a field, and each member twice, against the bytes of a block."""
    rom, _ = _rom(3)
    points = rom.schema.grid.points
    assert 4 * points * 8 > 4 * 4 * 2 * 32 * 3  # or latents would decide
    monkeypatch.setattr(forecast_module, "BLOCK_BYTES", 4 * points * 8 * 16)
    assert together(rom, Request(1, 32)) == 16
    assert together(rom, Request(1, 4, keep_members=True)) == 8  # (8 + 2 * 4) / 8: twice as much
    assert together(rom, Request(1, 32, keep_members=True)) == 1  # nine times as much, and powers of two only


def test_members_that_do_not_fit_are_refused_before_they_are_computed(monkeypatch):
    rom, data = _rom()
    monkeypatch.setattr("romvae.memory.available_bytes", lambda: 4 * 8 * 6 * 6 * rom.schema.grid.points - 1)
    rom.rollout(data.isel(time=0), 5, 8)
    with pytest.raises(NotEnoughMemoryError, match=r"8 members of 6 forecasts: needs about.*romvae\.rollout_to"):
        rom.rollout(data.isel(time=0), 5, 8, keep_members=True)
    rom.rollout(data.isel(time=0), 4, 8, keep_members=True)


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_a_store_that_is_written_as_times_pass_holds_the_same_members(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(rollout_module, "_VALUES", 6 * 8 * 16)  # one lead time at once
    rom, data = _rom(2, ("v", "p"))
    start, threads = data.isel(time=0), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = rom.rollout(start, 4, 8, keep_members=True)
    finally:
        torch.set_num_threads(threads)
    out = romvae.rollout_to(tmp_path / f"a.{suffix}", rom, start, 4, 8, keep_members=True)
    with open_snapshots(out) as found:
        assert found.load().identical(expected)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
