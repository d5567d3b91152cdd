"""Several stores as one: their trajectories follow each other, in training and afterwards."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from romvae import cli
from romvae.canonical import N_STEPS
from romvae.commands.run_folder import DataRecord, RunFolder, fingerprint
from romvae.data import open_snapshots, split, write_snapshots
from romvae.data.unchanged import Stamp
from romvae.errors import DataError, SchemaError
from romvae.testing import mock_snapshots


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[list[Path], list[xr.Dataset]]:
    folder = tmp_path_factory.mktemp("several")
    data = [mock_snapshots(1, trajectories=n, seed=n, times=8) for n in (5, 6)]
    return [write_snapshots(ds, folder / name) for ds, name in zip(data, ("a.zarr", "b.h5"), strict=True)], data


def test_trajectories_of_several_stores_follow_each_other(pair):
    paths, data = pair
    with open_snapshots(paths) as ds:
        np.testing.assert_array_equal(ds["u"], np.concatenate([each["u"] for each in data]))
        np.testing.assert_array_equal(ds["trajectory"], np.arange(11))
        np.testing.assert_array_equal(ds["source_index"], [*range(5), *range(6)])
    with open_snapshots(paths[:1]) as one, open_snapshots(paths[0]) as alone:
        xr.testing.assert_identical(one, alone)


def test_another_number_of_times_makes_them_ragged_and_another_step_is_refused(pair, tmp_path):
    paths, _ = pair
    longer = mock_snapshots(1, trajectories=2, times=10)
    with open_snapshots([*paths, write_snapshots(longer, tmp_path / "longer.nc")]) as ds:
        np.testing.assert_array_equal(ds[N_STEPS], [8] * 11 + [10] * 2)
    slower = write_snapshots(longer.assign_coords(time=2 * longer["time"]), tmp_path / "slower.zarr")
    with pytest.raises(SchemaError, match=r"slower.zarr: time step is 0.2, in .*romvae pack --interpolate-time 0.2"):
        open_snapshots([*paths, slower])


def test_each_store_is_checked_and_watched(pair, tmp_path):
    paths, data = pair
    broken = write_snapshots(data[0], tmp_path / "a.zarr")
    with open_snapshots([broken, paths[1]]) as ds:
        stamp = Stamp.of(split(ds).train)
        stamp.check()
        chunk = max((f for f in (broken / "u").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
        chunk.write_bytes(chunk.read_bytes()[:-40])
        with pytest.raises(DataError, match=r"a.zarr: was changed while it was read"):
            stamp.check()
    with pytest.raises(DataError, match=r"a.zarr"):
        open_snapshots([broken, paths[1]])


def test_a_run_knows_all_its_stores_and_their_order(pair, tmp_path):
    paths, _ = pair
    with open_snapshots(paths) as ds:
        RunFolder(tmp_path).begin("seed: 0\n", DataRecord.of(paths, split(ds), 0), "romvae train")
    record = RunFolder(tmp_path).data()
    assert record.paths == [path.resolve() for path in paths]
    assert RunFolder(tmp_path).opened(paths)[1]
    assert not RunFolder(tmp_path).opened(paths[::-1])[1]
    assert fingerprint(paths[:1]) == fingerprint(paths[0])  # what runs of one store recorded


@pytest.mark.slow
def test_several_stores_train_compare_forecast_and_show(pair, tmp_path, capsys):
    paths = [str(path) for path in pair[0]]
    small = ["vae-steps=4", "variance-steps=3", "dynamics-steps=3", "batch-size=8"]
    settings = [f"--training.{each}" for each in small] + ["--model.latent=2", "--model.channels=4", "--quiet"]
    folder = str(tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(["train", *paths, "--out", folder, *settings]) == 0
        assert cli.main(["compare", folder, "--out", str(tmp_path / "c"), "--quiet"]) == 0
        assert cli.main(["compare", folder, "--out", str(tmp_path / "d"), "--quiet", "--data", *paths]) == 0
        assert cli.main(["info", *paths]) == 0
        assert cli.main(["check", *paths]) == 0
        words = ["rollout", folder, "--members", "4", "--start"]
        assert cli.main([*words, *paths, "--out", str(tmp_path / "test.zarr")]) == 0
        assert cli.main([*words, *paths, "--split", "all", "--out", str(tmp_path / "all.zarr")]) == 0
        assert cli.main(["pack", *paths, str(tmp_path / "one.zarr"), "--quiet", "--workers", "1"]) == 0
        assert cli.main([*words, str(tmp_path / "one.zarr"), "--out", str(tmp_path / "one_all.zarr")]) == 0
        capsys.readouterr()
        assert cli.main([*words, *paths[::-1], "--split", "test", "--out", str(tmp_path / "x.zarr")]) == 2
        assert "b.h5, " in capsys.readouterr().err
        assert cli.main([*words, *paths, "--out", paths[1], "--overwrite"]) == 5
        assert "is the store to start from" in capsys.readouterr().err
    with open_snapshots(tmp_path / "test.zarr") as forecast:
        assert forecast["trajectory"].values.tolist() == RunFolder(Path(folder)).data().trajectories["test"]
    with open_snapshots(tmp_path / "all.zarr") as several, open_snapshots(tmp_path / "one_all.zarr") as one:
        assert several.sizes["trajectory"] == 11
        np.testing.assert_array_equal(several["u"], one["u"])
