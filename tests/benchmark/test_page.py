"""The page: made of files alone, says who is ahead, what was reached, what is missing."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from romvae.benchmark import find_problems
from romvae.benchmark.chart import points_of, solver_front, solver_points
from romvae.benchmark.costs import break_even, rollout_table, speed_up, work_table
from romvae.benchmark.page import BEGIN, END, grouped, write_page
from romvae.benchmark.result import LONGEST_LIST, is_made, read_results, thinned, write_result
from romvae.benchmark.summary import in_short, methods, not_run
from romvae.benchmark.tables import (
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
from tests.benchmark.fake import RECIPE, content, groups, rewrite, row


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
    results[0].content["metrics"]["cost"]["solver"]["batched"] = True
    sweep += [{"error": 0.5, "seconds": 0.1, "seconds_batch": 0.1}]  # the time of one run, as earlier results have it
    sweep += [{"error": 0.4, "seconds": 0.1, "seconds_batch": None}]
    assert solver_points(results[:1])[0] == (0.125, 0.01)


def test_a_spread_needs_several_values():
    assert spread([], str) == "-"
    assert spread([None, 2.0], str) == "2.0"
    assert spread([1.0, 3.0], str) == "2.0 (1.0 to 3.0)"
    assert spread([2.0, 2.0], str) == "2.0"


def test_results_are_json_without_nan(folder):
    main = find_problems(folder)["heat_1d"]
    path = write_result(main, 7, content(float("nan"), {}))
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["metrics"]["rom"]["relative_l2"] is None


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
