"""`romvae compare`: a trained ROM against held-out reference solutions, its solver and simple baselines."""

from __future__ import annotations

import json as json_format
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from romvae.commands.options import Members, Overwrite, Quiet, Reader, Seed
from romvae.commands.outputs import check_output
from romvae.commands.run_folder import RunFolder
from romvae.commands.text import skill
from romvae.errors import ConfigError, QualityError
from romvae.progress import Progress, terminal_progress

if TYPE_CHECKING:
    from romvae.comparison import Comparison

__all__ = ["compare", "compare_run"]

logger = logging.getLogger("romvae.commands")


def compare(
    run: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    data: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    reader: Reader = None,
    members: Members = 32,
    seed: Seed = 0,
    max_relative_l2: float | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure errors, calibration and cost on the held-out trajectories; write report.html and metrics.json.

    Arguments:
        run: folder that romvae train wrote.
        out: folder for report.html, metrics.json and the comparison behind them.
        data: the data of the run, if they have moved since; all of them, in their order, where there are several.
        max_relative_l2: exit with code 6 if the ROM's relative L2 error is larger.
        json: print metrics.json instead of the table.
    """
    check_output(out, overwrite, ("metrics.json", "report.html"))
    with terminal_progress(quiet) as progress:
        comparison = compare_run(RunFolder.open(run), data, members, seed, progress, reader)
    from romvae.report import write_metrics, write_report

    out.mkdir(parents=True, exist_ok=True)
    comparison.save(out / "comparison", overwrite=True)
    write_metrics(comparison, out / "metrics.json", overwrite=True)
    write_report(comparison, out / "report.html", overwrite=True)
    print(json_format.dumps(comparison.metrics, indent=2) if json else skill(comparison.metrics))
    if not json:
        print(f"\nreport:  {out / 'report.html'}\nmetrics: {out / 'metrics.json'}")
    error = comparison.metrics["rom"]["relative_l2"]
    if max_relative_l2 is not None and not error <= max_relative_l2:
        raise QualityError(f"{run}: relative L2 error is {error:.4g}, expected at most {max_relative_l2:.4g}.")


def compare_run(
    run: RunFolder, data: Sequence[Path] | None, members: int, seed: int, progress: Progress, reader: str | None = None
) -> Comparison:
    """The comparison of a run with the held-out part of its data."""
    if not 1 <= members <= 10000:
        raise ConfigError(f"--members = {members}: should be between 1 and 10000.")
    record = run.data()
    paths = data or record.paths
    path = ", ".join(map(str, paths))
    snapshots, own = run.opened(paths, reader)
    if not own:
        logger.warning(
            "%s: is not the data of this run byte for byte, so whether its test trajectories were held out is not "
            "known. A copy in another format is fine; otherwise train again.",
            path,
        )
    test = record.select(snapshots, "test", str(path))
    train = record.select(snapshots, "train", str(path))
    from romvae.comparison import compare as measure
    from romvae.rom import ROM
    from romvae.solvers import CASES

    history = run.history()
    comparison = measure(
        ROM.load(run.model),
        test,
        train=train,
        reference=CASES.get(str(snapshots.attrs.get("case"))),
        seconds=dict(history.get("seconds", {})),
        members=members,
        seed=seed,
        progress=progress,
    )
    tried = history.get("notes", {}).get("dynamics", {}).get("scores", {})
    if tried:
        scores = ", ".join(f"{kind} {score['crps']:.3g}" for kind, score in sorted(tried.items(), key=_by_score))
        comparison.info["model"]["dynamics_tried"] = f"CRPS of held-out forecasts: {scores}"
    comparison.info["configuration"] = run.settings()
    comparison.info["history"] = history.get("curves", {})
    found = run.latent_size()
    if found is not None:
        comparison.info["latent_size"] = found
    return comparison


def _by_score(item: tuple[str, dict[str, float]]) -> float:
    return item[1]["crps"]
