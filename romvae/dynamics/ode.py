"""Neural ordinary differential equation for the latent, with a fixed or an adaptive step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from romvae.dynamics.exponential import exponential_step, step_matrices
from romvae.dynamics.members import MemberPerceptron
from romvae.dynamics.network import NetworkDynamics
from romvae.dynamics.polynomial import PolynomialTerms, cubic, polynomial_start
from romvae.errors import ConfigError, optional_import

__all__ = ["OdeDynamics"]


class OdeDynamics(NetworkDynamics):
    r"""Neural ODE :math:`\dot z = f_m(z, c)`, a linear field plus a network, for steps of any length.

    Where they forecast better, polynomial terms stand beside the linear field (`PolynomialTerms`; neither with controls
    nor with the adaptive solver). What is then known in closed form stays as it is, and only the network is trained: on
    windows of noisy codes, weights that the forecast hangs on would forget more than they learn.

    Time is counted in units of the largest step T. The fixed-step solver is the classical Runge-Kutta method of order
    four with `substeps` steps in T, and proportionally fewer, at least one, in a shorter step: `rollout(m + n)` is
    `rollout(n)` after `rollout(m)` to round-off for whole large steps, and to the order of the method elsewhere. Beside
    a polynomial field, the times within a large step are read off the cubic through its ends and their rates of change
    where held-out forecasts say that it is as good: a rollout then costs five evaluations of the field for `stride`
    stored steps. Where its linear part is too fast for these steps, as for codes of diffusion on many scales, steps are
    exponential ones of the same order, in which that part is exact (`exponential_step`). The adaptive solver is Dormand
    and Prince's method of order five at tolerances of 1e-6 (relative) and 1e-7.

    Arguments:
        latent, parameters, dt, stride, members, hidden, depth: As in `NetworkDynamics`; width 128 and 2 hidden layers
            are a good start.
        seed: Seed of the initial weights.
        solver: `rk4`, or `adaptive` through torchdiffeq (the extra `ode`), several times as slow.
        substeps: Steps of the fixed-step solver in T; 2 is enough where the state changes by less than half of its
            size in T. A polynomial field takes one where its held-out forecasts are as good then.
        controls: Number of controls; within a step they are interpolated linearly.

    References:
        Chen et al. (2018), Neural ordinary differential equations, arXiv:1806.07366.
        Dormand and Prince (1980), A family of embedded Runge-Kutta formulae, doi:10.1016/0771-050X(80)90013-3.
        Cox and Matthews (2002), Exponential time differencing for stiff systems, doi:10.1006/jcph.2002.6995.
    """

    steps: Tensor
    dense: Tensor
    exponential: Tensor
    matrices: Tensor
    reads_off: bool
    exact: bool

    def __init__(
        self,
        latent: int,
        parameters: int,
        dt: float,
        stride: int = 1,
        members: int = 4,
        hidden: int = 128,
        depth: int = 2,
        seed: int = 0,
        *,
        solver: Literal["rk4", "adaptive"] = "rk4",
        substeps: int = 2,
        controls: int = 0,
    ) -> None:
        if substeps < 1:
            raise ConfigError(f"OdeDynamics: substeps is {substeps}, expected 1 or more. Try 2.")
        if solver == "adaptive":
            optional_import("torchdiffeq", "ode", "OdeDynamics: solver 'adaptive'")
        inside = parameters - controls  # the field sees the controls of one time, not of two
        super().__init__(latent, inside, dt, stride, members, hidden, depth)
        self.solver, self.substeps, self.controls, self.most, self.seed = solver, substeps, controls, substeps, seed
        self.register_buffer("steps", torch.tensor(substeps))
        self.register_buffer("dense", torch.tensor(False))
        self.register_buffer("exponential", torch.tensor(False))
        self.register_buffer("matrices", torch.zeros(0), persistent=False)
        generator = torch.Generator().manual_seed(seed)
        self.polynomial = PolynomialTerms(latent, inside, members)
        self.network = MemberPerceptron(members, [latent + inside] + [hidden] * depth + [latent], generator)
        self.register_load_state_dict_post_hook(_settle)
        _settle(self)

    @property
    def continuous(self) -> bool:
        """It is integrated for as long as is asked."""
        return True

    def flow(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        history, c = self.inputs(history, c)
        z, ratio = history[..., -1, :], self.ratio(dt, history[..., 0])
        if self.exact:
            return self._exponential(z, c, dt)
        if self.solver == "adaptive":
            return self._adaptive(z, c, ratio)
        longest = 1.0 if isinstance(dt, Tensor) else float(dt) / (float(self.dt) * self.stride)
        count = max(1, math.ceil(longest * self.substeps - 1e-9))
        for k in range(count):
            z = self._runge_kutta(z, c, ratio, k / count, 1 / count)
        return z

    def within(self, history: Tensor, c: Tensor) -> Tensor:
        if not self.reads_off:
            return super().within(history, c)
        return self.rollout(history[..., -1, :], c, float(self.dt), self.stride)[1:]

    def at_times(
        self,
        z0: Tensor,
        c: Tensor,
        times: Tensor,
        *,
        past: Tensor | None = None,
        controls: Tensor | None = None,
    ) -> Tensor:
        """As `EnsembleDynamics.at_times`; off the cubics that a rollout reads stored times off."""
        if not self.reads_off:
            return super().at_times(z0, c, times, past=past, controls=controls)
        largest = self.stride * float(self.dt)
        places = [(int(float(t) / largest + 1e-9), float(t) / largest) for t in times]
        anchors = [z0.expand(self.members, *z0.shape[-2:])]
        for _ in range(max((math.ceil(place - 1e-9) for _, place in places), default=0)):
            anchors.append(self.held_back(self.flow(anchors[-1].unsqueeze(-2), c, largest)))
        c = c.to(z0.dtype).expand(self.members, anchors[0].shape[1], c.shape[-1])
        path = []
        for k, place in places:
            if place - k <= 1e-9:
                path.append(anchors[k])
                continue
            leaving, arriving = self.field(anchors[k], c), self.field(anchors[k + 1], c)
            path.append(self.held_back(cubic(anchors[k], anchors[k + 1], leaving, arriving, place - k)))
        return torch.stack(path)

    def _fill(
        self,
        path: Tensor,
        earlier: list[Tensor],
        anchors: list[Tensor],
        c: Tensor,
        dt: float,
        stride: int,
        steps: int,
    ) -> None:
        if not self.reads_off:
            super()._fill(path, earlier, anchors, c, dt, stride, steps)
            return
        if steps % stride:  # the last ones lie within a step that ends beyond them
            anchors = [*anchors, self.held_back(self.flow(anchors[-1].unsqueeze(-2), c, stride * dt))]
        unit = stride * dt / (self.stride * float(self.dt))
        batch = anchors[0].shape[1]
        c = c.to(path.dtype).expand(self.members, batch, c.shape[-1])
        leaving = unit * self.field(anchors[0], c)
        for k, (begin, end) in enumerate(pairwise(anchors)):
            arriving = unit * self.field(end, c)
            for j in range(1, min(stride, steps + 1 - k * stride)):
                path[k * stride + j] = self.held_back(cubic(begin, end, leaving, arriving, j / stride))
            leaving = arriving

    def field(self, z: Tensor, c: Tensor, phase: float | Tensor = 0.0) -> Tensor:
        """Rate of change over a time T at a phase of the step (0 its start, 1 its end), `(member, batch, latent)`."""
        if self.controls:
            fixed, begin, end = c.split([c.shape[-1] - 2 * self.controls, self.controls, self.controls], -1)
            c = torch.cat([fixed, begin + phase * (end - begin)], -1)
        state = self.state(z, c)
        known = self.linear_part(state) + self.polynomial(state[..., : self.latent], c)
        return (known + self.network(state)) * self.scale

    def _runge_kutta(self, z: Tensor, c: Tensor, ratio: Tensor, phase: float, width: float) -> Tensor:
        h = ratio * width
        k1 = self.field(z, c, phase)
        k2 = self.field(z + h / 2 * k1, c, phase + width / 2)
        k3 = self.field(z + h / 2 * k2, c, phase + width / 2)
        k4 = self.field(z + h * k3, c, phase + width)
        return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def _exponential(self, z: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        """As many exponential steps as there are in T, whatever `dt` is."""
        d, times = self.latent, self._products(dt)
        constant = torch.baddbmm(self.drift, c, self.linear[:, d:])

        def rest(state: Tensor) -> Tensor:
            return constant + self.polynomial(state, c) + self.network(torch.cat([state, c], -1))

        state = (z - self.centre) / self.scale
        for _ in range(self.substeps):
            state, _ = exponential_step(rest, state, times)
        return self.centre + state * self.scale

    def _products(self, dt: float | Tensor) -> Callable[[int, Tensor], Tensor]:
        """Multiplies states by one of the `step_matrices` of the parts of a step `dt`."""
        if not isinstance(dt, Tensor):
            one = self._matrices(float(dt))
            return lambda k, x: torch.bmm(x, one[k])
        lengths, which = torch.unique(dt, return_inverse=True)
        several = [self._matrices(length) for length in lengths.tolist()]

        def times(k: int, x: Tensor) -> Tensor:
            out = torch.bmm(x, several[0][k])
            for number, some in enumerate(several[1:], 1):
                out = torch.where((which == number)[..., None], torch.bmm(x, some[k]), out)
            return out

        return times

    def _matrices(self, dt: float) -> Tensor:
        """Those of a part of a step `dt`, `(6, member, latent, latent)`, to the right of rows of latents."""
        steps = dt / float(self.dt)
        j = round(steps)
        if abs(steps - j) <= 1e-6 * max(1.0, steps) and 1 <= j <= self.stride:
            return self.matrices[j - 1]
        return _matrices_of(self, steps)

    def _adaptive(self, z: Tensor, c: Tensor, ratio: Tensor) -> Tensor:
        torchdiffeq = optional_import("torchdiffeq", "ode", "OdeDynamics: solver 'adaptive'")
        phases = torch.tensor([0.0, 1.0], dtype=z.dtype, device=z.device)

        def rate(phase: Tensor, z: Tensor) -> Tensor:
            return ratio * self.field(z, c, phase)

        end: Tensor = torchdiffeq.odeint(rate, z, phases, method="dopri5", rtol=1e-6, atol=1e-7)[-1]
        return end

    @torch.no_grad()
    def start_from_linear(
        self,
        z: Tensor,
        c: Tensor,
        controls: Tensor | None = None,
        *,
        group: Tensor | None = None,
        precision: Tensor | None = None,
        log_range: Tensor | None = None,
    ) -> None:
        """Sets the scaling, and the linear field to the generator of the least-squares map over one stored step.

        With polynomial terms, they and the linear field are fitted together instead.

        The generator is the logarithm of the map. Rates that the fixed-step solver could not follow are cut off at
        decay by exp(-2) in one of its steps.
        """
        weights, offset = self.linear_fit(z, c, controls, 1)
        d, u = self.latent, self.controls
        if u:  # one influence of the control, at the mean of start and end
            at = d + self.parameters_in - u
            weights = torch.cat([weights[:at], weights[at : at + u] + weights[at + u :]])
        step_map = torch.eye(d, dtype=torch.float64) + weights[:d].mT
        values, vectors = torch.linalg.eig(step_map)
        least = math.exp(-2.0 * self.most / self.stride)
        modulus = values.abs().clamp_min(1e-12)
        rates = modulus.clamp_min(least).log() + 1j * values.angle()
        inverse = torch.linalg.pinv(vectors)
        generator = (vectors @ torch.diag(rates) @ inverse).real
        # An affine map z -> A z + b over one step belongs to the field G z + (A - 1)^-1 G b.
        growth = torch.where((values - 1).abs() < 1e-9, torch.ones_like(values), rates / (values - 1))
        forced = torch.cat([weights[d:], offset[None]]).to(vectors.dtype)
        rest = (forced @ (vectors @ torch.diag(growth) @ inverse).mT).real
        linear = self.stride * torch.cat([rest[-1:], generator.mT, rest[:-1]])
        found = None
        if self.solver == "rk4" and not u:
            standardised = (z - self.centre) / self.scale
            weight = None if precision is None else precision.to(self.scale) * self.scale.square()
            found = polynomial_start(
                self.polynomial, standardised, c, linear, self.stride, self.most, group, weight, self.seed
            )
        linear, products = (linear, None) if found is None else (found.linear, found.products)
        self.steps.fill_(self.most if found is None else found.substeps)
        self.dense.fill_(found is not None and found.dense)
        self.exponential.fill_(found is not None and found.exponential)
        self.linear.copy_(linear[..., 1:, :].to(self.linear.dtype).expand_as(self.linear))
        self.drift.copy_(linear[..., :1, :].to(self.drift.dtype).expand_as(self.drift))
        self.polynomial.start_at(products)
        if products is not None:
            self.network.silence()
        _settle(self)

    def known(self) -> OdeDynamics | None:
        if self.polynomial.idle:
            return None
        found = copy.deepcopy(self)
        found.network.silence()
        return found

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        if prefix + "linear" in state_dict:  # of an earlier version
            state_dict.setdefault(prefix + "steps", torch.tensor(self.most))
            for name in ("dense", "exponential"):
                state_dict.setdefault(prefix + name, torch.tensor(False))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _settle(model: OdeDynamics, *_: object) -> None:
    """Steps of the solver, and what is trained: beside polynomial terms, the network alone."""
    model.substeps, model.reads_off, model.exact = int(model.steps), bool(model.dense), bool(model.exponential)
    model.linear.requires_grad_(model.polynomial.idle)
    model.drift.requires_grad_(model.polynomial.idle)
    model.polynomial.weight.requires_grad_(False)
    every = [_matrices_of(model, j) for j in range(1, model.stride + 1)] if model.exact else []
    model.matrices = torch.stack(every) if every else model.drift.new_zeros(0)


def _matrices_of(model: OdeDynamics, steps: float) -> Tensor:
    """`step_matrices` of each member for a part of so many stored steps, transposed."""
    part = steps / (model.stride * model.substeps)
    return step_matrices(model.linear[:, : model.latent].mT, part).mT.to(model.linear)
