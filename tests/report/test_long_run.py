"""What the verdict says of a long run, and how the scores of the members are shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from romvae.report import verdict
from romvae.report.charts import uncertainty_charts
from romvae.report.page import _rom_rows

from .fake import fake_comparison


def _words(**run: Any) -> str:
    """The sentences of a verdict whose long run is this one."""
    metrics = fake_comparison(shape=(4,), times=3, examples=1).metrics
    whole = {"steps": 5000, "time": 50.0, "trajectories": 4, **run}
    metrics["rom"]["long_run"] = whole
    return " ".join(verdict(metrics))


def test_a_run_that_kept_the_statistics_is_told_with_them():
    kept = {"bounded": True, "frozen": False, "spectrum_error": 0.031, "std_error": 0.012, "distribution_error": 0.02}
    start = "Over 5000 steps from 4 held-out starts, 50 times as long as these forecasts, it stayed bounded: "
    told = "its energy spectrum differs from that of the data by 3.1 %"
    assert f"{start}{told}, its standard deviation by 1.2 %" in _words(**kept)
    assert f"{told} (that of the held-out data alone by 1.0 %)" in _words(**kept, data_spectrum_error=0.01)


def test_a_run_that_went_wrong_is_not_recommended():
    late = _words(bounded=False, diverged_at_step=812)
    assert "diverged at step 812 of 5000, time 8.12 s: do not use it for long runs" in late
    large = _words(bounded=False, largest_over_largest=3.14)
    assert "it left the range of the data (its largest value is 3.1 times theirs)" in large
    assert "(it is not finite)" in _words(bounded=False, largest_over_largest=float("nan"))
    assert "stayed bounded but came to rest" in _words(bounded=True, frozen=True)


def test_without_a_long_run_nothing_is_said_of_one():
    metrics = fake_comparison(shape=(4,), times=3, examples=1).metrics
    assert "held-out start" not in " ".join(verdict(metrics))
    metrics["rom"]["long_run"] = {"not_measured": "the ROM is driven by controls, which end with the data"}
    assert "held-out start" not in " ".join(verdict(metrics))


def test_scores_of_the_members_are_shown_where_there_are_some():
    fake = fake_comparison(shape=(4,), times=5, examples=1)
    titles = [each.title for each in uncertainty_charts(fake.metrics, fake.series, fake.examples)]
    assert "What the members are worth alone" not in titles
    assert not any("members" in name for name, _ in _rom_rows(fake.metrics))
    for name, factor in (("energy_score", 2.0), ("ensemble_crps", 1.5)):
        fake.series[f"rom_{name}"] = factor * fake.series["rom_crps"]
        fake.metrics["rom"][name] = float(np.mean(fake.series[f"rom_{name}"]))
    titles = [each.title for each in uncertainty_charts(fake.metrics, fake.series, fake.examples)]
    assert titles.count("What the members are worth alone") == 1
    assert [name for name, _ in _rom_rows(fake.metrics) if "members" in name] == [
        "CRPS of the members alone",
        "energy score of the members",
    ]
