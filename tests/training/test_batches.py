"""Batches are a pure function of (seed, step); nothing is dropped, shifts are shifts, windows are windows."""

from __future__ import annotations

import itertools

import torch

from romvae.symmetry import Symmetry
from romvae.training.batches import SnapshotBatches, WindowBatches, step_generator


def _same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def _snapshots(steps: int = 9, start: int = 0, seed: int = 3) -> SnapshotBatches:
    x = torch.arange(10.0).reshape(10, 1, 1).expand(10, 1, 6)
    return SnapshotBatches(x, 4, steps, seed, start, noise=(2,))


def _windows(start: int = 0) -> WindowBatches:
    mean = torch.randn(2, 5, 21, 3, generator=torch.Generator().manual_seed(0))
    return WindowBatches(mean, torch.full_like(mean, 0.1), torch.arange(5.0)[:, None], 2, 8, 4, 3, 12, 1, start)


def test_starting_at_a_step_gives_the_batches_of_that_step():
    for make in (_snapshots, _windows):
        assert all(_same(a, b) for a, b in zip(list(make())[5:], make(start=5), strict=True))


def test_every_epoch_visits_every_snapshot_once():
    values = torch.cat([batch["x"][:, 0, 0] for batch in itertools.islice(_snapshots(steps=5), 5)])
    assert sorted(values[:10].tolist()) == list(range(10))
    assert sorted(values[10:20].tolist()) == list(range(10))
    assert values[:10].tolist() != values[10:20].tolist()


def test_different_seeds_give_different_orders():
    one, two = next(iter(_snapshots(seed=1))), next(iter(_snapshots(seed=2)))
    assert not torch.equal(one["noise"], two["noise"])


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    list(_snapshots())
    list(_windows())
    assert torch.equal(torch.rand(4), expected)


def test_random_shift_rolls_each_sample_along_its_axes():
    x = torch.randn(6, 2, 5, 7)
    moved = Symmetry((1,)).random(x, step_generator(0, "test", 0))
    for before, after in zip(x, moved, strict=True):
        assert any(torch.equal(before.roll(s, -1), after) for s in range(7))
    assert any(not torch.equal(a, b) for a, b in zip(x, moved, strict=True))


def test_windows_hold_the_latents_of_their_trajectory():
    times = torch.arange(21.0).reshape(1, 1, 21, 1).expand(1, 5, 21, 3)
    batches = WindowBatches(times, torch.zeros_like(times), torch.zeros(5, 0), 2, 16, 4, 3, 12, 0)
    for step, batch in enumerate(batches):
        horizon = batches.horizon_at(step)
        assert batch["target"].shape == (2, 16, horizon, 3)
        begin = batch["z0"][..., 0]
        for k in range(horizon):
            assert torch.equal(batch["target"][..., k, 0], begin + 4 * (k + 1))
            assert torch.equal(batch["between"][..., k, 0], begin + 4 * k + batch["part"][..., k])
    assert batches.horizon_at(0) == 1
    assert batches.horizon_at(11) == 3


def test_the_horizon_never_exceeds_the_trajectory():
    mean = torch.zeros(1, 2, 6, 3)
    batches = WindowBatches(mean, mean, torch.zeros(2, 0), 1, 4, 2, 50, 5, 0)
    assert batches.horizon == 2
    assert next(iter(batches))["target"].isfinite().all()
