"""Dimensions of known manifolds, POD against a singular value decomposition, and the search on planted modes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from romvae.canonical import snapshots
from romvae.data import split
from romvae.errors import ConfigError, DataError
from romvae.latent import LatentSize, intrinsic_dimension, pod_curve, search
from romvae.rom import ROM
from romvae.training import suggest_latent


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_dimension_of_a_bent_sheet(d):
    """Uniform points on a smooth image in 12 dimensions; 2000 of them estimate d within 4 standard errors and edges."""
    rng = np.random.default_rng(d)
    flat = rng.uniform(size=(2000, d))
    lift = rng.normal(size=(d, 12))
    points = np.sin(0.5 * flat @ lift) + 0.1 * (flat @ lift)
    assert intrinsic_dimension(points) == pytest.approx(d, rel=0.12)


def test_a_circle_has_one_dimension_and_neighbours_in_time_spoil_it():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 1000)
    assert intrinsic_dimension(np.column_stack([np.cos(angle), np.sin(angle)])) == pytest.approx(1, abs=0.12)
    even = np.linspace(0, 2 * np.pi, 400, endpoint=False)  # equal steps: both neighbours are equally far
    assert intrinsic_dimension(np.column_stack([np.cos(even), np.sin(even)])) > 10


def test_dimension_does_not_depend_on_scale_or_copies():
    points = np.random.default_rng(1).normal(size=(300, 3))
    one = intrinsic_dimension(points)
    assert intrinsic_dimension(7 * points + 3) == pytest.approx(one, rel=1e-9)
    assert intrinsic_dimension(np.concatenate([points, points])) == one


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match=r"9 distinct samples, expected at least 10\. Give more trajectories"):
        intrinsic_dimension(np.arange(9.0)[:, None])


def test_pod_curve_is_that_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    train, held = rng.normal(size=(60, 10)) @ rng.normal(size=(10, 10)), rng.normal(size=(20, 10))
    mean = train.mean(0)
    modes = np.linalg.svd(train - mean, full_matrices=False)[2]
    expected = []
    for k in range(1, 11):
        rest = (held - mean) - (held - mean) @ modes[:k].T @ modes[:k]
        expected.append(np.sqrt((rest**2).mean()))
    shaped = [torch.from_numpy(a).reshape(-1, 1, 10) for a in (train, held)]
    np.testing.assert_allclose(pod_curve(*shaped), expected, atol=2e-5)  # modes are kept in float32


def _planted(modes: int, noise: float):
    """Trajectories in a random subspace, with noise outside of it."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(24, modes)))[0]
    codes = rng.normal(size=(60, 10, modes))
    u = codes @ basis.T + noise * rng.normal(size=(60, 10, 24))
    axes = {"x": np.arange(24) / 24}
    ds = snapshots(
        {"u": u}, axes, 0.1 * np.arange(10), boundaries={"x": ("periodic", "periodic")}, units={"u": "1", "x": "m"}
    )
    return split(ds, seed=0)


@pytest.mark.parametrize("modes", [2, 4])
def test_planted_modes_are_found(modes):
    """Probabilistic PCA needs no training: it counts the planted modes, and one more latent is suggested."""
    parts = _planted(modes, 0.02)
    found = suggest_latent(parts, model={"compression": "ppca", "hidden": 4, "members": 1})
    assert found.upper > modes + 1
    assert found.tried[found.upper]["active"] == modes
    assert found.latent == modes + 1
    assert 1 < found.lower < 2 * modes  # of 30 points
    assert (found.kl[:modes] > 1).all()
    assert (found.kl[modes:] < 1).all()
    assert found.sentence().startswith(f"{modes + 1} latents. The data vary in at least ")
    assert f"POD with {modes + 1} modes is " in found.sentence()


def test_a_sweep_takes_the_smallest_size_that_is_as_good():
    found = suggest_latent(_planted(4, 0.02), model={"compression": "ppca", "hidden": 4, "members": 1}, sweep=True)
    assert sorted(found.tried) == [size for size in (2, 4, 8, 16) if size < found.upper] + [found.upper]
    assert found.latent == 4


def test_a_size_that_is_clearly_worse_is_raised(monkeypatch):
    """With a count that misses two of four modes, sizes go up by two until the error is as small."""
    from romvae.latent import dimension

    parts = _planted(4, 0.02)
    original = dimension.activity_of

    def missing(vae, x):
        found = original(vae, x)
        found.table["active"][:] = np.arange(found.latent) < 1
        return found

    monkeypatch.setattr(dimension, "activity_of", missing)
    sizes = []

    def train(size: int) -> ROM:
        sizes.append(size)
        return ROM.for_data(parts.train, latent=size, hidden=4, members=1, compression="ppca")

    assert search(parts, train).latent == 4
    assert sizes[1:] == [2, 4]


def test_answer_survives_json_and_unknown_bounds():
    found = LatentSize(3, math.nan, 5, {5: {"error": 0.1, "active": 2.0, "bound": 7.0}}, np.array([2.0]), np.ones(4))
    again = LatentSize.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.sentence() == found.sentence()
    assert again.to_dict() == found.to_dict()
    assert "an unknown number of ways" in found.sentence()
    assert "All 2 are active" in LatentSize(2, 1.0, 2, {2: {"error": 0.1, "active": 2.0, "bound": 7.0}}).sentence()


def test_the_rom_itself_takes_a_number():
    with pytest.raises(ConfigError, match=r"use latent=romvae\.suggest_latent\(parts\)\.latent"):
        ROM.for_data(_planted(2, 0.02).train, latent="auto")  # type: ignore[arg-type]
