"""Transport past a block: exact plug flow, a manufactured solution, balance of mass, bounds, the mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erfc, erfcx

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import ChannelTransport2d, verify_solver
from romvae.solvers.finite_volume_2d import block_means, linear_in_cells
from romvae.solvers.slow_flow import block_faces, channel_velocity

BLOCK = (0.5, 1.0, 0.25, 0.75)


def fitted_order(sizes: list[int], errors: list[float]) -> float:
    return -float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def plug(diffusivity: float, points: tuple[int, int], inflow: float = 0.0, **more) -> ChannelTransport2d:
    return ChannelTransport2d(diffusivity, inflow, points, 3.0, None, "potential", **more)


@pytest.mark.parametrize("solver", [ChannelTransport2d(0.01, 0.6, (16, 48), obstacle=BLOCK), plug(0.01, (12, 30), 1.0)])
def test_contract_with_restarts_to_round_off(solver: ChannelTransport2d) -> None:
    """The stored averages are the whole state, so that going on from them changes round-off only."""
    verify_solver(solver, tolerance=1e-12)


@pytest.mark.parametrize("kind", ["viscous", "potential"])
@pytest.mark.parametrize("block", [None, (9, 15, 18, 27)])
def test_what_enters_a_cell_leaves_it(kind: str, block: tuple | None) -> None:
    along, across = channel_velocity(24, 72, 1.0, 3.0, block, kind)  # pyright: ignore
    balance = np.diff(along, axis=1) * 24 + np.diff(across, axis=0) * 24
    assert np.abs(balance).max() < 1e-11
    assert along.mean(axis=0) == pytest.approx(np.ones(73), abs=1e-12)  # the mean speed is 1 at every place
    _, open_x, open_y = block_faces(24, 72, block)
    assert np.abs(along[open_x == 0]).max(initial=0.0) < 1e-12
    assert np.abs(across[open_y == 0]).max(initial=0.0) < 1e-12
    assert along == pytest.approx(along[::-1], abs=1e-9)  # block and channel are symmetric about y = 1/2
    assert across == pytest.approx(-across[::-1], abs=1e-9)


def test_empty_channels_have_their_exact_profiles() -> None:
    along, across = channel_velocity(20, 40, 1.0, 2.0, None, "potential")
    assert along == pytest.approx(np.ones((20, 41)), abs=1e-12)
    assert across == pytest.approx(np.zeros((21, 40)), abs=1e-12)
    errors = []
    for rows in (24, 48, 96):
        along, _ = channel_velocity(rows, 3 * rows, 1.0, 3.0, None, "viscous")
        eta = np.arange(rows + 1) / rows
        exact = np.diff(eta**2 * (3 - 2 * eta)) * rows  # mean over the face of 6 y (1 - y)
        errors.append(np.abs(along - exact[:, None]).max())
    assert fitted_order([24, 48, 96], errors) == pytest.approx(2, abs=0.15)


def test_slow_flow_converges_with_the_grid() -> None:
    """Between block and wall, away from the block's corners where vorticity is singular."""
    fluxes = []
    for rows in (16, 32, 64):
        along, _ = channel_velocity(rows, 3 * rows, 1.0, 3.0, (rows // 4, rows // 2, rows // 2, rows), "viscous")
        fluxes.append(along[: rows // 4, 3 * rows // 4].sum() / rows)  # through the narrow gap
    assert abs(fluxes[2] - fluxes[1]) < 0.6 * abs(fluxes[1] - fluxes[0])  # at least first order


def inflow_front(x: np.ndarray, t: float, kappa: float) -> np.ndarray:
    """u = 1 held at x = 0 of a half line streaming at speed 1, u = 0 at t = 0 (Ogata and Banks 1961)."""
    a, b = (x - t) / np.sqrt(4 * kappa * t), (x + t) / np.sqrt(4 * kappa * t)
    # exp(x / kappa) erfc(b) = exp(x / kappa - b^2) erfcx(b) = exp(-a^2) erfcx(b), without overflow.
    return 0.5 * (erfc(a) + np.exp(-(a**2)) * erfcx(b))


@pytest.mark.parametrize("reconstruction", ["van_leer", "fromm"])
def test_plug_flow_carries_the_inflow_in(reconstruction: str) -> None:
    kappa, sizes, errors = 0.02, [48, 72, 96], []
    for n in sizes:
        solver = plug(kappa, (8, n), 1.0, reconstruction=reconstruction)
        x = np.array(solver.grid.axes[1].coordinates)
        u0 = np.repeat(inflow_front(x, 0.5, kappa)[None], 8, axis=0)[None]
        u = solver.solve(u0, [0.5, 1.2])[-1, 0]
        assert u == pytest.approx(np.repeat(u[:1], 8, axis=0), abs=1e-12)  # nothing depends on y
        errors.append(np.abs(u[0] - inflow_front(x, 1.2, kappa)).mean())
    assert fitted_order(sizes, errors) == pytest.approx(2, abs=0.15)


def test_waves_across_plug_flow_decay() -> None:
    """cos(pi m y) exp(-kappa (pi m)^2 t) times a Gaussian that moves at speed 1 and spreads; ends stay out of reach."""
    kappa, sizes, errors = 0.01, [48, 72, 96], []

    def exact(y: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
        var = 0.02 + 2 * kappa * t
        blob = np.sqrt(0.02 / var) * np.exp(-((x - 1 - t) ** 2) / (2 * var))
        return blob * np.cos(np.pi * y)[:, None] * np.exp(-kappa * np.pi**2 * t)

    for n in sizes:
        solver = plug(kappa, (n // 3, n), reconstruction="fromm")
        y, x = (np.array(axis.coordinates) for axis in solver.grid.axes)
        u = solver.solve(exact(y, x, 0.0)[None], [0.0, 0.4])[-1, 0]
        errors.append(np.abs(u - exact(y, x, 0.4)).mean())
    assert fitted_order(sizes, errors) == pytest.approx(2, abs=0.15)


class Manufactured(ChannelTransport2d):
    """Poiseuille flow with the source that makes `steady` a steady solution."""

    def steady(self) -> np.ndarray:
        y, x = (np.array(axis.coordinates) for axis in self.grid.axes)
        return self._along(x) * np.cos(2 * np.pi * y)[:, None]

    def _along(self, x: np.ndarray) -> np.ndarray:
        return np.sin(np.pi * x / 2) * np.exp(-(((x - 1.5) / 0.5) ** 4))  # vanishes with its slope at both ends

    def source(self) -> np.ndarray:
        y, x = (np.array(axis.coordinates) for axis in self.grid.axes)
        d = 1e-3
        f, plus, minus = self._along(x), self._along(x + d), self._along(x - d)
        slope, curve = (plus - minus) / (2 * d), (plus - 2 * f + minus) / d**2  # differences good to 1e-5
        c = np.cos(2 * np.pi * y)[:, None]
        speed = (6 * y * (1 - y))[:, None]
        return speed * slope * c - self.diffusivity * (curve * c - (2 * np.pi) ** 2 * f * c)

    def rate(self, u: np.ndarray) -> np.ndarray:
        return super().rate(u) + self.source()


def test_manufactured_solution_in_poiseuille_flow() -> None:
    sizes, errors = [16, 24, 32], []
    for n in sizes:
        solver = Manufactured(0.02, 0.0, (n, 3 * n), obstacle=None, reconstruction="fromm")
        u = solver.solve(solver.steady()[None], [0.0, 0.5])[-1, 0]
        errors.append(np.abs(u - solver.steady()).mean())
    assert fitted_order(sizes, errors) == pytest.approx(2, abs=0.15)


def test_order_three_in_time() -> None:
    """With the unlimited slope, for the limiter's kinks would hide the order."""
    u0 = ChannelTransport2d(0.01, 0.5, (16, 48), obstacle=BLOCK).initial(np.random.default_rng(0))

    def end(step: float) -> np.ndarray:
        solver = ChannelTransport2d(0.01, 0.5, (16, 48), obstacle=BLOCK, reconstruction="fromm", step=step)
        return solver.solve(u0, [0.0, 0.3])[-1]

    steps = [0.3 / 30, 0.3 / 40, 0.3 / 60, 0.3 / 80]
    finest = end(0.3 / 640)
    errors = [np.abs(end(step) - finest).max() for step in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("reconstruction", ["van_leer", "fromm"])
def test_mass_changes_by_what_enters_and_leaves(reconstruction: str) -> None:
    """At any moment to round-off, and over time: the third-order step is a sum of such rates."""
    solver = ChannelTransport2d(3e-3, 0.8, (16, 48), obstacle=BLOCK, reconstruction=reconstruction)  # pyright: ignore
    u = np.random.default_rng(1).random((16, 48))
    assert solver.mass(solver.rate(u)) == pytest.approx(solver.supply(u), abs=1e-13)
    u0 = solver.initial(np.random.default_rng(1))
    times = np.linspace(0, 1.5, 601)
    fields = solver.solve(u0, times)[:, 0]
    supply = np.array([solver.supply(field) for field in fields])
    entered = ((supply[1:] + supply[:-1]) / 2 * np.diff(times)).sum()
    # The trapezoidal rule on steps of 0.0025 is good to about 1e-5 of a supply of order one.
    assert solver.mass(fields[-1]) - solver.mass(fields[0]) == pytest.approx(entered, abs=2e-5)


@pytest.mark.parametrize("flow", ["viscous", "potential"])
@pytest.mark.parametrize("diffusivity", [1e-6, 1e-2])
def test_extrema_are_bounded_by_start_and_inflow(flow: str, diffusivity: float) -> None:
    """Even for random cells of 0 and 1: every step takes means with weights >= 0."""
    solver = ChannelTransport2d(diffusivity, 0.25, (16, 48), obstacle=BLOCK, flow=flow)  # pyright: ignore
    u0 = np.random.default_rng(2).integers(0, 2, (1, 16, 48)).astype(float)
    u = solver.solve(u0, np.linspace(0, 1, 21))
    assert u.min() >= 0.0
    assert u.max() <= 1.0 + 1e-15


def test_a_uniform_concentration_stays_uniform() -> None:
    solver = ChannelTransport2d(5e-3, 0.7, (16, 48), obstacle=BLOCK)
    u = solver.solve(np.full((1, 16, 48), 0.7), [0.0, 1.0])[-1, 0]
    assert u[solver.mask] == pytest.approx(0.7, abs=1e-13)


def test_the_block_keeps_everything_out() -> None:
    """What is written into the block changes nothing, and nothing gets in."""
    solver = ChannelTransport2d(1e-2, 0.3, (16, 48), obstacle=BLOCK)
    mask = solver.mask
    y, x = (np.array(axis.coordinates) for axis in solver.grid.axes)
    inside = (x > BLOCK[0]) & (x < BLOCK[1]) & ((y > BLOCK[2]) & (y < BLOCK[3]))[:, None]
    assert np.array_equal(mask, ~inside)
    u0 = solver.initial(np.random.default_rng(3))
    assert (u0[0, inside] == 0).all()
    u = solver.solve(u0, [0.0, 0.5, 1.0])
    assert (u[:, 0, inside] == 0).all()
    spoilt = solver.solve(np.where(mask, u0, 17.0), [0.0, 0.5, 1.0])
    assert np.array_equal(spoilt[1:], u[1:])
    assert ChannelTransport2d(obstacle=None).mask is None


def test_mirrored_channel_gives_the_mirrored_field() -> None:
    low = ChannelTransport2d(5e-3, 0.2, (16, 48), obstacle=(0.5, 1.0, 0.25, 0.5))
    high = ChannelTransport2d(5e-3, 0.2, (16, 48), obstacle=(0.5, 1.0, 0.5, 0.75))
    u0 = low.initial(np.random.default_rng(4))
    # The linear system of the flow is solved to about 1e-11 of its entries.
    assert high.solve(u0[:, ::-1], [0, 1.0]) == pytest.approx(low.solve(u0, [0, 1.0])[:, :, ::-1], abs=1e-9)


def test_refined_cells_keep_averages_and_geometry() -> None:
    solver = ChannelTransport2d(3e-3, 0.5, (16, 48), obstacle=BLOCK)
    finer = solver.refined()
    assert finer.grid == solver.grid
    assert finer.settings["resolution"] == 2
    rng = np.random.default_rng(5)
    u, slopes = rng.random((6, 9)), rng.random((2, 6, 9))
    assert block_means(linear_in_cells(u, *slopes, 3), 3) == pytest.approx(u, abs=1e-15)
    u0 = solver.initial(rng)
    rough, fine, finest = (s.solve(u0, [0.0, 0.15])[-1] for s in (solver, finer, finer.refined()))
    assert np.abs(finest - fine).mean() < 0.5 * np.abs(fine - rough).mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"diffusivity": 0.0}, "diffusivity is 0.0, expected a number above 0"),
        ({"inflow": float("inf")}, "inflow is inf, expected a finite number"),
        ({"points": 64}, "points is 64, expected two numbers, (y, x)"),
        ({"flow": "stokes"}, "flow is 'stokes', expected viscous or potential"),
        ({"reconstruction": "weno5"}, "reconstruction is 'weno5', expected van_leer or fromm"),
        ({"resolution": 0}, "resolution is 0, expected a whole number of at least 1"),
        ({"obstacle": (0.75, 1.0)}, "expected four numbers, (x low, x high, y low, y high)"),
        (
            {"obstacle": (0.751, 1.0, 0.25, 0.5)},
            "edge 0.751 lies inside a cell, expected a multiple of 0.015625",
        ),
        ({"obstacle": (0.75, 1.0, 0.0, 0.5)}, "expected low < high, and free cells on all four sides"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ChannelTransport2d(**arguments)
    assert message in str(error.value)


def test_too_long_a_step_is_refused() -> None:
    solver = ChannelTransport2d(1e-2, 1.0, (16, 48), obstacle=BLOCK, step=0.2)
    u0 = solver.initial(np.random.default_rng(0))
    with pytest.raises(NumericsError, match=r"failed at t=.*max\|u\| has grown beyond .* Use a smaller step"):
        solver.solve(u0, np.arange(10.0))
