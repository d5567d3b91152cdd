"""Linear latent dynamics by least squares: the honest baseline of every latent forecast."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from romvae import batched_solve
from romvae.dynamics.base import LatentDynamics
from romvae.dynamics.least_squares import ridge_fit, stabilised, standardisation
from romvae.errors import ConfigError, DataError, NumericsError

__all__ = ["LinearDynamics"]


class LinearDynamics(LatentDynamics):
    r"""Linear dynamics :math:`z' = A(c)\, z + B c + b + \sigma \varepsilon`.

    :math:`A(c) = A_0`, or with `parametric=True` :math:`A(c) = A_0 + \sum_i c_i A_i`: exact to first order in
    dt for an equation whose linear terms are multiplied by the parameters. The residual's standard deviation
    :math:`\sigma` (per latent) is the predictive one.

    One linear map cannot describe shocks, collisions or amplitude-dependent speeds; that is what a nonlinear
    model has to beat. Other time steps than the fitted one follow from powers of the map (see `operator`).

    Arguments:
        latent: Number of latents.
        parameters: Number of physical parameters, 0 or more.
        parametric: Whether the matrix depends on the parameters.
        ridge: Penalty on the squared coefficients of the increment z' - z, relative to the number of samples,
            after each feature is divided by its standard deviation; a large value tends to persistence plus a
            mean drift. 0 is plain least squares; 1e-6 to 1e-3 helps where there are few trajectories.
        stable: Whether eigenvalues of A(c) outside the unit circle are scaled back onto it.

    References:
        Tu et al. (2014), On dynamic mode decomposition, arXiv:1312.0041.
        McQuarrie, Huang and Willcox (2021), Data-driven reduced-order models via regularised operator
        inference, arXiv:2008.02862.
    """

    A: Tensor
    B: Tensor
    b: Tensor
    std: Tensor
    dt: Tensor

    def __init__(
        self,
        latent: int,
        parameters: int = 0,
        *,
        parametric: bool = False,
        ridge: float = 0.0,
        stable: bool = False,
    ) -> None:
        super().__init__()
        if latent < 1 or parameters < 0:
            raise ConfigError(
                f"LinearDynamics: latent={latent}, parameters={parameters}, expected at least 1 and 0. Correct them."
            )
        if ridge < 0:
            raise ConfigError(f"LinearDynamics: ridge is {ridge}, expected 0 or more. Try 1e-6.")
        self.latent, self.n_parameters = latent, parameters
        self.parametric, self.ridge, self.stable = parametric, ridge, stable
        matrices = 1 + parameters if parametric else 1
        self.register_buffer("A", torch.zeros(matrices, latent, latent))
        self.register_buffer("B", torch.zeros(latent, parameters))
        self.register_buffer("b", torch.zeros(latent))
        self.register_buffer("std", torch.ones(latent))
        self.register_buffer("dt", torch.tensor(float("nan")))

    def fit(self, z: Tensor, c: Tensor, dt: float) -> LinearDynamics:
        """Fits the map to trajectories of latents by (ridge) least squares, in float64 on the CPU.

        Arguments:
            z: Latents, shape `(trajectory, time, latent)`, `dt` apart.
            c: Physical parameters, shape `(trajectory, parameter)`.
            dt: Time step.

        Returns:
            Itself, fitted; `.double()` beforehand keeps the coefficients in float64.

        Raises:
            DataError: Shapes do not fit the model, or a value is not finite.
        """
        z, c = z.detach().to("cpu", torch.float64), c.detach().to("cpu", torch.float64)
        self._check(z, c)
        now, increment = z[:, :-1], z[:, 1:] - z[:, :-1]
        c = c[:, None].expand(-1, now.shape[1], -1)
        centre, width = standardisation(c)
        features = self._features(now, (c - centre) / width).flatten(0, 1)
        weights, offset, residual_std = ridge_fit(features, increment.flatten(0, 1), self.ridge)
        self._store(weights, offset, centre, width)
        self.std.copy_(residual_std)
        self.dt.fill_(dt)
        return self

    def forward(self, history: Tensor, c: Tensor, dt: float) -> Independent:
        """Distribution of the next latent, shape `(..., batch, latent)`; see `LatentDynamics.forward`."""
        A, offset = self.operator(c, dt)
        z = history[..., -1, :]
        return Independent(Normal(_apply(A, z, offset), self._std_at(dt).to(z)), 1)

    def rollout(self, z0: Tensor, c: Tensor, dt: float, steps: int) -> Tensor:
        """Repeated means, as `LatentDynamics.rollout`; the operator is computed once."""
        if steps < 0:
            raise ValueError(f"rollout: steps is {steps}, expected 0 or more. Correct it.")
        A, offset = self.operator(c, dt)
        path = [z0]
        for _ in range(steps):
            path.append(_apply(A, path[-1], offset))
        return torch.stack(path)

    def operator(self, c: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        r"""The affine map :math:`z' = A z + d` over `dt`.

        With s = dt / (fitted dt), a whole s repeats the fitted map. Any other s takes the real fractional
        power of the map, :math:`A^s = V \Lambda^s V^{-1}`; it exists where no eigenvalue is zero or negative.

        Arguments:
            c: Physical parameters, shape `(batch, parameter)`.
            dt: Time step.

        Returns:
            A, shape `(batch, latent, latent)`, and d, shape `(batch, latent)`.

        Raises:
            NumericsError: The map has no real power for this `dt`.
            RuntimeError: The model was not fitted.
        """
        fitted = float(self.dt)
        if not fitted > 0:
            raise RuntimeError("LinearDynamics: not fitted. Call fit(z, c, dt), or load a state_dict.")
        A = self.A[0].expand(c.shape[0], -1, -1)
        if self.parametric:
            A = A + torch.einsum("bp,pij->bij", c.to(self.A), self.A[1:])
        offset = c.to(self.B) @ self.B.mT + self.b
        if self.stable:
            A = stabilised(A)
        ratio = dt / fitted
        if abs(ratio - round(ratio)) < 1e-6 * ratio and round(ratio) >= 1:
            return _repeated(A, offset, round(ratio))
        return _fractional(A, offset, ratio, f"dt={dt:g}, fitted at dt={fitted:g}")

    def _features(self, z: Tensor, c: Tensor) -> Tensor:
        """[z, c, c_1 z, ..., c_P z] along the last axis; the constant is handled by centring."""
        blocks = [z, c]
        if self.parametric:
            blocks += [c[..., i : i + 1] * z for i in range(self.n_parameters)]
        return torch.cat(blocks, dim=-1)

    def _store(self, weights: Tensor, offset: Tensor, centre: Tensor, width: Tensor) -> None:
        """Undoes the standardisation of c and adds the identity, because increments were fitted."""
        d, p = self.latent, self.n_parameters
        linear, drift, bilinear = weights[:d].mT, weights[d : d + p].mT / width, weights[d + p :]
        A = [linear + torch.eye(d).to(linear)]
        if self.parametric:
            slopes = [block.mT / width[i] for i, block in enumerate(bilinear.split(d))] if p else []
            A[0] = A[0] - sum((centre[i] * slope for i, slope in enumerate(slopes)), torch.zeros_like(A[0]))
            A += slopes
        self.A.copy_(torch.stack(A))
        self.B.copy_(drift)
        self.b.copy_(offset - drift @ centre)

    def _std_at(self, dt: float) -> Tensor:
        """Residual std over `dt`: variances of independent residuals add, so they grow like dt."""
        return (self.std * (dt / self.dt).sqrt()).clamp_min(1e-12)

    def _check(self, z: Tensor, c: Tensor) -> None:
        if z.ndim != 3 or z.shape[1] < 2 or z.shape[2] != self.latent:
            raise DataError(
                f"LinearDynamics.fit: z has shape {tuple(z.shape)}, expected (trajectory, 2 or more times, "
                f"{self.latent}). Pass latents as trajectories."
            )
        if tuple(c.shape) != (z.shape[0], self.n_parameters):
            expected = (z.shape[0], self.n_parameters)
            raise DataError(
                f"LinearDynamics.fit: c has shape {tuple(c.shape)}, expected {expected}. "
                "Pass one row of parameters per trajectory."
            )
        for name, values in (("z", z), ("c", c)):
            if not bool(torch.isfinite(values).all()):
                index = torch.nonzero(~torch.isfinite(values))[0].tolist()
                raise DataError(f"LinearDynamics.fit: {name}{index} is not finite. Remove that trajectory.")


def _apply(A: Tensor, z: Tensor, offset: Tensor) -> Tensor:
    return (A.to(z) @ z.unsqueeze(-1)).squeeze(-1) + offset.to(z)


def _repeated(A: Tensor, offset: Tensor, times: int) -> tuple[Tensor, Tensor]:
    power, total = A, offset
    for _ in range(times - 1):
        power, total = A @ power, _apply(A, total, offset)
    return power, total


def _fractional(A: Tensor, offset: Tensor, power: float, what: str) -> tuple[Tensor, Tensor]:
    r"""Power s of the affine map: V L^s V^-1 and V (L^s - 1)/(L - 1) V^-1 d, in float64 on the CPU."""
    advice = "Use a whole multiple of the fitted time step, or fit at this one."
    if not power > 0:
        raise NumericsError(f"LinearDynamics: {what}: expected a positive time step. {advice}")
    A64, d64 = A.detach().to("cpu", torch.float64), offset.detach().to("cpu", torch.float64)
    values, vectors = torch.linalg.eig(A64)
    negative = (values.real <= 0) & (values.imag.abs() <= 1e-12 * values.abs().amax(-1, keepdim=True))
    if bool(negative.any()):
        worst = float(values.real[negative].min())
        raise NumericsError(f"LinearDynamics: {what}: eigenvalue {worst:.3g} has no real power. {advice}")
    raised = values**power
    near_one = (values - 1).abs() < 1e-9
    growth = torch.where(near_one, torch.full_like(values, power), (raised - 1) / (values - 1))
    inverse = batched_solve.inverse(vectors)
    rebuilt = (vectors @ torch.diag_embed(values) @ inverse).real
    error = float((rebuilt - A64).norm() / A64.norm())
    if not error < 1e-8:
        raise NumericsError(
            f"LinearDynamics: {what}: cannot diagonalise the map: error {error:.1e}, expected below 1e-8. {advice}"
        )
    fraction = (vectors @ torch.diag_embed(raised) @ inverse).real
    drift = torch.einsum("bij,bj,bjk,bk->bi", vectors, growth, inverse, d64.to(values.dtype))
    return fraction.to(A), drift.real.to(offset)
