"""`romvae export`: a trained ROM as programs that run without romvae."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from romvae.commands.options import Members, Overwrite, Quiet
from romvae.commands.outputs import check_output
from romvae.commands.run_folder import RunFolder
from romvae.errors import ConfigError, DataError
from romvae.progress import terminal_progress

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["export"]


def export(
    run: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    format: Literal["torch", "onnx"] = "torch",
    steps: int | None = None,
    members: Members = 32,
    level: float = 0.9,
    interval: Literal["point", "field", "run"] = "point",
    share: float = 0.9,
    metrics: Path | None = None,
    licence: str = "",
    tolerance: float = 1e-3,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write encoder, dynamics, decoder and the whole rollout as programs, with a model card and a script to run them.

    Arguments:
        run: folder that romvae train wrote, or a saved ROM.
        out: folder to write; by default RUN/export-torch or RUN/export-onnx.
        format: torch.export archives (.pt2), or ONNX models (pip install 'romvae[onnx]').
        steps: number of time steps of the whole rollout; by default those of a training trajectory.
        level: probability that the interval is meant to cover.
        interval: what it is to hold, a value at a point, or a share of the points of a field or of a run.
        share: that share.
        metrics: metrics.json of a comparison, for the card; one in RUN or in RUN/comparison is found.
        licence: of the model, for the card.
        tolerance: largest difference from the ROM that counts as rounding, in standard deviations of the field.
    """
    if not tolerance > 0:
        raise ConfigError(f"--tolerance = {tolerance}: should be positive, such as 1e-3.")
    if not 1 <= members <= 10000:
        raise ConfigError(f"--members = {members}: should be between 1 and 10000.")
    saved = (run / "manifest.json").is_file() and not (run / "data.json").exists()
    folder = None if saved else RunFolder.open(run)
    target = run / f"export-{format}" if out is None else out
    check_output(target, overwrite, ("card.json",))
    scores = _scores(run, metrics)
    from romvae.baselines.model import load_model
    from romvae.deployment import export as exported

    model = load_model(run if folder is None else folder.model)
    with terminal_progress(quiet) as progress:
        exported(
            model,
            target,
            format=format,
            steps=steps,
            members=members,
            level=level,
            interval=interval,
            share=share,
            data=None if folder is None else _held_out(folder),
            metrics=scores,
            licence=licence,
            tolerance=tolerance,
            overwrite=overwrite,
            progress=progress,
        )
    card = json.loads((target / "card.json").read_text(encoding="utf-8"))
    print(f"{target}: {len(card['programs'])} programs, within {card['checked']['largest']:.1e} of the ROM")
    print(f"Next: python {target / 'run_without_romvae.py'}")


def _held_out(folder: RunFolder) -> xr.Dataset | None:
    """Test trajectories of the run's data; None where these have gone."""
    from romvae.data import open_snapshots

    record = folder.data()
    if not all(path.exists() for path in record.paths):
        return None
    snapshots = open_snapshots(record.paths if record.more else record.paths[0], reader=folder.reader())
    part = "test" if record.trajectories["test"] else "train"
    chosen: xr.Dataset = record.select(snapshots, part)
    return chosen


def _scores(run: Path, metrics: Path | None) -> dict[str, Any] | None:
    """What was measured of the model, where it was."""
    places = [run / "metrics.json", run / "comparison" / "metrics.json"]
    if run.name == "model":  # that of a demo
        places += [run.parent / "metrics.json"]
    path = metrics or next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}). Give the metrics.json of a comparison.") from None
    if not isinstance(content, dict) or not isinstance(content.get("rom"), dict):
        raise DataError(f"{path}: has no scores of a ROM. Give the metrics.json of a comparison.")
    return content
