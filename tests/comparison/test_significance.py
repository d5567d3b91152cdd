"""What is said of the difference between two forecasts, on errors that are made up."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.comparison.significance import paired_difference

COUNT = 200


def sums(errors: np.ndarray) -> dict[str, np.ndarray]:
    """Of relative errors of trajectories of equal size, one field and one time: `(field, trajectory, time)`."""
    return {"wrong": errors[None, :, None] ** 2, "size": np.ones((1, errors.size, 1))}


def far_off(runs: int, size: float) -> np.ndarray:
    """1 % everywhere but on the first few runs."""
    return np.where(np.arange(COUNT) < runs, size, 0.01)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_smaller_error_that_comes_from_a_few_bad_runs_of_the_other_is_called_that(swapped: bool) -> None:
    steady, erratic = np.full(COUNT, 0.02), far_off(52, 0.5)
    pair = (steady, erratic)[:: -1 if swapped else 1]
    found = paired_difference(sums(pair[0]), sums(pair[1]), ("one", "two"))
    winner, other = ("two", "one") if swapped else ("one", "two")
    assert found["better_on"] == (148 if swapped else 52)
    assert found["median"] == pytest.approx([0.01, 0.02] if swapped else [0.02, 0.01])
    assert found["words"] == (
        f"The error of {winner} is smaller in all, because of a few runs in which {other} is far off: {other} is "
        "better on 148 of 200 trajectories (p < 0.001 for the error in all)."
    )


def test_a_single_bad_run_that_chance_may_have_dealt_is_said_to_be_that() -> None:
    found = paired_difference(sums(np.full(COUNT, 0.02)), sums(far_off(1, 5.0)), ("one", "two"))
    assert found["p_value"] > 0.05
    assert "two is better on 199 of 200 trajectories (p = " in found["words"]
    assert found["words"].endswith(" for the error in all, which chance explains too).")


@pytest.mark.parametrize(("runs", "words"), [(100, "smaller on 100 of 200"), (150, "smaller on 150 of 200")])
def test_who_wins_on_half_of_the_trajectories_or_more_wins_plainly(runs: int, words: str) -> None:
    found = paired_difference(sums(np.full(COUNT, 0.02)), sums(far_off(runs, 0.5)), ("one", "two"))
    assert found["words"] == f"The error of one is {words} trajectories: more than chance (p < 0.001)."


def test_a_forecast_without_error_has_a_median_of_zero() -> None:
    nothing = {"wrong": np.zeros((1, 8, 1)), "size": np.zeros((1, 8, 1))}
    assert paired_difference(nothing, nothing, ("one", "two"))["median"] == [0.0, 0.0]
