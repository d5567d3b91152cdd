"""u_t = -rate u: a solver so cheap and exact that tests of ensembles can fail, kill and refine it at will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from romvae.schema import Boundary, Field, Grid
from romvae.solvers import Case, Range, Solver, equidistant
from romvae.solvers.operators import uniform_axis

PERIODIC = (Boundary("periodic"), Boundary("periodic"))


class Decay(Solver):
    """Euler steps, so that there is an error to estimate; breaks down where the rate is above `limit`."""

    name: ClassVar[str] = "decay"
    equation: ClassVar[str] = "u_t = -rate u"
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "K"), Field("v"))
    batched: ClassVar[bool] = True

    def __init__(self, rate: float = 0.5, limit: float = 9.0, steps: int = 8, masked: bool = False) -> None:
        self.rate, self.limit, self.steps, self.masked = rate, limit, steps, masked
        self.grid = Grid((uniform_axis("y", 3, 1.0, PERIODIC), uniform_axis("x", 4, 1.0, PERIODIC)))
        self.parameters = {"rate": rate}

    @property
    def settings(self) -> dict[str, Any]:
        return {"limit": self.limit, "steps": self.steps}

    @property
    def mask(self) -> np.ndarray | None:
        return np.arange(12).reshape(3, 4) != 5 if self.masked else None

    def refined(self) -> Decay:
        return Decay(self.rate, self.limit, 2 * self.steps, self.masked)

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal(self.shape)

    def _integrate(self, u0: np.ndarray, times: np.ndarray) -> np.ndarray:
        return self._integrate_many([self], u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[Decay], u0: np.ndarray, times: np.ndarray) -> np.ndarray:
        for solver in solvers:
            if solver.rate > solver.limit:
                raise solver.failed(times[1], "it decays too fast")
        rate = np.array([solver.rate for solver in solvers]).reshape(-1, 1, 1, 1)
        out = [u0]
        for interval in np.diff(times):
            out.append(out[-1] * (1 - rate * interval / solvers[0].steps) ** solvers[0].steps)
        return np.stack(out, axis=1)


def scaled(solver: Decay, values: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    return values["height"] * solver.initial(rng)


RANGES = (Range("rate", 0.1, 1.0, "log"), Range("height", 1.0, 3.0, of_initial=True))
DECAY = Case("decay", "Decay", Decay, equidistant(1.0, 5), 20, RANGES, scaled)
FRAGILE = Case("decay", "Decay that fails where it is fast", partial(Decay, limit=0.5), DECAY.times, 20, RANGES, scaled)
