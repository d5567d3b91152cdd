"""Copies of a trajectory that symmetries moved count as one trajectory in everything that is fitted in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from romvae.dynamics import gp, linear_ensemble
from romvae.dynamics.groups import Groups
from romvae.dynamics.linear_ensemble import Form
from romvae.dynamics.regression import held_out
from romvae.errors import DataError
from tests.dynamics.kinds import CLOSED, DT, KINDS, build, linear_system

COPIES = 16


def _ring(n: int, copies: int = 1, parameters: int = 1, steps: int = 20, seed: int = 0):
    """Two waves on a ring, each trajectory with a speed of its own, and copies moved around it; what they are of.

    Codes are the Fourier coefficients and the trajectory's number, by which it is found again.
    """
    g = torch.Generator().manual_seed(seed)
    c = 2 * torch.rand(n, parameters, dtype=torch.float64, generator=g) - 1
    size, speed = (torch.randn(n, 2, dtype=torch.float64, generator=g) for _ in range(2))
    speed = 1 + 0.1 * speed[:, :1] + (0.3 * c[:, :1] if parameters else 0)
    moved = 2 * math.pi * torch.rand(copies, n, 1, dtype=torch.float64, generator=g)
    place = moved[..., None] + (DT * speed * torch.arange(steps + 1))[:, :, None]
    wave = torch.arange(1, 3)
    number = torch.arange(n, dtype=torch.float64)[:, None].expand(copies, n, steps + 1)
    z = torch.cat([size[:, None] * (wave * place).cos(), size[:, None] * (wave * place).sin(), number[..., None]], -1)
    return z.flatten(0, 1), c.repeat(copies, 1), torch.arange(n).repeat(copies)


def _noisy_system(trajectories: int = 20):
    z, c, _ = linear_system(trajectories=trajectories)
    return z + 0.1 * torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(1)), c


# -- which rows belong together


def test_rows_are_found_by_trajectory_whatever_its_label():
    groups = Groups.read(torch.tensor([9, 2, 9, 5, 2]), 5)
    assert groups.of.tolist() == [0, 1, 0, 2, 1]
    assert groups.first.tolist() == [0, 1, 3]
    assert groups.rows_of(torch.tensor([1, 1, 2])).tolist() == [1, 4, 1, 4, 3]
    assert groups.among(torch.tensor([3, 4])).of.tolist() == [0, 1]
    assert Groups.read(None, 4).of.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["linear", "gp", "residual", "ode"])
def test_a_label_for_every_row_is_asked_for(kind):
    z, c, _ = linear_system()
    with pytest.raises(DataError, match=r"group has shape \(3,\), expected \(20,\).*Pass one trajectory number"):
        build(kind).start_from_linear(z, c, group=torch.arange(3))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_all_their_own_trajectories_need_no_labels(kind):
    z, c = _noisy_system(12)
    states = []
    for group in (None, torch.arange(12), torch.arange(12).flip(0) * 3):
        model = build(kind)
        model.start_from_linear(z, c, group=group)
        states.append(model.state_dict())
    for other in states[1:]:
        assert all(torch.equal(value, other[name]) for name, value in states[0].items())


# -- what is set aside, and what is kept


@pytest.mark.parametrize("parameters", [0, 1])
@pytest.mark.parametrize("n", [12, 64])
def test_copies_do_not_change_which_trajectories_are_held_out(n, parameters):
    _, c, group = _ring(n, COPIES, parameters)
    alone = held_out(c[:n], n)
    for held in (held_out(c, n * COPIES, group), Groups.read(group, n * COPIES).held_out()):
        assert torch.equal(held, held[:n].repeat(COPIES))  # all copies of a trajectory are on one side
        assert int(held[:n].sum()) == n // 5
    assert torch.equal(held_out(c, n * COPIES, group)[:n], alone)
    unlabelled = Groups.read(None, n * COPIES).held_out().reshape(COPIES, n)
    assert bool((unlabelled.any(0) & ~unlabelled.all(0)).any())  # without labels there are trajectories on both


def test_few_trajectories_are_few_however_many_copies_there_are():
    _, c, group = _ring(9, COPIES, 0)
    assert held_out(c, 9 * COPIES, group) is None
    assert Groups.read(group, 9 * COPIES).held_out() is None


def test_trajectories_with_the_same_parameters_are_judged_together_with_their_copies():
    c = torch.arange(12.0).repeat(3)[:, None]
    alone = held_out(c, 36)
    assert torch.equal(held_out(c.repeat(4, 1), 144, torch.arange(36).repeat(4)), alone.repeat(4))


@pytest.mark.parametrize("n", [12, 64])
def test_no_copy_of_a_held_out_trajectory_is_in_the_fit_that_it_judges(n, monkeypatch):
    z, c, group = _ring(n, COPIES)
    fitted, others = set(range(n)) - set(range(4, n, 5)), []

    def spied(module, name):
        inner = getattr(module, name)

        def call(rows, *rest):
            others.append({int(number) for number in rows[:, 0, 4]})
            return inner(rows, *rest)

        monkeypatch.setattr(module, name, call)

    spied(linear_ensemble, "affine_features")
    spied(linear_ensemble, "rates_of")
    spied(gp, "_deltas")
    model = build("linear", 5, 1)
    model._choice(z, c, None, Groups.read(group, len(z)), torch.ones(5).double(), torch.zeros(1).double())
    assert others
    assert all(seen == fitted for seen in others)
    others.clear()
    build("gp", 5, 1).start_from_linear(z, c, group=group)
    assert others[: len(gp.RIDGES)] == [fitted] * len(gp.RIDGES)
    assert others[-1] == set(range(n))  # the choice being made, all of them


@pytest.mark.parametrize(("n", "copies"), [(9, 16), (32, 16), (80, 3)])
def test_copies_do_not_change_which_trajectories_the_process_keeps(n, copies, monkeypatch):
    monkeypatch.setattr(gp, "LARGEST", 32)
    monkeypatch.setattr(gp, "RIDGES", 2 * gp.RIDGES[-1:])  # nothing to choose, which is quick
    z, c, group = _ring(n, copies, steps=4)
    model, alone = build("gp", 5, 1), build("gp", 5, 1)
    model.start_from_linear(z, c, group=group)
    alone.start_from_linear(z[:n], c[:n])
    assert torch.equal(model.points, alone.points)
    rows = Groups.read(group, len(z)).thinned(gp.LARGEST)
    assert min(n, 27) <= len(rows) <= 32  # of 9 trajectories three copies, of 80 every third
    assert len(rows.unique()) == len(rows)


# -- what copies are worth


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("kind", ["linear", "gp", "residual", "ode"])
def test_data_copied_with_their_labels_give_the_same_model(kind, together):
    """They say nothing new: the same choices, the same fit, and the same disagreement."""
    z, c = _noisy_system()
    rows = torch.arange(20).repeat_interleave(5) if together else torch.arange(20).repeat(5)
    model, copied = build(kind, members=4), build(kind, members=4)
    model.start_from_linear(z, c)
    copied.start_from_linear(z[rows], c[rows], group=rows)
    if kind not in CLOSED:  # the untrained network says nothing yet
        for m in (model, copied):
            last = m.weights[-1] if kind == "residual" else m.network.layers[-1].weight
            last.data.zero_()
    path, again = (m.rollout(z[:, 0], c, DT, 12).detach() for m in (model, copied))
    # Sums in another order; the length scales of the process come from an optimiser that stops at a tolerance.
    bound = 1e-4 if kind == "gp" else 1e-8
    torch.testing.assert_close(again, path, rtol=bound, atol=bound)
    if kind in CLOSED:
        spread, found = (p[1:].std(1).mean() for p in (path, again))
        assert float(spread) > 1e-3
        assert float(found / spread) == pytest.approx(1, abs=1e-3)


def test_copies_without_their_labels_would_shrink_the_disagreement_of_a_bootstrap():
    """By the root of their number, since each draw is averaged over so many of them."""
    z, c = _noisy_system()
    several = torch.arange(20).repeat(COPIES)
    spread = []
    for rows, group in ((torch.arange(20), None), (several, several), (several, None)):
        model = build("linear", members=32)
        model._choice = lambda *data: Form(0)
        model.start_from_linear(z[rows], c[rows], group=group)
        spread.append(float(model.A.std(1).mean()))
    assert spread[1] == pytest.approx(spread[0], rel=1e-6)
    # A spread that 32 members give is known to an eighth.
    assert spread[2] / spread[0] == pytest.approx(COPIES**-0.5, rel=0.4)


def test_the_disagreement_of_a_bootstrap_is_that_of_new_data_with_moved_copies():
    """Moved copies do add something, the symmetry, but no trajectories: new ones would change the fit as members do."""
    means, variances = [], []
    for seed in range(24):
        z, c, group = _ring(24, 8, steps=8, seed=seed)
        model = build("linear", 4, 1, members=12, seed=seed)
        model._choice = lambda *data: Form(1)
        model.start_from_linear(z[..., :4], c, group=group)
        means.append(model.A.mean(1))
        variances.append(model.A.var(1, unbiased=False))
    ratio = torch.stack(variances).mean(0).sum() / torch.stack(means).var(0).sum()
    # 24 data sets give a variance to about a quarter; a bootstrap of 24 trajectories is somewhat too narrow itself.
    # Drawn without their labels, eight copies would make it an eighth.
    assert 0.4 < float(ratio) < 1.6


# -- members of the process


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_the_members_of_the_process_have_its_mean(members, stride):
    z, c = _noisy_system()
    model = build("gp", members=members, stride=stride)
    model.start_from_linear(z, c)
    beyond = torch.cat([c, 3 * c])[None]  # at the training parameters, and where the members disagree most
    for step in range(1, stride + 1):
        own = model.operators(beyond, step)[:2]
        drawn, model.sample = model.sample, torch.zeros_like(model.sample)
        mean = model.operators(beyond, step)[:2]
        model.sample = drawn
        for found, expected in zip(own, mean, strict=True):
            torch.testing.assert_close(found.mean(0), expected[0], rtol=0, atol=1e-12)
            assert members == 1 or float(found.std(0).max()) > 1e-3
            assert members > 1 or torch.equal(found, expected)


@pytest.mark.parametrize("members", [2, 4, 16])
def test_the_members_of_the_process_are_as_far_from_its_mean_as_it_says(members):
    sample = build("gp", latent=20, members=members).sample
    # 420 entries, in each of them a mean of M - 1 independent squares: five times its own standard deviation.
    assert float(sample.square().mean()) == pytest.approx(1, abs=5 * (2 / (members - 1) / 420) ** 0.5)


def test_a_process_that_was_saved_with_other_samples_forecasts_as_it_did():
    """Of earlier versions: the first member is the mean, and the others are not centred."""
    z, c = _noisy_system()
    model = build("gp", members=3)
    model.start_from_linear(z, c)
    older = model.state_dict()
    older["sample"] = torch.randn(3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    older["sample"][0] = 0.0
    again = build("gp", members=3, seed=1)
    again.load_state_dict(older)
    assert torch.equal(again.sample, older["sample"])
    model.sample = torch.zeros_like(model.sample)
    paths = [m.rollout(z[:, 0], c, DT, 5) for m in (again, model)]
    assert torch.equal(paths[0][:, 0], paths[1][:, 0])
    assert not torch.equal(paths[0][:, 1], paths[1][:, 1])
