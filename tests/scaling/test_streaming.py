"""However long, wide or many: what a rollout holds at once is bounded, and that changes no value."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from romvae import first_order as first_order_module
from romvae import forecast as forecast_module
from romvae import pieces as pieces_module
from romvae import rollout as rollout_module
from romvae.data import write_snapshots, zarr_store
from romvae.dynamics import base
from romvae.dynamics.residual import ResidualDynamics
from romvae.errors import NumericsError, OutputError
from romvae.forecast import Course, Request, together
from romvae.rom import ROM
from romvae.tasks.shards import Row, Shard, put_row, shard_writer
from romvae.testing import mock_snapshots
from tests.deployment.roms import built


@pytest.fixture(scope="module")
def rom() -> ROM:
    return ROM.for_data(mock_snapshots(1), latent=2, channels=4, hidden=8, members=2)


def largest_piece(rom: ROM, ask: Request) -> int:
    start = mock_snapshots(1, trajectories=4).isel(time=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        course = Course.of(rom, start, ask)
        return max(sum(v.nbytes for v in piece.values.values()) for _, piece in course.pieces())


@pytest.mark.parametrize("propagation", ["members", "linear", "mean"])
def test_what_is_held_at_once_does_not_grow_with_the_number_of_steps(rom, propagation, monkeypatch):
    monkeypatch.setattr(rollout_module, "_VALUES", 2**8)
    monkeypatch.setattr(rollout_module, "snapshots_at_once", lambda points: 32)
    monkeypatch.setattr(first_order_module, "_VALUES", 2**8)
    monkeypatch.setattr(first_order_module, "snapshots_at_once", lambda points: 32)
    ask = Request(steps=8, members=8, propagation=propagation)
    assert largest_piece(rom, replace(ask, steps=24)) == largest_piece(rom, ask)


@pytest.mark.parametrize("propagation", ["members", "linear", "mean"])
def test_pieces_one_after_the_other_are_the_whole_forecast(rom, propagation):
    """Every wanted time comes once, in order; the forecast consists of nothing else."""
    start = mock_snapshots(1, trajectories=3).isel(time=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = rom.rollout(start, steps=9, members=8, propagation=propagation)
        course = Course.of(rom, start, Request(steps=9, members=8, propagation=propagation))
        found = list(course.pieces())
    assert [p.place for _, p in found] == np.cumsum([0, *(p.values["u"].shape[1] for _, p in found)])[:-1].tolist()
    for name in ("u", "latent") if propagation == "mean" else ("u", "u_std", "u_lower", "u_std_ensemble", "latent"):
        together_again = np.concatenate([piece.values[name] for _, piece in found], 1)
        np.testing.assert_array_equal(together_again, whole[name].values)


def test_fewer_trajectories_go_together_where_their_latents_or_fields_are_large(rom, monkeypatch):
    """Twice the steps or members: at most half as many; never less than one."""
    ask = Request(steps=99, members=32)
    monkeypatch.setattr(forecast_module, "BLOCK_BYTES", 4 * 4 * 100 * 32 * 2 * 8)
    assert together(rom, ask) == 8
    assert together(rom, replace(ask, steps=199)) == 4
    assert together(rom, replace(ask, members=64)) == 4
    assert together(rom, replace(ask, steps=10**6)) == 1
    assert together(rom, replace(ask, steps=10)) == 16
    monkeypatch.setattr(forecast_module, "BLOCK_BYTES", 4 * 16 * len(forecast_module.KINDS) * 2)
    assert together(rom, replace(ask, steps=1, members=1)) == 2


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_times_between_large_steps_do_not_depend_on_how_many_are_stepped_at_once(at_once, monkeypatch):
    """To rounding of float64: each of them follows from its own large step alone."""
    dynamics = ResidualDynamics(3, 1, 0.1, stride=3, members=2, hidden=8, depth=1, seed=0).double()
    z0, c = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    expected = dynamics.rollout(z0, c, float(dynamics.dt), 20)
    monkeypatch.setattr(base, "_ROWS", at_once)
    torch.testing.assert_close(dynamics.rollout(z0, c, float(dynamics.dt), 20), expected, rtol=1e-12, atol=1e-12)


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {"u": generator.random((7, 3, 2), np.float32), "latent": generator.random((7, 4))}


def test_a_shard_written_some_times_at_once_is_the_same_file(tmp_path):
    values = arrays()
    (tmp_path / "a").mkdir()
    put_row(tmp_path, Row(3, values))
    with shard_writer(tmp_path / "a", 3, {name: (v.dtype, v.shape) for name, v in values.items()}) as writer:
        for first in (4, 0):
            for name, each in values.items():
                writer.put(name, first, each[first : first + 4])
    assert (tmp_path / "a" / "00000003.shard").read_bytes() == (tmp_path / "00000003.shard").read_bytes()
    np.testing.assert_array_equal(Shard.read(tmp_path / "a" / "00000003.shard").values("u"), values["u"])


def test_a_shard_that_is_not_completed_leaves_nothing(tmp_path):
    places = {name: (v.dtype, v.shape) for name, v in arrays().items()}

    def stopped() -> None:
        with shard_writer(tmp_path, 3, places) as writer:
            writer.put("u", 0, arrays()["u"][:2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    missing: Path = tmp_path / "missing"
    with pytest.raises(OutputError) as error, shard_writer(missing, 0, {"u": (np.dtype("f4"), (2,))}):
        pass
    assert f"{missing / '00000000.shard'}: cannot be written" in str(error.value)


def test_a_store_is_the_same_however_little_of_it_passes_through_memory_at_once(tmp_path, monkeypatch):
    """Byte for byte; blocks of one time against whole trajectories."""
    data = mock_snapshots(2, ("u", "v"), trajectories=2, times=7)
    read: list[int] = []
    original = zarr_store.write_shard

    def counted(path, parts, *told):
        original(path, (read.append(part.shape[1]) or part for part in parts), *told)

    monkeypatch.setattr(zarr_store, "write_shard", counted)
    for name, limit in (("whole.zarr", 2**23), ("parts.zarr", 3 * 4 * data["u"][0, 0].size)):
        monkeypatch.setattr(zarr_store, "BLOCK_BYTES", limit)
        write_snapshots(data, tmp_path / name)
    assert read == [7] * 4 + [3, 3, 1] * 4
    files = sorted(path.relative_to(tmp_path / "whole.zarr") for path in (tmp_path / "whole.zarr").rglob("*"))
    assert files == sorted(path.relative_to(tmp_path / "parts.zarr") for path in (tmp_path / "parts.zarr").rglob("*"))
    for file in files:
        if (tmp_path / "whole.zarr" / file).is_file():
            assert (tmp_path / "whole.zarr" / file).read_bytes() == (tmp_path / "parts.zarr" / file).read_bytes()


@pytest.mark.parametrize("kind", ["residual", "stride", "ode", "gru", "transformer", "fourier", "controls"])
def test_a_rollout_in_parts_of_time_is_the_whole_one(kind):
    """To rounding of float64, with memory and controls handed on; a single part is the same to the bit."""
    rom, _ = built(kind)
    dynamics = copy.deepcopy(rom.dynamics).double()
    generator = torch.Generator().manual_seed(0)
    steps, conditions = 13, len(rom.schema.parameters)
    z0 = torch.randn(dynamics.members, 3, dynamics.latent, generator=generator, dtype=torch.float64)
    c = torch.rand(3, conditions, generator=generator, dtype=torch.float64)
    along: dict[str, torch.Tensor] = {}
    if dynamics.window > 1:
        along["past"] = 0.1 + torch.randn(3, 1, dynamics.latent, generator=generator, dtype=torch.float64)
    if rom.schema.controls:
        along["controls"] = torch.randn(3, steps + 1, len(rom.schema.controls), generator=generator).double()
    with torch.no_grad():
        whole = dynamics.rollout(z0, c, float(dynamics.dt), steps, **along)
        for length in (dynamics.stride, 2 * dynamics.stride, 4 * dynamics.stride):
            parts = list(dynamics.passing(z0, c, steps, length, **along))
            assert [begin for begin, _ in parts] == list(range(0, steps, length))
            assert max(len(part) for _, part in parts) <= length + 1
            torch.testing.assert_close(torch.cat([part for _, part in parts]), whole, rtol=1e-11, atol=1e-11)
        ((begin, only),) = dynamics.passing(z0, c, steps, steps, **along)
    assert begin == 0
    assert torch.equal(only, whole)


@pytest.mark.parametrize("propagation", ["members", "mean"])
def test_latents_of_few_steps_are_held_at_once_and_the_forecast_stays(rom, propagation, monkeypatch):
    start = mock_snapshots(1, trajectories=3).isel(time=0)
    told = {"steps": 12, "members": 8, "propagation": propagation, "times": [0.0, 0.2, 0.7, 1.2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = rom.rollout(start, **told)
        members = 8 if propagation == "members" else rom.dynamics.members
        monkeypatch.setattr(pieces_module, "LATENT_BYTES", 5 * 4 * members * 3 * rom.vae.latent * rom.dynamics.stride)
        assert pieces_module.steps_at_once(rom, Request(propagation=propagation, steps=12, members=8), 3) == 5
        parts = rom.rollout(start, **told)
    assert parts.attrs == whole.attrs
    for name in whole.variables:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, atol=1e-5)  # float32 in other batches


def test_what_diverges_late_is_named_by_its_own_step(rom, monkeypatch):
    """Growth by 9 in a step is too much after five of them, in the third part of two steps."""
    wild = copy.deepcopy(rom)
    with torch.no_grad():
        for part in (*wild.dynamics.weights, *wild.dynamics.biases, wild.dynamics.linear):
            part.zero_()
        wild.dynamics.centre.zero_()
        wild.dynamics.scale.fill_(1.0)
        wild.dynamics.linear[:, : wild.vae.latent] = 8 * torch.eye(wild.vae.latent)
    start = mock_snapshots(1, trajectories=1).isel(time=0)
    found = []
    for limit in (2**23, 2 * 4 * 8 * wild.vae.latent):
        monkeypatch.setattr(pieces_module, "LATENT_BYTES", limit)
        with pytest.raises(NumericsError) as error:
            wild.rollout(start, steps=12, members=8)
        found.append(str(error.value))
    assert found[0] == found[1]
    assert "has grown more than 10000 times at step 5 of 12" in found[0]
