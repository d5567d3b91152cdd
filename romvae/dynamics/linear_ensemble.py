"""Linear latent dynamics in closed form as an ensemble: dynamic mode decomposition with control, bootstrapped."""

from __future__ import annotations

import torch
from torch import Tensor

from romvae.dynamics.affine import AffineDynamics, affine_features, fitted
from romvae.dynamics.groups import Groups
from romvae.dynamics.monomials import degrees_of, exponents, highest_degree, monomials

__all__ = ["LinearEnsemble"]

RIDGES = (0.0, 1e-4, 1e-2)
"""Penalties among which the held-out trajectories choose."""
FEATURES = 512
"""Most numbers that a map is linear in: the latents, times the monomials of the parameters with the constant one."""
GAIN = 0.8
"""Share of the mean square error without squares and higher powers of the parameters that those must not exceed."""


class LinearEnsemble(AffineDynamics):
    r"""Linear dynamics :math:`z' = (A_0 + \sum_k g_k(c) A_k)\, z + B g(c) + b` by least squares, without training.

    The functions g are monomials of the parameters, of up to fourth degree where there are one or two and of up to
    second for three or four: what a finite step makes of a coefficient in the equation is no straight line, still less
    over a wide range of it, whose logarithm is what is scaled.

    Each member sees a bootstrap sample of the trajectories, drawn with all of their copies, and all are moved so that
    their mean is the fit of all trajectories (and widened by sqrt(M / (M - 1)), since M members share that mean): their
    disagreement is what the number of trajectories leaves open, and nothing of what a linear model cannot describe.
    Penalty, and the degree in which the matrix depends on the parameters, are chosen by rollouts of every fifth
    trajectory.

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
        powers = exponents(self.fixed, highest_degree(self.fixed, max(1, FEATURES // latent)))
        self.register_buffer("exponents", powers, persistent=False)
        self.register_buffer("A", torch.zeros(stride, members, 1, latent, latent, dtype=torch.float64))
        self.register_buffer("B", torch.zeros(stride, members, 2 * controls, latent, dtype=torch.float64))
        self.register_buffer("b", torch.zeros(stride, members, latent, dtype=torch.float64))
        self._resize(self.fixed)

    def operators(self, c: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        A, B = self.A[step - 1], self.B[step - 1]
        count = A.shape[1] - 1
        g = self._functions(c.to(A), count).expand(self.members, c.shape[-2], -1)
        matrix = A[:, :1] + torch.einsum("mbk,mkij->mbij", g, A[:, 1:])
        return matrix, torch.bmm(g, B[:, :count]) + self.b[step - 1][:, None], B[:, count:]

    def _functions(self, c: Tensor, count: int) -> Tensor:
        """The first monomials of the parameters, `(..., count)`."""
        return c if count == self.fixed else monomials(c, self.get_buffer("exponents")[:count].to(c.device))

    def _resize(self, count: int) -> None:
        """Room for so many functions of the parameters; the maps are the identity then."""
        eye = torch.eye(self.latent).to(self.A)
        self.A = torch.cat([eye[None], eye.new_zeros(count, *eye.shape)]).repeat(self.stride, self.members, 1, 1, 1)
        self.B = self.B.new_zeros(self.stride, self.members, count + 2 * self.controls, self.latent)

    @torch.no_grad()
    def start_from_linear(
        self, z: Tensor, c: Tensor, controls: Tensor | None = None, *, group: Tensor | None = None
    ) -> None:
        """The whole fit, in float64 on the CPU."""
        groups = Groups.read(group, len(z))
        ridge, degree = self._choice(z, c, controls, groups)
        count, bilinear = self._counts(degree)
        self._resize(count)
        g = self._functions(c.detach().cpu().double(), count)
        generator = torch.Generator().manual_seed(self.seed)
        n = len(groups)
        draws = [torch.randint(n, (n,), generator=generator) for _ in range(self.members if self.members > 1 else 0)]
        rows = [groups.rows_of(each) for each in draws]
        for step in range(1, self.stride + 1):
            features, increments = affine_features(z, g, controls, step, bilinear)
            whole = fitted(features, increments, ridge)
            drawn = [fitted(features[chosen], increments[chosen], ridge) for chosen in rows] or [whole]
            for member, found in enumerate(zip(*_centred(drawn, whole), strict=True)):
                self._store(step, member, *found)

    def _counts(self, degree: int) -> tuple[int, int]:
        """Functions of the parameters that count, those of first degree always; and how many multiply the latents."""
        upto = int((degrees_of(self.get_buffer("exponents")) <= degree).sum())
        return max(upto, self.fixed), upto

    def _choice(self, z: Tensor, c: Tensor, controls: Tensor | None, groups: Groups) -> tuple[float, int]:
        """Penalty and degree in the parameters with the smallest rollout error on every fifth trajectory."""
        held = groups.held_out()
        if held is None:
            return RIDGES[1] if self.fixed else RIDGES[0], 0
        twin = LinearEnsemble(
            self.latent, self.parameters_in, float(self.dt), self.stride, 1, controls=self.controls, stable=self.stable
        ).double()
        chosen, least = (RIDGES[1], 0), float("inf")
        some = None if controls is None else controls[~held]
        steps = (z.shape[1] - 1) // self.stride
        coarse = z[held].detach().cpu().double()[:, :: self.stride][:, : steps + 1]
        beside = None if controls is None else controls[held].double()
        c = c.detach().cpu().double()
        most = int(degrees_of(self.get_buffer("exponents")).max()) if self.fixed else 0
        for degree in sorted({0, min(1, most), min(2, most), most}):
            count, bilinear = twin._counts(degree)
            twin._resize(count)
            g = twin._functions(c[~held], count)
            features, increments = affine_features(z[~held], g, some, self.stride, bilinear)
            best, penalty = float("inf"), RIDGES[1]
            for ridge in RIDGES:
                twin.A.zero_()
                twin._store(self.stride, 0, *fitted(features, increments, ridge))
                path = twin._repeat(coarse[:, 0], c[held], steps, beside)
                error = float((path - coarse.transpose(0, 1)).square().mean())
                best, penalty = min((best, penalty), (error, ridge))
            if best < (GAIN if degree > 1 else 1.0) * least:
                chosen, least = (penalty, degree), best
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
        d, p = self.latent, self.B.shape[2]
        self.A[step - 1, member] = 0.0
        self.A[step - 1, member, 0] = (weights[:d].mT + torch.eye(d, dtype=weights.dtype)).to(self.A.dtype)
        for i in range((len(weights) - d - p) // d):
            self.A[step - 1, member, 1 + i] = weights[d + p + i * d : d + p + (i + 1) * d].mT.to(self.A.dtype)
        self.B[step - 1, member] = weights[d : d + p].to(self.B.dtype)
        self.b[step - 1, member] = offset.to(self.b.dtype)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        matrices = state_dict.get(prefix + "A", self.A)
        if matrices.ndim == 5 and self.fixed < matrices.shape[2] <= 1 + len(self.get_buffer("exponents")):
            self._resize(matrices.shape[2] - 1)  # how many functions of the parameters count was for the data to say
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _centred(drawn: list[tuple[Tensor, Tensor]], whole: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Weights and offsets of the samples, their mean moved to those of the whole and their spread made unbiased."""
    count = len(drawn)
    wider = (count / max(1, count - 1)) ** 0.5
    parts = [torch.stack(each) for each in zip(*drawn, strict=True)]
    weights, offsets = (w + wider * (part - part.mean(0)) for part, w in zip(parts, whole, strict=True))
    return weights, offsets
