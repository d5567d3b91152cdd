"""POD with linear dynamics: the linear ROM, with as many modes as it likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from romvae.baselines.base import State, check_times, register
from romvae.baselines.keeping import expect_shape
from romvae.baselines.paths import Paths, time_step
from romvae.baselines.pod_stepper import PODStepper, StepModel
from romvae.dynamics.linear import LinearDynamics
from romvae.errors import NumericsError

__all__ = ["PODLinear"]

Array = NDArray[np.float64]

PARAMETRIC = "parametric"
RIDGES = (0.0, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1.0)


@register
class PODLinear(PODStepper):
    r"""POD coefficients :math:`a' = A(c)\, a + B c + b`, decoded by the modes.

    The number of modes (where it is not given), the ridge, whether A depends on the parameters and whether eigenvalues
    are kept inside the unit circle are chosen by the rollout error on held-out trajectories.

    Arguments:
        rank: Number of modes; None chooses.

    Attributes:
        dynamics: The fitted `LinearDynamics`, float64.
    """

    name = "pod_linear"

    @property
    def dynamics(self) -> LinearDynamics:
        return self.model.dynamics

    model: _Linear

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Forecast of the mean; see `Baseline.rollout`. Any uniform time step will do.

        Raises:
            SchemaError: Times are not uniform, or the start does not fit the training data.
            NumericsError: The linear map has no real power for this time step.
        """
        stored, times = times, check_times(times)
        dt = time_step(stored, self.name) if len(times) > 1 else self.dt
        start = self.stack.start(start)
        z0 = self.pod.project(self.stack.array(start))
        path = self.model.path(z0, self.stack.parameter_array(start), len(times) - 1, dt)
        return self.stack.dataset(self.pod.reconstruct(path), start, times)

    def _prepare(self, c: Array) -> None:
        self._parameters = c.shape[1]

    def _settings(self, rank: int) -> Iterator[dict[str, Any]]:
        for ridge, parametric in product(RIDGES, (False, True) if self._parameters else (False,)):
            yield {"ridge": ridge, "parametric": parametric}

    def _family(self, settings: dict[str, Any]) -> str:
        return PARAMETRIC if settings["parametric"] else ""

    def _operations(self, family: str, rank: int, known: Paths, held: Paths) -> float:
        (count, times, _), parameters = held.z.shape, self._parameters
        features = parameters + rank * (1 + parameters if family == PARAMETRIC else 1)
        # For each ridge an orthogonal and a singular value decomposition, a bound on the eigenvalues, two forecasts.
        fit = 20 * known.count * features**2 + 20 * features**3
        return len(RIDGES) * (fit + 40 * count * rank**3 + 16 * count * times * rank**2)

    def _variants(self, settings: dict[str, Any], paths: Paths) -> Iterator[tuple[dict[str, Any], StepModel]]:
        if settings["parametric"] and paths.z.shape[-1] * (1 + self._parameters) > sum(paths.lengths):
            return  # more unknowns per mode than snapshots
        model = self._learn({**settings, "stable": False}, paths)
        for stable in (False, True):
            model.dynamics.stable = stable
            yield {**settings, "stable": stable}, model

    def _learn(self, settings: dict[str, Any], paths: Paths) -> _Linear:
        kinds = {name: settings[name] for name in ("ridge", "parametric", "stable")}
        dynamics = LinearDynamics(paths.z.shape[-1], paths.c.shape[1], **kinds).double()
        z, c = torch.from_numpy(paths.z), torch.from_numpy(paths.c)
        if not paths.kept.all():
            now, then, beside = (torch.from_numpy(a) for a in paths.pairs())
            z, c = torch.stack([now, then], 1), beside
        dynamics.fit(z, c, self.dt)
        return _Linear(dynamics, self.dt)

    def _restored(self, state: State) -> _Linear:
        facts = state.facts
        dynamics = LinearDynamics(
            self.pod.rank,
            len(self.stack.parameters),
            ridge=float(facts["ridge"]),
            parametric=bool(facts["parametric"]),
            stable=bool(facts["stable"]),
        ).double()
        self._parameters = len(self.stack.parameters)
        expected = dynamics.state_dict()
        arrays = {name: expect_shape(name, state.arrays[name], *value.shape) for name, value in expected.items()}
        dynamics.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
        return _Linear(dynamics, self.dt)


@dataclass
class _Linear:
    """`LinearDynamics` as a `StepModel`."""

    dynamics: LinearDynamics
    dt: float

    def path(self, z0: Array, c: Array, steps: int, dt: float | None = None) -> Array:
        start, beside = torch.from_numpy(z0), torch.from_numpy(c)
        try:
            return self.dynamics.rollout(start, beside, dt or self.dt, steps).numpy().swapaxes(0, 1)
        except torch.linalg.LinAlgError as error:
            raise NumericsError(f"pod_linear: eigenvalues of the map cannot be computed ({error}).") from error

    def state(self) -> State:
        kinds = {name: getattr(self.dynamics, name) for name in ("ridge", "parametric", "stable")}
        return State(kinds, {name: value.numpy() for name, value in self.dynamics.state_dict().items()})
