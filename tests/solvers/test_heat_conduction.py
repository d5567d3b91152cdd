"""Heat conduction: every eigenfunction of every box decays by exp(-kappa k^2 t)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from romvae.solvers import Heat
from romvae.solvers.eigenbasis import Eigenbasis

TIMES = np.array([0.0, 0.1, 0.35, 1.0])
ENDS = {
    "periodic": ("periodic", lambda x: np.cos(4 * np.pi * x + 0.3), 4 * np.pi),
    "insulated": ("reflecting", lambda x: np.cos(3 * np.pi * x), 3 * np.pi),
    "held": (0.0, lambda x: np.sin(2 * np.pi * x), 2 * np.pi),
    "held, insulated": ((0.0, "reflecting"), lambda x: np.sin(1.5 * np.pi * x), 1.5 * np.pi),
    "insulated, held": (("reflecting", 0.0), lambda x: np.cos(2.5 * np.pi * x), 2.5 * np.pi),
}
BOXES = [
    names
    for d, some in ((1, list(ENDS)), (2, list(ENDS)), (3, list(ENDS)[:3]))
    for names in itertools.product(some, repeat=d)
]


@pytest.mark.parametrize("names", BOXES, ids=[" x ".join(names) for names in BOXES])
def test_modes_decay(names: tuple[str, ...]) -> None:
    """One mode per axis, on a grid whose sizes and extents all differ, even and odd."""
    points, lengths = (11, 14, 9)[: len(names)], (1.0, 2.0, 0.5)[: len(names)]
    axes = ("z", "y", "x")[-len(names) :]
    ends = [ENDS[name] for name in names]
    kappa = 0.013
    solver = Heat(kappa, points, lengths, {axis: end[0] for axis, end in zip(axes, ends, strict=True)})
    factors = [
        mode(np.array(axis.coordinates) / length)
        for axis, length, (_, mode, _) in zip(solver.grid.axes, lengths, ends, strict=True)
    ]
    u0 = np.ones(())
    for factor in factors:
        u0 = np.multiply.outer(u0, factor)
    square = sum((k / length) ** 2 for length, (_, _, k) in zip(lengths, ends, strict=True))
    decay = np.exp(-kappa * square * TIMES).reshape(-1, 1, *[1] * len(names))
    assert solver.solve(u0[None], TIMES) == pytest.approx(decay * u0, abs=1e-13)


@pytest.mark.parametrize("boundaries", [{}, {"y": "reflecting"}, {"y": "reflecting", "x": "reflecting"}])
def test_heat_is_kept_where_nothing_leaves(boundaries: dict) -> None:
    solver = Heat(0.05, (10, 15), boundaries=boundaries)
    u = solver.solve(np.random.default_rng(0).standard_normal(solver.shape), TIMES)
    assert np.ptp(u.mean(axis=(1, 2, 3))) < 1e-15 * 10


def test_extrema_do_not_grow_and_energy_falls() -> None:
    solver = Heat(0.05, (12, 12, 12), boundaries={"z": 0.0, "x": "reflecting"})
    u = solver.solve(solver.initial(np.random.default_rng(1)), np.linspace(0, 1, 9))[:, 0]
    assert (np.diff((u**2).mean(axis=(1, 2, 3))) < 0).all()
    assert np.abs(u).max() <= np.abs(u[0]).max()


@pytest.mark.parametrize(
    ("ends", "steady"), [((1.0, 3.0), lambda x: 1 + 2 * x), ((2.0, "reflecting"), lambda x: 0 * x + 2)]
)
def test_held_values_lead_to_the_steady_field(ends: tuple, steady) -> None:
    solver = Heat(1.0, (6, 10), boundaries={"x": ends})
    x = np.array(solver.grid.axes[1].coordinates)
    u = solver.solve(np.zeros(solver.shape), [0, 20.0])[-1, 0]
    # The slowest mode has decayed by exp(-(pi / 2)^2 20) = 4e-22.
    assert u == pytest.approx(np.broadcast_to(steady(x), u.shape), abs=1e-12)


def test_solutions_add_up_and_steps_compose() -> None:
    solver = Heat(0.02, (7, 8), boundaries={"y": (0.0, "reflecting")})
    a, b = np.random.default_rng(0).standard_normal((2, *solver.shape))
    together = solver.solve(2 * a - b, TIMES)
    assert together == pytest.approx(2 * solver.solve(a, TIMES) - solver.solve(b, TIMES), abs=1e-13)
    twice = solver.solve(solver.solve(a, TIMES[:2])[-1], TIMES[1:])[-1]
    assert twice == pytest.approx(solver.solve(a, TIMES)[-1], abs=1e-13)


def test_turning_the_box_turns_the_solution() -> None:
    """Nothing depends on which axis is called x."""
    upright = Heat(0.03, (7, 10), (1.0, 2.0), {"y": (0.0, "reflecting")})
    lying = Heat(0.03, (10, 7), (2.0, 1.0), {"x": (0.0, "reflecting")})
    u0 = upright.initial(np.random.default_rng(5))
    turned = lying.solve(u0.swapaxes(1, 2), TIMES).swapaxes(2, 3)
    assert turned == pytest.approx(upright.solve(u0, TIMES), abs=1e-14)


def test_shift_symmetry_along_a_periodic_axis() -> None:
    solver = Heat(0.03, (9, 12), boundaries={"y": 0.0})
    u0 = solver.initial(np.random.default_rng(6))
    moved = solver.solve(np.roll(u0, 5, axis=-1), TIMES)
    assert moved == pytest.approx(np.roll(solver.solve(u0, TIMES), 5, axis=-1), abs=1e-14)


def test_point_source_spreads_as_a_gaussian() -> None:
    """The free-space kernel, on an interval so long that its ends do not matter: independent of any modes."""
    kappa, start = 0.1, 0.05
    solver = Heat(kappa, 96, 10.0, {"x": "reflecting"})
    x = np.array(solver.grid.axes[0].coordinates) - 5.0

    def kernel(t: float) -> np.ndarray:
        return np.exp(-(x**2) / (4 * kappa * t)) / np.sqrt(4 * np.pi * kappa * t)

    u = solver.solve(kernel(start)[None], [start, 0.5, 1.0])[:, 0]
    # Beyond mode 96 the kernel's spectrum is exp(-kappa k^2 t) = 1e-2 of one part in 10 at t = 0.05.
    assert u[1:] == pytest.approx(np.array([kernel(0.5), kernel(1.0)]), abs=1e-3)


@pytest.mark.parametrize(
    "ends", [(a, b) for a in ("value", "reflecting") for b in ("value", "reflecting")] + [("periodic",) * 2]
)
def test_eigenbasis_round_trip_and_modes(ends: tuple[str, str]) -> None:
    basis = Eigenbasis(12, 3.0, ends)
    u = np.random.default_rng(0).standard_normal((2, 12, 3))
    assert basis.inverse(basis.forward(u, 1), 1) == pytest.approx(u, abs=1e-14)
    x = 3.0 * (np.arange(12) + (0.0 if ends[0] == "periodic" else 0.5)) / 12
    phi, k = basis.modes(5, x)
    for mode, wavenumber in zip(phi, k, strict=True):
        coefficients = np.abs(basis.forward(mode, 0))
        kept = coefficients > 1e-12 * coefficients.max()
        assert np.abs(basis.wavenumbers[kept]) == pytest.approx(np.full(kept.sum(), wavenumber))
