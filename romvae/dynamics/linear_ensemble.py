"""Linear latent dynamics in closed form as an ensemble: dynamic mode decomposition with control, bootstrapped."""

from __future__ import annotations

import torch
from torch import Tensor

from romvae.dynamics.affine import AffineDynamics, affine_features, fitted

__all__ = ["LinearEnsemble"]

RIDGES = (0.0, 1e-4, 1e-2)
"""Penalties among which the held-out trajectories choose."""


class LinearEnsemble(AffineDynamics):
    r"""Linear dynamics :math:`z' = (A_0 + \sum_i c_i A_i)\, z + B c + b` by least squares, without training.

    Each member sees a bootstrap sample of the trajectories, and all are moved so that their mean is the fit of all
    trajectories (and widened by sqrt(M / (M - 1)), since M members share that mean): their disagreement is what the
    number of trajectories leaves open, and nothing of what a linear model cannot describe. Penalty, and whether the
    matrix depends on the parameters, are chosen by rollouts of every fifth trajectory.

    One linear map cannot describe shocks, collisions or speeds that depend on the amplitude.

    Arguments:
        latent, parameters, dt, stride, members, controls, stable: As in `AffineDynamics`.
        seed: Seed of the bootstrap.

    References:
        Proctor, Brunton and Kutz (2016), Dynamic mode decomposition with control, arXiv:1409.6358.
    """

    A: Tensor
    B: Tensor
    b: Tensor

    def __init__(
        self,
        latent: int,
        parameters: int,
        dt: float,
        stride: int = 1,
        members: int = 4,
        seed: int = 0,
        *,
        controls: int = 0,
        stable: bool = True,
    ) -> None:
        super().__init__(latent, parameters, dt, stride, members, controls, stable)
        self.seed = seed
        self.register_buffer("A", torch.eye(latent, dtype=torch.float64).repeat(stride, members, 1 + self.fixed, 1, 1))
        self.A[:, :, 1:] = 0.0
        self.register_buffer("B", torch.zeros(stride, members, parameters, latent, dtype=torch.float64))
        self.register_buffer("b", torch.zeros(stride, members, latent, dtype=torch.float64))

    def operators(self, c: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        A, B = self.A[step - 1], self.B[step - 1]
        batch = c.shape[-2]
        c = c.to(A).expand(self.members, batch, -1)
        matrix = A[:, :1] + torch.einsum("mbp,mpij->mbij", c, A[:, 1:])
        return matrix, torch.bmm(c, B[:, : self.fixed]) + self.b[step - 1][:, None], B[:, self.fixed :]

    @torch.no_grad()
    def start_from_linear(self, z: Tensor, c: Tensor, controls: Tensor | None = None) -> None:
        """The whole fit, in float64 on the CPU."""
        ridge, bilinear = self._choice(z, c, controls)
        generator = torch.Generator().manual_seed(self.seed)
        n = len(z)
        rows = [torch.randint(n, (n,), generator=generator) for _ in range(self.members if self.members > 1 else 0)]
        for step in range(1, self.stride + 1):
            features, increments = affine_features(z, c, controls, step, bilinear)
            whole = fitted(features, increments, ridge)
            drawn = [fitted(features[chosen], increments[chosen], ridge) for chosen in rows] or [whole]
            for member, found in enumerate(zip(*_centred(drawn, whole), strict=True)):
                self._store(step, member, *found)

    def _choice(self, z: Tensor, c: Tensor, controls: Tensor | None) -> tuple[float, int]:
        """Penalty and number of bilinear parameters with the smallest rollout error on every fifth trajectory."""
        if len(z) < 10:
            return RIDGES[1] if self.fixed else RIDGES[0], 0
        held = torch.arange(len(z)) % 5 == 4
        twin = LinearEnsemble(
            self.latent, self.parameters_in, float(self.dt), self.stride, 1, controls=self.controls, stable=self.stable
        ).double()
        chosen, least = (RIDGES[1], 0), float("inf")
        some = None if controls is None else controls[~held]
        steps = (z.shape[1] - 1) // self.stride
        coarse = z[held].detach().cpu().double()[:, :: self.stride][:, : steps + 1]
        beside = None if controls is None else controls[held].double()
        for bilinear in sorted({0, self.fixed}):
            features, increments = affine_features(z[~held], c[~held], some, self.stride, bilinear)
            for ridge in RIDGES:
                twin.A.zero_()
                twin._store(self.stride, 0, *fitted(features, increments, ridge))
                path = twin._repeat(coarse[:, 0], c[held].double(), steps, beside)
                error = float((path - coarse.transpose(0, 1)).square().mean())
                if error < least:
                    chosen, least = (ridge, bilinear), error
        return chosen

    def _repeat(self, z: Tensor, c: Tensor, steps: int, controls: Tensor | None) -> Tensor:
        """Large steps only, `(step + 1, batch, latent)`, of the first member."""
        path = [z[None].expand(self.members, -1, -1)]
        maps = self._maps(c, self.stride, z.dtype)
        for k in range(steps):
            row = None if controls is None else controls[:, k * self.stride : (k + 1) * self.stride + 1]
            beside = c if row is None else torch.cat([c, row[:, 0], row[:, -1]], -1)
            path.append(self._mapped(path[-1], beside, maps))
        return torch.stack(path)[:, 0]

    def _store(self, step: int, member: int, weights: Tensor, offset: Tensor) -> None:
        d, p = self.latent, self.parameters_in
        self.A[step - 1, member] = 0.0
        self.A[step - 1, member, 0] = (weights[:d].mT + torch.eye(d, dtype=weights.dtype)).to(self.A.dtype)
        for i in range((len(weights) - d - p) // d):
            self.A[step - 1, member, 1 + i] = weights[d + p + i * d : d + p + (i + 1) * d].mT.to(self.A.dtype)
        self.B[step - 1, member] = weights[d : d + p].to(self.B.dtype)
        self.b[step - 1, member] = offset.to(self.b.dtype)


def _centred(drawn: list[tuple[Tensor, Tensor]], whole: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Weights and offsets of the samples, their mean moved to those of the whole and their spread made unbiased."""
    count = len(drawn)
    wider = (count / max(1, count - 1)) ** 0.5
    parts = [torch.stack(each) for each in zip(*drawn, strict=True)]
    weights, offsets = (w + wider * (part - part.mean(0)) for part, w in zip(parts, whole, strict=True))
    return weights, offsets
