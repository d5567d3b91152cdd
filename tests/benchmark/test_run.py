"""Running: results are whole or not there, kept, and continued; the same test trajectories for all variants."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

from romvae.baselines import PODLinear, PODNetwork
from romvae.benchmark import ensemble as module
from romvae.benchmark import find_problems, read_results, run, run_problem, run_problems
from romvae.benchmark.ensemble import data_path, ensemble, parts_of
from romvae.benchmark.opponents import fit_opponents
from romvae.benchmark.result import is_made, missing_baselines, small, value_at
from romvae.data import open_snapshots, write_snapshots
from romvae.errors import ConfigError, DataError, NumericsError, TrainingStoppedError
from romvae.progress import silent
from romvae.rom import ROM
from romvae.solvers import on_disk
from tests.benchmark.conftest import RECIPE, forbidden, make_folder


def is_done(problem, seed, without=()):
    return is_made(problem, seed) and not missing_baselines(problem, seed, without)


def test_a_result_says_what_was_measured_where_and_how(ran):
    folder, _ = ran
    main, more = (result.content for result in read_results(folder))
    assert (main["name"], more["name"]) == ("heat_1d", "heat_1d/more")
    assert main["command"] == "romvae benchmark heat_1d --seeds 0 --threads 1"
    assert main["machine"]["threads"] == 1
    assert {"processor", "cpus", "gpu"} <= set(main["machine"])
    assert main["versions"]["torch"]
    assert "/" not in main["versions"]["python"]  # no path of the machine
    for stage in ("simulate", "train", "compare"):
        assert main["cost"]["process_seconds"][stage] > 0
        assert main["cost"]["seconds"][stage] > 0
    assert {"relative_l2", "coverage_90_fifths", "spread_skill", "crps_over_mae", "bands"} <= set(
        main["metrics"]["rom"]
    )
    assert {"persistence", "pod_linear"} == set(main["metrics"]["baselines"])
    assert main["metrics"]["baselines"]["pod_linear"]["fit_seconds"] > 0
    assert main["baselines"]["chosen"]["pod_linear"]["process_seconds"] > 0
    assert "pod_rbf" in main["baselines"]["left_out"]  # random initial fields do not follow from the parameters
    assert main["metrics"]["data"]["split"] == {"train": 8, "variance": 3, "calibration": 10, "test": 4}
    assert main["settings"]["training"]["vae_steps"] == 3
    assert main["further"]["as_published"]["snapshot_relative_l2"] > 0
    assert more["further"]["long_run"]["bounded"] in (True, False)


def test_results_are_small(ran):
    folder, _ = ran
    assert all(result.path.stat().st_size < 20_000 for result in read_results(folder))


def test_what_is_there_is_not_repeated(ran, monkeypatch):
    folder, data = ran
    monkeypatch.setattr(run, "run_problem", forbidden)
    assert run_problems(find_problems(folder, which="all"), data, silent, seeds=(0,)) == {}


def test_variants_are_tested_on_the_same_trajectories(ran):
    folder, data = ran
    main, more = find_problems(folder, which="all").values()
    one, other = (parts_of(p, ensemble(p, 0, data, 1, silent)) for p in (main, more))
    np.testing.assert_array_equal(one.test["u"].values, other.test["u"].values)
    np.testing.assert_array_equal(one.train["u"].values, other.train["u"].values[:8])


def test_a_comparison_is_made_again_with_the_same_model(ran, monkeypatch):
    folder, data = ran
    problem = find_problems(folder)["heat_1d"]
    before = json.loads(problem.result(0).read_text())
    monkeypatch.setattr(run, "fit", forbidden)
    monkeypatch.setattr(PODLinear, "fit", forbidden)  # what was fitted is kept too
    assert run_problems({"heat_1d": problem}, data, silent, seeds=(0,), redo="comparison") == {}
    after = json.loads(problem.result(0).read_text())
    assert after["metrics"]["rom"] == before["metrics"]["rom"]
    costs, earlier = (each["cost"]["process_seconds"] for each in (after, before))
    assert costs["train"] == earlier["train"]
    for stage in ("simulate", "baselines"):  # found in the folder, and not for nothing
        assert costs[stage] >= earlier[stage]


def test_a_kept_model_is_calibrated_anew_as_a_training_would(ran, monkeypatch):
    folder, data = ran
    problem = find_problems(folder)["heat_1d"]
    before = json.loads(problem.result(0).read_text())
    model = run._work(problem, 0, data) / "model"
    spoilt = ROM.load(model)
    spoilt.calibration.variance_factor.mul_(100)
    spoilt.save(model, overwrite=True)
    monkeypatch.setattr(run, "fit", forbidden)
    assert run_problems({"heat_1d": problem}, data, silent, seeds=(0,), redo="calibration") == {}
    after = json.loads(problem.result(0).read_text())
    assert after["metrics"]["rom"] == before["metrics"]["rom"]


def test_after_an_interruption_nothing_is_half_there_and_the_training_is_not_repeated(tmp_path, monkeypatch):
    problem = find_problems(make_folder(tmp_path))["heat_1d"]

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "compare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_problems({"heat_1d": problem}, tmp_path / "data", silent, seeds=(5,))
    assert not problem.result(5).exists()
    monkeypatch.setattr(run, "fit", forbidden)
    run_problem(problem, 5, tmp_path / "data", silent, without=["pod_linear"], search=0.5)
    assert is_done(problem, 5, without=["pod_linear"])
    assert not is_done(problem, 5)
    content = json.loads(problem.result(5).read_text())
    assert content["baselines"]["left_out"]["pod_linear"] == "left out by --without"
    assert content["command"].endswith("--without pod_linear --cost-seconds 0.5")


def zeros_stored(problem, folder):
    """The trajectories of a problem, in whose place zeros are stored, as by an earlier version of the solver."""
    true = ensemble(problem, 0, folder, 1, silent)
    earlier = true.assign(u=true["u"].copy(data=np.zeros(true["u"].shape)))
    write_snapshots(earlier, data_path(problem, 0, folder), overwrite=True)
    return true


def counted(monkeypatch, module, name):
    """Calls of a function from now on."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **kwargs: calls.append(args) or function(*args, **kwargs))
    return calls


def test_redo_simulates_again_once_for_all_that_share_the_trajectories(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, RECIPE + "  wide:\n    model: {hidden: 9}\n")
    problems = {name: find_problems(folder, which="all")[name] for name in ("heat_1d", "heat_1d/wide")}
    problem = problems["heat_1d"]
    true, store = zeros_stored(problem, tmp_path), data_path(problem, 0, tmp_path)
    cost = store.with_suffix(".cost.json")
    cost.write_text(json.dumps({"process": 1e6, "wall": 1e6, "whole": True}))

    def enough(*args):
        raise NumericsError("enough")

    monkeypatch.setattr(run, "_trained", enough)
    calls = counted(monkeypatch, module, "simulate_to")
    for redo in (None, "comparison"):
        assert len(run_problems(problems, tmp_path, silent, seeds=(0,), redo=redo)) == 2
        assert calls == []
        assert not open_snapshots(store)["u"].any()
    assert len(run_problems(problems, tmp_path, silent, seeds=(0,), redo="all")) == 2
    assert len(calls) == 1
    assert json.loads(cost.read_text())["process"] < 1e6  # that of the new ones
    np.testing.assert_array_equal(open_snapshots(store)["u"].values, true["u"].values)


def test_a_redo_that_is_stopped_leaves_what_was_there_and_goes_on_without_redo(tmp_path, monkeypatch):
    problem = find_problems(make_folder(tmp_path))["heat_1d"]
    true, store = zeros_stored(problem, tmp_path), data_path(problem, 0, tmp_path)
    solved = counted(monkeypatch, on_disk, "solve_block")

    def stop(stage, *args):
        if stage == "write":
            raise KeyboardInterrupt

    for _ in range(2):  # a second redo begins anew
        solved.clear()
        with pytest.raises(KeyboardInterrupt):
            ensemble(problem, 0, tmp_path, 1, stop, again=True)
        assert solved
        assert not open_snapshots(store)["u"].any()
    solved.clear()
    np.testing.assert_array_equal(ensemble(problem, 0, tmp_path, 1, silent)["u"].values, true["u"].values)
    assert not solved
    assert [path.name for path in store.parent.iterdir()] == [store.name]


def test_a_stopped_simulation_costs_what_all_its_starts_took_and_a_finished_one_nothing_more(tmp_path, monkeypatch):
    problem, simulate, spent = find_problems(make_folder(tmp_path))["heat_1d"], run.ensemble, [0.0]
    monkeypatch.setattr(run._Clock, "_process", staticmethod(lambda: spent[0]))

    def start(seconds, stopped):
        def simulating(*args):
            spent[0] += seconds
            if stopped:
                raise KeyboardInterrupt
            return simulate(*args)

        monkeypatch.setattr(run, "ensemble", simulating)
        return run_problem(problem, 6, tmp_path / "data", silent, without=["pod_linear"])

    for seconds in (50.0, 7.0):
        with pytest.raises(KeyboardInterrupt):
            start(seconds, stopped=True)
    for seconds in (3.0, 1.0):
        cost = json.loads(start(seconds, stopped=False).read_text())["cost"]["process_seconds"]["simulate"]
        assert cost == 50.0 + 7.0 + 3.0


def test_pod_network_has_the_dynamics_of_the_recipe(ran, tmp_path, monkeypatch):
    """All else the same: the settings of the networks and of the training that the ROM had, and its budget."""
    text = RECIPE.replace("pod_rbf]", "pod_rbf, pod_network]").replace(
        "hidden: 8", "hidden: 8, stride: 2, dynamics: ode"
    )
    problem = find_problems(make_folder(tmp_path, text.replace("batch_size: 16", "batch_size: 16, horizon: 4")))[
        "heat_1d"
    ]
    seen = {}

    def fitted(self, train, *, budget, **options):
        seen.update(latent=self.latent, model=self.model, training=self.training, usual=self.usual, budget=budget)
        raise NumericsError("enough")

    monkeypatch.setattr(PODNetwork, "fit", fitted)
    run_problem(problem, 0, tmp_path / "data", silent)
    model = {"dynamics": "ode", "hidden": 8, "stride": 2, "members": 2}
    assert {name: seen["model"][name] for name in model} == model
    assert (seen["training"]["horizon"], seen["training"]["batch_size"], seen["usual"], seen["latent"]) == (4, 16, 3, 3)
    spent = json.loads(problem.result(0).read_text())["cost"]["process_seconds"]["train"]
    assert seen["budget"] == pytest.approx(spent, rel=1e-4)  # results hold five digits


def test_an_unknown_baseline_is_refused_before_the_first_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"baseline 'pod_linaer' is unknown.*pod_linear"):
        fit_opponents(["persistence", "pod_linaer"], None, 2, 1.0, 0, tmp_path, silent)


def test_another_recipe_is_another_result(ran, tmp_path):
    folder, _ = ran
    problem = find_problems(folder)["heat_1d"]
    changed = find_problems(make_folder(tmp_path, RECIPE.replace("vae_steps: 3", "vae_steps: 4")))["heat_1d"]
    changed.result(0).parent.mkdir()
    changed.result(0).write_text(problem.result(0).read_text())
    assert is_done(problem, 0)
    assert not is_done(changed, 0)


def test_a_failure_does_not_end_the_others(tmp_path, monkeypatch):
    problems = find_problems(make_folder(tmp_path), which="all")
    asked = []

    def fails(problem, seed, *args, **kwargs):
        asked.append((problem.name, seed))
        raise NumericsError("it diverged")

    monkeypatch.setattr(run, "run_problem", fails)
    failed = run_problems(problems, tmp_path, silent)
    assert asked == [("heat_1d", 0), ("heat_1d/more", 0), ("heat_1d", 1), ("heat_1d/more", 1)]
    assert failed["heat_1d seed 0"] == "it diverged"


def test_a_signal_ends_all_of_it_and_no_baseline_counts_as_left_out(tmp_path, monkeypatch):
    problems = find_problems(make_folder(tmp_path), which="all")
    stop = TrainingStoppedError(signal.SIGTERM, None)

    def stopped(*args, **kwargs):
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(run, "run_problem", stopped)
        with pytest.raises(TrainingStoppedError):
            run_problems(problems, tmp_path, silent)
    monkeypatch.setattr(PODLinear, "fit", stopped)
    parts = parts_of(problems["heat_1d"], ensemble(problems["heat_1d"], 0, tmp_path, 1, silent))
    with pytest.raises(TrainingStoppedError):
        fit_opponents(["pod_linear"], parts, 2, 1.0, 0, tmp_path, silent)


@pytest.mark.parametrize(("seconds", "expected"), [(1190.0, [1]), (1210.0, [])])
def test_one_seed_is_enough_where_a_training_takes_over_twenty_minutes(ran, tmp_path, monkeypatch, seconds, expected):
    done = find_problems(ran[0])["heat_1d"].result(0)
    problem = find_problems(make_folder(tmp_path))["heat_1d"]
    content = json.loads(done.read_text())
    content["cost"]["process_seconds"]["train"] = seconds
    problem.result(0).parent.mkdir()
    problem.result(0).write_text(json.dumps(content))
    asked = []
    monkeypatch.setattr(run, "run_problem", lambda problem, seed, *args, **kwargs: asked.append(seed))
    run_problems({"heat_1d": problem}, tmp_path, silent)
    assert asked == expected
    run_problems({"heat_1d": problem}, tmp_path, silent, seeds=(1,))
    assert asked == [*expected, 1]  # asked for by name, it is run all the same


def test_a_file_that_is_no_result_is_named(tmp_path):
    folder = make_folder(tmp_path)
    path = folder / "heat_1d" / "results" / "main_seed0.json"
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(DataError, match=r"main_seed0.json: is no result.*name, seed"):
        read_results(folder)
    path.write_text("{")
    with pytest.raises(DataError, match=r"main_seed0.json: no readable result"):
        read_results(folder)


def test_numbers_are_cut_to_json_types():
    content = {
        "a": np.float32(1.23456789),
        "b": float("nan"),
        "c": list(range(99)),
        "d": (1, True, None),
        "e": "x" * 999,
    }
    assert small(content) == {"a": 1.2346, "b": None, "d": [1, True, None]}


def test_a_value_is_found_by_its_path():
    content = {"a": {"b": [1, {"c": 2}]}}
    assert value_at(content, "a.b.1.c") == 2
    assert value_at(content, "a.b.7") is None
    assert value_at(content, "a.x.c") is None


def test_a_result_is_done_if_it_has_every_baseline_that_is_asked_for(ran, tmp_path, monkeypatch):
    problem = find_problems(make_folder(tmp_path))["heat_1d"]
    content = json.loads(find_problems(ran[0])["heat_1d"].result(0).read_text())
    assert "pod_rbf" in content["baselines"]["left_out"]  # as not applicable

    def lacks(reason, without=()):
        changed = json.loads(json.dumps(content))
        changed["metrics"]["baselines"].pop("pod_linear")
        changed["baselines"]["left_out"] |= {"pod_linear": reason} if reason else {}
        problem.result(0).parent.mkdir(exist_ok=True)
        problem.result(0).write_text(json.dumps(changed))
        assert is_made(problem, 0)
        return missing_baselines(problem, 0, without)

    assert lacks("left out by --without") == ["pod_linear"]
    assert lacks("left out by --without", without=["pod_linear"]) == []
    assert lacks("") == ["pod_linear"]
    assert lacks("pod_linear: every candidate diverges on held-out trajectories") == []
    message = "the baseline pod_linear needs oracle, which is not installed. Run pip install 'romvae[oracle]'"
    assert lacks(message) == ["pod_linear"]  # it is there now
    monkeypatch.setattr(PODLinear, "library", ("no_such_module", "oracle"))
    assert lacks(message) == []
    make_folder(tmp_path, RECIPE.replace("opponents: [persistence, pod_linear, pod_rbf]", "opponents: [persistence]"))
    problem = find_problems(tmp_path / "simulations")["heat_1d"]
    problem.result(0).write_text(json.dumps({**content, "recipe": problem.recipe.digest}))
    assert is_done(problem, 0)  # more than asked for


def test_a_baseline_that_a_result_lacks_is_added_and_nothing_else_is_made_again(ran, tmp_path, monkeypatch):
    folder, data = ran
    whole = json.loads(find_problems(folder)["heat_1d"].result(0).read_text())
    lacking = json.loads(json.dumps(whole))
    lacking["metrics"]["baselines"].pop("persistence")
    lacking["baselines"]["chosen"].pop("persistence")
    lacking["baselines"]["left_out"]["persistence"] = "left out by --without"
    lacking["metrics"]["significance"] = {"best": "pod_linear", "p_value": 0.5}
    problems = find_problems(make_folder(tmp_path))
    problem = problems["heat_1d"]
    problem.result(0).parent.mkdir()
    problem.result(0).write_text(json.dumps(lacking))
    monkeypatch.setattr(run, "fit", forbidden)
    monkeypatch.setattr(run, "run_problem", forbidden)
    monkeypatch.setattr(PODLinear, "fit", forbidden)
    main = {"heat_1d": problem}
    assert run_problems(main, data, silent, seeds=(0,), without=["persistence"]) == {}
    assert json.loads(problem.result(0).read_text()) == lacking
    assert run_problems(main, data, silent, seeds=(0,)) == {}
    after = json.loads(problem.result(0).read_text())
    assert is_done(problem, 0)
    assert list(after["baselines"]["left_out"]) == ["pod_rbf"]
    assert after["added"][0]["baselines"] == ["persistence"]
    assert whole["metrics"]["significance"]["best"] == "persistence"  # so that the ROM is tested against it
    for key in ("rom", "significance"):
        assert after["metrics"][key] == whole["metrics"][key]
    one, other = (each["metrics"]["baselines"] for each in (after, whole))
    assert one["pod_linear"] == other["pod_linear"]
    assert one["persistence"]["relative_l2"] == other["persistence"]["relative_l2"]
    assert after["cost"] == whole["cost"]
    problem.result(0).write_text(json.dumps(lacking))
    failed = run_problems(main, tmp_path / "elsewhere", silent, seeds=(0,))
    assert "lacks persistence, and the model" in failed["heat_1d seed 0"]
