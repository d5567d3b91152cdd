"""What the page says of the choice among several models."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from romvae.baselines import registered
from romvae.report import verdict
from romvae.report.chosen import choice, in_words, left_out_rows, tried_rows
from romvae.report.page import render

from .fake import fake_comparison

RANKING = {
    "chosen": "pod_rbf",
    "trajectories": 9,
    "entries": [
        {"name": "pod_rbf", "relative_l2": 0.004, "seconds": 0.2},
        {"name": "vae", "relative_l2": 0.031, "seconds": 61.0},
        {"name": "fno", "relative_l2": None, "seconds": 0.0, "reason": "needs <neuralop>"},
    ],
}


@pytest.fixture
def metrics() -> dict[str, Any]:
    return copy.deepcopy(fake_comparison(shape=(4,), times=3, examples=1).metrics)


def test_a_rom_that_was_trained_alone_needs_no_reason(metrics):
    assert choice(metrics) == ""
    assert tried_rows(metrics) == left_out_rows(metrics) == []
    assert choice(metrics | {"ranking": RANKING | {"entries": RANKING["entries"][1:2]}}) == ""


def test_the_second_sentence_says_among_which_and_why_it_was_chosen(metrics):
    metrics |= {"ranking": RANKING, "model": {"name": "pod_rbf"}}
    assert verdict(metrics)[1] == (
        "The model is POD with radial basis functions over the parameters, one of the baselines, chosen among 2 "
        "models because its forecasts of 9 other held-out trajectories had the smallest error, 0.40 %; next came "
        "the ROM with an autoencoder with 3.1 %. It has no latent code: what a code would tell is left out."
    )
    metrics.pop("model")
    metrics["ranking"] = RANKING | {"entries": RANKING["entries"][1::-1]}
    assert verdict(metrics)[1].startswith("The model is the ROM with an autoencoder, chosen among 2 models because")


def test_all_that_were_tried_are_listed_and_reasons_are_escaped():
    found = fake_comparison(shape=(8,), times=3, examples=1)
    found.metrics |= {"ranking": RANKING, "baselines_left_out": {"pod_gp": "needs <b>one</b> parameter"}}
    assert tried_rows(found.metrics)[0] == ("POD + radial basis functions", "0.40 %, 0.2 s of process time")
    assert tried_rows(found.metrics)[2] == ("Fourier neural operator", "left out: needs <neuralop>")
    page = render(found)
    assert "left out: needs &lt;neuralop&gt;" in page
    assert "needs &lt;b&gt;one&lt;/b&gt; parameter" in page


@pytest.mark.parametrize("name", [*registered(), "vae"])
def test_every_model_has_a_name_in_words(name):
    assert in_words(name) not in (name, name.replace("_", " "))


def test_a_parameter_that_never_varied_has_no_range() -> None:
    metrics = fake_comparison().metrics
    metrics["data"]["parameters"]["gravity"] = {"low": 9.81, "high": 9.81, "units": "m s-2"}
    assert "gravity other than 9.81 m s⁻²" in verdict(metrics)[-1]


def test_a_baseline_that_loses_is_named_in_every_case_of_its_name() -> None:
    metrics = fake_comparison(loses=True).metrics
    metrics["model"] = {"name": "pod_rbf"}
    first = verdict(metrics)[0]
    assert first.startswith("POD + radial basis functions loses here, use ")
    assert " smaller than POD + radial basis functions' " in first


def test_data_of_no_case_are_called_by_their_name() -> None:
    comparison = fake_comparison(shape=(4,), times=3, examples=1)
    comparison.metrics.pop("case", None)
    comparison.info.pop("title", None)
    comparison.info["source"] = "run<1>.h5"
    assert "<h1>run&lt;1&gt;.h5: reduced-order model report</h1>" in render(comparison)


def test_what_is_known_in_closed_form_is_said_where_it_was_kept():
    plainly = {"rom": {"relative_l2": 0.02}, "baselines": {"persistence": {"relative_l2": 0.5}}}
    pod = {"compression": {"kept": "pod", "error": 0.08, "pod_error": 0.03}}
    linear = {"dynamics": {"kept": "linear", "scores": {"gru": {"crps": 0.2}, "linear": {"crps": 0.1}}}}
    network = {"compression": {**pod["compression"], "kept": "network"}, "dynamics": {"kept": "gru", "scores": {}}}
    said = " ".join(verdict({**plainly, "kept": {**pod, **linear}}))
    assert all(part in said for part in ("POD compresses", "3.0 %", "8.0 %"))
    assert all(part in said for part in ("dynamics is linear", "10 %", "20 %"))
    assert verdict({**plainly, "kept": network}) == verdict(plainly)
    assert "dynamics" not in " ".join(verdict({**plainly, "kept": pod}))
    nearly = {"kept": "pod", "error": 0.03, "pod_error": 0.031, "pod_forecast": 0.04, "forecast": 0.05}
    said = " ".join(verdict({**plainly, "kept": {"compression": nearly}}))
    assert all(part in said for part in ("first forecasts", "3.0 %", "3.1 %", "4.0 %", "5.0 %"))
