"""Statistics: those of numpy in double precision, without what does not count, with the same bits however computed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from romvae.data import open_snapshots, write_snapshots
from romvae.errors import DataError
from romvae.statistics import FieldStatistics, field_statistics, in_order, require_scale
from romvae.testing import mock_snapshots


def _data() -> xr.Dataset:
    """A large mean that drifts, a field about zero, an obstacle and trajectories that end early."""
    ds = mock_snapshots(2, ("p", "u"), trajectories=5, times=6, shape=(24, 20))
    rng = np.random.default_rng(0)
    drift = np.arange(30, dtype="f4").reshape(5, 6, 1, 1)
    ds["p"].values[:] = 101325 + drift + 5 * rng.standard_normal(ds["p"].shape)
    inside = np.ones((24, 20), dtype=np.int8)
    inside[8:11, 5:9] = 0
    lengths = np.array([6, 4, 6, 1, 6], dtype=np.int32)
    for name in ("p", "u"):
        ds[name].values[:, :, inside == 0] = np.nan
        for i, n in enumerate(lengths):
            ds[name].values[i, n:] = np.nan
    ds = ds.assign(mask=(("y", "x"), inside))
    return ds.assign_coords(n_steps=("trajectory", lengths, {"romvae_role": "valid_length"}))


def test_statistics_are_those_of_numpy_in_double_precision_of_what_counts() -> None:
    """To 1e-13 of the spread: 14 400 values and float64 leave about 1e-14."""
    ds = _data()
    for name, found in field_statistics(ds, ["p", "u"]).items():
        values = ds[name].values.astype("f8")
        used = values[np.isfinite(values)]
        assert found.count == used.size
        assert found.bad == 0
        assert found.mean == pytest.approx(used.mean(), abs=1e-13 * abs(used).max())
        assert found.std == pytest.approx(used.std(), rel=1e-12)
        assert (found.low, found.high) == (used.min(), used.max())


@pytest.mark.parametrize(("mean", "spread"), [(1e9, 1.0), (0.0, 1e-12), (-101325.0, 5.0)])
def test_a_spread_is_not_lost_on_a_large_mean(mean: float, spread: float) -> None:
    """The values themselves are rounded, by 1e-16 of the mean, and no more than that is lost."""
    values = mean + spread * np.random.default_rng(1).standard_normal(200_000)
    found = FieldStatistics().add(values)
    rounding = np.finfo(np.float64).eps * abs(mean) / spread
    assert found.std == pytest.approx(values.std(), rel=1e-12 + rounding)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12 * spread + 1e-15 * abs(mean))


def test_other_partitions_agree_to_rounding_and_the_same_one_to_the_bit() -> None:
    values = 300 + np.random.default_rng(2).standard_normal(150_001).astype("f4")
    whole = FieldStatistics().add(values)
    for cuts in ([1], [70_000, 70_001], list(range(0, 150_001, 997))):
        parts = np.split(values, cuts)
        one, two = FieldStatistics(), FieldStatistics()
        for part in parts:
            one, two = one.add(part), two.merged(FieldStatistics().add(part))
        assert one == two
        assert one.mean == pytest.approx(whole.mean, rel=1e-14)
        assert one.squares == pytest.approx(whole.squares, rel=1e-12)


def test_the_bits_depend_neither_on_the_number_of_workers_nor_on_where_the_data_are(tmp_path: Path) -> None:
    ds = _data()
    expected = field_statistics(ds, ["p", "u"])
    for workers in (2, 3, 8):
        assert field_statistics(ds, ["p", "u"], workers=workers) == expected
    for suffix in (".zarr", ".h5"):
        with open_snapshots(write_snapshots(ds, tmp_path / f"a{suffix}")) as stored:
            for workers in (1, 4):
                assert field_statistics(stored, ["p", "u"], workers=workers) == expected


def test_large_blocks_have_the_same_bits_from_a_file_and_for_any_number_of_workers(tmp_path: Path) -> None:
    """A trajectory of several blocks of 2 MiB, a block of several tiles, the last ones shorter."""
    ds = mock_snapshots(2, trajectories=3, times=7, shape=(331, 337))
    expected = field_statistics(ds, ["u"])
    assert expected["u"].std == pytest.approx(ds["u"].values.astype("f8").std(), rel=1e-12)
    with open_snapshots(write_snapshots(ds, tmp_path / "a.zarr"), check=False) as stored:
        for workers in (1, 3):
            assert field_statistics(stored, ["u"], workers=workers) == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 9.96921e36])
def test_what_is_not_finite_is_an_error_with_its_place_or_counted(bad: float) -> None:
    ds = mock_snapshots(1, trajectories=4)
    ds["u"].values[2, 3, 7] = bad
    with pytest.raises(DataError, match=r"^a: 'u' is .*, first at trajectory 2, time 3 \(time=0.3\), x 7"):
        field_statistics(ds, ["u"], "a")
    found = field_statistics(ds, ["u"], strict=False)["u"]
    rest = np.delete(ds["u"].values.astype("f8").ravel(), (2 * 6 + 3) * 16 + 7)
    assert (found.bad, found.count) == (1, rest.size)
    assert found.mean == pytest.approx(rest.mean(), abs=1e-14)


def test_one_pass_serves_several_ends() -> None:
    ds = _data()
    seen: dict[int, list[np.ndarray]] = {i: [] for i in range(5)}
    field_statistics(ds, ["p"], workers=3, watch=lambda n, c, v: seen[c["trajectory"].start].append(v.copy()))
    np.testing.assert_array_equal(np.concatenate([np.concatenate(seen[i], 1) for i in range(5)]), ds["p"])


def test_a_constant_field_is_named_also_where_only_rounding_varies() -> None:
    ds = mock_snapshots(1, ("u", "p"), trajectories=4)
    ds["p"].values[:] = 3.5
    with pytest.raises(DataError, match=r"variable 'p': constant at 3.5 over all training trajectories"):
        require_scale(field_statistics(ds, ["u", "p"]))
    almost = FieldStatistics().add(np.array([1.0, 1.0 + 2**-52]))
    with pytest.raises(DataError, match="'q': constant"):
        require_scale({"q": almost})


def test_threads_give_results_in_order_and_errors_to_the_caller() -> None:
    assert list(in_order(lambda k: k * k, iter(range(20)), 4)) == [k * k for k in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda k: 1 // (7 - k), iter(range(20)), 4))


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0, 35.0, 1e4, -1e6])
def test_mean_and_spread_are_those_of_exact_fractions(mean: float) -> None:
    """On both sides of the ratio at which a second pass begins.

    One pass loses the ratio of mean square to variance, at most 1000, of the 1e-16 of float64 per operation; sums
    over rows of 8192 add their rounding.
    """
    values = (mean + np.random.default_rng(5).standard_normal(10_001)).astype("f4")
    exact = [Fraction(float(v)) for v in values]
    total = sum(exact)
    centre = total / len(exact)
    squares = sum((v - centre) ** 2 for v in exact)
    found = FieldStatistics().add(values)
    assert abs(float((Fraction(found.mean) - centre) / (abs(centre) + 1))) < 1e-15
    assert abs(float((Fraction(found.squares) - squares) / squares)) < 2e-13
