"""Schema: the facts that a model and its data must agree on (names, units, grid, time step, parameters)."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr

from romvae.boundary import (
    Boundary,
    BoundaryKind,
    as_boundary,
    boundaries_of,
)
from romvae.canonical import (
    LATENT,
    MEMBER,
    SPACE,
    TIME,
    TRAJECTORY,
    canonical,
    did_you_mean,
    fields_of,
    parameters_of,
    snapshots,
    space_of,
)
from romvae.check import check_snapshots, uniform_step
from romvae.errors import OutOfRangeWarning, SchemaError
from romvae.grid import Axis, Grid

__all__ = [
    "LATENT",
    "MEMBER",
    "SPACE",
    "TIME",
    "TRAJECTORY",
    "Axis",
    "Boundary",
    "BoundaryKind",
    "Field",
    "Grid",
    "Parameter",
    "Schema",
    "SchemaError",
    "boundaries_of",
    "canonical",
    "check_snapshots",
    "fields_of",
    "parameters_of",
    "snapshots",
    "space_of",
]

_FORMAT = "romvae-schema-1"


@dataclass(frozen=True)
class Field:
    """A scalar field: its variable's name, units and what a figure calls it."""

    name: str
    units: str = "1"
    long_name: str = ""


@dataclass(frozen=True)
class Parameter:
    """A physical parameter of a trajectory and the range that the data cover."""

    name: str
    units: str = "1"
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Schema:
    """What data must look like for a model: fields, grid, time step and parameters.

    Arguments:
        fields: In the order of the network's channels; data may hold them in any order.
        grid: The grid on which the fields live.
        dt: Time between snapshots, in `time_units`.
        time_units: Units of time.
        parameters: Physical parameters of a trajectory, with their ranges.
    """

    fields: tuple[Field, ...]
    grid: Grid
    dt: float
    time_units: str = "1"
    parameters: tuple[Parameter, ...] = ()

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of the fields, in the order of the channels."""
        return tuple(field.name for field in self.fields)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of the parameters, in the order of the network's input."""
        return tuple(parameter.name for parameter in self.parameters)

    @classmethod
    def of(cls, ds: xr.Dataset, source: str = "") -> Schema:
        """Reads the facts off snapshots; values are not scanned.

        Arguments:
            ds: Snapshots with at least two times, dims in any order.
            source: File that the messages name.

        Raises:
            SchemaError: The Dataset is not canonical or holds fewer than two times.
        """
        check_snapshots(ds, source, values=False)
        ds = canonical(ds)
        dt = uniform_step(ds[TIME], source)
        if math.isnan(dt):
            raise SchemaError(f"{_where(source)}holds a single time, expected at least two to know the time step")
        sides = boundaries_of(ds, source)
        outside = (Boundary("open"), Boundary("open"))
        axes = tuple(
            Axis(
                name,
                tuple(ds[name].values.astype(float).tolist()),
                _units(ds[name]),
                *sides.get(name, outside),
            )
            for name in space_of(ds)
        )
        return cls(
            fields=tuple(
                Field(name, _units(ds[name]), str(ds[name].attrs.get("long_name", ""))) for name in fields_of(ds)
            ),
            grid=Grid(axes),
            dt=dt,
            time_units=_units(ds[TIME]),
            parameters=tuple(
                Parameter(name, _units(ds[name]), float(ds[name].min()), float(ds[name].max()))
                for name in parameters_of(ds)
            ),
        )

    def check(self, ds: xr.Dataset, source: str = "", time: bool = True) -> None:
        """Raises unless the data fit; further fields and another order of dims or fields are fine.

        Arguments:
            ds: Snapshots, or one of them (without `trajectory` and, if `time` is off, without `time`).
            source: File that the messages name.
            time: Whether the data are a time series whose step has to be `dt`.

        Raises:
            SchemaError: Fields, units, grid, time step or parameter names differ.

        Warns:
            OutOfRangeWarning: A parameter lies outside the range of the training data.
        """
        where = _where(source)
        self._check_fields(ds, where, time)
        for axis in self.grid.axes:
            _check_axis(axis, ds, where)
        self._check_boundaries(ds, source)
        if time:
            self._check_time(ds, source)
        self._check_parameters(ds, where)

    def to_json(self) -> str:
        """The facts as JSON; numbers are written so that `from_json` returns the same bits."""
        facts = asdict(self)
        for axis in facts["grid"]["axes"]:
            sides = next(a for a in self.grid.axes if a.name == axis["name"])
            axis["lower"], axis["upper"] = sides.lower.entry, sides.upper.entry
        return json.dumps({"format": _FORMAT, **facts})

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Reads what `to_json` wrote.

        Raises:
            SchemaError: The text is no schema, or one of another format.
        """
        try:
            facts = json.loads(text)
            if facts["format"] != _FORMAT:
                raise SchemaError(f"schema: format is {facts['format']!r}, expected {_FORMAT!r}. Save it again")
            return cls(
                fields=tuple(Field(**field) for field in facts["fields"]),
                grid=Grid(
                    tuple(
                        Axis(
                            a["name"],
                            tuple(a["coordinates"]),
                            a["units"],
                            *map(as_boundary, (a["lower"], a["upper"])),
                        )
                        for a in facts["grid"]["axes"]
                    )
                ),
                dt=facts["dt"],
                time_units=facts["time_units"],
                parameters=tuple(Parameter(**parameter) for parameter in facts["parameters"]),
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SchemaError(f"schema: cannot be read ({error!r}); expected the text of Schema.to_json") from error

    def _check_fields(self, ds: xr.Dataset, where: str, time: bool) -> None:
        present = [str(name) for name in ds.data_vars]
        for field in self.fields:
            if field.name not in present:
                raise SchemaError(
                    f"{where}field {field.name!r} is missing, found {', '.join(present) or 'no variable'}."
                    f"{did_you_mean(field.name, present)} Rename it or add it"
                )
            wanted = set(self.grid.names) | ({TIME} if time else set())
            dims = set(ds[field.name].dims)
            if not wanted <= dims <= wanted | {TRAJECTORY, TIME}:
                expected = [d for d in (TRAJECTORY, TIME, *self.grid.names) if d in wanted | {TRAJECTORY}]
                raise SchemaError(
                    f"{where}{field.name!r} has dims ({', '.join(map(str, ds[field.name].dims))}), expected "
                    f"({', '.join(expected)}). Rename or add dims with xarray"
                )
            _check_units(ds, field.name, field.units, where)

    def _check_boundaries(self, ds: xr.Dataset, source: str) -> None:
        declared = boundaries_of(ds, source)
        for axis in self.grid.axes:
            found, expected = declared.get(axis.name), (axis.lower, axis.upper)
            if found is not None and found != expected:
                raise SchemaError(
                    f"{_where(source)}boundary conditions of {axis.name!r} are {_sides(found)}, but this ROM "
                    f"was trained with {_sides(expected)}. Use data with these boundaries, or retrain"
                )

    def _check_time(self, ds: xr.Dataset, source: str) -> None:
        dt = uniform_step(ds[TIME], source)
        if not math.isnan(dt) and abs(dt - self.dt) > 1e-6 * self.dt:
            raise SchemaError(
                f"{_where(source)}time step is {dt:.10g}, but this ROM was trained at {self.dt:.10g}. "
                f"Interpolate the data to dt={self.dt:.10g}, or retrain"
            )
        _check_units(ds, TIME, self.time_units, _where(source))

    def _check_parameters(self, ds: xr.Dataset, where: str) -> None:
        present = [str(name) for name in ds.coords if name not in (TRAJECTORY, TIME, *SPACE)]
        for parameter in self.parameters:
            name = parameter.name
            if name not in present:
                raise SchemaError(
                    f"{where}parameter {name!r} is missing, found {', '.join(present) or 'none'}."
                    f"{did_you_mean(name, present)} "
                    f"Add it with ds.assign_coords({name}=('{TRAJECTORY}', ...))"
                )
            _check_units(ds, name, parameter.units, where)
            values = np.atleast_1d(ds[name].values).astype(float)
            if not np.isfinite(values).all():
                raise SchemaError(f"{where}parameter {name!r} is {values[~np.isfinite(values)][0]}; give it a number")
            slack = 1e-9 * (parameter.high - parameter.low)
            excess = np.maximum(parameter.low - values, values - parameter.high)
            if (excess > slack).any():
                warnings.warn(
                    f"{where}parameter {name!r} is {values[np.argmax(excess)]:.10g}, outside the trained "
                    f"range {parameter.low:.10g} to {parameter.high:.10g}: the ROM extrapolates",
                    OutOfRangeWarning,
                    stacklevel=3,
                )


def _check_axis(axis: Axis, ds: xr.Dataset, where: str) -> None:
    if axis.name not in ds.coords:
        raise SchemaError(f"{where}dim {axis.name!r} has no coordinate. Add it with ds.assign_coords({axis.name}=...)")
    found = ds[axis.name].values.astype(float)
    if found.shape != (axis.size,):
        raise SchemaError(
            f"{where}{axis.name!r} has {found.size} points, but this ROM was trained on {axis.size}. "
            "Interpolate the data to the ROM's grid, or retrain"
        )
    expected = np.asarray(axis.coordinates)
    step = float(np.diff(expected).min()) if axis.size > 1 else 1.0
    wrong = np.abs(found - expected) > max(1e-9 * step, 4 * np.finfo(float).eps * float(np.abs(expected).max()))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SchemaError(
            f"{where}{axis.name!r} is {found[i]:.10g} at index {i}, but this ROM was trained at "
            f"{expected[i]:.10g}. Interpolate the data to the ROM's grid, or retrain"
        )
    _check_units(ds, axis.name, axis.units, where)


def _check_units(ds: xr.Dataset, name: str, expected: str, where: str) -> None:
    found = ds[name].attrs.get("units", expected)
    if found != expected:
        raise SchemaError(
            f"{where}{name!r} is in {found!r}, but this ROM was trained in {expected!r}. Convert it and set its units"
        )


def _units(array: xr.DataArray) -> str:
    return str(array.attrs.get("units", "1"))


def _sides(pair: tuple[Boundary, Boundary]) -> str:
    return json.dumps([side.entry for side in pair])


def _where(source: str) -> str:
    return f"{source}: " if source else ""
