"""Long runs: statistics some snapshots at a time, and divergence as a result."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.baselines import Persistence
from romvae.baselines.model import BaselineModel
from romvae.comparison import compare, passing
from romvae.comparison.long_run import long_run, long_run_scores
from romvae.errors import ConfigError, DivergedError, FewMembersWarning, NumericsError
from romvae.metrics import FieldStatistics, attractor, attractor_differences
from romvae.report import verdict
from romvae.rom import ROM
from romvae.testing import mock_snapshots


def _rom(fields: tuple[str, ...] = ("u",)) -> tuple[ROM, xr.Dataset]:
    data = mock_snapshots(2, fields, trajectories=12, times=8, shape=(12, 8))
    return ROM.for_data(data, latent=3, channels=4, hidden=8, members=2, dynamics="linear").eval(), data


class _Growing(torch.nn.Module):
    """Linear dynamics whose codes grow by a factor with every stored step, of the first trajectory only."""

    def __init__(self, inner: torch.nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def passing(self, z0, c, steps, length, **along):
        growth = self.factor ** torch.arange(steps + 1, dtype=torch.float32)[:, None, None, None]
        path = z0 + 0 * growth
        path[:, :, 0] = z0[:, 0] * growth[:, :, 0]
        yield 0, path


@pytest.mark.parametrize("masked", [False, True])
def test_statistics_in_parts_are_those_of_everything_at_once(masked):
    rng = np.random.default_rng(0)
    mask = rng.random((12, 8)) < 0.7 if masked else None
    run, truth = (scale * rng.standard_normal((6, 40, 12, 8)) + 1 for scale in (1.0, 1.2))
    whole = attractor({"u": run}, {"u": truth}, mask)
    parts = FieldStatistics(mask, tail=True), FieldStatistics(mask)
    for rows in (slice(0, 4), slice(4, 6)):
        for times in (slice(0, 3), slice(3, 33), slice(33, 40)):
            for each, values in zip(parts, (run, truth), strict=True):
                each.add(values[rows, times], block=rows.start)
    found = attractor_differences({"u": parts[0]}, {"u": parts[1]})
    assert found == pytest.approx(whole, rel=1e-12)
    inside = [u if mask is None else u[..., mask] for u in (run, truth)]
    assert whole["std_error"] == pytest.approx(abs(inside[0].std() / inside[1].std() - 1), rel=1e-12)
    assert whole["mean_error"] == pytest.approx(abs(inside[0].mean() - inside[1].mean()) / inside[1].std(), rel=1e-9)
    assert whole["largest_over_largest"] == abs(inside[0]).max() / abs(inside[1]).max()
    frozen = np.concatenate([run, run[:, -1:].repeat(10, 1)], 1)
    assert attractor({"u": frozen}, {"u": truth}, mask)["frozen"] is True


def test_a_shift_of_all_values_moves_mean_and_distribution_by_it_and_nothing_else():
    u = np.random.default_rng(1).standard_normal((3, 50, 32))
    found = attractor({"u": u + 2 * u.std()}, {"u": u})
    assert found["mean_error"] == pytest.approx(2)
    assert found["distribution_error"] == pytest.approx(2)
    assert found["std_error"] == pytest.approx(0, abs=1e-12)


def test_a_long_run_has_the_statistics_of_its_rollout(monkeypatch):
    rom, data = _rom(("u", "v"))
    monkeypatch.setattr(passing, "SCORED", 5 * 2 * 8 * 12 * 8)  # five trajectories at once
    starts = data.isel(trajectory=slice(0, 3))
    found = long_run(rom, [data], starts, 40, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewMembersWarning)
        run = rom.rollout(starts.isel(time=0), 40, members=1, seed=5).isel(time=slice(4, None))
    names = ("u", "v")
    expected = attractor({n: run[n].values for n in names}, {n: data[n].values for n in names})
    # A few points stand for the distribution; single precision decodes other batches to other last bits.
    expected["distribution_error"] = pytest.approx(expected["distribution_error"], abs=0.1)
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name
    assert (found["steps"], found["trajectories"]) == (40, 3)
    assert found["time"] == pytest.approx(40 * rom.schema.dt)


def test_two_parts_of_the_data_say_what_chance_leaves_open():
    rom, data = _rom()
    first, rest = data.isel(trajectory=slice(0, 4)), data.isel(trajectory=slice(4, None))
    found = long_run(rom, [first, rest], first, 20, 0)
    whole = long_run(rom, [data], first, 20, 0)
    for name in ("spectrum_error", "std_error", "largest_over_largest"):
        assert found[name] == pytest.approx(whole[name], rel=1e-9)
    expected = attractor({"u": first["u"].values}, {"u": data["u"].values})
    assert found["data_spectrum_error"] == pytest.approx(expected["spectrum_error"], rel=1e-9)
    assert "data_spectrum_error" not in whole


def test_a_run_that_diverges_ends_with_its_step_and_not_the_comparison():
    rom, data = _rom()
    rom.dynamics = _Growing(rom.dynamics, 1.5)
    x, _ = rom.normalised(data)
    with torch.no_grad():
        z = abs(rom.vae.encoder(x[:4, 0]).mean)
    bound = 1e4 * max(1.0, float(z.max()))
    first = next(k for k in range(200) if float(z[0].max()) * 1.5**k > bound)
    with pytest.raises(DivergedError, match=f"grown more than 10000 times at step {first} of 200") as caught:
        rom.rollout(data.isel(time=0, trajectory=slice(0, 4)), 200, members=8)
    assert caught.value.step == first
    assert isinstance(caught.value, NumericsError)
    found = compare(rom, data, members=8, cost_cap=0.0, long_run=200)
    run = found.metrics["rom"]["long_run"]
    assert run == {
        "steps": 200,
        "time": pytest.approx(200 * rom.schema.dt),
        "trajectories": 4,
        "bounded": False,
        "diverged_at_step": first,
    }
    assert np.isfinite(found.metrics["rom"]["relative_l2"])
    words = " ".join(verdict(json.loads(json.dumps(found.metrics))))
    assert f"A run from 4 held-out starts diverged at step {first} of 200" in words


def test_a_comparison_says_how_the_long_run_went_and_leaves_it_out_unless_asked(rom, parts, compared):
    found = compare(rom, parts.test, train=parts.train, baselines=[Persistence()], members=8, cost_cap=0.0, long_run=50)
    run = found.metrics["rom"]["long_run"]
    assert run["bounded"] in (True, False)
    assert run["trajectories"] == 4
    assert run["data_spectrum_error"] > 0
    words = " ".join(verdict(found.metrics))
    assert "Over 50 steps from 4 held-out starts" in words
    assert "long_run" not in compared.metrics["rom"]
    assert "held-out starts" not in " ".join(verdict(compared.metrics))


def test_what_cannot_be_run_on_says_why(rom, parts):
    fitted = BaselineModel.calibrated(Persistence().fit(parts.train), rom.schema, parts.calibration, 10)
    reason = long_run_scores(fitted, parts.test, None, 50, 0)["long_run"]["not_measured"]
    assert "baseline" in reason
    assert long_run_scores(rom, parts.test, None, None, 0) == {}
    with pytest.raises(ConfigError, match="long_run is 9, expected 10 steps or more"):
        compare(rom, parts.test, members=8, cost_cap=0.0, long_run=9)
