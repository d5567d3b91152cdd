"""Recipes: inheritance of variants, what the digest depends on, messages, and those of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from romvae.benchmark import find_problems, read_problems
from romvae.benchmark.ensemble import changed_case
from romvae.errors import ConfigError
from romvae.solvers import CASES
from tests.benchmark.conftest import RECIPE, make_folder

OWN = Path(__file__).parents[2] / "simulations"


def problems(tmp_path, text=RECIPE, case="heat_1d"):
    return read_problems(make_folder(tmp_path, text, case) / case / "benchmark.yaml", case)


def test_a_variant_is_the_main_recipe_with_its_changes(tmp_path):
    main, more = problems(tmp_path).values()
    assert (main.name, more.name) == ("heat_1d", "heat_1d/more")
    assert (main.recipe.split.train, more.recipe.split.train) == (8, 12)
    assert more.recipe.split.test == main.recipe.split.test
    assert more.recipe.model == main.recipe.model
    assert more.recipe.bars == ()  # a figure to reach belongs to the sizes that it was set for
    assert main.result(3).relative_to(main.folder) == Path("results/main_seed3.json")


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("seeds: [0, 1]", "seeds: [0]", True),
        ("seeds: [0, 1]", "remark: a reason\nseeds: [0, 1]", True),
        ("at_most: 100.0", "at_most: 1.0", True),
        ('value: "0.5"', 'origin: measured, value: "0.6"', True),
        ("vae_steps: 3", "vae_steps: 4", False),
        ("points: 32", "points: 48", False),
        ("test: 4", "test: 5", False),
        ("end: 0.2", "end: 0.3", False),
    ],
)
def test_the_digest_changes_with_what_a_result_depends_on(tmp_path, old, new, same):
    before = problems(tmp_path / "a")["heat_1d"].recipe.digest
    after = problems(tmp_path / "b", RECIPE.replace(old, new, 1))["heat_1d"].recipe.digest
    assert (before == after) is same


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latents: 3\n", r"benchmark.yaml:1:1: latents: unknown setting"),
        ("model: {latent: 0}\n", r"benchmark.yaml:1:9: model.latent = 0"),
        ("variants: [a]\n", r"variants: expected names"),
        ("seeds: [0]\nvariants:\n  a:\n    members: 0\n", r"variants.a:4:5: members = 0"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        problems(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solver: {pionts: 32}\n", r"heat_1d: the solver has no setting 'pionts'.*points"),
        ("parameters: {diffusivty: 0.1}\n", r"the case has no parameter 'diffusivty'.*diffusivity"),
    ],
)
def test_a_case_is_not_changed_where_it_cannot_be(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        changed_case(problems(tmp_path, text)["heat_1d"])


def test_a_held_parameter_is_one_of_the_solver_and_no_range_any_more(tmp_path):
    case = changed_case(problems(tmp_path, "parameters: {diffusivity: 0.02}\n")["heat_1d"])
    assert case.ranges == ()
    assert case.draw(0).solver.parameters == {"diffusivity": 0.02}


def test_a_range_can_be_another(tmp_path):
    case = changed_case(problems(tmp_path, "parameters: {diffusivity: [0.02, 0.021]}\n")["heat_1d"])
    assert all(0.02 <= case.draw(i).solver.parameters["diffusivity"] <= 0.021 for i in range(5))


def test_problems_are_found_by_name_case_and_all(tmp_path):
    folder = make_folder(tmp_path)
    assert list(find_problems(folder)) == ["heat_1d"]
    assert list(find_problems(folder, which="all")) == ["heat_1d", "heat_1d/more"]
    assert list(find_problems(folder, ["heat_1d/more"])) == ["heat_1d/more"]
    assert list(find_problems(folder, ["heat_1d/*"])) == ["heat_1d", "heat_1d/more"]
    with pytest.raises(ConfigError, match=r"'heat_1d/mor' is unknown.*heat_1d/more"):
        find_problems(folder, ["heat_1d/mor"])
    with pytest.raises(ConfigError, match=r"no recipes.*--out"):
        find_problems(tmp_path / "nothing")


def test_every_case_has_a_recipe_that_its_solver_takes():
    found = find_problems(OWN, which="all")
    assert {problem.case for problem in found.values()} == set(CASES)
    for problem in found.values():
        case = changed_case(problem)
        assert case.solver(**{r.name: r.low for r in case.ranges if not r.of_initial}).grid.shape


def test_words_and_figures_of_others_leave_the_results_of_the_repository_valid():
    for problem in find_problems(OWN, which="all").values():
        plain = problem.recipe.model_copy(update={"remark": "", "published": (), "bars": (), "seeds": (0,)})
        assert problem.recipe.digest == plain.digest, problem.name


def test_figures_that_this_project_measured_are_not_called_published():
    """Those that were measured with the code of others stand beside figures that their authors published."""
    origins = {one.who: one.origin for p in find_problems(OWN, which="all").values() for one in p.recipe.published}
    measured = {who for who, origin in origins.items() if origin == "measured"}
    words = ("8000 of 28000", "EZyRB", "opinf", "Hankel", "projection on five")
    assert measured == {who for who in origins if any(word in who for word in words)}
    assert origins["GPLaSDI (Bonneville et al. 2024)"] == "recalled"


def test_one_dimensional_cases_are_calibrated_and_tested_on_200_runs_each():
    main = find_problems(OWN)
    sizes = {n: p.recipe.split for n, p in main.items() if "_1d" in n and p.recipe.split}
    assert len(sizes) > 8
    assert all(size.calibration >= 200 and size.test >= 200 for size in sizes.values())
