"""`romvae simulate`: an ensemble of reference simulations of a built-in case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from romvae.atomic import require_space
from romvae.commands.options import Config, Overwrite, Quiet
from romvae.commands.outputs import check_store
from romvae.environment import available_cpus
from romvae.errors import ConfigError
from romvae.progress import stage, terminal_progress
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
    config: Config = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    list_cases: Annotated[bool, Parameter(name="--list")] = False,
) -> None:
    """Run a reference solver over random initial fields and parameters.

    Arguments:
        case: name of the case, such as burgers_1d.
        out: store to write: a folder NAME.zarr, or a file NAME.h5 or NAME.nc.
        n: number of trajectories; by default the case's own.
        seed: trajectory i depends on (seed, i) only.
        workers: processes, by default one per processor; the result is the same for any number.
        list_cases: show the cases and stop.
    """
    if list_cases:
        _print_cases()
        return
    given = {"case": case, "n": n, "seed": seed, "workers": workers}
    settings = load_settings(
        SimulateSettings, config, {key: value for key, value in given.items() if value is not None}
    )
    if settings.case is None:
        raise ConfigError("CASE is missing. Give the name of a case; romvae simulate --list shows them.")
    if out is None:
        raise ConfigError("--out is missing. Give the store to write, such as --out burgers_1d.zarr.")
    check_store(out, overwrite)
    from romvae import solvers
    from romvae.data import write_snapshots

    require_space(out, solvers.ensemble_bytes(settings.case, settings.n) + 2**20)
    with terminal_progress(quiet) as progress:
        snapshots = solvers.simulate(
            settings.case,
            settings.n,
            settings.seed,
            settings.workers or available_cpus(),
            stage(progress, "simulate"),
        )
    write_snapshots(snapshots, out, overwrite=overwrite)
    print(f"{out}: {dict(snapshots.sizes)}")
    print(f"Next: romvae train {out} --out runs/{out.stem}")


def _print_cases() -> None:
    from romvae.solvers import CASES

    width = max(map(len, CASES))
    for name, case in CASES.items():
        print(f"{name:<{width}}  {case.description}")
