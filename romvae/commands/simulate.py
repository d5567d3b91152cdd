"""`romvae simulate`: an ensemble of reference simulations of a built-in case."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from romvae.commands.case_tables import print_cases, print_costs
from romvae.commands.options import Config, Overwrite, Quiet
from romvae.commands.outputs import check_store
from romvae.environment import available_cpus
from romvae.errors import ConfigError, NumericsError
from romvae.progress import Progress, terminal_progress
from romvae.settings import SimulateSettings
from romvae.settings_file import load_settings

__all__ = ["simulate"]


def simulate(
    case: str | None = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    n: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    design: Literal["random", "grid", "latin_hypercube", "sobol"] | None = None,
    scheduler: str | None = None,
    no_error_estimate: bool = False,
    skip_failed: bool = False,
    config: Config = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    list_cases: Annotated[bool, Parameter(name="--list")] = False,
    cost: Annotated[list[str] | None, Parameter(name="--cost-table")] = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Run a reference solver over random initial fields and parameters.

    Finished trajectories are kept in OUT.partial: after an interruption or a kill, the same command adds the rest.

    Arguments:
        case: name of the case, such as burgers_1d.
        out: store to write: a folder NAME.zarr, or a file NAME.h5 or NAME.nc.
        n: number of trajectories; by default the case's own.
        seed: trajectory i depends on (seed, i) only.
        workers: processes, by default one per processor; the result is the same for any number.
        design: how the parameters are placed in their ranges, by default random. A sobol sequence is scrambled; it
            is balanced best where n is a power of 2, and any n is accepted.
        scheduler: address of a Dask scheduler whose workers do the work, or local; needs pip install 'romvae[dask]'.
        no_error_estimate: do not solve a few trajectories finer for an estimate of the discretisation error.
        skip_failed: write the store without trajectories that failed; without it they are tried again.
        list_cases: show the cases and stop.
        cost: show what accuracy costs and stop: error and time of the case as it is and with other settings of its
            solver, such as resolution=128,256; may be given more than once, for all combinations. --n is 4 then.
        as_json: with --list or --cost-table, as JSON.
    """
    if list_cases:
        print_cases(as_json)
        return
    if as_json and not cost:
        raise ConfigError("--json goes with --list or --cost-table.")
    given: dict[str, Any] = {"case": case, "n": n, "seed": seed, "workers": workers, "design": design}
    given |= {"scheduler": scheduler, "skip_failed": skip_failed or None}
    given |= {"error_estimate": False if no_error_estimate else None}
    settings = load_settings(
        SimulateSettings, config, {key: value for key, value in given.items() if value is not None}
    )
    if settings.case is None:
        raise ConfigError("CASE is missing. Give the name of a case; romvae simulate --list shows them.")
    if cost:
        print_costs(settings.case, cost, settings.n, settings.seed, as_json)
        return
    if out is None:
        raise ConfigError("--out is missing. Give the store to write, such as --out burgers_1d.zarr.")
    partial = out.with_name(f"{out.name}.partial")
    check_store(out, overwrite or partial.is_dir())  # killed between its last two acts, a simulation has left both
    with terminal_progress(quiet) as progress:
        _simulate(settings, out, overwrite, progress)
    print(f"{out}: {settings.case}")
    print(f"Next: romvae train {out} --out runs/{out.stem}")


def _simulate(settings: SimulateSettings, out: Path, overwrite: bool, progress: Progress) -> None:
    from romvae import solvers

    try:
        solvers.simulate_to(
            out,
            str(settings.case),
            settings.n,
            settings.seed,
            settings.workers or available_cpus(),
            progress,
            design=settings.design,
            scheduler=settings.scheduler,
            error_estimate=settings.error_estimate,
            skip_failed=settings.skip_failed,
            overwrite=overwrite,
        )
    except solvers.FailedTrajectoriesError as error:
        for failure in error.failures:
            print(f"failed: {' '.join(failure.line.split())}", file=sys.stderr)
        raise NumericsError(error.summary) from error
    except BaseException as error:
        if not isinstance(error, Exception):  # asked to stop, not failed
            print(f"Continue with: {_command(settings, out, overwrite)}", file=sys.stderr)
        raise


def _command(settings: SimulateSettings, out: Path, overwrite: bool) -> str:
    """The command line of these settings; it continues what they have begun."""
    words = ["romvae", "simulate", str(settings.case), "--out", str(out)]
    defaults = SimulateSettings()
    for name in ("n", "seed", "workers", "design", "scheduler"):
        value = getattr(settings, name)
        if value != getattr(defaults, name):
            words += [f"--{name}", str(value)]
    flags = {"--no-error-estimate": not settings.error_estimate, "--skip-failed": settings.skip_failed}
    words += [flag for flag, wanted in (flags | {"--overwrite": overwrite}).items() if wanted]
    return shlex.join(words)
