r"""Strong-constraint 4D-Var over the initial latent: the trajectory of the model that fits all observations best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor

from romvae.errors import NumericsError

__all__ = ["Variational"]

Predict = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From initial latents `(network, trajectory, latent)` to readings and the variances of what the model cannot
represent in them, both `(time, network, trajectory, sensor)`, float64, with gradients."""


@dataclass(frozen=True)
class Variational:
    r"""The initial latent that fits a background and all observations of a window best.

    It minimises

    .. math:: J(z_0) = \tfrac12 (z_0 - z_b)^T B^{-1} (z_0 - z_b)
        + \tfrac12 \sum_{t,s} \frac{(y_{ts} - H_s(\mu(\Phi_t(z_0))))^2}{r_{ts} + \rho_{ts}}

    by L-BFGS in the variable :math:`B^{-1/2}(z_0 - z_b)`, with gradients through dynamics and decoder. The
    representation errors :math:`\rho` are those at the last outer iterate. The covariance of the analysis is the
    inverse of the Gauss-Newton Hessian; for linear models both are those of the Kalman smoother.

    Strong constraint: the model counts as exact within the window. Where it is chaotic, J has many minima once the
    window is longer than about two Lyapunov times: use shorter windows in turn.

    Arguments:
        outer: Times that the representation errors are updated.
        iterations: Most steps of L-BFGS for each.

    References:
        Courtier, Thépaut and Hollingsworth (1994), A strategy for operational implementation of 4D-Var, using an
        incremental approach, Q. J. R. Meteorol. Soc. 120, 1367.
    """

    outer: int = 2
    iterations: int = 100

    def analysis(self, predict: Predict, mean: Tensor, factor: Tensor, y: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The best initial latents and a factor L of their covariance L L^T, for every network on its own.

        Arguments:
            predict: The model.
            mean: Background latents `(network, trajectory, latent)`, float64.
            factor: Lower triangular factor of the background covariance, `(trajectory, latent, latent)`.
            y: Readings `(time, trajectory, sensor)`, NaN where missing.
            var: Variances of their noise.

        Raises:
            NumericsError: The cost is not finite.
        """
        seen = torch.isfinite(y)
        known = torch.where(seen, y, torch.zeros_like(y))[:, None]
        v = torch.zeros_like(mean, requires_grad=True)

        def latents(v: Tensor) -> Tensor:
            return mean + (factor @ v[..., None])[..., 0]

        precision = torch.zeros_like(known)
        for _ in range(self.outer):
            with torch.no_grad():
                rho = predict(latents(v))[1]
            precision = torch.where(seen[:, None], 1 / (var[:, None] + rho), torch.zeros_like(rho))
            self._minimise(lambda v: _cost(predict(latents(v))[0], v, known, precision), v)  # noqa: B023
        z = latents(v.detach())
        slopes = _jacobian(predict, z, factor)
        hessian = torch.einsum("itnbs,tnbs,jtnbs->nbij", slopes, precision, slopes)
        hessian = hessian + torch.eye(z.shape[-1], dtype=z.dtype)
        lower = torch.linalg.cholesky(hessian)
        inverse = torch.linalg.solve_triangular(lower, torch.eye(z.shape[-1], dtype=z.dtype), upper=False)
        return z, factor @ inverse.mT

    def _minimise(self, cost: Callable[[Tensor], Tensor], v: Tensor) -> None:
        optimiser = torch.optim.LBFGS(
            [v],
            max_iter=self.iterations,
            history_size=30,
            tolerance_grad=1e-11,
            tolerance_change=1e-15,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            value = cost(v)
            (v.grad,) = torch.autograd.grad(value, v)
            return value

        with torch.enable_grad():
            if not bool(cost(v).isfinite()):
                raise NumericsError(
                    "assimilate: the cost of 4D-Var is not finite at the background. Use shorter windows, or a better "
                    "start."
                )
            optimiser.step(closure)


def _cost(predicted: Tensor, v: Tensor, y: Tensor, precision: Tensor) -> Tensor:
    return 0.5 * v.square().sum() + 0.5 * ((y - predicted).square() * precision).sum()


def _jacobian(predict: Predict, z: Tensor, factor: Tensor) -> Tensor:
    """Derivatives of the readings along the columns of `factor`, `(latent, time, network, trajectory, sensor)`."""
    slopes = []
    for j in range(z.shape[-1]):
        with torch.no_grad(), forward_mode.dual_level():
            dual = forward_mode.make_dual(z, factor[..., j].expand_as(z).contiguous())
            tangent = forward_mode.unpack_dual(predict(dual)[0]).tangent
        slopes.append(tangent)
    return torch.stack(slopes)
