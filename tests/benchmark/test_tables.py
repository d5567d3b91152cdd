"""Baselines beside published figures, process times of fits, coverage by number of runs, commits."""

from __future__ import annotations

import pytest

from romvae.benchmark import find_problems
from romvae.benchmark.machines import machines_table
from romvae.benchmark.result import write_result
from romvae.benchmark.summary import in_short
from romvae.benchmark.tables import budget_sentence, published_table
from tests.benchmark.conftest import make_folder
from tests.benchmark.fake import RECIPE, content, groups, rewrite

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def with_worst(worst, own=0.02, value="3.8 %", metric="metrics.rom.worst_relative_l2", ranks=None):
    """A recipe whose published figure is of the worst snapshot, and a result in which baselines have it too."""
    one = content(0.01, dict.fromkeys(worst, 0.5), worst_relative_l2=own)
    for name, error in worst.items():
        one["metrics"]["baselines"][name]["worst_relative_l2"] = error
    one["baselines"] = {"chosen": {name: {"rank": rank} for name, rank in (ranks or {}).items()}}
    text = RECIPE.replace("metrics.rom.nrmse", metric).replace('"0.5 | 0.6"', f'"{value}"')
    return text, one


def here(folder):
    """Method, figure and note of the rows that were run here."""
    lines = [line.split(" | ") for line in published_table(groups(folder)).splitlines() if "| run here |" in line]
    return [(cells[1], cells[4], cells[5].removesuffix("|").strip()) for cells in lines]


@pytest.mark.parametrize(
    ("worst", "rows"),
    [
        ({"dmd": 0.015, "pod_rbf": 0.001, "opinf": 0.03}, [("pod rbf", "0.1 %", ""), ("dmd", "1.5 %", "")]),
        ({"pod_rbf": 0.05, "opinf": 0.03}, [("opinf", "3 %", "")]),  # none is better: the best one
        ({"pod_rbf": None, "opinf": None}, []),  # they diverged
        ({}, []),
    ],
)
def test_baselines_of_the_same_result_that_beat_romvae_stand_beside_it(tmp_path, worst, rows):
    text, one = with_worst(worst)
    folder = make_folder(tmp_path, text)
    write_result(find_problems(folder)["heat_1d"], 0, one)
    assert here(folder) == [("romvae", "2 %", ""), *rows]


def test_a_baseline_says_how_many_modes_it_chose(tmp_path):
    text, one = with_worst({"pod_rbf": 0.001}, ranks={"pod_rbf": 16})
    folder = make_folder(tmp_path, text)
    write_result(find_problems(folder)["heat_1d"], 0, one)
    assert here(folder)[1] == ("pod rbf", "0.1 %", "16 modes")


def test_a_measure_that_baselines_have_not_leaves_romvae_alone(tmp_path):
    text, one = with_worst({"pod_rbf": 0.001}, metric="further.as_published.vrmse")
    folder = make_folder(tmp_path, text)
    write_result(find_problems(folder)["heat_1d"], 0, one)
    assert [name for name, _, _ in here(folder)] == ["romvae"]


def test_a_baseline_is_compared_on_the_seeds_that_it_was_run_on(tmp_path):
    """Below romvae's mean over all seeds, and yet worse than romvae on its own seed."""
    text, first = with_worst({"opinf": 0.2, "pod_rbf": 0.02}, own=0.01)
    _, second = with_worst({"opinf": 0.1}, own=0.09)
    folder = make_folder(tmp_path, text)
    for seed, one in enumerate((first, second)):
        write_result(find_problems(folder)["heat_1d"], seed, one)
    assert [name for name, _, _ in here(folder)] == ["romvae", "pod rbf"]  # twice as far off, opinf three times
    _, second = with_worst({"opinf": 0.001}, own=0.5)
    write_result(find_problems(folder)["heat_1d"], 1, second)
    assert [name for name, _, _ in here(folder)] == ["romvae", "opinf"]


def test_the_longest_fit_is_set_beside_the_training_it_may_take_as_long_as(folder):
    assert budget_sentence(groups(folder)) == ""
    main, more = find_problems(folder, which="all").values()
    for problem, seconds in ((main, 99.0), (more, 112.0)):
        rewrite(
            problem, 0, lambda metrics, seconds=seconds: metrics["baselines"]["pod_linear"].update(fit_seconds=seconds)
        )
    text = budget_sentence(groups(folder))
    assert "longest of the 2 fits of baselines took 1.12 times" in text
    assert "(pod linear on `heat_1d/more`); 1 took more" in text


def test_coverage_names_its_denominator_and_what_is_inside_of_the_others(folder):
    main, more = find_problems(folder, which="all").values()

    def covered(problem, coverage, runs):
        change = {"calibration": runs, "test": runs}
        for seed in range(2 if problem is main else 1):
            one = content(0.01, {}, coverage_90=coverage)
            one["metrics"]["data"]["split"] = change
            write_result(problem, seed, one)

    covered(main, 0.93, 200)
    covered(more, 0.91, 64)
    text = in_short(groups(folder))
    assert "on 0 of the 1 problems with at least 200 calibration and 200 test runs (outside: heat_1d 93 %), " in text
    assert "and on 1 of the 1 problems with fewer: 1 of 2 in all." in text
    covered(main, 0.9, 200)
    covered(more, 0.9, 200)
    assert "on 2 of the 2 problems with at least 200 calibration and 200 test runs." in in_short(groups(folder))
    covered(main, 0.9, 64)
    covered(more, 0.95, 64)
    assert "of the time on 1 of the 2 problems with fewer (outside: heat_1d/more 95 %)." in in_short(groups(folder))


@pytest.mark.parametrize(
    ("commit", "words"),
    [(COMMIT, "0123456"), (f"{COMMIT}+changes", "0123456+"), ("none", "commit unknown"), (None, "commit unknown")],
)
def test_each_command_has_the_commit_that_it_was_run_at(folder, commit, words):
    main = find_problems(folder)["heat_1d"]
    one = content(0.01, {})
    one["versions"]["commit"] = commit
    write_result(main, 0, one)
    assert f"`romvae benchmark heat_1d --threads 2` ({words}" in machines_table(groups(folder))


def test_a_command_of_several_seeds_has_the_commits_of_all(folder):
    main, more = find_problems(folder, which="all").values()
    for seed, commit in enumerate((COMMIT, f"{COMMIT[::-1]}+changes")):
        one = content(0.01, {})
        one["versions"]["commit"] = commit
        write_result(main, seed, one | {"command": f"romvae benchmark heat_1d --seeds {seed} --threads 2"})
    more.result(0).unlink()
    assert "`romvae benchmark heat_1d --threads 2` (0123456, 7654321+) |" in machines_table(groups(folder))
