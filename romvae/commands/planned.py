"""Options of commands that roll out many trajectories, and what they start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from romvae.errors import ConfigError, DataError

if TYPE_CHECKING:
    import xarray as xr

    from romvae.baselines.model import Model
    from romvae.commands.run_folder import RunFolder
    from romvae.solvers import Range
    from romvae.studies.starts import Starts

__all__ = [
    "DesignOptions",
    "Scheduler",
    "SkipFailed",
    "Workers",
    "initial",
    "named",
    "parsed_ranges",
    "part",
    "planned",
]

Workers = Annotated[
    int | None,
    Parameter(
        help="Processes with a thread each, by default one per processor; the result is the same for any number."
    ),
]
Scheduler = Annotated[
    str | None,
    Parameter(
        help="Address of a Dask scheduler whose workers do the work, or local; needs pip install 'romvae[dask]'."
    ),
]
SkipFailed = Annotated[
    bool, Parameter(help="Write the output without rollouts that diverged; without it they are tried again.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class DesignOptions:
    """Where parameters lie, and which initial fields are rolled out from.

    Arguments:
        n: points of a design of parameters; every one is rolled out from every initial field.
        design: how the points are placed in the ranges.
        range: range of a parameter, NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE; may be given more than once. The
            trained range of those that are left out.
        fields_used: how many initial fields are taken, the first ones; by default all, and one where there is --n but
            no --start.
        from_case: let the case of the data draw an initial field for every point, as for a simulation.
    """

    n: int | None = None
    design: Literal["sobol", "latin_hypercube", "grid", "random"] = "sobol"
    range: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None
    fields_used: Annotated[int | None, Parameter(name="--starts")] = None
    from_case: bool = False

    def check(self) -> None:
        """Refuses what makes no sense before anything is opened."""
        if self.n is None and (self.range or self.from_case):
            raise ConfigError("--n is missing. Give the number of points of the design, such as --n 256.")
        for name, value in (("n", self.n), ("starts", self.fields_used)):
            if value is not None and value < 1:
                raise ConfigError(f"--{name} = {value}: should be at least 1.")
        if self.from_case and self.fields_used is not None:
            raise ConfigError("--starts goes with given initial fields, not with --from-case. Leave one of them out.")


def parsed_ranges(words: Sequence[str]) -> list[Range]:
    """`NAME=LOW:HIGH`, `NAME=LOW:HIGH:log` or `NAME=VALUE` as ranges.

    Raises:
        ConfigError: A word is none of them.
    """
    from romvae.solvers import Range

    found = []
    for word in words:
        name, _, rest = word.partition("=")
        parts = rest.split(":")
        scale: Any = "linear"
        if len(parts) == 3 and parts[2] in ("log", "linear"):
            scale = parts.pop()
        try:
            low, high = (float(parts[0]), float(parts[-1]))
        except ValueError:
            parts = []
        if not name or not 1 <= len(parts) <= 2:
            raise ConfigError(f"--range {word}: expected NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE.")
        found.append(Range(name, low, high, scale))
    return found


def planned(
    folder: RunFolder,
    model: Model,
    start: Sequence[Path] | None,
    split: str | None,
    reader: str | None,
    options: DesignOptions,
    seed: int,
) -> Starts:
    """What is rolled out: the initial fields of a store or of the run's own data, with a design or without.

    Raises:
        ConfigError: The options do not go together.
        DataError: The data of the run are not there any more, or hold fewer times than forecasts start from.
    """
    from romvae.studies.starts import crossed, from_case, points, ranges_of

    schema = model.schema
    snapshots, own = part(folder, start, split, reader)
    values = None
    if options.n is not None:
        values = points(ranges_of(schema, parsed_ranges(options.range or ())), options.n, seed, options.design)
    if options.from_case and model.start_times > 1:
        raise ConfigError(
            "--from-case: draws a single initial field for every point, but forecasts of this run start from "
            f"{model.start_times} stored times (--model.given). Give them with --start."
        )
    if options.from_case and values is not None:
        return from_case(_case(snapshots), schema, values, seed)
    if values is not None:
        _refuse_shaping(snapshots, values)
    used = options.fields_used or (1 if values is not None and start is None else None)
    if used is not None:
        if used > snapshots.sizes["trajectory"]:
            raise ConfigError(f"--starts = {used}: there are {snapshots.sizes['trajectory']} initial fields.")
        snapshots = snapshots.isel(trajectory=slice(0, used))
    fields = initial(model, snapshots, own, folder.data().paths if start is None else start)
    return crossed(fields, schema, values, snapshots if schema.controls else None)


def initial(model: Model, snapshots: xr.Dataset, own: bool, paths: Sequence[Path]) -> xr.Dataset:
    """What forecasts start from: the first snapshot of each trajectory, or as many as the model is given.

    Those are the first ones of the run's own trajectories, and of such as hold the controls of the forecast; of other
    data, the last ones.

    Arguments:
        model: The model.
        snapshots: The trajectories.
        own: Whether they are data of the run.
        paths: Where they were read, for messages.

    Raises:
        DataError: They hold fewer times than forecasts of the model start from, or end at different times.
    """
    from romvae.ragged import ragged_lengths

    count = model.start_times
    if count == 1:
        return snapshots.isel(time=0)
    lengths = ragged_lengths(snapshots)
    least = snapshots.sizes["time"] if lengths is None else int(lengths.min())
    if least < count:
        raise DataError(
            f"{named(paths)}: trajectories hold {least} times, but forecasts of this run start from {count}, the last "
            "of which is the initial field (--model.given). Give trajectories of as many times."
        )
    if own or model.schema.controls:
        return snapshots.isel(time=slice(0, count))
    if lengths is not None:
        raise DataError(
            f"{named(paths)}: trajectories end at different times, so that their last {count} are not the same ones. "
            "Give a store for each length."
        )
    return snapshots.isel(time=slice(-count, None))


def part(
    folder: RunFolder, start: Sequence[Path] | None, split: str | None, reader: str | None
) -> tuple[xr.Dataset, bool]:
    """The trajectories to start from, of the run's own data those of a part, of others all; and whether they are own.

    Raises:
        ConfigError: A part is asked for of data that are not the run's.
        DataError: The data of the run are not there any more.
    """
    record = folder.data()
    paths = record.paths if start is None else list(start)
    if start is None and not all(path.exists() for path in paths):
        raise DataError(
            f"{named(paths)}: the data of this run are not there any more. Give initial fields with --start."
        )
    snapshots, own = folder.opened(paths, reader)
    if start is None and not own:
        raise DataError(f"{named(paths)}: are not what this run was trained on any more. Give them with --start.")
    if split == "all" or (split is None and not own):
        return snapshots, own
    if own:
        return record.select(snapshots, split or "test", named(paths)), own
    raise ConfigError(
        f"--split = {split}: {named(paths)} is not the data of this run ({named(record.paths)}), so none of its "
        "trajectories belong to a part. Use --split all."
    )


def named(paths: Sequence[Path]) -> str:
    """For messages."""
    return ", ".join(map(str, paths))


def _case(snapshots: xr.Dataset) -> Any:
    from romvae.solvers import get_case

    if "case" not in snapshots.attrs:
        raise ConfigError("--from-case: the data do not say which case they were simulated by. Use --start.")
    return get_case(str(snapshots.attrs["case"]))


def _refuse_shaping(snapshots: xr.Dataset, values: Sequence[dict[str, float]]) -> None:
    """A parameter that shapes the initial field cannot be varied while the field stays."""
    from romvae.solvers import CASES

    case = CASES.get(str(snapshots.attrs.get("case", "")))
    shaping = [each.name for each in case.ranges if each.of_initial] if case is not None else []
    varied = [name for name in shaping if len({row.get(name) for row in values}) > 1]
    if varied:
        raise ConfigError(
            f"{', '.join(varied)}: shapes the initial field of the case {snapshots.attrs['case']}, so that a given "
            "field does not fit to other values. Use --from-case, which draws a field for every point."
        )
