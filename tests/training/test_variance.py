"""The local variance is fitted beside a finished mean, and kept only where it is better than a shared one."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from romvae.data import split
from romvae.rom import ROM
from romvae.symmetry import Symmetry
from romvae.testing import mock_snapshots
from romvae.training.runner import run_stage
from romvae.training.session import Session
from romvae.training.variance import fit_variance

TINY = {"latent": 2, "channels": 4, "hidden": 8, "members": 1}


@pytest.fixture(scope="module")
def parts():
    return split(mock_snapshots(1, trajectories=24, times=8), seed=0)


def _fitted(rom: ROM, x: torch.Tensor, steps: int = 150) -> dict[str, object]:
    def run(stage, batches):
        run_stage(stage, batches, rom, Session(None, {}), "cpu", lambda *args: None)

    return fit_variance(rom.vae, x, Symmetry(), steps, 8e-3, 0, run)


def _noisy(rom: ROM, trajectories: int, first: float, second: float, seed: int) -> torch.Tensor:
    """What the mean reconstructs exactly, and noise of one size in each half of the axis; `(trajectory, time, ...)`."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        clean = rom.vae.decoder(torch.randn(trajectories * 8, 2, generator=g)).mean
    size = torch.where(torch.arange(clean.shape[-1]) < clean.shape[-1] // 2, first, second)
    return (clean + size * torch.randn(clean.shape, generator=g)).unflatten(0, (trajectories, 8))


@pytest.mark.parametrize("rule", ["staged", "student_t", "crps", "global"])
def test_encoder_and_mean_stay_as_they_are_to_the_bit(rule, parts):
    """So the mean of the default is no worse than one that was trained at a shared variance: it is one."""
    rom = ROM.for_data(parts.train, variance=rule, **TINY)
    before = {name: value.clone() for name, value in rom.vae.state_dict().items()}
    _fitted(rom, _noisy(rom, 10, 0.3, 0.05, 0), steps=20)
    for name, value in rom.vae.state_dict().items():
        if name.startswith(("encoder.", "decoder.mean.")):
            assert torch.equal(value, before[name]), name


def test_a_local_variance_that_is_there_is_found_and_kept(parts):
    rom = ROM.for_data(parts.train, **TINY)
    notes = _fitted(rom, _noisy(rom, 30, 0.3, 0.05, 0))
    assert notes["local_variance"] is True
    new = _noisy(rom, 30, 0.3, 0.05, 2).flatten(0, 1)
    with torch.no_grad():
        z = rom.vae.encoder(new).mean
        p = rom.vae.decoder(z)
        error, claimed = ((new - p.mean).square().mean((0, 1)), p.variance.mean((0, 1)))
    half = len(error) // 2
    # What the code lets through of one half's noise is an error of the other half's too.
    assert float(error[:half].mean() / error[half:].mean()) > 4
    np.testing.assert_allclose(
        [claimed[:half].mean(), claimed[half:].mean()], [error[:half].mean(), error[half:].mean()], rtol=0.2
    )


def test_a_local_variance_that_does_not_hold_on_other_trajectories_is_given_up(parts, caplog):
    """The trajectories set aside, the last fifth, err where the others do not."""
    rom = ROM.for_data(parts.train, **TINY)
    x = torch.cat([_noisy(rom, 16, 0.3, 0.03, 0), _noisy(rom, 4, 0.03, 0.3, 1)])
    with caplog.at_level(logging.WARNING, "romvae.training"):
        notes = _fitted(rom, x)
    assert notes["local_variance"] is False
    assert notes["variance_nll"]["local"] > notes["variance_nll"]["shared"]
    assert "the local variance does not beat the shared one on new trajectories" in caplog.text
    with torch.no_grad():
        var = rom.vae.decoder(torch.randn(3, 2)).variance
    torch.testing.assert_close(
        var, rom.vae.decoder.log_var_shared.exp().expand_as(var), rtol=0.03, atol=0
    )  # soft bounds
