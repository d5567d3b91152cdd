"""A model whose forecast of held-out trajectories diverges: on which of them, at which step, and no error at all."""

from __future__ import annotations

from typing import Any

from romvae.comparison.passing import Forecasts
from romvae.errors import DivergedError, NumericsError
from romvae.schema import TRAJECTORY

__all__ = ["divergence"]


def divergence(forecasts: Forecasts) -> dict[str, Any]:
    """Scores of a model whose forecast broke down: an error on fewer trajectories would flatter it.

    The trajectories are forecast again for that, in ever smaller groups around those that diverge.

    Arguments:
        forecasts: Of all trajectories.

    Returns:
        `relative_l2`, which is None, and `diverged`: positions of the `trajectories` that diverge, with the stored
        `steps` at which they do (None where a baseline does not say), `of` how many trajectories, how many of those
        that diverge have parameters `outside` of the trained range, and the `reason` in words.
    """
    count, test = forecasts.test.sizes[TRAJECTORY], forecasts.test
    steps, reasons = _diverging(forecasts, 0, count)
    order, outside = sorted(steps), forecasts.model.schema.outside(test)
    first = min(order, key=lambda row: (steps[row] is None, steps[row] or 0, row))
    found = {
        "trajectories": order,
        "steps": [steps[row] for row in order],
        "of": count,
        "outside": sum(row in outside for row in order),
        "reason": reasons[first],
    }
    return {"relative_l2": None, "diverged": found}


def _diverging(forecasts: Forecasts, first: int, last: int) -> tuple[dict[int, float | None], dict[int, str]]:
    """Which of the trajectories from `first` to before `last` diverge, with the step where known, and the reasons."""
    if first >= last:
        return {}, {}
    try:
        for _ in forecasts.again(slice(first, last)):
            pass
    except DivergedError as error:
        steps: dict[int, float | None] = {**error.steps}
        reasons = {row: error.of_one(row) for row in error.steps}
        ends = [first, *(row + 1 for row in sorted(steps))], [*sorted(steps), last]
    except NumericsError as error:  # of a baseline, which does not say which
        if last - first == 1:
            return {first: None}, {first: str(error)}
        middle = (first + last) // 2
        steps, reasons, ends = {}, {}, ([first, middle], [middle, last])
    else:
        return {}, {}
    for begin, end in zip(*ends, strict=True):
        more = _diverging(forecasts, begin, end)
        steps, reasons = {**steps, **more[0]}, {**reasons, **more[1]}
    return steps, reasons
