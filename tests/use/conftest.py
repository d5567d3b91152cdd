"""A ROM that needs no training: heat conduction is linear, so that POD with linear dynamics nearly solves it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest

import romvae
from romvae.dynamics.linear_ensemble import Form, LinearEnsemble
from romvae.solvers import get_case


@pytest.fixture(scope="session")
def heat():
    """Case, parts and ROM; 24 calibration trajectories."""
    case = get_case("heat_1d")
    case = replace(case, times=case.times[:: max(1, len(case.times) // 12)][:11])
    ds = romvae.simulate(case, 48, seed=0)
    parts = romvae.split(ds, seed=0, fractions={"train": 12, "variance": 4, "calibration": 24, "test": 8})
    rom = romvae.ROM.for_data(parts.train, latent=5, members=2, compression="pod", dynamics="linear")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(LinearEnsemble, "_choice", lambda *data: Form(1))  # with another form it would be exact
        romvae.fit(rom, parts, variance_steps=20, threads=1)
    return SimpleNamespace(case=case, parts=parts, rom=rom)
