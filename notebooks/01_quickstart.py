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
# # Quickstart: from simulations to a forecast that knows its error
#
# This notebook walks the whole path on the viscous Burgers equation,
#
# $$\partial_t u + u\,\partial_x u = \nu\,\partial_{xx} u,$$
#
# with random initial fields and viscosities. Everything is made small, so that it runs in a minute or two; the
# figures of a real training are in the README. `romvae demo` does the same at full size.

# %%
import romvae

# %% [markdown]
# ## Simulations
#
# A *case* is a reference solver with a recipe for random initial fields and parameters. The result is an
# `xarray.Dataset` with one variable per field: dims by name, units in attributes, physical parameters as coordinates
# on `trajectory`. Trajectory `i` depends on the seed and on `i` only.

# %%
every = slice(None, None, 4)  # a coarser grid and fewer times, for speed
data = romvae.solvers.simulate("burgers_1d", n=40, seed=0).isel(time=every, x=every)
data

# %%
data["u"].isel(trajectory=0, time=[0, 5, 10, 20]).plot.line(x="x")

# %% [markdown]
# ## Four parts, by trajectory
#
# Snapshots of one trajectory resemble each other, so whole trajectories are held out. `train` fits the mean,
# `variance` the local variance on trajectories that the mean never saw, `calibration` scales the intervals, and
# `test` is what the figures at the end are measured on.

# %%
parts = romvae.split(data, seed=0)
{name: getattr(parts, name).sizes["trajectory"] for name in ("train", "variance", "calibration", "test")}

# %% [markdown]
# ## A model and its training
#
# `ROM.for_data` chooses sizes from the grid, the amount of data and the boundary conditions; anything can be set.
# `fit` trains the parts one after the other: encoder and mean, local variance, latent dynamics, calibration.

# %%
rom = romvae.ROM.for_data(parts.train, latent=6)
history = romvae.fit(rom, parts, seed=0, vae_steps=200, variance_steps=80, dynamics_steps=200)

# %% [markdown]
# ## A forecast
#
# A rollout starts from a field and its parameters and returns a Dataset on the dims of the data: the mean `u`, its
# standard deviation `u_std` and a 90 % interval. `u_std_decoder` is what the latent code cannot represent,
# `u_std_dynamics` what the forecast does not know; their squares add up to the square of `u_std`.

# %%
truth = parts.test
forecast = rom.rollout(truth.isel(time=0), steps=truth.sizes["time"] - 1, members=16, seed=0)
forecast

# %% [markdown]
# Dims and coordinates agree with the truth, so an error map is a subtraction. The error should be large only where the
# predicted standard deviation is.

# %%
error = abs(forecast["u"] - truth["u"])
error.isel(trajectory=0).plot(x="x")

# %%
forecast["u_std"].isel(trajectory=0).plot(x="x")

# %% [markdown]
# ## How good is it, and against what?
#
# `compare` measures errors and coverage on the test part and sets them beside baselines: persistence, climatology, POD
# with linear dynamics, DMD and operator inference. `reference` sets it beside the solver too: against the cheapest run of it
# that is as accurate. After this few steps the model need not win; the point is that the comparison says so.

# %%
scores = romvae.compare(
    rom,
    truth,
    train=parts.train,
    validation=parts.variance,
    reference=romvae.solvers.get_case("burgers_1d"),
    seconds=history.seconds,
    process_seconds=history.process_seconds,
    members=16,
    cost_cap=30.0,
)
{"rom": scores.metrics["rom"]["relative_l2"]} | {
    name: baseline["relative_l2"] for name, baseline in scores.metrics["baselines"].items()
}

# %% [markdown]
# The verdict says in words what to make of it. `write_report` puts it on a page with tables and pictures.

# %%
from romvae.report import verdict, write_report

print("\n".join(verdict(scores.metrics)))

# %%
import tempfile
from pathlib import Path

page = write_report(scores, Path(tempfile.mkdtemp()))  # a folder of your choice
page.name

# %% [markdown]
# ## Keep it
#
# A saved model is JSON and safetensors with checksums. Loaded again, it gives the same forecast, bit by bit.

# %%
import xarray as xr

with tempfile.TemporaryDirectory() as folder:
    rom.save(f"{folder}/burgers_1d")
    again = romvae.ROM.load(f"{folder}/burgers_1d")

xr.testing.assert_identical(
    again.rollout(truth.isel(time=0), steps=5, members=4, seed=1),
    rom.rollout(truth.isel(time=0), steps=5, members=4, seed=1),
)
