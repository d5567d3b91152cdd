"""Any HDF5, netCDF, Zarr, `.npy` or `.npz`, read through a mapping that names every axis."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import zarr

from romvae.canonical import SPACE, TIME, TRAJECTORY, did_you_mean
from romvae.data import zarr_store
from romvae.data.inspect_hdf5 import inspect, tree
from romvae.data.layout import refuse_bomb
from romvae.data.mapping import CoordinateEntry, FieldEntry, Mapping, StaticEntry
from romvae.data.readers.arrays import FileArray, LabelledArray, npy_array, npz_arrays
from romvae.data.readers.axes import canonical_axes, counted
from romvae.data.readers.files import Files, attribute, hdf5_array
from romvae.data.readers.labelled import open_labelled
from romvae.data.readers.overrides import coordinate_values
from romvae.data.readers.part import About, Part
from romvae.data.readers.piece import Piece
from romvae.errors import ConfigError, DataError, SchemaError

__all__ = ["Container", "containers", "numbers_in", "read"]


class Container(Protocol):
    """A file in which arrays have names."""

    def names(self) -> list[str]: ...

    def array(self, name: str, where: str) -> FileArray: ...

    def attributes(self, of: str) -> dict[str, Any]: ...


class _Hdf5:
    def __init__(self, path: Path, where: str, stack: ExitStack) -> None:
        inspect(path, where)
        self.path = path
        self.file = stack.enter_context(h5py.File(path, "r"))

    def names(self) -> list[str]:
        return [str(d.name).lstrip("/") for d in tree(self.file)]

    def array(self, name: str, where: str) -> FileArray:
        return hdf5_array(self.path, self.file[name], where)

    def attributes(self, of: str) -> dict[str, Any]:
        item = self.file.get(of)
        return {} if item is None else {str(name): attribute(item, name) for name in item.attrs}


class _Labelled:
    def __init__(self, path: Path, where: str, stack: ExitStack) -> None:
        self.ds = open_labelled(path, where)

    def names(self) -> list[str]:
        return [str(name) for name in self.ds.variables]

    def array(self, name: str, where: str) -> FileArray:
        return LabelledArray(self.ds[name].variable, self.ds.close)

    def attributes(self, of: str) -> dict[str, Any]:
        if of.strip("/") == "":
            return dict(self.ds.attrs)
        return dict(self.ds[of].attrs) if of in self.ds.variables else {}


class _Zarr:
    def __init__(self, path: Path, where: str, stack: ExitStack) -> None:
        stored = zarr_store._stored_bytes(path, where)  # refuses links
        self.path = path
        try:
            self.root = zarr.open(path, mode="r")
            self.arrays = dict(_zarr_arrays(self.root))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{where}: its Zarr metadata cannot be read. Copy or simulate it again") from error
        refuse_bomb(sum(array.nbytes for array in self.arrays.values()), stored, where)

    def names(self) -> list[str]:
        return list(self.arrays)

    def array(self, name: str, where: str) -> FileArray:
        array = self.arrays[name]
        if array.dtype.kind not in "fiub":
            raise DataError(f"{where}: holds {array.dtype}, expected numbers. Choose another array")
        zarr_store._check_chunks(array, self.path / name, where, False)
        return array

    def attributes(self, of: str) -> dict[str, Any]:
        item = self.root if of.strip("/") == "" else self.arrays.get(of.strip("/"))
        return {} if item is None else dict(item.attrs)


def _zarr_arrays(root: Any, above: str = "") -> list[tuple[str, Any]]:
    if isinstance(root, zarr.Array):
        return [(above, root)]
    found = [(f"{above}{name}", array) for name, array in root.arrays()]
    return found + [item for name, group in root.groups() for item in _zarr_arrays(group, f"{above}{name}/")]


class _Arrays:
    """The `.npy` files of a folder, a single one (its name is empty), or the members of an `.npz`."""

    def __init__(self, path: Path, where: str, stack: ExitStack) -> None:
        if path.is_dir():
            self.found: dict[str, FileArray] = {p.name: npy_array(p, str(p)) for p in sorted(path.glob("*.npy"))}
        elif path.suffix == ".npz":
            self.found = npz_arrays(path, where)
        else:
            self.found = {"": npy_array(path, where)}

    def names(self) -> list[str]:
        return list(self.found)

    def array(self, name: str, where: str) -> FileArray:
        return self.found[name]

    def attributes(self, of: str) -> dict[str, Any]:
        return {}


def numbers_in(value: Any) -> np.ndarray | None:
    """A number or a row of numbers as an attribute holds them, `()` or `(n,)`; None for anything else."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different length
        return None
    return array.astype(np.float64) if array.dtype.kind in "iuf" and array.ndim <= 1 and array.size else None


_OPEN: dict[str, Callable[[Path, str, ExitStack], Container]] = {
    "hdf5": _Hdf5,
    "netcdf": _Labelled,
    "zarr": _Zarr,
    "npy": _Arrays,
    "npz": _Arrays,
}


def containers(files: Files, reader: str) -> list[Path]:
    """The paths that hold the arrays of one part each."""
    if reader == "npy" and files.folder is not None:
        return sorted({path.parent for path in files.ending(".npy")})
    suffixes = {"hdf5": files.hdf5, "npy": files.ending(".npy"), "npz": files.ending(".npz")}
    return list(suffixes.get(reader, files.paths)) or list(files.paths)


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads what the mapping describes, from each file."""
    parts = []
    for path in containers(files, mapping.reader):
        with ExitStack() as stack:
            parts.append(_Mapped(_OPEN[mapping.reader](path, str(path), stack), mapping, str(path)).part())
    first = next(iter(mapping.fields.values()))
    return parts, About(mapping.reader, ", ".join(first.dims))


class _Mapped:
    """One file, while it is open."""

    def __init__(self, container: Container, mapping: Mapping, where: str) -> None:
        self.container, self.mapping, self.where = container, mapping, where
        dims = [d for entry in mapping.fields.values() for d in entry.dims if d in SPACE]
        self.space = [axis for axis in SPACE if axis in dims]
        self.axes = canonical_axes(self.space, where) if self.space else {}

    def part(self) -> Part:
        if not self.space:
            raise ConfigError(
                f"{self.where}: no field of the mapping has a spatial axis, expected x, y or z among dims"
            )
        fields = {name: [self._piece(f"fields.{name}", entry)] for name, entry in self.mapping.fields.items()}
        statics = {name: self._piece(f"statics.{name}", entry) for name, entry in self.mapping.statics.items()}
        sizes: dict[str, int] = {}
        for name, (piece,) in fields.items():
            for dim, size in piece.sizes.items():
                if sizes.setdefault(dim, size) != size:
                    raise SchemaError(
                        f"{self.where}: {name!r} has {size} entries along {dim}, another field {sizes[dim]}"
                    )
        axes = {self.axes[axis]: self._coordinate(axis, sizes[self.axes[axis]]) for axis in self.space}
        times = self._coordinate(TIME, sizes.get(TIME, 1))
        return Part(
            self.where,
            fields,
            times,
            axes,
            sizes.get(TRAJECTORY, 1),
            self._parameters(),
            statics,
            inside=self._inside(),
        )

    def _piece(self, key: str, entry: FieldEntry | StaticEntry) -> Piece:
        array = self._array(entry.path, key)
        if len(entry.dims) != len(array.shape):
            raise SchemaError(
                f"{self.where}: {key}: {entry.path!r} has shape {array.shape}, but dims names {len(entry.dims)} axes "
                f"({', '.join(entry.dims)}). Name every axis"
            )
        for name, i in entry.index.items():
            size = array.shape[entry.dims.index(name)]
            if not 0 <= i < size:
                raise SchemaError(f"{self.where}: {key}: index {name} = {i}, but that axis has {size} entries")
        window = getattr(entry, "window", {})
        for name, (low, high) in window.items():
            size = array.shape[entry.dims.index(name)] if name in entry.dims else 0
            if not 0 <= low < high <= size:
                raise SchemaError(
                    f"{self.where}: {key}: window {name} = {low} to {high}, but that axis has {size} entries"
                )
        dims = tuple(entry.index[d] if d in entry.index else self.axes.get(d, d) for d in entry.dims)
        return Piece(array, dims, {self.axes.get(d, d): slice(*part) for d, part in window.items()})

    def _array(self, path: str, key: str) -> FileArray:
        names = self.container.names()
        name = path.strip("/")
        if name not in names:
            found = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            if names == [""]:
                found = "one without a name, for which path is left out"
            raise DataError(
                f"{self.where}: {key}: holds no array {path!r}, found {found or 'none'}.{did_you_mean(name, names)} "
                "Correct path in the mapping"
            )
        return self.container.array(name, f"{self.where}: {path!r}")

    def _coordinate(self, name: str, size: int) -> np.ndarray:
        entry = self.mapping.coordinates.get(name, CoordinateEntry())
        if not entry.given:
            return counted(size, name, self.where)
        if entry.path is None:
            return coordinate_values(entry, size, name)
        array = self._array(entry.path, f"coordinates.{name}")
        index = entry.index or [None] * len(array.shape)
        if len(index) != len(array.shape) or index.count(None) != 1:
            raise SchemaError(
                f"{self.where}: coordinates.{name}: {entry.path!r} has shape {array.shape}, expected one axis. "
                "Say under index which entry of the others is meant, with null for the axis itself"
            )
        values = np.asarray(array[tuple(slice(None) if i is None else i for i in index)])[: entry.stop]
        if values.shape != (size,):
            raise SchemaError(
                f"{self.where}: coordinates.{name}: {entry.path!r} has {values.size} entries, but the fields "
                f"have {size} along it. Say under stop how many count, or exchange the names in dims"
            )
        return values if values.dtype.kind == "f" else values.astype(np.float64)

    def _parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, entry in self.mapping.parameters.items():
            if entry.path is not None:
                array = self._array(entry.path, f"parameters.{name}")
                values = np.asarray(array[(slice(None),) * len(array.shape)], dtype=np.float64)
                found[name] = values.reshape(()) if values.size == 1 else values.reshape(-1)
            elif entry.attribute is not None:
                value = self.container.attributes(entry.of).get(entry.attribute)
                numbers = numbers_in(value)
                if numbers is None:
                    raise DataError(
                        f"{self.where}: parameters.{name}: attribute {entry.attribute!r} of {entry.of!r} is {value!r}, "
                        "expected a number, or one for each trajectory. Correct it in the mapping, or state a value"
                    )
                found[name] = numbers.reshape(()) if numbers.size == 1 else numbers
        return found

    def _inside(self) -> np.ndarray | None:
        entry = self.mapping.mask
        if entry is None or entry.number_in is not None:
            return None
        piece = self._piece("mask", StaticEntry(path=entry.path, dims=entry.dims, index=entry.index))
        order = [axis for axis in SPACE if axis in self.axes.values()]
        if set(piece.sizes) != set(order):
            raise SchemaError(f"{self.where}: mask has dims ({', '.join(piece.sizes)}), expected ({', '.join(order)})")
        return piece.read({d: np.arange(n) for d, n in piece.sizes.items()}, order) == entry.inside
