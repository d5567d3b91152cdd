"""Rollouts on disk: the bits of one process and no disturbance, whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

import romvae
from romvae.data import open_snapshots
from romvae.errors import ConfigError, DataError, NumericsError, OutOfRangeWarning, OutputError, SchemaError
from romvae.solvers import Range
from romvae.studies import blocks, on_disk
from romvae.studies.packed import PackedModel, unpacked
from romvae.studies.starts import crossed, points, ranges_of

from .conftest import stopping

ASK = {"steps": 4, "members": 8}


def same(path: Path, expected: xr.Dataset) -> bool:
    with open_snapshots(path) as found:
        return bool(found.load().identical(expected))


def partial_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


@pytest.mark.parametrize("suffix", ["h5", pytest.param("zarr", marks=pytest.mark.slow)])
def test_the_store_is_that_of_a_rollout_to_the_bit(small, forecast, tmp_path, suffix):
    out = romvae.rollout_to(tmp_path / f"a.{suffix}", small.rom, small.start, **ASK)
    assert same(out, forecast)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_part_of_the_forecasts_is_that_part(small, tmp_path):
    part = {"times": [0.1, 0.3], "fields": ["v"], "region": {"x": (0.2, 0.5)}}
    out = romvae.rollout_to(tmp_path / "a.h5", small.rom, small.start, **ASK, **part)
    assert same(out, small.rom.rollout(small.start, **ASK, **part))


def test_bits_depend_on_the_neighbours_in_a_batch_and_therefore_blocks_are_fixed(small, forecast):
    """If this fails, networks no longer care for the batch, and blocks could be chosen at will."""
    alone = small.rom.rollout(small.start.isel(trajectory=[0]), **ASK)
    together = forecast.isel(trajectory=[0])
    assert not np.array_equal(alone["latent"], together["latent"])
    np.testing.assert_allclose(alone["latent"], together["latent"], rtol=1e-4, atol=1e-4)  # rounding of float32


def test_what_is_missing_is_added_at_its_place_with_the_same_bits(small, forecast, tmp_path, monkeypatch):
    """Interrupted after the first block; then half of it is lost: a block of fillers gives the same rollouts."""
    out, course_of = tmp_path / "a.h5", blocks.Course.of
    with pytest.raises(KeyboardInterrupt):
        romvae.rollout_to(out, small.rom, small.start, **ASK, progress=stopping(4))
    assert not out.exists()
    kept = sorted(partial_of(out).glob("*.shard"))
    assert [int(path.stem) for path in kept] == list(range(4))
    for path in kept[1:3]:
        path.unlink()
    untouched = {path: path.stat().st_mtime_ns for path in (kept[0], kept[3])}
    calls: list[int] = []

    def counted(model, start, ask, controls):
        calls.append(ask.first)
        assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
        return course_of(model, start, ask, controls)

    monkeypatch.setattr(blocks, "Course", SimpleNamespace(of=counted))
    romvae.rollout_to(out, small.rom, small.start, **ASK)
    assert calls == [0, 4]
    assert same(out, forecast)
    assert not partial_of(out).exists()


def test_a_trajectory_that_diverges_is_named_and_the_others_are_kept(small, forecast, tmp_path, monkeypatch):
    bad = [1, 4]
    values = small.start["viscosity"].values[bad]
    course_of = blocks.Course.of

    def diverging(model, start, ask, controls):
        if np.isin(start["viscosity"].values, values).any():
            raise NumericsError("the latent state stopped being finite at step 3 of 4")
        return course_of(model, start, ask, controls)

    out = tmp_path / "a.h5"
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "Course", SimpleNamespace(of=diverging))
        with pytest.raises(NumericsError) as error:
            romvae.rollout_to(out, small.rom, small.start, **ASK)
        assert f"2 of 6 trajectories failed: trajectory 1 (viscosity={values[0]:.6g}): the latent state" in str(
            error.value
        )
        assert "--skip-failed writes the output without them" in str(error.value)
        assert [each["index"] for each in json.loads((partial_of(out) / "failed.json").read_text())] == bad
        romvae.rollout_to(out, small.rom, small.start, **ASK, skip_failed=True)
    assert same(out, forecast.drop_isel(trajectory=bad))


def test_other_work_in_the_folder_is_refused_and_named(small, forecast, tmp_path):
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        romvae.rollout_to(out, small.rom, small.start, **ASK, progress=stopping(4))
    changed = small.start.assign(u=small.start["u"] + 1)
    for given, differs in (
        ({"seed": 1}, "seed 0 (now 1)"),
        ({"steps": 3}, "steps 4 (now 3)"),
        ({"start": changed}, "other initial fields, parameters"),
    ):
        with pytest.raises(OutputError, match="was begun with") as error:
            romvae.rollout_to(out, small.rom, **{"start": small.start, **ASK, **given})
        assert differs in str(error.value)
    romvae.rollout_to(out, small.rom, small.start, **ASK, overwrite=True)
    assert same(out, forecast)
    with pytest.raises(OutputError, match="exists already"):
        romvae.rollout_to(out, small.rom, small.start, **ASK)


@pytest.mark.slow
def test_killed_before_its_folder_was_removed_it_is_done(small, tmp_path, monkeypatch):
    out = tmp_path / "a.h5"
    with monkeypatch.context() as patch:
        patch.setattr(on_disk.WorkFolder, "remove", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            romvae.rollout_to(out, small.rom, small.start, **ASK)
    before = out.read_bytes()
    romvae.rollout_to(out, small.rom, small.start, **ASK)
    assert out.read_bytes() == before
    assert not partial_of(out).exists()


def test_a_design_crosses_every_point_with_every_field(small, tmp_path):
    values = points(ranges_of(small.rom.schema, [Range("viscosity", 0.2, 3.0)]), 3, 0, "grid")
    fields = small.start.isel(trajectory=[2, 4])
    starts = crossed(fields, small.rom.schema, values)
    with pytest.warns(OutOfRangeWarning, match=r"4 of 6 rollouts lie outside of the trained range \(viscosity goes"):
        out = romvae.rollout_to(tmp_path / "a.h5", small.rom, starts, **ASK)
    found = open_snapshots(out)
    np.testing.assert_allclose(found["viscosity"], np.repeat([0.2, 1.6, 3.0], 2))
    assert found["initial_field"].values.tolist() == [2, 4] * 3
    by_hand = fields.isel(trajectory=[0, 1] * 3).assign_coords(
        trajectory=np.arange(6), viscosity=("trajectory", found["viscosity"].values, small.start["viscosity"].attrs)
    )
    with pytest.warns(OutOfRangeWarning):
        expected = small.rom.rollout(by_hand, **ASK)
    assert np.array_equal(found["u_upper"], expected["u_upper"])


def test_the_first_points_of_a_larger_design_are_those_of_the_smaller_one(small):
    ranges = ranges_of(small.rom.schema)
    assert [(each.low, each.high) for each in ranges] == [
        (float(small.start["viscosity"].min()), float(small.start["viscosity"].max()))
    ]
    for design in ("sobol", "random"):
        assert points(ranges, 8, 3, design)[:5] == points(ranges, 5, 3, design)
    assert points(ranges, 8, 3, "random") != points(ranges, 8, 4, "random")


def test_ranges_that_make_no_sense_are_refused(small):
    schema = small.rom.schema
    with pytest.raises(
        ConfigError, match=r"range of 'viscosty': the model has no such parameter, only viscosity\. Did"
    ):
        ranges_of(schema, [Range("viscosty", 0, 1)])
    with pytest.raises(ConfigError, match="2 to 1 is no interval"):
        ranges_of(schema, [Range("viscosity", 2, 1)])
    with pytest.raises(ConfigError, match="begins at 0, which has no logarithm"):
        ranges_of(schema, [Range("viscosity", 0, 1, "log")])
    with pytest.raises(ConfigError, match="no parameter varies"):
        points(ranges_of(schema, [Range("viscosity", 1, 1)]), 4, 0, "sobol")
    with pytest.raises(SchemaError, match="'x' has 8 points"):
        crossed(small.start.isel(x=slice(0, 8)), schema)
    with pytest.raises(DataError, match="there is no initial field"):
        crossed(small.start.isel(trajectory=[]), schema)
    with pytest.raises(ConfigError, match="workers is 0"):
        romvae.rollout_to("a.h5", small.rom, small.start, workers=0)


def test_a_model_is_packed_whole_and_loaded_once(small, forecast):
    packed = PackedModel.of(small.rom)
    assert packed.digest == PackedModel.of(small.rom).digest
    assert unpacked(packed) is unpacked(packed)
    assert unpacked(packed).rollout(small.start, **ASK).identical(forecast)


# -- several processes, slow for the start of each


@pytest.fixture(scope="module")
def many(small):
    """Twelve blocks."""
    return crossed(small.start, small.rom.schema, points(ranges_of(small.rom.schema), 8, 0, "grid"))


@pytest.fixture(scope="module")
def unbroken(small, many, tmp_path_factory) -> xr.Dataset:
    """What nobody disturbed."""
    return open_snapshots(romvae.rollout_to(tmp_path_factory.mktemp("one") / "a.h5", small.rom, many, **ASK)).load()


@pytest.mark.slow
def test_two_processes_give_the_same_store_and_a_killed_one_loses_nothing(small, many, unbroken, tmp_path):
    killed: list[int] = []

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        alive = multiprocessing.active_children()
        if stage == "rollout" and done >= 8 and alive and not killed:
            killed.append(alive[0].pid)
            os.kill(alive[0].pid, signal.SIGKILL)

    romvae.rollout_to(tmp_path / "a.h5", small.rom, many, **ASK, workers=2, progress=kill)
    assert killed
    assert same(tmp_path / "a.h5", unbroken)


@pytest.mark.slow
def test_dask_gives_the_same_store_when_a_worker_is_killed(small, many, unbroken, tmp_path):
    """Both workers get the model, the one that is started in place of the dead one too."""
    distributed = pytest.importorskip("distributed")
    killed: list[int] = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:

        def kill(stage: str, done: int, total: int, note: str = "") -> None:
            if stage == "rollout" and done >= 8 and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        address = cluster.scheduler_address
        romvae.rollout_to(tmp_path / "a.h5", small.rom, many, **ASK, scheduler=address, progress=kill)
    assert killed
    assert same(tmp_path / "a.h5", unbroken)


@pytest.mark.slow
def test_dask_workers_that_do_not_share_the_disk_send_their_rollouts(small, many, unbroken, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    from romvae.tasks.ensemble import Errand

    monkeypatch.setattr(Errand, "into", classmethod(lambda cls, folder, block: cls(block, "/nonexistent", "")))
    romvae.rollout_to(tmp_path / "a.h5", small.rom, many, **ASK, workers=2, scheduler="local")
    assert same(tmp_path / "a.h5", unbroken)
