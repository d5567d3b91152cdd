"""What a ROM promises of its uncertainty and how that held, as lines of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from romvae.plot.style import plain, units_text
from romvae.report.reading import lookup, number, percent

__all__ = ["uncertainty_rows"]

_BANDS: Final = {
    "risk_band": "risk band: 90 % of the points of a run",
    "risk_band_at_each_time": "90 % of the points, at each time",
    "whole_field_at_each_time": "all points, at each time",
    "whole_run": "all points of a run",
}
_NUMBERS: Final = {
    "nll": "negative log-likelihood [nat per value]",
    "crps_over_mae": "CRPS over mean absolute error",
    "spread_skill": "spread over error (1 is right)",
    "ause": "sparsification (0 best, 1 random)",
    "spearman_trajectories": "rank correlation of predicted and true error, trajectories",
    "spearman_points": "rank correlation of predicted and true error, points",
    "ssim": "structural similarity of the mean",
}


def uncertainty_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lines of name and value; what was not measured is left out."""
    rom = lookup(metrics, "rom")
    lines = [(text, f"{number(rom, key):.3g}") for key, text in _NUMBERS.items() if math.isfinite(number(rom, key))]
    valid = lookup(rom, "valid_prediction_time")
    if math.isfinite(number(valid, "mean")):
        units = units_text(lookup(metrics, "data").get("time_units"))
        text = f"{number(valid, 'mean'):.3g} {units}".strip()
        whole = percent(number(valid, "whole_horizon"))
        lines.append(("time until the error is half of the field's size", f"{text}; never in {whole} of the runs"))
    for name, text in _BANDS.items():
        band = lookup(lookup(rom, "bands"), name)
        held = number(band, "runs_held")
        if math.isfinite(held):
            expected = f"{percent(number(band, 'expected_low'))} to {percent(number(band, 'expected_high'))}"
            lines.append((f"{text}: held in", f"{percent(held)} of the runs (meant: 90 %, expected {expected})"))
    for name, found in lookup(rom, "quantities").items():
        coverage, deviation = number(found, "coverage_90"), number(found, "coverage_90_se")
        if math.isfinite(coverage):
            spread = f" ± {100 * deviation:.1f}" if math.isfinite(deviation) else ""
            lines.append((f"90 % interval of {plain(name)}", f"holds {100 * coverage:.1f}{spread} %"))
    for name, found in lookup(rom, "conserved").items():
        drift, own, size = (number(found, key) for key in ("drift", "drift_of_solver", "size"))
        if math.isfinite(drift):
            low, high = (number({"v": each}, "v") for each in found.get("interval") or (None, None))
            around = f"{low:.3g} to {high:.3g}, " if math.isfinite(low) else ""
            text = f"{drift:.3g} ({around}solver {own:.3g}, typical size {size:.3g})"
            lines.append((f"drift of {plain(name)}, last time", text))
    if rom.get("calibration"):
        lines.append(("what the intervals promise", str(rom["calibration"])))
    return lines
