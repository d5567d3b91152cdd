# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A solver of your own
#
# Any function `(u0, parameters, times) -> fields` can be the reference simulation of a reduced-order model. Here it is a
# damped wave on a periodic interval,
#
# $$\partial_t u = v, \qquad \partial_t v = c^2\,\partial_{xx} u - \gamma\,v,$$
#
# with centred differences in space and `scipy.integrate.solve_ivp` in time: twenty lines.

# %%
from functools import partial

import numpy as np
from scipy.integrate import solve_ivp

from romvae.schema import Axis, Boundary, Field, Grid
from romvae.solvers import Case, FunctionSolver, Range, equidistant, reference_error, simulate
from romvae.testing import verify_solver

POINTS = 32
DX = 1 / POINTS


def damped_wave(u0, parameters, times, tolerance=1e-6):
    c, gamma = parameters["speed"], parameters["damping"]

    def rate(t, flat):
        u, v = flat.reshape(2, POINTS)
        curvature = (np.roll(u, -1) - 2 * u + np.roll(u, 1)) / DX**2
        return np.concatenate([v, c**2 * curvature - gamma * v])

    if len(times) == 1:
        return u0[None]
    span = (times[0], times[-1])
    found = solve_ivp(rate, span, u0.ravel(), method="DOP853", t_eval=times, rtol=tolerance, atol=1e-2 * tolerance)
    return found.y.T.reshape(len(times), 2, POINTS)


def bump(rng):
    """A smooth pulse at a random place, at rest."""
    x = np.arange(POINTS) * DX
    u = np.exp(np.cos(2 * np.pi * (x - rng.uniform())) / 0.3 - 1 / 0.3)
    return np.stack([u, np.zeros(POINTS)])


# %% [markdown]
# `FunctionSolver` needs to know the names of the fields and the grid with what holds at its ends; a periodic axis does not
# repeat its first point. `finer` is the same computation with a smaller tolerance, from which the data learn their own error.
# It says nothing of the centred differences: for that, `finer` would have to use more points inside. `coarser` are cheaper
# versions, from the most accurate to the cheapest; they are what a model is compared with at the end.

# %%
periodic = Boundary("periodic")
grid = Grid((Axis("x", tuple(np.arange(POINTS) * DX), "m", periodic, periodic),))
fields = [Field("u", "m", "displacement"), Field("v", "m s-1", "velocity")]
units = {"time": "s", "speed": "m s-1", "damping": "s-1"}
solver = partial(
    FunctionSolver,
    damped_wave,
    fields,
    grid,
    bump,
    finer=partial(damped_wave, tolerance=1e-9),
    coarser=[partial(damped_wave, tolerance=t) for t in (1e-4, 1e-3, 1e-2)],
    equation="u_t = v, v_t = speed^2 u_xx - damping v",
    units=units,
)

# %% [markdown]
# ## Does it keep the laws?
#
# `verify_solver` checks what every part of the toolkit relies on: shapes, the first entry is the start, the same call gives
# the same bits, stopping and going on leads to the same end, bad input is refused. It raises, naming the law, where one is
# broken.

# %%
verify_solver(solver(speed=1.0, damping=0.5), times=np.linspace(0, 0.2, 5))

# %% [markdown]
# ## An ensemble
#
# A `Case` adds what varies and when to store. The parameters are placed by a Sobol sequence, the pulses are random. To write
# a store instead, with finished trajectories kept through a kill, use `romvae.solvers.simulate_to`.

# %%
case = Case(
    "damped_wave",
    "Damped wave from a random pulse",
    solver,
    times=equidistant(1.0, 21),
    n_trajectories=32,
    ranges=(Range("speed", 0.8, 1.2), Range("damping", 0.2, 1.0)),
)
data = simulate(case, seed=0, design="sobol", error_estimate=True)
data

# %%
reference_error(data)["fields"]

# %%
data["u"].isel(trajectory=0, time=[0, 5, 10, 20]).plot.line(x="x")

# %% [markdown]
# ## A reduced-order model
#
# Everything else is as for a built-in case. The training is tiny here, so do not expect much of it.

# %%
import romvae

parts = romvae.split(data, seed=0)
rom = romvae.ROM.for_data(parts.train, latent=6, channels=8, hidden=48, members=2)
history = romvae.fit(rom, parts, seed=0, vae_steps=120, variance_steps=40, dynamics_steps=200)

# %%
truth = parts.test
forecast = rom.rollout(truth.isel(time=0), steps=truth.sizes["time"] - 1, members=8, seed=0)
forecast["u"].isel(trajectory=0).plot(x="x")

# %%
abs(forecast["u"] - truth["u"]).isel(trajectory=0).plot(x="x")

# %% [markdown]
# ## Is it worth it?
#
# `compare` sets the model beside the baselines and beside the solver itself. A solver is always faster with a looser tolerance,
# so what counts is the cheapest run of it that is still as accurate as the model. `compare` looks for that among the `coarser`
# versions; without them it only knows the solver as it is, and the verdict says that this flatters the model.

# %%
scores = romvae.compare(
    rom,
    parts.test,
    train=parts.train,
    validation=parts.variance,
    reference=case,
    seconds=history.seconds,
    process_seconds=history.process_seconds,
    split={name: getattr(parts, name).sizes["trajectory"] for name in ("train", "variance", "calibration", "test")},
    members=8,
    cost_cap=5.0,
)

# %%
from romvae.report import verdict

print("\n".join(verdict(scores.metrics)))

# %% [markdown]
# The same with all tables and pictures, on one page that needs nothing but itself:

# %%
import tempfile
from pathlib import Path

from romvae.report import write_report

folder = Path(tempfile.mkdtemp())  # a folder of your choice
write_report(scores, folder)
