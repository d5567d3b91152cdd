"""Trajectories advanced together are those advanced one by one: every batched solver, parameters that differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import (
    AdvectionDiffusion,
    Burgers1d,
    Burgers2d,
    BurgersInviscid1d,
    ChannelTransport2d,
    FitzHughNagumo2d,
    GrayScott,
    Heat,
    KortewegDeVries1d,
    NavierStokes2d,
    RayleighBenard2d,
    ReactionDiffusion1d,
    ShallowWater2d,
    Solver,
    Wave2d,
    groups,
    simulate,
)
from romvae.solvers.base import Case

END = np.linspace(0.0, 0.3, 4)
# Round-off, which products of matrices of other shapes and other sums leave; nothing here amplifies it.
ROUND_OFF = 1e-12

Many = tuple[Sequence[Solver], np.ndarray, np.ndarray]


def varied(make: Callable[..., Solver], *rows: dict[str, float], times: np.ndarray = END) -> Many:
    """A solver for each row of arguments, with initial fields of different height."""
    solvers = [make(**row) for row in rows]
    fields = [(1 - 0.1 * i) * each.initial(np.random.default_rng(i)) for i, each in enumerate(solvers)]
    return solvers, np.stack(fields), times


def basins(**settings: float) -> Many:
    """Columns of different height, whose waves ask for steps of their own."""
    solver = ShallowWater2d(points=(9, 12), **settings)  # type: ignore[arg-type]
    fields = [solver.column(0.8 + 0.1 * i, 1.2 + 0.8 * i, 0.2 * i, -0.1 * i) for i in range(4)]
    return [solver] * 4, np.stack(fields), np.linspace(0, 0.9, 4)


FLOWS = ({"diffusivity": 0.01}, {"diffusivity": 0.02, "strength": -1.7}, {"phase": 0.3, "strength": 0.2})
SPOTS = ({"feed": 0.035, "kill": 0.06}, {"feed": 0.04, "kill": 0.065}, {"feed": 0.05, "kill": 0.0})
LAYERS = ({"rayleigh": 1e4}, {"rayleigh": 5e3, "prandtl": 2.0}, {"rayleigh": 2e3})
CELLS = ({"diffusivity_u": 2e-3, "offset": 0.03}, {"diffusivity_v": 2e-2}, {"offset": -0.05}, {})
CHANNELS = ({"diffusivity": 0.01}, {"diffusivity": 0.2}, {"diffusivity": 0.02, "inflow": -0.5}, {"inflow": 0.8})
MEDIA = ({"layer": 0.3, "lens": -0.2}, {"layer": -0.3}, {"lens": 0.3, "lens_x": 0.4})
EDDIES = ({"viscosity": 0.05}, {"viscosity": 0.1, "drag": 0.1}, {"viscosity": 0.08, "forcing": 1.0, "forcing_mode": 2})
PIPE = partial(ChannelTransport2d, points=(8, 24))
LAYER = partial(RayleighBenard2d, points=(24, 16), resolution=(16, 32))

BATCHES: dict[str, Callable[[], Many]] = {
    "burgers": lambda: varied(
        partial(Burgers1d, points=32, resolution=96, step=5e-3), {"viscosity": 0.05}, {"viscosity": 0.1}
    ),
    "inviscid": lambda: varied(partial(BurgersInviscid1d, points=32, step=5e-3), {}, {}, {}, times=END / 3),
    "korteweg de vries": lambda: varied(partial(KortewegDeVries1d, points=32, resolution=192), {}, {}),
    "fisher": lambda: varied(
        partial(ReactionDiffusion1d, points=32, resolution=128, step=0.01), {"rate": 5.0}, {"rate": 8.0}
    ),
    "heat 1-D": lambda: varied(partial(Heat, points=20, boundaries={"x": (0.3, "reflecting")}), *FLOWS[:1], {}),
    "heat 2-D": lambda: varied(partial(Heat, points=(9, 12), boundaries={"y": (1.0, -1.0)}), *FLOWS[:1], {}),
    "heat 3-D": lambda: varied(partial(Heat, points=(5, 6, 7), boundaries={"z": 0.5}), {"diffusivity": 0.1}, {}),
    "gray scott": lambda: varied(partial(GrayScott, points=12, length=0.3), *SPOTS, times=100 * END),
    "gray scott 3-D": lambda: varied(partial(GrayScott, points=8, dimensions=3, length=0.2), *SPOTS, times=30 * END),
    "advection": lambda: varied(partial(AdvectionDiffusion, points=16), *FLOWS),
    "advection 3-D": lambda: varied(partial(AdvectionDiffusion, points=8, dimensions=3, resolution=16), *FLOWS),
    "advection step": lambda: varied(partial(AdvectionDiffusion, points=16, step=0.01), *FLOWS),
    "shallow water": partial(basins),
    "shallow water step": partial(basins, step=0.02, refinement=1),
    "convection": lambda: varied(LAYER, *LAYERS, times=3 * END),
    "convection free": lambda: varied(partial(LAYER, walls="stress_free", step=0.1), *LAYERS, times=3 * END),
    "channel": lambda: varied(PIPE, *CHANNELS),
    "channel fine": lambda: varied(partial(PIPE, resolution=2, obstacle=None, reconstruction="fromm"), *CHANNELS),
    "wave": lambda: varied(partial(Wave2d, points=16, resolution=48), *MEDIA),
    "wave periodic": lambda: varied(partial(Wave2d, points=16, resolution=48, boundary="periodic"), *MEDIA),
    "fitzhugh nagumo": lambda: varied(partial(FitzHughNagumo2d, points=12, resolution=48), *CELLS, times=4 * END),
    "fitzhugh nagumo alike": lambda: varied(partial(FitzHughNagumo2d, points=12, laplacian="five_point"), {}, {}),
    "navier stokes": lambda: varied(partial(NavierStokes2d, points=(16, 12)), *EDDIES),
    "burgers 2-D": lambda: varied(partial(Burgers2d, points=12), {"viscosity": 0.05}, {"viscosity": 0.1}),
    "burgers 2-D step": lambda: varied(
        partial(Burgers2d, points=12, resolution=32, step=0.01), {"viscosity": 0.05}, {"viscosity": 0.1}
    ),
}


def one_by_one(solvers: Sequence[Solver], u0: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.stack([solver.solve(u, times) for solver, u in zip(solvers, u0, strict=True)])


def together(solvers: Sequence[Solver], u0: np.ndarray, times: np.ndarray) -> np.ndarray:
    return type(solvers[0]).solve_many(solvers, u0, times)


def agree(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() <= ROUND_OFF * np.abs(expected).max())


@pytest.mark.parametrize("make", BATCHES.values(), ids=list(BATCHES))
def test_a_batch_gives_what_single_runs_give(make: Callable[[], Many]) -> None:
    solvers, u0, times = make()
    alone = one_by_one(solvers, u0, times)
    assert type(solvers[0]).batched
    # Trajectories that move, and differ: an exchange of two would be seen.
    assert min(np.abs(u[-1] - u[0]).max() for u in alone) > 1e-4
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    assert agree(together(solvers, u0, times), alone)


@pytest.mark.parametrize("make", BATCHES.values(), ids=list(BATCHES))
def test_neither_the_order_nor_the_company_matters(make: Callable[[], Many]) -> None:
    solvers, u0, times = make()
    order = [*range(len(solvers))[::-1], 0, 0, 1]
    found = together([solvers[i] for i in order], u0[order], times)
    assert agree(found, together(solvers, u0, times)[order])


@pytest.mark.parametrize("name", ["gray scott", "shallow water", "convection", "channel", "wave", "fitzhugh nagumo"])
def test_blocks_for_the_cache_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    solvers, u0, times = BATCHES[name]()
    whole, sizes = together(solvers, u0, times), []
    kind = type(solvers[0])
    advance = kind._advance  # type: ignore[attr-defined]

    def counted(some: Sequence[Solver], *rest: object) -> np.ndarray:
        sizes.append(len(some))
        return np.asarray(advance(some, *rest))

    monkeypatch.setattr(kind, "_advance", staticmethod(counted))
    for cache in (1, 2**30):
        monkeypatch.setattr(groups, "_CACHE", cache)
        assert agree(together(solvers, u0, times), whole)
    assert sizes[: len(solvers)] == [1] * len(solvers)
    assert max(sizes) > 1


def test_settings_that_cannot_be_batched_go_apart() -> None:
    solvers = [GrayScott(points=12, length=0.3, resolution=n, step=h) for n, h in ((32, 2.5), (36, 2.5), (32, 1.0))]
    u0 = np.stack([solvers[0].initial(np.random.default_rng(i)) for i in range(3)])
    assert agree(together(solvers, u0, 100 * END), one_by_one(solvers, u0, 100 * END))


ROUGH = np.random.default_rng(0).standard_normal((2, 12, 12))


@pytest.mark.parametrize(
    ("solvers", "u0", "times", "message"),
    [
        (
            [GrayScott(feed=0.03 + 0.01 * i, points=12, length=0.3) for i in range(3)],
            lambda solver: np.stack([solver.initial(np.random.default_rng(0)), 5 + ROUGH, 5 + ROUGH]),
            100 * END,
            r"gray_scott: failed at t=10 \(feed=0.04, kill=0.061\)",
        ),
        (
            [AdvectionDiffusion(diffusivity=k, points=12, resolution=12) for k in (0.1, 1e-5, 1e-6)],
            lambda solver: np.stack([solver.initial(np.random.default_rng(i)) for i in range(3)]),
            END,
            r"advection_diffusion: failed at t=0.1 \(diffusivity=1e-05, .*not resolved",
        ),
        (
            [RayleighBenard2d(r, points=(12, 16), resolution=(8, 12)) for r in (2e3, 1e7, 1e8)],
            lambda solver: np.stack([solver.initial(np.random.default_rng(0))] * 3),
            50 * END,
            r"rayleigh_benard_2d: failed at t=.* \(rayleigh=1e\+07, prandtl=1\): the spectrum has not decayed",
        ),
        (
            [ChannelTransport2d(k, 0.5, (8, 24), step=0.05) for k in (1e-3, 0.3, 0.4)],
            lambda solver: np.stack([solver.initial(np.random.default_rng(0))] * 3),
            3 * END,
            r"channel_transport_2d: failed at t=0.3 \(diffusivity=0.3, inflow=0.5\): max\|u\| has grown beyond",
        ),
        (
            [FitzHughNagumo2d(k, points=12, step=0.1) for k in (1e-2, 1e-6, 1e-7)],
            lambda solver: np.stack([solver.initial(np.random.default_rng(0)), ROUGH, ROUGH]),
            END,
            r"fitzhugh_nagumo_2d: failed at t=0.3 \(diffusivity_u=1e-06, .*not resolved",
        ),
    ],
    ids=lambda value: type(value[0]).__name__ if isinstance(value, list) else "",
)
def test_the_trajectory_that_fails_is_named(solvers, u0, times, message: str) -> None:
    with pytest.raises(NumericsError, match=message):
        together(solvers, u0(solvers[0]), times)


def test_dry_ground_is_found_where_it_falls_dry() -> None:
    solver, (_, u0, times) = ShallowWater2d(points=(9, 12), step=0.5), basins()
    with pytest.raises(NumericsError) as alone:
        solver.solve(u0[3], times)
    with pytest.raises(NumericsError) as found:
        together([solver] * 2, u0[[0, 3]], times)
    assert str(found.value) == str(alone.value)
    with pytest.raises(ConfigError, match=r"initial depth is -1 somewhere"):
        together([solver] * 2, np.stack([u0[0], -np.ones_like(u0[0])]), times)


def test_a_subclass_with_another_integration_is_advanced_by_it() -> None:
    class Doubled(Heat):
        def _integrate(self, u0: np.ndarray, times: np.ndarray) -> np.ndarray:
            return 2 * super()._integrate(u0, times)

    u0 = Heat(points=16).initial(np.random.default_rng(0))[None]
    plain = together([Heat(points=16)], u0, END)
    assert np.array_equal(together([Doubled(points=16)], u0, END)[:, 1:], 2 * plain[:, 1:])


def test_ensembles_of_large_states_are_still_solved_one_by_one() -> None:
    """A trajectory asked for alone costs one, not a block of them."""
    solved = []

    class Counted(GrayScott):
        def _integrate(self, u0: np.ndarray, times: np.ndarray) -> np.ndarray:
            solved.append(times.size)
            return super()._integrate(u0, times)

        @classmethod
        def _integrate_many(cls, solvers: Sequence[GrayScott], u0: np.ndarray, times: np.ndarray) -> np.ndarray:
            solved.extend([times.size] * len(solvers))
            return super()._integrate_many(solvers, u0, times)

    case = Case("counted", "Counted", partial(Counted, points=12, length=0.3), tuple(10 * END), 2)
    simulate(case, 2)
    assert len(solved) == 2
