"""Exponential steps: exact for what is linear, of fourth order for the rest, and taken where codes are stiff."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from romvae.dynamics.exponential import exponential_step, step_matrices
from romvae.dynamics.ode import OdeDynamics

DT, BEFORE = 0.25, 160


def _stepped(linear, rest, state, h, steps):
    matrices = step_matrices(linear, h)
    for _ in range(steps):
        state, _ = exponential_step(rest, state, lambda k, x: x @ matrices[k].mT)
    return state


def _turned(*rates: float) -> torch.Tensor:
    """A matrix with these eigenvalues, its eigenvectors far from orthogonal."""
    g = torch.Generator().manual_seed(0)
    basis = torch.eye(len(rates)).double() + 0.5 * torch.randn(len(rates), len(rates), generator=g).double()
    return basis @ torch.diag(torch.tensor(rates).double()) @ torch.linalg.inv(basis)


@pytest.mark.parametrize("h", [1e-4, 0.03, 2.0])
@pytest.mark.parametrize("rates", [(-2000.0, -3.0, 0.2), (-1e-9, 0.0, 0.5), (-40.0, -39.999, -1e3)])
def test_a_linear_equation_with_a_constant_source_is_solved_exactly(rates, h):
    linear, source = _turned(*rates), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    state = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = _stepped(linear, lambda z: source.expand_as(z), state, h, 3)
    block = torch.zeros(4, 4, dtype=torch.float64)
    block[:3, :3], block[:3, 3] = linear, source
    whole = torch.linalg.matrix_exp(3 * h * block)
    torch.testing.assert_close(found, state @ whole[:3, :3].mT + whole[:3, 3], rtol=1e-9, atol=1e-9)


def _pendulum(z):
    return torch.stack([torch.zeros_like(z[:, 0]), -torch.sin(z[:, 0]) - z[:, 0] * z[:, 1] ** 2], -1)


@pytest.mark.parametrize("decay", [0.0, -20.0])
def test_the_error_falls_with_the_fourth_power_of_the_step(decay):
    linear = torch.tensor([[decay, 1.0], [0.0, -0.1]], dtype=torch.float64)
    state = torch.tensor([[0.8, 0.1], [-0.3, 1.0]], dtype=torch.float64)
    if decay:  # from the slow manifold: elsewhere the transient is a matter of a few steps
        state[:, 0] = -state[:, 1] / decay
    exact = _stepped(linear, _pendulum, state, 1 / 640, 640)
    off = [float((_stepped(linear, _pendulum, state, 1 / n, n) - exact).norm()) for n in (5, 10, 20)]
    assert off[0] / off[1] > 11
    assert off[1] / off[2] > 11


def test_without_a_linear_part_it_is_the_classical_method():
    state, h = torch.tensor([[0.8, 0.1]], dtype=torch.float64), 0.3
    k1 = _pendulum(state)
    k2 = _pendulum(state + h / 2 * k1)
    k3 = _pendulum(state + h / 2 * k2)
    classical = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + _pendulum(state + h * k3))
    torch.testing.assert_close(_stepped(torch.zeros(2, 2).double(), _pendulum, state, h, 1), classical)


def _stiff(n: int, times: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The first eight Fourier modes of the Kuramoto-Sivashinsky equation at L = 22, on its attractor: rates to 22."""
    g = torch.Generator().manual_seed(seed)
    k = 2 * math.pi / 22 * torch.arange(9, dtype=torch.float64)
    linear = torch.diag((k[1:] ** 2 - k[1:] ** 4).repeat(2))

    def rest(z):
        u = torch.fft.irfft(torch.nn.functional.pad(torch.complex(*z.chunk(2, -1)), (1, 0)), 32, norm="forward")
        rate = torch.fft.rfft(u.square() / 2, norm="forward")[:, 1:9] * -1j * k[1:]
        return torch.cat([rate.real, rate.imag], -1)

    z = 0.1 * torch.randn(n, 16, generator=g, dtype=torch.float64)
    path, matrices = [], step_matrices(linear, DT / 4)
    for _ in range(times + BEFORE):
        for _ in range(4):
            z = exponential_step(rest, z, lambda k, x: x @ matrices[k].mT)[0]
        path.append(z)
    return torch.stack(path[BEFORE:], 1), torch.zeros(n, 0, dtype=torch.float64)


@pytest.fixture(scope="module")
def fitted() -> OdeDynamics:
    model = OdeDynamics(16, 0, DT, 2, members=3, hidden=8, depth=1).double()
    model.start_from_linear(*_stiff(40, 41))
    return model


def _error(model: OdeDynamics, z: torch.Tensor, c: torch.Tensor) -> float:
    with torch.no_grad():
        path = model.rollout(z[:, 0], c, DT, z.shape[1] - 1).mean(1).transpose(0, 1)
    return float((path - z).square().mean().sqrt() / z.square().mean().sqrt())


def test_stiff_codes_are_followed_in_exponential_steps(fitted):
    assert fitted.exact
    new = _stiff(20, 41, seed=1)
    assert _error(fitted, *new) < 2e-3
    short = OdeDynamics(16, 0, DT, 2, members=3, hidden=8, depth=1).double()
    short.load_state_dict(fitted.state_dict() | {"exponential": torch.tensor(False), "steps": torch.tensor(2)})
    assert not _error(short, *new) < 10 * _error(fitted, *new)  # the same field in steps that are too long for it


def test_tame_codes_are_followed_in_classical_steps():
    z, c = _stiff(40, 41)
    model = OdeDynamics(4, 0, DT, 2, members=2, hidden=8, depth=1).double()
    model.start_from_linear(z[..., [0, 1, 8, 9]], c)
    assert not model.exact
    assert model.matrices.numel() == 0


def test_a_step_is_the_same_however_it_is_asked_for(fitted):
    """As a number, as one of many, at times that are not stored; after saving and loading, and in float32."""
    z, c = _stiff(6, 9, seed=2)
    start = z[:, 0]
    path = fitted.rollout(start, c, DT, 8)
    several = fitted.flow(start.unsqueeze(-2), c, DT * torch.tensor([1.0, 2.0]).double().repeat(3, 3))
    for k, step in enumerate((1, 2) * 3):
        torch.testing.assert_close(several[:, k], path[step][:, k])
    times = torch.tensor([0.0, 1.0, 1.5, 2.0, 7.0], dtype=torch.float64) * DT
    found = fitted.at_times(start, c, times)
    torch.testing.assert_close(found[[0, 1, 3, 4]], path[[0, 1, 2, 7]])
    shorter = fitted.at_times(start, c, torch.tensor([1.5 - 1e-4, 1.5 + 1e-4]) * DT)
    torch.testing.assert_close(found[2], shorter.mean(0), rtol=1e-5, atol=1e-6)
    again = pickle.loads(pickle.dumps(OdeDynamics(16, 0, DT, 2, members=3, hidden=8, depth=1).double()))
    again.load_state_dict(fitted.state_dict())
    assert again.exact
    assert torch.equal(again.rollout(start, c, DT, 8), path)
    single = OdeDynamics(16, 0, DT, 2, members=3, hidden=8, depth=1)
    single.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in fitted.state_dict().items()})
    torch.testing.assert_close(single.rollout(start.float(), c.float(), DT, 8).double(), path, rtol=1e-3, atol=1e-3)


def test_what_was_trained_can_be_left_out_again(fitted):
    start, c = _stiff(6, 2, seed=2)[0][:, 0], _stiff(6, 2, seed=2)[1]
    trained = pickle.loads(pickle.dumps(fitted))
    with torch.no_grad():
        for parameter in trained.network.parameters():
            parameter.add_(0.1)
    known = trained.known()
    assert known is not None
    assert torch.equal(known.rollout(start, c, DT, 6), fitted.rollout(start, c, DT, 6))
    assert not torch.equal(trained.rollout(start, c, DT, 6), fitted.rollout(start, c, DT, 6))
    assert OdeDynamics(16, 0, DT, 2).known() is None
