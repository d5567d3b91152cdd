"""What every problem is to reach, and which of them do: each seed by itself, the worst one decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from romvae.benchmark.result import Result, value_at
from romvae.benchmark.speed import speed_row
from romvae.benchmark.words import markdown, percent, plain

if TYPE_CHECKING:
    from romvae.benchmark.page import Group

__all__ = ["COVERAGE", "COVERAGE_OF_ANY", "ENOUGH", "TARGETS", "Target", "missed", "targets_table", "worst"]

SIMPLE = ("persistence", "pod_linear", "pod_rbf", "pod_gp", "pod_network")
"""Baselines of the latent size of romvae, and those without any."""
ENOUGH = 200
"""Calibration and test trajectories from which on a coverage has to be right to two per cent."""


@dataclass(frozen=True)
class Target:
    """A figure that is wanted of every problem.

    Arguments:
        what: In words.
        wanted: The bounds in words.
        value: The figure in a result; None where it does not apply or is not known.
        low: Lower bound.
        high: Upper bound.
        show: How the figure is written.
        least: Lower bound that a result gives itself, instead of `low`; the target applies where there is one.
    """

    what: str
    wanted: str
    value: Callable[[Result], float | None]
    low: float = -math.inf
    high: float = math.inf
    show: Callable[[float], str] = plain
    least: Callable[[Result], float | None] | None = None

    def judged(self, result: Result) -> tuple[float, float] | None:
        """How far the figure of a result is outside of the bounds, 0 inside, and the figure; None without one."""
        value, low = self.value(result), self.low if self.least is None else self.least(result)
        if value is None or low is None:
            return None
        return max(low - value, value - self.high, 0.0), value


def _at(path: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        found = value_at(result.content, path)
        return float(found) if isinstance(found, (int, float)) else None

    return value


def _against_simple(result: Result) -> float | None:
    """Error over that of the best simple baseline."""
    own = value_at(result.content, "metrics.rom.relative_l2")
    errors = [value_at(result.content, f"metrics.baselines.{name}.relative_l2") for name in SIMPLE]
    found = [each for each in errors if each is not None]
    return own / max(min(found), 1e-300) if own is not None and found else None


def _of_many(path: str) -> Callable[[Result], float | None]:
    """The figure where calibration and test have enough trajectories."""
    value = _at(path)

    def known(result: Result) -> float | None:
        sizes = [value_at(result.content, f"metrics.data.split.{part}") or 0 for part in ("calibration", "test")]
        return value(result) if min(sizes) >= ENOUGH else None

    return known


def _worst_fifth(result: Result) -> float | None:
    fifths = [v for v in value_at(result.content, "metrics.rom.coverage_90_fifths") or [] if v is not None]
    whole = _of_many("metrics.rom.coverage_90")(result)
    return max(fifths, key=lambda each: abs(each - 0.9)) if fifths and whole is not None else None


def _over_decoder(result: Result) -> float | None:
    """Where POD was kept, decoding is one product of matrices, and the ratio says little."""
    kept = value_at(result.content, "decided.compression.kept")
    return None if kept == "pod" else _at("metrics.cost.rom.mean.over_decoder")(result)


COVERAGE = Target(
    f"coverage of 90 % intervals, where calibration and test have {ENOUGH} trajectories",
    "88 to 92 %",
    _of_many("metrics.rom.coverage_90"),
    0.88,
    0.92,
    percent,
)
COVERAGE_OF_ANY = replace(COVERAGE, what="the same with any number", value=_at("metrics.rom.coverage_90"))
"""No target: of few trajectories a coverage is not known to two per cent."""
TARGETS = (
    Target(
        "error over that of the best of persistence and, with as many modes as romvae has latents, POD with linear and "
        "with the same network dynamics and with interpolation",
        "at most 1",
        _against_simple,
        high=1.0,
    ),
    COVERAGE,
    Target("the same in the worst fifth of the horizon", "85 to 95 %", _worst_fifth, 0.85, 0.95, percent),
    Target(
        "runs in which the risk band (90 % of the points in 90 % of the runs) held",
        "at least what chance allows, in brackets above",
        _at("metrics.rom.bands.risk_band.runs_held"),
        show=percent,
        least=_at("metrics.rom.bands.risk_band.expected_low"),
    ),
    Target("spread over error of the mean", "0.85 to 1.15", _at("metrics.rom.spread_skill"), 0.85, 1.15),
    Target("CRPS over mean absolute error", "at most 0.8", _at("metrics.rom.crps_over_mae"), high=0.8),
    Target(
        "rank correlation of predicted and true error over trajectories",
        "at least 0.6",
        _at("metrics.rom.spearman_trajectories"),
        low=0.6,
    ),
    Target(
        "cost of a rollout in batches over that of decoding as many codes, where the decoder is a network",
        "at most 2",
        _over_decoder,
        high=2.0,
    ),
)


def worst(target: Target, groups: Sequence[Group]) -> dict[str, tuple[float, float]]:
    """Of every problem that a target applies to how far its worst seed is outside, 0 inside, and that seed's figure."""
    found = {}
    for problem, results in groups:
        judged = [each for result in results if (each := target.judged(result)) is not None]
        if judged:
            found[problem.name] = max(judged)
    return found


def missed(target: Target, groups: Sequence[Group]) -> tuple[dict[str, float], int]:
    """The worst figure of every problem with a seed that misses a target, worst first, and how many it applies to."""
    judged = worst(target, groups)
    bad = sorted((item for item in judged.items() if item[1][0] > 0), key=lambda item: -item[1][0])
    return {name: value for name, (_, value) in bad}, len(judged)


def targets_table(groups: Sequence[Group]) -> str:
    """Targets of the suite: on how many problems each is reached, and where not."""
    rows = []
    for target in TARGETS:
        bad, count = missed(target, groups)
        where = ", ".join(f"{name} {target.show(value)}" for name, value in bad.items())
        rows.append([target.what, target.wanted, f"{count - len(bad)} of {count}", where or "nowhere"])
    rows.append(speed_row(groups))
    return markdown(["figure", "wanted", "reached on", "missed on"], rows)
