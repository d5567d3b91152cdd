"""What the linear kinds share: an affine map per member, trajectory and step, applied without a network."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from romvae.dynamics.base import EnsembleDynamics, condition, step_pairs
from romvae.dynamics.least_squares import ridge_fit, stabilised
from romvae.errors import NumericsError

__all__ = ["AffineDynamics", "affine_features", "bilinear_features", "fitted"]

MATRICES = 2**24
"""Numbers in the matrices that are there at once: of more rows, each with its own, some are taken at a time."""


class AffineDynamics(EnsembleDynamics):
    r"""Ensemble of affine maps :math:`z(t + j\,dt) = A_{mj}(c)\, z(t) + B_{mj} c + b_{mj}`, j = 1 to `stride`.

    Each number j of stored steps has its own least-squares map, so that times between two large steps are read off
    directly. A rollout repeats the map of the largest step; with `stable`, eigenvalues of that map outside the unit
    circle are scaled back onto it, so that no forecast grows exponentially. The maps are kept in float64.

    A subclass writes `operators` and `start_from_linear`.

    Arguments:
        latent: Number of latents.
        parameters: Number of conditions: physical parameters, and twice the controls.
        dt: Time between stored snapshots, physical units.
        stride: Stored steps in the largest step.
        members: Members of the ensemble.
        controls: Number of controls.
        stable: Whether eigenvalues outside the unit circle are scaled back onto it.
    """

    closed_form = True

    def __init__(
        self, latent: int, parameters: int, dt: float, stride: int, members: int, controls: int, stable: bool
    ) -> None:
        super().__init__()
        self.latent, self.parameters_in, self.stride, self.members = latent, parameters, stride, members
        self.controls, self.stable = controls, stable
        self.register_buffer("dt", torch.tensor(float(dt), dtype=torch.float64))
        self.register_buffer("std", torch.full((latent,), 1e-3))

    @property
    def fixed(self) -> int:
        """Conditions that do not vary in time: the physical parameters."""
        return self.parameters_in - 2 * self.controls

    @abstractmethod
    def operators(self, c: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The affine map over `step` stored steps.

        Arguments:
            c: Parameters without controls, `(member or 1, batch, parameter)`.
            step: 1 to `stride`.

        Returns:
            A `(member, batch, latent, latent)`; what the parameters and the constant add, `(member, batch, latent)`;
            and the weights of the controls at start and end, `(member, 2 * control, latent)`.
        """

    def flow(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        z = history[..., -1, :].expand(self.members, *history.shape[-4:-2][-1:], history.shape[-1])
        if isinstance(dt, Tensor):
            return self._mixed(z, c, dt)
        step, blocks = self._step(dt), self._blocks(c.shape[-2], 1)
        if len(blocks) == 1:
            return self._mapped(z, c, self._maps(c, step, z.dtype))
        return torch.cat([self._alike(z[:, rows], c[..., rows, :], step) for rows in blocks], 1)

    def rollout(
        self,
        z0: Tensor,
        c: Tensor,
        dt: float,
        steps: int,
        *,
        past: Tensor | None = None,
        controls: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """As `EnsembleDynamics.rollout`; the maps are computed once.

        Raises:
            NumericsError: `dt` is no whole fraction of the largest step, which alone is stable by construction.
        """
        if steps < 0:
            raise ValueError(f"rollout: steps is {steps}, expected 0 or more. Give the number of steps of dt.")
        unit = self._step(dt)
        if self.stride % unit:
            raise NumericsError(
                f"{type(self).__name__}: dt is {unit} stored steps, of which the largest step of {self.stride} is no "
                "multiple. Use a whole fraction of it."
            )
        stride = max(1, self.stride // unit)
        lengths = {*range(1, min(stride, steps + 1)), stride}
        blocks = self._blocks(c.shape[-2], len(lengths))
        if len(blocks) > 1:
            told = [None if controls is None else controls[..., rows, :, :] for rows in blocks]
            parts = zip(blocks, told, strict=True)
            paths = [self.rollout(z0[..., k, :], c[..., k, :], dt, steps, controls=some) for k, some in parts]
            return torch.cat(paths, 2)
        z = z0.expand(self.members, *z0.shape[-2:])
        maps = {j: self._maps(c, j * unit, z.dtype) for j in lengths}
        path = [z]
        for k in range(1, steps + 1):
            whole = (k - 1) // stride * stride
            begin = path[whole]
            path.append(self._mapped(begin, condition(c, controls, whole, k), maps[k - whole]))
        return torch.stack(path)

    def _blocks(self, rows: int, maps: int) -> list[slice]:
        """Rows that are taken at once, where each has so many maps; in a graph, all of them."""
        if torch.compiler.is_compiling():
            return [slice(None)]
        most = max(1, MATRICES // (maps * self.members * self.latent**2))
        return [slice(at, at + most) for at in range(0, rows, most)] or [slice(None)]

    def _alike(self, z: Tensor, c: Tensor, step: int) -> Tensor:
        """A step of rows of which many have the same parameters, as those of one trajectory have."""
        if c.ndim != 2 or c.requires_grad:
            return self._mapped(z, c, self._maps(c, step, z.dtype))
        own, which = c[:1, : self.fixed], torch.zeros(len(c), dtype=torch.long, device=c.device)
        if self.fixed:
            own, which = torch.unique(c[:, : self.fixed], dim=0, return_inverse=True)
        A, offset, forced = self._maps(own, step, z.dtype)
        return self._mapped(z, c, (A[:, which], offset[:, which], forced))

    def _maps(self, c: Tensor, step: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        c = c[..., : self.fixed]
        A, offset, forced = self.operators(c if c.ndim == 3 else c[None], step)
        A = stabilised(A) if self.stable and step == self.stride else A
        return A.to(dtype), offset.to(dtype), forced.to(dtype)

    def _mapped(self, z: Tensor, c: Tensor, maps: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        A, offset, forced = maps
        after = torch.einsum("mbij,mbj->mbi", A, z) + offset
        if self.controls:
            controls = c[..., self.fixed :].to(z).expand(self.members, z.shape[1], -1)
            after = after + torch.bmm(controls, forced)
        return after

    def _mixed(self, z: Tensor, c: Tensor, dt: Tensor) -> Tensor:
        """Another step for every sample."""
        steps = (dt / float(self.dt)).round().long().expand(z.shape[:2])
        out = z.new_empty(z.shape)
        for step in steps.unique().tolist():
            out = torch.where((steps == step)[..., None], self._mapped(z, c, self._maps(c, int(step), z.dtype)), out)
        return out

    def _step(self, dt: float) -> int:
        """Stored steps in `dt`.

        Raises:
            NumericsError: It is not a whole number of them, between 1 and `stride`.
        """
        ratio = dt / float(self.dt)
        step = round(ratio)
        if abs(ratio - step) > 1e-6 * max(ratio, 1.0) or not 1 <= step <= self.stride:
            raise NumericsError(
                f"{type(self).__name__}: dt={dt:g} is {ratio:.4g} stored steps, expected a whole number of them from "
                f"1 to {self.stride}. Use such a step, or dynamics='ode' for others."
            )
        return step


def affine_features(z: Tensor, c: Tensor, controls: Tensor | None, step: int, bilinear: int) -> tuple[Tensor, Tensor]:
    """Features [z, c, c_1 z, ..., c_P z] of all pairs `step` apart, and the increments z' - z, both float64.

    Arguments:
        z: Latents `(trajectory, time, latent)`.
        c: Parameters `(trajectory, parameter)`.
        controls: Controls `(trajectory, time, control)`.
        step: Stored steps between the two of a pair.
        bilinear: Parameters that multiply the latents, the first ones.

    Returns:
        Shapes `(trajectory, pair, feature)` and `(trajectory, pair, latent)`.
    """
    now, later, conditions = (part.detach().cpu().double() for part in step_pairs(z, c, controls, step))
    return bilinear_features(now, conditions, bilinear), later - now


def bilinear_features(z: Tensor, conditions: Tensor, bilinear: int) -> Tensor:
    """[z, c, c_1 z, ..., c_P z] along the last axis, P conditions multiplying the latents."""
    return torch.cat([z, conditions] + [conditions[..., i : i + 1] * z for i in range(bilinear)], -1)


def fitted(features: Tensor, increments: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Ridge weights `(feature, latent)` and offset `(latent,)` of some trajectories' features and increments."""
    weights, offset, _ = ridge_fit(features.flatten(0, 1), increments.flatten(0, 1), ridge)
    return weights, offset
