"""Sensor readings from a file: a table with a line per reading, or a Dataset of them (see `sensors`)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from romvae.assimilation.sensors import SENSOR
from romvae.canonical import TIME, TRAJECTORY, did_you_mean
from romvae.errors import ConfigError, DataError
from romvae.schema import Schema

__all__ = ["read_observations"]

_FIELD, _VALUE, _STD = "field", "value", "std"
_Row = dict[str, str]
_Place = tuple[str, tuple[float, ...]]


def read_observations(path: Path | str, schema: Schema, std: float | None = None) -> xr.Dataset:
    """Observations from `.csv`, `.nc`, `.h5` or `.zarr`.

    A table has a line per reading and these columns, in any order; an empty cell for the value is a missing reading:

    | column | holds |
    |---|---|
    | `time` | when, in the units of the data |
    | `x`, and `y`, `z` where the grid has them | where the sensor is |
    | `value` | what it read, physical units |
    | `std` | standard deviation of its noise; may be left out where `std` is given |
    | `field` | which field it sees; may be left out where there is one |
    | `trajectory` | number of the trajectory; may be left out where there is one |
    | names of parameters | the trajectory's parameters, where no start tells them |

    Arguments:
        path: The file, opened read-only.
        schema: Fields, axes and parameters of the ROM.
        std: Standard deviation of the noise where the file does not tell it.

    Raises:
        ConfigError: The suffix is unknown, or nothing tells the noise.
        DataError: A column is missing or unknown, a cell is no number, or a reading is there twice.
    """
    file = Path(path)
    if not file.exists():
        raise DataError(f"{path}: no such file. Give a table of readings (.csv) or a Dataset (.nc, .h5, .zarr).")
    if std is not None and not std > 0:
        raise ConfigError(f"{path}: std is {std:g}, expected a positive number in the units of the readings.")
    if file.suffix == ".csv":
        return _from_table(file, schema, std)
    if file.suffix not in (".nc", ".nc4", ".h5", ".zarr"):
        raise ConfigError(f"{path}: suffix is {file.suffix!r}, expected .csv, .nc, .h5 or .zarr.")
    try:
        kind = "zarr" if file.suffix == ".zarr" else "h5netcdf"
        with xr.open_dataset(file, engine=kind, decode_times=False) as opened:
            found = opened.load()
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Write it with xarray, or give a table (.csv).") from None
    if _STD not in found:
        found = found.assign({_STD: _required(std, str(path))})
    names = [name for name in (*schema.grid.names, _FIELD, *schema.parameter_names) if name in found.data_vars]
    return found.set_coords(names)


def _required(std: float | None, path: str) -> float:
    if std is None:
        raise ConfigError(f"{path}: nothing tells the noise of the readings. Add std, or give it beside the file.")
    return std


def _from_table(path: Path, schema: Schema, std: float | None) -> xr.Dataset:
    columns, rows = _rows(path)
    axes = schema.grid.names
    parameters = [name for name in schema.parameter_names if name in columns]
    _check_columns(path, columns, schema)
    if _STD not in columns:
        _required(std, str(path))
    trajectories = _distinct(rows, TRAJECTORY) if TRAJECTORY in columns else [""]
    seen = [_place(path, i, row, axes) for i, row in enumerate(rows)]
    places = list(dict.fromkeys(seen))
    numbers = [_number(path, i, row, TIME) for i, row in enumerate(rows)]
    times = np.unique(numbers)
    shape = (len(trajectories), len(times), len(places))
    value, noise, taken = np.full(shape, np.nan), np.ones(shape), np.zeros(shape, bool)
    number_of, sensor_of = ({each: i for i, each in enumerate(all_of)} for all_of in (trajectories, places))
    for i, row in enumerate(rows):
        k = int(np.searchsorted(times, numbers[i]))
        index = number_of[row.get(TRAJECTORY, "")], k, sensor_of[seen[i]]
        if taken[index]:
            raise DataError(f"{path}: line {i + 2} reads a sensor that was read at this time before. Remove one.")
        taken[index] = True
        if row[_VALUE]:
            value[index] = _number(path, i, row, _VALUE)
            noise[index] = _number(path, i, row, _STD) if _STD in columns else std
    dims = (TRAJECTORY, TIME, SENSOR)
    coords: dict[str, object] = {TIME: (TIME, times)}
    coords |= {axis: (SENSOR, [place[k] for _, place in places]) for k, axis in enumerate(axes)}
    if _FIELD in columns:
        coords[_FIELD] = (SENSOR, [name for name, _ in places])
    for name in parameters:
        coords[name] = (TRAJECTORY, list(_parameter(path, rows, name).values()))
    if TRAJECTORY in columns:
        coords[TRAJECTORY] = (TRAJECTORY, [_label(path, name) for name in trajectories])
    return xr.Dataset({_VALUE: (dims, value), _STD: (dims, noise)}, coords)


def _rows(path: Path) -> tuple[list[str], list[_Row]]:
    """Names of the columns, and the lines below them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            rows = list(reader)
            columns = [name.strip() for name in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}). Expected lines with commas, in UTF-8.") from None
    if not rows:
        raise DataError(
            f"{path}: holds no readings. Expected a line with the names of the columns and one per reading."
        )
    for i, row in enumerate(rows):
        if None in row or None in row.values():
            raise DataError(
                f"{path}: line {i + 2} has not as many cells as there are columns ({len(columns)}). Add them."
            )
    return columns, [{str(name).strip(): cell.strip() for name, cell in row.items()} for row in rows]


def _check_columns(path: Path, columns: Sequence[str], schema: Schema) -> None:
    axes, fields = schema.grid.names, schema.field_names
    needed = [TIME, *axes, _VALUE, *([_FIELD] if len(fields) > 1 else [])]
    known = [*needed, _STD, _FIELD, TRAJECTORY, *schema.parameter_names]
    for name in columns:
        if name not in known:
            hint = did_you_mean(name, known)
            raise DataError(f"{path}: column {name!r} is unknown, expected some of {', '.join(known)}.{hint}")
    for name in needed:
        if name not in columns:
            raise DataError(f"{path}: column {name!r} is missing, found {', '.join(columns)}. Add it.")


def _place(path: Path, i: int, row: _Row, axes: Sequence[str]) -> _Place:
    """What tells one sensor from another: the field that it sees, and where it is."""
    return row.get(_FIELD, ""), tuple(_number(path, i, row, axis) for axis in axes)


def _distinct(rows: Sequence[_Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def _number(path: Path, i: int, row: _Row, name: str) -> float:
    try:
        number = float(row[name])
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{path}: line {i + 2} has {name} = {row[name]!r}, expected a number. Correct it.")
    return number


def _parameter(path: Path, rows: Sequence[_Row], name: str) -> dict[str, float]:
    """A parameter by trajectory, in the order of the table; all lines of a trajectory have to agree on it."""
    found: dict[str, float] = {}
    for i, row in enumerate(rows):
        value = _number(path, i, row, name)
        first = found.setdefault(row.get(TRAJECTORY, ""), value)
        if value != first:
            raise DataError(f"{path}: line {i + 2} has {name} = {value:g}, a line before it {first:g}. Correct one.")
    return found


def _label(path: Path, name: str) -> int:
    try:
        return int(name)
    except ValueError:
        raise DataError(f"{path}: trajectory is {name!r}, expected the number of one. Correct it.") from None
