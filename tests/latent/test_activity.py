"""What a latent carries, against the closed forms of probabilistic PCA; and warnings, both ways."""

from __future__ import annotations

import logging
import re
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from romvae.data import split
from romvae.errors import OutOfRangeWarning
from romvae.kinds import LOSS_DEFAULTS
from romvae.latent import Activity, activity, activity_of, advice_of, held_out_bound, reconstruction_error, warnings_of
from romvae.linear_start import modes_of, start_from_linear
from romvae.nn import Layout
from romvae.nn.linear import LinearDecoder, LinearEncoder
from romvae.nn.observation import SharedGaussian
from romvae.objectives import Beta, Capacity
from romvae.priors import MixturePrior
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import fit
from romvae.training.compression import Balance
from romvae.vae import VAE

NOISE = 0.02
SPECTRUM = torch.tensor([4.0, 2.5, 1.5, NOISE, NOISE, NOISE, NOISE, NOISE], dtype=torch.float64)


@pytest.fixture
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def _planted(latent: int) -> tuple[VAE, Tensor]:
    """Exact probabilistic PCA of snapshots whose covariance has exactly the eigenvalues above."""
    g = torch.Generator().manual_seed(0)
    d = len(SPECTRUM)
    raw = torch.randn(400, d, generator=g, dtype=torch.float64)
    raw = raw - raw.mean(0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.T @ raw / len(raw))).T
    basis = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))[0]
    x = ((white * SPECTRUM.sqrt()) @ basis.T + 0.3).reshape(-1, 1, d)
    layout = Layout(1, (d,), (("periodic", "periodic"),), latent, 4, (4,), 0)
    vae = VAE(LinearEncoder(layout), SharedGaussian(LinearDecoder(layout), floor=1e-9)).double()
    start_from_linear(vae, x, modes_of(x, latent), "ppca")
    return vae, x


@pytest.mark.usefixtures("_double")
def test_divergence_and_gain_are_those_of_probabilistic_pca():
    """KL_i = log(lambda_i / s^2) / 2; leaving out mode i adds lambda_i - s^4 / lambda_i to the squared error."""
    vae, x = _planted(3)
    found = activity_of(vae, x)
    lam = SPECTRUM[:3].numpy()
    np.testing.assert_allclose(found.table["kl"], 0.5 * np.log(lam / NOISE), rtol=1e-5)  # POD modes are in float32
    squared = 5 * NOISE + (NOISE**2 / lam).sum()
    gains = np.sqrt((squared + lam - NOISE**2 / lam) / squared) - 1
    np.testing.assert_allclose(found.table["gain"], gains, rtol=1e-4)
    assert found.relative_error == pytest.approx((squared / 8) ** 0.5, rel=1e-5)
    assert found.relative_error == pytest.approx(reconstruction_error(vae, x))
    # One sample of the code adds W var W^T = s^2 (lambda - s^2) / lambda per mode; 400 samples leave a few per cent.
    sampled = ((squared + (NOISE * (lam - NOISE) / lam).sum()) / 8) ** 0.5
    assert found.sampled_error == pytest.approx(sampled, rel=0.03)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("latent", [3, 4, 6, 7])
def test_redundant_latents_are_not_counted(latent):
    vae, x = _planted(latent)
    found = activity_of(vae, x)
    assert found.active == 3
    assert found.latent == latent
    assert found.quiet == latent - 3


@pytest.mark.usefixtures("_double")
def test_the_held_out_bound_of_probabilistic_pca_is_its_likelihood():
    """With the exact posterior the bound is the evidence, at the optimal variance; on average over the codes."""
    vae, x = _planted(3)
    logs = float(SPECTRUM.log().sum())
    exact = -0.5 * (8 * np.log(2 * np.pi) + logs + 8)
    found = np.mean([held_out_bound(vae, x, seed).value for seed in range(20)])
    assert found == pytest.approx(exact, abs=0.05)  # 8000 codes: 0.02 of standard error


def test_with_a_learned_prior_the_divergence_is_from_the_codes_own_spread():
    """A code that is far from zero, but the same for all snapshots, carries nothing."""
    vae, x = _planted(3)
    vae.prior = MixturePrior(3)
    vae.encoder.linear.weight.data[0] = 0.0
    vae.encoder.linear.bias.data[0] = 5.0
    assert float(activity_of(vae.double(), x).table["kl"][0]) == pytest.approx(0.0, abs=1e-9)


def test_points_have_no_divergence_and_count_by_their_gain():
    parts = split(mock_snapshots(1, trajectories=12, times=6), seed=0)
    rom = ROM.for_data(parts.train, latent=2, channels=4, hidden=8, members=1, compression="ae")
    found = activity(rom, parts.variance)
    assert bool(np.isnan(found.table["kl"]).all())
    assert found.active == 2
    assert warnings_of(found, 1e-9) == []


def _found(kl: list[float], error: float = 0.3, sampled: float = 0.3) -> Activity:
    values = np.array(kl)
    table = xr.Dataset({"kl": ("latent", values), "gain": ("latent", values / 4), "active": ("latent", values > 1)})
    return Activity(table, error, sampled)


def test_collapse_is_said_with_what_to_change():
    (said,) = warnings_of(_found([0.01, 0.3]), 0.1, {"objective": "beta", "beta": 8.0})
    assert said.startswith("posterior collapse: none of 2 latents carries as much as 1 nat")
    assert said.endswith("Lower --training.beta (it is 8) to 1, or leave --training.objective at elbo.")
    (said,) = warnings_of(_found([0.01, 0.3]), 0.1, {"variance": "fixed", "noise_std": 2.0})
    assert "Lower --model.noise-std (it is 2 of each field's deviation)" in said
    (said,) = warnings_of(_found([0.01, 0.3]), None, {"objective": "capacity", "capacity": 0.5})
    assert "Raise --training.capacity (it is 0.5 nat)" in said


def test_a_divergence_that_weighs_too_much_is_said_where_it_does_harm():
    told = {"variance": "fixed", "noise_std": 0.9}  # nine times the variance that the errors have
    (said,) = warnings_of(_found([3.0, 2.0]), 0.1, told)
    assert "weighs 9 times what the evidence lower bound gives it" in said
    assert "30.00% off, POD with 2 modes 10.00%" in said
    assert warnings_of(_found([3.0, 2.0]), 0.29, told) == []  # no worse than POD: no harm
    assert warnings_of(_found([3.0, 2.0]), 0.1, {}) == []


def test_idle_latents_are_no_fault_unless_the_error_is_large():
    assert warnings_of(_found([3.0, 0.01, 0.01], error=0.04), 0.01) == []
    assert warnings_of(_found([3.0, 0.01, 0.01]), 0.28) == []
    (said,) = warnings_of(_found([3.0, 0.01, 0.01]), 0.1)
    assert said.startswith("2 of 3 latents have collapsed")


def test_advice_on_the_size():
    assert "a code of 2 would very likely do" in advice_of(_found([5.0, 0.1, 0.1]))
    assert "Try --model.latent 4" in advice_of(_found([5.0, 4.0]))
    assert advice_of(_found([1.5, 0.1], error=0.1)) == "1 of 2 latents are active: the size fits."
    assert "50% of the fields' deviation off: a larger code" in advice_of(_found([1.5, 0.1], error=0.5))


@pytest.mark.parametrize(
    ("model", "training", "words"),
    [
        ({}, {}, None),
        ({"variance": "global"}, {"objective": "free_bits"}, None),
        ({"compression": "ae"}, {}, None),
        ({"compression": "pod"}, {}, None),
        ({}, {"objective": "beta", "beta": 30.0}, "--training.beta"),
        ({"variance": "fixed", "noise_std": 3.0}, {}, "--model.noise-std"),
    ],
)
def test_training_warns_of_collapse_and_never_on_healthy_runs(model, training, words, caplog):
    parts = split(mock_snapshots(1, trajectories=24, times=8), seed=0)
    rom = ROM.for_data(parts.train, latent=4, channels=4, hidden=8, members=1, **model)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, "romvae.training"):
        warnings.simplefilter("ignore", OutOfRangeWarning)
        history = fit(
            rom, parts, vae_steps=80, variance_steps=2, dynamics_steps=2, batch_size=32, augment="none", **training
        )
    said = history.notes.get("latent", {}).get("warnings", [])
    logged = [record.message for record in caplog.records if "--" in record.message]
    if words is None:
        assert said == logged == []
    else:
        assert len(said) == 1
        assert words in said[0]
        early, final = logged  # once on the way, well before the end, and at the end
        assert final == said[0]
        assert words in early
        assert re.match(
            r"after (24|32|40) of 80 steps of the first stage: (posterior collapse|over-regularised)", early
        )


def test_a_warning_on_the_way_waits_until_the_divergence_counts_in_full(caplog):
    """Two looks in a row; before the end of a warm-up, and while a capacity still grows, nothing is judged."""
    parts = split(mock_snapshots(1, trajectories=12, times=6), seed=0)
    rom = ROM.for_data(parts.train, latent=2, channels=4, hidden=8, members=1)
    rom.vae.encoder.linear.requires_grad_(False).weight.zero_()  # every code is the prior: collapsed
    rom.vae.encoder.linear.bias.zero_()
    rom.vae.encoder.head[-1].requires_grad_(False).weight.zero_()
    rom.vae.encoder.head[-1].bias.zero_()
    x = rom.normalised(parts.train)[0]
    assert Beta(2.0, "cyclic").full(0.2)
    assert not Beta(2.0, "cyclic").full(0.3)
    for objective, first in ((Beta(), 30), (Beta(2.0, "warmup", share=0.45), 60), (Capacity(0.1), 60)):
        caplog.clear()
        balance = Balance(rom, x, LOSS_DEFAULTS, 0.1)
        with caplog.at_level(logging.WARNING, "romvae.training"):
            for step in range(1, 101):
                balance.look(step, 100, objective)
        (said,) = [record.message for record in caplog.records]
        assert said.startswith(f"after {first} of 100 steps of the first stage: ")
