"""A fitted baseline is compared like a ROM: what it has no part for is left out, and the reason is given."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from romvae.baselines import Persistence, PODLinear
from romvae.baselines.model import BaselineModel
from romvae.baselines.selection import NOT_ASKED_FOR, selected
from romvae.comparison import Comparison, compare, rank
from romvae.comparison.allowance import Allowance
from romvae.comparison.further import with_baselines
from romvae.comparison.subject import NOT_OF_A_BASELINE, opponents
from romvae.cost.spent import training_seconds
from romvae.data.split import Parts
from romvae.errors import ConfigError, NumericsError
from romvae.kinds import STAGES
from romvae.report import verdict
from romvae.report.page import render
from romvae.schema import Schema

from .small_case import SMALL


@pytest.fixture(scope="module")
def model(parts: Parts) -> BaselineModel:
    fitted = PODLinear(4).fit(parts.train)
    return BaselineModel.calibrated(fitted, Schema.of(parts.train), parts.calibration, parts.train.sizes["time"] - 1)


@pytest.fixture(scope="module")
def found(model: BaselineModel, parts: Parts) -> Comparison:
    return compare(
        model, parts.test, train=parts.train, reference=SMALL, seconds={"training": 0.25}, cost_cap=0.3, batch=2
    )


def test_its_error_is_that_of_the_same_baseline_beside_a_rom(found, compared):
    """The ROM of `compared` has 4 latents, so that POD with linear dynamics stands beside it with 4 modes."""
    beside = compared.metrics["baselines"]["pod_linear"]
    for name in ("relative_l2", "vrmse", "worst_nrmse"):
        assert found.metrics["rom"][name] == pytest.approx(beside[name], rel=1e-5), name  # its fields are float32
    np.testing.assert_allclose(found.series["rom_wrong"], compared.series["baseline_pod_linear_wrong"], rtol=1e-3)


def test_what_it_has_no_part_for_is_missing_and_explained(found):
    assert "compression_relative_l2" not in found.metrics["rom"]
    assert "noise_floor" not in found.metrics["data"]
    assert "kl_per_dimension" not in found.series
    assert not [name for name in found.series if "std_" in str(name)]
    assert not found.latent.data_vars
    assert found.metrics["model"] == {"name": "pod_linear", "not_measured": NOT_OF_A_BASELINE}


def test_it_is_not_compared_with_itself_and_others_are_left_out_with_their_reason(found):
    assert set(found.metrics["baselines"]) == {"persistence", "climatology", "dmd", "opinf"}
    left_out = found.metrics["baselines_left_out"]
    assert left_out["pod_linear"] == "it is the model itself"
    assert "parameters" in left_out["pod_rbf"]  # random initial fields do not follow from the viscosity


def test_a_rom_meets_the_strong_cheap_baselines_without_being_asked(compared):
    assert {"dmd", "opinf", "pod_linear"} <= set(compared.metrics["baselines"])
    assert {"pod_network", "fno"}.isdisjoint(compared.metrics["baselines"])
    left_out = compared.metrics["baselines_left_out"]
    costly = {"pod_network", "fno"}
    assert {"pod_rbf", "pod_gp"} | costly <= set(left_out) <= {"pod_rbf", "pod_gp", "pod_linear_free"} | costly
    assert {left_out[name] for name in costly} == {NOT_ASKED_FOR}
    assert "The strongest baselines were not run" in " ".join(verdict(compared.metrics))
    free = compared.metrics["baselines"].get("pod_linear_free")
    assert (free is None) == ("those of pod_linear" in left_out.get("pod_linear_free", ""))
    assert "model" not in compared.metrics


def test_named_baselines_are_the_only_ones_and_unknown_ones_are_refused_before_anything_is_computed(rom, parts):
    few = {"train": parts.train, "members": 8, "cost_cap": 0.0}
    found = compare(rom, parts.test, baselines=["climatology", Persistence()], **few)
    assert list(found.metrics["baselines"]) == ["climatology", "persistence"]
    assert found.metrics["baselines_left_out"] == dict.fromkeys(("pod_network", "fno"), NOT_ASKED_FOR)
    with pytest.raises(ConfigError, match=r"'climate' is unknown.*Expected cheap, all, or some of persistence"):
        compare(None, parts.test, baselines="climate", **few)


def test_a_baseline_that_cannot_be_fitted_is_left_out_and_ends_no_comparison(rom, parts):
    class Refusing(Persistence):
        name = "refusing"

        def fit(self, train, **options):
            raise NumericsError("refusing: all candidates diverged on held-out trajectories.")

    few = {"train": parts.train, "members": 8, "cost_cap": 0.0}
    found = compare(rom, parts.test, baselines=[Refusing(), "persistence"], **few)
    assert list(found.metrics["baselines"]) == ["persistence"]
    assert "all candidates diverged" in found.metrics["baselines_left_out"]["refusing"]


def test_cheap_baselines_share_a_fifth_of_the_training_and_costly_ones_have_all_of_it():
    threads = torch.get_num_threads()
    allowance = Allowance({"simulate": 7000.0, "vae": 400.0, "dynamics": 600.0})
    assert allowance.of("dmd") == 200.0 * threads
    allowance.take("dmd", 150.0 * threads)
    assert allowance.of("opinf") == pytest.approx(50.0 * threads)
    allowance.take("opinf", 70.0 * threads)
    assert allowance.of("pod_linear_free") == 0.0
    assert allowance.of("fno") == 1000.0 * threads
    assert Allowance({"vae": 1.0}).of("dmd") == 60.0  # a minute in any case
    assert Allowance({"simulate": 7.0}).of("dmd") is None
    known = Allowance({"vae": 400.0, "dynamics": 600.0}, {"vae": 500.0, "dynamics": 1500.0, "simulate": 9e9})
    assert known.of("fno") == 2000.0
    assert known.of("dmd") == 400.0


def test_what_a_training_cost_is_counted_where_its_clock_was_read_and_estimated_where_not():
    walls = {"simulate": 1.0, **dict.fromkeys(STAGES, 10.0)}
    assert training_seconds({"simulate": 1.0}, {}, 2) is None
    assert training_seconds(walls, {}, 2) == 20.0 * len(STAGES)
    assert training_seconds(walls, {"finetune": 3.0}, 2) == 20.0 * (len(STAGES) - 1) + 3.0
    assert training_seconds({}, {"training": 7.0}, 2) == 7.0
    assert training_seconds({"training": 1.0, "other_models": 5.0}, {}, 2) == 2.0


def test_baselines_choose_on_what_the_rom_decides_on_and_are_fitted_to_all_of_the_training(rom, parts):
    got = {}

    class Noting(Persistence):
        name = "noting"

        def fit(self, train, *, validation=None, **options):
            got.update(train=train, validation=validation)
            return super().fit(train)

    few = {"train": parts.train, "members": 8, "cost_cap": 0.0}
    compare(rom, parts.test, baselines=[Noting()], validation=parts.variance, **few)
    assert got["validation"] is parts.variance
    assert got["train"] is parts.train


def test_pod_with_network_dynamics_gets_the_settings_of_the_roms_dynamics(rom, parts):
    (chosen,), left_out = opponents(rom, parts.train, ["pod_network"])
    assert list(left_out) == ["fno"]
    assert chosen.latent == rom.vae.latent
    assert (chosen.model["hidden"], chosen.model["members"]) == (8, 2)
    assert chosen.model["stride"] == rom.dynamics.stride
    told = {"dynamics": "gru", "hidden": 7, "channels": 3}
    (chosen,), _ = opponents(rom, parts.train, ["pod_network"], told, {"horizon": 5, "vae_steps": 9})
    assert chosen.model == {"dynamics": "gru", "hidden": 7}
    assert chosen.training == {"horizon": 5}


def test_baselines_that_are_added_later_give_the_same_comparison(rom, parts):
    few = {"train": parts.train, "members": 8, "cost_cap": 0.0}
    whole = compare(rom, parts.test, baselines=["climatology", "persistence", "pod_linear"], **few).metrics
    best = whole["significance"]["best"]
    others = [name for name in whole["baselines"] if name != best]
    part = compare(rom, parts.test, baselines=others, **few).metrics
    more, failed = with_baselines(
        part, rom, parts.test, train=parts.train, baselines=selected([best], parts.train, 4)[0], members=8, seed=0
    )
    assert failed == {}
    assert more["baselines_left_out"] == whole["baselines_left_out"]
    assert more["significance"] == whole["significance"]
    assert set(more["baselines"]) == set(whole["baselines"])
    assert part["significance"]["best"] != best  # what was given is not changed
    assert more["rom"] == part["rom"]


def test_it_has_one_kind_of_forecast_and_no_decoder_to_be_timed(found):
    cost = found.metrics["cost"]
    assert list(cost["rom"]) == ["mean"]
    assert "over_decoder" not in cost["rom"]["mean"]
    assert cost["pay_off"]["training_seconds"] == 0.25 * cost["threads"]


def test_the_page_names_it_and_says_what_is_left_out(found, tmp_path):
    assert verdict(found.metrics)[1] == (
        "The model is POD with linear dynamics, one of the baselines: it has no latent code, and what a code would "
        "tell is left out."
    )
    few = replace(found, examples=found.examples.isel(trajectory=[0], time=slice(0, 3)))  # fewer pictures to draw
    few.save(tmp_path / "c")
    page = render(Comparison.load(tmp_path / "c"))
    assert "small_burgers: report on POD + linear dynamics, a baseline" in page
    assert '<tr class=rom><th scope="row">POD + linear dynamics</th>' in page
    assert "Uncertainty of POD + linear dynamics" in page
    # No sentence, title or alternative text calls it a ROM; what is drawn are paths in its pictures.
    text = re.sub(r"data:image[^\"]*", "", page[page.index("<body>") :])
    assert [text[hit.start() - 60 : hit.end() + 20] for hit in re.finditer(r"\bROMs?\b", text)] == []
    for reason in (*NOT_OF_A_BASELINE.values(), "it is the model itself"):
        assert reason in page
    assert 'id="latent"' not in page
    assert "The two parts add as variances" not in page


def test_it_is_ranked_among_roms(found, compared):
    ranking = rank({"code": compared, "line": found})
    first, second = ranking.metrics["runs"]
    assert (first["name"], first["model"], first["latent"]) == ("line", "pod_linear", None)
    assert (second["name"], second["model"], second["latent"]) == ("code", "vae", 4)
