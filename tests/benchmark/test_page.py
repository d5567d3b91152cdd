"""The page: made of files alone, says who is ahead, what was reached, what is missing."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from romvae.benchmark import find_problems
from romvae.benchmark.ahead import absences, remarks
from romvae.benchmark.chart import points_of, solver_front, solver_points
from romvae.benchmark.costs import break_even, rollout_table, speed_up, work_table
from romvae.benchmark.page import BEGIN, END, grouped, write_page
from romvae.benchmark.result import LONGEST_LIST, is_made, read_results, thinned, write_result
from romvae.benchmark.summary import in_short, methods, not_run
from romvae.benchmark.tables import (
    MARK,
    accuracy_table,
    bars_table,
    calibration_table,
    earlier_rules,
    published_table,
)
from romvae.benchmark.targets import TARGETS, missed, targets_table
from romvae.benchmark.words import spread
from romvae.errors import DataError
from tests.benchmark.conftest import make_folder

RECIPE = """\
remark: it decays, and a linear model knows that.
bars:
- {metric: metrics.rom.relative_l2, at_most: 0.02, what: a small error}
- {metric: metrics.rom.horizon, at_least: 3.0, what: a long horizon}
published:
- {who: others, value: "0.5 | 0.6", metric: metrics.rom.nrmse, what: nRMSE, note: another grid}
variants:
  more: {split: {train: 300}}
"""


def content(rom, baselines, **more):
    return {
        "command": "romvae benchmark heat_1d --seeds 0 --threads 2",
        "machine": {"processor": "Some CPU", "cpus": 2, "threads": 2, "gpu": "Some GPU"},
        "versions": {"romvae": "0.1.0", "python": "3.11", "torch": "2.13"},
        "cost": {"process_seconds": {"simulate": 1.0, "train": 100.0, "compare": 10.0}},
        "metrics": {
            "rom": {
                "relative_l2": rom,
                "nrmse": 0.25,
                "coverage_90": 0.9,
                "coverage_90_fifths": [0.9, 0.85, 0.91],
                **more,
            },
            "baselines": {name: {"relative_l2": error, "rollout_seconds": 0.02} for name, error in baselines.items()},
            "cost": {
                "rom": {"mean": {"relative_l2": rom, "seconds_batch": 0.01, "speed_up_batch": 12.5}},
                "solver": {"sweep": [{"error": 0.0, "seconds_batch": 1.0}, {"error": 0.01, "seconds_batch": 0.125}]},
            },
            "data": {"split": {"calibration": 200, "test": 100}},
        },
    }


@pytest.fixture
def folder(tmp_path):
    """Two seeds of the main recipe, in which POD is ahead, and one of the variant, in which romvae is."""
    folder = make_folder(tmp_path, RECIPE)
    main, more = find_problems(folder, which="all").values()
    write_result(main, 0, content(0.01, {"persistence": 0.5, "pod_linear": 0.005}, horizon=2.0))
    write_result(main, 1, content(0.02, {"persistence": 0.7, "pod_linear": 0.007}, horizon=3.0))
    write_result(more, 0, content(0.01, {"persistence": 0.5, "pod_linear": 0.02}))
    return folder


def groups(folder):
    return grouped(folder, read_results(folder))[0]


def row(text, start):
    return [cell.strip() for line in text.splitlines() if line.startswith(f"| {start} |") for cell in line.split("|")]


def test_means_ranges_and_who_is_ahead(folder):
    cells = row(accuracy_table(groups(folder)), "heat_1d")
    assert cells[3:8] == [
        "0, 1",
        "1.5 % (1 % to 2 %)",
        "60 % (50 % to 70 %)",
        "0.6 % (0.5 % to 0.7 %)",
        "pod linear, 2.5 times (not tested)",
    ]
    assert row(accuracy_table(groups(folder)), "heat_1d/more")[7] == "romvae, 2 times (not tested)"


def test_a_method_that_diverged_on_a_seed_is_not_ahead(folder):
    main = find_problems(folder)["heat_1d"]
    write_result(main, 1, content(0.02, {"persistence": 0.7, "pod_linear": float("nan")}))
    assert row(accuracy_table(groups(folder)), "heat_1d")[7] == "romvae, 40 times (not tested)"


@pytest.mark.parametrize(
    ("errors", "tests", "expected"),
    [
        ((0.010, 0.012), (0.14, 0.5), "romvae, not told apart from pod linear (p = 0.14 to 0.5)"),
        ((0.010, 0.012), (0.14, 0.01), "romvae, 1.2 times"),
        ((0.012, 0.010), (0.21, None), "pod linear, not told apart from romvae (p = 0.21)"),
        ((0.012, 0.010), (0.21, 0.01), "pod linear, 1.2 times"),
        ((0.012, 0.010), (None, None), "pod linear, 1.2 times (not tested)"),  # an earlier result
    ],
)
def test_a_difference_that_no_seed_tells_from_chance_is_no_lead(folder, errors, tests, expected):
    rom, pod = errors
    main = find_problems(folder)["heat_1d"]
    for seed, p_value in enumerate(tests):
        one = content(rom, {"persistence": 0.5, "pod_linear": pod})
        if p_value is not None:
            one["metrics"]["significance"] = {"best": "pod_linear", "p_value": p_value, "difference": pod - rom}
        write_result(main, seed, one)
    assert row(accuracy_table(groups(folder)), "heat_1d")[7] == expected
    assert ("(not told apart, p = 0.21)" in remarks(groups(folder))) == ("apart from romvae" in expected)


def test_a_difference_that_is_significant_the_other_way_round_is_no_lead(folder):
    main = find_problems(folder)["heat_1d"]
    for seed, rom in enumerate((0.001, 0.013)):  # ahead in the mean, by a seed on which chance explains it
        one = content(rom, {"pod_linear": 0.010})
        test = {"best": "pod_linear", "p_value": (0.3, 0.001)[seed], "difference": 0.010 - rom}
        write_result(main, seed, one | {"metrics": one["metrics"] | {"significance": test}})
    assert "romvae, not told apart from pod linear" in accuracy_table(groups(folder))


def test_two_baselines_are_not_tested_against_each_other_and_the_table_says_so(folder):
    main = find_problems(folder)["heat_1d"]
    for seed in range(2):
        write_result(main, seed, content(0.5, {"persistence": 0.02, "pod_linear": 0.01}))
    assert row(accuracy_table(groups(folder)), "heat_1d")[7] == "pod linear, 2 times persistence (not tested)"
    for seed in range(2):
        write_result(main, seed, content(0.5, {"persistence": 0.01, "pod_linear": 0.01}))
    assert row(accuracy_table(groups(folder)), "heat_1d")[7] == "persistence and pod linear alike"


def test_a_method_of_some_seeds_is_set_beside_romvae_on_these(folder):
    """Half of romvae's error on the seed that is hard for all is ahead, though it is above romvae's mean."""
    main = find_problems(folder)["heat_1d"]
    write_result(main, 0, content(0.4, {"fno": 0.22}))
    write_result(main, 1, content(0.004, {}))
    cells = row(accuracy_table(groups(folder)), "heat_1d")
    assert "22 %, seed 0 only" in cells
    assert "fno, 1.82 times (not tested)" in cells


def test_a_missing_figure_is_explained(folder):
    main, more = find_problems(folder, which="all").values()
    one = content(0.01, {"persistence": 0.5, "pod_linear": 0.02, "fno": 0.1, "pod_rbf": 0.1})
    write_result(main, 0, one)
    for problem, seed in ((main, 1), (more, 0)):
        one = content(0.01, {"persistence": 0.5, "pod_linear": 0.02, "opinf": None})
        reasons = {"fno": "left out by --without", "pod_rbf": "12 trajectories with 0 parameters: too few"}
        write_result(problem, seed, one | {"baselines": {"left_out": reasons}})
    text = absences(groups(folder))
    assert "* fno: run on `heat_1d` (seed 0); elsewhere left out for its cost (`--without`)." in text
    assert "* pod rbf: run on `heat_1d` (seed 0); elsewhere not applicable (12 trajectories with 0 parameters)." in text
    assert "persistence" not in text
    assert "diverged" in row(accuracy_table(groups(folder)), "heat_1d/more")


@pytest.mark.parametrize("reason", ["has grown more than 10000 times at step 3 of 9", "stopped being finite at step 3"])
def test_a_baseline_whose_rollout_ends_has_diverged(folder, reason):
    more = find_problems(folder, which="all")["heat_1d/more"]
    why = {"pod_network": f"rollout: the latent state {reason}. Roll out fewer steps."}
    write_result(more, 0, content(0.01, {"persistence": 0.5}) | {"baselines": {"left_out": why}})
    cells = row(accuracy_table(groups(folder)), "heat_1d/more")
    assert cells.count("diverged") == 1
    assert any(cell.startswith("romvae, 50 times") for cell in cells)


def test_errors_below_the_reference_s_own_are_marked(folder):
    main = find_problems(folder)["heat_1d"]
    for seed in range(2):
        one = content(0.01, {"persistence": 0.5, "pod_linear": 0.002}, reference_error=0.003, not_resolvable=False)
        write_result(main, seed, one)
    cells = row(accuracy_table(groups(folder)), "heat_1d")
    assert cells[4:8] == ["1 %", "50 %", f"0.2 %{MARK}", "pod linear, 5 times (not tested)"]
    for seed in range(2):
        one = content(0.001, {"persistence": 0.5, "pod_linear": 0.002}, reference_error=0.003, not_resolvable=True)
        write_result(main, seed, one)
    cells = row(accuracy_table(groups(folder)), "heat_1d")
    assert cells[4:8] == [f"0.1 %{MARK}", "50 %", f"0.2 %{MARK}", "romvae and pod linear, not resolvable"]


@pytest.mark.parametrize(
    ("origin", "words"),
    [("", "as published"), ("measured", "measured by this project"), ("recalled", "recalled, not verified")],
)
def test_who_says_a_figure_stands_beside_it_and_percent_stand_beside_percent(tmp_path, origin, words):
    text = RECIPE.replace('"0.5 | 0.6"', '"3.8 %"' + (f", origin: {origin}" if origin else ""))
    folder = make_folder(tmp_path, text)
    write_result(find_problems(folder)["heat_1d"], 0, content(0.01, {}))
    rows = published_table(groups(folder))
    assert "| heat_1d | romvae | run here | nRMSE | 25 % |" in rows
    assert f"| heat_1d | others | {words} | nRMSE | 3.8 % | another grid |" in rows


def test_figures_are_reached_in_the_mean_or_missed(folder):
    text = bars_table(groups(folder))
    assert row(text, "heat_1d")[2:6] == ["a small error", "at most 0.02", "0.015 (0.01 to 0.02)", "reached"]
    assert "| a long horizon | at least 3 | 2.5 (2 to 3) | missed |" in text


def test_what_the_test_runs_leave_open_shrinks_with_the_seeds(folder):
    scores = {"spread_skill": 1.2, "intervals": {"spread_skill": [1.0, 1.6]}}
    main, more = find_problems(folder, which="all").values()
    for seed in range(4):
        write_result(main, seed, content(0.01, {}, **scores))
    write_result(more, 0, content(0.01, {}, **scores))
    text = calibration_table(groups(folder))
    assert row(text, "heat_1d/more")[7] == "1.2 [1 to 1.6]"
    assert row(text, "heat_1d")[7] == "1.2 [1.1 to 1.4]"
    write_result(main, 1, content(0.01, {}, spread_skill=1.2))  # an earlier result, without intervals
    assert row(calibration_table(groups(folder)), "heat_1d")[7] == "1.2"


def test_trust_horizons_are_shown_where_they_were_measured(folder):
    main, _ = find_problems(folder, which="all").values()
    shares = {"expected_low": 0.8, "expected_high": 0.97}
    for seed, kept in enumerate((0.88, 0.92)):
        found = [{"tolerance": 0.05, "kept": 0.5, **shares}, {"tolerance": 0.1, "kept": kept, **shares}]
        write_result(main, seed, content(0.01, {}, trust={"tolerances": found}))
    text = calibration_table(groups(folder))
    place = row(text, "problem").index("trusted (0.1): held")
    assert row(text, "heat_1d")[place] == "90 % (88 % to 92 %) [80 % to 97 %]"
    assert row(text, "heat_1d/more")[place] == "-"


def test_what_was_compared_by_earlier_rules_is_marked_and_made_again(folder):
    problem = find_problems(folder)["heat_1d"]
    assert earlier_rules(groups(folder)) == ""
    assert is_made(problem, 1)
    path = problem.result(1)
    kept = json.loads(path.read_text())
    del kept["protocol"]
    path.write_text(json.dumps(kept))
    assert not is_made(problem, 1)
    assert row(accuracy_table(groups(folder)), "heat_1d ‡")
    assert row(rollout_table(groups(folder)), "heat_1d ‡")
    assert row(work_table(groups(folder)), "heat_1d ‡")
    assert "made them again" in earlier_rules(groups(folder))


def test_the_page_holds_every_part_and_one_picture(folder, tmp_path):
    page = write_page(folder, tmp_path / "BENCHMARKS.md")
    text = page.read_text()
    for heading in (
        "In short",
        "Methods",
        "Accuracy",
        "Uncertainty",
        "Cost",
        "to be reached",
        "published papers",
        "Machines and commands",
    ):
        assert heading in text
    assert "* `heat_1d`: it decays, and a linear model knows that." in text
    assert "`heat_1d/more`:" not in text.split("Variants:")[0]
    assert "| heat_1d | romvae | run here | nRMSE | 0.25 |" in text
    assert "| heat_1d | others | as published | nRMSE | 0.5 \\| 0.6 | another grid |" in text
    assert "Some CPU, 2 cores, 2 threads, GPU: Some GPU" in text
    assert "](simulations/benchmark.png)" in text
    with Image.open(folder / "benchmark.png") as picture:
        assert picture.size[0] > 600
    assert (folder / "benchmark.png").stat().st_size < 200_000


def test_the_page_is_a_function_of_the_files(folder, tmp_path):
    first = write_page(folder, tmp_path / "a.md").read_text()
    assert write_page(folder, tmp_path / "b.md").read_text() == first


def test_results_of_another_recipe_are_left_out_and_named(folder, tmp_path):
    make_folder(tmp_path, RECIPE.replace("train: 300", "train: 301"))
    found, stale = grouped(folder, read_results(folder))
    assert [problem.name for problem, _ in found] == ["heat_1d"]
    assert [result.name for result in stale] == ["heat_1d/more"]
    assert "have changed or gone" not in write_page(folder, tmp_path / "page.md").read_text()
    assert "recipe has changed or gone: heat_1d/more." in (tmp_path / "page.md").read_text()


def test_without_results_it_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match=r"no results.*Run romvae benchmark first"):
        write_page(make_folder(tmp_path), tmp_path / "page.md")


def test_costs_and_errors_of_methods_and_of_settings_of_the_solver(folder):
    results = groups(folder)[0][1]
    points = points_of(results)
    assert points["romvae"] == pytest.approx((0.01, 0.0002**0.5))  # the geometric mean of 0.01 and 0.02
    assert points["persistence"] == pytest.approx((0.02, 0.35**0.5))
    results[0].content["metrics"]["cost"]["rom"]["mean"]["relative_l2"] = 1e-9  # of the few that were timed
    assert points_of(results)["romvae"] == points["romvae"]
    results[0].content["metrics"]["cost"]["rom"]["ensemble"] = {"relative_l2": 1e-9, "seconds_batch": 0.16}
    assert points_of(results)["romvae"] == pytest.approx((0.04, 0.0002**0.5))  # the time of what has this error
    assert points_of(results)["romvae, mean alone"] == pytest.approx((0.01, 1e-9))  # of the result that has both
    assert solver_points(results[:1]) == [(0.125, 0.01)]  # the reference itself has no error to show
    assert "| 12.5 |" in rollout_table(groups(folder))
    assert solver_front(results[:1], 0.02) == []
    sweep = results[0].content["metrics"]["cost"]["solver"]["sweep"]
    sweep += [{"error": 0.02, "seconds_batch": 0.2}, {"error": 1e-3, "seconds_batch": 0.5}]
    assert solver_front(results[:1], 0.005) == [(0.125, 0.01)]  # dearer and worse is beaten, beyond the least left out


def test_a_spread_needs_several_values():
    assert spread([], str) == "-"
    assert spread([None, 2.0], str) == "2.0"
    assert spread([1.0, 3.0], str) == "2.0 (1.0 to 3.0)"
    assert spread([2.0, 2.0], str) == "2.0"


def test_results_are_json_without_nan(folder):
    main = find_problems(folder)["heat_1d"]
    path = write_result(main, 7, content(float("nan"), {}))
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["metrics"]["rom"]["relative_l2"] is None


def outcome(better, difference=0.01):
    test = {"best": "pod_linear", "p_value": 0.01, "difference": difference}
    return test | {"better_on": better, "trajectories": 100}


def rewrite(problem, seed, change, rom=0.01, baselines=None):
    one = content(rom, {"persistence": 0.5, "pod_linear": 0.02} if baselines is None else baselines)
    change(one["metrics"])
    return write_result(problem, seed, one)


def test_the_runs_on_which_the_one_ahead_is_better_are_counted_over_the_seeds(folder):
    main = find_problems(folder)["heat_1d"]
    for seed, better in enumerate((30, 15)):
        rewrite(main, seed, lambda metrics, better=better: metrics.update(significance=outcome(better)))
    assert row(accuracy_table(groups(folder)), "heat_1d")[7] == "romvae, 2 times, on 45 of 200 runs"
    for seed, better in enumerate((30, 15)):
        test = outcome(better, difference=-0.02)
        rewrite(main, seed, lambda metrics, test=test: metrics.update(significance=test), 0.04)
    assert row(accuracy_table(groups(folder)), "heat_1d")[7] == "pod linear, 2 times, on 155 of 200 runs"


def test_a_speed_is_worth_nothing_where_climatology_is_as_accurate(folder):
    main = find_problems(folder)["heat_1d"]
    baselines = {"climatology": 0.02, "pod_linear": 0.03}
    for seed, error in enumerate((0.01, 0.021)):
        rewrite(main, seed, lambda metrics: None, error, baselines)
    found = groups(folder)
    assert row(rollout_table(found), "heat_1d")[8:11] == ["no skill", "no skill", "no skill"]
    assert speed_up(found[0][1]) is None
    assert speed_up(found[0][1][:1]) == 12.5
    assert "on heat_1d the forecast is no better than climatology" in in_short(found)


def test_training_is_earned_back_by_its_process_time(folder):
    def costs(metrics):
        metrics["cost"]["rom"]["mean"]["solver_batch"] = {"seconds_batch": 0.06}
        metrics["cost"]["pay_off"] = {"data_seconds": 50.0, "training_seconds": 1e6}

    main = find_problems(folder)["heat_1d"]
    rewrite(main, 0, costs)
    assert break_even(groups(folder)[0][1][0]) == pytest.approx(150 / (0.06 - 0.01), abs=1)
    rewrite(main, 0, lambda metrics: (costs(metrics), metrics["cost"]["rom"]["mean"].update(seconds_batch=0.06)))
    assert break_even(groups(folder)[0][1][0]) is None


def test_the_cheapest_baseline_that_is_as_accurate_stands_beside_a_rollout(folder):
    def costs(metrics):
        metrics["baselines"]["dmd"] = {"relative_l2": 0.01, "rollout_seconds": 0.003}
        metrics["baselines"]["opinf"] = {"relative_l2": 0.001, "rollout_seconds": 0.004}
        metrics["cost"]["solver"] |= {"batched": False, "complete": False}

    main = find_problems(folder)["heat_1d"]
    for seed in range(2):
        rewrite(main, seed, costs)
    cells = row(rollout_table(groups(folder)), "heat_1d")
    assert "dmd, 3" in cells
    assert "one by one, search cut short" in cells
    assert "dmd" not in " ".join(row(rollout_table(groups(folder)), "heat_1d/more"))


def test_the_worst_seed_decides_whether_a_target_is_reached(folder):
    main = find_problems(folder)["heat_1d"]
    for seed, held in enumerate((0.95, 0.80)):
        band = {"risk_band": {"runs_held": held, "expected_low": 0.85, "expected_high": 0.945}}
        figures = {"spread_skill": (1.0, 1.3)[seed], "crps_over_mae": 0.7, "bands": band}
        rewrite(main, seed, lambda metrics, figures=figures: metrics["rom"].update(figures))
    found = groups(folder)
    by_name = {target.what: missed(target, found) for target in TARGETS}
    assert by_name["spread over error of the mean"] == ({"heat_1d": 1.3}, 1)
    assert by_name["CRPS over mean absolute error"] == ({}, 1)
    assert [bad for what, (bad, _) in by_name.items() if "risk band" in what] == [{"heat_1d": 0.8}]
    assert "| 0.85 to 1.15 | 0 of 1 | heat_1d 1.3 |" in targets_table(found)
    assert "| at most 0.8 | 1 of 1 | nowhere |" in targets_table(found)


def test_coverage_is_judged_where_there_are_enough_runs(folder):
    main = find_problems(folder)["heat_1d"]
    coverage = TARGETS[1]
    rewrite(main, 0, lambda metrics: metrics["rom"].update(coverage_90=0.93))
    assert missed(coverage, groups(folder)) == ({}, 0)  # 100 test runs
    many = {"calibration": 200, "test": 200}
    rewrite(main, 0, lambda metrics: (metrics["rom"].update(coverage_90=0.93), metrics["data"].update(split=many)))
    assert missed(coverage, groups(folder)) == ({"heat_1d": 0.93}, 1)


def test_the_page_says_first_what_came_out_and_what_was_not_run(folder, tmp_path):
    problems = find_problems(folder, which="all")
    found = groups(folder)
    assert not_run(problems, found) == "Seed 2 not run: heat_1d.\n\nSeeds 1, 2 not run: heat_1d/more."
    problems["heat_1d/more"].result(0).unlink()
    assert "No result yet: heat_1d/more." in write_page(folder, tmp_path / "page.md").read_text()
    long = content(0.01, {"persistence": 0.5})
    long["cost"]["process_seconds"]["train"] = 1300.0
    write_result(problems["heat_1d"], 0, long)
    assert "heat_1d." not in not_run(problems, groups(folder)).replace("heat_1d/more.", "")
    assert "another method is ahead on 1 (heat_1d)" in in_short(found[:1])
    assert "* pod linear: " in methods(found)


def test_a_long_sweep_keeps_the_reference_and_every_run_that_no_other_one_beats():
    runs = [{"error": 0.0, "seconds": 9.0, "seconds_batch": 9.0}]
    runs += [{"error": 0.5**k, "seconds": 1.0 + k, "seconds_batch": 1.0 + k} for k in range(20)]
    runs += [{"error": 0.6**k, "seconds": 30.0, "seconds_batch": 30.0 if k else None} for k in range(30)]
    kept = thinned(runs)
    assert kept[0] is runs[0]
    assert [run for run in runs[1:21] if run not in kept] == []
    assert len(kept) <= LONGEST_LIST
    assert thinned(runs[:30]) == runs[:30]
    assert (
        len(thinned(runs[:1] + [{**run, "error": 1.0 - k / 99} for k, run in enumerate(runs[1:21] * 4)]))
        <= LONGEST_LIST
    )


def test_a_readme_gets_an_extract_where_it_has_room_for_one(folder, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("Nothing to fill in.\n")
    write_page(folder, tmp_path / "page.md")
    assert readme.read_text() == "Nothing to fill in.\n"
    readme.write_text(f"Before\n{BEGIN}\nan earlier table\n{END}\nafter\n")
    for _ in range(2):
        write_page(folder, tmp_path / "page.md")
        text = readme.read_text()
        assert text.startswith(f"Before\n{BEGIN}\n* Of 1 problems")
        assert text.endswith(f"| 12.5 |\n{END}\nafter\n")
        assert "| heat_1d | 2 | 1.5 % (1 % to 2 %) | pod linear 0.6 % (0.5 % to 0.7 %) | 90 % | 12.5 |" in text
        assert "an earlier table" not in text
