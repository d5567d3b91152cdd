"""`romvae compare` of several runs: all are opened before one is compared, and each is written once it is done."""

from __future__ import annotations

import json as json_format
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from romvae.commands.compare import Asked, OpenedRun, compare_opened, open_run, write_comparison
from romvae.commands.run_folder import RunFolder
from romvae.commands.text import places
from romvae.errors import DataError, OutOfRangeWarning
from romvae.progress import terminal_progress

if TYPE_CHECKING:
    from romvae.comparison import Comparison

__all__ = ["compare_several", "compared_names"]

logger = logging.getLogger("romvae.commands")


def compare_several(
    runs: Sequence[Path], ask: Asked, given: Sequence[str], out: Path, json: bool, quiet: bool
) -> float:
    """Compares each run, ranks them, and writes one page for all beside one for each; gives the least error.

    Arguments:
        runs: Folders of runs, or of comparisons, which are taken as they are.
        ask: What is asked of every run.
        given: Names of the options that were given, which are in vain for what is compared already.
        out: Folder of the pages.
        json: Prints the metrics instead of the table.
        quiet: Shows no progress.

    Raises:
        DataError: The held-out trajectories of the runs are not the same; nothing was computed.
    """
    from romvae.comparison import rank
    from romvae.report import write_metrics, write_ranking

    opened = {name: _opened(path, ask) for name, path in zip(_names(runs), runs, strict=True)}
    _require_same({path: held_out(each) for path, each in zip(runs, opened.values(), strict=True)})
    _warn_of_vain([path for path in runs if _is_compared(path)], given)
    found: dict[str, Comparison] = {}
    try:
        with terminal_progress(quiet) as progress:
            for name, each in opened.items():
                comparison = compare_opened(each, ask, progress) if isinstance(each, OpenedRun) else each
                write_comparison(comparison, out / name)
                found[name] = comparison
    except BaseException:
        if found:
            done = " ".join(str(out / name) for name in found)
            logger.warning("%s: compared already. Give these in the place of their runs, with --overwrite.", done)
        raise
    ranking = rank(found, ask.seed)
    write_metrics(ranking, out / "metrics.json", overwrite=True)
    write_ranking(ranking, out / "report.html", overwrite=True)
    print(json_format.dumps(ranking.metrics, indent=2) if json else places(ranking.metrics))
    if not json:
        print(f"\nreport:  {out / 'report.html'}\nmetrics: {out / 'metrics.json'}")
    return float(ranking.metrics["runs"][0]["relative_l2"])


def compared_names(runs: Sequence[Path], out: Path) -> list[str]:
    """Folders in `out` that an earlier call for these runs has written, though it may not have come to its end."""
    return [name for name in _names(runs) if _is_compared(out / name)]


def held_out(opened: OpenedRun | Comparison) -> str | None:
    """Fingerprint of the held-out trajectories, as the comparison has it or is going to have it; None: none is known.

    Raises:
        SchemaError: They do not suit the model.
    """
    if not isinstance(opened, OpenedRun):
        known: str | None = opened.metrics.get("data", {}).get("fingerprint")
        return known
    from romvae.canonical import canonical
    from romvae.comparison.card import data_fingerprint
    from romvae.ragged import even_snapshots
    from romvae.start import after_start

    model, test = opened.model, canonical(opened.parts["test"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # counted by the comparison
        model.schema.check(test, source=f"{opened.run.path}: test trajectories")
    scored = after_start(model, even_snapshots(test, model.start_times))
    return data_fingerprint(scored, list(model.schema.field_names))


def _is_compared(path: Path) -> bool:
    return (path / "comparison").is_dir()


def _opened(path: Path, ask: Asked) -> OpenedRun | Comparison:
    if not _is_compared(path):
        return open_run(RunFolder.open(path), ask)
    from romvae.comparison import Comparison

    return Comparison.load(path / "comparison")


def _require_same(prints: Mapping[Path, str | None]) -> None:
    """Refuses runs that cannot be ranked, before any of them is compared."""
    first = next(iter(prints))
    for path, found in prints.items():
        if found is None:
            raise DataError(f"{path}: its comparison tells no fingerprint of its data. Give the run itself instead.")
        if found != prints[first]:
            raise DataError(
                f"{path}: its held-out trajectories are not those of {first}, so the two cannot be ranked. Train both "
                "on the same data with the same --seed, which decides what is held out."
            )


def _warn_of_vain(compared: Sequence[Path], given: Sequence[str]) -> None:
    """Says which options play no part for what is compared already."""
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    told = "%s: is compared already and taken as it is, without effect of %s. Give the run itself instead."
    for path in compared if given else ():
        logger.warning(told, path, flags)


def _names(runs: Sequence[Path]) -> list[str]:
    """Names of the folders, told apart by a number where two are equal."""
    names: list[str] = []
    for path in runs:
        name = path.resolve().name
        while name in names or name in ("comparison", "report.html", "metrics.json"):
            name = f"{name}-{len(names) + 1}"
        names.append(name)
    return names
