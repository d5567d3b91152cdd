"""Dynamic mode decomposition through PyDMD: one operator for all trajectories, with parameters as inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from romvae.baselines.base import State, register
from romvae.baselines.keeping import expect_shape
from romvae.baselines.paths import Paths
from romvae.baselines.pod_stepper import PODStepper, StepModel
from romvae.errors import optional_import
from romvae.ragged import even_part

__all__ = ["DMD", "AffineMap"]

Array = NDArray[np.float64]
Kind = Literal["shared", "inputs", "bilinear", "optimised"]

TOLERANCES = (1e-12, 1e-8, 1e-6, 1e-4, 1e-2)
"""Singular values of the data that are left out, relative to the largest: the regularisation of DMD."""
MOST_FREQUENCIES = 24


@register
class DMD(PODStepper):
    r"""Dynamic mode decomposition :math:`a' = A(c)\, a + B c + b` of POD coefficients, by PyDMD (extra `dmd`).

    Textbook DMD knows one trajectory. Here one operator serves all of them, fitted to all pairs of neighbouring
    snapshots, and the best of four kinds on held-out trajectories is taken:

    - `shared`: exact DMD of the coefficients and a constant; parameters play no part;
    - `inputs`: DMD with control, the parameters being constant inputs;
    - `bilinear`: the same with inputs :math:`(c, c \otimes a)`, which makes the operator affine in the parameters;
    - `optimised`: the frequencies that all trajectories have in common, by variable projection (BOP-DMD without bags)
      on all of them stacked along space; the modes are their leading common directions. Trajectories that end early
      are cut to a common length for it.

    Time delays (Hankel DMD) are not offered: a forecast begins from a single snapshot. So is the interpolation of one
    DMD per parameter, which knows nothing of the start: `pod_rbf` does that job.

    References:
        Schmid (2010), Dynamic mode decomposition of numerical and experimental data, doi:10.1017/S0022112010001217.
        Proctor, Brunton and Kutz (2016), Dynamic mode decomposition with control, arXiv:1409.6358.
        Askham and Kutz (2018), Variable projection methods for an optimized dynamic mode decomposition,
        arXiv:1704.02343.
        Ichinaga et al. (2024), PyDMD: a Python package for robust dynamic mode decomposition, arXiv:2402.07463.
    """

    name = "dmd"
    library = ("pydmd", "dmd")

    def _prepare(self, c: Array) -> None:
        _library()
        self._low, self._high = c.min(0), c.max(0)

    def _scaled(self, c: Array) -> Array:
        width = np.where(self._high > self._low, self._high - self._low, 1.0)
        return (c - (self._low + self._high) / 2) / width

    def _settings(self, rank: int) -> Iterator[dict[str, Any]]:
        varying = bool((self._high > self._low).any())
        for kind in get_args(Kind):
            if kind == "optimised":
                yield from ({"kind": kind, "stable": stable} for stable in (True, False))
            elif varying or kind == "shared":
                yield {"kind": kind}

    def _family(self, settings: dict[str, Any]) -> str:
        return str(settings["kind"])

    def _usual(self, family: str) -> float:
        return MOST_FREQUENCIES if family == "optimised" else super()._usual(family)

    def _operations(self, family: str, rank: int, known: Paths, held: Paths) -> float:
        if family == "optimised":
            return np.inf  # an optimisation, of which nobody knows how long it takes
        (count, times, _), parameters, bilinear = held.z.shape, known.c.shape[1], family == "bilinear"
        features = 1 + rank + (parameters if family != "shared" else 0) + (parameters * rank if bilinear else 0)
        operators = count if bilinear else 1
        least_squares = 10 * known.count * (features + rank) ** 2
        # For each tolerance three singular value decompositions, eigenvalues, and two forecasts.
        decompositions = 30 * features**3 + 100 * operators * rank**3
        return least_squares + len(TOLERANCES) * (decompositions + (16 if bilinear else 4) * count * times * rank**2)

    def _variants(self, settings: dict[str, Any], paths: Paths) -> Iterator[tuple[dict[str, Any], StepModel]]:
        if settings["kind"] == "optimised":
            yield from super()._variants(settings, paths)
            return
        pairs = self._pairs(settings, paths)
        for tolerance in TOLERANCES:
            try:
                model = self._mapped({**settings, "tolerance": tolerance}, paths, pairs)
            except (np.linalg.LinAlgError, FloatingPointError):
                continue  # a candidate that cannot be computed is none
            for stable in (False, True):
                yield {**settings, "tolerance": tolerance, "stable": stable}, _with_stability(model, stable)

    def _learn(self, settings: dict[str, Any], paths: Paths) -> AffineMap:
        return self._mapped(settings, paths, None if settings["kind"] == "optimised" else self._pairs(settings, paths))

    def _pairs(self, settings: dict[str, Any], paths: Paths) -> _Pairs:
        kind = settings["kind"]
        return _with_constant(paths) if kind == "shared" else _inputs(paths, self._scaled(paths.c), kind == "bilinear")

    def _mapped(self, settings: dict[str, Any], paths: Paths, pairs: _Pairs | None) -> AffineMap:
        rank, parameters = paths.z.shape[-1], paths.c.shape[1]
        if pairs is None:
            linear, offset = _optimised(paths, self.dt, bool(settings["stable"]))
        elif settings["kind"] == "shared":
            linear, offset = _shared(pairs, rank, settings["tolerance"])
        else:
            linear, offset = _controlled(pairs, rank, parameters, settings["tolerance"])
        A, b = np.zeros((1 + parameters, rank, rank)), np.zeros((1 + parameters, rank))
        A[: len(linear)], b[: len(offset)] = linear, offset
        if not (np.isfinite(A).all() and np.isfinite(b).all()):
            raise np.linalg.LinAlgError("the operator is not finite")
        return AffineMap(A, b, self._low, self._high, bool(settings.get("stable", False)))

    def _restored(self, state: State) -> AffineMap:
        rank, parameters = self.pod.rank, len(self.stack.parameters)
        shapes = {"A": (1 + parameters, rank, rank), "b": (1 + parameters, rank)}
        shapes |= {"low": (parameters,), "high": (parameters,)}
        found = {name: expect_shape(name, state.arrays[name], *shape) for name, shape in shapes.items()}
        return AffineMap(**found, stable=bool(state.facts["stable"]))


@dataclass(frozen=True)
class AffineMap:
    r"""One step :math:`z' = (A_0 + \sum_i c_i A_i) z + b_0 + \sum_i c_i b_i`, c scaled to [-1/2, 1/2].

    With `stable`, eigenvalues outside the unit circle are moved onto it.
    """

    A: Array
    b: Array
    low: Array
    high: Array
    stable: bool

    def path(self, z0: Array, c: Array, steps: int) -> Array:
        """Coefficients `(trajectory, steps + 1, mode)`."""
        width = np.where(self.high > self.low, self.high - self.low, 1.0)
        scaled = (c - (self.low + self.high) / 2) / width
        A = self.A[:1] + np.einsum("np,pij->nij", scaled, self.A[1:]) if self.A[1:].any() else self.A[:1]
        b = self.b[0] + scaled @ self.b[1:]
        if self.stable:
            A = _inside_unit_circle(A)
        path = np.empty((len(z0), steps + 1, z0.shape[1]))
        path[:, 0] = z0
        with np.errstate(over="ignore", invalid="ignore"):
            for k in range(steps):
                now = path[:, k]
                path[:, k + 1] = (now @ A[0].T if len(A) == 1 else (A @ now[..., None])[..., 0]) + b
        return path

    def state(self) -> State:
        return State({"stable": self.stable}, {"A": self.A, "b": self.b, "low": self.low, "high": self.high})


def _library() -> Any:
    return optional_import("pydmd", "dmd", "the baseline dmd")


def _with_stability(model: Any, stable: bool) -> AffineMap:
    return AffineMap(model.A, model.b, model.low, model.high, stable)


def _inside_unit_circle(A: Array) -> Array:
    values, vectors = np.linalg.eig(A)
    if (np.abs(values) <= 1).all():
        return A
    values = values / np.maximum(np.abs(values), 1.0)
    return np.linalg.solve(vectors.swapaxes(-1, -2), (vectors * values[:, None]).swapaxes(-1, -2)).swapaxes(-1, -2).real


@dataclass(frozen=True)
class _Pairs:
    """Features and targets of a least squares problem with pairs as columns, and the size that constants are given."""

    features: Array
    targets: Array
    size: float


def _with_constant(paths: Paths) -> _Pairs:
    """Coefficients and a constant, now and one step later."""
    now, then, _ = paths.pairs()
    size = _size(now)
    constant = np.full((len(now), 1), size)
    return _Pairs(*_compressed(np.concatenate([now, constant], 1), np.concatenate([then, constant], 1)), size)


def _inputs(paths: Paths, c: Array, bilinear: bool) -> _Pairs:
    """Coefficients with their inputs: a constant, the parameters and, where bilinear, their products with z."""
    now, then, _ = paths.pairs()
    size = _size(now)
    trajectory, _ = paths.kept[:, 1:].nonzero()
    beside = c[trajectory]
    constant = np.full((len(now), 1), size)
    products = [beside[:, i : i + 1] * now for i in range(c.shape[1])] if bilinear else []
    return _Pairs(*_compressed(np.concatenate([now, constant, size * beside, *products], axis=1), then), size)


def _shared(pairs: _Pairs, rank: int, tolerance: float) -> tuple[Array, Array]:
    """Exact DMD of (z, constant): the operator and the offset, each with one entry."""
    X = pairs.features
    model = _library().DMD(svd_rank=_kept(X, tolerance))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of condition numbers, which held-out trajectories judge
        model.fit(X, pairs.targets)
    reduced = model.operator.as_numpy_array
    basis = np.linalg.svd(X, full_matrices=False)[0][:, : len(reduced)]
    whole = basis @ reduced.real @ basis.T
    return whole[None, :rank, :rank], whole[None, :rank, rank] * pairs.size


def _controlled(pairs: _Pairs, rank: int, parameters: int, tolerance: float) -> tuple[Array, Array]:
    """DMD with control; the operator has an entry for each parameter too where it is bilinear."""
    both = pairs.features
    # With this lag the first half of the columns is the state and the second half the next one: pairs from many
    # trajectories, which `fit` takes no other way.
    model = _library().DMDc(svd_rank=-1, svd_rank_omega=_kept(both, tolerance), lag=both.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(np.hstack([both[:rank], pairs.targets]), both[rank:])
    linear = model.basis @ model.operator.as_numpy_array.real @ model.basis.T
    B = np.asarray(model.B).real
    offset = pairs.size * B[:, : 1 + parameters].T
    if len(both) == rank + 1 + parameters:
        return linear[None], offset
    slopes = B[:, 1 + parameters :].reshape(rank, parameters, rank).swapaxes(0, 1)
    return np.concatenate([linear[None], slopes]), offset


def _compressed(features: Array, targets: Array) -> tuple[Array, Array]:
    """As few columns as there are rows, with the same least squares: pairs turned by an orthogonal matrix.

    Arguments:
        features: `(pair, feature)`.
        targets: `(pair, target)`.

    Returns:
        Both with pairs as columns.
    """
    turned = np.asarray(np.linalg.qr(np.concatenate([features, targets], axis=1), mode="r")).T
    return turned[: features.shape[1]], turned[features.shape[1] :]


def _optimised(paths: Paths, dt: float, stable: bool) -> tuple[Array, Array]:
    """Optimised DMD of all trajectories stacked along space, as one operator and one offset."""
    rows, times = even_part(paths.kept.sum(1))
    z = paths.z[rows, :times]
    size, rank = _size(z.reshape(-1, z.shape[-1])), z.shape[-1]
    y = np.concatenate([z, np.full((*z.shape[:2], 1), size)], axis=-1)
    stacked = y.swapaxes(1, 2).reshape(-1, times)
    # A constant is one frequency more; every other one needs two times to be seen.
    frequencies = min(rank + 1, times // 2, _kept(stacked, 1e-10))
    # Its constraint `conjugate_pairs` makes one pair of two real frequencies; real data give pairs without it.
    constraints = {"stable"} if stable else None
    options = {"tol": 1e-12, "maxiter": 100, "eps_stall": 1e-12}
    model = _library().BOPDMD(svd_rank=frequencies, num_trials=0, eig_constraints=constraints, varpro_opts_dict=options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(stacked, dt * np.arange(times))
        except ValueError as error:  # what it raises where its own least squares overflow
            raise np.linalg.LinAlgError(str(error)) from error
    directions = model.modes.reshape(len(z), rank + 1, -1)
    if not (np.isfinite(directions).all() and np.isfinite(model.eigs).all()):
        raise np.linalg.LinAlgError("frequencies are not finite")
    weighted = directions * model.amplitudes
    common = np.stack([np.linalg.svd(weighted[..., j].T)[0][:, 0] for j in range(weighted.shape[-1])], axis=1)
    whole = (common * np.exp(model.eigs * dt)) @ np.linalg.pinv(common, rcond=1e-10)
    return whole.real[None, :rank, :rank], whole.real[None, :rank, rank] * size


def _size(z: Array) -> float:
    """Root mean square of the leading coefficient, the size that constants are given."""
    return float(np.sqrt(np.square(z[:, 0]).mean())) or 1.0


def _kept(X: Array, tolerance: float) -> int:
    values = np.linalg.svd(X, compute_uv=False)
    return max(1, int((values > tolerance * values[0]).sum()))
