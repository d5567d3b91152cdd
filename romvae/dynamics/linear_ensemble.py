"""Linear latent dynamics in closed form as an ensemble: dynamic mode decomposition with control, bootstrapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from romvae.dynamics.affine import AffineDynamics, affine_features, bilinear_features
from romvae.dynamics.groups import Groups
from romvae.dynamics.least_squares import Ridge, stabilised, standardisation
from romvae.dynamics.monomials import degrees_of, exponents, highest_degree, monomials
from romvae.dynamics.rates import SPAN, rates_of
from romvae.dynamics.regression import centred, some_of

__all__ = ["LinearEnsemble"]

PENALTIES = (0.0, 1e-12, 1e-9, 1e-6, 1e-3)
"""Among which the held-out trajectories choose, and then among those between the chosen one and its neighbours."""
USUAL = 1e-4
"""The penalty where there are too few trajectories to choose one."""
FEATURES = 512
"""Most numbers that a map is linear in: the latents, times the monomials of the parameters with the constant one."""
GAIN = 0.8
"""Share of the mean square error without squares and higher powers of the parameters that those must not exceed, nor
rates, whose exponential every rollout takes."""
JUDGES = 32
"""Held-out trajectories that are forecast to choose."""


@dataclass(frozen=True)
class Form:
    """How the dynamics depends on the parameters.

    Attributes:
        degree: Highest degree of the monomials that multiply the latents.
        own: Whether parameters that are scaled by their logarithm are taken by their own value.
        of: What is linear in all of them: the map over each number of stored steps; that over one, which is repeated;
            or the rate of change, whose exponential is taken.
        penalty: Of the weights.
    """

    degree: int
    own: bool = False
    of: Literal["maps", "step", "rate"] = "maps"
    penalty: float = USUAL


class LinearEnsemble(AffineDynamics):
    r"""Linear dynamics :math:`z' = (A_0 + \sum_k g_k(c) A_k)\, z + B g(c) + b` by least squares, without training.

    The functions g are monomials of the parameters, of up to fourth degree where there are one or two and of up to
    second for three or four: what a finite step makes of a coefficient in the equation is no straight line. A parameter
    that is scaled by its logarithm counts as it is scaled or by its own value. Each number of stored steps has its own
    map, or one over a single step is repeated, or the rate of change has that form,
    :math:`\dot z = (G_0 + \sum_k g_k(c) G_k)\, z + B g(c) + b`, and the map over a step is its exponential: operator
    inference, exact where the equation is linear in the field and in parameters that are its coefficients.

    Each member is the fit of all trajectories, moved to first order to that of a bootstrap sample, drawn with all of
    their copies (`Ridge.moved`); all are centred on the fit of all (and widened by sqrt(M / (M - 1)), since M members
    share that mean): their disagreement is what the number of trajectories leaves open, and nothing of what a linear
    model cannot describe. Fits of the samples themselves, which hold two thirds of the trajectories, disagree far too
    much where there are many latents.

    Form, degree and penalty are chosen by rollouts of every fifth trajectory. Errors count there by the precision of
    each latent, and weights of latents that say little of the field are penalised more: many codes of POD hold next to
    nothing, and are learned last.

    One linear map cannot describe shocks, collisions or speeds that depend on the amplitude.

    Arguments:
        latent, parameters, dt, stride, members, controls, stable: As in `AffineDynamics`.
        seed: Seed of the bootstrap.

    References:
        Proctor, Brunton and Kutz (2016), Dynamic mode decomposition with control, arXiv:1409.6358.
        McQuarrie, Khodabakhshi and Willcox (2023), Nonintrusive reduced-order models for parametric partial
        differential equations via data-driven operator inference, arXiv:2110.07653.
    """

    A: Tensor
    B: Tensor
    b: Tensor
    generator: Tensor
    log_range: Tensor
    repeated: Tensor

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
        self.register_buffer("generator", torch.zeros(members, 0, latent, latent + 1, dtype=torch.float64))
        self.register_buffer("log_range", torch.zeros(self.fixed, dtype=torch.float64))
        self.register_buffer("repeated", torch.tensor(False))
        self.repeats = False
        self.register_load_state_dict_post_hook(_settle)
        self._resize(self.fixed)

    def operators(self, c: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        A, B = self.A[step - 1], self.B[step - 1]
        if self.generator.shape[1]:
            g = self._functions(c.to(A), self.generator.shape[1] - 1).expand(self.members, c.shape[-2], -1)
            rate = self.generator[:, :1] + torch.einsum("mbk,mkij->mbij", g, self.generator[:, 1:])
            after = self._over(torch.cat([rate, torch.zeros_like(rate[..., :1, :])], -2), step)
            return after[..., :-1, :-1], after[..., :-1, -1], B[:, :0]
        count = A.shape[1] - 1
        g = self._functions(c.to(A), count).expand(self.members, c.shape[-2], -1)
        matrix = A[:, :1] + torch.einsum("mbk,mkij->mbij", g, A[:, 1:])
        return matrix, torch.bmm(g, B[:, :count]) + self.b[step - 1][:, None], B[:, count:]

    def _over(self, rate: Tensor, step: int) -> Tensor:
        """The map over so many stored steps, `(..., n, n)`, of what one changes or of a rate per stored step."""
        if not self.repeats:
            return torch.linalg.matrix_exp(step * rate)
        return torch.linalg.matrix_power(torch.eye(rate.shape[-1]).to(rate) + rate, step)

    def _functions(self, c: Tensor, count: int) -> Tensor:
        """The first monomials of the parameters, `(..., count)`."""
        c = self._variables(c)
        return c if count == self.fixed else monomials(c, self.get_buffer("exponents")[:count].to(c.device))

    def _variables(self, c: Tensor) -> Tensor:
        """Parameters in [-1, 1]: by their own value, not its logarithm, where `log_range` is positive."""
        half = self.log_range.to(c)
        some = torch.where(half > 0, half, torch.ones_like(half))
        return torch.where(half > 0, ((some * c).exp() - some.cosh()) / some.sinh(), c)

    def _resize(self, count: int) -> None:
        """Room for so many functions of the parameters; the maps are the identity then."""
        eye = torch.eye(self.latent).to(self.A)
        self.A = torch.cat([eye[None], eye.new_zeros(count, *eye.shape)]).repeat(self.stride, self.members, 1, 1, 1)
        self.B = self.B.new_zeros(self.stride, self.members, count + 2 * self.controls, self.latent)
        self.generator = self.generator[:, :0]
        self.repeated.fill_(False)
        _settle(self)

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
        """The whole fit, in float64 on the CPU."""
        groups = Groups.read(group, len(z))
        z, c = z.detach().cpu().double(), c.detach().cpu().double()
        controls = None if controls is None else controls.detach().cpu().double()
        weight = torch.ones(self.latent).double() if precision is None else precision.detach().cpu().double()
        own = torch.zeros(self.fixed).double() if log_range is None else log_range.detach().cpu().double()
        form = self._choice(z, c, controls, groups, weight, own)
        self._take(form, own)
        generator = torch.Generator().manual_seed(self.seed)
        n = len(groups)
        draws = [torch.randint(n, (n,), generator=generator) for _ in range(self.members if self.members > 1 else 0)]
        times = [each.bincount(minlength=n)[groups.of] for each in draws]  # that each row was drawn
        for step in range(1, self.stride + 1 if form.of == "maps" else 2):
            features, target, share = self._regression(form, z, c, controls, step, weight)
            samples = features.shape[1]
            features, target = features.flatten(0, 1), target.flatten(0, 1)
            fit = Ridge.of(features, target, share)
            whole = fit.weights(form.penalty)
            drawn = [row.repeat_interleave(samples) for row in times]
            moved = fit.moved(features, target, form.penalty, drawn, n, n * samples) if drawn else [whole]
            parts = [
                centred(each, all_of_them) for each, all_of_them in zip(zip(*moved, strict=True), whole, strict=True)
            ]
            for member, found in enumerate(zip(*parts, strict=True)):
                self._store(form, step, member, *found)

    def settle(self) -> None:
        """Computes here, once and for all, what does not depend on the parameters: maps from rates, and stable ones."""
        if self.generator.shape[1] and not bool(self.generator[:, 1:, :, :-1].any()):
            forcing = self.generator[..., -1].mT  # (member, latent, 1 + function)
            rate = torch.cat([self.generator[:, 0, :, :-1], forcing], -1)
            rate = torch.cat([rate, rate.new_zeros(self.members, forcing.shape[-1], rate.shape[-1])], -2)
            maps = [self._over(rate, step)[:, : self.latent] for step in range(1, self.stride + 1)]
            self._resize(forcing.shape[-1] - 1)
            for step, after in enumerate(maps, 1):
                self.A[step - 1, :, 0] = after[..., : self.latent]
                self.b[step - 1] = after[..., self.latent]
                self.B[step - 1] = after[..., self.latent + 1 :].mT
        if self.stable and not self.generator.shape[1] and not bool(self.A[:, :, 1:].any()):
            self.A[-1, :, 0] = stabilised(self.A[-1, :, 0])
            self.stable = False

    def _counts(self, degree: int) -> tuple[int, int]:
        """Functions of the parameters that count, those of first degree always; and how many multiply the latents."""
        upto = int((degrees_of(self.get_buffer("exponents")) <= degree).sum())
        return max(upto, self.fixed), upto

    def _take(self, form: Form, own: Tensor) -> None:
        """Prepares for what the form's fit gives."""
        count = self._counts(form.degree)[0]
        self._resize(count)
        self.log_range = (own if form.own else torch.zeros_like(own)).to(self.log_range, copy=True)
        if form.of != "maps":
            self.generator = self.generator.new_zeros(self.members, 1 + count, self.latent, self.latent + 1)
            self.repeated.fill_(form.of == "step")
            _settle(self)

    def _forms(self, z: Tensor, controls: Tensor | None, own: Tensor) -> Iterator[Form]:
        """Those to try, simpler ones first."""
        most = int(degrees_of(self.get_buffer("exponents")).max()) if self.fixed else 0
        degrees, logarithms = sorted({0, min(1, most), min(2, most), most}), bool((own > 0).any())
        for degree in degrees:
            yield Form(degree)
        for degree in degrees[1:] if logarithms else ():
            yield Form(degree, own=True)
        for degree in sorted({min(1, most), min(2, most)}) if controls is None else ():
            if self.stride > 1:
                yield Form(degree, logarithms, "step")
            if z.shape[1] > SPAN:
                yield Form(degree, logarithms, "rate")

    def _choice(
        self, z: Tensor, c: Tensor, controls: Tensor | None, groups: Groups, weight: Tensor, own: Tensor
    ) -> Form:
        """Form and penalty with the smallest rollout error on every fifth trajectory."""
        held = groups.held_out()
        if held is None:
            return Form(0, penalty=USUAL if self.fixed else 0.0)
        twin = LinearEnsemble(
            self.latent, self.parameters_in, float(self.dt), self.stride, 1, controls=self.controls, stable=self.stable
        ).double()
        judged = some_of(groups.first[held[groups.first]], JUDGES)  # copies would say the same
        some, beside = (None, None) if controls is None else (controls[~held], controls[judged])

        def errors(form: Form, penalties: Iterable[float]) -> Iterator[tuple[float, Form]]:
            twin._take(form, own)
            step = self.stride if form.of == "maps" else 1
            features, target, share = twin._regression(form, z[~held], c[~held], some, step, weight)
            fit = Ridge.of(features.flatten(0, 1), target.flatten(0, 1), share)
            for penalty in penalties:
                twin._store(form, step, 0, *fit.weights(penalty))
                yield twin._error(z[judged], c[judged], beside, weight), replace(form, penalty=penalty)

        chosen, least = Form(0), float("inf")
        for form in self._forms(z, controls, own):
            best, found = min(errors(form, PENALTIES), key=_first)
            if best < (GAIN if form.degree > 1 or form.of != "maps" else 1.0) * least:
                chosen, least = found, best
        finer = [chosen.penalty * 10.0**k for k in (-2, -1, 1, 2)] if chosen.penalty else [1e-15, 1e-14, 1e-13]
        return min([(least, chosen), *errors(chosen, finer)], key=_first)[1]

    def _regression(
        self, form: Form, z: Tensor, c: Tensor, controls: Tensor | None, step: int, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features `(row, sample, feature)`, what is linear in them, and the share that each feature has, `(feature,)`.

        The last is the standard deviation that it keeps before a penalty: of latents in proportion to what they say of
        the field, the largest 1.
        """
        count, bilinear = self._counts(form.degree)
        g = self._functions(c, count)
        if form.of == "rate":
            features, target = bilinear_features(z, g[:, None].expand(-1, z.shape[1], -1), bilinear), rates_of(z)
        else:
            features, target = affine_features(z, g, controls, step, bilinear)
        said = weight.sqrt() * standardisation(z)[1]
        said = (said / said.max()).clamp_min(1e-12)
        conditions = features.shape[-1] - self.latent * (1 + bilinear)
        return features, target, torch.cat([said, said.new_ones(conditions), said.repeat(bilinear)])

    def _error(self, z: Tensor, c: Tensor, controls: Tensor | None, weight: Tensor) -> float:
        """Mean square error of rollouts in large steps, of the first member; infinite where they do not stay finite."""
        A, offset, forced = self.operators(c[None], self.stride)
        if not bool(torch.isfinite(A).all()):
            return float("inf")
        maps, state, total = (stabilised(A) if self.stable else A, offset, forced), z[None, :, 0], 0.0
        ends = range(self.stride, z.shape[1], self.stride)
        for end in ends:
            row = c if controls is None else torch.cat([c, controls[:, end - self.stride], controls[:, end]], -1)
            state = self._mapped(state, row, maps)
            total += float(((state[0] - z[:, end]).square() * weight).mean())
        return total / len(ends) if total < float("inf") else float("inf")

    def _store(self, form: Form, step: int, member: int, weights: Tensor, offset: Tensor) -> None:
        d, p = self.latent, len(weights) - self.latent * (1 + self._counts(form.degree)[1])
        blocks = torch.stack([weights[:d].mT, *(block.mT for block in weights[d + p :].split(d) if len(block))])
        if form.of != "maps":
            self.generator[member] = 0.0
            self.generator[member, : len(blocks), :, :-1] = blocks.to(self.generator)
            self.generator[member, :, :, -1] = torch.cat([offset[None], weights[d : d + p]]).to(self.generator)
            return
        self.A[step - 1, member] = 0.0
        self.A[step - 1, member, : len(blocks)] = blocks.to(self.A)
        self.A[step - 1, member, 0] += torch.eye(d).to(self.A)
        self.B[step - 1, member] = weights[d : d + p].to(self.B)
        self.b[step - 1, member] = offset.to(self.b)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        most = 1 + len(self.get_buffer("exponents"))
        matrices, rates = (state_dict.get(prefix + name) for name in ("A", "generator"))
        if matrices is not None and matrices.ndim == 5 and self.fixed < matrices.shape[2] <= most:
            self._resize(matrices.shape[2] - 1)  # how many functions of the parameters count was for the data to say
        if rates is None and matrices is not None:  # of an earlier version
            kept = {"generator": self.generator, "log_range": self.log_range, "repeated": self.repeated}
            state_dict.update({prefix + name: torch.zeros_like(value) for name, value in kept.items()})
        elif rates is not None and rates.ndim == 4 and rates.shape[1] == self.A.shape[2]:
            self.generator = self.generator.new_zeros(self.members, rates.shape[1], self.latent, self.latent + 1)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _settle(model: LinearEnsemble, *_: object) -> None:
    """As a number: graphs cannot branch on a tensor's value, and reading one stops a GPU."""
    model.repeats = bool(model.repeated)


def _first(found: tuple[float, Form]) -> float:
    return found[0]
