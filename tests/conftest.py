"""Every test draws the same random numbers, whatever ran before it; and a command line to run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import romvae

if "PYTEST_XDIST_WORKER" in os.environ:  # one process per core: more threads than that would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line; gives exit code, standard output and standard error."""
    from romvae import cli

    def run(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def calibrated_rom() -> tuple[romvae.ROM, romvae.data.Parts]:
    """A small ROM of two fields, barely trained and calibrated on 30 runs, and its data. To be copied, not changed."""
    import romvae
    from romvae.testing import mock_snapshots

    data = mock_snapshots(1, ("u", "v"), trajectories=60, times=8)
    parts = romvae.split(data, seed=0, fractions={"train": 16, "variance": 8, "calibration": 30, "test": 6})
    rom = romvae.ROM.for_data(parts.train, latent=3, channels=4, hidden=8, members=2)
    romvae.fit(rom, parts, seed=0, batch_size=8, vae_steps=6, variance_steps=4, dynamics_steps=6)
    return rom, parts
