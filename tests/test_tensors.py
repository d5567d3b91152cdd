"""From data to tensors: nothing is lost in float32, and symmetry is judged from the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from romvae.errors import ConfigError
from romvae.invariance import _locked, shift_axes, symmetry_given
from romvae.normalise import Normaliser
from romvae.rom import ROM
from romvae.schema import Schema
from romvae.symmetry import Symmetry
from romvae.tensors import field_tensor, largest_step
from romvae.testing import mock_snapshots


def _fields(kind: str, n: int = 64, points: int = 48, times: int = 5) -> torch.Tensor:
    """Normalised snapshots `(trajectory, time, 1, x)` of several ensembles on a periodic axis."""
    rng = np.random.default_rng(3)
    x = 2 * np.pi * np.arange(points) / points
    if kind == "random phase":
        wave, phase = rng.integers(1, 4, (n, 3, 1)), rng.uniform(0, 2 * np.pi, (n, 3, 1))
        u = (rng.uniform(-1, 1, (n, 3, 1)) * np.sin(wave * x + phase)).sum(1)
    elif kind == "bump at one place":
        u = rng.uniform(0.7, 0.9, (n, 1)) * np.exp(-((x - np.pi) ** 2))
    elif kind == "waves that hang together":  # flat mean and variance, but the second wave has a fixed place
        one, two = rng.standard_normal((2, n, 1))
        u = one * np.sin(x) + two * np.cos(x) + 0.3 * one * two * np.sin(2 * x)
    else:  # a mode of random sign at a fixed place: its mean is flat, its variance is not
        u = rng.standard_normal((n, 1)) * np.sin(x)
    u = u[:, None] * np.exp(-0.1 * np.arange(times))[:, None]
    return torch.from_numpy(u / u.std()).float()[:, :, None]


@pytest.mark.parametrize(
    ("kind", "axes"),
    [
        ("random phase", (0,)),
        ("bump at one place", ()),
        ("random sign at one place", ()),
        ("waves that hang together", ()),
    ],
)
@pytest.mark.parametrize("n", [16, 64, 320])
def test_shifts_are_added_where_every_place_is_as_likely_as_any_other(kind, axes, n):
    data = mock_snapshots(1, trajectories=8, shape=(48,))
    assert shift_axes(_fields(kind, n), Schema.of(data)) == axes


def test_an_axis_that_is_not_periodic_is_never_shifted_along():
    data = mock_snapshots(2, trajectories=40, times=4)
    schema = Schema.of(data)
    x = torch.randn(40, 4, 1, *schema.grid.shape)
    assert shift_axes(x, schema) == (1,)


def test_a_small_deviation_from_a_large_mean_survives():
    data = mock_snapshots(1, trajectories=8)
    small = data["u"].values.astype(np.float64)
    data["u"] = data["u"].astype(np.float64) * 0
    data["u"].values[:] = 300.0 + 6e-4 * small
    schema = Schema.of(data)
    normaliser = Normaliser.of(([data["u"].values[i]] for i in range(8)), ["u"])
    x = field_tensor(data, schema, normaliser)[:, :, 0].numpy()
    np.testing.assert_allclose(x, (small - small.mean()) / small.std(), atol=1e-6)


@pytest.mark.parametrize("together", [1, 900, 10**6])
def test_however_many_trajectories_are_normalised_at_once_the_bits_are_the_same(monkeypatch, together):
    data = mock_snapshots(2, trajectories=5, times=3)
    schema = Schema.of(data)
    names = list(schema.field_names)
    normaliser = Normaliser.of([[data[name].values for name in names]], names)
    alone = [field_tensor(data.isel(trajectory=[k]), schema, normaliser) for k in range(5)]
    monkeypatch.setattr("romvae.tensors._TOGETHER", together)
    assert torch.equal(field_tensor(data, schema, normaliser), torch.cat(alone))


def test_the_large_step_covers_a_twentieth_of_the_trajectory_unless_the_field_changes_too_much():
    slow = torch.ones(2, 201, 1, 4) + 1e-3 * torch.arange(201.0).reshape(1, -1, 1, 1)
    assert largest_step(slow) == 10
    fast = torch.cos(2.0 * torch.arange(201.0)).reshape(1, -1, 1, 1).expand(2, 201, 1, 4)
    assert largest_step(fast) == 1
    assert largest_step(slow[:, :6]) == 1
    assert largest_step(slow, single=True) == 1


def test_a_large_step_that_was_asked_for_is_taken_or_refused():
    x = torch.ones(2, 21, 1, 4)
    assert [largest_step(x, wanted) for wanted in (1, 7, 20)] == [1, 7, 20]
    for wanted, single, most in ((0, False, 20), (21, False, 20), (2, True, 1)):
        with pytest.raises(ConfigError, match=f"stride is {wanted}, expected 1 to {most}"):
            largest_step(x, wanted, single)
    rom = ROM.for_data(mock_snapshots(1, times=12), latent=3, channels=8, hidden=16, members=2, stride=3)
    assert rom.dynamics.stride == rom.config["stride"] == 3


def test_shifted_trajectories_are_taken_for_shifted_ones():
    """Random shifts make every place alike, whatever the shape; by chance one in a thousand ensembles is refused."""
    x, rng = np.arange(48), np.random.default_rng(0)
    for n in (8, 20, 100):
        for _ in range(10):
            shape = np.exp(-(((x - 24) / rng.uniform(2, 6)) ** 2)) * rng.uniform(0.5, 2)
            u = np.stack([np.roll(shape, shift) for shift in rng.integers(0, 48, n)])
            assert not _locked(torch.from_numpy(u).float()[:, None, None], 0)


def _carried(n: int, tied: bool, points: int = 48, times: int = 13) -> tuple[torch.Tensor, torch.Tensor]:
    """Trajectories of a random wave pattern that is drawn, from a place that a parameter says, towards a still one."""
    rng = np.random.default_rng(11)
    x = 2 * np.pi * np.arange(points) / points
    place, other = rng.uniform(0, 1, (2, n))
    start = sum(np.sin(k * (x - rng.uniform(0, 7, (n, 1)))) for k in (1, 2, 3))
    target = rng.standard_normal((n, 1)) * np.sin(x - 2 * np.pi * (place if tied else other)[:, None])
    share = np.linspace(0, 1, times)[:, None]
    u = (1 - share) * start[:, None] + share * target[:, None]
    return torch.from_numpy(u).float()[:, :, None], torch.from_numpy(np.stack([place, rng.uniform(size=n)], 1)).float()


@pytest.mark.parametrize("n", [64, 256])
def test_no_shift_along_an_axis_on_which_a_parameter_is_a_place(n):
    """Snapshots by themselves may be shifted, the amplitudes of either sign show no place in the mean."""
    schema = Schema.of(mock_snapshots(1, trajectories=8, shape=(48,)))
    for tied in (False, True):
        x, c = _carried(n, tied)
        assert shift_axes(x, schema) == (0,)
        assert symmetry_given(Symmetry((0,)), x, c).axes == (() if tied else (0,))
    constant = torch.ones(n, 2)
    assert symmetry_given(Symmetry((0,)), x, constant).axes == (0,)
