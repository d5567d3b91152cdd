"""POD: the best subspace, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.baselines import POD, pod
from romvae.errors import ConfigError, DataError


def _samples(count: int = 40, seed: int = 0) -> np.ndarray:
    """Two fields of different size on 30 points, decaying spectrum."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(12, 2, 30)) * np.array([1.0, 200.0])[:, None] + np.array([3.0, 1e5])[:, None]
    return np.einsum("sk,kfp->sfp", rng.normal(size=(count, 12)) * 0.5 ** np.arange(12), basis)


@pytest.fixture(params=["exact", "randomised"])
def algorithm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "randomised":
        monkeypatch.setattr(pod, "EXACT_COST", 0)
    return request.param


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_error_is_the_tail_of_singular_values(rank: int, algorithm: str) -> None:
    u = _samples()
    model = POD(rank).fit(u)
    error = (model.reconstruct(model.project(u)) - u) / model.std
    centred = ((u - u.mean(axis=0)) / model.std).reshape(len(u), -1)
    values = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(model.singular_values[: rank + 1], values[: rank + 1], rtol=1e-8)
    assert np.square(error).sum() == pytest.approx(np.square(values[rank:]).sum(), rel=1e-8)


def test_modes_are_orthonormal_and_coefficients_come_back(algorithm: str) -> None:
    model = POD(5).fit(_samples())
    a = np.random.default_rng(1).normal(size=(4, 3, 5))
    np.testing.assert_allclose(model.modes @ model.modes.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(model.project(model.reconstruct(a)), a, atol=1e-9)


def test_both_algorithms_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    u = _samples()
    exact = POD(5).fit(u)
    monkeypatch.setattr(pod, "EXACT_COST", 0)
    other = POD(5).fit(u)
    np.testing.assert_allclose(other.singular_values[:5], exact.singular_values[:5], rtol=1e-9)
    np.testing.assert_allclose(np.abs(other.modes @ exact.modes.T), np.eye(5), atol=1e-7)


def test_samples_in_their_span_are_exact_and_the_rank_is_theirs() -> None:
    u = _samples()
    model = POD(30).fit(u - u[:1])
    assert model.rank == 12
    np.testing.assert_allclose(model.reconstruct(model.project(u - u[:1])), u - u[:1], atol=1e-8)
    assert model.energies.sum() == pytest.approx(1)


def test_units_of_a_field_do_not_matter() -> None:
    u = _samples()
    units = np.array([1e3, 1e-4])[:, None]
    one, other = POD(4).fit(u), POD(4).fit(u * units)
    np.testing.assert_allclose(other.energies, one.energies, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        other.reconstruct(other.project(u * units)), one.reconstruct(one.project(u)) * units, rtol=1e-8
    )


def test_whole_trajectories_are_samples_too() -> None:
    u = _samples().reshape(8, 5, 2, 30)
    model = POD(7).fit(u)
    assert model.std.shape == (2, 1)
    assert model.project(u).shape == (8, 7)
    np.testing.assert_allclose(model.reconstruct(model.project(u)), u, rtol=1e-9, atol=1e-7)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    u = _samples().astype(np.float32)
    whole = POD(4).fit(u).project(u)
    monkeypatch.setattr(POD, "_block_length", lambda self: 7)
    np.testing.assert_allclose(POD(4).fit(u).project(u), whole, rtol=1e-9, atol=1e-9)


def test_a_field_that_never_changes_is_kept() -> None:
    u = _samples()
    u[:, 1] = 5.0
    model = POD(12).fit(u)
    np.testing.assert_allclose(model.reconstruct(model.project(u)), u, atol=1e-9)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="rank is 0"):
        POD(0)
    with pytest.raises(DataError, match=r"shape \(1, 2, 30\)"):
        POD(2).fit(_samples(1))
