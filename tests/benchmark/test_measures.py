"""Figures in others' definitions and statistics of long runs, on fields whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from romvae.benchmark.measures import as_published
from romvae.metrics import attractor


def test_a_forecast_that_is_ten_per_cent_too_large_has_ten_per_cent_in_every_definition():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((3, 32, 16)) + 2
    data = xr.Dataset({"u": (("trajectory", "time", "x"), u)}, {"time": np.arange(32.0)})
    schema = SimpleNamespace(field_names=("u",), controls=())
    rom = SimpleNamespace(schema=schema, mask=None, start_times=1, rollout=lambda start, **asked: 1.1 * data)
    found = as_published(rom, data, members=1, seed=0)
    assert found["snapshot_relative_l2"] == pytest.approx(0.1, rel=1e-12)
    assert found["mean_worst_relative_l2"] == pytest.approx(0.1, rel=1e-12)
    # VRMSE takes the error, 0.1 u, in units of the snapshot's standard deviation; steps count from 1
    expected = 0.1 * np.sqrt((u**2).mean(2)) / u.std(2)
    assert found["vrmse_6_12"] == pytest.approx(expected[:, 6:13].mean(), rel=1e-3)
    assert found["vrmse_13_30"] == pytest.approx(expected[:, 13:31].mean(), rel=1e-3)


@pytest.mark.parametrize("shape", [(32,), (16, 12), (8, 8, 6)])
def test_the_same_statistics_differ_by_nothing_and_ten_per_cent_more_energy_by_ten(shape):
    u = np.random.default_rng(1).standard_normal((2, 50, *shape))
    same = attractor({"u": u}, {"u": u})
    assert same["spectrum_error"] == 0
    assert same["bounded"] is True
    more = attractor({"u": np.sqrt(1.1) * u}, {"u": u})
    assert more["spectrum_error"] == pytest.approx(0.1, rel=1e-9)
    assert more["spectrum_error_worst_wavenumber"] == pytest.approx(0.1, rel=1e-9)


def test_a_run_that_stops_or_blows_up_is_noticed():
    x = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    t = np.arange(100)[None, :, None]
    truth = np.sin(x - 0.1 * t)
    stopped = np.sin(x - 0.1 * np.minimum(t, 50))
    assert attractor({"u": stopped}, {"u": truth})["frozen"] is True
    assert attractor({"u": truth}, {"u": truth})["frozen"] is False
    assert attractor({"u": 3 * truth}, {"u": truth})["bounded"] is False
    two = np.concatenate([truth, stopped])
    assert attractor({"u": two}, {"u": truth})["frozen"] is True
    vanished = np.where(t < 50, truth, 0.0)
    assert attractor({"u": vanished}, {"u": truth})["frozen"] is True
    drifting = truth * (t < 50) + 0.5 * t
    assert attractor({"u": drifting}, {"u": truth})["frozen"] is False


def test_energy_in_another_wave_counts_twice():
    """What is missing in one wave and too much in another: both differences over the sum."""
    x = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    one, two = (np.broadcast_to(np.sin(k * x), (1, 5, 32)) for k in (2, 3))
    assert attractor({"u": two}, {"u": one})["spectrum_error"] == pytest.approx(2, rel=1e-9)
