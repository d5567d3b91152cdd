"""A Fourier neural operator on the full grid, stepped through time."""

from __future__ import annotations

import time
from typing import Any, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from romvae.baselines.base import Baseline, State, check_times, register
from romvae.baselines.fourier_network import FourierStep, Sizes, tensors
from romvae.baselines.keeping import expect_shape
from romvae.baselines.paths import Snapshots, steps_of, time_step
from romvae.baselines.stack import FieldStack
from romvae.errors import ConfigError, NumericsError, optional_import
from romvae.progress import Progress, silent
from romvae.schema import TIME, Schema
from romvae.tensors import largest_step

__all__ = ["FourierNeuralOperator"]

BUDGET = 120.0
"""Seconds of process time where none are given."""
TRIED = ((16, 8, 2e-3), (32, 12, 2e-3), (32, 16, 5e-4))
"""Width, modes per axis and learning rate of the candidates."""
TRIAL = 0.12
"""Share of the budget that each candidate is tried for."""
BATCH, HELD_OUT = 16, 16
DIVERGED = 1e3


@register
class FourierNeuralOperator(Baseline):
    r"""Neural operator :math:`u(t + \tau s) = u(t) + F(u(t), c, \tau)` on the full grid, by `neuralop` (extra `fno`).

    F is a Fourier neural operator of four layers. Parameters and the lead :math:`\tau \in (0, 1]` within a large
    step of s stored ones are constant channels (the same variable step that the ROM has, so that errors do not
    accumulate over more compositions); where the domain has a mask, it is a channel too. Axes that are not periodic
    are padded by a quarter on both sides, and the grid's coordinates are channels where any axis is such. It is
    trained on single steps first and on two steps in a row afterwards. Width, modes and learning rate are chosen by
    short trainings, and the weights kept are those of the best rollouts of held-out trajectories, all within the
    budget.

    Arguments:
        width: Channels; None chooses.
        modes: Fourier modes per axis; None chooses, at most half the points.
        learning_rate: Of Adam, falling to zero by a cosine; None chooses.
        steps: Steps of the optimiser, which makes the result independent of the machine's speed; None takes what the
            budget allows.

    References:
        Li et al. (2021), Fourier neural operator for parametric partial differential equations, arXiv:2010.08895.
        Kossaifi et al. (2024), A library for learning neural operators, arXiv:2412.10354.
    """

    name = "fno"

    def __init__(
        self,
        width: int | None = None,
        modes: int | None = None,
        learning_rate: float | None = None,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        given = {"width": width, "modes": modes, "learning_rate": learning_rate, "steps": steps}
        for argument, value in given.items():
            if value is not None and not value > 0:
                raise ConfigError(f"fno: {argument} is {value}, expected a positive number. Leave it out.")
        self.width, self.modes, self.learning_rate, self.steps = width, modes, learning_rate, steps

    @classmethod
    def reason_against(cls, train: xr.Dataset) -> str:
        """A Fourier transform needs evenly spaced points, at least four along each axis."""
        for axis in Schema.of(train).grid.axes:
            if not axis.uniform:
                return f"points along {axis.name} are not evenly spaced, as a Fourier transform needs them"
            if axis.size < 4:
                return f"{axis.name} has {axis.size} points, a Fourier layer needs 4 or more"
        return ""

    def fit(
        self,
        train: xr.Dataset,
        *,
        validation: xr.Dataset | None = None,
        seed: int = 0,
        budget: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Chooses width, modes and learning rate by short trainings, then trains; see the class.

        Raises:
            DataError: The grid is not evenly spaced.
            NumericsError: All candidates diverge on the held-out trajectories.
        """
        optional_import("neuralop.models", "fno", "the baseline fno")
        self._require(train)
        self.stack, schema = FieldStack.of(train), Schema.of(train)
        self.dt = time_step(train[TIME].values, self.name)
        whole = Snapshots.of(train, self.stack)
        known, held = whole.halves(seed) if validation is None else (whole, Snapshots.of(validation, self.stack))
        u = known.u[known.kept].astype(np.float64)
        self.mean, self.std = u.mean((0, 2)), np.where(u.std((0, 2)) > 0, u.std((0, 2)), 1.0)
        self.low, self.high = known.c.min(0), known.c.max(0)
        self.periodic = tuple(axis.periodic for axis in schema.grid.axes)
        x = self._normalised(known.u)
        lengths = torch.from_numpy(known.kept.sum(1))
        shortest = int(lengths.min())
        self.stride = max(1, min(largest_step(x[:, :shortest]), shortest // 2))
        data = _Data(x, self._scaled(known.c), lengths, self.stride)
        held = held.take(np.arange(min(HELD_OUT, len(held.u))))
        self._train(data, held, seed, BUDGET if budget is None else budget, progress or silent)
        return self

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Forecast of the mean; see `Baseline.rollout`.

        Raises:
            SchemaError: Times are not multiples of the training data's step, or the start does not fit the data.
            NumericsError: The forecast diverged.
        """
        times = check_times(times)
        steps = steps_of(times, self.dt, self.name)
        start = self.stack.start(start)
        x0, c = self._normalised(self.stack.array(start)), self._scaled(self.stack.parameter_array(start))
        paths = []
        for rows in torch.arange(len(x0)).split(BATCH):
            path = self._path(self.network, x0[rows], c[rows], int(steps[-1]))[:, torch.from_numpy(steps)]
            if not bool(path.isfinite().all()):
                raise NumericsError(
                    f"{self.name}: the forecast diverged before time {times[-1]:g}. Forecast less far, or train longer."
                )
            flat = path.flatten(3).double().numpy()
            paths.append(self.mean[:, None] + self.std[:, None] * flat)
        return self.stack.dataset(np.concatenate(paths), start, times)

    # -- training

    def _train(self, data: _Data, held: Snapshots, seed: int, budget: float, progress: Progress) -> None:
        began = time.process_time()
        tried: list[tuple[float, int, _Training]] = []
        for k, sizes in enumerate(self._candidates(seed)):
            progress(self.name, k, len(TRIED) + 1, f"width {sizes.width}, {sizes.modes[0]} modes")
            training = _Training(sizes, data, self._inside(), seed)
            trial = max(2, self.steps // 10) if self.steps else None
            training.run(trial, TRIAL * budget, two_steps=False)
            tried.append((self._held_out(training.network, held), k, training))
        error, _, best = min(tried, key=lambda item: item[:2])
        kept, least = best.weights(), error
        rest = None if self.steps is None else max(1, self.steps - max(2, self.steps // 10))
        left = max(0.1 * budget, budget - (time.process_time() - began))
        parts = 6
        total = rest or best.affordable(left / 1.3)  # two steps in a row, and rollouts of held-out trajectories
        best.schedule(total)
        for part in range(parts):
            progress(self.name, len(TRIED), len(TRIED) + 1, f"part {part + 1} of {parts}")
            best.run(max(1, total // parts), np.inf, two_steps=part >= parts // 2)
            error = self._held_out(best.network, held)
            if error < least:
                kept, least = best.weights(), error
        progress(self.name, len(TRIED) + 1, len(TRIED) + 1)
        if not np.isfinite(least):
            raise NumericsError("fno: every rollout of held-out trajectories diverges. Train longer: raise the budget.")
        best.network.load_state_dict(kept)
        self.network = best.network.eval()
        self.sizes = best.sizes
        self.choice = {**best.sizes.to_dict(), "stride": self.stride, "steps": best.taken, "held_out_error": least}

    def _candidates(self, seed: int) -> list[Sizes]:
        points = self.stack.shape
        found = []
        for width, modes, rate in TRIED:
            most = tuple(min(self.modes or modes, max(2, n // 2)) for n in points)
            channels = self.width or (width if len(points) < 3 else width // 2)
            found.append(
                Sizes(
                    len(self.stack.fields),
                    len(self.stack.parameters),
                    channels,
                    most,
                    self.periodic,
                    self.stack.inside is not None,
                    self.learning_rate or rate,
                )
            )
        return list(dict.fromkeys(found))

    def _held_out(self, network: nn.Module, held: Snapshots) -> float:
        """Relative error of rollouts, in normalised units."""
        x = self._normalised(held.u)
        path = self._path(network, x[:, 0], self._scaled(held.c), x.shape[1] - 1)
        kept = torch.from_numpy(held.kept)
        error = float((path - x)[kept].square().sum().sqrt() / x[kept].square().sum().sqrt())
        return error if np.isfinite(error) else np.inf

    @torch.no_grad()
    def _path(self, network: nn.Module, x0: Tensor, c: Tensor, steps: int) -> Tensor:
        """Normalised fields `(trajectory, steps + 1, field, *space)`; NaN once diverged."""
        network.eval()
        path = torch.full((len(x0), steps + 1, *x0.shape[1:]), torch.nan)
        path[:, 0] = anchor = x0
        for first in range(0, steps, self.stride):
            leads = min(self.stride, steps - first)
            for lead in range(1, leads + 1):
                path[:, first + lead] = network(anchor, c, torch.full((len(x0),), lead / self.stride))
            anchor = path[:, first + leads]
            if not bool((anchor.abs() < DIVERGED).all()):
                path[:, first + 1 :] = torch.nan
                break
        return path

    def _normalised(self, u: NDArray[np.floating]) -> Tensor:
        x = (u - self.mean[:, None]) / self.std[:, None]
        if self.stack.inside is not None:
            x = np.where(self.stack.inside, x, 0.0)
        return torch.from_numpy(x.reshape(*u.shape[:-1], *self.stack.shape).astype(np.float32))

    def _scaled(self, c: NDArray[np.float64]) -> Tensor:
        width = np.where(self.high > self.low, self.high - self.low, 1.0)
        return torch.from_numpy(((2 * c - self.low - self.high) / width).astype(np.float32))

    def _inside(self) -> Tensor | None:
        return None if self.stack.inside is None else torch.from_numpy(self.stack.inside).reshape(self.stack.shape)

    # -- keeping

    def _state(self) -> State:
        arrays: dict[str, NDArray[Any]] = {"mean": self.mean, "std": self.std, "low": self.low, "high": self.high}
        for name, value in tensors(self.network).items():
            real = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
            arrays[f"network.{name}"] = real.numpy()
        return State({"dt": self.dt, "stride": self.stride, "sizes": self.sizes.to_dict()}, arrays)

    def _restore(self, state: State) -> None:
        optional_import("neuralop.models", "fno", "the baseline fno")
        self.dt, self.stride = float(state.facts["dt"]), int(state.facts["stride"])
        fields, parameters = len(self.stack.fields), len(self.stack.parameters)
        for name, size in (("mean", fields), ("std", fields), ("low", parameters), ("high", parameters)):
            setattr(self, name, expect_shape(name, state.arrays[name], size))
        self.sizes = Sizes.from_dict(state.facts["sizes"])
        self.sizes.check(fields, parameters, len(self.stack.shape), sum(a.size for a in state.arrays.values()))
        self.periodic = self.sizes.periodic
        self.network = FourierStep(self.sizes, self._inside())
        weights = state.within("network.").arrays
        loaded: dict[str, Tensor] = {}
        for name, value in tensors(self.network).items():
            shape = (*value.shape, 2) if value.is_complex() else tuple(value.shape)
            found = torch.from_numpy(expect_shape(name, weights[name], *shape))
            loaded[name] = torch.view_as_complex(found.contiguous()) if value.is_complex() else found
        self.network.load_state_dict(loaded)
        self.network.eval()


class _Data:
    """Training pairs as a pure function of the step: `(seed, step)` says which.

    Arguments:
        x: Normalised trajectories `(trajectory, time, field, *space)`.
        c: Scaled parameters `(trajectory, parameter)`.
        lengths: Times of each trajectory.
        stride: Stored steps in a large step.
    """

    def __init__(self, x: Tensor, c: Tensor, lengths: Tensor, stride: int) -> None:
        self.x, self.c, self.lengths, self.stride = x, c, lengths, stride

    def batch(self, seed: int, step: int, two_steps: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Start, parameters, lead, field at the lead, and for two steps the one a large step before it."""
        rng = np.random.default_rng((seed, step))
        before = self.stride if two_steps else 0
        rows = rng.integers(len(self.x), size=BATCH)
        room = self.lengths.numpy()[rows] - 1 - before
        leads = np.minimum(rng.integers(1, self.stride + 1, size=BATCH), np.maximum(room, 1))
        first = (rng.random(BATCH) * np.maximum(room - leads + 1, 1)).astype(int)
        now, then = self.x[rows, first], self.x[rows, first + before + leads]
        between = self.x[rows, first + before] if two_steps else None
        return now, self.c[rows], torch.from_numpy(leads / self.stride).float(), then, between


class _Training:
    """A network, its optimiser, and the steps that it has taken."""

    def __init__(self, sizes: Sizes, data: _Data, inside: Tensor | None, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = FourierStep(sizes, inside)
        self.sizes, self.data, self.seed, self.taken = sizes, data, seed, 0
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=sizes.learning_rate, weight_decay=1e-5)
        self.total, self.since, self.seconds = 0, 0, 0.0

    def affordable(self, seconds: float) -> int:
        """Steps that fit into so many seconds, at the cost of those taken."""
        return max(6, int(seconds / max(self.seconds / max(self.taken, 1), 1e-6)))

    def schedule(self, steps: int) -> None:
        """Lets the learning rate fall to zero within so many further steps."""
        self.total, self.since = steps, self.taken

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights."""
        return {name: value.clone() for name, value in tensors(self.network).items()}

    def run(self, steps: int | None, seconds: float, two_steps: bool) -> None:
        """Takes so many steps, or as many as fit into the seconds, at least two."""
        began, first = time.process_time(), self.taken
        self.network.train()
        while self.taken - first < (steps or 10**9):
            now, c, lead, then, between = self.data.batch(self.seed, self.taken, two_steps)
            loss = torch.zeros(())
            if between is not None:
                now = self.network(now, c, torch.ones_like(lead))
                loss = (now - between).square().mean()
            loss = loss + (self.network(now, c, lead) - then).square().mean()
            if not bool(loss.isfinite()):
                break  # the weights of before are kept, if any were better
            share = min(1.0, (self.taken - self.since) / self.total) if self.total else 0.0
            for group in self.optimiser.param_groups:
                group["lr"] = self.sizes.learning_rate * 0.5 * (1 + np.cos(np.pi * share))
            self.optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.taken += 1
            if self.taken - first >= 2 and time.process_time() - began > seconds:
                break
        self.seconds += time.process_time() - began
