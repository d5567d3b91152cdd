"""Products of latents with conditions: exact where the equation is linear with parameters in it, absent elsewhere."""

from __future__ import annotations

import math

import pytest
import torch

from romvae.dynamics.products import ProductTerms, linear_start
from romvae.dynamics.residual import ResidualDynamics

DT = 0.1


def _oscillators(n: int, times: int, parameters: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two oscillators whose frequencies go up with the first parameter, damped by the second if there is one."""
    g = torch.Generator().manual_seed(seed)
    c = 2 * torch.rand(n, parameters, generator=g, dtype=torch.float64) - 1
    t = DT * torch.arange(times, dtype=torch.float64)
    damping = 0.3 * (1 + c[:, 1:2]) if parameters > 1 else torch.zeros(n, 1, dtype=torch.float64)
    columns = []
    for k in (1, 2):
        size, phase = torch.rand(2, n, 1, generator=g, dtype=torch.float64)
        angle = k * (1 + 0.5 * c[:, :1]) * t + 2 * math.pi * phase
        columns += [(0.5 + size) * torch.exp(-damping * t) * f(angle) for f in (torch.cos, torch.sin)]
    return torch.stack(columns, -1), c


@pytest.mark.parametrize("parameters", [1, 2])
@pytest.mark.parametrize("stride", [1, 4])
def test_a_linear_equation_with_parameters_in_it_is_known_before_any_training(parameters, stride):
    """The exponential expanded to the fourth order in c and fitted: a small share of the change that there is."""
    z, c = _oscillators(80, 41, parameters)
    new, beside = _oscillators(20, 41, parameters, seed=1)
    model = ResidualDynamics(4, parameters, DT, stride, members=2, hidden=8, depth=1).double()
    model.start_from_linear(z, c)
    assert float(model.products.used) == 1.0
    with torch.no_grad():
        model.weights[-1].zero_()  # the network says nothing yet
    path = model.rollout(new[:, 0], beside, DT, 40)[:, 0].transpose(0, 1).detach()
    error = float((path - new).square().mean().sqrt() / new.square().mean().sqrt())
    assert error < 2e-3
    plain = ResidualDynamics(4, parameters, DT, stride, members=2, hidden=8, depth=1).double()
    plain.load_state_dict(model.state_dict())
    plain.products.take_part(0)
    without = plain.rollout(new[:, 0], beside, DT, 40)[:, 0].transpose(0, 1)
    assert float((without - new).detach().square().mean().sqrt()) > 50 * error


def test_products_that_do_not_forecast_better_are_left_out_and_stay_so():
    """Parameters that have nothing to do with the motion; no gradient reaches what is left out."""
    z, _ = _oscillators(12, 21, 1)
    z = z[:1].expand(12, -1, -1) + 0.05 * torch.randn(12, 21, 4, generator=torch.Generator().manual_seed(3))
    c = torch.randn(12, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    model = ResidualDynamics(4, 3, DT, 2, members=2, hidden=8, depth=1).double()
    model.start_from_linear(z, c)
    assert float(model.products.used) == 0.0
    model.rollout(z[:, 0], c, DT, 6).square().sum().backward()
    assert model.products.weight.grad is None
    assert bool(model.linear.grad.any())


def test_few_trajectories_have_no_products():
    z, c = _oscillators(9, 21, 1)
    terms = ProductTerms(4, 1, 2, 2)
    assert linear_start(terms, z, c, None, 2, 1e-6).products is None


def test_the_regression_finds_the_map_it_was_given():
    """Data made by one step of a map with products, for every part of the largest step: weights to round-off."""
    g = torch.Generator().manual_seed(7)
    terms = ProductTerms(3, 1, 1, 1).double()
    weight = 0.05 * torch.randn(terms.weight.shape, generator=g, dtype=torch.float64)
    with torch.no_grad():
        terms.weight.copy_(weight)
        terms.take_part(1)
        c = 2 * torch.rand(60, 1, generator=g, dtype=torch.float64) - 1
        path = [torch.randn(60, 3, generator=g, dtype=torch.float64)]
        for _ in range(8):
            ratio = torch.ones(1, 60, 1, dtype=torch.float64)
            path.append(path[-1] + terms(path[-1][None], c[None], ratio)[0])
        start = linear_start(terms, torch.stack(path, 1), c, None, 1, 1e-8)
        again = ResidualDynamics(3, 1, DT, 1, members=1, hidden=4, depth=1).double()
        again.products.weight.copy_(start.products[None])
        again.products.take_part(1)
        again.linear.copy_(start.linear[None])
        again.biases[-1].copy_(start.offset)
        again.weights[-1].zero_()
        found = again.rollout(path[0], c, DT, 8)[:, 0]
    torch.testing.assert_close(found, torch.stack(path), rtol=1e-4, atol=1e-5)


def test_a_model_of_an_earlier_version_steps_as_it_did():
    model = ResidualDynamics(3, 2, DT, 2, members=2, hidden=8, depth=1)
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("products.")}
    other = ResidualDynamics(3, 2, DT, 2, members=2, hidden=8, depth=1, seed=5)
    other.products.take_part(1)
    other.load_state_dict(weights)
    z, c = torch.randn(4, 3), torch.randn(4, 2)
    assert torch.equal(model.rollout(z, c, DT, 5), other.rollout(z, c, DT, 5))
