"""Where a forecast's spread comes from: exact for linear Gaussian models, and to first order for others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from romvae.calibration import Calibration
from romvae.distributions import mixture_moments, moments
from romvae.errors import ConfigError, DataError
from romvae.first_order import linear_moments
from romvae.propagation import between_networks, network_paths
from romvae.rollout import Moments, calibrated, decoded_members, forecast_moments, latent_members
from romvae.rom import ROM
from romvae.testing import mock_snapshots

STEPS = 4
PARTS = ("_std_decoder", "_std_posterior", "_std_ensemble")


class GivenPosterior(nn.Module):
    """The encoder's mean with a covariance of our own."""

    def __init__(self, encoder: nn.Module, factor: Tensor) -> None:
        super().__init__()
        self.encoder, self.factor = encoder, factor
        self.layout, self.kind = encoder.layout, "full"

    def forward(self, x: Tensor) -> MultivariateNormal:
        mean = moments(self.encoder(x))[0]
        return MultivariateNormal(mean, scale_tril=self.factor.expand(len(mean), -1, -1))


def linear_rom(members: int = 3) -> tuple[ROM, Tensor, Tensor, Tensor]:
    """Probabilistic PCA with linear dynamics, one matrix per network: z' = A_m z. Initial fields and parameters too."""
    data = mock_snapshots(1, ("u",), trajectories=12, times=8)
    rom = ROM.for_data(data, latent=3, compression="ppca", members=members, hidden=8).double()
    generator = torch.Generator().manual_seed(0)
    dynamics = rom.dynamics
    with torch.no_grad():
        for part in (*dynamics.weights, *dynamics.biases):
            part.zero_()
        dynamics.centre.zero_()
        dynamics.scale.fill_(1.0)
        dynamics.linear.copy_(0.3 * torch.randn(dynamics.linear.shape, generator=generator).double())
        dynamics.linear[:, 3:] = 0.0
    dynamics.stride = 1
    factor = torch.linalg.cholesky(0.1 * torch.eye(3).double() + 0.02)
    rom.vae.encoder = GivenPosterior(rom.vae.encoder, factor)
    x, c = (part.double() for part in rom.normalised(data.isel(trajectory=slice(0, 2))))
    matrices = torch.eye(3).double() + dynamics.linear[:, :3].transpose(1, 2)
    return rom, x[:, 0], c, matrices.detach()


def _exact(rom: ROM, x0: Tensor, matrices: Tensor, lead: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance by the posterior and variance between networks of `W A_m^k z + b`, `(trajectory, points)`."""
    q = rom.vae.encoder(x0)
    w, b = rom.vae.decoder.mean.linear.weight, rom.vae.decoder.mean.linear.bias
    maps = torch.stack([w @ torch.linalg.matrix_power(a, lead) for a in matrices])
    means = torch.einsum("mpl,nl->mnp", maps, q.mean) + b
    posterior = torch.einsum("mpl,nlk,mpk->np", maps, q.covariance_matrix, maps) / len(maps)
    return means.mean(0), posterior, means.var(0, correction=0)


def test_first_order_moments_of_a_linear_gaussian_model_are_exact():
    rom, x0, c, matrices = linear_rom()
    found = list(linear_moments(rom.vae, rom.dynamics, x0, c, STEPS, torch.arange(STEPS + 1), frames=7, share=1.0))
    for lead in range(STEPS + 1):
        chunk = next(m for m in found if lead in m.lead.tolist())
        row = chunk.lead.tolist().index(lead)
        mean, posterior, ensemble = _exact(rom, x0, matrices, lead)
        torch.testing.assert_close(chunk.mean[row].flatten(1), mean)
        torch.testing.assert_close(chunk.ensemble_var[row].flatten(1), ensemble)
        torch.testing.assert_close(chunk.dynamics_var[row].flatten(1), posterior + ensemble)
        decoder = rom.vae.decoder(torch.zeros(1, 3).double()).variance.expand_as(chunk.decoder_var[row])
        torch.testing.assert_close(chunk.decoder_var[row], decoder)


def test_disagreement_of_networks_has_no_sampling_noise_and_is_exact():
    rom, x0, c, matrices = linear_rom()
    path = network_paths(rom.vae, rom.dynamics, x0, c, STEPS)
    for members in (3, 30, 31):
        between = between_networks(rom.vae, path, torch.tensor([STEPS]), members)[0].flatten(1)
        counts = torch.bincount(torch.arange(members) % 3).double() / members
        w = rom.vae.decoder.mean.linear.weight
        z = torch.stack([rom.vae.encoder(x0).mean @ torch.linalg.matrix_power(a, STEPS).T for a in matrices])
        u = z @ w.T
        centre = torch.einsum("m,mnp->np", counts, u)
        exact = torch.einsum("m,mnp->np", counts, (u - centre).square()) * members / (members - 1)
        torch.testing.assert_close(between, exact)
    assert float(between_networks(rom.vae, path, torch.tensor([2]), 1).abs().max()) == 0.0


def test_members_and_first_order_agree_on_the_linear_model():
    rom, x0, c, matrices = linear_rom()
    members = 3000
    path = latent_members(rom.vae, rom.dynamics, x0, c, STEPS, members, seed=0)
    centres = network_paths(rom.vae, rom.dynamics, x0, c, STEPS)
    lead, mean, var = next(decoded_members(rom.vae, path, torch.tensor([STEPS]), frames=100_000))
    _, _, total = mixture_moments(mean, var, dim=1)
    ensemble = between_networks(rom.vae, centres, lead, members)
    _, posterior, between = _exact(rom, x0, matrices, STEPS)
    # A variance of 3000 samples is good to sqrt(2 / 3000) = 2.6 %; all points hang on three latents.
    torch.testing.assert_close(total[0].flatten(1), posterior + between, rtol=0.11, atol=0)
    # What is left after the disagreement is taken off carries the whole sampling error.
    error = (total - ensemble)[0].flatten(1).mean(1) - posterior.mean(1)
    assert bool((error.abs() < 0.11 * (posterior + between).mean(1)).all())


@pytest.mark.parametrize("members", [6, 12, 30])
def test_the_mean_of_the_members_has_no_sampling_noise_on_a_linear_model(members):
    """Rounds of members come in pairs whose noise has opposite signs."""
    rom, x0, c, matrices = linear_rom()
    path = latent_members(rom.vae, rom.dynamics, x0, c, STEPS, members, seed=1)
    _, mean, _ = next(decoded_members(rom.vae, path, torch.tensor([STEPS])))
    exact, posterior, _ = _exact(rom, x0, matrices, STEPS)
    torch.testing.assert_close(mean.mean(1)[0].flatten(1), exact)
    assert float(posterior.min()) > 1e-6  # and the members differ
    odd = latent_members(rom.vae, rom.dynamics, x0, c, STEPS, members + 3, seed=1)
    assert torch.equal(odd[:, :members], path)
    assert not torch.allclose(odd[0, members:], path[0, :3])


def curved_rom() -> tuple[ROM, Tensor, Tensor]:
    """Networks with random weights, so that decoder and dynamics bend."""
    data = mock_snapshots(1, ("u",), trajectories=12, times=8)
    rom = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in (*rom.vae.decoder.parameters(), *rom.dynamics.weights):
            part.add_(0.2 * torch.randn(part.shape, generator=generator).double())
    x, c = (part.double() for part in rom.normalised(data.isel(trajectory=slice(0, 2))))
    return rom, x[:, 0], c


def test_the_variance_is_that_of_finite_differences_of_dynamics_and_decoder():
    rom, x0, c = curved_rom()
    rom.vae.encoder = GivenPosterior(rom.vae.encoder, 0.1 * torch.eye(3).double())
    found = next(linear_moments(rom.vae, rom.dynamics, x0, c, STEPS, torch.tensor([STEPS]), share=1.0))
    z0, std = moments(rom.vae.encoder(x0))

    def moved(vector: Tensor) -> Tensor:
        return rom.dynamics.rollout((z0 + vector).expand(2, -1, -1), c, float(rom.dynamics.dt), STEPS)[-1]

    centre = moved(torch.zeros(3).double()).mean(0)
    expected = torch.zeros_like(found.mean[0])
    for j in range(3):
        unit = torch.eye(3).double()[j] * 1e-5 * std
        for column in (moved(unit) - moved(-unit)) / 2e-5:  # of one network; each carries half of the covariance
            ends = [rom.vae.decoder(centre + sign * 1e-5 * column).mean for sign in (1, -1)]
            expected += ((ends[0] - ends[1]) / 2e-5).square() / 2
    # The decoder's derivatives are differences over a hundredth of the prior: an error of that order, times curvature.
    error = (found.dynamics_var - found.ensemble_var)[0] - expected
    assert float(error.square().mean().sqrt() / expected.square().mean().sqrt()) < 0.02


def test_members_and_first_order_agree_where_the_spread_is_small():
    rom, x0, c = curved_rom()
    rom.vae.encoder = GivenPosterior(rom.vae.encoder, 1e-3 * torch.eye(3).double())
    first = next(linear_moments(rom.vae, rom.dynamics, x0, c, STEPS, torch.tensor([STEPS])))
    path = latent_members(rom.vae, rom.dynamics, x0, c, STEPS, 2000, seed=0)
    _, mean, var = next(decoded_members(rom.vae, path, torch.tensor([STEPS]), frames=100_000))
    centre, _, total = mixture_moments(mean, var, dim=1)
    torch.testing.assert_close(centre[0], first.mean[0], rtol=0, atol=5e-4)
    # 2000 samples: 3.2 % per independent direction.
    ratio = total[0].flatten(1).mean(1) / first.dynamics_var[0].flatten(1).mean(1)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=0.13)


@pytest.mark.parametrize("members", [1, 2, 7, 64])
@pytest.mark.parametrize("frames", [3, 20, 10_000])
def test_moments_are_those_of_all_members_however_few_are_decoded_at_once(members, frames):
    rom, x0, c = curved_rom()
    path = latent_members(rom.vae, rom.dynamics, x0, c, STEPS, members, seed=0)
    leads = torch.tensor([0, 2, STEPS])
    whole = [mixture_moments(mean, var, dim=1) for _, mean, var in decoded_members(rom.vae, path, leads)]
    parts = list(forecast_moments(rom.vae, path, leads, frames))
    torch.testing.assert_close(torch.cat([part.lead for part in parts]), leads)
    for k, name in enumerate(("mean", "decoder_var", "dynamics_var")):
        found = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(found, torch.cat([each[k] for each in whole]), rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def fitted() -> tuple[ROM, xr.Dataset]:
    data = mock_snapshots(1, ("u",), trajectories=14, times=8)
    rom = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2)
    generator = torch.Generator().manual_seed(0)
    rom.calibration.fit(torch.arange(8), torch.randn(8, 1, 12, data.sizes["x"], generator=generator).abs())
    return rom, data


@pytest.mark.parametrize("propagation", ["members", "linear"])
def test_the_three_maps_add_up_in_squares_to_the_total(fitted, propagation):
    rom, data = fitted
    forecast = rom.rollout(data.isel(time=0, trajectory=slice(0, 3)), steps=5, members=9, propagation=propagation)
    total = sum(forecast[f"u{part}"].astype(float) ** 2 for part in PARTS)
    np.testing.assert_allclose(forecast["u_std"] ** 2, total, rtol=1e-4)
    dynamics = forecast["u_std_posterior"].astype(float) ** 2 + forecast["u_std_ensemble"].astype(float) ** 2
    np.testing.assert_allclose(forecast["u_std_dynamics"] ** 2, dynamics, rtol=1e-4, atol=1e-12)
    assert all(forecast[f"u{part}"].attrs["units"] == data["u"].attrs["units"] for part in PARTS)
    assert forecast.attrs["propagation"] == propagation


def test_linear_propagation_has_no_seed_and_members_do(fitted):
    rom, data = fitted
    start = data.isel(time=0, trajectory=[0])
    one, other = (rom.rollout(start, steps=3, propagation="linear", seed=seed) for seed in (0, 1))
    xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())


def test_intervals_of_every_kind_have_their_calibrated_width(fitted):
    rom, data = fitted
    start, lead = data.isel(time=0, trajectory=[1]), torch.arange(6)
    for interval, share in (("point", 0.9), ("field", 1.0), ("field", 0.5), ("run", 0.9), ("run", 1.0)):
        forecast = rom.rollout(start, steps=5, members=8, level=0.8, interval=interval, share=share)
        width = rom.calibration.width(lead, 0.8, interval, share)[:, 0].numpy()[None, :, None]
        np.testing.assert_allclose(forecast["u_upper"] - forecast["u"], width * forecast["u_std"], rtol=1e-3, atol=1e-6)
        assert forecast.attrs["guarantee"] == str(rom.calibration.guarantee(0.8, interval, share))
        assert forecast.attrs["calibration"].startswith("Calibrated on 12 trajectories")


def test_what_cannot_be_promised_is_refused(fitted):
    rom, data = fitted
    start = data.isel(time=0, trajectory=[0])
    with pytest.raises(DataError, match=r"takes at least 19 calibration trajectories, and there are 12\. Lower"):
        rom.rollout(start, steps=2, members=8, level=0.95, interval="run")
    with pytest.raises(ConfigError, match="propagation is 'unscented', expected members, linear, mean or auto"):
        rom.rollout(start, steps=2, members=8, propagation="unscented")
    plain = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2)
    with pytest.raises(DataError, match="interval 'field' is not calibrated"):
        plain.rollout(start, steps=2, members=8, interval="field")


def test_a_disagreement_beyond_the_spread_of_the_members_is_capped():
    one = torch.ones(1, 1, 1, 4)
    parts = calibrated(Moments(torch.tensor([0]), one, one, 0.5 * one, 2 * one), Calibration(1), 0.9)
    torch.testing.assert_close(parts["std_ensemble"], parts["std_dynamics"])
    assert float(parts["std_posterior"].max()) == 0.0


def test_a_normal_posterior_counts_by_its_standard_deviations():
    rom, x0, c, _ = linear_rom()
    diagonal = torch.diag(torch.tensor([0.1, 0.2, 0.3]).double())

    class Diagonal(GivenPosterior):
        def forward(self, x: Tensor) -> Independent:
            mean = moments(self.encoder(x))[0]
            return Independent(Normal(mean, self.factor.diagonal().expand_as(mean)), 1)

    results = []
    for kind in (GivenPosterior, Diagonal):
        encoder = rom.vae.encoder
        rom.vae.encoder = kind(encoder.encoder, diagonal)
        results.append(next(linear_moments(rom.vae, rom.dynamics, x0, c, 2, torch.tensor([2]))).dynamics_var)
    torch.testing.assert_close(*results)
