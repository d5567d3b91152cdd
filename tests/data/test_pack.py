"""Packing: what comes out is what was asked for, to the bit, however it was stored and whatever interrupted it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from romvae import cli
from romvae.boundary import boundaries_of
from romvae.check import require_equal_lengths
from romvae.data import open_snapshots, write_snapshots
from romvae.data import pack as pack_module
from romvae.data.interpolate import interpolate
from romvae.data.pack import Selection, pack
from romvae.data.store import manifest_of
from romvae.data.subset import subset
from romvae.errors import ConfigError, DataError, OutputError, SchemaError
from romvae.testing import mock_snapshots


def _plain(ds: xr.Dataset, path: Path, **encoding) -> Path:
    """A file of another program: other chunks, other order of dims."""
    ds = ds.assign_attrs(Conventions="CF-1.11")
    if path.suffix == ".zarr":
        ds.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding, write_empty_chunks=True)
    else:
        ds.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path


@pytest.mark.parametrize("suffix", [".zarr", ".h5", ".nc"])
def test_any_input_becomes_the_canonical_store_with_the_same_values(suffix: str, tmp_path: Path) -> None:
    ds = mock_snapshots(2, ("u", "v"), trajectories=4)
    inputs = {
        "romvae.zarr": write_snapshots(ds, tmp_path / "romvae.zarr"),
        "romvae.h5": write_snapshots(ds, tmp_path / "romvae.h5"),
        "zipped.nc": _plain(ds, tmp_path / "zipped.nc", u={"zlib": True, "chunksizes": (2, 3, 4, 5)}),
        "turned.nc": _plain(ds.transpose("x", "time", "trajectory", "y"), tmp_path / "turned.nc"),
    }
    for name, path in inputs.items():
        out = pack([path], tmp_path / f"{name}-packed{suffix}")
        with open_snapshots(out) as back:
            xr.testing.assert_equal(back, ds)
        found, expected = manifest_of(out), manifest_of(inputs["romvae.zarr"])
        assert found is not None
        assert expected is not None
        assert found.content["variables"]["u"]["crc32c"] == expected.content["variables"]["u"]["crc32c"]
    if suffix == ".zarr":
        array = zarr.open_array(out / "u", mode="r")
        assert (array.chunks, array.shards) == ((1, 1, 8, 12), (1, 6, 8, 12))
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.slow  # two interpreters are started
def test_the_store_is_the_same_for_any_number_of_workers_and_they_say_nothing(tmp_path: Path, capfd) -> None:
    ds = mock_snapshots(2, trajectories=5)
    del ds["u"].attrs["units"]  # an assumption, which the process that opens the input speaks of
    path = write_snapshots(ds, tmp_path / "a.h5")
    capfd.readouterr()
    one, two = pack([path], tmp_path / "one.zarr", workers=1), pack([path], tmp_path / "two.zarr", workers=2)
    files = sorted(f.relative_to(one) for f in one.rglob("*") if f.is_file())
    assert files == sorted(f.relative_to(two) for f in two.rglob("*") if f.is_file())
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    assert capfd.readouterr().err == ""


def test_a_subset_is_what_isel_gives_and_cut_sides_are_open(tmp_path: Path) -> None:
    ds = mock_snapshots(2, ("u", "v"), trajectories=5)
    path = write_snapshots(ds, tmp_path / "a.zarr")
    chosen = Selection(
        fields=("v",), trajectories=(1, 4), ranges={"time": (0.1, 0.4), "y": (0.3, None)}, strides={"time": 2, "x": 3}
    )
    with open_snapshots(pack([path], tmp_path / "b.nc", chosen)) as back:
        part = ds.isel(trajectory=slice(1, 4), time=[1, 3], y=slice(3, 8), x=slice(None, None, 3))
        assert list(back.data_vars) == ["v"]
        np.testing.assert_array_equal(back["v"], part["v"])
        np.testing.assert_array_equal(back["viscosity"], part["viscosity"])
        sides = boundaries_of(back)
        assert [side.kind for side in sides["y"]] == ["open", "value"]
        assert sides["y"][1].value == (("v", 0.0),)
        assert [side.kind for side in sides["x"]] == ["periodic", "periodic"]
        assert "time 0.1:0.4" in back.attrs["history"]


def test_a_cut_period_is_open_on_both_sides() -> None:
    cut = subset(mock_snapshots(1), ranges={"x": (0.0, 0.5)})
    assert [side.kind for side in boundaries_of(cut)["x"]] == ["open", "open"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"fields": ("w",)}, "field 'w' is unknown, found u"),
        ({"ranges": {"z": (0.0, 1.0)}}, "dim 'z' is unknown, found time, x"),
        ({"ranges": {"time": (7.0, 8.0)}}, "time 7:8: no point of 'time' lies there, it goes from 0 to 0.5"),
        ({"strides": {"x": 3}}, "stride 3 of x: the axis is periodic with 16 points, which 3 does not divide"),
        ({"strides": {"time": 0}}, "stride of time is 0, expected 1 or more"),
        ({"min_steps": 9}, "min_steps = 9: no trajectory has so many times"),
        ({"dt": -1.0}, "dt is -1 for 6 times, expected a positive step"),
        ({"dt": 2.0}, "dt is 2, longer than the 0.5 that the data cover"),
        ({"points": {"x": 1}}, "x to 1 points from 16, expected 2 or more"),
        ({"points": {"y": 8}}, "axis 'y' is unknown, found x"),
    ],
)
def test_a_selection_that_does_not_fit_is_refused_with_the_reason(words: dict, message: str, tmp_path: Path) -> None:
    path = write_snapshots(mock_snapshots(1), tmp_path / "a.zarr")
    with pytest.raises(ConfigError, match=message):
        pack([path], tmp_path / "b.zarr", Selection(**words))
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def _ragged(tmp_path: Path) -> tuple[list[Path], xr.Dataset, xr.Dataset]:
    one, two = mock_snapshots(1, trajectories=3, times=6), mock_snapshots(1, trajectories=4, times=9, seed=3)
    return [write_snapshots(one, tmp_path / "one.zarr"), write_snapshots(two, tmp_path / "two.h5")], one, two


def test_files_of_different_length_are_joined_and_padded_and_can_be_trimmed_or_dropped(tmp_path: Path) -> None:
    paths, one, two = _ragged(tmp_path)
    with open_snapshots(pack(paths, tmp_path / "all.zarr")) as ds:
        assert ds["n_steps"].values.tolist() == [6, 6, 6, 9, 9, 9, 9]
        assert ds["source_index"].values.tolist() == [0, 1, 2, 0, 1, 2, 3]
        np.testing.assert_array_equal(ds["u"][:3, :6], one["u"])
        np.testing.assert_array_equal(ds["u"][3:], two["u"])
        assert np.isnan(ds["u"][:3, 6:]).all()
        np.testing.assert_array_equal(ds["viscosity"], np.concatenate([one["viscosity"], two["viscosity"]]))
    with open_snapshots(pack(paths, tmp_path / "trimmed.zarr", Selection(trim=True))) as ds:
        assert "n_steps" not in ds.coords
        np.testing.assert_array_equal(ds["u"], np.concatenate([one["u"], two["u"][:, :6]]))
    with open_snapshots(pack(paths, tmp_path / "long.zarr", Selection(min_steps=7, trim=True))) as ds:
        np.testing.assert_array_equal(ds["u"], two["u"])


def test_files_that_differ_are_not_joined(tmp_path: Path) -> None:
    first = write_snapshots(mock_snapshots(1, trajectories=2), tmp_path / "first.zarr")
    base = mock_snapshots(1, trajectories=2, seed=1)
    slower = base.assign_coords(time=("time", 2 * base["time"].values, base["time"].attrs))
    others = {
        r"time step is 0.2, in .*first.zarr it is 0.1. Bring them to one with romvae pack --interpolate-time": slower,
        "'x' has other values .* Bring them to one with --interpolate-x": mock_snapshots(
            1, trajectories=2, shape=(12,)
        ),
        "fields are v, expected u": base.rename(u="v"),
        "'u' is in 'km s-1', expected 'm s-1'": base.assign(u=base["u"].assign_attrs(units="km s-1")),
        "axes are y, x, expected x": mock_snapshots(2, trajectories=2),
        "boundary conditions are .*open": base.assign_attrs(boundary_conditions='{"x": ["open", "open"]}'),
        "parameters are none, expected viscosity": base.drop_vars("viscosity"),
    }
    for k, (message, ds) in enumerate(others.items()):
        other = write_snapshots(ds, tmp_path / f"{k}.zarr")
        with pytest.raises(SchemaError, match=message):
            pack([first, other], tmp_path / "out.zarr")
    with open_snapshots(pack([first, tmp_path / "0.zarr"], tmp_path / "out.zarr", Selection(dt=0.25))) as ds:
        assert ds["n_steps"].values.tolist() == [3, 3, 5, 5]


def test_interpolation_is_exact_where_it_has_to_be() -> None:
    """Linear in time reproduces a straight line; cubic reproduces a cubic; stored points come back."""
    t = np.array([0.0, 0.1, 0.3, 0.35, 0.8, 1.0])
    ds = mock_snapshots(1, trajectories=2, times=6).astype("f8").assign_coords(time=t)
    ds["u"].values[:] = (1 - 2 * t)[:, None] * np.ones(16)
    line = interpolate(ds, dt=0.125)
    np.testing.assert_allclose(line["time"], 0.125 * np.arange(9), rtol=1e-15)
    np.testing.assert_allclose(line["u"][0, :, 0], 1 - 2 * line["time"], atol=1e-15)
    ds["u"].values[:] = (t**3 - t)[:, None] * np.ones(16)
    cubic = interpolate(ds, dt=0.125, method="cubic")
    np.testing.assert_allclose(cubic["u"][1, :, 3], cubic["time"] ** 3 - cubic["time"], atol=1e-14)
    assert cubic.attrs["interpolation"] == "time cubic to every 0.125"
    np.testing.assert_array_equal(cubic["u"][:, 2:5, 4:6], cubic["u"].load()[:, 2:5, 4:6])


def test_interpolation_of_a_periodic_axis_wraps_and_converges_with_fourth_order() -> None:
    errors = []
    for n in (16, 32):
        ds = mock_snapshots(1, trajectories=1, times=2, shape=(n,)).astype("f8")
        ds["u"].values[:] = np.sin(2 * np.pi * ds["x"].values)
        fine = interpolate(ds, points={"x": 4 * n}, method="cubic")
        assert fine["x"].values[-1] > ds["x"].values[-1]
        errors.append(float(abs(fine["u"] - np.sin(2 * np.pi * fine["x"])).max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)


def test_trajectories_that_end_early_are_interpolated_as_far_as_they_go() -> None:
    ds = mock_snapshots(1, trajectories=3, times=9).astype("f8")
    lengths = np.array([9, 5, 4], dtype=np.int32)
    full = interpolate(ds, dt=0.05)
    for i, n in enumerate(lengths):
        ds["u"].values[i, n:] = np.nan
    ragged = ds.assign_coords(n_steps=("trajectory", lengths, {"romvae_role": "valid_length"}))
    for method in ("linear", "cubic"):
        found = interpolate(ragged, dt=0.05, method=method)
        assert found["n_steps"].values.tolist() == [17, 9, 7]
        assert np.isnan(found["u"][1, 9:]).all()
        assert np.isfinite(found["u"][2, :7]).all()
    np.testing.assert_allclose(interpolate(ragged, dt=0.05)["u"][1, :9], full["u"][1, :9], rtol=1e-14)


def test_nothing_is_interpolated_across_an_obstacle() -> None:
    inside = np.ones((8, 12), dtype=np.int8)
    inside[3, 4] = 0
    ds = mock_snapshots(2, trajectories=2).assign(mask=(("y", "x"), inside))
    with pytest.raises(ConfigError, match="the data have a mask, across which no value can be interpolated"):
        interpolate(ds, points={"x": 24})
    gaps = ds.copy(deep=True)
    gaps["u"].values[:, :, inside == 0] = np.nan
    for method in ("linear", "cubic"):
        found = interpolate(gaps, dt=0.05, method=method)
        np.testing.assert_array_equal(np.isnan(found["u"][0, 3]), inside == 0)
        assert "mask" in found


def test_non_uniform_times_are_refused_unless_they_are_interpolated(tmp_path: Path) -> None:
    ds = mock_snapshots(1, trajectories=2).assign_coords(time=[0.0, 0.1, 0.2, 0.4, 0.5, 0.6])
    _plain(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"time is not uniform: .*romvae pack .* NEW.zarr --interpolate-time 0\."):
        pack([tmp_path / "a.nc"], tmp_path / "b.zarr")
    with open_snapshots(pack([tmp_path / "a.nc"], tmp_path / "b.zarr", Selection(dt=0.1))) as back:
        assert back.sizes["time"] == 7


def test_the_command_that_is_advised_for_times_that_are_not_uniform_works(tmp_path: Path, monkeypatch, capsys) -> None:
    ds = mock_snapshots(1, trajectories=2).assign_coords(time=[0.0, 0.1, 0.2, 0.4, 0.5, 0.6])
    monkeypatch.chdir(tmp_path)
    _plain(ds, tmp_path / "a.nc")
    assert cli.main(["pack", "a.nc", "--out", "c.zarr", "-q"]) == 3
    words = capsys.readouterr().err.split(": romvae ")[1].split()
    assert words == ["pack", "a.nc", "NEW.zarr", "--interpolate-time", "0.1"]
    assert cli.main([*words, "-q", "-j", "1"]) == 0
    assert cli.main(["pack", "a.nc", "--out", "c.zarr", "--interpolate-time", "0.1", "-q", "-j", "1"]) == 0
    with open_snapshots("NEW.zarr") as one, open_snapshots("c.zarr") as other:
        xr.testing.assert_identical(one, other)


def test_bad_values_of_an_input_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    ds = mock_snapshots(1, trajectories=4)
    ds["u"].values[2, 3, 7] = np.nan
    _plain(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a.nc: 'u' is NaN, first at trajectory 2, time 3 \(time=0.3\), x 7"):
        pack([tmp_path / "a.nc"], tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()


def test_an_input_whose_shards_were_exchanged_is_refused(tmp_path: Path) -> None:
    path = write_snapshots(mock_snapshots(1, trajectories=4), tmp_path / "a.zarr")
    one, other = path / "u" / "c" / "0" / "0" / "0", path / "u" / "c" / "3" / "0" / "0"
    os.rename(one, tmp_path / "aside")
    os.rename(other, one)
    os.rename(tmp_path / "aside", other)
    with pytest.raises(DataError, match="'u' at trajectory 0: holds the values of trajectory 3"):
        pack([path], tmp_path / "b.zarr")


def test_an_existing_store_is_kept_until_the_new_one_is_verified(tmp_path: Path, monkeypatch) -> None:
    path = write_snapshots(mock_snapshots(1, seed=1), tmp_path / "a.zarr")
    old = write_snapshots(mock_snapshots(1, seed=2), tmp_path / "b.zarr")
    with pytest.raises(OutputError, match=r"b\.zarr: exists already"):
        pack([path], old)
    with pytest.raises(OutputError, match=r"a\.zarr: is an input itself"):
        pack([path], path, overwrite=True)
    write = pack_module.zarr_store.write_block

    def lying(array, folder, chosen, values) -> None:
        write(array, folder, chosen, values + 1 if chosen["trajectory"].start == 5 else values)

    with monkeypatch.context() as patch:
        patch.setattr(pack_module.zarr_store, "write_block", lying)
        with pytest.raises(OutputError, match="'u' at trajectory 5 read back differs from what was written"):
            pack([path], old, overwrite=True)
    with open_snapshots(old) as ds:
        xr.testing.assert_identical(ds, mock_snapshots(1, seed=2))
    pack([path], old, overwrite=True)  # goes on: only the trajectory that differed is packed again
    with open_snapshots(old) as ds:
        xr.testing.assert_identical(ds, mock_snapshots(1, seed=1))


def test_a_killed_packing_goes_on_with_what_was_finished(tmp_path: Path, monkeypatch) -> None:
    path = write_snapshots(mock_snapshots(1, trajectories=6), tmp_path / "a.zarr")
    packed: list[int] = []
    original = pack_module._pack_trajectory

    def counted(job, ds, i) -> None:
        if len(packed) == 3:
            raise KeyboardInterrupt
        packed.append(i)
        original(job, ds, i)

    monkeypatch.setattr(pack_module, "_pack_trajectory", counted)
    with pytest.raises(KeyboardInterrupt):
        pack([path], tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()
    monkeypatch.setattr(pack_module, "_pack_trajectory", lambda job, ds, i: (packed.append(i), original(job, ds, i)))
    with open_snapshots(pack([path], tmp_path / "b.zarr")) as back:
        xr.testing.assert_identical(back, mock_snapshots(1, trajectories=6))
    assert packed == [0, 1, 2, 3, 4, 5]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_another_selection_does_not_go_on_from_what_was_left(tmp_path: Path, monkeypatch) -> None:
    path = write_snapshots(mock_snapshots(1, trajectories=4), tmp_path / "a.zarr")
    with monkeypatch.context() as patch:
        patch.setattr(pack_module, "_verify", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pack([path], tmp_path / "b.zarr")
    with open_snapshots(pack([path], tmp_path / "b.zarr", Selection(strides={"time": 2}))) as back:
        np.testing.assert_array_equal(back["u"], mock_snapshots(1, trajectories=4)["u"][:, ::2])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_at_any_moment_leaves_nothing_or_everything(workers: int, tmp_path: Path) -> None:
    """Only the first process is killed: the workers end by themselves, so that they are not in the way of the next."""
    path = write_snapshots(mock_snapshots(1, trajectories=200), tmp_path / "a.zarr")
    out = tmp_path / "b.zarr"
    command = [sys.executable, "-m", "romvae", "pack", str(path), str(out), "-q", "--workers", str(workers)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    rng = np.random.default_rng(workers)
    interrupted = 0
    for _ in range(4 // workers):
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        done = tmp_path / ".b.packing.zarr" / "done"
        before = len(list(done.glob("*.json")))
        while process.poll() is None and len(list(done.glob("*.json"))) == before:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while _alive_in_group(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _alive_in_group(process.pid)
        if out.exists():
            break
        interrupted += 1
        assert len(list(done.glob("*.json"))) > before  # it went on from where the one before was killed
    assert interrupted
    if not out.exists():
        subprocess.run(command, check=True, **quiet)
    with open_snapshots(out) as back:
        xr.testing.assert_identical(back, mock_snapshots(1, trajectories=200))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def _alive_in_group(group: int) -> list[int]:
    """Processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def test_files_of_different_length_have_one_once_trimmed(tmp_path: Path) -> None:
    one, two = mock_snapshots(1, trajectories=5, times=6), mock_snapshots(1, trajectories=6, times=9, seed=3)
    paths = [str(write_snapshots(one, tmp_path / "one.zarr")), str(write_snapshots(two, tmp_path / "two.h5"))]
    quiet = ["-q", "--workers", "1"]
    assert cli.main(["pack", *paths, str(tmp_path / "all.zarr"), *quiet]) == 0
    assert cli.main(["check", str(tmp_path / "all.zarr")]) == 0
    assert cli.main(["pack", str(tmp_path / "all.zarr"), str(tmp_path / "even.zarr"), "--trim", *quiet]) == 0
    with open_snapshots(tmp_path / "even.zarr") as even:
        require_equal_lengths(even)
        np.testing.assert_array_equal(even["u"], np.concatenate([one["u"], two["u"][:, :6]]))


def test_the_command_packs_and_refuses_in_one_line(tmp_path: Path, capsys) -> None:
    path = write_snapshots(mock_snapshots(1, ("u", "v"), trajectories=4), tmp_path / "a.h5")
    words = ["--fields", "v", "--time", "0.1:", "--stride-x", "2", "-q", "--workers", "1"]
    assert cli.main(["pack", str(path), str(tmp_path / "b.zarr"), *words]) == 0
    with open_snapshots(tmp_path / "b.zarr") as back:
        assert dict(back.sizes) == {"trajectory": 4, "time": 5, "x": 8}
    capsys.readouterr()
    for words, code, message in (
        ([str(path)], 2, "give one store to read or several"),
        ([str(path), str(tmp_path / "b.zarr")], 5, "exists already"),
        ([str(path), str(tmp_path / "c.zarr"), "--x", "0.2"], 2, "--x = 0.2: expected LOW:HIGH"),
        ([str(path), str(tmp_path / "c.zarr"), "--trajectories", "1:-1"], 2, "expected FIRST:END"),
        ([str(path), str(tmp_path / "c.csv")], 2, "suffix is '.csv'"),
        ([str(tmp_path / "no.h5"), str(tmp_path / "c.zarr")], 3, "does not exist"),
    ):
        assert cli.main(["pack", *words, "-q"]) == code
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
