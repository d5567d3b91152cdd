"""`romvae assimilate`: a trained ROM that follows sensor readings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from romvae.commands.options import Out, Overwrite, Reader, Seed
from romvae.commands.outputs import check_store
from romvae.commands.planned import named
from romvae.commands.run_folder import RunFolder
from romvae.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    import xarray as xr

    from romvae.rom import ROM

__all__ = ["assimilate"]


def assimilate(
    run: Path,
    /,
    *,
    observations: Annotated[Path, Parameter(name=["--observations", "--obs"])],
    out: Out,
    start: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    reader: Reader = None,
    std: float | None = None,
    method: Literal["etkf", "enkf", "4dvar"] = "etkf",
    steps: int | None = None,
    members: int = 64,
    inflation: float = 1.0,
    model_error: float | None = None,
    background: float = 1.0,
    window: int | None = None,
    level: float = 0.9,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Follow sensor readings: analysed fields with their uncertainty, and a forecast beyond the last reading.

    Arguments:
        run: folder that romvae train wrote.
        observations: table with a line per reading (.csv) and the columns time, value, std, the axes of the grid, and
            where they are needed field, trajectory and parameters; or a Dataset (.nc, .h5, .zarr) of value and std
            over (trajectory, time, sensor).
        out: store to write: a folder NAME.zarr, or a file NAME.h5 or NAME.nc.
        start: store from whose first snapshots the model would start without readings; of several trajectories those
            that the readings name. By default the initial field is unknown, and the table holds the parameters.
        std: standard deviation of the noise where the readings do not tell it, in their units.
        method: etkf and enkf are ensemble Kalman filters, which know of the readings up to a time; 4dvar is a smoother,
            which knows of all in its window.
        steps: time steps from the start to the end; by default to the last reading. Beyond it OUT is a forecast.
        members: members of the ensemble.
        inflation: factor on the deviations of the members before each analysis, 1 to 1.1; for filters.
        model_error: noise between readings, in units of the one-step error of the dynamics; 0 trusts the model; by
            default 1, and 0 for stochastic dynamics, which have noise of their own; for filters.
        background: factor on the spread of the initial code.
        window: time steps of a 4dvar window; by default all readings at once.
        level: nominal coverage of the interval, of a Gaussian.
    """
    check_store(out, overwrite)
    if out.resolve() in {path.resolve() for path in (observations, *(start or ()))}:
        raise OutputError(f"{out}: is what is read, never replaced by the result. Choose another --out.")
    folder = RunFolder.open(run)
    from romvae import assimilation
    from romvae.assimilation.table import read_observations
    from romvae.baselines.model import BaselineModel, load_model
    from romvae.data import write_snapshots

    rom = load_model(folder.model)
    if isinstance(rom, BaselineModel):
        raise ConfigError(f"{run}: is a baseline ({rom.name}), which has no latent state to follow. Train a ROM.")
    seen = read_observations(observations, rom.schema, std)
    first = _start(folder, rom, start, reader, seen)
    chosen: dict[str, Any] = {"method": method, "steps": steps, "members": members, "seed": seed, "level": level}
    chosen |= {"inflation": inflation, "model_error": model_error, "background": background, "window": window}
    result = assimilation.assimilate(rom, first, seen, **chosen)
    if "trajectory" not in result.dims:
        result = result.expand_dims("trajectory")
    write_snapshots(result.drop_vars(["latent", "latent_std"]), out, overwrite=overwrite)
    print(f"{out}: {result.sizes['trajectory']} trajectories of {result.sizes['time'] - 1} steps, {_read(seen)}")
    for name in rom.schema.field_names:
        print(_summary(result, name))


def _start(
    folder: RunFolder, rom: ROM, start: list[Path] | None, reader: str | None, seen: xr.Dataset
) -> xr.Dataset | None:
    """The first snapshots of the trajectories that the readings name; None where no start was given."""
    if start is None:
        return None
    snapshots, _ = folder.opened(start, reader)
    rom.schema.check(snapshots, source=named(start))
    if "trajectory" in seen.coords:
        wanted = [int(i) for i in seen["trajectory"].values.reshape(-1)]
        known = set(snapshots["trajectory"].values.tolist())
        missing = [i for i in wanted if i not in known]
        if missing:
            raise DataError(f"{named(start)}: trajectory {missing[0]} is missing, of which there are readings. Add it.")
        snapshots = snapshots.sel(trajectory=wanted)
    elif snapshots.sizes["trajectory"] > 1:
        raise DataError(
            f"{named(start)}: holds {snapshots.sizes['trajectory']} trajectories, and the readings do not say of which "
            "one they are. Add a column trajectory."
        )
    return snapshots.isel(time=0)


def _read(seen: xr.Dataset) -> str:
    value = seen["value"]
    missing = int(value.isnull().sum())
    gone = f", {missing} of {value.size} readings missing" if missing else ""
    return f"{seen.sizes['sensor']} sensors at {seen.sizes['time']} times{gone}"


def _summary(result: xr.Dataset, name: str) -> str:
    """The expected error of a field at both ends."""
    std = (result[f"{name}_std"] ** 2).mean([dim for dim in result[name].dims if dim != "time"]) ** 0.5
    units = str(result[name].attrs.get("units", "1"))
    of = "" if units == "1" else f" {units}"
    return f"expected error of {name}: {float(std[0]):.3g}{of} at the start, {float(std[-1]):.3g}{of} at the end"
