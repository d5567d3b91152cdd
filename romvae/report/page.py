"""Write a comparison as one self-contained HTML page, and its figures as JSON."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from romvae.atomic import atomic_file
from romvae.report.assets import jinja, policy
from romvae.report.charts import error_charts, model_charts, uncertainty_charts
from romvae.report.chosen import is_baseline, left_out_rows, model_title, subject, tried_rows
from romvae.report.cost import cost_charts, cost_lead, cost_rows
from romvae.report.fields import field_table
from romvae.report.forecasts import example_blocks, field_names
from romvae.report.latent import latent_charts
from romvae.report.promises import uncertainty_rows
from romvae.report.reading import lookup, number, percent
from romvae.report.speed import slower
from romvae.report.tables import data_card, interval_rows, rows, scores, tiles
from romvae.report.trust import trust_table
from romvae.report.verdict import loses, verdict

__all__ = ["Compared", "render", "write_metrics", "write_report"]

_LOGGER = logging.getLogger("romvae.report")


class Compared(Protocol):
    """What a report is made of; `romvae.compare` returns one.

    `metrics`: the numbers, see `write_metrics`. `series`: scores over lead time. `examples`: a few
    held-out trajectories with `truth_`, `mean_`, `std_`, `std_decoder_`, `std_dynamics_`, `std_posterior_`,
    `std_ensemble_`, `lower_` and `upper_<field>`. `info`: `title`, `source` (name of the data, shown where they are of
    no case), `case` (what was solved, in a sentence), `verdict` (sentences), `configuration`, `model` (as it was
    built), `environment`, `latent_size` (what `latent: auto` found) and `history` (per training stage `step` and
    `loss`). A Dataset `latent`, from `romvae.latent.latent_summary`, is shown where there is one. What is missing is
    left out of the page.
    """

    @property
    def metrics(self) -> Mapping[str, Any]: ...
    @property
    def series(self) -> xr.Dataset: ...
    @property
    def examples(self) -> xr.Dataset: ...
    @property
    def info(self) -> Mapping[str, Any]: ...


class Measured(Protocol):
    """What has numbers to be written: a comparison, or a ranking of several."""

    @property
    def metrics(self) -> Mapping[str, Any]: ...


def write_report(comparison: Compared, out: Path, *, overwrite: bool = False) -> Path:
    """Write the page: whole or not at all.

    The page needs nothing but itself: no network, no other file; its content policy forbids outside requests.

    Arguments:
        comparison: What to report.
        out: A folder, which gets `report.html`, or the page's own path ending in `.html`.
        overwrite: Replace a page that exists.

    Returns:
        Path of the page.

    Raises:
        OutputError: If the page exists and `overwrite` is false, or cannot be written.
    """
    path = out if out.suffix == ".html" else out / "report.html"
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(render(comparison), encoding="utf-8")
    _LOGGER.info("%s: report of %.1f MB written", path, path.stat().st_size / 1e6)
    return path


def write_metrics(comparison: Measured, out: Path, *, overwrite: bool = False) -> Path:
    """Write the numbers as JSON; a number that is not finite becomes `null`.

    Arguments:
        comparison: Its `metrics` are written as nested objects: `rom` (`relative_l2` pooled over held-out
            trajectories, times and points; `worst_relative_l2` and `worst_nrmse` over trajectories and times;
            `compression_relative_l2`; `intervals`, 95 % confidence over trajectories; `vrmse`; `crps` in the field's
            units, of several fields their plain mean; `fields.<name>`, the same of each field alone, with `units`;
            `energy_score` and `ensemble_crps` of the members alone, and `ensemble`, how many of them on how many
            trajectories; `long_run`, where it was asked for;
            `coverage_90` with `coverage_90_se`, its standard error over trajectories; `coverage_90_fifths` and
            `coverage_90_fifths_se` over the horizon; `diverged`, on which trajectories and at which step the model's
            own forecast broke down, `relative_l2` then being null),
            `baselines.<name>` (`relative_l2`, `worst_relative_l2`, `worst_nrmse`, `vrmse`, `intervals`; of one whose
            forecast diverged `relative_l2` is null and `diverged` says why),
            `baselines_left_out` (reason by name), `model` (which baseline stands in the ROM's place and what
            is `not_measured` of it), `ranking` (the models that `--model auto` tried),
            `significance` (of the difference to the best baseline), `cost` (see
            `romvae.cost.cost_at_equal_accuracy`), `seconds.<stage>` (wall clock; `rollout` and `solver` per
            trajectory, the latter process time) and `data`.
        out: A folder, which gets `metrics.json`, or a path ending in `.json`.
        overwrite: Replace a file that exists.

    Returns:
        Path of the file.

    Raises:
        OutputError: If the file exists and `overwrite` is false, or cannot be written.
    """
    path = out if out.suffix == ".json" else out / "metrics.json"
    text = json.dumps(_plain_json(comparison.metrics), indent=2, allow_nan=False) + "\n"
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def render(comparison: Compared) -> str:
    """The page as text. Names that come from files are escaped: they cannot add markup or scripts."""
    metrics, info = comparison.metrics, comparison.info
    resources = files("romvae.report")
    style, script, template = (
        resources.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "player.js", "template.html")
    )
    fields = field_names(comparison.examples)
    latent = getattr(comparison, "latent", None)  # comparisons of earlier versions have none
    drawn = ["kl_per_dimension"] if latent is not None and "kl" in latent else []
    error = number(metrics, "rom", "relative_l2")
    return (
        jinja()
        .from_string(template)
        .render(
            # Only these two files of our own pass the template unescaped; the policy admits them by their hash.
            style=style,
            script=script,
            policy=policy(style, script),
            title=str(info.get("title") or _title(metrics, str(info.get("source") or "Your data"))),
            subject=subject(metrics),
            is_baseline=is_baseline(metrics),
            case=str(info.get("case") or ""),
            verdict=[str(each) for each in info.get("verdict") or verdict(metrics)],
            loses=not math.isfinite(error) or loses(metrics) or slower(metrics),
            tiles=tiles(metrics),
            scores=scores(metrics),
            confidence=percent(
                number(metrics, "rom", "confidence") if "confidence" in lookup(metrics, "rom") else 0.95
            ),
            rom_rows=_rom_rows(metrics),
            fields=field_table(metrics),
            trust=trust_table(metrics),
            tried=tried_rows(metrics),
            left_out=left_out_rows(metrics),
            blocks=example_blocks(comparison.examples),
            intervals=interval_rows(metrics),
            error=error_charts(metrics, comparison.series),
            cost=cost_charts(metrics),
            cost_rows=cost_rows(metrics),
            cost_lead=cost_lead(metrics),
            uncertainty=uncertainty_charts(metrics, comparison.series, comparison.examples),
            latent=latent_charts(latent, info),
            model=model_charts(metrics, comparison.series.drop_vars(drawn, errors="ignore"), info),
            card=data_card(metrics, comparison.examples, fields),
            configuration=rows(lookup(info, "configuration")),
            built=rows(lookup(info, "model")),
            environment=rows(lookup(info, "environment")),
        )
    )


def _title(metrics: Mapping[str, Any], source: str) -> str:
    case = metrics.get("case") or source
    what = f"report on {model_title(metrics)}, a baseline" if is_baseline(metrics) else "reduced-order model report"
    return f"{case}: {what}"


def _rom_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Scores that the baselines beside the model do not have."""
    rom, lines = lookup(metrics, "rom"), []
    crps = number(rom, "crps")
    if math.isfinite(crps):
        several = len(lookup(rom, "fields")) > 1
        lines.append(("CRPS, mean over fields of whatever units" if several else "CRPS", f"{crps:.3g}"))
    for key, text in (("ensemble_crps", "CRPS of the members alone"), ("energy_score", "energy score of the members")):
        if math.isfinite(number(rom, key)):
            lines.append((text, f"{number(rom, key):.3g}"))
    fifths, errors = rom.get("coverage_90_fifths") or (), rom.get("coverage_90_fifths_se") or ()
    if fifths:
        spreads = [f" ± {100 * number(each):.1f}" for each in errors] or [""] * len(fifths)
        text = ", ".join(f"{100 * number(each):.1f}{spread}" for each, spread in zip(fifths, spreads, strict=False))
        lines.append(("90 % coverage in the fifths of the horizon [%]", text))
    return lines + uncertainty_rows(metrics)


def _plain_json(value: Any) -> Any:
    """Only what JSON knows: NumPy scalars and arrays become numbers and lists, non-finite numbers null."""
    if isinstance(value, Mapping):
        return {str(key): _plain_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_json(each) for each in value]
    if isinstance(value, np.ndarray):
        return _plain_json(value.tolist())
    if isinstance(value, np.generic):
        return _plain_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
