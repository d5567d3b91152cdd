"""Every latent dynamics is held to the same laws."""

from __future__ import annotations

import pytest
import torch

from romvae.dynamics import LatentDynamics, LinearDynamics, ResidualDynamics
from romvae.testing import verify_dynamics


def _linear() -> LatentDynamics:
    generator = torch.Generator().manual_seed(0)
    z, c = torch.randn(12, 9, 3, generator=generator), torch.randn(12, 2, generator=generator)
    return LinearDynamics(3, 2, parametric=True, ridge=1e-3).fit(z, c, 0.1)


MODELS = {
    "linear": _linear,
    "residual": lambda: ResidualDynamics(3, 2, 0.1, stride=2, hidden=8),
    "residual in double": lambda: ResidualDynamics(3, 2, 0.1, stride=2, hidden=8).double(),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_dynamics_keeps_the_laws(name):
    verify_dynamics(MODELS[name](), latent=3, parameters=2, dt=0.1)


def test_a_model_that_mixes_trajectories_is_caught():
    class Mixing(ResidualDynamics):
        def rollout(self, z0, c, dt, steps):
            path = super().rollout(z0, c, dt, steps)
            return torch.cat([path[:1], path[1:] + path[1:].mean(-2, keepdim=True)])

    with pytest.raises(AssertionError, match="depends on the others in its batch"):
        verify_dynamics(Mixing(3, 2, 0.1, hidden=8), latent=3, parameters=2, dt=0.1)
