"""Which numbers of modes are tried: the grid, and more where the error still falls and arithmetic allows it."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.baselines.paths import Snapshots
from romvae.baselines.pod import POD
from romvae.baselines.rank_search import MOST_OPERATIONS, RankSearch, modes_of


def _free(family: str, rank: int) -> float:
    return 0.0


def _searched(errors: dict[int, float], operations=_free) -> RankSearch:
    search = RankSearch((4, 8, 16), operations)
    for rank, error in errors.items():
        search.note("one", rank, error, {"rank": rank})
    return search


def test_the_search_goes_on_only_while_the_last_number_is_the_best() -> None:
    assert _searched({4: 0.3, 8: 0.2, 16: 0.1}).further() == {"one": [24, 32]}
    assert _searched({4: 0.3, 8: 0.1, 16: 0.2}).further() == {}
    assert _searched({4: 0.3, 8: 0.1, 16: 0.09999}).further() == {}  # less than a thousandth better
    assert _searched({4: np.inf, 8: np.inf, 16: 0.9}).further() == {"one": [24, 32]}
    assert _searched({4: 0.3, 8: 0.2, 16: np.inf}).further() == {}


def test_numbers_grow_by_half_and_double_without_end() -> None:
    search, seen = _searched({16: 1.0, 8: 2.0}), []
    for _ in range(3):
        for rank in search.further()["one"]:
            search.note("one", rank, 1 / rank, {"rank": rank})
            seen.append(rank)
    assert seen == [24, 32, 48, 64, 96, 128]
    assert search.best == {"rank": 128}


def test_what_takes_too_many_operations_is_not_tried() -> None:
    errors = {4: 0.3, 8: 0.2, 16: 0.1}
    assert _searched(errors, lambda family, rank: MOST_OPERATIONS * rank / 24).further() == {"one": [24]}
    assert _searched(errors, lambda family, rank: np.inf).further() == {}


def test_families_are_searched_each_by_its_own_error_and_from_its_own_edge() -> None:
    search = _searched({8: 0.3, 16: 0.2})
    for rank, error in ((4, 0.2), (8, 0.1)):
        search.note("other", rank, error, {})
    assert search.further() == {"one": [24, 32], "other": [16, 24]}
    assert search.untried(search.further(), 20) == {"one": [20], "other": [16, 20]}
    assert search.untried(search.further(), 16) == {"other": [16]}


@pytest.mark.parametrize(("dtype", "modes"), [(np.float64, 12), (np.float32, 7)])
def test_modes_of_rounding_are_left_out(dtype: type, modes: int) -> None:
    """Twelve modes whose sizes fall by twenty each: in single precision only seven stand above the rounding."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 12)))[0] for n in (400, 300))
    u = ((left - left.mean(0)) * 20.0 ** -np.arange(12) @ right.T).astype(dtype)
    snapshots = Snapshots(u.reshape(20, 20, 1, 300), np.zeros((20, 0)), np.ones((20, 20), dtype=bool))
    found = modes_of(snapshots, 40, 0, usual=2)
    assert abs(found.rank - modes) <= 1
    assert modes_of(snapshots, 40, 0, usual=40).rank >= found.rank


def test_many_snapshots_are_thinned_for_many_modes(monkeypatch) -> None:
    taken = []
    fit = POD.fit
    monkeypatch.setattr(
        POD, "fit", lambda self, samples, seed=0: taken.append(len(samples)) or fit(self, samples, seed)
    )
    monkeypatch.setattr("romvae.baselines.rank_search.MOST_FOR_MODES", 1e6)
    u = np.random.default_rng(0).normal(size=(20, 20, 1, 30))
    snapshots = Snapshots(u, np.zeros((20, 0)), np.ones((20, 20), dtype=bool))
    modes_of(snapshots, 8, 0, usual=8)
    modes_of(snapshots, 12, 0, usual=8)
    assert taken[0] == 400
    assert 24 <= taken[1] <= 120  # no fewer than twice the modes, and no more than the bound allows
