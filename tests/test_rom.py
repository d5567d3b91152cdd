"""The ROM as one object: forecasts, their uncertainty, saving, and refusals."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.data import split
from romvae.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FewMembersWarning,
    OutOfRangeWarning,
    OutputError,
    SchemaError,
)
from romvae.rollout import latent_members
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import fit

TINY = {"latent": 3, "channels": 4, "hidden": 8, "members": 2}
STEPS = {"vae_steps": 6, "variance_steps": 4, "dynamics_steps": 6}


def _trained(ndim: int = 1, fields: tuple[str, ...] = ("u",)) -> tuple[ROM, xr.Dataset]:
    data = mock_snapshots(ndim, fields, trajectories=14, times=8)
    parts = split(data, seed=0)
    rom = ROM.for_data(parts.train, **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        fit(rom, parts, seed=0, batch_size=8, **STEPS)
    return rom, data


@pytest.fixture(scope="module")
def trained() -> tuple[ROM, xr.Dataset]:
    return _trained()


@pytest.mark.parametrize(("ndim", "fields"), [(1, ("u",)), (2, ("v", "p")), (3, ("u",))])
def test_forecast_lies_on_the_snapshots_own_dims_and_its_variances_add_up(ndim, fields):
    rom, data = _trained(ndim, fields)
    start = data.isel(time=0, trajectory=slice(0, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        forecast = rom.rollout(start, steps=5, members=9)
    for name in fields:
        assert forecast[name].dims == data[name].dims
        assert forecast[name].sizes["time"] == 6
        total = forecast[f"{name}_std_decoder"] ** 2 + forecast[f"{name}_std_dynamics"] ** 2
        np.testing.assert_allclose(forecast[f"{name}_std"] ** 2, total, rtol=1e-4)
        assert bool((forecast[f"{name}_lower"] < forecast[name]).all())
        assert bool((forecast[name] < forecast[f"{name}_upper"]).all())
    reference = data.isel(trajectory=slice(0, 3), time=slice(0, 6))
    with xr.set_options(arithmetic_join="exact"):
        difference = reference[list(fields)] - forecast[list(fields)]
    assert all(bool(np.isfinite(v).all()) for v in difference.values())


def test_every_variable_of_a_forecast_has_the_units_of_its_field_whatever_the_names():
    data = mock_snapshots(1, ("u", "u_std", "u_x"), trajectories=8)
    for name, units in (("u", "m s-1"), ("u_std", "K"), ("u_x", "s-1")):
        data[name].attrs["units"] = units
    with pytest.raises(SchemaError, match=r"'u_std' has the name of a variable of the forecast"):
        ROM.for_data(data, **TINY)
    kept = data.drop_vars("u_std")
    forecast = ROM.for_data(kept, **TINY).rollout(kept.isel(time=0), steps=1, members=8)
    assert forecast["u_lower"].attrs["units"] == "m s-1"
    assert forecast["u_x_std_dynamics"].attrs["units"] == "s-1"


def test_one_trajectory_gives_what_it_gives_among_others(trained):
    rom, data = trained
    together = rom.rollout(data.isel(time=0), steps=4, members=8, seed=3)
    alone = rom.rollout(data.isel(time=0, trajectory=0), steps=4, members=8, seed=3)
    assert alone["u"].dims == ("time", "x")
    np.testing.assert_allclose(alone["u"], together["u"][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone["u_std"], together["u_std"][0], rtol=1e-3, atol=1e-6)


def test_the_same_seed_gives_the_same_members_and_another_seed_others(trained):
    rom, data = trained
    start = data.isel(time=0, trajectory=[0])
    one, same, other = (rom.rollout(start, steps=3, members=8, seed=s) for s in (1, 1, 2))
    xr.testing.assert_identical(one, same)
    assert not np.array_equal(one["u_std_dynamics"], other["u_std_dynamics"])


def test_a_single_member_has_no_dynamics_spread(trained):
    rom, data = trained
    forecast = rom.rollout(data.isel(time=0, trajectory=[0]), steps=3, members=1)
    assert float(forecast["u_std_dynamics"].max()) == 0.0


def test_saved_and_loaded_rolls_out_bit_for_bit(trained, tmp_path):
    rom, data = trained
    rom.save(tmp_path / "rom")
    other = ROM.load(tmp_path / "rom")
    start = data.isel(time=0, trajectory=slice(0, 2))
    xr.testing.assert_identical(rom.rollout(start, steps=7), other.rollout(start, steps=7))
    assert other.schema == rom.schema
    assert sorted(p.name for p in (tmp_path / "rom").iterdir()) == ["config.json", "manifest.json", "model.safetensors"]


def test_saving_never_replaces_silently(trained, tmp_path):
    rom, _ = trained
    rom.save(tmp_path / "rom")
    with pytest.raises(OutputError, match="exists"):
        rom.save(tmp_path / "rom")
    rom.save(tmp_path / "rom", overwrite=True)


def test_damaged_and_foreign_models_are_refused(trained, tmp_path):
    rom, _ = trained
    path = rom.save(tmp_path / "rom")
    weights = path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"model.safetensors: its SHA-256 differs"):
        ROM.load(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match="missing, the saved ROM is incomplete"):
        ROM.load(path)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match="format is 99, this romvae"):
        ROM.load(path)
    with pytest.raises(CheckpointError, match="found nothing, expected the folder"):
        ROM.load(tmp_path / "none")


def test_codes_of_a_linear_start_reproduce_fields_in_its_subspace():
    """Before training the ROM is POD: fields that three modes span come back to round-off."""
    rng = np.random.default_rng(0)
    data = mock_snapshots(1, trajectories=10, times=5)
    x = np.linspace(0, 2 * np.pi, data.sizes["x"], endpoint=False)
    modes = np.stack([np.sin(x), np.cos(2 * x), np.sin(3 * x)])
    data["u"].values[:] = (rng.normal(size=(10, 5, 3)) @ modes).astype(np.float32)
    rom = ROM.for_data(data, **TINY)
    restored = rom.decode(rom.encode(data)["latent_mean"])
    np.testing.assert_allclose(restored["u"].values, data["u"].values, atol=2e-5)


def test_building_leaves_the_global_generator_alone_and_depends_on_the_seed():
    data = mock_snapshots(1, trajectories=8)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, same, other = (ROM.for_data(data, **TINY, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    pairs = list(zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    others = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert any(not torch.equal(a, b) for a, b in others)


def test_refusals_name_what_was_found_and_what_to_do(trained):
    rom, data = trained
    start = data.isel(time=0, trajectory=[0])
    with pytest.raises(DataError, match="start holds 8 times, expected one"):
        rom.rollout(data)
    with pytest.raises(ConfigError, match="steps is 0, expected 1 or more"):
        rom.rollout(start, steps=0)
    with pytest.raises(ConfigError, match="members is -1"):
        rom.rollout(start, members=-1)
    with pytest.raises(ConfigError, match=r"level is 1\.5"):
        rom.rollout(start, level=1.5)
    with pytest.raises(SchemaError, match="v"):
        rom.rollout(start.rename(u="v"))
    with pytest.raises(SchemaError, match="x"):
        rom.rollout(start.isel(x=slice(0, 8)))
    units = start.copy(deep=True)
    units["u"].attrs["units"] = "m"
    with pytest.raises(SchemaError, match="units"):
        rom.rollout(units)
    bad = start.copy(deep=True)
    bad["u"].values[0, 5] = np.nan
    with pytest.raises(DataError, match=r"'u' is not finite at trajectory=0, x=5"):
        rom.rollout(bad)
    with pytest.warns(OutOfRangeWarning, match="viscosity"):
        rom.rollout(start.assign_coords(viscosity=("trajectory", [50.0], start["viscosity"].attrs)), steps=1)


def test_few_members_give_a_mean_and_a_warning(trained):
    rom, data = trained
    start = data.isel(time=0, trajectory=[0])
    with pytest.warns(FewMembersWarning, match="2 members say little") as seen:
        rom.rollout(start, steps=2, members=2)
    assert {each.filename for each in seen if each.category is FewMembersWarning} == {__file__}
    outside = start.assign_coords({name: start[name] + 1e3 for name in rom.schema.parameter_names})
    with pytest.warns(OutOfRangeWarning) as seen:
        rom.rollout(outside, steps=2, members=8)
    assert {each.filename for each in seen} == {__file__}  # the line that a user can change
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewMembersWarning)
        rom.rollout(start, steps=2, members=8)


def test_more_members_leave_the_first_ones_as_they_are(trained):
    rom, data = trained
    x, c = rom.normalised(data.isel(time=0))
    few, many = (latent_members(rom.vae, rom.dynamics, x[:, 0], c, 4, m, seed=5) for m in (6, 14))
    torch.testing.assert_close(few, many[:, :6], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["latent", "hidden", "depth", "members", "noise_floor", "channels", "patch"])
def test_sizes_of_zero_are_refused_and_not_taken_for_the_default(name):
    with pytest.raises(ConfigError, match=f"{name} is 0, expected a positive number"):
        ROM.for_data(mock_snapshots(1), **{name: 0})


@pytest.mark.parametrize("name", ["vae_steps", "variance_steps", "dynamics_steps", "learning_rate", "batch_size"])
def test_training_settings_of_zero_are_refused(name):
    parts = split(mock_snapshots(1, trajectories=12), seed=0)
    rom = ROM.for_data(parts.train, **TINY)
    with pytest.raises(ConfigError, match=f"{name} is 0, expected a positive number"):
        fit(rom, parts, **{name: 0})


def test_the_seed_is_on_record(tmp_path):
    rom = ROM.for_data(mock_snapshots(1), **TINY, seed=7)
    rom.save(tmp_path / "rom")
    assert ROM.load(tmp_path / "rom").config["seed"] == 7


def test_data_at_another_time_step_is_refused(trained):
    rom, data = trained
    with pytest.raises(SchemaError, match=r"time step is 0\.2"):
        rom.encode(data.isel(time=slice(None, None, 2)))


def test_training_twice_gives_the_same_weights():
    one, _ = _trained()
    two, _ = _trained()
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_model_of_a_version_without_fully_connected_layers_still_loads():
    rom = ROM.for_data(mock_snapshots(2, ("u",), trajectories=12, times=8), expand=0, **TINY)
    told = json.loads(rom.description())
    assert told["model"].pop("expand") == 0
    again = ROM.from_description(json.dumps(told))
    assert again.config["expand"] == 0
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in rom.state_dict().items()}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start": np.zeros((2, 16))}, r"start is a ndarray, expected an xarray Dataset .* data\.isel\(time=0\)"),
        ({"steps": 2.5}, r"steps is 2\.5, expected a whole number"),
        ({"steps": True}, "steps is True, expected a whole number"),
        ({"members": "8"}, "members is '8', expected a whole number"),
    ],
)
def test_what_a_rollout_is_given_by_mistake_is_named(trained, changed, message):
    rom, data = trained
    given = {"start": data.isel(time=0), "steps": 2, "members": 8}
    with pytest.raises(ConfigError, match=message):
        rom.rollout(**{**given, **changed})
