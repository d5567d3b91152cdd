"""DMD: what its kinds find, and which one is taken."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae.metrics import relative_l2, worst_relative_l2
from romvae.schema import snapshots

pytest.importorskip("pydmd")

from romvae.baselines import DMD
from romvae.baselines.dmd import AffineMap, _optimised
from romvae.baselines.paths import Paths

from .conftest import linear_waves

A = 0.98 * np.array([[np.cos(0.3), -np.sin(0.3), 0.0], [np.sin(0.3), np.cos(0.3), 0.0], [0.0, 0.2, 0.9]])


def _paths(noise: float = 0.0) -> Paths:
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(12, 3))]
    for _ in range(39):
        states.append(states[-1] @ A.T + 0.05)
    z = np.stack(states, 1)
    return Paths(z + noise * rng.normal(size=z.shape), np.zeros((12, 0)), np.ones(z.shape[:2], dtype=bool))


def test_the_optimised_kind_finds_operator_and_offset_from_all_trajectories() -> None:
    linear, offset = _optimised(_paths(), 0.1, stable=True)
    np.testing.assert_allclose(linear[0], A, atol=1e-6)  # the tolerance of the variable projection
    np.testing.assert_allclose(offset[0], 0.05, atol=1e-6)


def test_noise_biases_least_squares_but_not_the_optimised_kind() -> None:
    """Exact DMD takes noise in its features for damping; variable projection fits whole paths."""
    from romvae.baselines.dmd import _shared, _with_constant

    noisy = _paths(0.05)
    found = {"optimised": _optimised(noisy, 0.1, stable=True), "shared": _shared(_with_constant(noisy), 3, 1e-12)}
    wrong = {kind: np.abs(np.linalg.eigvals(linear[0])).max() for kind, (linear, _) in found.items()}
    truth = np.abs(np.linalg.eigvals(A)).max()
    assert abs(wrong["optimised"] - truth) < 0.5 * abs(wrong["shared"] - truth)


def test_parameters_as_inputs_are_exact_where_they_force_the_system() -> None:
    rng = np.random.default_rng(1)
    c = rng.uniform(-1, 1, 10)
    states = [rng.normal(size=(10, 3))]
    for _ in range(24):
        states.append(states[-1] @ A.T + 0.1 * c[:, None])
    u = np.stack(states, 1) @ rng.normal(size=(3, 8))
    ds = snapshots(
        {"u": u},
        {"x": np.arange(8) / 8},
        0.1 * np.arange(25),
        {"c": c},
        {"x": ("periodic", "periodic")},
        dtype=np.float64,
    )
    model = DMD(3).fit(ds.isel(trajectory=slice(0, 7)))
    test = ds.isel(trajectory=slice(7, 10))
    assert model.choice["kind"] in ("inputs", "bilinear")
    assert float(worst_relative_l2(test, model.rollout(test.isel(time=0), test.time)).u) < 1e-8


def test_a_parametric_operator_needs_the_bilinear_kind() -> None:
    assert DMD(3).fit(linear_waves(1)).choice["kind"] == "bilinear"


def test_unstable_eigenvalues_can_be_kept_inside() -> None:
    growing = AffineMap(1.1 * np.eye(2)[None], np.zeros((1, 2)), np.zeros(0), np.zeros(0), stable=False)
    held = AffineMap(growing.A, growing.b, growing.low, growing.high, stable=True)
    z0 = np.ones((1, 2))
    assert growing.path(z0, np.zeros((1, 0)), 50).max() > 100
    np.testing.assert_allclose(held.path(z0, np.zeros((1, 0)), 50), 1.0, rtol=1e-12)


def test_a_validation_part_is_what_decides(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    model = DMD(8).fit(gaussians, validation=new_gaussians)
    forecast = model.rollout(new_gaussians.isel(time=0), new_gaussians.time)
    error = float(relative_l2(new_gaussians, forecast).u)
    # In units of the centred fields; the field's own size is a little more than twice as large.
    assert error <= model.choice["held_out_error"] < 3 * error
