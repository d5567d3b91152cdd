"""Least squares for linear dynamics: ridge regression without normal equations, and stability by construction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from romvae.batched_solve import solve

__all__ = ["Ridge", "ridge_fit", "stabilised", "standardisation"]

MARGIN, HIGHEST = 1e-6, 2**14
"""How far below one the bound on the eigenvalues has to be, far above the round-off of products; the last power."""


def standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all but the last axis; a constant feature keeps the width 1."""
    flat = features.flatten(0, -2)
    centre = flat.mean(0)
    width = (flat - centre).square().mean(0).sqrt()
    constant = width <= 1e-12 * centre.abs()
    return centre, torch.where(constant | (width == 0), torch.ones_like(width), width)


@dataclass(frozen=True)
class Ridge:
    """Ridge regressions of the same data with any penalty, by one QR and one SVD, never by normal equations.

    An exactly linear system is recovered to round-off.
    """

    centre: Tensor
    size: Tensor
    mean: Tensor
    count: int
    values: Tensor
    turn: Tensor
    right: Tensor

    @classmethod
    def of(cls, features: Tensor, target: Tensor, share: Tensor | None = None) -> Ridge:
        """Prepares the fit.

        Arguments:
            features: F, `(sample, feature)`.
            target: y, `(sample, target)`.
            share: Standard deviation that each feature is scaled to before it is penalised, `(feature,)`; 1 unless
                given. A smaller one makes the penalty of its weights heavier.
        """
        centre, width = standardisation(features)
        size = width if share is None else width / share
        mean = target.mean(0)
        Q, R = torch.linalg.qr((features - centre) / size)
        U, s, Vh = torch.linalg.svd(R, full_matrices=False)
        kept = s > s.max() * torch.finfo(s.dtype).eps * max(features.shape)
        right = U.mT @ (Q.mT @ (target - mean))
        return cls(centre, size, mean, len(features), s[kept], Vh[kept].mT, right[kept])

    def weights(self, penalty: float) -> tuple[Tensor, Tensor]:
        """W `(feature, target)` and b of the least |y - F W - b|^2 / N + penalty |W|^2, F scaled."""
        gain = self.values / (self.values**2 + self.count * penalty)
        found = (self.turn @ (gain[:, None] * self.right)) / self.size[:, None]
        return found, self.mean - self.centre @ found

    def moved(
        self, features: Tensor, target: Tensor, penalty: float, times: list[Tensor], groups: int, samples: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Fits of samples that were drawn with replacement, to first order in how often each row was drawn.

        Their spread is that of the sandwich estimator, which is right where rows of a group belong together and errors
        differ in size; residuals, which a fit makes smaller than errors, are enlarged as it does, at most twofold.

        Arguments:
            features: Of the fit.
            target: Of the fit.
            penalty: Of the fit.
            times: How often each row was drawn, integers `(sample,)`, one for each fit.
            groups: Groups that rows were drawn in.
            samples: Rows of the fit that are no copies of others.

        Returns:
            Weights and offset of each.
        """
        weights, offset = self.weights(penalty)
        residual = target - features @ weights - offset
        freedom = max(samples - len(self.values) - 1, samples / 4)
        residual *= (groups / max(groups - 1, 1) * samples / freedom) ** 0.5
        turned = ((features - self.centre) / self.size) @ self.turn
        gain = 1 / (self.values**2 + self.count * penalty)
        found = []
        for each in times:
            error = residual * (each - 1).to(residual)[:, None]
            change = (self.turn @ (gain[:, None] * (turned.mT @ error))) / self.size[:, None]
            found.append((weights + change, offset + error.mean(0) - self.centre @ change))
        return found


def ridge_fit(features: Tensor, target: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, offset, residual std: least |target - F W - b|^2 / N + ridge |W|^2, F standardised features."""
    fit = Ridge.of(features, target)
    weights, offset = fit.weights(ridge)
    residual = target - features @ weights - offset
    freedom = max(len(features) - len(fit.values) - 1, 1)
    return weights, offset, (residual.square().sum(0) / freedom).sqrt()


def stabilised(A: Tensor) -> Tensor:
    """Matrices `(..., n, n)` with eigenvalues of modulus > 1 scaled back to 1; one without such stays bit-equal."""
    if torch.compiler.is_exporting():  # a graph cannot branch on values: it scales all of them and chooses
        scaled, unstable = _scaled_back(A, check=False)
        return torch.where(unstable[..., None, None], scaled, A).clone(memory_format=torch.contiguous_format)
    doubtful = ~_surely_stable(A)
    if not bool(doubtful.any()):
        return A
    scaled, unstable = _scaled_back(A[doubtful], check=True)
    if not bool(unstable.any()):
        return A
    stable = A.clone()
    stable[doubtful] = torch.where(unstable[..., None, None], scaled, A[doubtful])
    return stable


def _scaled_back(A: Tensor, check: bool) -> tuple[Tensor, Tensor]:
    """The matrices with their eigenvalues brought into the unit circle, and whether any was outside."""
    values, vectors = torch.linalg.eig(A)
    modulus = values.abs()
    scaled = vectors @ torch.diag_embed(values / modulus.clamp_min(1.0))
    if check:
        solution = solve(vectors, scaled, left=False)
    else:
        solution, _ = torch.linalg.solve_ex(vectors, scaled, left=False)
    return solution.real.to(A.dtype), (modulus > 1).any(-1)


def _surely_stable(A: Tensor) -> Tensor:
    r"""Whether :math:`\|A^k\|^{1/k} < 1` for a power k of two up to `HIGHEST`, which bounds all eigenvalues by one.

    Products of matrices instead of eigenvalues, which took nine times as long as eleven of them (256 matrices of
    64 x 64). False says nothing.
    """
    power = A.double().reshape(-1, *A.shape[-2:])
    sure = torch.zeros(len(power), dtype=torch.bool, device=A.device)
    rows, log, k = torch.arange(len(power), device=A.device), power.new_zeros(len(power)), 1
    while k <= HIGHEST and len(rows):
        norm = torch.linalg.matrix_norm(power).clamp_min(torch.finfo(power.dtype).tiny)
        log = log + norm.log()  # of the norm of the power itself
        found = log < -MARGIN * k
        sure[rows[found]] = True
        rows, log, power = rows[~found], 2 * log[~found], power[~found] / norm[~found, None, None]
        power, k = power @ power, 2 * k
    return sure.reshape(A.shape[:-2])
