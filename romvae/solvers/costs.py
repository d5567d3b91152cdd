"""What accuracy costs: the same trajectories with other settings of a solver, against a much finer solution."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from romvae.canonical import did_you_mean
from romvae.errors import ConfigError, NumericsError
from romvae.solvers.arguments import count
from romvae.solvers.base import Array, Case, Draw
from romvae.solvers.cases import get_case

__all__ = ["CostRow", "cost_table", "cost_text"]


@dataclass(frozen=True)
class CostRow:
    """One variant.

    Arguments:
        settings: What differs from the case's own settings.
        error: Relative L2 error of each trajectory, pooled over fields and stored times, `(trajectory,)`.
        seconds: Process time per trajectory, one by one.
        seconds_batched: The same with all trajectories together; None where the solver has no such path.
        failed: Why a trajectory could not be solved; the rest is NaN then.
    """

    settings: Mapping[str, Any]
    error: Array
    seconds: float
    seconds_batched: float | None
    failed: str | None = None

    @property
    def worst(self) -> float:
        """The largest error."""
        return float(self.error.max())

    @property
    def median(self) -> float:
        """The typical error."""
        return float(np.median(self.error))

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; what is not a number is None."""
        numbers = {"worst": self.worst, "median": self.median, "seconds": self.seconds}
        return {
            "settings": dict(self.settings),
            "error": [_number(error) for error in self.error],
            **{name: _number(value) for name, value in numbers.items()},
            "seconds_batched": self.seconds_batched,
            "failed": self.failed,
        }


def cost_table(
    case: Case | str,
    variants: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Any] | None = None,
    trajectories: int = 4,
    seed: int = 0,
) -> list[CostRow]:
    """Error and process time of a case's solver for several settings.

    Process time counts all threads and does not count other programs. A solver's first call may be slower (tables,
    plans of transforms), so each variant takes a first step before its clock starts.

    Arguments:
        case: A `Case` whose `solver` takes the settings as keyword arguments, or the name of one of `CASES`.
        variants: Arguments of the solver, such as `{"resolution": 512, "step": 1e-3}`; `{}` is the case as it is.
        reference: Arguments of the much finer solver; None takes `refined()` of the case's own, twice if it can.
        trajectories: How many of the ensemble are solved.
        seed: Selects the ensemble.

    Raises:
        ConfigError: A setting is unknown, a variant has another output grid, or there is no finer solver.
        NumericsError: The reference itself failed.
    """
    case = get_case(case) if isinstance(case, str) else case
    _check_names(case, [*variants, reference or {}])
    draws = [case.draw(i, seed) for i in range(count("cost_table", "trajectories", trajectories, 1))]
    exact = _reference(case, draws, reference, seed)
    return [_row(case, variant, draws, exact, seed) for variant in variants]


def cost_text(rows: Sequence[CostRow]) -> str:
    """The table as Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row.settings))
    lines = [
        f"| {' | '.join([*names, 'worst error', 'median error', 'ms one by one', 'ms together'])} |",
        f"|{'---|' * (len(names) + 4)}",
    ]
    for row in rows:
        cells = [str(row.settings.get(name, "as it is")) for name in names]
        if row.failed is not None:
            cells += ["failed", "-", "-", "-"]
        else:
            together = "-" if row.seconds_batched is None else f"{1e3 * row.seconds_batched:.3g}"
            cells += [f"{row.worst:.2g}", f"{row.median:.2g}", f"{1e3 * row.seconds:.3g}", together]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _check_names(case: Case, variants: Sequence[Mapping[str, Any]]) -> None:
    known = inspect.signature(case.solver).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return
    for name in (name for variant in variants for name in variant if name not in known):
        hint = did_you_mean(name, list(known))
        raise ConfigError(
            f"cost_table: the solver of case {case.name} has no setting {name!r}.{hint} It has {', '.join(known)}"
        )


def _variant(case: Case, settings: Mapping[str, Any]) -> Case:
    return replace(case, solver=partial(case.solver, **settings))


def _reference(case: Case, draws: list[Draw], settings: Mapping[str, Any] | None, seed: int) -> Array:
    found = []
    for i, draw in enumerate(draws):
        if settings is not None:
            finer: Any = _variant(case, settings).draw(i, seed).solver
        else:
            once = draw.solver.refined()
            if once is None:
                why = "is exact" if draw.solver.exact else "has no finer version"
                raise ConfigError(f"cost_table: {draw.solver.name} {why}. In Python, give the argument reference")
            finer = once.refined() or once
        found.append(finer.solve(draw.u0, case.times))
    return np.stack(found)


def _row(case: Case, settings: Mapping[str, Any], draws: list[Draw], exact: Array, seed: int) -> CostRow:
    solvers = [_variant(case, settings).draw(i, seed).solver for i in range(len(draws))]
    if solvers[0].grid != draws[0].solver.grid:
        raise ConfigError(f"cost_table: {dict(settings)} changes the output grid. Vary the internal resolution only")
    u0 = np.stack([draw.u0 for draw in draws])
    blank = np.full(len(draws), np.nan)
    try:
        solvers[0].solve(u0[0], case.times[:2])
        begin = time.process_time()
        u = np.stack([solver.solve(start, case.times) for solver, start in zip(solvers, u0, strict=True)])
        single = (time.process_time() - begin) / len(draws)
        batched = None
        if solvers[0].batched:
            begin = time.process_time()
            type(solvers[0]).solve_many(solvers, u0, case.times)
            batched = (time.process_time() - begin) / len(draws)
    except NumericsError as error:
        return CostRow(settings, blank, float("nan"), None, str(error))
    rest = tuple(range(1, u.ndim))
    relative = np.sqrt(np.square(u - exact).sum(rest) / np.maximum(np.square(exact).sum(rest), np.finfo(float).tiny))
    return CostRow(settings, relative, single, batched)
