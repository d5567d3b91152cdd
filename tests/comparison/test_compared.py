"""A comparison from end to end: what it says of certainty, cost and the reference's own error."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest

from romvae.baselines import Climatology, Persistence
from romvae.comparison import Comparison, compare, rank
from romvae.cost.rollouts import batch_size
from romvae.data.trainable import KINDS
from romvae.errors import DataError, NumericsError
from romvae.report import verdict
from romvae.report.page import render

from .small_case import SMALL


def test_every_error_has_an_interval_that_holds_it(compared):
    for scores in (compared.metrics["rom"], *compared.metrics["baselines"].values()):
        for name in ("relative_l2", "vrmse"):
            low, high = scores["intervals"][name]
            assert low <= scores[name] <= high, name


def test_the_best_baseline_is_tested_against_the_rom(compared):
    test, errors = compared.metrics["significance"], compared.metrics["baselines"]
    assert errors[test["best"]]["relative_l2"] == min(each["relative_l2"] for each in errors.values())
    gap = errors[test["best"]]["relative_l2"] - compared.metrics["rom"]["relative_l2"]
    assert test["difference"] == pytest.approx(gap, rel=1e-6)
    assert "spectrum_baseline_u" in compared.series


def test_the_cost_at_equal_accuracy_is_a_ratio_of_what_was_measured(compared):
    cost = compared.metrics["cost"]
    for rom in cost["rom"].values():
        for suffix in ("", "_batch"):
            run = rom[f"solver{suffix}"]
            assert run["error"] <= rom["relative_l2"]
            assert rom[f"speed_up{suffix}"] == pytest.approx(run[f"seconds{suffix}"] / rom[f"seconds{suffix}"])
        assert rom["over_decoder"] == pytest.approx(rom["seconds_batch"] / rom["decoder_seconds_batch"])
    assert cost["solver"]["reproduces_data_to"] < 1e-6
    assert cost["solver"]["batched"] is True
    assert cost["pay_off"]["training_seconds"] == 1.0 * cost["threads"]
    assert compared.metrics["seconds"]["solver"] == cost["solver"]["sweep"][0]["seconds"]


def test_a_batch_of_means_may_be_as_many_times_larger_as_it_holds_fewer_maps(rom, monkeypatch):
    one = 4 * 11 * rom.schema.grid.points * len(rom.schema.field_names)
    for room in (2, 5):  # trajectories with all their maps
        monkeypatch.setattr("romvae.cost.rollouts.available_bytes", lambda room=room: 12 * room * len(KINDS) * one)
        assert batch_size(rom, 11) == room
        assert batch_size(rom, 11, mean=True) == room * len(KINDS)
        assert batch_size(rom, 11, 3, mean=True) == 3
    monkeypatch.setattr("romvae.cost.rollouts.available_bytes", lambda: one)
    assert batch_size(rom, 11) == 1  # one is tried however large it is


@pytest.mark.parametrize(("alone", "batch"), [(0.5, 0.2), (0.5, 3.0), (2.0, 0.2), (2.0, 3.0)])
def test_a_rom_that_loses_in_error_or_time_is_told_so_in_the_first_lines(compared, alone, batch):
    metrics = deepcopy(compared.metrics)
    metrics["cost"]["rom"]["mean"] |= {"speed_up": alone, "speed_up_batch": batch}
    first = " ".join(verdict(metrics)[:3])
    assert "loses here" in first  # it has learned nothing
    assert ("slower than the solver at equal accuracy" in first) == (min(alone, batch) < 1)


class Breaking(Persistence):
    """Persistence that breaks down on one trajectory, the fourth of those that it is given."""

    def __init__(self, name: str, value: float | None) -> None:
        super().__init__()
        self.name, self.value = name, value  # type: ignore[misc]

    def rollout(self, start, times):
        if self.value is None:
            raise NumericsError(f"{self.name}: the forecast of trajectory 3 diverged before time 0.2.")
        found = super().rollout(start, times).copy(deep=True)
        found["u"][{"trajectory": 3, "time": slice(4, None)}] = self.value
        return found


def test_a_baseline_that_diverges_is_listed_as_such_and_the_others_are_compared(rom, parts, tmp_path):
    baselines = [
        Breaking("raises", None),
        Climatology(),
        Breaking("gives_nan", np.nan),
        Breaking("overflows", 1e200),
    ]
    found = compare(rom, parts.test, train=parts.train, baselines=baselines, members=8, cost_cap=0.0)
    each = found.metrics["baselines"]
    assert list(each) == ["raises", "climatology", "gives_nan", "overflows"]
    broken = ("raises", "gives_nan", "overflows")
    assert all(each[name]["relative_l2"] is None for name in broken)
    assert each["raises"]["diverged"] == "raises: the forecast of trajectory 3 diverged before time 0.2."
    assert each["gives_nan"]["diverged"] == "gives_nan: a forecast is not finite at time 0.2."
    assert "diverged" not in each["climatology"]
    test = found.metrics["significance"]
    assert test["best"] == "climatology"
    assert test["words"].endswith("Not tested, because forecasts diverged: raises, gives_nan, overflows.")
    assert "diverged, so that there is no error to compare: raises, gives nan" in " ".join(verdict(found.metrics))
    found.save(tmp_path / "c")
    again = Comparison.load(tmp_path / "c")
    assert rank({"a": found, "b": again}).metrics["baseline"]["name"] == "climatology"
    assert "raises: the forecast of trajectory 3 diverged before time 0.2." in render(again)


def test_where_all_baselines_diverge_nothing_is_tested(rom, parts):
    found = compare(rom, parts.test, train=parts.train, baselines=[Breaking("raises", None)], members=8, cost_cap=0.0)
    assert "significance" not in found.metrics
    assert "diverged" in " ".join(verdict(found.metrics))


def test_without_a_solver_the_report_says_what_it_cannot_know(rom, parts):
    found = compare(rom, parts.test, members=8, cost_cap=0.2, batch=2)
    assert found.metrics["cost"]["unknown"] == "no solver is known for these data"
    text = " ".join(verdict(found.metrics))
    assert "Nothing can be said about a speed-up: no solver is known for these data." in text
    assert "cost" not in compare(rom, parts.test, members=8, cost_cap=0.0).metrics


def test_an_error_below_the_reference_s_own_is_not_resolvable(rom, parts):
    test = parts.test.copy()
    known = json.loads(test.attrs["reference_error"])
    known["fields"]["u"]["relative_l2"] = 50.0
    test.attrs["reference_error"] = json.dumps(known)
    found = compare(rom, test, members=8, cost_cap=0.0)
    assert found.metrics["rom"]["not_resolvable"] is True
    assert "not resolvable" in " ".join(verdict(found.metrics))


def test_what_is_kept_survives_saving(compared, tmp_path):
    compared.save(tmp_path / "c")
    again = Comparison.load(tmp_path / "c")
    assert again.metrics["cost"] == compared.metrics["cost"]
    np.testing.assert_array_equal(again.series["rom_wrong"], compared.series["rom_wrong"])


def test_a_ranking_orders_by_error_and_tests_each_against_the_best(rom, parts, compared):
    other = compare(rom, parts.test, members=8, seed=5, cost_cap=0.0)
    ranking = rank({"first": compared, "again": compared, "other": other})
    errors = [run["relative_l2"] for run in ranking.metrics["runs"]]
    assert errors == sorted(errors)
    same = {run["name"]: run for run in ranking.metrics["runs"]}
    twins = [same[name].get("against_best", {"p_value": 1.0}) for name in ("first", "again")]
    if ranking.metrics["runs"][0]["name"] != "other":
        assert all(each["p_value"] == 1.0 for each in twins)
    assert ranking.metrics["baseline"]["name"] == compared.metrics["significance"]["best"]
    alone = rank({"first": compared, "again": compared}).metrics["baseline"]["against_best"]
    assert alone["difference"] == pytest.approx(compared.metrics["significance"]["difference"], rel=1e-6)
    assert alone["trajectories"] == compared.metrics["significance"]["trajectories"]


def test_runs_on_other_data_are_not_ranked(rom, parts, compared):
    other = compare(rom, parts.variance, members=8, cost_cap=0.0)
    with pytest.raises(DataError, match=r"b: its held-out trajectories are not those of a.*same --seed"):
        rank({"a": compared, "b": other})
    with pytest.raises(DataError, match="1 comparison was given, expected two or more"):
        rank({"a": compared})


def test_a_case_whose_solver_is_other_than_that_of_the_data_is_warned_of(rom, parts):
    test = parts.test.copy()
    test["u"] = test["u"].where(test["time"] == test["time"][0], 0.5 * test["u"])
    cost = compare(rom, test, reference=SMALL, members=8, cost_cap=0.3, batch=2).metrics["cost"]
    assert cost["solver"]["warning"] == "the solver does not repeat the data: they were made with other settings"
