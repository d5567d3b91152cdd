"""One tiny trained ROM for all tests of this folder."""

from __future__ import annotations

import warnings

import pytest

from romvae.data import Parts, split
from romvae.errors import OutOfRangeWarning
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import fit

TINY = {"latent": 3, "channels": 4, "hidden": 8, "members": 2}
STEPS = {"vae_steps": 40, "variance_steps": 5, "dynamics_steps": 5, "batch_size": 32}


def trained(ndim: int) -> tuple[ROM, Parts]:
    parts = split(mock_snapshots(ndim, ("u", "p"), trajectories=24, times=8), seed=0)
    rom = ROM.for_data(parts.train, **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        fit(rom, parts, **STEPS)
    return rom, parts


@pytest.fixture(scope="session")
def line() -> tuple[ROM, Parts]:
    return trained(1)


@pytest.fixture(scope="session", params=[1, 2, 3])
def each(request, line) -> tuple[ROM, Parts]:
    return line if request.param == 1 else trained(request.param)
