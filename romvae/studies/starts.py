"""What an ensemble of rollouts starts from: initial fields, parameters, or every point of a design from every field."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae.canonical import TRAJECTORY, canonical, did_you_mean, snapshots
from romvae.errors import ConfigError, DataError, OutOfRangeWarning, SchemaError
from romvae.schema import Schema
from romvae.solvers.base import Case, Range
from romvae.solvers.sampling import Design, placed

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CaseStarts", "FieldStarts", "Starts", "crossed", "digest_of", "from_case", "outside", "points", "ranges_of"]

_SLACK = 1e-9


class Starts(Protocol):
    """Rows of an ensemble of rollouts."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Number of each row in the result."""

    @property
    def origins(self) -> NDArray[np.int64]:
        """Which initial field each row starts from, by its label."""

    @property
    def parameters(self) -> dict[str, NDArray[np.float64]]:
        """Values of the rows by name."""

    def rows(self, indices: Sequence[int]) -> xr.Dataset:
        """Initial fields and parameters of some rows, in memory."""

    def controls(self, indices: Sequence[int]) -> xr.Dataset | None:
        """What drives them in time, if anything does."""


@dataclass(frozen=True)
class FieldStarts:
    """Rows that start from given fields.

    Arguments:
        fields: One snapshot per trajectory, lazily opened or in memory.
        picks: Which of them each row starts from.
        labels: Number of each row in the result.
        parameters: Values of the rows by name.
        driven: Controls at the times of the rollouts, with or without trajectories.
    """

    fields: xr.Dataset
    picks: NDArray[np.int64]
    labels: NDArray[np.int64]
    parameters: dict[str, NDArray[np.float64]]
    driven: xr.Dataset | None = None

    @property
    def origins(self) -> NDArray[np.int64]:
        """Labels of the initial fields."""
        return np.asarray(self.fields[TRAJECTORY].values, np.int64)[self.picks]

    def rows(self, indices: Sequence[int]) -> xr.Dataset:
        """Every field is read once, however many rows start from it."""
        chosen = np.asarray(indices)
        few, again = np.unique(self.picks[chosen], return_inverse=True)
        found = self.fields.isel({TRAJECTORY: few}).load().isel({TRAJECTORY: again})
        return _with(found, self.labels[chosen], {name: values[chosen] for name, values in self.parameters.items()})

    def controls(self, indices: Sequence[int]) -> xr.Dataset | None:
        """Those of the fields that the rows start from."""
        if self.driven is None or TRAJECTORY not in self.driven.dims:
            return self.driven
        labels = np.asarray(self.driven[TRAJECTORY].values).tolist()
        missing = sorted(set(self.origins[np.asarray(indices)].tolist()) - set(labels))
        if missing:
            raise SchemaError(f"rollout: controls have no trajectory {missing[0]}. Give those of the initial fields")
        places = [labels.index(origin) for origin in self.origins[np.asarray(indices)].tolist()]
        return self.driven.isel({TRAJECTORY: places})


@dataclass(frozen=True)
class CaseStarts:
    """Rows whose initial fields a case draws for their parameters: row i has the random numbers of (seed, i).

    Arguments:
        case: The case.
        seed: Selects the fields.
        names: Fields of the model.
        values: The ranges' values of every row.
        labels: Number of each row in the result.
    """

    case: Case
    seed: int
    names: tuple[str, ...]
    values: Sequence[Mapping[str, float]]
    labels: NDArray[np.int64]

    @property
    def origins(self) -> NDArray[np.int64]:
        """Every row has a field of its own."""
        return self.labels

    @property
    def parameters(self) -> dict[str, NDArray[np.float64]]:
        """All that vary."""
        return {name: np.array([row[name] for row in self.values]) for name in self.values[0]}

    def rows(self, indices: Sequence[int]) -> xr.Dataset:
        """Drawn when they are needed."""
        draws = [self.case.draw(int(i), self.seed, values=self.values[i]) for i in indices]
        solver = draws[0].solver
        if solver.mask is not None:
            raise DataError(f"case {self.case.name}: has an obstacle. Give initial fields that were simulated.")
        known = [{**draw.solver.parameters, **draw.parameters} for draw in draws]
        u = np.stack([draw.u0 for draw in draws])[:, None]
        ds = snapshots(
            {field.name: u[:, :, k] for k, field in enumerate(solver.fields)},
            {axis.name: np.array(axis.coordinates) for axis in solver.grid.axes},
            self.case.times[:1],
            {name: np.array([row[name] for row in known]) for name in known[0]},
            {axis.name: (axis.lower, axis.upper) for axis in solver.grid.axes},
            solver.units_of(known[0]),
        )
        return _with(ds, self.labels[np.asarray(indices)], {})

    def controls(self, indices: Sequence[int]) -> xr.Dataset | None:
        """Cases have none."""
        return None


def ranges_of(schema: Schema, given: Iterable[Range] = ()) -> list[Range]:
    """The range of every parameter: the trained one where none is given; of no width where it never varied.

    Raises:
        ConfigError: A range is of no parameter of the model, or no interval.
    """
    chosen = {each.name: each for each in given}
    for name, each in chosen.items():
        if name not in schema.parameter_names:
            known = ", ".join(schema.parameter_names) or "none"
            raise ConfigError(
                f"range of {name!r}: the model has no such parameter, only {known}."
                f"{did_you_mean(name, schema.parameter_names)}"
            )
        if not (np.isfinite([each.low, each.high]).all() and each.low <= each.high):
            raise ConfigError(f"range of {name!r}: {each.low:g} to {each.high:g} is no interval. Give low, then high.")
        if each.scale == "log" and each.low <= 0:
            raise ConfigError(f"range of {name!r}: begins at {each.low:g}, which has no logarithm. Begin above zero.")
    return [chosen.get(p.name) or Range(p.name, p.low, p.high) for p in schema.parameters]


def points(ranges: Sequence[Range], n: int, seed: int, design: Design) -> list[dict[str, float]]:
    """`n` points of a design; parameters whose range has no width keep their value.

    Raises:
        ConfigError: There is nothing to vary.
    """
    varying = [each for each in ranges if each.high > each.low]
    if not varying:
        raise ConfigError(
            "study: no parameter varies, so there is nothing to place. Give --range NAME=LOW:HIGH, or initial fields "
            "with parameters of their own and no --n."
        )
    if n < 1:
        raise ConfigError(f"study: n is {n}, expected 1 or more. Choose a positive number of points.")
    fixed = {each.name: each.low for each in ranges if each.high == each.low}
    return [{**fixed, **values} for values in placed(varying, n, seed, design)]


def crossed(
    fields: xr.Dataset,
    schema: Schema,
    values: Sequence[Mapping[str, float]] | None = None,
    driven: xr.Dataset | None = None,
) -> FieldStarts:
    """Every point from every initial field, all fields of a point one after the other; without points, the fields.

    Arguments:
        fields: One snapshot per trajectory; those to be selected are so already.
        schema: Of the model, that the fields are checked against.
        values: The points; None keeps the parameters that the fields have.
        driven: Controls, see `FieldStarts`.

    Raises:
        SchemaError: Fields, grid or units are not the model's.
    """
    fields = canonical(fields if TRAJECTORY in fields.dims else fields.expand_dims(TRAJECTORY))
    m = fields.sizes[TRAJECTORY]
    if m == 0:
        raise DataError("rollout: there is no initial field to start from. Give at least one trajectory.")
    if values is None:
        schema.check(fields, time=False)
        own = {name: np.asarray(fields[name].values, np.float64).reshape(-1) for name in schema.parameter_names}
        return FieldStarts(fields, np.arange(m), np.asarray(fields[TRAJECTORY].values, np.int64), own, driven)
    n = len(values)
    named = {name: np.repeat([row[name] for row in values], m) for name in values[0]}
    units = {parameter.name: {"units": parameter.units} for parameter in schema.parameters}
    fields = fields.drop_vars([name for name in units if name in fields.coords]).assign_coords(
        {name: (TRAJECTORY, column[:m], units[name]) for name, column in named.items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # of all points together, by `outside`
        schema.check(fields, time=False)
    return FieldStarts(fields, np.tile(np.arange(m), n), np.arange(n * m, dtype=np.int64), named, driven)


def from_case(case: Case, schema: Schema, values: Sequence[Mapping[str, float]], seed: int) -> CaseStarts:
    """Points whose initial fields the case draws.

    Raises:
        ConfigError: The case varies other parameters than the model has.
    """
    wanted = {each.name for each in case.ranges}
    if not wanted or not wanted <= set(values[0]):
        raise ConfigError(
            f"case {case.name}: varies {', '.join(sorted(wanted)) or 'nothing'}, but the model knows "
            f"{', '.join(values[0])}. Give initial fields with --start."
        )
    chosen = [{name: row[name] for name in wanted} for row in values]
    starts = CaseStarts(case, seed, schema.field_names, chosen, np.arange(len(values), dtype=np.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        schema.check(starts.rows([0]), f"case {case.name}", time=False)
    return starts


def outside(starts: Starts, schema: Schema) -> NDArray[np.bool_]:
    """Which rows have a parameter outside of the trained range.

    Warns:
        OutOfRangeWarning: Some do; the message says how many, and which parameter goes how far.
    """
    flags = np.zeros(len(starts.labels), dtype=bool)
    words = []
    for parameter in schema.parameters:
        values = starts.parameters.get(parameter.name)
        if values is None:
            continue
        slack = _SLACK * (parameter.high - parameter.low)
        over = (values < parameter.low - slack) | (values > parameter.high + slack)
        if over.any():
            words.append(
                f"{parameter.name} goes from {values.min():.6g} to {values.max():.6g}, trained from "
                f"{parameter.low:.6g} to {parameter.high:.6g}"
            )
        flags |= over
    if words:
        warnings.warn(
            f"{int(flags.sum())} of {len(flags)} rollouts lie outside of the trained range ({'; '.join(words)}): the "
            "ROM extrapolates, and its intervals promise nothing there",
            OutOfRangeWarning,
            stacklevel=2,
        )
    return flags


def digest_of(starts: Starts) -> str:
    """SHA-256 of what the rows follow from: labels, origins, parameters, and the first and last initial field."""
    digest = hashlib.sha256()
    for values in (starts.labels, starts.origins, *starts.parameters.values()):
        digest.update(np.ascontiguousarray(values).tobytes())
    for index in (0, len(starts.labels) - 1):
        row = starts.rows([index])
        for name in sorted(map(str, row.variables)):
            digest.update(name.encode())
            if row[name].dtype.kind in "fiu":
                digest.update(np.ascontiguousarray(row[name].values).tobytes())
    return digest.hexdigest()


def _with(ds: xr.Dataset, labels: NDArray[np.int64], parameters: Mapping[str, NDArray[np.float64]]) -> xr.Dataset:
    """The rows under their own labels, with their own parameters."""
    about: dict[str, Any] = ds[TRAJECTORY].attrs if TRAJECTORY in ds.coords else {}
    coords: dict[str, Any] = {TRAJECTORY: (TRAJECTORY, labels, about)}
    coords |= {
        name: (TRAJECTORY, values, ds[name].attrs if name in ds.coords else {}) for name, values in parameters.items()
    }
    return ds.assign_coords(coords)
