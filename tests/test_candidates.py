"""Models of every kind behind one call: ranked by held-out forecasts, kept whole, never trained twice."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import romvae
from romvae import budget, candidates
from romvae.baselines import PODRBF, Persistence, PODLinear
from romvae.baselines.model import BaselineModel, load_model
from romvae.budget import Affordable, Costs
from romvae.candidates import fit_model, forecast_error
from romvae.data import Parts
from romvae.errors import CheckpointError, ConfigError, DataError
from romvae.metrics import relative_l2
from romvae.rom import ROM
from tests.baselines.conftest import linear_waves

QUICK: dict[str, Any] = {"vae_steps": 3, "variance_steps": 2, "dynamics_steps": 3}


@pytest.fixture(scope="module")
def parts() -> Parts:
    return romvae.split(linear_waves(1, 60), seed=0)


@pytest.fixture(scope="module")
def linear(parts: Parts) -> BaselineModel:
    model, _ = fit_model(parts, "pod_linear")
    assert isinstance(model, BaselineModel)
    return model


def test_the_best_forecast_is_kept_and_the_ranking_says_so(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The problem is linear: no network of three steps can keep up with a linear model."""
    monkeypatch.setattr(candidates, "ORDER", ("vae", "pod_rbf", "pod_linear", "persistence"))
    model, ranking = fit_model(parts, "auto", training=QUICK, model={"latent": 3}, folder=tmp_path / "work")
    assert isinstance(model, BaselineModel)
    assert model.name == ranking.chosen == "pod_linear"
    assert [e.name for e in ranking.entries] == ["pod_linear", *[e.name for e in ranking.entries[1:3]], "pod_rbf"]
    errors = [e.relative_l2 for e in ranking.entries[:3]]
    assert errors == sorted(errors)
    assert ranking.entries[-1].relative_l2 is None
    assert "do not follow from the parameters" in ranking.entries[-1].reason
    assert ranking.budget == next(e.seconds for e in ranking.entries if e.name == "vae")
    assert ranking.entries[0].relative_l2 == pytest.approx(forecast_error(model, parts.variance))
    assert list(ranking.entries[0].cost) == ["training", "calibration", "forecasts"]

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a finished candidate was trained again")

    monkeypatch.setattr(PODLinear, "fit", never)
    monkeypatch.setattr(Persistence, "fit", never)
    monkeypatch.setattr(ROM, "for_data", never)
    again, same = fit_model(parts, "auto", training=QUICK, model={"latent": 3}, folder=tmp_path / "work")
    assert same.to_dict() == ranking.to_dict()
    start, steps = parts.test.isel(time=0), 5
    xr.testing.assert_identical(again.rollout(start, steps), model.rollout(start, steps))


def test_the_test_part_is_not_looked_at(parts: Parts, linear: BaselineModel) -> None:
    broken = Parts(parts.train, parts.variance, parts.calibration, parts.test * np.nan, parts.whole)
    model, _ = fit_model(broken, "pod_linear")
    start = parts.test.isel(time=0)
    xr.testing.assert_identical(model.rollout(start), linear.rollout(start))


def test_a_baseline_chooses_where_a_rom_decides_and_is_fitted_to_all_of_the_training(parts: Parts, monkeypatch) -> None:
    got: dict[str, object] = {}

    class Noting(Persistence):
        def fit(self, train, *, validation=None, **options):
            got.update(train=train, validation=validation)
            return super().fit(train)

    monkeypatch.setattr(candidates, "registered", lambda: {"persistence": Noting})
    fit_model(parts, "persistence")
    assert got["validation"] is parts.variance
    assert got["train"] is parts.train


def test_a_baseline_says_how_wrong_it_is(gaussian_parts: Parts) -> None:
    """The residual is fitted on 54 trajectories and judged on others; pooled over points and times."""
    model, _ = fit_model(gaussian_parts, "persistence")
    test = gaussian_parts.test
    forecast = model.rollout(test.isel(time=0), test.sizes["time"] - 1)
    later = slice(1, None)
    inside = (test.u >= forecast.u_lower) & (test.u <= forecast.u_upper)
    assert float(inside.isel(time=later).mean()) == pytest.approx(0.9, abs=0.05)
    residual = (test.u - forecast.u).isel(time=later)
    ratio = float(np.sqrt((residual**2).mean())) / float(np.sqrt((forecast.u_std.isel(time=later) ** 2).mean()))
    assert ratio == pytest.approx(1.0, abs=0.1)
    std = forecast.u_std.isel(time=5)
    assert float(std.max()) == float(std.min()) > 0
    assert (forecast.u_std.isel(time=0) < 1e-4).all()  # persistence is exact at the start


@pytest.fixture(scope="module")
def gaussian_parts() -> Parts:
    from tests.baselines.conftest import travelling_gaussian

    rng = np.random.default_rng(0)
    ds = travelling_gaussian(rng.uniform(0.2, 0.4, 360), rng.uniform(0.1, 0.15, 360))
    return romvae.split(ds, seed=1)


def test_kept_and_loaded_it_is_the_same_model(parts: Parts, linear: BaselineModel, tmp_path: Path) -> None:
    linear.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    start = parts.test.isel(time=0)
    xr.testing.assert_identical(loaded.rollout(start), linear.rollout(start))
    forecast = loaded.rollout(start).assign_coords(time=parts.test.time)
    assert float(relative_l2(parts.test.u, forecast.u)) < 1e-6  # forecasts are in single precision
    with pytest.raises(CheckpointError, match="holds a baseline, expected a ROM"):
        ROM.load(tmp_path / "model")
    facts = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps({**facts, "steps": 3}))
    with pytest.raises(CheckpointError, match=r"model\.json: is damaged or changed"):
        load_model(tmp_path / "model")


def test_what_does_not_apply_is_refused_where_it_is_asked_for(parts: Parts) -> None:
    with pytest.raises(ConfigError, match="name is 'oracle', expected auto or one of vae, pod_network"):
        fit_model(parts, "oracle")  # type: ignore[arg-type]
    few = Parts(parts.train.drop_vars("c"), parts.variance, parts.calibration, parts.test, parts.whole)
    with pytest.raises(DataError, match=r"pod_rbf: \d+ trajectories with 0 parameters, expected 3 or more with 1"):
        fit_model(few, "pod_rbf")


def test_out_of_range_requests_are_refused(parts: Parts, linear: BaselineModel) -> None:
    start = parts.test.isel(time=0)
    with pytest.raises(ConfigError, match="steps is 0, expected 1 or more"):
        linear.rollout(start, 0)
    with pytest.raises(ConfigError, match="level is 1, expected between 0 and 1"):
        linear.rollout(start, 3, level=1)


def test_train_and_rollout_of_a_baseline_from_the_command_line(
    gaussian_parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from romvae import cli

    data, run, out = tmp_path / "data.zarr", tmp_path / "run", tmp_path / "forecast.nc"
    romvae.write_snapshots(gaussian_parts.whole.drop_vars("split"), data)
    cli.main(["train", str(data), "--out", str(run), "--model", "pod_rbf", "--quiet"])
    assert "pod_rbf" in capsys.readouterr().out
    ranking = json.loads((run / "ranking.json").read_text())
    assert ranking["chosen"] == "pod_rbf"
    assert not (run / "candidates").exists()
    cli.main(["rollout", str(run), "--start", str(data), "--out", str(out)])
    with romvae.open_snapshots(data) as truth, xr.open_dataset(out, engine="h5netcdf") as forecast:
        truth = truth.sel(trajectory=forecast.trajectory)
        assert float(relative_l2(truth.u, forecast.u.transpose(*truth.u.dims).astype(truth.u.dtype))) < 0.02
        assert {"u_std", "u_lower", "u_upper"} <= set(forecast)
    assert PODRBF.name == load_model(run / "model").config["baseline"]
    cli.main(["train", "--resume", str(run)])
    assert "nothing to continue" in capsys.readouterr().out


@pytest.mark.slow
def test_a_budget_cuts_the_steps_of_networks(parts: Parts, tmp_path: Path) -> None:
    _, ranking = fit_model(parts, "vae", budget=1.0, folder=tmp_path, model={"latent": 3})
    steps = json.loads((tmp_path / "vae" / "steps.json").read_text())
    assert steps["vae_steps"] < 1000  # a tenth of a millisecond per step would be needed for all of them
    cost = ranking.entries[0].cost
    assert min(cost[part] for part in ("trial runs", "training", "calibration", "forecasts")) > 0


@pytest.mark.parametrize("left", [0.3, 4.0, 50.0])
def test_trials_training_and_calibration_fill_the_budget_together(left: float) -> None:
    """A training costs `fixed + share * slope`; a hundredth of the steps is the least, and all of them the most."""
    fixed, slope = 1.5, 40.0
    trials = [fixed + slope * share for share in budget._TRIALS]
    found = budget._fitting(trials, sum(trials) + left)
    assert found.spent == sum(trials)
    assert found.least == pytest.approx(fixed + 0.01 * slope)
    whole = found.spent + fixed + slope * found.share
    assert found.share == pytest.approx({0.3: 0.0, 4.0: 2.5 / 40, 50.0: 1.0}[left])
    assert found.share == 0 or whole <= sum(trials) + left + 1e-9


def test_a_first_trial_that_was_slow_does_not_make_steps_cheap() -> None:
    found = budget._fitting([3.0, 0.5], 13.5)
    assert found.share == pytest.approx(10.0 / (0.5 / 0.01))


def test_costs_are_counted_where_it_ends_and_where_it_is_continued(tmp_path: Path) -> None:
    costs = Costs(tmp_path / "vae" / "cost.json")
    with pytest.raises(ZeroDivisionError), costs.of("training"):
        _busy(0.02, then_fail=True)
    again = Costs(tmp_path / "vae" / "cost.json")
    assert again.seconds == costs.seconds
    with again.of("training"):
        _busy(0.02)
    again.add("forecasts", 5.0)
    assert again.total == again.seconds["training"] >= 0.04


def _busy(seconds: float, then_fail: bool = False) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    if then_fail:
        raise ZeroDivisionError


def test_what_does_not_fit_into_the_budget_is_left_out(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that takes three times the budget, and a network that cannot be tried for so little."""
    monkeypatch.setattr(candidates, "ORDER", ("vae", "pod_linear", "persistence"))
    monkeypatch.setattr(candidates, "affordable", lambda *args: Affordable(0.0, 0.25, 0.75))
    fit = PODLinear.fit

    def slow(self: PODLinear, *args: Any, **kwargs: Any) -> PODLinear:
        _busy(1.5)
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(PODLinear, "fit", slow)
    _, ranking = fit_model(parts, "auto", budget=0.5, model={"latent": 3})
    assert ranking.chosen == "persistence"
    reasons = {entry.name: entry.reason for entry in ranking.entries}
    assert reasons["vae"] == (
        "its trial runs took 0.25 s and the shortest training and its calibration would take 0.75 s more, the "
        "budget is 0.5 s"
    )
    assert re.fullmatch(r"it took (1\.[5-9]|2)\d* s, the budget is 0\.5 s", reasons["pod_linear"])
    for entry in ranking.entries[:2]:
        assert entry.seconds == pytest.approx(sum(entry.cost[part] for part in entry.cost if part != "forecasts"))


def test_what_auto_has_fitted_is_compared_and_not_fitted_again(parts: Parts, tmp_path: Path, monkeypatch) -> None:
    from romvae import cli
    from romvae.commands.kept import kept_baselines
    from romvae.commands.run_folder import RunFolder

    data, run, out = tmp_path / "data.zarr", tmp_path / "run", tmp_path / "c"
    romvae.write_snapshots(parts.whole.drop_vars("split", errors="ignore"), data)
    monkeypatch.setattr(candidates, "ORDER", ("vae", "pod_linear", "climatology", "persistence"))
    steps = [word for name, value in QUICK.items() for word in (f"--training.{name.replace('_', '-')}", str(value))]
    settings = ["--model.kind", "auto", "--model.latent", "3", "--training.budget", "1000", *steps]
    assert cli.main(["train", str(data), "--out", str(run), *settings, "-q"]) == 0
    ranking = json.loads((run / "ranking.json").read_text())
    kept = ["climatology", "persistence"]  # the problem is linear, neither can be the best
    assert {path.name for path in (run / "baselines").iterdir()} - {"pod_linear"} == set(kept)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a kept baseline was fitted again")

    for name in kept:
        monkeypatch.setattr(romvae.baselines.registered()[name], "fit", never)
    words = ["--cost-seconds", "0", "--members", "8", "-q"]
    assert cli.main(["compare", str(run), "--out", str(out), "--baselines", *kept, *words]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["baselines"]) == set(kept)
    spent = {entry["name"]: entry["cost"]["training"] for entry in ranking["entries"] if entry["name"] in kept}
    assert {name: metrics["baselines"][name]["fit_seconds"] for name in kept} == spent
    found = kept_baselines(RunFolder.open(run), parts.train).asked(None)
    names = [each if isinstance(each, str) else each.name for each in found]
    assert set(names) >= {"opinf", "dmd", *kept}


def test_a_kept_pod_network_forecasts_as_its_baseline_would(parts: Parts) -> None:
    """The problem is linear, and the linear dynamics that the ROM has kept follows it, members or none."""
    from romvae.baselines import PODNetwork

    model, _ = fit_model(parts, "pod_network", training=QUICK, model={"latent": 3})
    assert isinstance(model, ROM)
    start, times = parts.test.isel(time=0), parts.test.time
    found = PODNetwork.of(model, parts.train).rollout(start, times)
    mean = model.rollout(start, times.size - 1, 8)
    assert float(relative_l2(parts.test.u, found.u)) < 0.01
    assert float(relative_l2(mean.u.assign_coords(time=times), found.u)) < 0.01


def test_pod_linear_of_auto_does_not_take_the_place_of_that_of_the_latent_size(linear, tmp_path: Path, parts) -> None:
    from romvae.commands.kept import kept_baselines
    from romvae.commands.run_folder import RunFolder

    linear.save(tmp_path / "baselines" / "pod_linear")
    found = kept_baselines(RunFolder(tmp_path), parts.train)
    assert list(found.fitted) == ["pod_linear_free"]
    assert found.asked(["pod_linear"]) == ["pod_linear"]
    assert found.asked(["pod_linear_free"]) == [found.fitted["pod_linear_free"]]
