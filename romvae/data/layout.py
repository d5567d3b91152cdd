"""What the file formats share: the completion marker, the order of variables, chunks, what can be stored.

A file carries `romvae_complete = 0` from its first byte and 1 as its last write, so that a writer that was
killed leaves a file that says so. Both attributes are taken away again on reading.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from romvae.canonical import MEMBER, TIME, TRAJECTORY
from romvae.errors import DataError

__all__ = [
    "MARKER",
    "READING",
    "VARIABLES",
    "chunk_shape",
    "check_storable",
    "mapping_advice",
    "marked",
    "refuse_bomb",
    "unmarked",
]

MARKER = "romvae_complete"
VARIABLES = "romvae_variables"
READING: dict[str, Any] = {"decode_times": False, "decode_timedelta": False}  # times are plain numbers

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_COMPRESSION = 1100  # zlib's limit is 1032; a file that declares more than this was never written
_SMALL = 2**26


def mapping_advice(source: str) -> str:
    """What to do with a file whose layout nobody knows."""
    return (
        f"romvae info {source} proposes a mapping, which is given with --reader NAME.yaml (in Python "
        "open_snapshots(..., reader='NAME.yaml'))"
    )


def marked(attrs: Mapping[Any, Any], ds: xr.Dataset) -> dict[str, Any]:
    """The attributes of a file that is being written."""
    names = " ".join(map(str, (*ds.data_vars, *ds.coords)))
    return {**{str(k): v for k, v in attrs.items()}, MARKER: 0, VARIABLES: names}


def unmarked(ds: xr.Dataset, source: str, *, require: bool = True) -> xr.Dataset:
    """The Dataset as its author knew it: variables in their order, no marker, strings as strings.

    Files that romvae did not write have no marker and need none.

    Raises:
        DataError: The file claims to be romvae's, but it was not completed.
    """
    attrs = dict(ds.attrs)
    complete = attrs.pop(MARKER, None)
    order = str(attrs.pop(VARIABLES, "")).split() or sorted(map(str, ds.data_vars))
    ours = complete is not None or "romvae-1" in str(attrs.get("Conventions", ""))
    if require and ours and not complete:
        raise DataError(
            f"{source}: is incomplete: its completion marker {MARKER!r} is missing. "
            "Write or simulate it again (a copy made with xarray alone loses "
            "the marker: use romvae.write_snapshots)"
        )
    missing = sorted(set(order) - set(map(str, ds.variables)))
    if missing:
        raise DataError(f"{source}: variable {missing[0]!r} is missing from the file. Write or simulate it again")
    order = [name for name in order if name in ds.data_vars]
    ordered = ds.drop_vars(order).assign({name: ds[name].variable for name in order})
    texts = {name: _as_text(c.variable) for name, c in ds.coords.items() if _is_text(c.variable)}
    ordered = ordered.assign_coords(texts)
    ordered.attrs = attrs
    ordered.set_close(ds.close)
    return ordered


def chunk_shape(variable: xr.Variable | xr.DataArray) -> tuple[int, ...]:
    """One snapshot per chunk where the variable has space or latent dims; else all of it."""
    steps = {MEMBER, TRAJECTORY, TIME}
    if set(variable.dims) <= steps:
        return variable.shape
    return tuple(1 if dim in steps else size for dim, size in zip(variable.dims, variable.shape, strict=True))


def refuse_bomb(declared: int, stored: int, source: str) -> None:
    """Raises where a small file declares arrays that it cannot hold, before anything is allocated.

    Raises:
        DataError: The message names both sizes.
    """
    if declared > _SMALL + _COMPRESSION * stored:
        raise DataError(
            f"{source}: declares {declared:.3g} bytes of values, but the file has {stored:.3g} bytes: "
            "they were never written. Write or simulate it again"
        )


def check_storable(ds: xr.Dataset, source: str) -> None:
    """Raises unless every format can keep the names, types and attributes.

    Raises:
        DataError: The message names the variable or attribute.
    """
    for name, variable in ds.variables.items():
        if not _NAME.fullmatch(str(name)):
            raise DataError(f"{source}: the name {name!r} cannot be stored; use letters, digits, '_', '-' and '.'")
        text = variable.dtype.kind == "U" or _is_text(variable)
        if not text and variable.dtype.kind not in "fiu":
            raise DataError(f"{source}: {name!r} has dtype {variable.dtype}; convert it to a number or a string")
        _check_attrs(variable.attrs, f"{source}: {name!r}")
    _check_attrs(ds.attrs, source)


def _check_attrs(attrs: Mapping[Any, Any], where: str) -> None:
    for key, value in attrs.items():
        items = value if isinstance(value, list | tuple) else np.asarray(value).ravel().tolist()
        fine = all(isinstance(item, str | Real) and not isinstance(item, bool | np.bool_) for item in items)
        if not isinstance(key, str) or isinstance(value, dict) or not fine:
            raise DataError(
                f"{where}: attribute {key!r} is {value!r:.60}, expected text, a number or a list of them. "
                "Convert it, for instance with json.dumps"
            )


def _is_text(variable: xr.Variable) -> bool:
    """Strings of any length, as a file gives them: objects or numpy's StringDType."""
    if variable.dtype.kind == "T":
        return True
    return variable.dtype == object and all(isinstance(item, str) for item in variable.values.ravel())


def _as_text(variable: xr.Variable) -> xr.Variable:
    values = np.asarray(variable.values.astype(object).tolist(), dtype=np.str_)
    return xr.Variable(variable.dims, values, variable.attrs)
