"""Ensembles: canonical, reproducible in every bit, and refusing what cannot work."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from romvae.errors import ConfigError, NumericsError
from romvae.schema import Schema, check_snapshots
from romvae.solvers import CASES, Burgers1d, Case, Heat, simulate
from romvae.solvers.ensemble import SPLIT_PARTS
from romvae.solvers.listing import typical_solver

SHORT = {name: replace(case, times=case.times[:4]) for name, case in CASES.items()}
LARGE = 2000  # values per snapshot: beyond, a block of sixteen takes seconds
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if math.prod(typical_solver(case).shape) > LARGE else ())
    for name, case in CASES.items()
]


@pytest.mark.parametrize("name", NAMES)
def test_every_case_gives_canonical_snapshots(name: str) -> None:
    ds = simulate(SHORT[name], n=2, seed=1)
    check_snapshots(ds)
    schema = Schema.of(ds)
    assert schema.grid == CASES[name].draw(0).solver.grid
    assert schema.dt == pytest.approx(CASES[name].times[1])
    assert set(schema.parameter_names) == {
        *CASES[name].draw(0).solver.parameters,
        *CASES[name].draw(0).parameters,
    }
    for field in CASES[name].draw(0).solver.fields:
        assert ds[field.name].dtype == np.float32
        assert ds[field.name].attrs["units"] == "1"
        assert ds[field.name].attrs["long_name"]
    assert (ds.attrs["case"], ds.attrs["seed"]) == (name, 1)
    assert json.loads(ds.attrs["solver_settings"]) == CASES[name].draw(0).solver.settings
    varied = {r.name for r in CASES[name].ranges} - {"a"}  # the first two of a grid of (a, w) share a
    assert all(np.unique(ds[p]).size == 2 for p in varied)


@pytest.mark.parametrize("name", NAMES)
def test_a_trajectory_depends_on_seed_and_number_only(name: str) -> None:
    case = replace(SHORT[name], times=CASES[name].times[:3])
    many = simulate(case, n=18, seed=5)
    few = simulate(case, n=2, seed=5)
    assert many.isel(trajectory=slice(2)).identical(few)
    last = case.draw(17, 5)
    alone = last.solver.solve(last.u0, case.times)[:, 0]
    first = last.solver.fields[0].name
    assert np.array_equal(many[first].isel(trajectory=17), alone.astype(np.float32))
    if case.plan is None:  # a plan begins with a fixed grid of parameters
        assert not np.array_equal(few[first], simulate(case, n=2, seed=6)[first])


def test_workers_do_not_change_a_bit() -> None:
    case = SHORT["burgers_1d"]
    seen: list[tuple[int, int]] = []
    two = simulate(case, n=35, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert two.identical(simulate(case, n=35))
    assert seen[-1] == (35, 35)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_demo_case_is_what_it_says() -> None:
    """Viscosity log-uniform in [0.005, 0.05]; u0 holds modes 1 to 3 only, at most 0.7 each draw; no mean."""
    case = CASES["burgers_1d"]
    draws = [case.draw(i, 0) for i in range(400)]
    nu = np.array([draw.solver.parameters["viscosity"] for draw in draws])
    assert nu.min() >= 0.005
    assert nu.max() <= 0.05
    # The mean of log10(nu) over 400 draws has standard error 0.29 / 20.
    assert np.log10(nu).mean() == pytest.approx(np.log10(0.005) + 0.5, abs=0.06)
    spectrum = np.abs(np.fft.rfft([draw.u0[0] for draw in draws], norm="forward"))
    assert spectrum[:, 0].max() < 1e-15
    assert spectrum[:, 4:].max() < 1e-15
    assert (spectrum[:, 1:4] > 0.01).any(axis=0).all()
    assert 2 * spectrum.max() <= 2.1
    assert len(case.times) == 101
    assert case.times[-1] == 1.0
    assert draws[0].solver.grid.shape == (256,)


def test_demo_case_is_accurate_to_1e_5() -> None:
    """Its own resolution and step against twice and four times as fine, on the steepest of 100."""
    case = CASES["burgers_1d"]
    draw = max(
        (case.draw(i) for i in range(100)),
        key=lambda d: np.abs(d.u0).max() / d.solver.parameters["viscosity"],
    )
    times = np.array(case.times)[:41]
    fine = Burgers1d(draw.solver.parameters["viscosity"], 256, resolution=1024, step=3.125e-4)
    assert np.abs(draw.solver.solve(draw.u0, times) - fine.solve(draw.u0, times)).max() < 1e-5


def test_parametric_case_names_its_parts() -> None:
    case = replace(CASES["burgers_1d_parametric"], times=(0.0, 0.005))
    ds = simulate(case)
    assert ds.sizes["trajectory"] == 75
    assert ds["split"].dtype == np.int8
    assert ds["split"].attrs["flag_meanings"] == "train variance calibration test"
    counts = {part: int((ds["split"] == code).sum()) for code, part in enumerate(SPLIT_PARTS)}
    assert counts == {"train": 25, "variance": 10, "calibration": 20, "test": 20}
    train = ds.isel(trajectory=ds["split"].values == 0)
    pairs = {(round(float(a), 10), round(float(w), 10)) for a, w in zip(train["a"], train["w"], strict=True)}
    assert pairs == {(round(0.7 + 0.05 * i, 10), round(0.9 + 0.05 * j, 10)) for i in range(5) for j in range(5)}
    peak = ds["u"].isel(time=0).max("x")
    assert peak.values == pytest.approx(ds["a"].values, abs=1e-5)  # no node lies exactly at x = 0


def _sine(solver: Burgers1d, values: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * np.arange(16) / 16)[None]


def test_all_trajectories_that_failed_are_named() -> None:
    case = Case(
        "steep",
        "",
        partial(Burgers1d, viscosity=1e-4, points=16, resolution=24, step=0.01),
        (0.0, 0.5, 1.0),
        3,
        initial=_sine,
    )
    one = r"trajectory {} \(viscosity=0.0001\): burgers_1d: failed at t=0.5 \(viscosity=0.0001\): the front is not"
    with pytest.raises(NumericsError, match="case steep, seed 2: 3 of 3 trajectories failed: ") as error:
        simulate(case, seed=2)
    assert all(re.search(one.format(i), str(error.value)) for i in range(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"case": "burgers1d"}, "case 'burgers1d' is unknown. Did you mean 'burgers_1d'?"),
        ({"case": "heat_1d", "n": 0}, "n is 0, expected a whole number of at least 1"),
        ({"case": "heat_1d", "seed": -1}, "seed is -1"),
        ({"case": "heat_1d", "workers": 0}, "workers is 0"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        simulate(**arguments)
    assert message in str(error.value)


def test_draws_that_do_not_fit_together_are_refused() -> None:
    sizes = iter(range(8, 1000))

    def solver() -> Heat:
        return Heat(points=next(sizes))

    with pytest.raises(ConfigError, match="different solvers or grids"):
        simulate(Case("mixed", "", solver, (0.0, 1.0), 2))
