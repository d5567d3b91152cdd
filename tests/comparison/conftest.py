"""A ROM that has learned nothing, and its comparison with the small case: quick, and with every part of it."""

from __future__ import annotations

import pytest
import xarray as xr

from romvae import split
from romvae.comparison import Comparison, compare
from romvae.data.split import Parts
from romvae.rom import ROM
from romvae.solvers import simulate

from .small_case import SMALL


@pytest.fixture(scope="session")
def parts() -> Parts:
    return split(simulate(SMALL, 40, 0, 1, error_estimate=True), seed=0)


@pytest.fixture(scope="session")
def rom(parts: Parts) -> ROM:
    return ROM.for_data(parts.train, latent=4, channels=4, hidden=8, members=2)


@pytest.fixture(scope="session")
def compared(rom: ROM, parts: Parts) -> Comparison:
    counts = {"train": parts.train.sizes["trajectory"], "test": parts.test.sizes["trajectory"]}
    return compare(
        rom,
        parts.test,
        train=parts.train,
        reference=SMALL,
        seconds={"vae": 0.5, "dynamics": 0.5},
        split=counts,
        members=8,
        cost_cap=1.0,
        batch=8,
    )


@pytest.fixture(scope="session")
def test_part(parts: Parts) -> xr.Dataset:
    return parts.test
