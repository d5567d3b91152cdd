"""Operator inference through the library `opinf`: polynomial dynamics of POD coefficients, affine in the parameters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from romvae.baselines.base import State, register
from romvae.baselines.keeping import expect_shape
from romvae.baselines.paths import Paths
from romvae.baselines.pod_interpolation import UnitRange
from romvae.baselines.pod_stepper import PODStepper, StepModel
from romvae.errors import optional_import

__all__ = ["OperatorInference", "PolynomialMap"]

Array = NDArray[np.float64]
Scheme = Literal["discrete", "continuous"]

REGULARISERS = (1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Tikhonov's weight in units of the largest singular value of the data matrix."""
MOST_ROWS = 12_000
"""Snapshots beyond this are thinned out evenly: the regression has a few hundred unknowns per mode."""
QUADRATIC_UP_TO = 24
"""Modes up to which a quadratic term is tried however long it takes."""
QUADRATIC, PARAMETRIC = "quadratic ", "parametric"
DIVERGED = 1e3
"""A coefficient of this size, in units of the largest in the training data, ends a forecast."""


@register
class OperatorInference(PODStepper):
    r"""Operator inference :math:`\dot q = c + A q + H (q \otimes q)` of POD coefficients, by `opinf` (extra `opinf`).

    Each operator is affine in the parameters, :math:`A = A_0 + \sum_i \theta_i A_i`. The model maps one step to the
    next (`discrete`) or gives the time derivative (`continuous`: differences of sixth order, forecasts by Runge-Kutta
    of fourth order with two steps to a stored one). Number of modes, scheme, whether there is a quadratic term, whether
    operators depend on the parameters, and Tikhonov's weight are chosen together by a grid search on the rollout error
    of held-out trajectories; what diverges there is out. With a quadratic term and without, and with operators that
    depend on the parameters and without, more modes are tried where each is best with the most that it was tried with.

    Arguments:
        rank: Number of modes; None chooses.

    References:
        Peherstorfer and Willcox (2016), Data-driven operator inference for nonintrusive projection-based model
        reduction, doi:10.1016/j.cma.2016.03.025.
        McQuarrie, Huang and Willcox (2021), Data-driven reduced-order models via regularised operator inference for a
        single-injector combustion process, arXiv:2008.02862.
        McQuarrie, Khodabakhshi and Willcox (2023), Nonintrusive reduced-order models for parametric partial
        differential equations via data-driven operator inference, arXiv:2110.07653.
    """

    name = "opinf"
    library = ("opinf", "opinf")
    ranks = (4, 8, 12, 16, 20, 24, 32)

    def _prepare(self, c: Array) -> None:
        _library()
        self._range = UnitRange.of(c)

    def _settings(self, rank: int) -> Iterator[dict[str, Any]]:
        schemes: tuple[Scheme, ...] = ("discrete", "continuous")
        for degree, parametric, scheme in product((1, 2), (True, False) if self._range.count else (False,), schemes):
            yield {"degree": degree, "parametric": parametric, "scheme": scheme}

    def _family(self, settings: dict[str, Any]) -> str:
        return QUADRATIC * (settings["degree"] == 2) + PARAMETRIC * settings["parametric"]

    def _usual(self, family: str) -> float:
        return QUADRATIC_UP_TO if QUADRATIC in family else super()._usual(family)

    def _operations(self, family: str, rank: int, known: Paths, held: Paths) -> float:
        settings = {"degree": 2 if QUADRATIC in family else 1, "parametric": PARAMETRIC in family}
        unknowns, rows = _unknowns(rank, settings, self._range.count), known.count // _every(known)
        if unknowns > min(known.count, MOST_ROWS):
            return np.inf
        # Both schemes: a singular value decomposition, and forecasts with a step and with eight of its stages.
        forecasts = 9 * 2 * held.z.shape[0] * held.z.shape[1] * rank * unknowns
        return 2 * (6 * rows * unknowns**2 + 40 * unknowns**3) + len(REGULARISERS) * forecasts

    def _variants(self, settings: dict[str, Any], paths: Paths) -> Iterator[tuple[dict[str, Any], StepModel]]:
        if settings["scheme"] == "continuous" and min(paths.lengths) < 8:
            return  # too short for differences of sixth order
        if _unknowns(paths.z.shape[-1], settings, self._range.count) > min(sum(paths.lengths), MOST_ROWS):
            return
        try:
            fitted, scale = self._regression(settings, paths)
        except np.linalg.LinAlgError:
            return
        largest = float(fitted.solver._svals[0])
        for regulariser in REGULARISERS:
            yield {**settings, "regulariser": regulariser}, self._solved(fitted, settings, regulariser * largest, scale)

    def _learn(self, settings: dict[str, Any], paths: Paths) -> PolynomialMap:
        fitted, scale = self._regression(settings, paths)
        return self._solved(fitted, settings, settings["regulariser"] * float(fitted.solver._svals[0]), scale)

    def _regression(self, settings: dict[str, Any], paths: Paths) -> tuple[Any, float]:
        """The model of `opinf` with its regression prepared, and the size that coefficients are divided by."""
        opinf = _library()
        scale = float(np.abs(paths.z).max()) or 1.0
        theta = _theta(self._range(paths.c), settings["parametric"])
        terms = theta.shape[1]
        kinds = [opinf.operators.AffineConstantOperator, opinf.operators.AffineLinearOperator]
        if settings["degree"] == 2:
            kinds.append(opinf.operators.AffineQuadraticOperator)
        operators = [kind(terms) for kind in kinds]
        every = _every(paths)
        states, targets = [], []
        for z, length in zip(paths.z / scale, paths.lengths, strict=True):
            q = z[:length].T
            if settings["scheme"] == "continuous":
                change = opinf.ddt.ddt_uniform(q, self.dt, order=6) * self.dt
                states.append(q[:, ::every])
            else:
                change = q[:, 1:] - q[:, :-1]
                states.append(q[:, :-1:every])
            targets.append(change[:, ::every])
        model = opinf.models.ParametricDiscreteModel(operators, solver=opinf.lstsq.L2Solver(regularizer=1.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few rows, which held-out trajectories judge
            # Both schemes are the regression of an increment: over one step, or at a rate times the step.
            model._fit_solver(list(theta), states, targets)
        return model, scale

    def _solved(self, model: Any, settings: dict[str, Any], regulariser: float, scale: float) -> PolynomialMap:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.solver.regularizer = regulariser
            model.refit()
        entries = [np.stack(operator.entries) for operator in model.operators]
        rank = entries[0].shape[1]
        constant, linear = entries[0].reshape(-1, rank), entries[1]
        quadratic = entries[2] if len(entries) > 2 else np.zeros((len(linear), rank, 0))
        return PolynomialMap(constant, linear, quadratic, self._range, scale, settings["scheme"])

    def _restored(self, state: State) -> PolynomialMap:
        rank, parameters = self.pod.rank, len(self.stack.parameters)
        low, high = (expect_shape(name, state.arrays[name], parameters) for name in ("low", "high"))
        terms, products = len(state.arrays["constant"]), state.arrays["quadratic"].shape[-1]
        if terms not in (1, 1 + UnitRange(low, high).count) or products not in (0, rank * (rank + 1) // 2):
            raise ValueError(f"{terms} terms with {products} products do not fit {rank} modes, {parameters} parameters")
        return PolynomialMap(
            expect_shape("constant", state.arrays["constant"], terms, rank),
            expect_shape("linear", state.arrays["linear"], terms, rank, rank),
            expect_shape("quadratic", state.arrays["quadratic"], terms, rank, products),
            UnitRange(low, high),
            float(state.facts["scale"]),
            "continuous" if state.facts["scheme"] == "continuous" else "discrete",
        )


@dataclass(frozen=True)
class PolynomialMap:
    """Increments of scaled coefficients: a constant, a linear and a quadratic operator, each with its affine terms.

    Attributes:
        constant: `(term, mode)`.
        linear: `(term, mode, mode)`.
        quadratic: `(term, mode, product)`, products in the order of `opinf`: (0, 0), (1, 0), (1, 1), (2, 0), ...; empty
            for a linear model.
        range: Of the parameters.
        scale: What coefficients are divided by.
        scheme: Whether the increment is that of one step, or the rate of change times the step.
    """

    constant: Array
    linear: Array
    quadratic: Array
    range: UnitRange
    scale: float
    scheme: Scheme

    def path(self, z0: Array, c: Array, steps: int) -> Array:
        """Coefficients `(trajectory, steps + 1, mode)`; NaN from where one exceeds what was seen a thousandfold."""
        theta, terms, rank = _theta(self.range(c), len(self.constant) > 1), len(self.constant), z0.shape[1]
        rows, columns = np.tril_indices(rank)
        # The terms side by side, so that a step of all trajectories is one product of matrices.
        operators = np.concatenate([self.linear, self.quadratic], axis=-1).reshape(terms * rank, -1).T
        constant = theta @ self.constant

        def change(q: Array) -> Array:
            products = [q[:, rows] * q[:, columns]] if self.quadratic.shape[-1] else []
            found = (np.concatenate([q, *products], axis=1) @ operators).reshape(len(q), terms, rank)
            return constant + (found[:, 0] if terms == 1 else np.einsum("nt,ntr->nr", theta, found))

        path = np.full((len(z0), steps + 1, rank), np.nan)
        path[:, 0] = q = z0 / self.scale
        for k in range(steps):
            q = q + change(q) if self.scheme == "discrete" else _runge_kutta(_runge_kutta(q, change, 0.5), change, 0.5)
            q = np.where(np.abs(q).max(-1, keepdims=True) < DIVERGED, q, np.nan)
            if not np.isfinite(q).all():
                break
            path[:, k + 1] = q
        return path * self.scale

    def state(self) -> State:
        arrays = {"constant": self.constant, "linear": self.linear, "quadratic": self.quadratic}
        arrays |= {"low": self.range.low, "high": self.range.high}
        return State({"scale": self.scale, "scheme": self.scheme}, arrays)


def _library() -> Any:
    return optional_import("opinf", "opinf", "the baseline opinf")


def _runge_kutta(q: Array, change: Any, step: float) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        k1 = change(q)
        k2 = change(q + step / 2 * k1)
        k3 = change(q + step / 2 * k2)
        k4 = change(q + step * k3)
        return q + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _theta(c: Array, parametric: bool) -> Array:
    """Coefficients of the affine terms, `(trajectory, term)`: one, and the parameters in [-1/2, 1/2]."""
    one = np.ones((len(c), 1))
    return np.concatenate([one, c - 0.5], axis=1) if parametric else one


def _every(paths: Paths) -> int:
    """How many snapshots there are to each one that is fitted to."""
    return max(1, paths.count // MOST_ROWS)


def _unknowns(rank: int, settings: dict[str, Any], parameters: int) -> int:
    products = rank * (rank + 1) // 2 if settings["degree"] == 2 else 0
    return (1 + rank + products) * (1 + parameters if settings["parametric"] else 1)
