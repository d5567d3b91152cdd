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
from romvae.baselines.fourier_training import BATCH, Pairs, Training
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
ENOUGH = 0.5
"""Share of the budget that has to be left for another candidate to be tried."""
PLANNED = 0.97
"""Share of what is left that is planned for; the rest is for what a measurement cannot know."""
PARTS, LOOKS = 6, 0.3
"""Rollouts of held-out trajectories after the trials, and the largest share of the time that they may take."""
HELD_OUT = 16
DIVERGED = 1e3


@register
class FourierNeuralOperator(Baseline):
    r"""Neural operator :math:`u(t + \tau s) = u(t) + F(u(t), c, \tau)` on the full grid, by `neuralop` (extra `fno`).

    F is a Fourier neural operator of four layers. Parameters and the lead :math:`\tau \in (0, 1]` within a large
    step of s stored ones are constant channels (the same variable step that the ROM has, so that errors do not
    accumulate over more compositions); where the domain has a mask, it is a channel too. Axes that are not periodic
    are padded by a quarter on both sides, and the grid's coordinates are channels where any axis is such. It is
    trained on single steps first and on two steps in a row afterwards. Width, modes and learning rate are chosen by
    short trainings, and the weights kept are those of the best rollouts of held-out trajectories. All of it, with the
    preparation of the data, is within the budget: what a step and a rollout take is measured, and after each sixth of
    the training, the steps that are left are counted anew and the learning rate falls to zero within them. It trains on
    a GPU where there is one, as a ROM does, and forecasts on the CPU.

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
    library = ("neuralop", "fno")

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
        began = time.process_time()
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
        data = Pairs(x, self._scaled(known.c), lengths, self.stride)
        held = held.take(np.arange(min(HELD_OUT, len(held.u))))
        self._train(data, held, seed, began, BUDGET if budget is None else budget, progress or silent)
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

    def _train(self, data: Pairs, held: Snapshots, seed: int, began: float, budget: float, progress: Progress) -> None:
        until = np.inf if self.steps else began + budget
        best, error, look = self._tried(data, held, seed, began, budget, progress)
        kept, least = best.weights(), error
        left = until - time.process_time()
        parts = PARTS if self.steps else max(1, min(PARTS, int(LOOKS * left / max(look, 1e-9))))
        for part in range(parts):
            progress(self.name, len(TRIED), len(TRIED) + 1, f"part {part + 1} of {parts}")
            steps = self._steps(best, part, parts, until - look * (parts - part) - time.process_time())
            if steps < 1:
                break
            best.schedule(steps * (parts - part))
            best.run(steps, until - look, two_steps=part >= parts // 2)
            error = self._held_out(best.network, held)
            if error < least:
                kept, least = best.weights(), error
        progress(self.name, len(TRIED) + 1, len(TRIED) + 1)
        if not np.isfinite(least):
            raise NumericsError("fno: every rollout of held-out trajectories diverges. Train longer: raise the budget.")
        best.network.load_state_dict(kept)
        self.network = best.network.cpu().eval()
        self.sizes = best.sizes
        self.choice = {**best.sizes.to_dict(), "stride": self.stride, "steps": best.taken, "held_out_error": least}

    def _tried(
        self, data: Pairs, held: Snapshots, seed: int, began: float, budget: float, progress: Progress
    ) -> tuple[Training, float, float]:
        """The candidate that is best after a short training, its error, and the seconds of its held-out rollouts."""
        tried: list[tuple[float, int, Training, float]] = []
        for k, sizes in enumerate(self._candidates(seed)):
            before = time.process_time()
            if tried and not self.steps and began + budget - before < ENOUGH * budget:
                break
            progress(self.name, k, len(TRIED) + 1, f"width {sizes.width}, {sizes.modes[0]} modes")
            training = Training(sizes, data, self._inside(), seed, _device())
            training.run(self._trial, np.inf if self.steps else before + TRIAL * budget, two_steps=False)
            after = time.process_time()
            error = self._held_out(training.network, held)
            tried.append((error, k, training, time.process_time() - after))
        error, _, best, look = min(tried, key=lambda item: item[:2])
        return best, error, look

    @property
    def _trial(self) -> int | None:
        return max(2, self.steps // 10) if self.steps else None

    def _steps(self, training: Training, part: int, parts: int, seconds: float) -> int:
        """Steps of this part, if all that are left get as many and take so many seconds together."""
        if self.steps is not None:
            return max(1, (self.steps - max(2, self.steps // 10)) // parts)
        each = sum(training.per_step(later >= parts // 2) for later in range(part, parts))
        return int(PLANNED * seconds / max(each, 1e-6))

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
        device = next(network.parameters()).device
        x0, c = x0.to(device), c.to(device)
        path = torch.full((len(x0), steps + 1, *x0.shape[1:]), torch.nan, device=device)
        path[:, 0] = anchor = x0
        for first in range(0, steps, self.stride):
            leads = min(self.stride, steps - first)
            for lead in range(1, leads + 1):
                path[:, first + lead] = network(anchor, c, x0.new_full((len(x0),), lead / self.stride))
            anchor = path[:, first + leads]
            if not bool((anchor.abs() < DIVERGED).all()):
                path[:, first + 1 :] = torch.nan
                break
        return path.cpu()

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


def _device() -> torch.device:
    """Where a ROM would train."""
    from romvae.training.given import accelerator_of

    return torch.device("cuda" if accelerator_of("auto") == "gpu" else "cpu")
