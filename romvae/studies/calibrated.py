"""What a study needs calibrated and the model is not yet: quantities of its own, and the trust horizon."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import xarray as xr

from romvae.errors import OutOfRangeWarning
from romvae.quantities import Quantity, calibrate
from romvae.trust import calibrate_trust

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["calibrated_for", "missing"]


def missing(rom: ROM, quantities: Sequence[Quantity], tolerance: float | None) -> list[str]:
    """What has to be calibrated first, in words; nothing where the model knows it all."""
    known = set(rom.calibration.quantities.names)
    words = [f"quantity {quantity.name}" for quantity in quantities if quantity.name not in known]
    return words + (["the trust horizon"] if tolerance is not None and rom.trust.trajectories == 0 else [])


def calibrated_for(rom: ROM, quantities: Sequence[Quantity], tolerance: float | None, data: xr.Dataset | None) -> None:
    """Calibrates what is missing, on trajectories that nothing else was fitted on; kept in the model.

    On one thread, so that a study which is continued has the same calibration to the bit. Without data nothing is done:
    what is missing is refused where it is used.

    Arguments:
        rom: Trained.
        quantities: What is asked for.
        tolerance: Of the trust horizon, if one is asked for.
        data: The calibration part, lazily opened if it is large.
    """
    if data is None:
        return
    known = set(rom.calibration.quantities.names)
    new = [quantity for quantity in quantities if quantity.name not in known]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfRangeWarning)  # said of the study's points only
            if new:
                calibrate(rom, data, new)
            if tolerance is not None and rom.trust.trajectories == 0:
                calibrate_trust(rom, data)
    finally:
        torch.set_num_threads(threads)
