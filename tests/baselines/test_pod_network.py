"""POD with the ROM's dynamics."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae.baselines import Persistence, PODNetwork
from romvae.metrics import relative_l2


@pytest.mark.slow
def test_it_beats_persistence_and_starts_as_the_projection(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    model = PODNetwork(8, steps=30).fit(gaussians)
    start = new_gaussians.isel(time=0)
    forecast = model.rollout(start, new_gaussians.time)
    still = Persistence().fit(gaussians).rollout(start, new_gaussians.time)
    assert float(relative_l2(new_gaussians, forecast).u) < 0.5 * float(relative_l2(new_gaussians, still).u)
    projected = model.rom.decode(model.rom.encode(start)["latent_mean"])
    np.testing.assert_allclose(forecast.u.isel(time=0), projected.u.isel(time=0), atol=1e-5)
