"""The verdict in plain words: how wrong, how sure, how fast, against what, when not to use it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from romvae.plot.style import plain, units_text

__all__ = ["best_baseline", "lookup", "number", "percent", "seconds_text", "verdict"]

_NOMINAL: Final = 0.9
# Coverage further than this from what was meant is worth a warning, however small its standard error.
_TOLERANCE: Final = 0.04

# Relative errors above this can be seen at a glance.
_LARGE: Final = 0.2
# Fewer held-out trajectories than this are called few.
_FEW: Final = 8

_PROSE: Final[Mapping[str, str]] = {
    "persistence": "persistence (the initial field, unchanged)",
    "climatology": "climatology (the mean of the training data)",
    "pod_linear": "POD with linear dynamics",
    "pod_interpolation": "POD with interpolation",
    "dmd": "DMD",
    "operator_inference": "operator inference",
    "fno": "a Fourier neural operator",
}


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences that a newcomer can act on, the most important first.

    A ROM that loses to a baseline says so in the first sentence and recommends the baseline. What was not
    measured gets no sentence.

    Arguments:
        metrics: As in `metrics.json`: `rom.relative_l2`, `rom.worst_nrmse`,
            `rom.compression_relative_l2`, `rom.coverage_90`, `rom.coverage_90_se`, `rom.coverage_90_fifths`,
            `baselines.<name>.relative_l2`, `seconds.rollout` and `seconds.solver` (both per trajectory),
            and in `data`: `parameters` (name to `low`, `high`, `units`), `horizon`, `time_units`,
            `split` (part to number of trajectories).
    """
    against, wrong = _against(metrics), (_wrong(metrics), _rough(metrics), _compression(metrics))
    first = (against, *wrong) if _loses(metrics) else (*wrong, against)
    sentences = (*first, _sure(metrics), _fast(metrics), _not_for(metrics))
    return [sentence for sentence in sentences if sentence]


def best_baseline(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """Name and pooled relative L2 error of the baseline with the smallest finite error."""
    errors = {name: number(scores, "relative_l2") for name, scores in lookup(metrics, "baselines").items()}
    finite = {name: error for name, error in errors.items() if math.isfinite(error)}
    if not finite:
        return None
    name = min(finite, key=finite.__getitem__)
    return name, finite[name]


def _loses(metrics: Mapping[str, Any]) -> bool:
    best, rom = best_baseline(metrics), number(metrics, "rom", "relative_l2")
    return best is not None and not rom <= best[1]


def _against(metrics: Mapping[str, Any]) -> str:
    best, rom = best_baseline(metrics), number(metrics, "rom", "relative_l2")
    if best is None:
        return ""
    name, error = _PROSE.get(best[0], best[0].replace("_", " ")), best[1]
    if not math.isfinite(rom):
        return f"The ROM loses here, use {name} instead: its error is {percent(error)}, the ROM's is not finite."
    if rom > error:
        factor = rom / error if error > 0 else math.inf
        return (
            f"The ROM loses here, use {name} instead: it forecasts held-out trajectories with "
            f"{percent(error)} error, {_ratio(factor)} smaller than the ROM's {percent(rom)}."
        )
    factor = error / rom if rom > 0 else math.inf
    advice = " That is little for a trained model: consider the simpler method." if factor < 1.5 else ""
    return (
        f"The best simple method tried, {name}, is {percent(error)} off: the ROM's error is "
        f"{_ratio(factor)} smaller.{advice}"
    )


def _wrong(metrics: Mapping[str, Any]) -> str:
    rom = number(metrics, "rom", "relative_l2")
    if not math.isfinite(rom):
        return "The ROM's forecast of held-out trajectories is not finite: it cannot be used."
    count = number(metrics, "data", "split", "test")
    held_out = f"the {count:.0f} held-out trajectories" if math.isfinite(count) else "held-out trajectories"
    text = f"On {held_out} the forecast is on average {percent(rom)} off (relative L2 error)"
    worst = number(metrics, "rom", "worst_nrmse")
    if math.isfinite(worst):
        text += f", and at the worst moment of the worst trajectory {percent(worst)} of the typical size of the field"
    return text + "."


def _rough(metrics: Mapping[str, Any]) -> str:
    """A warning that the error is large, or that few trajectories stand behind it."""
    rom, count = number(metrics, "rom", "relative_l2"), number(metrics, "data", "split", "test")
    if rom >= 1:
        return "That is as bad as forecasting zero: do not use this ROM."
    if rom > _LARGE:
        return "That is plain to see in any plot: use this ROM for a rough picture at most."
    return f"With {count:.0f} trajectories these figures are rough." if count < _FEW else ""


def _compression(metrics: Mapping[str, Any]) -> str:
    share = number(metrics, "rom", "compression_relative_l2")
    if not math.isfinite(share):
        return ""
    return f"Compressing and restoring the fields, without any forecast, already costs {percent(share)}."


def _sure(metrics: Mapping[str, Any]) -> str:
    coverage = number(metrics, "rom", "coverage_90")
    if not math.isfinite(coverage):
        return ""
    error = number(metrics, "rom", "coverage_90_se")
    found = f"{100 * coverage:.1f} %"
    if math.isfinite(error):
        found = f"{100 * coverage:.1f} ± {100 * error:.1f} %"
    fifths = [float(each) for each in lookup(metrics, "rom").get("coverage_90_fifths") or () if each is not None]
    over_time = ""
    if fifths and all(math.isfinite(each) for each in fifths):
        over_time = f" (from {100 * min(fifths):.0f} to {100 * max(fifths):.0f} % in the fifths of the horizon)"
    if coverage < _NOMINAL - _TOLERANCE:
        meaning = "they are too narrow, so treat the ROM as overconfident"
    elif coverage > _NOMINAL + _TOLERANCE:
        meaning = "they are too wide, so the ROM knows more than it claims"
    else:
        meaning = "they can be taken at their word"
    return f"Its 90 % intervals hold the truth {found} of the time{over_time}: {meaning}."


def _fast(metrics: Mapping[str, Any]) -> str:
    rollout, solver = number(metrics, "seconds", "rollout"), number(metrics, "seconds", "solver")
    if not (math.isfinite(rollout) and rollout > 0):
        return ""
    if not (math.isfinite(solver) and solver > 0):
        return (
            f"A rollout with its uncertainty takes {seconds_text(rollout)} per trajectory; "
            "no reference solver was timed, so nothing can be said about a speed-up."
        )
    times = f"{seconds_text(rollout)} against {seconds_text(solver)} per trajectory"
    if rollout > solver:
        return (
            f"The ROM is slower than the reference solver, {times} with uncertainty included: "
            "where time is what counts, use the solver."
        )
    text = f"The ROM is {_ratio(solver / rollout)} faster than the reference solver as it was run here ({times})"
    trained = [number(metrics, "seconds", stage) for stage in ("vae", "variance", "dynamics", "calibration")]
    cost = sum(each for each in trained if math.isfinite(each))
    if cost > 0:
        text += f"; training took {seconds_text(cost)}, which pays off after about "
        text += f"{_count(cost / (solver - rollout))} rollouts"
    return text + "."


def _not_for(metrics: Mapping[str, Any]) -> str:
    data = lookup(metrics, "data")
    limits = []
    for name, facts in (lookup(data, "parameters")).items():
        low, high = number(facts, "low"), number(facts, "high")
        if math.isfinite(low) and math.isfinite(high):
            limits.append(f"{plain(name)} outside {low:.4g} to {high:.4g} {units_text(facts.get('units'))}".strip())
    horizon = number(data, "horizon")
    if math.isfinite(horizon):
        limits.append(f"lead times beyond {horizon:.4g} {units_text(data.get('time_units'))}".strip())
    limits.append("another grid, other boundary conditions or initial fields of another kind")
    return f"Do not use it for {'; '.join(limits)}: none of that was tested."


def lookup(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under `key`, or an empty one where there is none."""
    found = mapping.get(key)
    return found if isinstance(found, Mapping) else {}


def number(mapping: Any, *path: str) -> float:
    """The number at a path of keys; NaN where a key is missing or holds no number."""
    for key in path:
        if not isinstance(mapping, Mapping):
            return math.nan
        mapping = mapping.get(key)
    try:
        return float(mapping)
    except (TypeError, ValueError):
        return math.nan


def percent(share: float) -> str:
    """A share as per cent with two significant digits.

    >>> percent(0.0321), percent(0.5), percent(0.00012), percent(33.0)
    ('3.2 %', '50 %', '0.012 %', '3300 %')
    """
    if not math.isfinite(share):
        return "not finite"
    value = 100 * share
    if value == 0:
        return "0 %"
    if value > 1e5:
        return "over 100000 %"
    value = float(f"{value:.1e}")  # rounded first: 9.99 is 10, not 10.0
    return f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f} %"


def seconds_text(seconds: float) -> str:
    """A duration for readers.

    >>> seconds_text(0.0123), seconds_text(42.2), seconds_text(185)
    ('0.012 s', '42 s', '3 min 5 s')
    """
    if seconds >= 99.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _ratio(factor: float) -> str:
    if not math.isfinite(factor):
        return "infinitely many times"
    return f"{factor:.1f} times" if factor < 9.95 else f"{factor:.0f} times"


def _count(value: float) -> str:
    """Two significant digits, rounded up: 1145 is "1200"."""
    step = 10 ** max(0, math.floor(math.log10(max(value, 1.0))) - 1)
    return str(max(1, math.ceil(value / step) * step))
