"""Gaussian process over the parameters: regression of many outputs at once, in closed form but for its scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from romvae.errors import NumericsError

__all__ = ["GaussianProcess", "kernel"]


def kernel(a: Tensor, b: Tensor, length: Tensor) -> Tensor:
    """Squared exponential exp(-|(a - b) / length|^2 / 2), `(..., a, b)`, of points `(..., point, parameter)`."""
    difference = (a.unsqueeze(-2) - b.unsqueeze(-3)) / length
    return torch.exp(-0.5 * difference.square().sum(-1))


class GaussianProcess:
    r"""Zero-mean Gaussian processes with common length scales and noise, one amplitude per output.

    With :math:`K = k(c, c) + \nu I`, every output y has the amplitude :math:`s^2 = y^T K^{-1} y / n`, the maximum of
    its marginal likelihood; length scales and the relative noise :math:`\nu` maximise what is left, summed over the
    outputs, by L-BFGS from three starts.

    Arguments:
        c: Points `(point, parameter)`, float64, scaled to about [-1, 1].
        y: Outputs `(point, output)`, float64.

    Attributes:
        length: Length scales `(parameter,)`.
        noise: Relative noise variance.
        amplitude: Variance of each output, `(output,)`.

    References:
        Rasmussen and Williams (2006), Gaussian processes for machine learning, chapters 2 and 5.
    """

    def __init__(self, c: Tensor, y: Tensor) -> None:
        self.c, self.y = c, y
        active = y.square().mean(0) > 0
        best = math.inf
        found = torch.zeros(c.shape[1] + 1, dtype=torch.float64)
        for start in (0.3, 1.0, 3.0):
            value, theta = self._optimised(y[:, active], start)
            if value < best:
                best, found = value, theta
        self.length, self.noise = self._unpack(found)
        self.factor = self._cholesky(found)
        self.weights = torch.cholesky_solve(y, self.factor)
        self.amplitude = (y * self.weights).mean(0).clamp_min(0.0)

    def _optimised(self, y: Tensor, start: float) -> tuple[float, Tensor]:
        theta = torch.tensor([math.log(start)] * self.c.shape[1] + [math.log(1e-2)], dtype=torch.float64)
        if not y.numel():
            return 0.0, theta
        theta.requires_grad_()
        search = torch.optim.LBFGS([theta], max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            search.zero_grad()
            loss = self._loss(theta, y)
            loss.backward()
            return loss

        with torch.enable_grad():
            search.step(closure)
        with torch.no_grad():
            value = float(self._loss(theta, y))
        return (value if math.isfinite(value) else math.inf), theta.detach()

    def _loss(self, theta: Tensor, y: Tensor) -> Tensor:
        """Negative log marginal likelihood per point and output, with a weak prior on the length scales."""
        n, factor = len(y), self._cholesky(theta)
        amplitude = (y * torch.cholesky_solve(y, factor)).sum(0) / n
        fit = 0.5 * amplitude.clamp_min(1e-300).log().mean() + factor.diagonal().log().sum() / n
        return fit + 0.5 * theta[:-1].square().sum() / n

    def _cholesky(self, theta: Tensor) -> Tensor:
        length, noise = self._unpack(theta)
        matrix = kernel(self.c, self.c, length) + noise * torch.eye(len(self.c), dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if int(failed):
            raise NumericsError(
                f"Gaussian process over {len(self.c)} points: its covariance is not positive definite. "
                "Remove parameters that are not finite."
            )
        return factor

    @staticmethod
    def _unpack(theta: Tensor) -> tuple[Tensor, Tensor]:
        """Length scales between 0.02 and 50, and noise of at least 1e-8."""
        bounded = math.log(50.0) * torch.tanh(theta[:-1] / math.log(50.0))
        return bounded.exp(), theta[-1].clamp(-30.0, 5.0).exp() + 1e-8
