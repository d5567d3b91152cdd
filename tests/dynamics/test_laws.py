"""Every latent dynamics is held to the same laws."""

from __future__ import annotations

import copy

import pytest
import torch

from romvae.dynamics import LatentDynamics, LinearDynamics, ResidualDynamics, affine
from romvae.dynamics.base import condition
from romvae.testing import verify_dynamics
from romvae.training.dynamics import Codes, record_step_error
from tests.dynamics.kinds import CLOSED, DT, KINDS, LEARNED, build, linear_system


def _linear() -> LatentDynamics:
    generator = torch.Generator().manual_seed(0)
    z, c = torch.randn(12, 9, 3, generator=generator), torch.randn(12, 2, generator=generator)
    return LinearDynamics(3, 2, parametric=True, ridge=1e-3).fit(z, c, 0.1)


def _started(kind: str, stride: int = 1, members: int = 2, seed: int = 0):
    """A kind that knows a linear system, with its networks stirred so that they matter."""
    model = build(kind, stride=stride, members=members, seed=seed)
    z, c, _ = linear_system(bilinear=True)
    model.start_from_linear(z, c)
    generator = torch.Generator().manual_seed(7 + seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


MODELS = {
    "least squares": _linear,
    "residual in single": lambda: ResidualDynamics(3, 2, 0.1, stride=2, hidden=8),
    "gru in single": lambda: build("gru", stride=2).float(),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_dynamics_keeps_the_laws(name):
    verify_dynamics(MODELS[name](), latent=3, parameters=2, dt=0.1)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_ensemble_keeps_the_laws_and_is_its_state(kind, stride):
    model = _started(kind, stride)
    # The twin has other initial weights and other samples, so that its state decides.
    verify_dynamics(model, 3, 2, DT, build=lambda: build(kind, stride=stride, seed=1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_has_every_time_between_large_steps(kind):
    model = _started(kind, stride=3)
    z, c, _ = linear_system()
    for steps in (0, 1, 2, 3, 7):
        path = model.rollout(z[:4, 0], c[:4], DT, steps)
        assert path.shape == (steps + 1, 2, 4, 3)
        assert bool(path.isfinite().all())
    with pytest.raises(ValueError, match="steps is -1"):
        model.rollout(z[:4, 0], c[:4], DT, -1)
    if model.stride == 3:  # a time in between is read off the large step before it
        between = model(path[3].unsqueeze(-2), c[:4], 2 * DT).mean if model.window == 1 else None
        assert between is None or torch.allclose(path[5], between, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_model_and_another_seed_another(kind):
    z, c, _ = linear_system()
    paths = []
    for seed in (0, 0, 1):
        model = build(kind, members=3, seed=seed)
        model.start_from_linear(z[:7], c[:7])
        paths.append(model.rollout(z[:, 0], c, DT, 5).detach())
    assert torch.equal(paths[0], paths[1])
    # On an exactly linear system the linear members agree to round-off whatever the bootstrap drew.
    assert kind == "linear" or not torch.equal(paths[0], paths[2])


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("kind", CLOSED)
def test_kinds_in_closed_form_recover_a_linear_system_to_round_off(kind, bilinear):
    # With a matrix that depends on the parameters that holds for single steps: its powers are no longer linear in them.
    for stride in (1,) if bilinear else (1, 4):
        z, c, _ = linear_system(bilinear=bilinear)
        model = build(kind, stride=stride, members=3)
        model.start_from_linear(z, c)
        path = model.rollout(z[:, 0], c, DT, 24)
        torch.testing.assert_close(path, z.transpose(0, 1)[:, None].expand_as(path), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "parameters", "controls"),
    [("linear", 2, 0), ("linear", 2, 1), ("linear", 0, 0), ("gp", 2, 0), ("gp", 2, 1)],
)
def test_matrices_of_many_rows_are_never_there_at_once_and_forecasts_do_not_know(
    kind, parameters, controls, monkeypatch
):
    """Each row has a matrix of its own: of 200 rows with 192 latents these would be 7 million numbers a member."""
    generator = torch.Generator().manual_seed(0)
    z, driven = (torch.randn(6, 31, n, dtype=torch.float64, generator=generator) for n in (3, controls))
    c = torch.rand(6, parameters, dtype=torch.float64, generator=generator)
    dynamics = build(kind, parameters=parameters + 2 * controls, stride=2, controls=controls)
    some = driven if controls else None
    dynamics.start_from_linear(z, c, some)
    codes = Codes(z[None], torch.ones_like(z)[None], c, some)
    largest = []

    def results():
        record_step_error(dynamics, codes)
        moved = c.repeat_interleave(5, 0)
        conditions = condition(moved, driven[:, :5].flatten(0, 1)[:, None] if controls else None, 0, 0)
        stepped = dynamics.flow(z[:, :5].flatten(0, 1).unsqueeze(-2), conditions, 2 * DT)
        return dynamics.rollout(z[:, 0], c, DT, 7, controls=some), stepped, dynamics.std.clone()

    expected = results()
    own = type(dynamics).operators

    def watched(self, c, step):
        found = own(self, c, step)
        largest.append(found[0].numel())
        return found

    monkeypatch.setattr(type(dynamics), "operators", watched)
    monkeypatch.setattr(affine, "MATRICES", 2 * 2 * 3 * 9)  # of three rows of two members, or of one with two maps
    for found, known in zip(results(), expected, strict=True):
        torch.testing.assert_close(found, known, rtol=1e-12, atol=1e-12)
    assert len(largest) > 12
    assert max(largest) <= affine.MATRICES


@pytest.mark.parametrize("kind", LEARNED)
def test_networks_start_as_the_linear_model(kind):
    z, c, _ = linear_system(radius=0.97, angle=0.02)
    model = build(kind, stride=2, members=2)
    model.start_from_linear(z, c)
    # What is left is the network, whose last layer starts at a hundredth, and for the ODE the error of its integrator.
    step = model.flow(z[:, 0].unsqueeze(-2), c, 2 * DT)
    spread = z.std()
    assert float((step - z[:, 2]).detach().abs().max()) < 0.1 * float(spread)


COSTLY = ("ode", "gru", "transformer", "fourier", "transition")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) if k in COSTLY else k for k in KINDS])
def test_a_decaying_system_stays_bounded_over_ten_thousand_large_steps(kind):
    z, c, _ = linear_system(radius=0.95)
    model = build(kind, stride=1, members=1)
    model.start_from_linear(z, c)
    with torch.no_grad():
        path = model.rollout(z[:1, 0], c[:1], DT, 10_000)
    # Decay at 0.95 a step leaves only the fixed point; the untrained networks move it by less than the start's size.
    assert float(path.abs().max()) < 2 * float(z.abs().max())


@pytest.mark.parametrize("kind", CLOSED)
def test_linear_kinds_are_stable_by_construction_where_the_data_grow(kind):
    z, c, _ = linear_system(radius=1.05, parameters=1)
    growing, stable = (build(kind, parameters=1, members=1, stable=stable) for stable in (False, True))
    for model in (growing, stable):
        model.start_from_linear(z, c)
    long = 2000
    assert float(growing.rollout(z[:, 0], c, DT, long)[-1].abs().max()) > 1e10
    # All eigenvalues on the unit circle: the state turns, and the constant drift stays bounded.
    assert float(stable.rollout(z[:, 0], c, DT, long).abs().max()) < 20 * float(z[:, 0].abs().max())


def test_bootstrap_members_disagree_where_the_data_are_not_linear():
    z, c, _ = linear_system()
    model = build("linear", members=4)
    model.start_from_linear((z + 0.1 * z**2).contiguous(), c)
    assert float(model.rollout(z[:, 0], c, DT, 3).std(1).max()) > 1e-4


def test_members_are_copied_with_the_model():
    model = _started("gp")
    z, c, _ = linear_system()
    twin = copy.deepcopy(model)
    assert torch.equal(model.rollout(z[:, 0], c, DT, 3), twin.rollout(z[:, 0], c, DT, 3))


def test_a_model_that_mixes_trajectories_is_caught():
    class Mixing(ResidualDynamics):
        def rollout(self, z0, c, dt, steps, **beside):
            path = super().rollout(z0, c, dt, steps)
            return torch.cat([path[:1], path[1:] + path[1:].mean(-2, keepdim=True)])

    with pytest.raises(AssertionError, match="depends on the others in its batch"):
        verify_dynamics(Mixing(3, 2, 0.1, hidden=8), latent=3, parameters=2, dt=0.1)


def test_a_model_that_mixes_members_is_caught():
    class Mixing(ResidualDynamics):
        def flow(self, history, c, dt):
            step = super().flow(history, c, dt)
            return step + 0.1 * step.mean(0, keepdim=True)

    with pytest.raises(AssertionError, match="a member depends on the others"):
        verify_dynamics(Mixing(3, 2, 0.1, hidden=8), latent=3, parameters=2, dt=0.1)


def test_a_model_that_forgets_part_of_its_state_is_caught():
    class Forgetful(ResidualDynamics):
        def __init__(self, *args, pull: float, **kwargs):
            super().__init__(*args, **kwargs)
            self.pull = pull

        def flow(self, history, c, dt):
            return super().flow(history, c, dt) * self.pull

    with pytest.raises(AssertionError, match="not all of the state is kept"):
        verify_dynamics(
            Forgetful(3, 2, 0.1, hidden=8, pull=0.9), 3, 2, 0.1, build=lambda: Forgetful(3, 2, 0.1, hidden=8, pull=0.8)
        )


def test_a_wrong_gradient_is_caught():
    class Detached(ResidualDynamics):
        def flow(self, history, c, dt):
            return super().flow(history, c, dt) + 0.5 * history[..., -1, :].detach()

    with pytest.raises(AssertionError, match="a gradient is"):
        verify_dynamics(Detached(3, 2, 0.1, hidden=8).double(), latent=3, parameters=2, dt=0.1)


@pytest.mark.parametrize("kind", [*LEARNED, "transition"])
def test_latents_are_held_within_twice_the_range_of_the_codes(kind):
    """However wrong a network is where it was never trained, its forecast stays there; within the range it is free."""
    z, c, _ = linear_system(radius=0.97)
    model = build(kind)
    model.start_from_linear(z, c)
    free = model.rollout(z[:, 0], c, DT, 12)
    low, high = model.range
    assert bool(((free > low) & (free < high)).all())
    flat = z.flatten(0, 1)
    wide = torch.maximum(2 * (flat.amax(0) - flat.amin(0)), 12 * flat.std(0))
    torch.testing.assert_close(high - low, wide)
    torch.testing.assert_close(high + low, flat.amax(0) + flat.amin(0))
    inner = getattr(model, "mean_model", model)
    with torch.no_grad():
        inner.linear.mul_(0.0).add_(torch.eye(*inner.linear.shape[-2:]).to(inner.linear))  # grows at every step
    path = model.rollout(z[:, 0], c, DT, 200)
    assert bool(((path >= low) & (path <= high))[1:].all())
    assert bool((path[-1] == high).any() | (path[-1] == low).any())
    path = model.at_times(z[:, 0], c, DT * torch.arange(201))
    assert bool(((path >= low) & (path <= high))[1:].all())


@pytest.mark.parametrize("kind", LEARNED)
def test_networks_of_an_earlier_version_are_read_without_a_range(kind):
    z, c, _ = linear_system(radius=0.97)
    model, again = build(kind), build(kind)
    model.start_from_linear(z, c)
    state = {name: value for name, value in model.state_dict().items() if name != "bounds"}
    again.load_state_dict(state)
    assert bool((again.range.abs() == torch.finfo(torch.float32).max).all())
    assert torch.equal(again.rollout(z[:, 0], c, DT, 5), model.rollout(z[:, 0], c, DT, 5))
