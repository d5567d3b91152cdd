"""What every model of the latent time evolution is: a distribution of the next latent, alone or as an ensemble."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from romvae.dynamics.extent import unbounded
from romvae.dynamics.optional_terms import OptionalTerms
from romvae.errors import NumericsError

__all__ = [
    "EnsembleDynamics",
    "LatentDynamics",
    "condition",
    "step_pairs",
]

_ROWS = 2**12
"""Latents of each network that are stepped at once between large steps; what is kept meanwhile is 4 KB for each."""


class LatentDynamics(nn.Module, ABC):
    r"""Latent dynamics :math:`p(z_{t+dt} \mid z_t, z_{t-dt}, \dots; c, dt)`.

    A subclass writes `forward`; a step and a rollout of the mean follow from it. It knows latents and
    parameters (normalised numbers, no units) and nothing of grids or fields.

    A model with memory sets `window` > 1 and must accept any history of 1 to `window` latents, because a
    forecast starts from a single field. A model without memory reads `history[..., -1, :]` only.
    """

    window: int = 1
    """Most latents that the model looks back on, the present one included."""

    @abstractmethod
    def forward(
        self,
        history: Tensor,
        c: Tensor,
        dt: float,
    ) -> Distribution:
        """Distribution of the next latent.

        Arguments:
            history: Latents, oldest first, `dt` apart, shape `(..., batch, window, latent)`.
            c: Physical parameters of each trajectory, shape `(batch, parameter)`; `parameter` may be 0.
            dt: Time from the last latent of `history` to the one that is predicted.

        Returns:
            A distribution with event shape `(latent,)` and batch shape `(..., batch)`.
        """

    def step(self, z: Tensor, c: Tensor, dt: float) -> Tensor:
        """Mean of the next latent from the present one alone, shape `(..., batch, latent)` to the same."""
        return self(z.unsqueeze(-2), c, dt).mean

    def rollout(
        self,
        z0: Tensor,
        c: Tensor,
        dt: float,
        steps: int,
    ) -> Tensor:
        r"""Repeated means :math:`z_{k+1} = \mathrm{E}\,p(\cdot \mid z_k, \dots)`, with gradients.

        Without memory (`window` = 1), `rollout(m + n)` is `rollout(n)` started where `rollout(m)` ended.

        Arguments:
            z0: Initial latents, shape `(..., batch, latent)`; leading axes are members.
            c: Physical parameters, shape `(batch, parameter)`.
            dt: Time step.
            steps: Number of steps, 0 or more.

        Returns:
            Latents at times `0, dt, ..., steps * dt`, shape `(steps + 1, ..., batch, latent)`, `z0` first.

        Raises:
            ValueError: `steps` is negative.
        """
        if steps < 0:
            raise ValueError(f"rollout: steps is {steps}, expected 0 or more. Correct it.")
        path = [z0]
        for _ in range(steps):
            history = torch.stack(path[-self.window :], dim=-2)
            path.append(self(history, c, dt).mean)
        return torch.stack(path)


class EnsembleDynamics(LatentDynamics):
    r"""Ensemble of flow maps :math:`z(t + \tau) = \Phi_m(z(t), z(t - T), \dots; c, \tau)`: what a ROM rolls out.

    The largest step T is `stride` stored steps long. A rollout takes steps of T and reads the times in between off
    the same map with a smaller step: errors accumulate over few compositions. Consequence: `rollout(m + n)` equals
    `rollout(n)` after `rollout(m)` exactly where m is a multiple of `stride` and there is no memory, and to within the
    model's error elsewhere. All members are evaluated in one batched computation.

    Where the data have controls (numbers that vary in time, such as a forcing), the conditions `c` of a step are the
    parameters, the controls at its start and the controls at its end. What they do in between is not seen, so that
    such a model has `stride` 1.

    A subclass writes `flow` and `start_from_linear`.

    Attributes:
        members: Members of the ensemble.
        stride: Stored steps in the largest step T.
        latent: Number of latents.
        hidden, depth: Width and number of hidden layers; 1 where there is no network.
        dt: Time between stored snapshots, physical units.
        std: Root mean square error of one stored step on the training data, shape `(latent,)`.
    """

    members: int
    stride: int
    latent: int
    hidden: int = 1
    depth: int = 1
    dt: Tensor
    std: Tensor
    closed_form: bool = False
    """Whether `start_from_linear` is the whole training."""
    stochastic: bool = False
    """Whether every step draws noise."""
    reads_fields: bool = False
    """Whether `start_from_fields` is of use."""

    @property
    def continuous(self) -> bool:
        """Whether `flow` gives any step up to the largest: all of that range was trained, or follows from a rate."""
        return False

    @abstractmethod
    def flow(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        """Latent of each member a time `dt` after the last one of `history`.

        Arguments:
            history: Latents one large step apart, oldest first, `(member, batch, 1 to window, latent)`, or without the
                member axis.
            c: Conditions `(batch, condition)` or `(member, batch, condition)`.
            dt: Time step in physical units, a number or `(member, batch)`; at most `stride` stored steps.

        Returns:
            Shape `(member, batch, latent)`.
        """

    @abstractmethod
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
        """Sets everything that is known in closed form: scaling, and a least-squares linear part.

        Arguments:
            z: Latents `(row, time, latent)`, stored `dt` apart.
            c: Normalised parameters `(row, parameter)`.
            controls: Normalised controls `(row, time, control)`.
            group: Number of the trajectory that each row is a copy of, integers `(row,)`. Copies stay together where
                trajectories are set aside, drawn or left out, and count as one (`Groups`). None where every row is a
                trajectory of its own.
            precision: What the square of each latent's error counts where something is chosen by forecasts,
                `(latent,)`; None for the same.
            log_range: Half the range of each parameter's logarithm, by which it is scaled to [-1, 1], and 0 of one that
                is scaled as it is, `(parameter,)`; None where all are. Kinds that take physical coefficients as they
                are need it.

        Raises:
            NumericsError: The trajectories are too short.
            DataError: There is not one group per row.
        """

    def start_from_fields(self, z: Tensor, x: Tensor) -> None:
        """Takes notice, after `start_from_linear`, of what codes are decoded to, where it `reads_fields`.

        Arguments:
            z: Codes `(sample, latent)`.
            x: Their normalised fields `(sample, field, *space)`.
        """

    def known(self) -> EnsembleDynamics | None:
        """What `start_from_linear` found, without what was trained, in a copy; None where that is but linear."""
        return None

    def forward(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Independent:
        """Distribution of the latent a time `dt` later, one per member; arguments as for `flow`.

        Returns:
            Batch shape `(member, batch)`, event `(latent,)`; the standard deviation is that of one step's error.
        """
        mean = self.held_back(self.flow(history, c, dt))
        return Independent(Normal(mean, self.std.to(mean.dtype).expand_as(mean), validate_args=False), 1)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        if prefix + "linear" in state_dict:  # else it is the state of something else
            for name, part in self.named_children():
                if isinstance(part, OptionalTerms):
                    part.complete(state_dict, f"{prefix}{name}.")
            if self.range is not None:  # an earlier version had none
                state_dict.setdefault(prefix + "bounds", unbounded(self.latent).to(self.range))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def step_std(self, z: Tensor, c: Tensor) -> Tensor:
        """Standard deviation of the noise that a stochastic model draws in a large step, like `z`."""
        return torch.zeros_like(z)

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
        """Latents at `0, dt, ..., steps * dt`, with gradients.

        Arguments:
            z0: Initial latents `(member, batch, latent)` or `(batch, latent)`.
            c: Normalised parameters `(batch, parameter)`.
            dt: Time step: the stored one, or a whole fraction of the largest step.
            steps: Number of steps, 0 or more.
            past: Latents before `z0`, one large step apart, oldest first, `(batch, earlier, latent)`; those beyond
                the model's window are not used.
            controls: Normalised controls at the times of the rollout, `(batch, steps + 1, control)`.
            noise: Standard normal numbers `(steps, member, batch, latent)` for a stochastic model; None follows the
                mean of each step. Others ignore it.

        Returns:
            Shape `(steps + 1, member, batch, latent)`, `z0` first.

        Raises:
            ValueError: `steps` is negative.
        """
        if steps < 0:
            raise ValueError(f"rollout: steps is {steps}, expected 0 or more. Give the number of steps of dt.")
        stride = max(1, int(self.stride * float(self.dt) / dt + 1e-9))
        z = z0.expand(self.members, *z0.shape[-2:])
        earlier = [] if past is None else list(past.expand(self.members, *past.shape[-3:]).unbind(-2))
        anchors = [z]
        for k in range(steps // stride):
            now = condition(c, controls, k * stride, (k + 1) * stride)
            after = self.flow(self._history(earlier, anchors), now, stride * dt)
            if self.stochastic and noise is not None:
                after = after + self.step_std(anchors[-1], now) * noise[k]
            anchors.append(self.held_back(after))
        if stride == 1:
            return torch.stack(anchors)
        path = z.new_empty(len(anchors) * stride, *z.shape)
        path[::stride] = torch.stack(anchors)
        self._fill(path, earlier, anchors, c, dt, stride, steps)
        return path[: steps + 1]

    def within(self, history: Tensor, c: Tensor) -> Tensor:
        """Latents at each stored time of one large step, as a rollout has them: `(stride, member, batch, latent)`.

        Arguments:
            history: As for `flow`.
            c: As for `flow`.
        """
        path = [self.flow(history, c, j * float(self.dt)) for j in range(1, self.stride + 1)]
        return self.held_back(torch.stack(path))

    @property
    def range(self) -> Tensor | None:
        """Least and largest value of each latent in a forecast, `(2, latent)`; None where there is no limit."""
        return self._buffers.get("bounds")

    def held_back(self, z: Tensor) -> Tensor:
        """Latents after a step, held within `range`: a network knows nothing of what is far from its training.

        Without it, single forecasts of new trajectories grow without bound: with 192 codes of POD one of 64 was off by
        530 times its field, and by 1.2 times with it.
        """
        bounds = self.range
        return z if bounds is None else torch.minimum(torch.maximum(z, bounds[0]), bounds[1])

    def passing(
        self,
        z0: Tensor,
        c: Tensor,
        steps: int,
        length: int,
        *,
        past: Tensor | None = None,
        controls: Tensor | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """A rollout with the stored step, `length` steps at once: the first step of each part, and its latents.

        Parts follow each other without a step in common; where there is one alone, it is that of `rollout` to the bit.

        Arguments:
            z0: Initial latents `(member, batch, latent)` or `(batch, latent)`.
            c: Normalised parameters `(batch, parameter)`.
            steps: Number of steps.
            length: Of a part; a multiple of `stride`.
            past: As for `rollout`.
            controls: As for `rollout`.
        """
        begin, z, earlier = 0, z0, past
        while True:
            count = min(length, steps - begin)
            driven = None if controls is None else controls[:, begin : begin + count + 1]
            part = self.rollout(z, c, float(self.dt), count, past=earlier, controls=driven)
            if begin + count == steps:
                yield begin, part
                return
            yield begin, part[:-1]
            if self.window > 1:
                before = part[: -1 : self.stride].movedim(0, -2)
                shape = (self.members, *before.shape[1:-2])
                known = [] if earlier is None else [earlier.expand(*shape, *earlier.shape[-2:])]
                earlier = torch.cat([*known, before], -2)[..., -(self.window - 1) :, :]
            begin, z = begin + count, part[-1]

    def at_times(
        self,
        z0: Tensor,
        c: Tensor,
        times: Tensor,
        *,
        past: Tensor | None = None,
        controls: Tensor | None = None,
    ) -> Tensor:
        """Latents at any times after that of `z0`, evenly spaced or not: whole large steps, then the rest in one.

        Where a time lies between stored ones, that is right for `continuous` dynamics only. A stochastic model follows
        the mean of each step.

        Arguments:
            z0: Initial latents `(member, batch, latent)` or `(batch, latent)`.
            c: Normalised parameters `(batch, parameter)`.
            times: Times in physical units, 0 or more, shape `(time,)`.
            past: As for `rollout`.
            controls: As for `rollout`, up to the first stored time that is not before the last of `times`; they are
                linear in between.

        Returns:
            Shape `(time, member, batch, latent)`.
        """
        largest = self.stride * float(self.dt)
        whole = [int(float(t) / largest + 1e-9) for t in times]
        earlier = [] if past is None else list(past.expand(self.members, *past.shape[-3:]).unbind(-2))
        anchors = [z0.expand(self.members, *z0.shape[-2:])]
        for k in range(max(whole, default=0)):
            now = condition(c, controls, k * self.stride, (k + 1) * self.stride)
            anchors.append(self.held_back(self.flow(self._history(earlier, anchors), now, largest)))
        path = []
        for t, k in zip(times, whole, strict=True):
            phase = float(t) / largest - k
            if phase <= 1e-9:
                path.append(anchors[k])
                continue
            now = _partial(c, controls, k * self.stride, (k + 1) * self.stride, phase)
            after = self.flow(self._history(earlier, anchors[: k + 1]), now, phase * largest)
            path.append(self.held_back(after))
        return torch.stack(path)

    def _history(self, earlier: list[Tensor], anchors: list[Tensor]) -> Tensor:
        return torch.stack((earlier + anchors)[-self.window :], -2)

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
        """The times between the anchors: of many of them in one batch where there is no memory."""
        batch, count = anchors[0].shape[1], len(anchors)
        if self.window == 1:
            at_once = count if torch.compiler.is_compiling() else max(1, _ROWS // batch)  # a graph is for any batch
            for first in range(0, count, at_once):
                some = anchors[first : first + at_once]
                flat = torch.cat(some, 1).unsqueeze(-2)
                repeated = c.expand(self.members, batch, c.shape[-1]).repeat(1, len(some), 1)
                chosen = path[first * stride : (first + len(some)) * stride]
                for j in range(1, min(stride, steps + 1)):
                    between = self.held_back(self.flow(flat, repeated, j * dt))
                    chosen[j::stride] = between.reshape(self.members, len(some), batch, -1).transpose(0, 1)
            return
        for k in range(count):
            history = self._history(earlier, anchors[: k + 1])
            for j in range(1, min(stride, steps + 1 - k * stride)):
                path[k * stride + j] = self.held_back(self.flow(history, c, j * dt))


def condition(c: Tensor, controls: Tensor | None, begin: int, end: int) -> Tensor:
    """Conditions of a step: the parameters, and the controls at the stored times where it begins and ends."""
    if controls is None:
        return c
    return torch.cat([c, controls[..., begin, :].to(c.dtype), controls[..., end, :].to(c.dtype)], -1)


def _partial(c: Tensor, controls: Tensor | None, begin: int, end: int, phase: float) -> Tensor:
    """Conditions of the first part of a step, up to a phase of it."""
    if controls is None:
        return c
    first, last = controls[..., begin, :].to(c.dtype), controls[..., end, :].to(c.dtype)
    return torch.cat([c, first, first + phase * (last - first)], -1)


def step_pairs(z: Tensor, c: Tensor, controls: Tensor | None, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of latents that are `step` stored steps apart.

    Arguments:
        z: Latents `(trajectory, time, latent)`.
        c: Parameters `(trajectory, parameter)`.
        controls: Controls `(trajectory, time, control)`.
        step: Stored steps between the two.

    Returns:
        The earlier and the later latents and the conditions, `(trajectory, pair, latent or condition)`.

    Raises:
        NumericsError: The trajectories are too short.
    """
    if z.shape[1] <= step:
        raise NumericsError(
            f"latent dynamics: trajectories have {z.shape[1]} times, a step takes {step} of them. "
            "Give longer trajectories."
        )
    now, later = z[:, :-step], z[:, step:]
    conditions = c[:, None].expand(-1, now.shape[1], -1)
    if controls is not None:
        conditions = torch.cat([conditions, controls[:, :-step].to(c.dtype), controls[:, step:].to(c.dtype)], -1)
    return now, later, conditions
