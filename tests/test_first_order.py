"""First-order moments from few decoded directions: what is decoded, what is added for the rest, and what it costs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from romvae.distributions import moments
from romvae.first_order import directional, leading_directions, linear_moments, posterior_factor, tangents
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from tests.deployment.roms import built
from tests.test_propagation import GivenPosterior, curved_rom

LATENT = 8


def wide_rom() -> tuple[ROM, Tensor, Tensor]:
    """A linear decoder whose latents matter very differently, and networks that bend; float64."""
    data = mock_snapshots(1, ("u",), trajectories=12, times=8)
    rom = ROM.for_data(data, latent=LATENT, compression="ppca", members=3, hidden=8).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight = rom.vae.decoder.mean.linear.weight
        weight.copy_(torch.randn(weight.shape, generator=generator) * 2.0 ** -torch.arange(LATENT))
        for part in (*rom.dynamics.weights, rom.dynamics.linear):
            part.add_(0.1 * torch.randn(part.shape, generator=generator).double())
    rom.vae.encoder = GivenPosterior(rom.vae.encoder, 0.1 * torch.eye(LATENT).double())
    x, c = (part.double() for part in rom.normalised(data.isel(trajectory=slice(0, 3))))
    return rom, x[:, 0], c


@pytest.mark.parametrize(
    "kind",
    ["stride", "gp", "ode", "gru", "transformer", "fourier", "controls", "full posterior", "gaussian transition"],
)
def test_latent_derivatives_are_those_of_finite_differences_for_every_kind_of_dynamics(kind):
    rom, _ = built(kind)
    rom = copy.deepcopy(rom).double()
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(3, len(rom.schema.fields), *rom.schema.grid.shape, generator=generator, dtype=torch.float64)
    c = torch.rand(3, len(rom.schema.parameters), generator=generator, dtype=torch.float64)
    along: dict[str, Tensor] = {}
    if rom.dynamics.window > 1:
        along["past"] = x0[:, None] + 0.1
    if rom.schema.controls:
        along["controls"] = torch.randn(3, 8, len(rom.schema.controls), generator=generator, dtype=torch.float64)
    value, slope = tangents(rom.vae, rom.dynamics, x0, c, 7, **along)
    with torch.no_grad():
        centre, factor = posterior_factor(rom.vae, x0)
        if "past" in along:
            along["past"] = moments(rom.vae.encoder(along["past"][:, 0]))[0][:, None]

        def rolled(z: Tensor) -> Tensor:
            return rom.dynamics.rollout(z.expand(rom.dynamics.members, *z.shape), c, float(rom.dynamics.dt), 7, **along)

        torch.testing.assert_close(value, rolled(centre))
        for k in range(3):
            ends = [rolled(centre + sign * 1e-5 * factor[:, :, k]) for sign in (1, -1)]
            # Central differences of 1e-5: 1e-10 of the third derivative, and 1e-11 of round-off.
            torch.testing.assert_close(slope[:, :, k], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-8)


def test_directions_carry_the_covariance_in_the_order_of_what_they_decode_to():
    rom, x0, c = wide_rom()
    _, slope = tangents(rom.vae, rom.dynamics, x0, c, 4)
    expected = torch.einsum("tednl,tednm->tnlm", slope, slope) / 3
    whole = leading_directions(rom.vae, slope, share=1.0)
    assert bool((whole.kept == LATENT).all())
    torch.testing.assert_close(whole.vectors.mT @ whole.vectors, expected, rtol=1e-6, atol=1e-12)
    images = whole.vectors @ rom.vae.decoder.mean.linear.weight.detach().T
    decoded = images.square().sum(-1)
    assert bool((decoded.diff(dim=-1) <= 1e-9).all())
    products = images @ images.mT
    off = products - torch.diag_embed(decoded)
    assert float(off.abs().max() / decoded.max()) < 1e-5  # the ridge of 1e-6 of the measure
    for share in (0.5, 0.9, 0.99):
        kept = leading_directions(rom.vae, slope, share).kept
        part = decoded.cumsum(-1) / decoded.sum(-1, keepdim=True)
        few = kept < LATENT
        assert bool(few.any())
        at = part.gather(-1, (kept - 1)[..., None])[..., 0]
        before = part.gather(-1, (kept - 2).clamp_min(0)[..., None])[..., 0]
        assert bool((at >= share - 1e-5).all())
        assert bool((before < share + 1e-5)[few & (kept > 1)].all())


def test_what_is_not_decoded_one_by_one_is_added_without_bias():
    """Over many times with the same covariance and other signs, the last direction has the covariance of the rest."""
    rom, x0, c = wide_rom()
    slope = tangents(rom.vae, rom.dynamics, x0, c, 1)[1][1:].expand(4000, -1, -1, -1, -1)
    found = leading_directions(rom.vae, slope, 0.5)
    kept = int(found.kept[0, 0])
    assert kept + 1 < LATENT
    whole = leading_directions(rom.vae, slope[:1], 1.0).vectors[0, 0]
    torch.testing.assert_close(found.vectors[0, 0, :kept], whole[:kept])
    rest = whole[kept:]
    probes = found.vectors[:, 0, kept]
    expected, error = rest.mT @ rest, probes.mT @ probes / len(probes)
    # A mean of 4000 products of signs is good to 1.6 %; five times that, of the largest entry.
    assert float((error - expected).abs().max() / expected.abs().max()) < 0.08


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_fewer_directions_leave_the_total_where_it_is(share):
    """The sum over points keeps to the left-out share, for each trajectory and time; nothing is dropped."""
    rom, x0, c = wide_rom()
    leads = torch.arange(6)
    told = (rom.vae, rom.dynamics, x0, c, 5, leads)
    whole, few = (next(linear_moments(*told, share=each)) for each in (1.0, share))
    for name in ("mean", "decoder_var", "ensemble_var"):
        torch.testing.assert_close(getattr(few, name), getattr(whole, name))
    ratio = few.dynamics_var.flatten(2).sum(-1) / whole.dynamics_var.flatten(2).sum(-1)
    # Images are orthogonal in this decoder, so that the signs do not matter to the sum over points.
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=1e-4, atol=0)


def test_a_trajectory_does_not_depend_on_those_beside_it():
    rom, x0, c = curved_rom()
    leads = torch.arange(4)
    together = next(linear_moments(rom.vae, rom.dynamics, x0, c, 3, leads))
    for i in range(2):
        alone = next(linear_moments(rom.vae, rom.dynamics, x0[i : i + 1], c[i : i + 1], 3, leads))
        for name in ("mean", "decoder_var", "dynamics_var", "ensemble_var"):
            found = getattr(alone, name)[:, 0]
            torch.testing.assert_close(found, getattr(together, name)[:, i], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e-3, 1.0])
def test_differences_of_a_linear_decoder_are_its_derivatives_however_short_the_direction(size):
    """In float32: a step of a hundredth of the prior keeps 1e-7 of round-off below 1e-4 of the largest entry."""
    rom, _, _ = wide_rom()
    rom.float()
    generator = torch.Generator().manual_seed(0)
    z, vectors = torch.randn(5, LATENT, generator=generator), size * torch.randn(5, LATENT, generator=generator)
    with torch.no_grad():
        found = directional(rom.vae.decoder, z, rom.vae.decoder.mean_of(z), vectors).flatten(1)
        zero = directional(rom.vae.decoder, z, rom.vae.decoder.mean_of(z), torch.zeros_like(vectors))
    expected = vectors @ rom.vae.decoder.mean.linear.weight.detach().T
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-3
    assert float(zero.abs().max()) == 0.0


def test_fewer_codes_are_decoded_than_for_sixteen_members(monkeypatch):
    """Counted, not timed: one for each network, one for the centre, and one for each direction."""
    rom, x0, c = wide_rom()
    seen: list[int] = []
    rom.vae.decoder.mean.register_forward_hook(lambda module, given, found: seen.append(len(given[0])))
    steps, n = 5, len(x0)
    _, slope = tangents(rom.vae, rom.dynamics, x0, c, steps)
    directions = int(leading_directions(rom.vae, slope).decoded.sum())
    list(linear_moments(rom.vae, rom.dynamics, x0, c, steps, torch.arange(steps + 1)))
    assert sum(seen) == directions + (1 + 3) * n * (steps + 1)
    assert sum(seen) < 16 * n * (steps + 1)
