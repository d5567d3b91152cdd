"""Odd and bad Zarr and netCDF stores: 8."""

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

    shard = Path("u", "c", "3", "0", "0")
    return [
        zarr("Zarr: missing chunk", lambda p: (p / shard).unlink(), "'u': the chunk at trajectory 3, time 0, x 0"),
        zarr("Zarr: truncated chunk", lambda p: os.truncate(p / shard, 60), "'u'.*(cut off|cannot be read)"),
        zarr("Zarr: flipped byte", lambda p: _flip(p / shard, 100), "'u' cannot be read at trajectory 3"),
        zarr("Zarr: bad zarr.json", lambda p: os.truncate(p / "u" / "zarr.json", 50), "metadata cannot be read"),
        accepted(shop, "Zarr: version 2", _version_2, ("info", "HERE/a.zarr"), "usable: yes"),
        refused(shop, "folder that is no store", _folder, ("info", "HERE/a.zarr"), r"a\.zarr: .*without zarr\.json"),
        refused(shop, "netCDF: gaps of _FillValue", _gaps, ("info", "HERE/a.nc"), r"a\.nc: .*'u' is NaN, first at"),
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
