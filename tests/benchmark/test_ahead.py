"""Who is ahead: what chance and divergence do to a lead, and why a method has no figure."""

from __future__ import annotations

import pytest

from romvae.benchmark import find_problems
from romvae.benchmark.ahead import absences, better_on, remarks, spared
from romvae.benchmark.result import WITHOUT, write_result
from romvae.benchmark.summary import in_short
from romvae.benchmark.tables import MARK, accuracy_table
from tests.benchmark.fake import content, groups, outcome, rewrite, row


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


def test_the_runs_on_which_the_one_ahead_is_better_are_counted_over_the_seeds(folder):
    main = find_problems(folder)["heat_1d"]
    for seed, better in enumerate((30, 15)):
        rewrite(main, seed, lambda metrics, better=better: metrics.update(significance=outcome(better)))
    assert row(accuracy_table(groups(folder)), "heat_1d")[7] == "romvae, 2 times, on 45 of 200 runs"
    for seed, better in enumerate((30, 15)):
        test = outcome(better, difference=-0.02)
        rewrite(main, seed, lambda metrics, test=test: metrics.update(significance=test), 0.04)
    assert row(accuracy_table(groups(folder)), "heat_1d")[7] == "pod linear, 2 times, on 155 of 200 runs"


def told_apart(p_value, better, difference):
    return {**outcome(better, difference), "p_value": p_value}


@pytest.mark.parametrize(
    ("rom", "expected"),
    [
        (0.010, "romvae, not told apart from pod linear (p = 0.4), on 45 of 200 runs"),
        (0.030, "pod linear, not told apart from romvae (p = 0.4), on 155 of 200 runs"),
    ],
)
def test_the_runs_on_which_the_first_is_better_are_counted_where_chance_explains_the_lead(folder, rom, expected):
    main = find_problems(folder)["heat_1d"]
    for seed, better in enumerate((30, 15)):
        test = told_apart(0.4, better, 0.02 - rom)
        rewrite(main, seed, lambda metrics, test=test: metrics.update(significance=test), rom)
    found = groups(folder)
    assert row(accuracy_table(found), "heat_1d")[7] == expected
    assert better_on(found[0][1]) == (45, 200)
    assert better_on(found[1][1]) is None  # never tested


@pytest.mark.parametrize("p_value", [0.01, 0.4])
@pytest.mark.parametrize(("better", "few"), [(49, True), (50, False)])
def test_leads_and_ties_that_few_runs_decide_are_named_first(folder, p_value, better, few):
    more = find_problems(folder, which="all")["heat_1d/more"]
    rewrite(more, 0, lambda metrics: metrics.update(significance=told_apart(p_value, better, 0.01)))
    where = "where it is ahead" if p_value < 0.05 else "where it is not told apart"
    text = f"less than half of the held-out runs of heat_1d/more (49 of 100), {where}."
    assert (text in in_short(groups(folder))) is few
    assert ("less than half" in in_short(groups(folder))) is few


def test_the_headline_is_of_the_methods_that_were_run_and_says_which_were_spared(folder):
    assert "least error of all methods that were run on 1," in in_short(groups(folder))
    main, more = find_problems(folder, which="all").values()
    left_out = {"baselines": {"left_out": {"fno": WITHOUT, "pod_rbf": "12 trajectories with 0 parameters"}}}
    write_result(more, 0, content(0.01, {"persistence": 0.5}) | left_out)
    assert spared(groups(folder)) == {"fno": 0}
    write_result(main, 0, content(0.01, {"persistence": 0.5, "pod_linear": 0.005, "fno": 0.1}))
    assert spared(groups(folder)) == {"fno": 1}
    assert "all methods that were run (fno on 1 of them only, for its cost) on 1" in in_short(groups(folder))
    write_result(more, 0, content(0.01, {"persistence": 0.5, "fno": 0.1}))
    write_result(main, 1, content(0.02, {"persistence": 0.7, "pod_linear": 0.007}) | left_out)
    assert spared(groups(folder)) == {}  # run on every problem, though not on every seed
