"""What each kind of ensemble dynamics promises beyond the common laws."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from romvae.dynamics import GaussianTransition, GpDynamics, GruDynamics, OdeDynamics, ResidualDynamics
from romvae.dynamics.gaussian_process import GaussianProcess, kernel
from romvae.errors import ConfigError, NumericsError
from tests.dynamics.kinds import CLOSED, DT, build, linear_system


def _ode(substeps: int = 2, **more) -> OdeDynamics:
    model = OdeDynamics(3, 2, DT, stride=2, members=2, hidden=8, substeps=substeps, **more).double()
    z, c, _ = linear_system(radius=0.97)
    model.start_from_linear(z, c)
    with torch.no_grad():
        model.network.layers[-1].weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))  # so it matters
    return model


def test_the_fixed_step_solver_is_of_order_four():
    z, c, _ = linear_system()
    fine = _ode(64)

    def end(substeps: int) -> torch.Tensor:
        model = _ode(substeps)
        # What a model starts from depends on its steps, of which a state without their number says nothing.
        model.load_state_dict({name: value for name, value in fine.state_dict().items() if name != "steps"})
        return model.rollout(z[:, 0], c, DT, 2)[-1].detach()

    errors = [float((end(n) - end(64)).abs().max()) for n in (2, 4, 8)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(3.6 < order < 4.6 for order in orders), orders  # asymptotically four


def test_the_adaptive_solver_agrees_with_a_fine_fixed_one_and_passes_gradients():
    pytest.importorskip("torchdiffeq")
    z, c, _ = linear_system()
    fine, adaptive = _ode(64), _ode(solver="adaptive")
    adaptive.load_state_dict(fine.state_dict())
    start = z[:, 0].clone().requires_grad_()
    path = adaptive.rollout(start, c, DT, 4)
    # Its tolerances are 1e-6 per step.
    torch.testing.assert_close(path, fine.rollout(z[:, 0], c, DT, 4), rtol=1e-4, atol=1e-5)
    path[-1].sum().backward()
    assert start.grad is not None
    assert bool(start.grad.isfinite().all())


def test_irregular_times_lie_on_the_same_trajectory():
    z, c, _ = linear_system()
    model = _ode(32)
    regular = model.rollout(z[:, 0], c, DT, 8)
    times = torch.tensor([0.0, 0.13, 0.2, 0.37, 0.8], dtype=torch.float64)
    path = model.at_times(z[:, 0], c, times)
    torch.testing.assert_close(path[[0, 2, 4]], regular[[0, 2, 8]], rtol=1e-12, atol=1e-12)
    # 0.37 = 0.2 + 0.17, or 0.13 + 0.24 (more than a large step, so in two): the integrator's error is 1e-7 here.
    onward = model.at_times(path[1], c, torch.tensor([0.24], dtype=torch.float64))[0]
    torch.testing.assert_close(onward, path[3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CLOSED)
def test_a_linear_kind_refuses_times_between_stored_ones(kind):
    z, c, _ = linear_system()
    model = build(kind, stride=2)
    model.start_from_linear(z, c)
    with pytest.raises(NumericsError, match=r"1\.5 stored steps, expected a whole number of them from 1 to 2"):
        model.flow(z[:, :1], c, 1.5 * DT)
    three = build(kind, stride=3)
    three.start_from_linear(z, c)
    with pytest.raises(NumericsError, match="dt is 2 stored steps, of which the largest step of 3 is no multiple"):
        three.rollout(z[:, 0], c, 2 * DT, 4)


@pytest.mark.parametrize("kind", ["linear", "gp", "residual", "ode", "gru", "transformer", "fourier"])
def test_a_forced_linear_system_is_followed_through_its_controls(kind):
    z, c, u = linear_system(controls=2, radius=0.9)
    assert u is not None
    model = build(kind, parameters=2 + 4, controls=2)
    model.start_from_linear(z, c, u)
    path = model.rollout(z[:, 0], c, DT, 24, controls=u).detach()
    error = float((path - z.transpose(0, 1)[:, None]).abs().max())
    still = float((model.rollout(z[:, 0], c, DT, 24, controls=0 * u).detach() - z.transpose(0, 1)[:, None]).abs().max())
    # Closed forms to round-off; a network of a hundredth beside the exact linear part; the ODE sees a control that is
    # linear within a step where the system has two impulses, which a forcing of white noise makes visible.
    assert error < {"linear": 1e-10, "gp": 1e-10, "ode": 0.3 * still}.get(kind, 0.2 * still)
    assert still > 0.3


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_memory_makes_a_difference_and_ends_at_the_window(kind):
    z, c, _ = linear_system()
    model = build(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double()
    alone = model.rollout(z[:, 5], c, DT, 3)
    past = z[:, :5]
    remembered = model.rollout(z[:, 5], c, DT, 3, past=past)
    assert not torch.allclose(alone[1:], remembered[1:], rtol=1e-3)
    cut = model.rollout(z[:, 5], c, DT, 3, past=past[:, -(model.window - 1) :])
    assert torch.equal(remembered, cut)


@pytest.mark.parametrize("wrong", [lambda: GruDynamics(3, 0, DT, window=0), lambda: OdeDynamics(3, 0, DT, substeps=0)])
def test_sizes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="is 0, expected 1 or more"):
        wrong()


# -- Gaussian process


def test_the_gaussian_process_is_the_exact_conditional():
    generator = torch.Generator().manual_seed(0)
    c = 2 * torch.rand(12, 2, dtype=torch.float64, generator=generator) - 1
    y = torch.stack([torch.sin(2 * c[:, 0]), c[:, 1] ** 2], 1)
    process = GaussianProcess(c, y)
    K = kernel(c, c, process.length) + process.noise * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(K @ process.weights, y, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(process.amplitude, (y * torch.linalg.solve(K, y)).mean(0), rtol=1e-6, atol=1e-10)


def test_length_scales_are_found_by_marginal_likelihood():
    # Twice as fast along the first parameter, and constant along the third.
    generator = torch.Generator().manual_seed(1)
    c = 2 * torch.rand(60, 3, dtype=torch.float64, generator=generator) - 1
    y = torch.stack([torch.sin(4 * c[:, 0] + 2 * c[:, 1]), torch.cos(4 * c[:, 0] - 2 * c[:, 1])], 1)
    length = GaussianProcess(c, y).length
    assert 1.5 < float(length[1] / length[0]) < 2.7
    assert float(length[2]) > 3 * float(length[1])


def test_gp_interpolates_dynamics_over_the_parameters_and_doubts_itself_beyond_them():
    # The angle of the rotation is a quadratic function of the parameter, which the common linear part cannot follow.
    def system(c: torch.Tensor) -> torch.Tensor:
        angle = 0.2 + 0.1 * c[:, 0] ** 2
        A = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], -1).reshape(-1, 2, 2)
        path = [torch.tensor([1.0, 0.5], dtype=torch.float64).expand(len(c), 2)]
        for _ in range(20):
            path.append(torch.einsum("bij,bj->bi", A, path[-1]))
        return torch.stack(path, 1)

    seen, new = (torch.linspace(-1, 1, n, dtype=torch.float64)[:, None] for n in (9, 16))
    model = GpDynamics(2, 1, DT, members=8).double()
    model.start_from_linear(system(seen), seen)
    truth = system(new).transpose(0, 1)
    gp = float((model.rollout(truth[0], new, DT, 20)[:, 0] - truth).abs().max())
    model.weights.zero_()
    common = float((model.rollout(truth[0], new, DT, 20)[:, 0] - truth).abs().max())
    assert gp < 0.05 * common  # without the process the phase is off by up to 20 steps of 0.05
    model.start_from_linear(system(seen), seen)
    spread = [float(model.rollout(truth[0, :1], torch.full((1, 1), at), DT, 5).std(1).max()) for at in (0.25, 2.0)]
    assert spread[1] > 10 * spread[0]


def test_gp_without_parameters_is_refused():
    with pytest.raises(ConfigError, match="no parameter to interpolate over"):
        GpDynamics(3, 0, DT)


# -- Gaussian transition


def test_a_transition_draws_what_it_is_given_and_without_noise_follows_its_mean():
    mean = ResidualDynamics(3, 2, DT, members=2, hidden=8, seed=3).double()
    model = GaussianTransition(mean, spread=0.2).double()
    z, c, _ = linear_system()
    noise = torch.randn(6, 2, len(z), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.rollout(z[:, 0], c, DT, 6), mean.rollout(z[:, 0], c, DT, 6))
    path = model.rollout(z[:, 0], c, DT, 6, noise=noise)
    step = mean.flow(path[3].unsqueeze(-2), c, DT) + model.step_std(path[3], c) * noise[3]
    assert torch.equal(path[4], step)


def test_a_transition_has_its_variance_in_proportion_to_the_step():
    model = GaussianTransition(ResidualDynamics(3, 0, DT, members=2, hidden=8).double(), spread=0.2).double()
    z, c = torch.zeros(1, 1, 3, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64)
    std = model(z, c, DT).stddev
    torch.testing.assert_close(std, torch.full_like(std, 0.2))
    torch.testing.assert_close(model(z, c, DT / 4).stddev, std / 2)


def test_a_transition_needs_single_steps():
    with pytest.raises(ConfigError, match="stride is 3, expected 1"):
        GaussianTransition(ResidualDynamics(3, 0, DT, stride=3))
