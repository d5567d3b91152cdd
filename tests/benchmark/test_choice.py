"""What the rule of `--model auto` takes: kept with a result, added to one that lacks it, set beside the best."""

from __future__ import annotations

import json

from romvae.baselines import PODLinear
from romvae.benchmark import find_problems, read_results, run, run_problems
from romvae.benchmark.choice import choice, choice_sentence, choice_table, with_choice
from romvae.benchmark.ensemble import ensemble, parts_of
from romvae.benchmark.page import grouped
from romvae.benchmark.result import write_result
from romvae.progress import silent
from tests.benchmark.conftest import forbidden, make_folder


def test_a_choice_is_of_the_least_error_and_added_where_the_models_are_still_there(ran, tmp_path, monkeypatch):
    folder, data = ran
    problem = find_problems(folder)["heat_1d"]
    whole = json.loads(problem.result(0).read_text())
    errors = whole["choice"]["errors"]
    assert set(errors) == {"romvae", "persistence", "pod_linear"}
    assert errors[whole["choice"]["taken"]] == min(errors.values())
    assert whole["choice"]["trajectories"] == 3
    later = find_problems(make_folder(tmp_path))["heat_1d"]
    later.result(0).parent.mkdir()
    without = {key: value for key, value in whole.items() if key != "choice"}
    later.result(0).write_text(json.dumps(without))
    for name in ("run_problem", "fit", "compare"):
        monkeypatch.setattr(run, name, forbidden)
    assert run_problems({"heat_1d": later}, tmp_path / "nothing", silent, seeds=(0,)) == {}
    assert json.loads(later.result(0).read_text()) == without  # no models there
    assert not (tmp_path / "nothing").exists()
    assert run_problems({"heat_1d": later}, data, silent, seeds=(0,)) == {}
    assert json.loads(later.result(0).read_text()) == whole


def test_a_forecast_that_is_not_finite_is_not_taken(ran):
    folder, data = ran
    problem = find_problems(folder)["heat_1d"]
    parts = parts_of(problem, ensemble(problem, 0, data, 1, silent))
    rom = run.trained_rom(problem, parts, 0, data, silent)
    good = PODLinear(3).fit(parts.train)

    class Broken(PODLinear):
        name = "broken"

        def rollout(self, start, times):
            return good.rollout(start, times) / 0.0

    found = choice(rom, [good, Broken(3)], parts.variance)
    assert found["errors"]["broken"] is None
    assert found["taken"] == min(("romvae", "pod_linear"), key=found["errors"].__getitem__)
    more = with_choice(found, {"trajectories": 3, "errors": {"exact": 0.0}})
    assert more["taken"] == "exact"
    assert set(more["errors"]) == {"romvae", "pod_linear", "broken", "exact"}


def test_what_auto_takes_is_set_beside_the_best(tmp_path):
    """Two seeds: one on which the best one is taken, and one on which the second best is."""
    folder = make_folder(tmp_path, "remark: it decays.\n")
    problem = find_problems(folder)["heat_1d"]

    def written(seed, rom, pod, **more):
        metrics = {"rom": {"relative_l2": rom}, "baselines": {"pod_linear": {"relative_l2": pod}}}
        beside = {"machine": {}, "versions": {"romvae": "0.1.0"}, "cost": {}}
        write_result(problem, seed, {"metrics": metrics, **beside, **more})

    def groups():
        return grouped(folder, read_results(folder))[0]

    written(0, 0.01, 0.005)
    assert choice_table(groups()) == choice_sentence(groups()) == ""
    written(0, 0.01, 0.005, choice={"errors": {}, "taken": "pod_linear"})
    written(1, 0.02, 0.007, choice={"errors": {}, "taken": "romvae"})
    row = "| heat_1d | 0, 1 | pod linear, romvae | 1.25 % (0.5 % to 2 %) | 0.6 % (0.5 % to 0.7 %) |"
    assert row in choice_table(groups())
    assert "on 0 of the 1 problems on which it was tried, and elsewhere" in choice_sentence(groups())
    assert choice_sentence(groups()).endswith("is heat_1d 2.86.")
    written(1, 0.02, 0.007, choice={"errors": {}, "taken": "pod_linear"})
    assert choice_sentence(groups()).endswith("on 1 of the 1 problems on which it was tried.")
