"""POD with radial basis functions over the parameters."""

from __future__ import annotations

import numpy as np

from romvae.baselines.base import State, register
from romvae.baselines.keeping import expect_shape
from romvae.baselines.pod_interpolation import Array, PODInterpolation
from romvae.baselines.radial import Kernel, best_kernel, held_out_errors, radial
from romvae.errors import DataError

__all__ = ["PODRBF"]


@register
class PODRBF(PODInterpolation):
    """POD of whole trajectories with radial basis functions over the parameters; see `PODInterpolation`.

    The kernel, its degree and its width are those of the least error when trajectories are left out: one at a time, or
    a tenth of them where there are more than 50.
    """

    name = "pod_rbf"

    def _learn(self, c: Array, a: Array, seed: int, budget: float | None) -> Array:
        kernel, _ = best_kernel(c, a)
        if kernel is None:
            raise DataError(
                f"{self.name}: no kernel interpolates these parameters, expected them to differ between "
                "trajectories. Ask applies(train) first."
            )
        self._install(kernel, c, a)
        self.choice = {"kernel": kernel.name, "degree": kernel.degree, "epsilon": kernel.epsilon}
        return held_out_errors(kernel, c, a)

    def _install(self, kernel: Kernel, c: Array, a: Array) -> None:
        self._kernel, self._c, self._a = kernel, c, a
        self._interpolant = radial(kernel, c, a)

    def _truncate(self, rank: int) -> None:
        self._install(self._kernel, self._c, np.ascontiguousarray(self._a[:, :rank]))

    def _coefficients(self, c: Array) -> Array:
        return self._interpolant(c)

    def _state(self) -> State:
        state = super()._state()
        facts = {**state.facts, "kernel": self._kernel.to_dict()}
        return State(facts, {**state.arrays, "c": self._c, "a": self._a})

    def _restore(self, state: State) -> None:
        super()._restore(state)
        kernel = Kernel(**state.facts["kernel"])
        count = len(state.arrays["c"])
        c = expect_shape("c", state.arrays["c"], count, self._range.count)
        self._install(kernel, c, expect_shape("a", state.arrays["a"], count, self.pod.rank))
