"""The manifest of a store: what was written, so that anything that is lost, exchanged or changed is found.

Each chunk has a checksum of its own, which finds a flipped bit; it cannot find two shards that were exchanged, a
shard of another file, or an attribute of HDF5 that changed. The manifest says, in JSON inside the store:

- of every variable its dims, shape, type, number of finite values and a CRC-32C of its values, one per trajectory for
  the data, computed on the values in canonical order, so that it is the same in every format;
- SHA-256 of the attributes of every variable and of the whole, and the order of the variables;
- SHA-256 of all this.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from romvae.canonical import TIME, TRAJECTORY, blocks
from romvae.check import LARGEST, read_block
from romvae.data.shards import crc32c
from romvae.errors import DataError
from romvae.version import __version__

__all__ = ["MANIFEST", "Checksums", "Finding", "Manifest", "data_hash"]

MANIFEST = "romvae_manifest"
"""Name of the group that holds the manifest in a store."""

_FORMAT = 1


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file: where, and what.

    Arguments:
        variable: Its name; empty where it concerns the whole file.
        at: Index by name of dim; empty where it concerns the whole variable.
        what: What was found, what was expected and what to do, as one sentence or two.
    """

    variable: str
    at: str
    what: str

    def text(self, source: str) -> str:
        """One line, with the name of the file."""
        name = f"{self.variable!r}" if self.variable else ""
        place = f"{name} at {self.at}" if self.at else name
        return f"{source}: {place}: {self.what}" if place else f"{source}: {self.what}"


class Checksums:
    """CRC-32C and finite values of every trajectory of every variable, as a check or the statistics read them.

    An instance is a `romvae.check.Watch`: the blocks of one variable and trajectory have to come in their order.
    """

    def __init__(self) -> None:
        self.sums: dict[str, dict[int, int]] = {}
        self.finite: dict[str, dict[int, int]] = {}
        self._dims: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of(cls, ds: xr.Dataset, source: str = "") -> Checksums:
        """Reads all data variables once."""
        sums = cls().for_dims_of(ds)
        for name in map(str, ds.data_vars):
            for chosen in blocks(ds, name):
                sums(name, chosen, read_block(ds, name, chosen, source))
        return sums

    def for_dims_of(self, ds: xr.Dataset) -> Checksums:
        """Itself, with the dims of the variables that it is going to see."""
        for name, variable in ds.data_vars.items():
            self._dims[str(name)] = tuple(map(str, variable.dims))
            self.sums.setdefault(str(name), {})
            self.finite.setdefault(str(name), {})
        return self

    def __call__(self, name: str, chosen: Mapping[str, slice], values: np.ndarray) -> None:
        """Adds a block."""
        i = chosen[TRAJECTORY].start if TRAJECTORY in chosen else 0
        first = [dim for dim in (TRAJECTORY, TIME) if dim in self._dims[name]]
        order = [*first, *(dim for dim in self._dims[name] if dim not in first)]
        turned = values.transpose([self._dims[name].index(dim) for dim in order])
        raw = np.ascontiguousarray(turned, dtype=turned.dtype.newbyteorder("<"))
        self.sums[name][i] = crc32c(raw, self.sums[name].get(i, 0))
        self.finite[name][i] = self.finite[name].get(i, 0) + _finite(raw)


@dataclass(frozen=True)
class Manifest:
    """What a store holds, as JSON types.

    Arguments:
        content: `attributes` of the whole, `order` of the data variables, `variables` by name.
    """

    content: dict[str, Any]

    @classmethod
    def of(cls, ds: xr.Dataset, sums: Checksums) -> Manifest:
        """The manifest of canonical snapshots whose values were seen by `sums`."""
        variables = {}
        for name in map(str, ds.variables):
            variable = ds[name].variable
            record: dict[str, Any] = {
                "dims": list(map(str, variable.dims)),
                "shape": list(variable.shape),
                "dtype": _type(variable),
                "attributes": _digest(variable.attrs),
            }
            if name in ds.data_vars:
                record["finite"] = sum(sums.finite[name].values())
                record["crc32c"] = [f"{sums.sums[name].get(i, 0):08x}" for i in range(_count(variable))]
            else:
                record["crc32c"] = [f"{_of_small(ds, name):08x}"]
            variables[name] = record
        return cls({"attributes": _digest(ds.attrs), "order": list(map(str, ds.data_vars)), "variables": variables})

    @property
    def sha256(self) -> str:
        """SHA-256 of everything in it: equal for equal snapshots, whatever the format and place of the store."""
        return hashlib.sha256(_text(self.content).encode()).hexdigest()

    def to_json(self) -> str:
        """As the store keeps it."""
        return _text({"format": _FORMAT, "romvae": __version__, "sha256": self.sha256, **self.content})

    @classmethod
    def from_json(cls, text: str, source: str) -> Manifest:
        """Reads what `to_json` wrote.

        Raises:
            DataError: It is damaged, or of a newer romvae.
        """
        try:
            content = json.loads(text)
            version, digest = content.pop("format"), content.pop("sha256")
            content.pop("romvae")
            manifest = cls(content)
            whole = digest == manifest.sha256 and isinstance(content["variables"], dict)
        except (ValueError, KeyError, TypeError, AttributeError):
            version, whole = _FORMAT, False
        if version != _FORMAT:
            raise DataError(f"{source}: its manifest has format {version!r}, this romvae reads {_FORMAT}. Use a newer")
        if not whole:
            raise DataError(f"{source}: its manifest is damaged. Copy or simulate it again")
        return manifest

    def structure(self, ds: xr.Dataset, source: str = "") -> Iterator[Finding]:
        """What differs beside the values of the data variables; reads coordinates only."""
        again = "The file changed after it was written: copy or simulate it again"
        meant = f"{again}; if the change was meant, open it with xarray and write it with romvae.write_snapshots"
        if _digest(ds.attrs) != self.content["attributes"]:
            yield Finding("", "", f"its attributes differ from those in the manifest. {meant}")
        records = self.content["variables"]
        for name in sorted(set(records) ^ set(map(str, ds.variables))):
            what = "is missing from the file" if name in records else "is not in the manifest"
            yield Finding(name, "", f"variable {what}. {again}")
        if set(self.content["order"]) == set(ds.data_vars) and self.content["order"] != list(ds.data_vars):
            yield Finding("", "", f"its variables are in another order than in the manifest. {again}")
        for name in (name for name in records if name in ds.variables):
            record, variable = records[name], ds[name].variable
            found = (list(map(str, variable.dims)), list(variable.shape), _type(variable))
            expected = (record["dims"], record["shape"], record["dtype"])
            if found != expected:
                yield Finding(name, "", f"is {_brief(*found)}, the manifest says {_brief(*expected)}. {again}")
            elif _digest(variable.attrs) != record["attributes"]:
                yield Finding(name, "", f"its attributes differ from those in the manifest. {meant}")
            elif name not in ds.data_vars and [f"{_of_small(ds, name, source):08x}"] != record["crc32c"]:
                yield Finding(name, "", f"its values differ from the checksum in the manifest. {again}")

    def values(self, sums: Checksums) -> Iterator[Finding]:
        """Trajectories whose values differ; where they are those of another one, it is named."""
        for name, found in sums.sums.items():
            expected = self.content["variables"].get(name, {}).get("crc32c", [])
            places = Counter(expected)
            for i, crc in sorted(found.items()):
                if i >= len(expected) or f"{crc:08x}" == expected[i]:
                    continue
                owner = expected.index(f"{crc:08x}") if places[f"{crc:08x}"] == 1 else None
                what = "its values differ from the checksum in the manifest: changed after they were written"
                if owner is not None:
                    what = f"holds the values of trajectory {owner}: chunks were exchanged"
                yield Finding(name, f"{TRAJECTORY} {i}", f"{what}. Copy or simulate the file again")


def data_hash(ds: xr.Dataset, names: list[str], sums: Checksums) -> str:
    """SHA-256 of what a model is trained on: fields with their units, in order, parameters, times and grid.

    Arguments:
        ds: Snapshots.
        names: Fields, in the order of the channels.
        sums: Has seen their values.
    """
    units = {str(n): str(ds[n].attrs.get("units", "1")) for n in ds.variables}
    of_fields = [[n, units[n], [sums.sums[n][i] for i in sorted(sums.sums[n])]] for n in names]
    small = sorted(str(n) for n in ds.coords if ds[n].dtype.kind in "fiu" and n not in (TRAJECTORY, "split"))
    of_coordinates = [[n, units[n], _of_small(ds, n)] for n in small]
    return hashlib.sha256(_text([of_fields, of_coordinates]).encode()).hexdigest()


def _count(variable: xr.Variable) -> int:
    return variable.sizes.get(TRAJECTORY, 1)


def _of_small(ds: xr.Dataset, name: str, source: str = "") -> int:
    """CRC-32C of a coordinate."""
    values = np.asarray(read_block(ds, name, {}, source))
    if values.dtype.kind not in "fiu":
        return crc32c(np.frombuffer(_text(values.astype(object).ravel().tolist()).encode(), dtype=np.uint8))
    return crc32c(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")))


def _finite(values: np.ndarray) -> int:
    if values.dtype.kind != "f" or not values.size:
        return int(values.size)
    if values.min() > -LARGEST and values.max() < LARGEST:
        return int(values.size)
    return int(np.count_nonzero(np.abs(values) < LARGEST))


def _type(variable: xr.Variable) -> str:
    return variable.dtype.name if variable.dtype.kind in "fiu" else "text"


def _brief(dims: list[str], shape: list[int], dtype: str) -> str:
    return f"{dtype} ({', '.join(f'{d} {n}' for d, n in zip(dims, shape, strict=True))})"


def _digest(attrs: Mapping[Any, Any]) -> str:
    plain = {str(key): _plain(value) for key, value in attrs.items()}
    return hashlib.sha256(_text(plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """One form for what a format may give back in several: arrays, lists and lists of one."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return items[0] if len(items) == 1 else items
    return value


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
