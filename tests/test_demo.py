"""The main job from end to end on tiny settings, and recipes that agree with the files beside the cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import xarray as xr

from romvae.comparison import Comparison
from romvae.data import open_snapshots
from romvae.demo import QUICK, RECIPES, run_demo
from romvae.errors import ConfigError, OutputError
from romvae.rom import ROM
from romvae.settings import TrainSettings
from romvae.settings_file import load_settings
from romvae.solvers import CASES

SIMULATIONS = Path(__file__).parents[1] / "simulations"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    stages = []
    metrics = run_demo(out, quick=True, progress=lambda stage, done, total, note="": stages.append(stage))
    return out, metrics, stages


def test_the_demo_leaves_data_model_comparison_report_and_metrics(demo):
    out, metrics, stages = demo
    assert sorted(p.name for p in out.iterdir()) == [
        "comparison",
        "data.zarr",
        "metrics.json",
        "model",
        "report.html",
    ]
    assert json.loads((out / "metrics.json").read_text())["rom"] == metrics["rom"]
    order = ["simulate", "vae", "variance", "dynamics", "calibration", "rollout", "baselines", "cost", "report"]
    beside = ("encode", "dynamics: first forecasts")  # before the variance too, where POD is tried
    assert [stage for stage in dict.fromkeys(stages) if stage not in beside] == order
    assert "encode" in stages


def test_the_metrics_hold_the_documented_keys(demo):
    _, metrics, _ = demo
    rom = metrics["rom"]
    for key in ("relative_l2", "worst_relative_l2", "worst_nrmse", "vrmse", "crps", "compression_relative_l2"):
        assert math.isfinite(rom[key]), key
    assert 0 <= rom["coverage_90"] <= 1
    assert len(rom["coverage_90_fifths"]) == len(rom["coverage_90_fifths_se"]) == 5
    assert {"persistence", "climatology", "pod_linear"} <= set(metrics["baselines"])
    stages = ("simulate", "vae", "variance", "dynamics", "calibration", "rollout", "solver", "report", "total")
    assert all(metrics["seconds"][stage] > 0 for stage in stages)
    assert metrics["data"]["split"] == dict(QUICK.split or {})


def test_what_was_measured_follows_from_the_files(demo):
    """Coverage and error of the saved model on the stored test part are the figures of the report."""
    out, metrics, _ = demo
    data = open_snapshots(out / "data.zarr")
    test = data.isel(trajectory=(data["split"] == 3).values)
    forecast = ROM.load(out / "model").rollout(test.isel(time=0), members=16, seed=0).isel(time=slice(1, None))
    truth = test["u"].isel(time=slice(1, None)).values
    error = ((forecast["u"].values - truth) ** 2).sum() / (truth.astype(float) ** 2).sum()
    assert metrics["rom"]["relative_l2"] == pytest.approx(math.sqrt(error), rel=1e-4)
    inside = (truth >= forecast["u_lower"].values) & (truth <= forecast["u_upper"].values)
    assert metrics["rom"]["coverage_90"] == pytest.approx(inside.mean(), abs=1e-6)


def test_a_comparison_survives_saving(demo):
    out, metrics, _ = demo
    kept = Comparison.load(out / "comparison")
    assert kept.metrics["rom"] == metrics["rom"]
    kept.save(out.parent / "again")
    again = Comparison.load(out.parent / "again")
    xr.testing.assert_identical(kept.series, again.series)
    xr.testing.assert_identical(kept.examples, again.examples)


def test_nothing_is_overwritten_and_an_unknown_case_is_refused(demo, tmp_path):
    out, _, _ = demo
    before = (out / "metrics.json").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        run_demo(out, quick=True)
    assert (out / "metrics.json").read_bytes() == before
    with pytest.raises(ConfigError, match="burgers_1d"):
        run_demo(tmp_path / "x", case="burger_1d")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("case", RECIPES)
def test_the_settings_beside_a_case_are_the_ones_of_the_demo(case):
    settings = load_settings(TrainSettings, SIMULATIONS / case / "rom.yaml", None)
    assert settings.model.model_dump(exclude_unset=True) == dict(RECIPES[case].model)
    assert settings.training.model_dump(exclude_unset=True) == dict(RECIPES[case].training)


@pytest.mark.slow
def test_a_case_with_a_split_of_its_own_has_a_quick_demo(tmp_path):
    metrics = run_demo(tmp_path / "out", quick=True, case="burgers_1d_parametric")
    assert metrics["data"]["split"] == {"train": 25, "variance": 1, "calibration": 2, "test": 2}
    assert "pod_rbf" in metrics["baselines"]


def test_every_case_has_its_folder():
    assert set(CASES) == {path.name for path in SIMULATIONS.iterdir() if path.is_dir()}
