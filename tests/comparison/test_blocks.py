"""A comparison passes through memory some trajectories at a time, and nobody can tell from its numbers."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import xarray as xr

from romvae import forecast
from romvae.baselines import PODLinear
from romvae.canonical import MASK, MASK_ATTRS, N_STEPS
from romvae.comparison import Comparison, compare, passing, points
from romvae.comparison.passing import Forecasts
from romvae.comparison.points import PointSample
from romvae.comparison.tally import Means, Tally
from romvae.forecast import Request
from romvae.metrics import ause, spearman
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import recalibrate

VALUES = 7 * 2 * 12 * 8
"""Values of a trajectory."""


def data(trajectories: int, masked: bool = False) -> xr.Dataset:
    ds = mock_snapshots(2, ("u", "v"), trajectories=trajectories, times=7, shape=(12, 8))
    ds["v"] = 3 * ds["v"] + 1
    if masked:
        inside = np.ones((12, 8), np.int8)
        inside[3:6, 2:5] = 0
        ds[MASK] = (("y", "x"), inside, MASK_ATTRS)
    return ds


@pytest.fixture(scope="module")
def trained() -> tuple[ROM, xr.Dataset, xr.Dataset]:
    """A calibrated ROM that has learned nothing, held-out trajectories, and those of the training."""
    return _trained(data(49))


def _trained(ds: xr.Dataset) -> tuple[ROM, xr.Dataset, xr.Dataset]:
    rom = ROM.for_data(ds.isel(trajectory=slice(0, 10)), latent=3, channels=4, hidden=8, members=2)
    recalibrate(rom, ds.isel(trajectory=slice(10, 40)))
    return rom, ds.isel(trajectory=slice(40, 49)), ds.isel(trajectory=slice(0, 10))


def _cut_short(test: xr.Dataset) -> xr.Dataset:
    """The same with trajectories of different length; none that is scored is left of the first two."""
    test, lengths = test.copy(deep=True), np.full(9, 7)
    lengths[[0, 1, 5]] = 4, 6, 3
    for row, length in enumerate(lengths):
        for name in ("u", "v"):
            test[name].values[row, length:] = np.nan
    return test.assign_coords({N_STEPS: ("trajectory", lengths)})


@contextmanager
def blocks(rolled: int, scored: int) -> Iterator[None]:
    """Blocks of that many trajectories; a rollout computes two together, whatever the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "BLOCK", 2)
        patch.setattr(passing, "BLOCK", 2)
        patch.setattr(passing, "ROLLED", rolled * VALUES)
        patch.setattr(passing, "SCORED", scored * VALUES)
        yield


def leaves(value: Any, at: str = "") -> dict[str, Any]:
    """Everything in nested mappings and lists by its place; what was timed is left out."""
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if "seconds" not in key}
        return {k: v for key, each in kept.items() for k, v in leaves(each, f"{at}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, each in enumerate(value) for k, v in leaves(each, f"{at}[{i}]").items()}
    return {at: value}


def assert_equal(found: Comparison, expected: Comparison) -> None:
    """Every number to rounding; sums in another order differ by a few times 1e-16 of their largest terms.

    Networks compute in single precision, and their last bits depend on the batch: what is encoded again for the
    comparison (the forecasts are not) agrees to 1e-6. Bounds of bootstrap intervals are excepted from the digits, not
    from agreement: where a score takes few values (shares of points), rounding decides which of two neighbouring
    samples is the percentile.
    """
    one, other = leaves(found.metrics), leaves(expected.metrics)
    assert one.keys() == other.keys()
    for place, value in other.items():
        near = 2e-2 if ".intervals." in place else 1e-6 if "compression" in place else 1e-9
        if isinstance(value, float):
            assert one[place] == pytest.approx(value, rel=near, abs=1e-12, nan_ok=True), place
        else:
            assert one[place] == value, place
    xr.testing.assert_allclose(found.series, expected.series, rtol=1e-9, atol=1e-12)
    xr.testing.assert_allclose(
        found.examples, expected.examples, rtol=1e-4, atol=1e-5
    )  # single precision, rolled alone


@pytest.mark.parametrize(
    ("kind", "rolled", "scored"), [("whole grid", 2, 1), ("masked", 4, 3), ("ragged", 2, 100)], ids=str
)
def test_no_number_depends_on_the_size_of_the_blocks(
    trained: tuple[ROM, xr.Dataset, xr.Dataset], kind: str, rolled: int, scored: int
) -> None:
    rom, test, train = _trained(data(49, masked=True)) if kind == "masked" else trained
    test = _cut_short(test) if kind == "ragged" else test
    with blocks(100, 100):
        expected = compare(rom, test, train=train, baselines=[PODLinear(3)], members=8, cost_cap=0.0)
    with blocks(rolled, scored):
        found = compare(rom, test, train=train, baselines=[PODLinear(3)], members=8, cost_cap=0.0)
    assert expected.metrics["rom"]["bands"]
    assert expected.metrics["rom"]["quantities"]
    assert_equal(found, expected)


def test_forecasts_of_all_blocks_are_those_of_one_rollout(trained: tuple[ROM, xr.Dataset, xr.Dataset]) -> None:
    rom, test, _ = trained
    made: list[xr.Dataset] = []
    with blocks(4, 3):
        whole = rom.rollout(test.isel(time=0), 6, 8, 5)
        some = Forecasts(rom, test, Request(6, 8, 5))
        some.each(lambda rows, ahead: made.append(ahead.load()))
        assert [each.sizes["trajectory"] for each in made] == [3, 1, 3, 1, 1]
        for name in ("u", "v_std", "u_lower", "latent"):
            np.testing.assert_array_equal(np.concatenate([each[name].values for each in made]), whole[name].values)
        again = some.of([7, 2])
    np.testing.assert_allclose(again["u"].values, whole["u"].values[[7, 2]], rtol=1e-4, atol=1e-5)
    assert some.seconds > 0


def test_a_forecast_is_let_go_before_the_next_is_made(trained: tuple[ROM, xr.Dataset, xr.Dataset]) -> None:
    """So that memory holds one block, and of the others only numbers for each snapshot and a sample of points."""
    rom, test, _ = trained
    held: list[weakref.ref[Any]] = []
    with blocks(2, 2), pytest.MonkeyPatch.context() as patch:
        patch.setattr(points, "POINTS", VALUES // 8)
        tally = Tally(rom, test, {"u": 2.0, "v": 6.0}, None)
        forecasts = Forecasts(rom, test, Request(6, 8))

        def take(rows: slice, ahead: xr.Dataset) -> None:
            assert not [each for each in held if each() is not None]
            held.append(weakref.ref(ahead["u"].values.base))
            tally.add(test.isel(trajectory=rows), ahead)

        forecasts.each(take)
    assert len(held) == 5
    assert held[-1]() is None
    kept = sum(each.nbytes for each in tally.sums().values())
    assert kept < 20 * 8 * 2 * 6 * 9  # twenty numbers for each field and time of nine trajectories


def test_a_mean_of_means_weighs_them_by_their_trajectories() -> None:
    mean = Means()
    mean.add(xr.Dataset({"a": ("x", [1.0, 2.0])}), 3)
    mean.add(xr.Dataset({"a": ("x", [5.0, 2.0])}), 1)
    np.testing.assert_array_equal(mean.mean["a"], [2.0, 2.0])


def test_ranks_of_a_sample_are_those_of_all_points_as_nearly_as_chance_allows() -> None:
    """Of independent points a sample of n has a rank correlation that scatters by about 1 / sqrt(n); 4 of these."""
    rng = np.random.default_rng(0)
    std = xr.Dataset({"u": (("trajectory", "time", "x"), rng.uniform(0.1, 1.0, (30, 10, 200)))})
    truth = std.map(lambda s: s * rng.normal(size=s.shape))
    found = {}
    for most in (10**9, 30 * 500):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(points, "POINTS", most)
            sample = PointSample(1, 30, 2000)
            for rows in (slice(0, 7), slice(7, 30)):
                some, spread = truth.isel(trajectory=rows), std.isel(trajectory=rows)
                sample.add(some, some * 0, spread)
            found[most] = sample.scores()
            assert sample.taken == min(2000, most // 30)
    whole, part = found.values()
    assert whole["spearman_points"] == pytest.approx(float(spearman(truth, truth * 0, std)["u"]), rel=1e-9)
    assert whole["ause"] == pytest.approx(float(ause(truth, truth * 0, std)["u"]), rel=1e-9)
    assert part["spearman_points"] == pytest.approx(whole["spearman_points"], abs=4 / 15000**0.5)
    assert part["ause"] == pytest.approx(whole["ause"], abs=4 / 15000**0.5)
