"""Every kind of ensemble dynamics, small, and the systems that they are tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from romvae.dynamics import (
    EnsembleDynamics,
    FourierDynamics,
    GaussianTransition,
    GpDynamics,
    GruDynamics,
    LinearEnsemble,
    OdeDynamics,
    ResidualDynamics,
    TransformerDynamics,
)

DT = 0.1


def _transition(latent: int, conditions: int, dt: float, stride: int = 1, members: int = 2, **sizes: Any):
    return GaussianTransition(ResidualDynamics(latent, conditions, dt, 1, members, **sizes))


KINDS: dict[str, Callable[..., EnsembleDynamics]] = {
    "linear": LinearEnsemble,
    "gp": GpDynamics,
    "residual": ResidualDynamics,
    "ode": OdeDynamics,
    "gru": GruDynamics,
    "transformer": TransformerDynamics,
    "fourier": FourierDynamics,
    "transition": _transition,
}
CLOSED = ("linear", "gp")
LEARNED = ("residual", "ode", "gru", "transformer", "fourier")


def build(kind: str, latent: int = 3, parameters: int = 2, stride: int = 1, members: int = 2, **more: Any):
    """Untrained, in float64."""
    sizes = {} if kind in CLOSED else {"hidden": 8, "depth": 2}
    if kind in ("linear", "gp", "ode") and "controls" in more:
        sizes["controls"] = more.pop("controls")
    more.pop("controls", None)
    return KINDS[kind](latent, parameters, DT, stride, members, **sizes, **more).double()


def rotation(latent: int, radius: float = 1.0, seed: int = 0, angle: float = 1 / 6) -> Tensor:
    """A map with all eigenvalues of one modulus: exp(skew) times a radius."""
    noise = torch.randn(latent, latent, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return radius * torch.linalg.matrix_exp((noise - noise.mT) * angle)


def linear_system(
    latent: int = 3,
    parameters: int = 2,
    *,
    bilinear: bool = False,
    controls: int = 0,
    trajectories: int = 20,
    steps: int = 24,
    radius: float = 0.98,
    angle: float = 1 / 6,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Latents of z' = A(c) z + B c + B0 u + B1 u', parameters, and controls; float64."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    A = rotation(latent, radius, angle=angle).expand(trajectories, -1, -1)
    c = 2 * torch.rand(trajectories, parameters, dtype=torch.float64, generator=generator) - 1
    if bilinear:
        A = A + torch.einsum("bp,pij->bij", c, 0.01 * normal(parameters, latent, latent))
    drift = 0.05 * c @ normal(parameters, latent)
    u = normal(trajectories, steps + 1, controls) if controls else None
    B0, B1 = 0.1 * normal(controls, latent), 0.1 * normal(controls, latent)
    path = [normal(trajectories, latent)]
    for k in range(steps):
        after = torch.einsum("bij,bj->bi", A, path[-1]) + drift
        path.append(after if u is None else after + u[:, k] @ B0 + u[:, k + 1] @ B1)
    return torch.stack(path, 1), c, u
