"""What linear dynamics in closed form promises: the form that the data have, and members around the fit of all."""

from __future__ import annotations

import math

import pytest
import torch

from romvae.dynamics.linear_ensemble import Form
from romvae.dynamics.rates import rates_of
from romvae.normalise import ParameterScaling
from tests.dynamics.kinds import DT, build, linear_system

LOG_RANGE = torch.tensor([math.log(10) / 2], dtype=torch.float64)


def decaying(c: torch.Tensor, steps: int = 20, dt: float = DT) -> torch.Tensor:
    """Modes that decay at rates in proportion to a coefficient over a decade, whose scaled logarithm is c, from 1."""
    rates = 10 ** (c - 1) * torch.tensor([0.5, 2.0, 4.5], dtype=torch.float64)
    times = torch.arange(steps + 1, dtype=torch.float64)[:, None]
    amplitude = 1 + torch.rand(len(c), 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return amplitude * torch.exp(-dt * times * rates[:, None])


def test_linear_dynamics_follows_a_coefficient_whose_logarithm_it_is_given():
    c = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    z = decaying(c)
    model, straight = build("linear", parameters=1, stride=2), build("linear", parameters=1, stride=2)
    straight._choice = lambda *data: Form(1, penalty=0.0)
    new = torch.linspace(-0.95, 0.95, 7, dtype=torch.float64)[:, None]
    truth = decaying(new).transpose(0, 1)

    def error(model):
        model.start_from_linear(z, c)
        return (model.rollout(truth[0], new, DT, 20).mean(1) - truth).square().mean().sqrt()

    assert error(model) < 0.05 * error(straight)


@pytest.mark.parametrize("form", [Form(0), Form(3), Form(2, own=True), Form(1, True, "step"), Form(1, True, "rate")])
def test_linear_dynamics_of_any_form_comes_back_from_its_state(form):
    c = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    model, again = build("linear", parameters=1), build("linear", parameters=1)
    model._choice = lambda *data: form
    model.start_from_linear(decaying(c), c, log_range=LOG_RANGE)
    again.load_state_dict(model.state_dict())
    start = torch.ones(40, 3, dtype=torch.float64)
    assert torch.equal(model.rollout(start, c, DT, 5), again.rollout(start, c, DT, 5))


def test_linear_dynamics_of_an_earlier_version_is_read():
    c = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    model, again = build("linear", parameters=1), build("linear", parameters=1)
    model._choice = lambda *data: Form(3)
    model.start_from_linear(decaying(c), c)
    state = {k: v for k, v in model.state_dict().items() if k not in ("generator", "log_range", "repeated")}
    again._choice = lambda *data: Form(1, True, "step")  # what it was before does not stay
    again.start_from_linear(decaying(c), c, log_range=LOG_RANGE)
    again.load_state_dict(state)
    start = torch.ones(40, 3, dtype=torch.float64)
    assert torch.equal(model.rollout(start, c, DT, 5), again.rollout(start, c, DT, 5))


def test_powers_of_parameters_that_do_nothing_are_left_out():
    z, c, _ = linear_system(bilinear=True, trajectories=40)
    model = build("linear")
    model.start_from_linear(z, c)
    assert model.A.shape[2] == 1 + c.shape[1]


@pytest.mark.parametrize("form", [Form(1), Form(1, of="step"), Form(1, of="rate")])
def test_bootstrap_members_have_the_fit_of_all_trajectories_as_their_mean(form):
    z, c, _ = linear_system()
    z = (z + 0.1 * z**2).contiguous()
    several, one = (build("linear", members=members) for members in (5, 1))
    for model in (several, one):
        model._choice = lambda *data: form
        model.start_from_linear(z, c)
    for name in ("generator",) if form.of != "maps" else ("A", "B", "b"):
        parts, whole = (getattr(model, name) for model in (several, one))
        parts, whole = (each[None] if form.of != "maps" else each for each in (parts, whole))
        torch.testing.assert_close(parts.mean(1), whole[:, 0], rtol=1e-9, atol=1e-9)
        assert float(parts.std(1).max()) > 1e-4


def test_an_equation_with_a_coefficient_over_a_decade_is_followed_in_sixth_order():
    """Its map over a step is no polynomial of the coefficient, nor of its logarithm: the rate of change is."""
    c = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    new = torch.linspace(-0.95, 0.95, 7, dtype=torch.float64)[:, None]

    def error(steps, log_range):
        truth = decaying(new, steps, 2.0 / steps).transpose(0, 1)
        model = build("linear", parameters=1, stride=2)
        model.start_from_linear(decaying(c, steps, 2.0 / steps), c, log_range=log_range)
        return float((model.rollout(truth[0], new, DT, steps).mean(1) - truth).abs().max())

    coarse, fine = error(20, LOG_RANGE), error(40, LOG_RANGE)
    assert fine < 2**-5 * coarse  # 2**-6 in the limit
    assert coarse < 0.02 * error(20, None)


@pytest.mark.parametrize("of", ["step", "rate"])
@pytest.mark.parametrize("drift", [0.0, 0.3])
def test_what_does_not_depend_on_parameters_is_settled_into_maps(drift, of):
    c = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    z = decaying(torch.zeros(40, 1, dtype=torch.float64), 24)
    z = z + drift * c[:, :, None] * DT * torch.arange(25, dtype=torch.float64)[:, None]
    model = build("linear", parameters=1, stride=3)
    model._choice = lambda *data: Form(0, of=of, penalty=0.0)
    model.start_from_linear(z, c)
    assert model.generator.shape[1]
    path = model.rollout(z[:, 0], c, DT, 12)
    model.settle()
    assert not model.generator.shape[1]
    assert not model.stable
    torch.testing.assert_close(model.rollout(z[:, 0], c, DT, 12), path, rtol=1e-9, atol=1e-9)


def test_a_parameter_is_taken_by_its_own_value():
    scaling = ParameterScaling([0.1, -1.0, 2.0], [10.0, 1.0, 2.5])
    assert scaling.log_range.tolist() == pytest.approx([math.log(100) / 2, 0.0, 0.0])
    values = torch.tensor([[0.1, -1.0, 2.0], [10.0, 1.0, 2.5], [5.05, 0.0, 2.25]], dtype=torch.float64)
    model = build("linear", parameters=3)
    model.log_range = scaling.log_range
    own = model._variables(scaling(values).double())
    torch.testing.assert_close(own[:2], torch.tensor([[-1.0], [1.0]]).double().expand(2, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(own[2], torch.zeros(3).double(), rtol=0, atol=1e-6)  # the middle of each range


def test_latents_that_say_nothing_of_the_field_decide_nothing():
    """Counted like the rest, noise would be learned by heart with any form that is rich enough for what matters."""
    z, c, _ = linear_system(bilinear=True, trajectories=30)
    noise = torch.randn(*z.shape[:2], 30, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    more, unseen = torch.cat([z, noise], -1), slice(20, 30)

    def error(precision):
        model = build("linear", 33, members=1)
        model.start_from_linear(more[:20], c[:20], precision=precision)
        path = model.rollout(more[unseen, 0], c[unseen], DT, z.shape[1] - 1)[:, 0, :, :3]
        return float((path - z[unseen].transpose(0, 1)).square().mean().sqrt())

    assert error(torch.cat([torch.ones(3), torch.full((30,), 1e-8)])) < 1e-6
    assert error(None) > 1e-3


@pytest.mark.parametrize("times", [2, 5, 7, 12])
def test_rates_are_exact_for_polynomials(times):
    degree = min(6, times - 1)
    t = torch.arange(times, dtype=torch.float64)
    z = (t / times) ** degree
    exact = degree * (t / times) ** (degree - 1) / times
    torch.testing.assert_close(rates_of(z[None, :, None])[0, :, 0], exact, rtol=0, atol=1e-11)
