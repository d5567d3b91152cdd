"""Laws of the linear dynamics, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from romvae.dynamics import LinearDynamics
from romvae.dynamics.least_squares import stabilised
from romvae.errors import ConfigError, DataError, NumericsError

DT = 0.1


def _rotation(latent: int, seed: int = 0, radius: float = 0.97) -> Tensor:
    """A contraction with complex eigenvalues in the right half plane: exp(skew/3) times a radius."""
    noise = torch.randn(latent, latent, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return radius * torch.linalg.matrix_exp((noise - noise.T) / 3)


def _trajectories(parameters: int, latent: int = 4, parametric: bool = True) -> tuple[Tensor, Tensor, LinearDynamics]:
    """Latents of an exactly linear system, its parameters, and the system itself."""
    generator = torch.Generator().manual_seed(1)
    truth = LinearDynamics(latent, parameters, parametric=parametric).double()
    truth.A[0] = _rotation(latent)
    for i in range(1, len(truth.A)):
        truth.A[i] = 0.02 * torch.randn(latent, latent, dtype=torch.float64, generator=generator)
    truth.B.copy_(0.1 * torch.randn(latent, parameters, dtype=torch.float64, generator=generator))
    truth.b.copy_(0.1 * torch.randn(latent, dtype=torch.float64, generator=generator))
    truth.dt.fill_(DT)
    c = 3 + torch.rand(12, parameters, dtype=torch.float64, generator=generator)
    z0 = torch.randn(12, latent, dtype=torch.float64, generator=generator)
    return truth.rollout(z0, c, DT, 30).transpose(0, 1), c, truth


@pytest.mark.parametrize("parameters", [0, 1, 3])
@pytest.mark.parametrize("parametric", [False, True])
def test_recovers_a_linear_system_to_round_off(parameters: int, parametric: bool) -> None:
    z, c, truth = _trajectories(parameters, parametric=parametric)
    model = LinearDynamics(4, parameters, parametric=parametric).double().fit(z, c, DT)
    # The condition number of the features is about 1e3.
    torch.testing.assert_close(model.A, truth.A, rtol=0, atol=1e-10)
    torch.testing.assert_close(model.rollout(z[:, 0], c, DT, 30).transpose(0, 1), z, rtol=1e-10, atol=1e-10)
    assert float(model.std.max()) < 1e-12


def test_planted_noise_is_the_predictive_std() -> None:
    generator = torch.Generator().manual_seed(0)
    A = _rotation(3)
    sigma = torch.tensor([0.1, 0.3, 0.02], dtype=torch.float64)
    z = [torch.randn(200, 3, dtype=torch.float64, generator=generator)]
    for _ in range(50):
        z.append(z[-1] @ A.T + sigma * torch.randn(200, 3, dtype=torch.float64, generator=generator))
    path, c = torch.stack(z, dim=1), torch.zeros(200, 0, dtype=torch.float64)
    model = LinearDynamics(3).double().fit(path, c, DT)
    p = model(path[:, -1:], c, DT)
    assert p.batch_shape == (200,)
    assert p.event_shape == (3,)
    # The standard error of a std from 10,000 residuals is 0.7 %; four of them.
    torch.testing.assert_close(p.stddev[0], sigma, rtol=0.03, atol=0)
    torch.testing.assert_close(model.A[0], A, rtol=0, atol=0.03)


@pytest.mark.parametrize("parametric", [False, True])
def test_rollout_continues_where_a_rollout_ended(parametric: bool) -> None:
    z, c, model = _trajectories(2, parametric=parametric)
    whole = model.rollout(z[:, 0], c, DT, 12)
    first = model.rollout(z[:, 0], c, DT, 5)
    rest = model.rollout(first[-1], c, DT, 7)
    assert torch.equal(whole, torch.cat([first, rest[1:]]))


def test_rollout_repeats_the_step_and_takes_members() -> None:
    z, c, model = _trajectories(1)
    members = torch.stack([z[:, 0], 2 * z[:, 0]])
    path = model.rollout(members, c, DT, 3)
    assert path.shape == (4, 2, 12, 4)
    torch.testing.assert_close(path[1], model.step(members, c, DT))
    torch.testing.assert_close(path[3, 0], model.rollout(z[:, 0], c, DT, 3)[-1])


@pytest.mark.parametrize("ratio", [2, 5, 0.5, 0.3, 1.7])
def test_other_time_steps_are_powers_of_the_map(ratio: float) -> None:
    z, c, model = _trajectories(2)
    # Both arrive at the same time: 10 r steps of dt, 10 steps of r dt.
    coarse = model.rollout(z[:, 0], c, ratio * DT, 10)[-1]
    fine = model.rollout(z[:, 0], c, DT, round(10 * ratio))[-1]
    torch.testing.assert_close(coarse, fine, rtol=1e-8, atol=1e-8)


def test_fractional_step_of_a_drift_is_a_part_of_it() -> None:
    model = LinearDynamics(1).double()
    model.A.fill_(1.0)
    model.b.fill_(0.4)
    model.dt.fill_(DT)
    z, c = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64)
    assert float(model.step(z, c, DT / 4)) == pytest.approx(0.1)


def test_variance_grows_like_the_time_step() -> None:
    z, c, model = _trajectories(1)
    one, four = model(z[:, :1], c, DT).variance, model(z[:, :1], c, 4 * DT).variance
    torch.testing.assert_close(four, 4 * one)


def test_no_power_of_a_flip_is_refused() -> None:
    model = LinearDynamics(1).double()
    model.A.fill_(-0.5)
    model.dt.fill_(DT)
    z, c = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64)
    assert float(model.step(z, c, 2 * DT)) == pytest.approx(0.25)
    with pytest.raises(NumericsError, match=r"dt=0\.05, fitted at dt=0\.1: eigenvalue -0\.5 .* whole multiple"):
        model.step(z, c, DT / 2)


def test_stable_moves_only_unstable_eigenvalues_onto_the_circle() -> None:
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.4], [-0.4, 0.0]], dtype=torch.float64))
    growing = torch.block_diag(1.2 * turn, torch.full((1, 1), 0.5, dtype=torch.float64))
    basis = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = LinearDynamics(3, stable=True).double()
    model.A[0] = basis @ growing @ torch.linalg.inv(basis)
    model.dt.fill_(DT)
    A, _ = model.operator(torch.zeros(1, 0, dtype=torch.float64), DT)
    values = torch.linalg.eigvals(A[0])
    torch.testing.assert_close(values.abs().sort().values, torch.tensor([0.5, 1, 1], dtype=torch.float64))
    assert float(values.angle().abs().max()) == pytest.approx(0.4)


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.99, 0.9999999, 1.0, 1.0000001, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_stable_keeps_its_bits_and_what_is_not_lands_on_the_circle(radius: float, dtype: torch.dtype) -> None:
    """Far from normal too, where powers grow a thousandfold before they decay; beside others that are unstable."""
    n = 6
    basis = torch.randn(3, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    skewed = torch.triu(basis[0], 1) * 10 + torch.diag(radius * torch.linspace(-1, 1, n, dtype=torch.float64))
    rotated = [b @ (radius * _rotation(n, k, 1.0)) @ torch.linalg.inv(b) for k, b in enumerate(basis)]
    for together in ([skewed, *rotated], [skewed, 3 * _rotation(n), *rotated]):
        A = torch.stack(together).to(dtype)
        found, largest = stabilised(A), torch.linalg.eigvals(A).abs().amax(-1)
        assert torch.equal(stabilised(A[-1]), found[-1])
        for one, before, modulus in zip(found, A, largest, strict=True):
            if modulus <= 1:
                assert torch.equal(one, before)
            else:
                assert not torch.equal(one, before)
                assert float(torch.linalg.eigvals(one.double()).abs().max()) <= 1 + 200 * torch.finfo(dtype).eps ** 0.5


def test_ridge_tends_to_persistence_plus_drift() -> None:
    z, c, _ = _trajectories(1)
    model = LinearDynamics(4, 1, parametric=True, ridge=1e12).double().fit(z, c, DT)
    drift = (z[:, 1:] - z[:, :-1]).mean((0, 1))
    torch.testing.assert_close(model.step(z[:, 0], c, DT), z[:, 0] + drift, rtol=0, atol=1e-9)


def test_a_latent_or_parameter_that_never_varies_does_no_harm() -> None:
    z, c, _ = _trajectories(1)
    z = torch.cat([z, torch.ones_like(z[..., :1])], dim=-1)
    c = torch.cat([c, torch.full_like(c, 5.0)], dim=-1)
    model = LinearDynamics(5, 2, parametric=True).double().fit(z, c, DT)
    torch.testing.assert_close(model.rollout(z[:, 0], c, DT, 30).transpose(0, 1), z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_dict_round_trip_is_bit_equal(dtype: torch.dtype) -> None:
    z, c, _ = _trajectories(2)
    model = LinearDynamics(4, 2, parametric=True).to(dtype).fit(z, c, DT)
    copy = LinearDynamics(4, 2, parametric=True).to(dtype)
    copy.load_state_dict(model.state_dict())
    z0, c = z[:, 0].to(dtype), c.to(dtype)
    path = copy.rollout(z0, c, DT, 5)
    assert path.dtype == dtype
    assert torch.equal(path, model.rollout(z0, c, DT, 5))
    assert math.isfinite(float(copy(z0[:, None], c, DT).log_prob(z0).sum()))


def test_bad_input_is_refused_with_the_place() -> None:
    z, c, _ = _trajectories(1)
    with pytest.raises(ConfigError, match="ridge is -1"):
        LinearDynamics(4, ridge=-1)
    with pytest.raises(ConfigError, match="latent=0"):
        LinearDynamics(0)
    model = LinearDynamics(4, 1).double()
    with pytest.raises(RuntimeError, match="not fitted"):
        model.step(z[:, 0], c, DT)
    with pytest.raises(DataError, match=r"z has shape \(12, 4\)"):
        model.fit(z[:, 0], c, DT)
    with pytest.raises(DataError, match=r"c has shape \(11, 1\), expected \(12, 1\)"):
        model.fit(z, c[1:], DT)
    z[2, 3, 1] = torch.nan
    with pytest.raises(DataError, match=r"z\[2, 3, 1\] is not finite"):
        model.fit(z, c, DT)
    with pytest.raises(ValueError, match="steps is -1"):
        model.rollout(z[:, 0], c, DT, -1)
