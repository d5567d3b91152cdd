"""A ROM that diverges on some held-out trajectories has no error; where it did is said, and all else is there."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.baselines import Climatology, Persistence
from romvae.baselines.model import BaselineModel
from romvae.commands.text import places, skill
from romvae.comparison import Comparison, compare, rank
from romvae.errors import DataError, NumericsError
from romvae.report import verdict, write_metrics
from romvae.report.page import render
from romvae.report.ranking import render_ranking
from romvae.rom import ROM


@pytest.fixture(scope="module")
def wild(rom, parts) -> tuple[ROM, xr.Dataset]:
    """Codes that drift by 500 times the normalised parameter in a large step, and data with two parameters far out.

    Within the trained range that parameter is at most 1: ten steps stay below the bound of 10,000, at 97 and more none.
    """
    wild, (known,) = copy.deepcopy(rom), rom.schema.parameters
    values = parts.test[known.name].values.clip(known.low, known.high)
    values[[1, -1]] = [30 * known.high, 60 * known.high]
    test = parts.test.assign_coords({known.name: ("trajectory", values, parts.test[known.name].attrs)})
    with torch.no_grad():
        for part in (*wild.dynamics.weights, *wild.dynamics.biases, wild.dynamics.linear):
            part.zero_()
        wild.dynamics.scale.fill_(1.0)
        wild.dynamics.linear[:, rom.vae.latent] = 500.0
    return wild, test


@pytest.fixture(scope="module")
def broken(wild, parts) -> Comparison:
    rom, test = wild
    return compare(rom, test, train=parts.train, baselines=[Climatology()], members=8, cost_cap=1.0)


def test_what_diverged_where_is_recorded_and_the_baselines_are_scored(broken, wild, parts):
    rom, test = wild
    found, count = broken.metrics["rom"]["diverged"], test.sizes["trajectory"]
    assert broken.metrics["rom"]["relative_l2"] is None
    assert found["trajectories"] == [1, count - 1]
    assert (found["of"], found["outside"]) == (count, 2)
    for row, step in zip(found["trajectories"], found["steps"], strict=True):  # alone they do so at the same step
        with pytest.raises(NumericsError, match=f"at step {step} of 10"):
            rom.rollout(test.isel(time=0, trajectory=[row]), steps=10, members=8)
    assert "the latent state of trajectory " in found["reason"]
    assert "Its parameters lie outside of the trained range (viscosity = " in found["reason"]
    alone = compare(rom, test.isel(trajectory=[0, 2]), train=parts.train, baselines=[Climatology()], cost_cap=0.0)
    assert np.isfinite(alone.metrics["rom"]["relative_l2"])
    assert np.isfinite(broken.metrics["baselines"]["climatology"]["relative_l2"])
    assert "significance" not in broken.metrics
    assert "cost" not in broken.metrics


def test_the_verdict_says_it_first_and_page_terminal_and_metrics_are_written(broken, tmp_path):
    words, count = verdict(broken.metrics), broken.metrics["rom"]["diverged"]["of"]
    assert words[0].startswith(f"The ROM diverged on 2 of {count} held-out trajectories (first at step ")
    assert "cannot be used as it is: train the dynamics for more steps" in words[0]
    assert words[0].endswith("2 of these trajectories have parameters outside of the trained range.")
    assert words[1].startswith("The ROM loses here, use climatology")
    assert words[-1].startswith("Do not use it for")
    written = json.loads(write_metrics(broken, tmp_path).read_text(), parse_constant=pytest.fail)
    assert written["rom"]["relative_l2"] is None
    broken.save(tmp_path / "c")
    again = Comparison.load(tmp_path / "c")
    assert again.metrics == broken.metrics
    assert "rom                  diverged" in skill(again.metrics)
    page = render(again)
    assert "The ROM diverged on 2 of" in page
    assert "<td>diverged</td>" in page
    assert "Its parameters lie outside of the trained range" in page


def test_a_run_that_diverged_is_last_in_a_ranking_and_not_tested(broken, wild, rom):
    whole = compare(rom, wild[1], members=8, cost_cap=0.0)
    ranking = rank({"broken": broken, "whole": whole})
    assert [run["name"] for run in ranking.metrics["runs"]] == ["whole", "broken"]
    last = ranking.metrics["runs"][1]
    assert last["relative_l2"] is None
    assert "against_best" not in last
    assert "2. broken diverged" in places(ranking.metrics)
    page = render_ranking(ranking)
    assert "Forecasts of broken diverged: there is no error to compare." in page
    assert "<td>diverged</td>" in page
    with pytest.raises(DataError, match="the forecasts of all runs diverged"):
        rank({"a": broken, "b": broken})


class _Breaking(Persistence):
    """Breaks down on one initial field, and does not say on which."""

    bad: np.ndarray

    def rollout(self, start, times):
        if any(np.array_equal(u, self.bad) for u in np.atleast_2d(start["u"].values)):
            raise NumericsError("a forecast diverged.")
        return super().rollout(start, times)


def test_of_a_baseline_that_does_not_say_which_they_are_found_by_halving(parts, rom):
    baseline = _Breaking().fit(parts.train)
    baseline.bad = parts.test["u"].values[5, 0]
    model = BaselineModel.calibrated(baseline, rom.schema, parts.calibration, 10)
    found = compare(model, parts.test, cost_cap=0.0).metrics
    assert found["rom"]["diverged"]["trajectories"] == [5]
    assert found["rom"]["diverged"]["steps"] == [None]
    assert verdict(found)[0] == (
        f"Persistence diverged on 1 of {parts.test.sizes['trajectory']} held-out trajectories and cannot be used as it "
        "is."
    )
