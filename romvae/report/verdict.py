"""The verdict in plain words: how wrong, how sure, how fast, against what, when not to use it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from romvae.kinds import STAGES
from romvae.plot.style import plain, units_text
from romvae.report.chosen import choice, closed_form, in_words, is_baseline, possessive, subject
from romvae.report.coverage import coverage_in_words
from romvae.report.fields import flattered
from romvae.report.long_run import long_run_sentence
from romvae.report.reading import interval_text, lookup, number, percent, ratio, rounded_up, seconds_text
from romvae.report.speed import costs, slower, worthless
from romvae.report.trust import trust_sentence

__all__ = ["best_baseline", "headlines", "loses", "verdict"]

# Relative errors above this can be seen at a glance.
_LARGE: Final = 0.2
# Sentences that a terminal shows from the beginning of the verdict.
_LEADING: Final = 3
# Fewer held-out trajectories than this are called few.
_FEW: Final = 8
# p-value below which a difference is called more than chance.
_SURE: Final = 0.05


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences that a newcomer can act on, the most important first.

    A ROM that loses to a baseline says so in the first sentence and recommends the baseline; one that is slower than
    the solver at equal accuracy says so in the second, whatever else there is to say. Then comes why this model was
    chosen, where there was a choice. Where climatology is no worse, no speed-up is quoted. What was not measured gets
    no sentence.

    Arguments:
        metrics: As in `metrics.json`: `rom.relative_l2`, `rom.worst_nrmse`,
            `rom.compression_relative_l2`, `rom.coverage_90`, `rom.coverage_90_se`, `rom.coverage_90_fifths`,
            `rom.coverage_90_fifths_se`, `rom.trust`, `rom.fields` (see `romvae.report.fields`), `rom.diverged`,
            `rom.long_run`,
            `kept` (what was decided against closed forms, see `romvae.report.chosen`),
            `baselines.<name>.relative_l2`, `baselines_left_out`, `significance`, `model` and `ranking` (see
            `romvae.report.chosen`), `seconds.rollout` and `seconds.solver` (both per trajectory), and in `data`:
            `parameters` (name to `low`, `high`, `units`), `horizon`, `time_units`, `split` (part to number of
            trajectories).
    """
    against, bad = f"{_against(metrics)}{_not_run(metrics)}", loses(metrics)
    wrong = (_wrong(metrics), flattered(metrics), _resolvable(metrics), _rough(metrics), _compression(metrics))
    cost = costs(metrics) or [_fast(metrics)]
    slow = cost[:1] if slower(metrics) else []  # belongs into the first lines
    why = (choice(metrics), closed_form(metrics))
    if lookup(lookup(metrics, "rom"), "diverged"):
        first = [_broken(metrics), against, *why, *wrong]
    elif bad:
        first = [against, *slow, *why, *wrong]
    elif _tied(metrics):
        first = [wrong[0], *slow, against, *why, *wrong[1:]]
    else:
        first = [wrong[0], *slow, *why, *wrong[1:], against]
    sure = (_sure(metrics), trust_sentence(metrics), long_run_sentence(metrics))
    rest = (_diverged(metrics), *sure, *cost[len(slow) :], _not_for(metrics))
    return [sentence for sentence in (*first, *rest) if sentence]


def headlines(metrics: Mapping[str, Any], most: int = 6) -> list[str]:
    """What a terminal shows of the verdict: its first sentences, and two that are never left out.

    These are the one on intervals where they are too narrow or too wide, and the one on what not to use the model for.

    Arguments:
        metrics: As for `verdict`.
        most: Sentences that there may be.
    """
    wrong = any(each in coverage_in_words(metrics) for each in ("too narrow", "too wide"))
    always = [sentence for sentence in (_sure(metrics) if wrong else "", _not_for(metrics)) if sentence]
    hint = flattered(metrics) if len(lookup(lookup(metrics, "rom"), "fields")) < 2 else ""
    others = [each for each in verdict(metrics) if each not in always and each != hint]
    shown: list[str] = []
    left = most - sum(map(_count, always))
    for sentence in others[:_LEADING]:
        if shown and _count(sentence) > left:
            break
        shown.append(sentence)
        left -= _count(sentence)
    return [*shown, *always]


def _count(text: str) -> int:
    """Sentences of a text."""
    return len(re.findall(r"[.!?](?=\s|$)", text))


def best_baseline(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """Name and pooled relative L2 error of the baseline with the smallest finite error."""
    errors = {name: number(scores, "relative_l2") for name, scores in lookup(metrics, "baselines").items()}
    finite = {name: error for name, error in errors.items() if math.isfinite(error)}
    if not finite:
        return None
    name = min(finite, key=finite.__getitem__)
    return name, finite[name]


def loses(metrics: Mapping[str, Any]) -> bool:
    """Whether the best baseline has a smaller error, by more than chance where that was tested."""
    best, rom = best_baseline(metrics), number(metrics, "rom", "relative_l2")
    return best is not None and not rom <= best[1] and not _tied(metrics)


def _tied(metrics: Mapping[str, Any]) -> bool:
    """Whether chance explains the difference to the best baseline: not one that is the same on every trajectory."""
    test = lookup(metrics, "significance")
    mixed = 0 < number(test, "better_on") < number(test, "trajectories")
    finite = math.isfinite(number(metrics, "rom", "relative_l2"))
    return finite and mixed and number(test, "p_value") >= _SURE


def _against(metrics: Mapping[str, Any]) -> str:
    best, rom = best_baseline(metrics), number(metrics, "rom", "relative_l2")
    if best is None:
        return ""
    name, error = in_words(best[0]), best[1]
    who, whose = subject(metrics, first=True), possessive(metrics)
    if not math.isfinite(rom):
        return f"{who} loses here, use {name} instead: its error is {percent(error)}, {whose} is not finite."
    if _tied(metrics):
        return (
            f"{who} and {name}, the best simple method tried, cannot be told apart: they are {percent(rom)} and "
            f"{percent(error)} off{_chance(metrics)}. Consider the simpler method."
        )
    if rom > error:
        factor = rom / error if error > 0 else math.inf
        return (
            f"{who} loses here, use {name} instead: it forecasts held-out trajectories with "
            f"{percent(error)} error, {ratio(factor)} smaller than {whose} {percent(rom)}{_chance(metrics)}."
        )
    factor = error / rom if rom > 0 else math.inf
    advice = " That is little for a trained model: consider the simpler method." if factor < 1.5 else ""
    return (
        f"The best simple method tried, {name}, is {percent(error)} off: {whose} error is "
        f"{ratio(factor)} smaller{_chance(metrics)}.{advice}"
    )


def _wrong(metrics: Mapping[str, Any]) -> str:
    rom = number(metrics, "rom", "relative_l2")
    if lookup(lookup(metrics, "rom"), "diverged"):
        return ""  # said first
    if not math.isfinite(rom):
        return f"{possessive(metrics, first=True)} forecast of held-out trajectories is not finite: it cannot be used."
    count = number(metrics, "data", "split", "test")
    held_out = f"the {count:.0f} held-out trajectories" if math.isfinite(count) else "held-out trajectories"
    sure = interval_text(lookup(metrics, "rom"), "relative_l2")
    text = f"On {held_out} the forecast is on average {percent(rom)} off (relative L2 error{sure})"
    worst = number(metrics, "rom", "worst_nrmse")
    if math.isfinite(worst):
        text += f", and at the worst moment of the worst trajectory {percent(worst)} of the typical size of the field"
    return text + "."


def _rough(metrics: Mapping[str, Any]) -> str:
    """A warning that the error is large, or that few trajectories stand behind it."""
    rom, count = number(metrics, "rom", "relative_l2"), number(metrics, "data", "split", "test")
    this = "it" if is_baseline(metrics) else "this ROM"
    if rom >= 1:
        return f"That is as bad as forecasting zero: do not use {this}."
    if rom > _LARGE:
        return f"That is plain to see in any plot: use {this} for a rough picture at most."
    return f"With {count:.0f} trajectories these figures are rough." if count < _FEW else ""


def _chance(metrics: Mapping[str, Any]) -> str:
    """On how many trajectories the better one is better, and the p-value of the difference."""
    test = lookup(metrics, "significance")
    p, better, count = (number(test, name) for name in ("p_value", "better_on", "trajectories"))
    if not math.isfinite(p):
        return ""
    first = number(test, "difference") >= 0
    wins = better if first else count - better
    chance = "p < 0.001" if p < 1e-3 else f"p = {p:.2g}"
    if 2 * wins < count:
        other = in_words(str(test.get("best"))) if first else subject(metrics)
        many = f"{other} is better on {count - wins:.0f} of {count:.0f} trajectories ({_medians(test, first)}{chance}"
        if p < _SURE:
            return f" in all, because of a few runs in which {other} is far off: {many} for the error in all)"
        return f", and {many})"
    if p < _SURE:
        return f", on {wins:.0f} of {count:.0f} trajectories, which is more than chance ({chance})"
    if wins == count:
        return f", on all of {count:.0f} trajectories, which are too few to rule out chance ({chance})"
    return f", and the one with the smaller error has it on {wins:.0f} of {count:.0f} trajectories ({chance})"


def _medians(test: Mapping[str, Any], first: bool) -> str:
    """The errors of the median trajectory, that of the one with the smaller error in all last."""
    own, theirs = (number({"v": each}, "v") for each in test.get("median") or (None, None))
    if not (math.isfinite(own) and math.isfinite(theirs)):
        return ""
    other, winner = (theirs, own) if first else (own, theirs)
    return f"median error {percent(other)} against {percent(winner)}; "


def _not_run(metrics: Mapping[str, Any]) -> str:
    """Which of the strongest baselines are missing because nobody asked for them."""
    left_out = lookup(metrics, "baselines_left_out")
    names = [in_words(name) for name, why in left_out.items() if "was not asked for" in str(why)]
    if not names or best_baseline(metrics) is None:
        return ""
    return f" The strongest baselines were not run: {' and '.join(names)}."


def _diverged(metrics: Mapping[str, Any]) -> str:
    """Which baselines have no error, because their forecasts of the held-out trajectories broke down."""
    baselines = lookup(metrics, "baselines")
    names = [in_words(name) for name in baselines if lookup(baselines, name).get("diverged")]
    if not names:
        return ""
    return f"Forecasts of the held-out trajectories diverged, so that there is no error to compare: {', '.join(names)}."


def _broken(metrics: Mapping[str, Any]) -> str:
    """On how many trajectories the model itself diverged, and what to do."""
    found = lookup(lookup(metrics, "rom"), "diverged")
    steps = [float(step) for step in found.get("steps") or () if step is not None]
    count, outside = len(found.get("trajectories") or ()), number(found, "outside")
    when = f" (first at step {min(steps):.0f} of the forecast)" if steps else ""
    text = (
        f"{subject(metrics, first=True)} diverged on {count} of {number(found, 'of'):.0f} held-out trajectories{when} "
        "and cannot be used as it is"
    )
    if not is_baseline(metrics):
        text += (
            ": train the dynamics for more steps (--training.dynamics-steps) or on longer windows (--training.horizon)"
        )
    if outside > 0:
        have = "has" if outside == 1 else "have"
        text += f"; {outside:.0f} of these trajectories {have} parameters outside of the trained range"
    return text + "."


def _resolvable(metrics: Mapping[str, Any]) -> str:
    own = number(metrics, "rom", "reference_error")
    if not lookup(metrics, "rom").get("not_resolvable") or not math.isfinite(own):
        return ""
    return (
        f"That is below the reference's own error of {percent(own)}: not resolvable. How much better "
        f"{subject(metrics)} is than that, these data cannot tell."
    )


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
    return f"Its 90 % intervals hold the truth {found} of the time{over_time}: {coverage_in_words(metrics)}."


def _fast(metrics: Mapping[str, Any]) -> str:
    rollout, solver = number(metrics, "seconds", "rollout"), number(metrics, "seconds", "solver")
    if solver > 0 and worthless(metrics):
        return worthless(metrics)
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
            f"{subject(metrics, first=True)} is slower than the reference solver, {times} with uncertainty included: "
            "where time is what counts, use the solver."
        )
    who = subject(metrics, first=True)
    text = f"{who} is {ratio(solver / rollout)} faster than the reference solver as it was run here ({times})"
    trained = [number(metrics, "seconds", stage) for stage in STAGES]
    cost = sum(each for each in trained if math.isfinite(each))
    if cost > 0:
        text += f"; training took {seconds_text(cost)}, which pays off after about "
        text += f"{rounded_up(cost / (solver - rollout))} rollouts"
    return text + "."


def _not_for(metrics: Mapping[str, Any]) -> str:
    data = lookup(metrics, "data")
    limits = []
    for name, facts in (lookup(data, "parameters")).items():
        low, high = number(facts, "low"), number(facts, "high")
        if math.isfinite(low) and math.isfinite(high):
            range_ = f"outside {low:.4g} to {high:.4g}" if low < high else f"other than {low:.4g}"
            limits.append(f"{plain(name)} {range_} {units_text(facts.get('units'))}".strip())
    horizon = number(data, "horizon")
    if math.isfinite(horizon):
        limits.append(f"lead times beyond {horizon:.4g} {units_text(data.get('time_units'))}".strip())
    limits.append("another grid, other boundary conditions or initial fields of another kind")
    return f"Do not use it for {'; '.join(limits)}: none of that was tested."
