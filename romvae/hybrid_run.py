"""The course of a hybrid rollout: every trajectory in turns by ROM and solver, all of a kind in one computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from romvae.alarm_signal import VARIANCE, Signal
from romvae.calibration import graded, scaled
from romvae.distributions import moments
from romvae.errors import NumericsError
from romvae.grading import squared_over_variance
from romvae.hybrid_course import BY_ROM, BY_SOLVER, GIVEN, Course, Flight, Stretch
from romvae.hybrid_residual import squares
from romvae.solvers import Solver

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["WINDOW", "HybridRun"]

WINDOW = 2
"""Large steps of the ROM that are decoded before their predicted error is looked at."""


class HybridRun:
    """Advances trajectories by ROM and solver in turns.

    Arguments:
        rom: Trained.
        solvers: One per trajectory.
        c: Normalised parameters `(trajectory, parameter)`.
        threshold: Predicted error at which the solver takes over.
        burst: Stored steps of the solver at a hand-over.
        check: Stored steps between two comparisons of one ROM step with one of the solver; None makes none.
        back: Whether the solver goes on from the last field of its own, and not from the last one of the ROM.
        signal: What the predicted error is made of.
        parameters: Name to physical values `(trajectory,)`, for the residual.
    """

    def __init__(
        self,
        rom: ROM,
        solvers: Sequence[Solver],
        c: Tensor,
        threshold: float,
        burst: int,
        check: int | None,
        back: bool = False,
        signal: Signal = VARIANCE,
        parameters: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.rom, self.solvers, self.c = rom, list(solvers), c
        self.threshold, self.burst, self.check, self.back = threshold, burst, check, back
        self.signal, self.parameters = signal, dict(parameters or {})
        self.mask = rom.mask

    def course(self, u0: np.ndarray, steps: int, progress: Callable[[int, int], None] | None = None) -> Course:
        """All trajectories from their initial fields through `steps` stored steps.

        Arguments:
            u0: `(trajectory, field, *space)`, physical units.
            steps: Stored steps.
            progress: Called as `progress(done, total)` with stored steps of all trajectories.
        """
        course, done = Course.from_start(u0, steps), 0
        while (waiting := np.flatnonzero(course.at < steps)).size:
            refused = self._fly(course, waiting, steps)
            self._solve(course, refused, steps)
            done = max(done, int(course.at.sum()))  # a trajectory that goes back loses steps
            if progress is not None:
                progress(done, steps * len(u0))
        return course

    def _fly(self, course: Course, rows: np.ndarray, steps: int) -> np.ndarray:
        """The ROM takes trajectories as far as it is sure of; returns those whose alarm rang before the end."""
        x = self._normalised(course.u[rows, course.at[rows]])
        flight, known = self.launched(rows, x)
        sure = known.numpy() < self.threshold
        refused = [rows[~sure]]
        flight = flight.only(np.flatnonzero(sure))
        while flight.rows.size:
            flight, stopped = self._window(course, flight, steps)
            refused.append(stopped)
        return np.sort(np.concatenate(refused))

    def launched(self, rows: np.ndarray, x: Tensor) -> tuple[Flight, Tensor]:
        """The ROM takes over trajectories at given fields.

        Arguments:
            rows: Which trajectories.
            x: Their fields `(flight, field, *space)`, normalised units.

        Returns:
            The flight, and the error of compressing each field, `(flight,)`.
        """
        mean = moments(self.rom.vae.encoder(x))[0]
        z = mean.expand(self.rom.dynamics.members, *mean.shape)
        start, claimed, _ = (each[:, 0] for each in self._decoded(z[:, :, None]))
        mask = self.rom.vae.decoder.mask
        ratio = squared_over_variance(x, start, claimed, mask)
        calibration = self.rom.calibration
        grades = graded(calibration.parts, calibration.runs, ratio, x, self.c[rows], mask)
        behind = None if self.signal.residual is None else self._in_units(start[:, None])
        return Flight(rows, z, 0, np.zeros(len(rows)), grades, behind), self.size(start - x)

    def stretch(self, flight: Flight, ahead: int) -> Stretch:
        """The next stored steps of a flight, at least two where a residual is asked for."""
        dynamics = self.rom.dynamics
        path = dynamics.rollout(flight.z, self.c[flight.rows], float(dynamics.dt), ahead)
        mean, within, between = self._decoded(path[1:].permute(1, 2, 0, 3))
        within, between = self.rom.calibration.parts.weighted(within, between, flight.grades, axis=0)
        factor, _ = self.rom.calibration.at(flight.lead + torch.arange(1, ahead + 1), 0.9)
        after = replace(flight, z=path[-1], lead=flight.lead + ahead)
        parts: dict[str, np.ndarray] = {}
        if self.signal.kind != VARIANCE.kind:
            parts["decoder"] = np.asarray(self.size(within.sqrt()).numpy())
            if len(flight.z) > 1:
                parts["disagreement"] = np.asarray(self.size(between.sqrt()).numpy())
        if self.signal.residual is not None and flight.behind is not None:
            fields = torch.cat([flight.behind, self._in_units(mean)], 1)
            values = {name: value[flight.rows] for name, value in self.parameters.items()}
            total = squares(self.signal.residual, fields, self.rom.schema, values).cumsum(1) + flight.residual
            after.behind, after.residual = fields[:, -2:], total[:, -1:]
            if flight.lead == 0:  # the first time is no middle one: it has the residual of the second
                total = torch.cat([total[:, :1], total], 1)
            lead = flight.lead + torch.arange(1, ahead + 1)[:, None]
            pooled = lead * (total / (lead - 1).clamp(min=1)).sqrt()
            parts |= {f"residual {k + 1}": pooled[..., k].double().numpy() for k in range(pooled.shape[-1])}
        return Stretch(mean, self._largest(within + between, factor), parts, after)

    def _window(self, course: Course, flight: Flight, steps: int) -> tuple[Flight, np.ndarray]:
        """A few large steps: those that stay sure fly on, those whose alarm rang come back."""
        ahead = min(WINDOW * self.rom.dynamics.stride, int((steps - course.at[flight.rows]).max()))
        found = self.stretch(flight, ahead if self.signal.residual is None else max(ahead, 2))
        predicted = (self.signal.error(found.parts) if self.signal.parts else found.variance)[:, :ahead]
        predicted[~np.isfinite(predicted)] = np.inf  # where the latents diverge, the solver takes over
        u = self._physical(found.mean[:, :ahead], course.u[flight.rows, 0])
        if self.check is not None:
            self._compare(course, flight, u, predicted, self.check)
        over = predicted >= self.threshold
        good = np.where(over.any(1), over.argmax(1), ahead)
        for i, row in enumerate(flight.rows):
            begin = course.at[row]
            count = min(int(good[i]), steps - begin)
            course.u[row, begin + 1 : begin + 1 + count] = u[i, :count]
            course.source[row, begin + 1 : begin + 1 + count] = BY_ROM
            course.predicted[row, begin + 1 : begin + 1 + count] = predicted[i, :count]
            course.at[row] += count
        done = course.at[flight.rows] >= steps
        rung = (good < ahead) & ~done
        for k in np.flatnonzero(rung) if self.back else ():
            row = int(flight.rows[k])
            course.at[row] -= flight.lead + int(good[k])
            given_up = slice(course.at[row] + 1, None)
            course.predicted[row, given_up], course.source[row, given_up] = np.nan, GIVEN
        return found.after.only(np.flatnonzero(~rung & ~done)), flight.rows[rung]

    def _compare(self, course: Course, flight: Flight, u: np.ndarray, predicted: np.ndarray, check: int) -> None:
        """Raises the predicted error to the defects of single steps added up, each counted `check` times."""
        total = flight.defect.copy()
        for j in range(u.shape[1]):
            if (flight.lead + j + 1) % check == 0:
                before = u[:, j - 1] if j else course.u[flight.rows, course.at[flight.rows]]
                total += check * self._defect(flight.rows, before, u[:, j])
                course.solved[flight.rows] += 1
            predicted[:, j] = np.maximum(predicted[:, j], total)
        flight.defect[:] = total

    def _defect(self, rows: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Distance of one step of the ROM from that of the solver; infinite where it refuses the field."""
        try:
            stepped = self._advance(rows, before, 1)[:, 1]
        except NumericsError:
            if len(rows) == 1:
                return np.array([np.inf])
            each = [self._defect(rows[i : i + 1], before[i : i + 1], after[i : i + 1]) for i in range(len(rows))]
            return np.concatenate(each)
        return np.asarray(self.size(self._normalised(stepped) - self._normalised(after)).numpy())

    def _solve(self, course: Course, rows: np.ndarray, steps: int) -> None:
        """The solver advances trajectories by a burst."""
        course.hand_overs[rows] += 1
        ahead = np.minimum(self.burst, steps - course.at[rows])
        for count in np.unique(ahead):
            some = rows[ahead == count]
            try:
                path = self._advance(some, course.u[some, course.at[some]], int(count))
            except NumericsError:
                for row in some:
                    self._solve_alone(course, row, int(count))
                continue
            self._put(course, some, path)

    def _solve_alone(self, course: Course, row: int, count: int) -> None:
        """The same for one; where the solver refuses, it goes back to before the last stretch of the ROM, or further.

        A field of the ROM may also be refused some time after it was taken, and the solver's own fields with it.
        """
        one, end = np.array([row]), int(course.at[row]) + count
        by_rom = course.source[row, :end] == BY_ROM
        own = [end - count, *np.flatnonzero(~by_rom[:-1] & by_rom[1:])[::-1]]
        for k, begin in enumerate(own):
            try:
                path = self._advance(one, course.u[one, begin], end - begin)
            except NumericsError:
                if k + 1 == len(own):
                    raise
                continue
            course.at[row] = begin
            course.predicted[row, begin + 1 :] = np.nan
            self._put(course, one, path)
            return

    @staticmethod
    def _put(course: Course, rows: np.ndarray, path: np.ndarray) -> None:
        count = path.shape[1] - 1
        for j in range(1, count + 1):
            course.u[rows, course.at[rows] + j] = path[:, j]
            course.source[rows, course.at[rows] + j] = BY_SOLVER
        course.solved[rows] += count
        course.at[rows] += count

    def _advance(self, rows: np.ndarray, u: np.ndarray, count: int) -> np.ndarray:
        """Stored steps of the solver, `(trajectory, count + 1, field, *space)`."""
        if not np.isfinite(u).all():
            raise NumericsError("hybrid: a decoded field is not finite. Lower the threshold.")
        some = [self.solvers[i] for i in rows]
        return type(some[0]).solve_many(some, u, self.rom.schema.dt * np.arange(count + 1))

    def _decoded(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean over the networks, variance of the decoder, and between the networks.

        Arguments:
            z: Latents `(network, trajectory, time, latent)`.

        Returns:
            Each `(trajectory, time, field, *space)`, normalised units.
        """
        shape = (*z.shape[:3], self.rom.vae.encoder.layout.fields, *self.rom.vae.encoder.layout.shape)
        parts = [self.rom.vae.decoder(part) for part in z.reshape(-1, z.shape[-1]).split(1024)]
        mean = torch.cat([p.mean for p in parts]).reshape(shape)
        var = torch.cat([p.variance for p in parts]).reshape(shape)
        between = mean.var(0) if len(z) > 1 else torch.zeros_like(mean[0])
        return mean.mean(0), var.mean(0), between

    def _largest(self, var: Tensor, factor: Tensor) -> np.ndarray:
        """Predicted error `(trajectory, time)` from variances `(trajectory, time, field, *space)`."""
        flat = var.flatten(3)
        if self.mask is not None:
            flat = flat[..., torch.from_numpy(self.mask.ravel())]
        std = flat.sqrt()
        calibrated = scaled(factor[..., None], std, self.rom.calibration.spread, 2) * std
        return np.asarray(calibrated.square().mean(-1).sqrt().amax(-1).double().numpy())

    def size(self, difference: Tensor) -> Tensor:
        """Root mean square over the domain, the largest of all fields, from `(..., field, *space)`."""
        flat = difference.flatten(-self.rom.schema.grid.ndim)
        if self.mask is not None:
            flat = flat[..., torch.from_numpy(self.mask.ravel())]
        return flat.square().mean(-1).sqrt().amax(-1).double()

    def _normalised(self, u: np.ndarray) -> Tensor:
        return self.rom.vae.decoder.inside(self.rom.normaliser(torch.from_numpy(u)).float())

    def _in_units(self, x: Tensor) -> Tensor:
        """Physical units, float64, of normalised fields `(trajectory, time, field, *space)`."""
        return self.rom.normaliser.inverse(x.flatten(0, 1).double()).reshape(x.shape)

    def _physical(self, x: Tensor, start: np.ndarray) -> np.ndarray:
        """Physical fields `(trajectory, time, field, *space)`; outside of the domain they are those of the start."""
        u = self._in_units(x).numpy()
        return u if self.mask is None else np.where(self.mask, u, start[:, None])
