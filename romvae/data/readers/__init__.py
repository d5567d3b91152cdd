"""Readers: files of other programs as the canonical Dataset, each layout in a file of its own.

A reader is recognised by the content of the files, or named by the user; where two fit, romvae asks. Values stay in the
files until they are used, files are opened read-only, and nothing is read before the file was found to be harmless.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import xarray as xr

from romvae.canonical import did_you_mean
from romvae.data.layout import MARKER
from romvae.data.mapping import LAYOUTS, Mapping, is_mapping, read_mapping
from romvae.data.probe import probe
from romvae.data.readers import (
    apebench,
    bubbleml,
    cf,
    cfdbench,
    dedalus,
    jhtdb,
    mapped,
    pdearena,
    pdebench,
    vtk,
    well,
)
from romvae.data.readers.files import Files, damage_refused, gather
from romvae.data.readers.overrides import masked, stated, stated_parts
from romvae.data.readers.part import About, Part, joined
from romvae.data.readers.propose import made_up, proposal, unused
from romvae.errors import ConfigError, DataError

__all__ = [
    "READERS",
    "Reader",
    "foreign",
    "layout_name",
    "layout_of",
    "left_open",
    "open_with",
    "propose",
    "propose_for",
]


@dataclass(frozen=True)
class Reader:
    """A layout: its name, what shows it, how to recognise it and how to read it."""

    title: str
    signs: str
    recognises: Callable[[Files], bool]
    read: Callable[[Files, Mapping], tuple[list[Part], About]]


READERS: dict[str, Reader] = {
    "well": Reader(
        "The Well", "the groups dimensions and t0_fields, t1_fields or t2_fields", well.recognises, well.read
    ),
    "pdebench": Reader(
        "PDEBench",
        "tensor or density with x-coordinate, a group per seed, or velocity with particles",
        pdebench.recognises,
        pdebench.read,
    ),
    "pdearena": Reader(
        "PDEArena",
        "train, valid or test with u, vx, vy, pde_... or d_field; or variables u, v, vor, pres",
        pdearena.recognises,
        pdearena.read,
    ),
    "apebench": Reader("APEBench", "a .npy beside a .json with an entry info", apebench.recognises, apebench.read),
    "cfdbench": Reader("CFDBench", "case.json beside u.npy and v.npy", cfdbench.recognises, cfdbench.read),
    "bubbleml": Reader("BubbleML", "temperature, velx, vely, x and y of one shape", bubbleml.recognises, bubbleml.read),
    "jhtdb": Reader(
        "Johns Hopkins turbulence database",
        "xcoor, ycoor, zcoor and datasets such as Velocity_0001",
        jhtdb.recognises,
        jhtdb.read,
    ),
    "dedalus": Reader("Dedalus v3", "the groups tasks and scales", dedalus.recognises, dedalus.read),
    "cf": Reader("CF netCDF or Zarr", "named axes, with CF attributes of the coordinates", cf.recognises, cf.read),
    "vtk": Reader("VTK or OpenFOAM", "VTK files, or a folder with system/controlDict", vtk.recognises, vtk.read),
}


def open_with(paths: Path | str | Sequence[Path | str], reader: str | Path | None = None) -> xr.Dataset:
    """Opens files of another program, lazily and read-only.

    Arguments:
        paths: A file, a folder, or several files.
        reader: Name of a layout, or a mapping file; None recognises the layout.

    Returns:
        The canonical Dataset; its values are not checked yet.

    Raises:
        DataError: The files are of no known layout, broken, or not safe to read.
        SchemaError: They do not fit together, or their axes cannot be told apart.
        ConfigError: The reader is unknown, or the mapping is wrong.
    """
    files = gather(paths)
    with damage_refused(files.source):
        mapping = _mapping(files, reader)
        parts, about = mapped.read(files, mapping) if mapping.generic else _read(files, mapping)
        ds = joined(stated_parts(parts, mapping), stated(about, mapping))
        return masked(well.as_written(ds), mapping, files.source)


def _read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads a layout; where that fails, a layout that does not show is the likely reason."""
    reader = READERS[mapping.reader]
    try:
        return reader.read(files, mapping)
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        if reader.recognises(files):
            raise
        raise DataError(
            f"{files.source}: is not of layout {mapping.reader} ({reader.title}), expected {reader.signs}. "
            "Leave the reader out, or choose another"
        ) from error


def layout_of(files: Files) -> str | None:
    """The layout that the content shows; None where it shows none.

    A layout of a data set that is made of CF files counts as that layout, not as CF.

    Raises:
        DataError: It could be more than one.
    """
    with damage_refused(files.source):
        found = [name for name, reader in READERS.items() if reader.recognises(files)]
    if len(found) > 1 and "cf" in found:
        found.remove("cf")
    if len(found) > 1:
        raise DataError(f"{files.source}: could be {' or '.join(found)}. Say which with --reader {found[0]}")
    return found[0] if found else None


def layout_name(paths: Path | str | Sequence[Path | str], reader: str | Path | None = None) -> str:
    """The name of the layout that `open_with` reads the files with."""
    return _mapping(gather(paths), reader).reader


def foreign(paths: Path | str | Sequence[Path | str]) -> bool:
    """Whether the files are not canonical and of a layout that romvae knows, or are several."""
    if not isinstance(paths, str | Path):
        return True
    path = Path(paths)
    if "://" in str(paths) or "::" in str(paths) or not path.exists() or not os.access(path, os.R_OK):
        return False
    if not any(path.iterdir()) if path.is_dir() else not path.stat().st_size:
        return False
    return not _is_ours(path) and layout_of(gather(path)) is not None


def _is_ours(path: Path) -> bool:
    """Whether romvae wrote the store, or a damaged file lets nobody know."""
    if path.is_dir():
        metadata = path / "zarr.json"
        return metadata.is_file() and MARKER in metadata.read_text(encoding="utf-8", errors="replace")
    if not h5py.is_hdf5(path):
        return False
    probe(path, str(path))
    try:
        with h5py.File(path, "r") as file:
            return MARKER in file.attrs
    except (OSError, RuntimeError, KeyError):
        return True  # the store's own reader says what is wrong


def propose(paths: Path | str | Sequence[Path | str]) -> str:
    """A mapping file for files of unknown layout, as YAML with a question mark for what has to be said.

    Raises:
        DataError: The files are broken, not safe to read, or nothing that a mapping could describe.
    """
    files = gather(paths)
    with damage_refused(files.source):
        return proposal(files)


def left_open(paths: Path | str | Sequence[Path | str], reader: str | Path | None = None) -> dict[str, list[str]]:
    """What a reading of files rests on beside them: `made_up` coordinates, and arrays that are `unused`."""
    files = gather(paths)
    with damage_refused(files.source):
        mapping = _mapping(files, reader)
        return {"made_up": made_up(mapping), "unused": unused(files, mapping)}


def propose_for(path: Path) -> str:
    """What `propose` says of one path; empty where a mapping is of no use: a known layout, or a store of romvae."""
    try:
        return "" if _is_ours(path) or foreign(path) else propose(path)
    except DataError:
        return ""


def _mapping(files: Files, reader: str | Path | None) -> Mapping:
    if reader is None:
        layout = layout_of(files)
        if layout is None:
            raise DataError(
                f"{files.source}: is of no layout that romvae knows ({', '.join(READERS)}). Describe it in a mapping "
                "file; romvae info proposes one"
            )
        return Mapping(reader=layout)
    if is_mapping(reader):
        return read_mapping(reader)
    layout = str(reader)
    if layout not in READERS:
        raise ConfigError(
            f"--reader {reader}: no such layout, expected one of {', '.join(READERS)}, or a mapping file (.yaml)."
            f"{did_you_mean(layout, LAYOUTS)}"
        )
    return Mapping.model_validate({"reader": layout})
