"""Where a smaller error or a speed-up says little, the verdict and the tiles say that and not more."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from romvae.baselines.selection import NOT_ASKED_FOR
from romvae.kinds import STAGES
from romvae.report import verdict
from romvae.report.cost import cost_charts, cost_lead, cost_rows
from romvae.report.speed import as_it_is, costs
from romvae.report.tables import tiles
from romvae.report.verdict import loses

from .fake import fake_comparison


def _metrics(loses: bool = False) -> dict[str, Any]:
    return copy.deepcopy(fake_comparison(shape=(4,), times=3, examples=1, loses=loses).metrics)


def test_a_win_by_a_few_bad_runs_of_the_baseline_is_called_that() -> None:
    metrics = _metrics()
    metrics["significance"] |= {"better_on": 52, "trajectories": 200, "median": [0.02, 0.01]}
    assert (
        "the ROM's error is 5.4 times smaller in all, because of a few runs in which POD with linear dynamics is far "
        "off: POD with linear dynamics is better on 148 of 200 trajectories (median error 1.0 % against 2.0 %; "
        "p < 0.001 for the error in all)."
    ) in " ".join(verdict(metrics))


def test_a_loss_by_a_few_bad_runs_of_the_rom_is_called_that() -> None:
    metrics = _metrics(loses=True)
    metrics["significance"] |= {"better_on": 148, "trajectories": 200, "median": [0.001, 0.002]}
    assert verdict(metrics)[0].endswith(
        "27 times smaller than the ROM's 3.2 % in all, because of a few runs in which the ROM is far off: the ROM is "
        "better on 148 of 200 trajectories (median error 0.10 % against 0.20 %; p < 0.001 for the error in all)."
    )


def test_a_tie_in_which_the_larger_error_wins_more_often_says_so() -> None:
    metrics = _metrics()
    metrics["significance"] |= {"better_on": 12, "p_value": 0.4}
    text = " ".join(verdict(metrics))
    assert "17 % off, and POD with linear dynamics is better on 20 of 32 trajectories (p = 0.4). Consider" in text
    assert not loses(metrics)


def test_baselines_that_nobody_asked_for_are_named_in_a_few_words() -> None:
    metrics = _metrics()
    metrics["baselines_left_out"] = {"dmd": "not installed", "pod_network": NOT_ASKED_FOR, "fno": NOT_ASKED_FOR}
    said = " The strongest baselines were not run: POD with network dynamics and a Fourier neural operator."
    assert sum(said in each for each in verdict(metrics)[:3]) == 1  # what the command line prints
    metrics["baselines_left_out"] = {"fno": "12 times, expected more"}
    assert "strongest" not in " ".join(verdict(metrics))


@pytest.mark.parametrize("timed_with", ["cost", "seconds"])
def test_a_forecast_no_better_than_climatology_has_no_speed_up(timed_with: str) -> None:
    metrics = _metrics()
    if timed_with == "seconds":
        metrics.pop("cost")
    text = " ".join([*verdict(metrics), *(f"{each.value} {each.note}" for each in tiles(metrics))])
    assert "faster" in text
    metrics["baselines"]["climatology"] = {"relative_l2": 0.0321}  # that of the ROM
    text = " ".join([*verdict(metrics), *(f"{each.value} {each.note}" for each in tiles(metrics))])
    assert "faster" not in text
    assert "earned back" not in text
    assert (
        "No speed-up is quoted: the ROM is no better than climatology, the mean of the training data, which costs "
        "nothing (3.2 % against 3.2 % off)."
    ) in text
    assert tiles(metrics)[-1].note == "no better than climatology, which costs nothing"


def test_a_forecast_no_better_than_climatology_that_is_slow_as_well_is_told_both() -> None:
    metrics = _metrics()
    metrics["baselines"]["climatology"] = {"relative_l2": 0.02}
    metrics["cost"]["rom"]["mean"] |= {"speed_up": 0.5, "speed_up_batch": 3.0}
    slow, why = costs(metrics)
    assert slow == "The ROM is slower than the solver at equal accuracy: 2.0 times for one trajectory."
    assert why.startswith("No speed-up is quoted")
    assert slow in verdict(metrics)[1]


@pytest.mark.parametrize("climatology", [0.0322, None])
def test_climatology_that_is_worse_or_unknown_changes_nothing(climatology: float | None) -> None:
    metrics = _metrics()
    before = costs(metrics)
    metrics["baselines"]["climatology"] = {"relative_l2": climatology}
    assert costs(metrics) == before


def test_against_a_solver_that_cannot_be_made_cheaper_nothing_is_said_of_equal_accuracy() -> None:
    metrics = _metrics()
    assert not as_it_is(metrics)  # comparisons of earlier versions do not tell
    metrics["cost"]["solver"]["coarsened"] = False
    run = {"settings": {}, "every": 1, "error": 3e-8}
    metrics["cost"]["rom"]["mean"] |= {"solver": run, "solver_batch": run}
    assert costs(metrics)[0] == (
        "The ROM is 1.5 times faster for one trajectory and 15 times faster in batches of 64 than the solver as it is. "
        "No cheaper setting of this solver is known, so that it is more accurate than it would have to be: that "
        "flatters the ROM."
    )
    tile = tiles(metrics)[-1]
    assert (tile.name, tile.value) == ("Against the solver as it is", "15 × faster")
    assert tile.note.endswith("no cheaper setting of it is known")
    said = [*verdict(metrics), *cost_lead(metrics), *(each.caption for each in cost_charts(metrics))]
    assert "equal accuracy" not in " ".join(said)
    assert "as accurate:" not in " ".join(said)
    assert dict(cost_rows(metrics))["settings of the solver that were tried"] == "none: no cheaper one is known"


@pytest.mark.parametrize(("settings", "complete"), [({}, False), ({}, True), ({"step": 0.1}, False)])
def test_a_search_that_ended_with_the_solver_as_it_is_gives_no_equal_accuracy(settings, complete) -> None:
    """A complete search may end there rightly: then nothing cheaper is accurate enough."""
    metrics = _metrics()
    metrics["cost"]["solver"] |= {"complete": complete, "coarsened": True}
    run = {"settings": settings, "every": 1, "error": 3e-8}
    metrics["cost"]["rom"]["mean"] |= {"solver": run, "solver_batch": run}
    cut = not complete and not settings
    assert ("than the solver as it is. No cheaper run was found in time" in costs(metrics)[0]) == cut
    assert ("equal accuracy" in costs(metrics)[0]) != cut
    assert (tiles(metrics)[-1].name == "Against the solver as it is") == cut


def test_a_rom_slower_than_the_solver_as_it_is_is_not_to_be_used_for_speed() -> None:
    metrics = _metrics()
    metrics["cost"]["solver"]["coarsened"] = False
    metrics["cost"]["rom"]["mean"] |= {"speed_up": 0.2, "speed_up_batch": 0.5}
    second = verdict(metrics)[1]
    assert second.startswith("The ROM is 5.0 times slower for one trajectory and 2.0 times slower in batches of 64")
    assert second.endswith("Where time is what counts, use the solver.")


def test_every_stage_of_a_training_is_paid_back() -> None:
    metrics = _metrics()
    metrics.pop("cost")
    metrics["seconds"] = {**dict.fromkeys(STAGES, 20.0), "rollout": 0.1, "solver": 1.1}
    assert "training took 1 min 40 s, which pays off after about 100 rollouts" in " ".join(verdict(metrics))
