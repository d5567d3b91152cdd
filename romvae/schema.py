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
    boundaries_to_json,
)
from romvae.canonical import (
    LATENT,
    MEMBER,
    N_STEPS,
    SPACE,
    TIME,
    TRAJECTORY,
    canonical,
    controls_of,
    did_you_mean,
    fields_of,
    parameters_of,
    snapshots,
    space_of,
)
from romvae.check import check_snapshots, uniform_step
from romvae.errors import OutOfRangeWarning, SchemaError, caller_level
from romvae.grid import Axis, Grid
from romvae.ragged import existing, ragged_lengths
from romvae.units import looks_like_units, measured, same_time

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
    "controls_of",
    "fields_of",
    "parameters_of",
    "snapshots",
    "space_of",
]

_FORMAT = "romvae-schema-1"


@dataclass(frozen=True)
class Field:
    """A scalar field: its variable's name, units and what a figure calls it.

    Arguments:
        name: Name of the variable.
        units: Its units.
        long_name: What a figure calls it.
        vector: The vector that it is a component of; empty for a scalar.
        component: The axis along which it is that component.
        pseudoscalar: Whether a reflection turns its sign, as that of a vorticity in the plane.
    """

    name: str
    units: str = "1"
    long_name: str = ""
    vector: str = ""
    component: str = ""
    pseudoscalar: bool = False

    @classmethod
    def of(cls, array: xr.DataArray) -> Field:
        """Reads the attributes of a variable."""
        attrs = array.attrs
        vector, component = str(attrs.get("vector_name", "")), str(attrs.get("vector_component", ""))
        pseudoscalar = bool(attrs.get("pseudoscalar", False))
        return cls(str(array.name), _units(array), str(attrs.get("long_name", "")), vector, component, pseudoscalar)

    @property
    def attrs(self) -> dict[str, str | int]:
        """Attributes of the variable beside its units; what `of` reads."""
        found: dict[str, str | int] = {"long_name": self.long_name or self.name}
        if self.vector:
            found |= {"vector_name": self.vector, "vector_component": self.component}
        return found | ({"pseudoscalar": 1} if self.pseudoscalar else {})


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
        symmetries: Reflections and quarter turns that take trajectories to trajectories, such as `reflect_x`.
        controls: Numbers that vary in time alone, such as a forcing, with their ranges.
    """

    fields: tuple[Field, ...]
    grid: Grid
    dt: float
    time_units: str = "1"
    parameters: tuple[Parameter, ...] = ()
    symmetries: tuple[str, ...] = ()
    controls: tuple[Parameter, ...] = ()

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of the fields, in the order of the channels."""
        return tuple(field.name for field in self.fields)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of the parameters, in the order of the network's input."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def boundary_conditions(self) -> str:
        """Both sides of every axis, as the attribute of the same name of a Dataset has them."""
        return boundaries_to_json({axis.name: (axis.lower, axis.upper) for axis in self.grid.axes})

    @property
    def control_names(self) -> tuple[str, ...]:
        """The names of the controls, in the order of the network's input."""
        return tuple(control.name for control in self.controls)

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
            fields=tuple(Field.of(ds[name]) for name in fields_of(ds)),
            grid=Grid(axes),
            dt=dt,
            time_units=_units(ds[TIME]),
            parameters=tuple(
                Parameter(name, _units(ds[name]), float(ds[name].min()), float(ds[name].max()))
                for name in parameters_of(ds)
            ),
            controls=tuple(
                Parameter(name, _units(ds[name]), float(ds[name].min()), float(ds[name].max()))
                for name in controls_of(ds)
            ),
            symmetries=_symmetries(ds, source),
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

    def check_controls(self, ds: xr.Dataset, where: str = "") -> None:
        """Raises unless every control is there, in its units, with a value for every time.

        Raises:
            SchemaError: A control is missing, has other dims or units, or is not finite.

        Warns:
            OutOfRangeWarning: A control leaves the range of the training data.
        """
        for control in self.controls:
            name = control.name
            if name not in ds.data_vars:
                raise SchemaError(
                    f"{where}control {name!r} is missing, found {', '.join(controls_of(ds)) or 'none'}. Add it as a "
                    "variable of time with the attribute romvae_role='forcing'"
                )
            dims = set(ds[name].dims)
            if not {TIME} <= dims <= {TRAJECTORY, TIME}:
                raise SchemaError(
                    f"{where}control {name!r} has dims ({', '.join(map(str, ds[name].dims))}), expected "
                    f"({TRAJECTORY}, {TIME}) or ({TIME}). Rename or add dims with xarray"
                )
            _check_units(ds, name, control.units, where)
            values = np.asarray(ds[name].transpose(..., TIME).values, dtype=float)
            lengths = ragged_lengths(ds)
            if lengths is not None and values.ndim == 2:
                values = values[existing(lengths, ds.sizes[TIME])]
            if not np.isfinite(values).all():
                raise SchemaError(f"{where}control {name!r} is {values[~np.isfinite(values)][0]}; give it numbers")
            _warn_outside("control", control, values, where)

    def outside(self, ds: xr.Dataset) -> dict[int, str]:
        """Which parameters lie outside of the trained range, in words, by the position of the trajectory.

        Arguments:
            ds: Snapshots, or one of them, with their parameters.
        """
        found: dict[int, list[str]] = {}
        for p in self.parameters:
            slack = 1e-9 * (p.high - p.low)
            for row, value in enumerate(np.atleast_1d(ds[p.name].values).astype(float).tolist()):
                if not p.low - slack <= value <= p.high + slack:
                    words = f"{p.name} = {value:.6g}, trained from {p.low:.6g} to {p.high:.6g}"
                    found.setdefault(row, []).append(words)
        return {row: "; ".join(words) for row, words in found.items()}

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
                controls=tuple(Parameter(**control) for control in facts.get("controls", ())),
                symmetries=tuple(facts.get("symmetries", ())),
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
        units = ds[TIME].attrs.get("units", self.time_units)
        if units != self.time_units:
            raise SchemaError(
                f"{_where(source)}{TIME!r} is in {units!r}, but this ROM was trained in {self.time_units!r}"
                f"{same_time(dt, str(units), self.dt, self.time_units)}. Convert it and set its units"
            )
        if not math.isnan(dt) and abs(dt - self.dt) > 1e-6 * self.dt:
            hint = " Is it in another unit?" if looks_like_units(dt / self.dt) else ""
            raise SchemaError(
                f"{_where(source)}time step is {measured(dt, self.time_units)}, but this ROM was trained at "
                f"{measured(self.dt, self.time_units)}.{hint} Interpolate the data to dt={self.dt:.10g}, or retrain"
            )

    def _check_parameters(self, ds: xr.Dataset, where: str) -> None:
        present = _given_parameters(ds)
        for parameter in self.parameters:
            name = parameter.name
            if name not in ds.coords:
                advice = f"Add it with ds.assign_coords({name}=('{TRAJECTORY}', ...))"
                if where:  # a file: said on the command line too
                    entry = f"{{{name}: {{value: ..., units: {json.dumps(parameter.units)}}}}}"
                    advice = (
                        f"State it in a mapping file (reader: cf for stores of romvae; parameters: {entry}, a number "
                        f"or a list) and give that with --reader NAME.yaml; in Python a{advice[1:]}"
                    )
                raise SchemaError(
                    f"{where}parameter {name!r} is missing, found {', '.join(present) or 'none'}."
                    f"{did_you_mean(name, present)} {advice}"
                )
            _check_units(ds, name, parameter.units, where)
            values = np.atleast_1d(ds[name].values).astype(float)
            if not np.isfinite(values).all():
                raise SchemaError(f"{where}parameter {name!r} is {values[~np.isfinite(values)][0]}; give it a number")
            _warn_outside("parameter", parameter, values, where)


def _given_parameters(ds: xr.Dataset) -> list[str]:
    """Coordinates that may stand for a parameter: numbers, and no account of where trajectories come from."""
    account = {TRAJECTORY, TIME, *SPACE, N_STEPS, "split", "source_file", "source_index", "source_split"}
    names = {str(name): c for name, c in ds.coords.items() if str(name) not in account}
    return [name for name, c in names.items() if c.dtype.kind in "fiu" and set(c.dims) <= {TRAJECTORY}]


def _warn_outside(what: str, known: Parameter, values: np.ndarray, where: str) -> None:
    slack = 1e-9 * (known.high - known.low)
    excess = np.maximum(known.low - values, values - known.high)
    if (excess > slack).any():
        warnings.warn(
            f"{where}{what} {known.name!r} is {values.flat[np.argmax(excess)]:.10g}, outside the trained "
            f"range {known.low:.10g} to {known.high:.10g}: the ROM extrapolates",
            OutOfRangeWarning,
            stacklevel=caller_level(),
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


def _symmetries(ds: xr.Dataset, source: str) -> tuple[str, ...]:
    """The names in the attribute `symmetries`; whether the grid allows them is checked where they are used."""
    text = ds.attrs.get("symmetries", "[]")
    try:
        names = json.loads(text)
    except (TypeError, json.JSONDecodeError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SchemaError(
            f"{_where(source)}attribute symmetries is {text!r}, expected a JSON list such as "
            "'[\"reflect_x\"]'. Correct it"
        )
    return tuple(names)


def _units(array: xr.DataArray) -> str:
    return str(array.attrs.get("units", "1"))


def _sides(pair: tuple[Boundary, Boundary]) -> str:
    return json.dumps([side.entry for side in pair])


def _where(source: str) -> str:
    return f"{source}: " if source else ""
