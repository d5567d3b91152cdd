"""The laws that every solver, a user's own included, can be held to."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from romvae.errors import ConfigError
from romvae.solvers.base import Solver

__all__ = ["verify_solver"]


def verify_solver(solver: Solver, times: ArrayLike = (0.0, 0.01, 0.02), seed: int = 0, tolerance: float = 1e-3) -> None:
    """Raises `AssertionError`, naming the law, unless `solver` keeps the contract of `Solver`.

    Checked: shapes; finite float64 values; random fields depend on the generator only; the first entry is the
    initial field; arguments are not changed; the same call gives the same bits; stopping on the way and going
    on gives the same end (within `tolerance`); a shift of time changes nothing (within `tolerance`); many
    trajectories together equal one by one; a finer version is of the same kind, on the same output grid, and takes
    the same initial field; cheaper versions have the same parameters, fields and axes, with as many points or others; a
    mask is boolean on the grid; conserved quantities are a number per snapshot; times that do not increase, a wrong
    shape and a NaN are refused.

    Arguments:
        solver: The solver, on a small grid.
        times: At least three increasing times, starting with that of the initial field.
        seed: Seed of the random initial field.
        tolerance: Relative difference, in the largest norm, that adaptive steps may cause.
    """
    t = np.asarray(times, dtype=np.float64)
    _require(t.size >= 3, "verify_solver needs at least three times")
    u0 = np.asarray(solver.initial(np.random.default_rng(seed)))
    _require(u0.shape == solver.shape, f"initial: shape is {u0.shape}, expected (field, *space) = {solver.shape}")
    _require(bool(np.isfinite(u0).all()), "initial: a value is not finite")
    again = np.asarray(solver.initial(np.random.default_rng(seed)))
    _require(np.array_equal(u0, again), "initial: the same generator state gives another field")

    given, given_times = u0.copy(), t.copy()
    u = solver.solve(u0, t)
    _require(u.shape == (t.size, *solver.shape), f"solve: shape is {u.shape}, expected {(t.size, *solver.shape)}")
    _require(u.dtype == np.float64, f"solve: dtype is {u.dtype}, expected float64")
    _require(bool(np.isfinite(u).all()), "solve: a value is not finite")
    _require(np.array_equal(u[0], u0), "solve: the first entry is not the initial field")
    _require(np.array_equal(u0, given) and np.array_equal(t, given_times), "solve: an argument was changed")
    _require(np.array_equal(u, solver.solve(u0, t)), "solve: the same call gives another result")
    _require(solver.solve(u0, t[:1]).shape == (1, *solver.shape), "solve: a single time is not accepted")

    middle = t.size // 2
    onward = solver.solve(u[middle], t[middle:])
    _require(_close(onward[-1], u[-1], tolerance), "solve: going on from a stored field leads to another end")
    _require(_close(solver.solve(u0, t + 1.0), u, tolerance), "solve: a shift of all times changes the solution")
    both = type(solver).solve_many([solver, solver], np.stack([u0, u[-1]]), t)
    alone = np.stack([u, solver.solve(u[-1], t)])
    _require(_close(both, alone, tolerance), "solve_many: differs from solving one by one")

    _check_statements(solver, u, t)
    _refuses(solver, u0, t[::-1], "times that decrease")
    _refuses(solver, u0[..., :-1], t, "an initial field of another shape")
    _refuses(solver, np.full_like(u0, np.nan), t, "an initial field with NaN")
    for axis in solver.grid.axes:
        _require(
            axis.periodic == (axis.upper.kind == "periodic"),
            f"grid: {axis.name} is periodic on one side only",
        )


def _check_statements(solver: Solver, u: np.ndarray, times: np.ndarray) -> None:
    """What a solver says of itself: a finer version, a mask, conserved quantities."""
    finer = solver.refined()
    if finer is not None:
        _require(type(finer) is type(solver), "refined: is a solver of another class")
        _require(finer.grid == solver.grid, "refined: has another output grid")
        _require(dict(finer.parameters) == dict(solver.parameters), "refined: has other parameters")
        _require(finer.solve(u[0], times[:2]).shape == (2, *solver.shape), "refined: gives another shape")
    for name, version in solver.coarsened().items():
        u0 = u[0] if version.grid == solver.grid else version.initial(np.random.default_rng(0))
        shape = version.solve(u0, times[:2]).shape
        _require(shape == (2, *version.shape), f"coarsened: {name!r} gives another shape")
        _require(version.grid.ndim == solver.grid.ndim, f"coarsened: {name!r} has another number of axes")
        _require(dict(version.parameters) == dict(solver.parameters), f"coarsened: {name!r} has other parameters")
    mask = solver.mask
    if mask is not None:
        _require(mask.dtype == np.bool_ and mask.shape == solver.grid.shape, "mask: is not boolean on the grid")
        _require(bool(mask.any()), "mask: leaves no point of the domain")
    for name, values in solver.conserved(u).items():
        _require(np.shape(values) == (len(times),), f"conserved: {name!r} is not one number per snapshot")


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(law)


def _close(u: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    return bool(np.abs(u - expected).max() <= tolerance * max(float(np.abs(expected).max()), 1e-30))


def _refuses(solver: Solver, u0: np.ndarray, times: np.ndarray, what: str) -> None:
    try:
        solver.solve(u0, times)
    except ConfigError:
        return
    raise AssertionError(f"solve: {what} is not refused with a ConfigError")
