"""A ROM that needs no training: its bits, its intervals and its files are those of any other."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace

import pytest
import torch

import romvae.forecast
import romvae.studies.reduced
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import recalibrate


@pytest.fixture(autouse=True)
def _one_thread():
    """Rollouts on disk are computed on one thread; what they are compared with has to be so too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package", autouse=True)
def _small_blocks():
    """Four trajectories together instead of 16: the laws are about blocks, not about their size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(romvae.forecast, "BLOCK", 4)
        patch.setattr(romvae.studies.reduced, "BLOCK", 4)
        yield


@pytest.fixture(scope="package")
def small():
    """ROM, initial fields of 6 trajectories (two blocks, the last one short), and 12 to calibrate on.

    `untouched` is the ROM as it was before any study calibrated more in it.
    """
    data = mock_snapshots(1, ("u", "v"), trajectories=18, times=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rom = recalibrate(
            ROM.for_data(data.isel(trajectory=slice(0, 6)), latent=4, channels=4, hidden=8, members=2),
            data.isel(trajectory=slice(6, None)),
        )
    return SimpleNamespace(
        rom=rom,
        untouched=copy.deepcopy(rom),
        start=data.isel(time=0, trajectory=slice(0, 6)),
        calibration=data.isel(trajectory=slice(6, None)),
    )


@pytest.fixture(scope="package")
def forecast(small, _small_blocks):
    """What nobody shared out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = small.rom.rollout(small.start, steps=4, members=8)
    torch.set_num_threads(threads)
    return found


def stopping(after: int, stage: str = "rollout"):
    """Progress that is interrupted once `after` units of a stage are done."""

    def progress(name: str, done: int, total: int, note: str = "") -> None:
        if name == stage and done >= after:
            raise KeyboardInterrupt

    return progress
