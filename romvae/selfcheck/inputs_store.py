"""Odd and bad Zarr and netCDF stores, opened, checked and packed: 17."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from romvae.selfcheck.record import Case
from romvae.selfcheck.trial import accepted, refused
from romvae.selfcheck.workshop import Workshop

__all__ = ["store_inputs"]


def store_inputs(shop: Workshop, quick: bool) -> list[Case]:
    """All of them, whether `quick` or not."""

    def zarr(name: str, damage: Callable[[Path], None], pattern: str) -> Case:
        def make(folder: Path) -> None:
            _written(folder / "a.zarr")
            damage(folder / "a.zarr")

        return refused(shop, name, make, ("info", "HERE/a.zarr"), rf"a\.zarr: .*(?:{pattern})")

    def checked(name: str, suffix: str, damage: Callable[[Path], None], pattern: str) -> Case:
        def make(folder: Path) -> None:
            _written(folder / f"a{suffix}")
            damage(folder / f"a{suffix}")

        return refused(shop, name, make, ("check", f"HERE/a{suffix}"), rf"a{suffix}: {pattern}")

    def packed(name: str, make: Callable[[Path], None], pattern: str, *words: str) -> Case:
        return refused(shop, name, make, ("pack", "HERE/a.nc", "HERE/b.zarr", "-q", "-j", 1, *words), pattern)

    shard = Path("u", "c", "3", "0", "0")
    return [
        zarr("Zarr: missing chunk", lambda p: (p / shard).unlink(), "'u': the chunk at trajectory 3, time 0, x 0"),
        zarr("Zarr: truncated chunk", lambda p: os.truncate(p / shard, 60), "'u'.*(cut off|cannot be read)"),
        zarr("Zarr: flipped byte", lambda p: _flip(p / shard, 100), "'u' cannot be read at trajectory 3"),
        zarr("Zarr: bad zarr.json", lambda p: os.truncate(p / "u" / "zarr.json", 50), "metadata cannot be read"),
        accepted(shop, "Zarr: version 2", _version_2, ("info", "HERE/a.zarr"), "usable: yes"),
        refused(shop, "folder that is no store", _folder, ("info", "HERE/a.zarr"), r"a\.zarr: .*without zarr\.json"),
        refused(shop, "netCDF: gaps of _FillValue", _gaps, ("info", "HERE/a.nc"), r"a\.nc: .*'u' is NaN, first at"),
        zarr("Zarr: shards exchanged", _exchanged, "'u' at trajectory 0: holds the values of trajectory 3"),
        checked("check: shards exchanged", ".zarr", _exchanged, "2 findings"),
        checked("check: missing and flipped", ".zarr", _several, "2 findings"),
        checked("check: attribute of HDF5 changed", ".h5", _renamed_units, "1 finding"),
        checked("check: attribute of netCDF changed", ".nc", _renamed_units, "1 finding"),
        packed("pack: gaps of _FillValue", _gaps, r"a\.nc: 'u' is NaN, first at trajectory 3"),
        packed("pack: times not uniform", _uneven, r"a\.nc: time is not uniform: .*--interpolate-time"),
        accepted(
            shop,
            "pack: times not uniform, interpolated",
            _uneven,
            ("pack", "HERE/a.nc", "HERE/b.zarr", "-q", "-j", 1, "--interpolate-time", 0.1),
            "packed and verified",
        ),
        refused(
            shop,
            "pack: stride of a periodic axis",
            lambda folder: _written(folder / "a.nc"),
            ("pack", "HERE/a.nc", "HERE/b.zarr", "-q", "--stride-x", 3),
            r"a\.nc: stride 3 of x: the axis is periodic with 16 points",
            code=2,
        ),
        refused(shop, "group instead of array", _group, ("info", "HERE/a.zarr"), r"a\.zarr: .*(no variable|'u')"),
    ]


def _written(path: Path) -> None:
    from romvae.data import write_snapshots
    from romvae.testing import mock_snapshots

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_snapshots(mock_snapshots(1), path)


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(bytes(content))


def _exchanged(path: Path) -> None:
    one, other = path / "u" / "c" / "0" / "0" / "0", path / "u" / "c" / "3" / "0" / "0"
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])


def _several(path: Path) -> None:
    _flip(path / "u" / "c" / "1" / "0" / "0", 10)
    os.rename(path / "viscosity" / "c" / "0", path / "viscosity" / "c" / "gone")


def _renamed_units(path: Path) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        file["u"].attrs["units"] = "km s-1"


def _uneven(folder: Path) -> None:
    from romvae.testing import mock_snapshots

    data = mock_snapshots(1).assign_coords(time=[0.0, 0.1, 0.2, 0.4, 0.5, 0.6])
    data.attrs["Conventions"] = "CF-1.11"
    data.to_netcdf(folder / "a.nc", engine="h5netcdf")


def _version_2(folder: Path) -> None:
    from romvae.testing import mock_snapshots

    data = mock_snapshots(1).drop_encoding()
    data.attrs["Conventions"] = "CF-1.11"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoding = {"u": {"chunks": (1, 6, 16)}}
        data.to_zarr(folder / "a.zarr", zarr_format=2, consolidated=False, encoding=encoding)


def _folder(folder: Path) -> None:
    (folder / "a.zarr").mkdir()
    (folder / "a.zarr" / "notes.txt").write_text("no store", encoding="utf-8")


def _gaps(folder: Path) -> None:
    from romvae.testing import mock_snapshots

    data = mock_snapshots(1)
    data.attrs["Conventions"] = "CF-1.11"
    data["u"].values[3, 5, 9] = np.nan
    data.to_netcdf(folder / "a.nc", engine="h5netcdf", encoding={"u": {"_FillValue": -9999.0}})


def _group(folder: Path) -> None:
    import zarr

    group = zarr.create_group(folder / "a.zarr", zarr_format=3)
    group.create_group("u")
