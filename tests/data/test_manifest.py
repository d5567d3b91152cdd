"""The manifest: what was written is what is read, and every exchange or change is found and named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from romvae import cli
from romvae.data import open_snapshots, write_snapshots
from romvae.data.audit import audit
from romvae.data.shards import write_shard
from romvae.data.store import manifest_of
from romvae.errors import DataError
from romvae.testing import mock_snapshots

SUFFIXES = (".zarr", ".h5", ".nc")


def _data() -> xr.Dataset:
    """Two fields, one with gaps outside of a mask, trajectories of different length, a static variable."""
    ds = mock_snapshots(2, ("u", "v"), trajectories=5)
    inside = np.ones((8, 12), dtype=np.int8)
    inside[2:4, 3:6] = 0
    flags = {"flag_values": np.array([0, 1], dtype=np.int8), "flag_meanings": "outside inside"}
    ds = ds.assign(
        mask=(("y", "x"), inside, flags),
        depth=(("trajectory", "y", "x"), np.random.default_rng(0).random((5, 8, 12)), {"romvae_role": "static"}),
        heating=(("time",), np.arange(6.0), {"romvae_role": "forcing"}),
    )
    lengths = np.array([6, 5, 6, 3, 6], dtype=np.int32)
    ds = ds.assign_coords(n_steps=("trajectory", lengths, {"romvae_role": "valid_length"}))
    ds["u"].values[:, :, inside == 0] = np.nan
    for i, n in enumerate(lengths):
        ds["u"].values[i, n:], ds["v"].values[i, n:] = np.nan, np.nan
    return ds


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_mask_static_variables_and_lengths_come_back_and_the_audit_finds_nothing(suffix: str, tmp_path: Path) -> None:
    ds = _data()
    path = write_snapshots(ds, tmp_path / f"a{suffix}")
    with open_snapshots(path) as back:
        xr.testing.assert_identical(back, ds)
    found = audit(path)
    assert found.findings == []
    assert found.notes == []
    manifest = manifest_of(path)
    assert manifest is not None
    assert found.manifest == manifest.sha256
    assert manifest.content["variables"]["v"]["finite"] == int(np.isfinite(ds["v"].values).sum())


def test_the_manifest_does_not_depend_on_the_format(tmp_path: Path) -> None:
    digests = set()
    for suffix in SUFFIXES:
        manifest = manifest_of(write_snapshots(_data(), tmp_path / f"a{suffix}"))
        assert manifest is not None
        digests.add(manifest.sha256)
    assert len(digests) == 1


def test_other_programs_do_not_see_the_manifest_and_are_not_warned(tmp_path: Path, recwarn) -> None:
    ds = _data()
    for suffix in SUFFIXES:
        path = write_snapshots(ds, tmp_path / f"a{suffix}")
        recwarn.clear()
        engine = {"engine": "zarr", "consolidated": False} if suffix == ".zarr" else {"engine": "h5netcdf"}
        with xr.open_dataset(path, **engine) as seen:
            assert set(seen.variables) == set(ds.variables)
        assert not recwarn.list


def _exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    os.rename(one, aside)
    os.rename(other, one)
    os.rename(aside, other)


def _two_shards(path: Path) -> None:
    _exchange(path / "u" / "c" / "0" / "0" / "0" / "0", path / "u" / "c" / "2" / "0" / "0" / "0")


def _two_fields(path: Path) -> None:
    _exchange(path / "u" / "c" / "0" / "0" / "0" / "0", path / "v" / "c" / "0" / "0" / "0" / "0")


def _two_inner_chunks(path: Path) -> None:
    """A shard whose first two snapshots are exchanged, each with its own right checksum."""
    array = zarr.open_array(path / "u", mode="r")
    values = np.asarray(array[4])[[1, 0, 2, 3, 4, 5]][None]
    write_shard(path / "u" / "c" / "4" / "0" / "0" / "0", [values], array.chunks, (1, 6, 1, 1))


def _attribute(path: Path) -> None:
    text = (path / "u" / "zarr.json").read_text()
    (path / "u" / "zarr.json").write_text(text.replace("m s-1", "m s-2"))


def _coordinate(path: Path) -> None:
    zarr.open_array(path / "viscosity", mode="r+")[1] = 0.5


def _mask(path: Path) -> None:
    zarr.open_array(path / "mask", mode="r+")[0, 0] = 0


def _manifest(path: Path) -> None:
    file = path / "romvae_manifest" / "zarr.json"
    file.write_text(file.read_text().replace('"float32"', '"float64"', 1))


CHANGES: list[tuple[Callable, list[str]]] = [
    (
        _two_shards,
        [
            "'u' at trajectory 0: holds the values of trajectory 2: chunks were exchanged",
            "'u' at trajectory 2: holds the values of trajectory 0: chunks were exchanged",
        ],
    ),
    (_two_fields, ["'u' at trajectory 0: its values differ", "'v' at trajectory 0"]),
    (_two_inner_chunks, ["'u' at trajectory 4: its values differ from the checksum in the manifest"]),
    (_attribute, ["'u': its attributes differ from those in the manifest"]),
    (_coordinate, ["'viscosity': its values differ from the checksum"]),
    (_mask, ["'mask' at trajectory 0: its values differ"]),
    (_manifest, ["its manifest is damaged"]),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_whatever_checksums_of_chunks_cannot_see_is_found(
    change: Callable, expected: list[str], tmp_path: Path
) -> None:
    path = write_snapshots(_data(), tmp_path / "a.zarr")
    change(path)
    with pytest.raises(DataError) as caught:
        open_snapshots(path)
    assert "\n" not in str(caught.value)
    found = [finding.text(str(path)) for finding in audit(path).findings]
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert text.startswith(f"{path}: {part}")


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("u", "units", "km s-1"),
        ("viscosity", "romvae_role", "label"),
        ("/", "boundary_conditions", '{"x": ["a", "b"]}'),
    ],
)
def test_a_changed_attribute_of_an_hdf5_file_is_found(where: str, key: str, value: str, tmp_path: Path) -> None:
    """HDF5 keeps no checksum of attributes."""
    path = write_snapshots(_data(), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file[where].attrs[key] = value
    with pytest.raises(DataError, match="attributes differ from those in the manifest"):
        open_snapshots(path, check=False)


def test_the_audit_lists_all_that_is_wrong_and_the_command_ends_with_3(tmp_path: Path, capsys) -> None:
    path = write_snapshots(mock_snapshots(1, trajectories=6), tmp_path / "a.zarr")
    _exchange(path / "u" / "c" / "0" / "0" / "0", path / "u" / "c" / "1" / "0" / "0")
    (path / "u" / "c" / "2" / "0" / "0").unlink()
    array = zarr.open_array(path / "u", mode="r+", config={"write_empty_chunks": False})
    array[3, 4] = np.nan  # an inner chunk that is not there
    raw = bytearray((path / "u" / "c" / "5" / "0" / "0").read_bytes())
    raw[70] ^= 1  # in the second snapshot
    (path / "u" / "c" / "5" / "0" / "0").write_bytes(raw)
    group = zarr.open_group(path, mode="r+")
    group.attrs["romvae_complete"] = 0
    assert cli.main(["check", str(path), "--json"]) == 3
    report = json.loads(capsys.readouterr().out)[0]
    places = {(f["variable"], f["at"]): f["what"] for f in report["findings"]}
    assert not report["sound"]
    assert "is incomplete" in places["", ""]
    assert sorted(at for name, at in places if name == "u") == [
        "trajectory 0",
        "trajectory 1",
        *(f"trajectory 2, time {t}, x 0" for t in range(6)),
        "trajectory 3, time 4, x 0",
        "trajectory 5, time 1",
    ]
    assert cli.main(["check", str(path)]) == 3
    said = capsys.readouterr()
    assert said.out.count("finding: ") == len(report["findings"])
    assert said.err.count("\n") == 1


def test_values_that_no_simulation_has_are_listed_with_their_place(tmp_path: Path) -> None:
    ds = _data()
    ds["v"].values[1, 5, 0, 0] = 3.0  # beyond the end of its trajectory
    ds["v"].values[2, 4, 7, 11] = np.inf
    ds.attrs["Conventions"] = "CF-1.11"
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = {(f.variable, f.at): f.what for f in audit(tmp_path / "a.nc").findings}
    assert set(found) == {("v", "trajectory 1, time 5, y 0, x 0"), ("v", "trajectory 2, time 4, y 7, x 11")}
    assert "beyond 'n_steps'" in found["v", "trajectory 1, time 5, y 0, x 0"]


def test_what_is_no_store_is_one_finding(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("x,u\n0,1\n")
    assert len(audit(tmp_path / "a.h5").findings) >= 1
    assert audit(tmp_path / "nothing.zarr").findings[0].what.startswith("does not exist")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((8, 12), 2, dtype=np.int8), r"'mask' is 2 at index \(0, 0\), expected 1 inside"),
        (np.zeros((8, 12), dtype=np.int8), "'mask' is 0 everywhere"),
        (np.ones((8, 12)), r"'mask' has dims \(y, x\) and dtype float64, expected int8"),
    ],
)
def test_a_mask_that_is_none_is_refused(mask: np.ndarray, message: str, tmp_path: Path) -> None:
    ds = mock_snapshots(2).assign(mask=(("y", "x"), mask))
    with pytest.raises(DataError, match=message):
        write_snapshots(ds, tmp_path / "a.zarr")


def test_gaps_inside_the_mask_and_lengths_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    ds = _data()
    ds["u"].values[0, 2, 0, 1] = np.nan
    with pytest.raises(DataError, match=r"'u' is NaN, first at trajectory 0, time 2 \(time=0.2\), y 0 .*, x 1"):
        write_snapshots(ds, tmp_path / "a.zarr")
    for steps, message in (([6, 5, 6, 9, 6], "'n_steps' is 9 at trajectory 3, expected 1 to 6"), (None, "integer")):
        lengths = np.array(steps) if steps else np.ones(5)
        with pytest.raises(DataError, match=message):
            write_snapshots(_data().assign_coords(n_steps=("trajectory", lengths)), tmp_path / "a.zarr")
