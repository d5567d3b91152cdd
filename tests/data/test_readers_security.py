"""Hostile files: nothing outside of the data is shown, no code runs, no memory is filled, no name escapes."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from romvae.data import open_snapshots
from romvae.data.inspect_hdf5 import inspect
from romvae.data.readers import open_with, propose
from romvae.data.readers.files import safe_name
from romvae.errors import ConfigError, DataError

from .foreign_files import LAYOUTS, pdebench_scalar, well

SECRET = b"TOPSECRET" * 40


def _external_link(path: Path, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as file:
        file["tensor"] = np.ones((2, 3, 6), "f4")
    with h5py.File(path, "r+") as file:
        del file["tensor"]
        file["tensor"] = h5py.ExternalLink(str(folder / "other.h5"), "/tensor")


def _link_in_the_middle(path: Path, folder: Path) -> None:
    """A soft link through a group that lives in another file."""
    with h5py.File(folder / "other.h5", "w") as file:
        file["deep/tensor"] = np.ones((2, 3, 6), "f4")
    with h5py.File(path, "r+") as file:
        del file["tensor"]
        file["away"] = h5py.ExternalLink(str(folder / "other.h5"), "/deep")
        file["tensor"] = h5py.SoftLink("/away/tensor")


def _external_storage(path: Path, folder: Path) -> None:
    (folder / "secret").write_bytes(SECRET)
    with h5py.File(path, "r+") as file:
        del file["tensor"]
        space = h5py.h5s.create_simple((2, 3, 6))
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_external(str(folder / "secret").encode(), 0, 144)
        h5py.h5d.create(file.id, b"tensor", h5py.h5t.IEEE_F32LE, space, properties)


def _virtual(path: Path, folder: Path) -> None:
    layout = h5py.VirtualLayout((2, 3, 6), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "absent.h5"), "tensor", (2, 3, 6))  # absent: it would read as zeros
    with h5py.File(path, "r+") as file:
        del file["tensor"]
        file.create_virtual_dataset("tensor", layout)


def _bomb(path: Path, folder: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["tensor"]
        file.create_dataset("tensor", (10**6, 1000, 1000), "f4", chunks=(1, 1000, 1000))


def _bomb_in_a_corner(path: Path, folder: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.create_dataset("deep/er/bomb", (10**6, 1000, 1000), "f4", chunks=(1, 1000, 1000))


def _unknown_filter(path: Path, folder: Path) -> None:
    """Filter 307 is bzip2, native code that HDF5 would look for in a folder named by an environment variable."""
    with h5py.File(path, "r+") as file:
        del file["tensor"]
        space = h5py.h5s.create_simple((2, 3, 6))
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((2, 3, 6))
        properties.set_filter(307, h5py.h5z.FLAG_OPTIONAL, (9,))
        h5py.h5d.create(file.id, b"tensor", h5py.h5t.IEEE_F32LE, space, properties)


def _wrong_type(path: Path, folder: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["tensor"]
        file["tensor"] = np.full((2, 3, 6), "text", dtype=h5py.string_dtype())


def _truncated(path: Path, folder: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


HOSTILE: list[tuple[Callable[[Path, Path], None], str]] = [
    (_external_link, r"/tensor links into another file \(.*other.h5\). Copy the values into this file"),
    (_link_in_the_middle, r"/away links into another file"),
    (_external_storage, r"/tensor keeps its values in another file"),
    (_virtual, r"/tensor is a virtual dataset"),
    (_bomb, r"declares 4e\+12 bytes of values, but the file has"),
    (_bomb_in_a_corner, r"declares 4e\+12 bytes of values, but the file has"),
    (_unknown_filter, r"/tensor: is packed with filter 307 \(.*\), expected one of gzip, .* Repack it"),
    (_wrong_type, r"tensor'?: holds object, expected numbers"),
    (_truncated, r"cannot be opened as HDF5: the file is cut off or damaged"),
]


@pytest.mark.parametrize(("make", "message"), HOSTILE, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("reader", [None, "pdebench", "mapping"])
def test_hostile_hdf5_is_refused_before_anything_is_read(
    make: Callable[[Path, Path], None], message: str, reader: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.hdf5"
    pdebench_scalar(path)
    make(path, tmp_path)
    chosen: str | Path | None = reader
    if reader == "mapping":
        chosen = tmp_path / "m.yaml"
        chosen.write_text("reader: hdf5\nfields: {u: {path: tensor, dims: [trajectory, time, x]}}\n")
    with pytest.raises(DataError, match=message) as caught:
        open_snapshots(path, reader=chosen)
    assert "TOPSECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_proposal_reads_no_hostile_file_either(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    pdebench_scalar(path)
    _external_storage(path, tmp_path)
    with pytest.raises(DataError, match="keeps its values in another file"):
        propose(path)


def test_what_hdf5_allows_within_a_file_is_allowed(tmp_path: Path) -> None:
    """Soft links inside the file, a group that is its own member, and every filter that HDF5 brings along."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data/u"] = np.ones(3)
        file["u"] = h5py.SoftLink("/data/u")
        file["data/self"] = file["data"]
        file.create_dataset("v", data=np.ones((4, 4)), compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("w", data=np.ones((4, 4)), compression="lzf")
    inspect(tmp_path / "a.h5", "a.h5")


class _Mine:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.place),))


def test_no_pickle_is_ever_loaded(tmp_path: Path) -> None:
    """As `.pt`, as an object array in `.npy` and `.npz`, and beside data: whatever it would do, it is not done."""
    mine = tmp_path / "ran"
    (tmp_path / "data.pt").write_bytes(pickle.dumps(_Mine(mine)))
    with pytest.raises(
        DataError, match=r"data.pt: is a Python pickle .* loading one can run any code, so it is never read"
    ):
        open_snapshots(tmp_path / "data.pt", reader="well")
    objects = np.array([_Mine(mine)], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", u=objects)
    for suffix in ("npy", "npz"):
        mapping = tmp_path / f"{suffix}.yaml"
        name = "u" if suffix == "npz" else ""
        mapping.write_text(f'reader: {suffix}\nfields: {{u: {{path: "{name}", dims: [x]}}}}\n')
        with pytest.raises(DataError, match="holds pickled Python objects, which are never loaded"):
            open_snapshots(tmp_path / f"a.{suffix}", reader=mapping)
    folder = tmp_path / "arena"
    folder.mkdir()
    well(folder / "a.hdf5")
    (folder / "normstats.pt").write_bytes(pickle.dumps(_Mine(mine)))
    open_snapshots(folder).close()
    assert not mine.exists()


def test_an_archive_that_declares_too_much_is_refused(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("u.npy", head.getvalue())
    (tmp_path / "m.yaml").write_text("reader: npz\nfields: {u: {path: u, dims: [time, x]}}\n")
    with pytest.raises(DataError, match=r"declares 8e\+12 bytes of values, but the file has"):
        open_snapshots(tmp_path / "a.npz", reader=tmp_path / "m.yaml")


@pytest.mark.parametrize("address", ["http://127.0.0.1/a.h5", "s3://bucket/a.zarr", "reference::/etc/os-release"])
def test_addresses_are_refused(address: str) -> None:
    for reader in (None, "well"):
        with pytest.raises(DataError, match=r"is an address, expected a local path. Download it first"):
            open_snapshots(address, reader=reader)


def test_links_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    well(tmp_path / "private.hdf5")
    (tmp_path / "data" / "a.hdf5").symlink_to(tmp_path / "private.hdf5")
    with pytest.raises(DataError, match=r"data: a.hdf5 is a link out of the folder. Give the files themselves"):
        open_snapshots(tmp_path / "data")
    well(tmp_path / "data" / "b.hdf5")
    (tmp_path / "data" / "a.hdf5").unlink()
    (tmp_path / "data" / "a.hdf5").symlink_to("b.hdf5")  # inside: the user's own order
    open_with(tmp_path / "data").close()


def test_a_chunk_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    array = zarr.create_array(tmp_path / "a.zarr", shape=(2, 3), chunks=(1, 3), dtype="f4", compressors=None)
    array[:] = 1.0
    chunk = tmp_path / "a.zarr" / "c" / "0" / "0"
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret")
    (tmp_path / "m.yaml").write_text('reader: zarr\nfields: {u: {path: "", dims: [time, x]}}\n')
    with pytest.raises(DataError, match=r"is a link. Copy the real files"):
        open_snapshots(tmp_path / "a.zarr", reader=tmp_path / "m.yaml")


YAML = [
    ("reader: hdf5\nreader: well\n", r"m.yaml:2:1: not valid YAML: reader is given twice"),
    ("a: &a [x, x]\nb: [*a, *a]\n", r"aliases \(\*name\) are not allowed"),
    (
        "reader: !!python/object/apply:os.system ['true']\n",
        r"m.yaml:1:9: not valid YAML: could not determine a constructor",
    ),
    ("reader: hdf5\n" + "# " + "x" * 1_000_001, r"bytes, expected settings of at most 1000000 bytes"),
    ("- reader\n", r"holds a list, expected a mapping"),
]


@pytest.mark.parametrize(("text", "message"), YAML, ids=range(len(YAML)))
def test_hostile_yaml_is_refused(text: str, message: str, tmp_path: Path) -> None:
    pdebench_scalar(tmp_path / "a.hdf5")
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        open_snapshots(tmp_path / "a.hdf5", reader=tmp_path / "m.yaml")


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../x", "_.._x"),
        ("..", "_"),
        ("a b/c", "a_b_c"),
        ("-rf", "_-rf"),
        ("u\n", "u"),
        ("größe", "gr__e"),
        ("", "_"),
    ],
)
def test_names_from_files_are_harmless(name: str, clean: str) -> None:
    found = safe_name(name)
    assert found == clean
    assert "/" not in found
    assert found not in (".", "..")


def test_a_name_that_climbs_is_not_a_path_of_the_copy(tmp_path: Path) -> None:
    """A dataset called like a path becomes a plain name, and two that become the same name are refused."""
    path = tmp_path / "a.hdf5"
    LAYOUTS["The Well, axes dropped"][1](path)
    with h5py.File(path, "r+") as file:
        group = file["t0_fields"]
        group["..buoyancy"] = group["buoyancy"]
        group.attrs["field_names"] = ["..buoyancy"]
    with open_snapshots(path) as ds:
        assert "buoyancy" in ds.data_vars
    with h5py.File(path, "r+") as file:
        file["t0_fields"].attrs["field_names"] = ["..buoyancy", "buoyancy"]
    with pytest.raises(DataError, match=r"'..buoyancy' and 'buoyancy' would both be called 'buoyancy'"):
        open_snapshots(path)
