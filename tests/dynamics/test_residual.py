"""The residual flow map: members apart, steps that compose, a linear start that is exact for linear systems."""

from __future__ import annotations

import pytest
import torch

from romvae.dynamics import ResidualDynamics


def _model(stride: int = 4, members: int = 3, seed: int = 0) -> ResidualDynamics:
    model = ResidualDynamics(5, 2, dt=0.1, stride=stride, members=members, hidden=16, depth=2, seed=seed)
    torch.nn.init.normal_(model.weights[-1], std=0.1, generator=torch.Generator().manual_seed(seed))
    return model.double()


def _start(batch: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(batch, 5, dtype=torch.float64, generator=generator)
    return z, torch.randn(batch, 2, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize("steps", [0, 1, 3, 4, 11])
def test_rollout_holds_the_start_and_every_time(stride, steps):
    z, c = _start()
    path = _model(stride).rollout(z, c, 0.1, steps)
    assert path.shape == (steps + 1, 3, 6, 5)
    assert torch.equal(path[0], z.expand(3, 6, 5))
    assert path.isfinite().all()


@pytest.mark.parametrize("m", [4, 8])
def test_rollout_of_m_plus_n_is_rollout_of_n_after_m_for_whole_large_steps(m):
    z, c = _start()
    model = _model(stride=4)
    whole = model.rollout(z, c, 0.1, m + 7)
    torch.testing.assert_close(whole[m:], model.rollout(whole[m], c, 0.1, 7), rtol=1e-12, atol=1e-12)


def test_times_between_large_steps_come_from_the_same_map():
    z, c = _start()
    model = _model(stride=4)
    path = model.rollout(z, c, 0.1, 6)
    torch.testing.assert_close(path[6], model(path[4].unsqueeze(-2), c, 0.2).mean, rtol=1e-12, atol=1e-12)


def test_members_do_not_mix_and_do_not_depend_on_each_other():
    z, c = _start()
    model = _model(members=3)
    before = model.rollout(z, c, 0.1, 5)
    with torch.no_grad():
        model.weights[0][1] += 1.0
    after = model.rollout(z, c, 0.1, 5)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


def test_a_batch_gives_what_its_trajectories_give_alone():
    z, c = _start()
    model = _model()
    together = model.rollout(z, c, 0.1, 5)
    alone = torch.cat([model.rollout(z[i : i + 1], c[i : i + 1], 0.1, 5) for i in range(len(z))], 2)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_the_step_may_differ_per_sample():
    z, c = _start()
    model = _model()
    dt = torch.full((3, 6), 0.1, dtype=torch.float64)
    dt[:, 3:] = 0.3
    mixed = model(z[:, None], c, dt).mean
    torch.testing.assert_close(mixed[:, :3], model(z[:, None], c, 0.1).mean[:, :3])
    torch.testing.assert_close(mixed[:, 3:], model(z[:, None], c, 0.3).mean[:, 3:])


def test_the_linear_start_solves_a_linear_system_over_the_large_step():
    generator = torch.Generator().manual_seed(3)
    matrix = torch.linalg.matrix_exp(0.1 * torch.randn(5, 5, dtype=torch.float64, generator=generator))
    z = [torch.randn(20, 5, dtype=torch.float64, generator=generator)]
    for _ in range(12):
        z.append(z[-1] @ matrix.T)
    path = torch.stack(z, 1)
    c = torch.zeros(20, 2, dtype=torch.float64)
    model = ResidualDynamics(5, 2, 0.1, stride=4, members=2, hidden=8, depth=1).double()
    model.start_from_linear(path, c, ridge=0.0 + 1e-14)
    for parameter in (model.weights[-1],):
        torch.nn.init.zeros_(parameter)
    forecast = model.rollout(path[:, 0], c, 0.1, 12)
    torch.testing.assert_close(forecast[4::4, 0].transpose(0, 1), path[:, 4::4], rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = _model(seed=1), _model(seed=1), ResidualDynamics(5, 2, 0.1, seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.weights[0][:, :, :8].float(), other.weights[0][:3, :, :8])


def test_latents_without_variance_do_not_drown_the_others_in_noise():
    """Noise of a thousandth on every latent, those that never vary included, moves a forecast by no more than that."""
    generator = torch.Generator().manual_seed(9)
    z = torch.zeros(40, 9, 4)
    z[..., :2] = torch.randn(40, 9, 2, generator=generator)
    model = ResidualDynamics(4, 0, 0.1, stride=2, members=2, hidden=16, depth=2)
    model.start_from_linear(z, torch.zeros(40, 0))
    noise = 1e-3 * torch.randn(40, 4, generator=generator)
    now = z[:, 0, None]
    moved = model.flow(now + noise[:, None], torch.zeros(40, 0), 0.2) - model.flow(now, torch.zeros(40, 0), 0.2)
    assert float(moved.detach()[..., :2].abs().max()) < 10 * float(noise.abs().max())
