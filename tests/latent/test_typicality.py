"""P-values: uniform for snapshots like the calibration's, small for foreign ones."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.errors import DataError
from romvae.latent import Typicality


def _scores(rng: np.random.Generator, trajectories: int, times: int) -> tuple[np.ndarray, np.ndarray]:
    """Exchangeable trajectories whose times depend on each other."""
    level = rng.normal(size=(trajectories, 1, 2))
    both = level + 0.5 * rng.normal(size=(trajectories, times, 2))
    return both[..., 0], np.exp(both[..., 1])


def _p_values(times: int, repeats: int = 400, n: int = 19) -> np.ndarray:
    rng = np.random.default_rng(0)
    out = []
    for _ in range(repeats):
        residual, distance = _scores(rng, n + 1, times)
        known = Typicality(np.zeros((1, 1)), np.ones(1), residual[:n], distance[:n])
        out.append(known.rank(residual[n:, :1], distance[n:, :1])[0, 0])
    return np.array(out)


@pytest.mark.parametrize("times", [1, 3])
def test_p_values_are_valid_and_not_wasteful(times):
    """P(p <= a) <= a with one time; ties cost a little. Four binomial deviations of 400 draws are 0.06 to 0.1."""
    p = _p_values(times)
    for level in (0.1, 0.3, 0.6):
        share = float((p <= level + 1e-12).mean())
        deviation = 4 * (level * (1 - level) / len(p)) ** 0.5
        assert level - deviation - 0.05 <= share <= level + deviation


def test_an_extreme_residual_on_either_side_and_a_far_code_are_foreign():
    rng = np.random.default_rng(1)
    known = Typicality(np.zeros((1, 1)), np.ones(1), *_scores(rng, 99, 1))
    usual = np.median(known.residual), np.median(known.distance)
    p = known.rank(np.array([[-9.0, 9.0, usual[0], usual[0]]]), np.array([[usual[1], usual[1], 1e3, usual[1]]]))[0]
    assert (p[:3] <= 0.05).all()
    assert p[3] > 0.5


def test_foreign_snapshots_are_told_from_new_ones(line):
    rom, parts = line
    train, calibration = parts.whole.isel(trajectory=slice(0, 12)), parts.whole.isel(trajectory=slice(12, 24))
    known = Typicality.of(rom, train, calibration)
    foreign = calibration.copy()
    foreign["u"] = 3 * foreign["u"] + 2 * np.cos(2 * np.pi * 7 * foreign["x"])
    p = known.p_value(rom, foreign)
    assert p.dims == ("trajectory", "time")
    assert p.attrs["units"] == "1"
    assert float(p.max()) <= 4 / 13 + 1e-12  # with 12 trajectories nothing smaller than 1/13 is possible
    assert float(known.p_value(rom, calibration).mean()) > 0.4


def test_too_few_calibration_trajectories_are_refused(line):
    rom, parts = line
    with pytest.raises(DataError, match=r"3 calibration trajectories, expected at least 9"):
        Typicality.of(rom, parts.train, parts.calibration.isel(trajectory=slice(0, 3)))
