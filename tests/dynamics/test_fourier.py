"""Latent dynamics on the coarse grid that the codes span: what it knows of space, and what that is worth."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from torch import Tensor

from romvae import ROM, fit, split
from romvae.dynamics import FourierDynamics, ResidualDynamics
from romvae.dynamics import fourier as fourier_module
from romvae.testing import mock_snapshots
from romvae.training.dynamics import Codes, DynamicsPlan, decoded_some, forecast_score, train_dynamics
from tests.training.test_dynamics import _run

POINTS = 16


def _orthogonal(n: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(0)))[0]


def _on_grid(shape, periodic, fields: int = 1, stride: int = 1) -> tuple[FourierDynamics, Tensor]:
    """Dynamics of codes that are all values on a grid, turned; its network stirred so that it matters."""
    values = fields * math.prod(shape)
    model = FourierDynamics(
        values, 1, 0.1, stride, members=2, hidden=6, depth=2, fields=fields, shape=shape, periodic=periodic
    )
    turn = _orthogonal(values)
    x = torch.randn(4 * values, fields, *shape, generator=torch.Generator().manual_seed(1))
    model.start_from_fields(x.flatten(1) @ turn, x)
    with torch.no_grad():
        model.leave.mul_(100.0)
    return model, turn


@pytest.mark.parametrize(
    ("shape", "fields", "move"), [((16,), 2, (3,)), ((6, 8), 1, (2, -3)), ((4, 5, 6), 1, (1, 2, 3))]
)
def test_along_periodic_axes_it_commutes_with_shifts(shape, fields, move):
    model, turn = _on_grid(shape, [True] * len(shape), fields)
    x = torch.randn(3, fields, *shape, generator=torch.Generator().manual_seed(2))
    c = torch.tensor([[0.3], [-0.8], [0.1]])
    axes = tuple(range(2, x.ndim))

    def stepped(fields_: Tensor) -> Tensor:
        after = model.flow((fields_.flatten(1) @ turn).unsqueeze(-2), c, 0.1)
        return (after @ turn.T).unflatten(-1, x.shape[1:])

    there = stepped(x)
    assert float((there - x).detach().abs().mean()) > 0.1  # something happens
    # The codes' least squares is regularised, single precision beside.
    moved = torch.roll(there, move, tuple(axis + 1 for axis in axes))
    torch.testing.assert_close(stepped(torch.roll(x, move, axes)), moved, rtol=0, atol=2e-3)


def test_along_other_axes_it_knows_where_it_is():
    model, turn = _on_grid((POINTS,), [False])
    x = torch.zeros(1, 1, POINTS)
    after = model.flow((x.flatten(1) @ turn).unsqueeze(-2), torch.zeros(1, 1), 0.1) @ turn.T
    assert float(after.detach().std(-1).min()) > 1e-2


def test_a_step_of_no_length_changes_nothing():
    model, _ = _on_grid((8,), [True], stride=2)
    z = torch.randn(3, 8)
    still = model.flow(z.unsqueeze(-2), torch.zeros(3, 1), 0.0)
    assert torch.equal(still, z.expand(2, 3, 8))


@pytest.mark.parametrize("shape", [(1, 12), (5, 1), (1,), (1, 1)])
def test_an_axis_of_one_point_has_no_waves(shape):
    """Such as of a plane that is cut out of a volume; what is left is stepped as if the axis were not there."""
    model, turn = _on_grid(shape, [False] * len(shape))
    x = torch.randn(3, 1, *shape)
    after = model.flow((x.flatten(1) @ turn).unsqueeze(-2), torch.zeros(3, 1), 0.1)
    assert after.shape == (2, 3, x[0].numel())
    assert bool(after.isfinite().all())
    assert float((after - x.flatten(1) @ turn).detach().abs().max()) > 1e-3


def test_codes_are_read_as_the_decoders_fields():
    model, turn = _on_grid((POINTS,), [True])
    x = torch.randn(5, 1, POINTS)
    read = model.lift((x.flatten(1) @ turn).expand(2, 5, POINTS))
    torch.testing.assert_close(read[0], x.flatten(1), rtol=0, atol=2e-3)
    back = model.project(read)
    torch.testing.assert_close(back[1], x.flatten(1) @ turn, rtol=0, atol=4e-3)


def test_large_batches_pass_in_parts_and_nothing_else_changes(monkeypatch):
    model, _ = _on_grid((POINTS,), [True])
    z, c = torch.randn(7, 1, POINTS), torch.randn(7, 1)
    with torch.no_grad():
        whole = model.flow(z, c, 0.1)
        monkeypatch.setattr(fourier_module, "AT_ONCE", 2 * 6 * POINTS * 3)
        parts = []
        original = model._flow
        monkeypatch.setattr(model, "_flow", lambda *some: parts.append(some[0].shape[1]) or original(*some))
        again = model.flow(z, c, 0.1)
    assert parts == [3, 3, 1]
    torch.testing.assert_close(again, whole, rtol=1e-5, atol=1e-6)


def _front(count: int, seed: int) -> Codes:
    """Codes, turned values, of fields that are moved by their own value: a nonlinear, local and homogeneous law."""
    generator = torch.Generator().manual_seed(seed)
    where = 2 * torch.pi * torch.arange(POINTS) / POINTS
    phase = 2 * torch.pi * torch.rand(count, 3, 1, generator=generator)
    u = sum(torch.cos(k * where + phase[:, k - 1]) / k for k in (1, 2, 3))
    path = [u]
    for _ in range(8):
        for _ in range(8):
            slope = (u.roll(-1, 1) - u.roll(1, 1)) / 2
            u = u + 0.02 * (u.roll(-1, 1) - 2 * u + u.roll(1, 1)) - 0.05 * u * slope
        path.append(u)
    z = torch.stack(path, 1) @ _orthogonal(POINTS)
    return Codes(z[None], torch.full_like(z[None], 1e-3), torch.zeros(count, 0))


@pytest.mark.slow
def test_what_is_true_of_one_place_need_not_be_learnt_again_for_each_of_the_others():
    """The same windows for both; a network of all codes, with seven times the width, is further off."""
    codes, held = _front(64, 0), _front(32, 9)
    plan, precision, turn = DynamicsPlan(600, 5e-3, 16, 2), torch.ones(POINTS), _orthogonal(POINTS)
    read = FourierDynamics(POINTS, 0, 0.1, 1, 1, 16, 2, shape=(POINTS,))
    plain = ResidualDynamics(POINTS, 0, 0.1, 1, 1, 112, 2)
    errors = []
    for model in (read, plain):
        codes.start(model)
        flat = codes.mean.flatten(0, 2)
        model.start_from_fields(flat, (flat @ turn.T).unsqueeze(1))
        train_dynamics(model, codes, precision, plan, _run, started=True)
        errors.append(forecast_score(model, held, precision).error)
    assert errors[0] < 0.6 * errors[1], errors


@pytest.mark.parametrize("ndim", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_rom_with_it_is_trained_saved_and_read_back(ndim, tmp_path):
    data = mock_snapshots(ndim, ("u", "v"), trajectories=12, times=8)
    parts = split(data, seed=0)
    rom = ROM.for_data(
        parts.train, latent=3, channels=4, hidden=4, depth=1, members=2, dynamics="fourier", compression="pod", stride=2
    )
    untrained = copy.deepcopy(rom.dynamics)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(rom, parts, variance_steps=2, dynamics_steps=3, batch_size=4, fallback="never")
        rom.save(tmp_path / "rom")
        start = parts.test.isel(time=0)
        forecasts = [each.rollout(start, members=4) for each in (rom, ROM.load(tmp_path / "rom"))]
    assert forecasts[0].identical(forecasts[1])
    assert not torch.equal(rom.dynamics.lift.weight, untrained.lift.weight)
    x, _ = rom.normalised(start)
    z, fields = decoded_some(rom.vae, Codes(torch.randn(1, 2, 3, 3), torch.ones(1, 2, 3, 3), torch.zeros(2, 1)))
    assert z.shape == (6, 3)
    assert fields.shape == (6, *x.shape[2:])
    torch.testing.assert_close(fields, rom.vae.decoder(z).mean)
