"""Split: every trajectory in exactly one part, the same parts for the same seed, and a stored split wins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from romvae.data import PARTS, Parts, open_snapshots, split, write_snapshots
from romvae.errors import ConfigError, DataError
from romvae.testing import mock_snapshots


def _members(parts: Parts) -> dict[str, list[int]]:
    return {part: getattr(parts, part)["trajectory"].values.tolist() for part in PARTS}


def _data(n: int) -> xr.Dataset:
    return mock_snapshots(1, trajectories=n, times=2, shape=(4,))


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 60), st.integers(0, 2**32 - 1))
def test_every_trajectory_is_in_exactly_one_part(n: int, seed: int) -> None:
    parts = split(_data(n), seed)
    members = _members(parts)
    assert sorted(i for own in members.values() for i in own) == list(range(n))
    assert all(members.values())
    assert all(sorted(m) == m for m in members.values())
    for part, fraction in zip(PARTS, (0.5, 0.15, 0.15, 0.2), strict=True):
        assert abs(len(members[part]) - fraction * n) < 1
    assert _members(split(_data(n), seed)) == members
    assert _members(split(parts.labelled(), seed + 1)) == members


def test_another_seed_gives_other_parts() -> None:
    assert _members(split(_data(40), 0)) != _members(split(_data(40), 1))


def test_values_follow_their_trajectory() -> None:
    ds = mock_snapshots(2, trajectories=9)
    parts = split(ds)
    for part in PARTS:
        own = getattr(parts, part)
        np.testing.assert_array_equal(own["u"], ds["u"].sel(trajectory=own["trajectory"]))
    np.testing.assert_array_equal(parts.labels, parts.whole["split"])
    assert parts.labels.attrs["flag_meanings"] == "train variance calibration test"


@pytest.mark.parametrize("suffix", [".zarr", ".h5", ".nc"])
def test_stored_split_comes_back(suffix: str, tmp_path: Path) -> None:
    parts = split(_data(12), seed=3)
    with open_snapshots(write_snapshots(parts.labelled(), tmp_path / f"a{suffix}")) as ds:
        again = split(ds, seed=99)
        for part in PARTS:
            xr.testing.assert_identical(getattr(again, part), getattr(parts, part))


def test_stored_names_count_too() -> None:
    names = ["test", "train", "variance", "calibration"]
    members = _members(split(_data(4).assign_coords(split=("trajectory", names))))
    assert members == {"train": [1], "variance": [2], "calibration": [3], "test": [0]}


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [
        ({"train": 12, "variance": 3, "calibration": 4, "test": 1}, (12, 3, 4, 1)),
        ((12, 3, 4, 1), (12, 3, 4, 1)),
        ({"test": 4, "train": 0.5, "variance": 0.25, "calibration": 0.25}, (8, 4, 4, 4)),
        ((0.97, 0.01, 0.01, 0.01), (17, 1, 1, 1)),
    ],
)
def test_counts_and_shares(fractions: dict[str, float], sizes: tuple[int, ...]) -> None:
    members = _members(split(_data(20), fractions=fractions))
    assert tuple(map(len, members.values())) == sizes


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((10, 3, 4, 1), r"counts sum to 18, but there are 20 trajectories. Make them sum to 20"),
        ((0.5, 0.2, 0.2, 0.2), r"shares sum to 1.1, expected 1"),
        ((0.5, 0.2, 0.3), r"found 3 fractions, expected one for each of train, variance"),
        ((0.7, 0.2, 0.1, 0.0), r"expected all of them above zero"),
        (
            {"train": 18, "variance": 0.5, "calibration": 0.3, "test": 0.2},
            r"counts take 18 of 20 trajectories",
        ),
        ({"trian": 0.5}, r"part 'trian' is unknown, .* Did you mean 'train'\?"),
        ({"train": 0.5, "test": 0.5}, r"fractions leave out variance, calibration"),
    ],
)
def test_fractions_that_do_not_add_up_are_refused(fractions: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split(_data(20), fractions=fractions)


def test_too_few_trajectories_say_how_many_are_needed() -> None:
    with pytest.raises(DataError, match=r"found 5 trajectories, needed are at least 8 .* Simulate 3 more"):
        split(_data(5))


def test_stored_split_that_cannot_be_used_is_refused() -> None:
    ds = _data(8)
    with pytest.raises(DataError, match="trajectory 0 is labelled 'valid', expected one of train, variance"):
        split(ds.assign_coords(split=("trajectory", ["valid"] * 8)))
    with pytest.raises(DataError, match="no trajectory for variance, calibration"):
        split(ds.assign_coords(split=("trajectory", ["train", "test"] * 4)))
    with pytest.raises(DataError, match="holds numbers without flag_values and flag_meanings"):
        split(ds.assign_coords(split=("trajectory", np.zeros(8, dtype=np.int8))))
    with pytest.raises(ConfigError, match="split already, and fractions were given"):
        split(split(ds).labelled(), fractions=(2, 2, 2, 2))
    with pytest.raises(DataError, match="have no dim 'trajectory'"):
        split(ds.isel(trajectory=0))
