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
# # Assimilation: a few noisy sensors correct the forecast
#
# A forecast from a wrong start stays wrong, and in a chaotic system even a good start is forgotten. Measurements help, if
# they can be taken into the state while the model runs. In the latent space that is cheap: the state is a handful of numbers,
# and the ensemble that filters need costs next to nothing. `romvae.assimilate` has two ensemble Kalman filters
# and a smoother (4D-Var).
#
# The system is the Kuramoto-Sivashinsky equation,
#
# $$\partial_t u + u\,\partial_x u + \partial_{xx} u + \partial_{xxxx} u = 0,$$
#
# on a periodic interval of length 22, where it is chaotic: errors grow by a factor e in about 21 time units. This is a *twin
# experiment*: the sensors read a known truth with added noise, so that the error can be measured. The model is tiny and
# trained for seconds: it loses the truth much sooner than chaos demands. What the notebook shows is how far sensors make
# up for that, not how good a model of this equation can be.

# %%
import numpy as np
import xarray as xr

import romvae
from romvae.assimilation import observe

data = romvae.simulate("kuramoto_sivashinsky_1d", n=64, seed=0).isel(time=slice(0, 201, 4), x=slice(None, None, 2))
parts = romvae.split(data, seed=0)
rom = romvae.ROM.for_data(parts.train, latent=10, channels=16, hidden=96, members=4)
history = romvae.fit(rom, parts, seed=0, vae_steps=250, variance_steps=60, dynamics_steps=500)
truth = parts.test
picture = data["u"].isel(trajectory=0).plot(x="x")

# %% [markdown]
# ## Sensors
#
# Six of them, at places between the grid points, that read the field once every time unit with a noise of 0.2 (the field
# itself has a standard deviation of about 1.2). The first time is left out: nothing is known of the true start.

# %%
places = {"x": np.linspace(0, 22, 6, endpoint=False) + 0.5}
observations = observe(truth, places, std=0.2, every=1, seed=0)
observations

# %% [markdown]
# ## A wrong start
#
# Every run is started from the first field of *another* held-out run. The free run has nothing but that. The filters
# get the sensors too, and `background` tells them how much wider the spread of the first code is than the encoder's: the encoder is
# sure of its codes, but the field it was given is the wrong one. So the spread is made as wide as the codes themselves vary,
# on average over the latents.

# %%
start = truth.isel(time=0)
wrong = start.assign(u=start["u"].roll(trajectory=1, roll_coords=False))
steps = truth.sizes["time"] - 1
free = rom.rollout(wrong, steps=steps, members=32, seed=0)

codes = rom.encode(parts.train)
varies = codes["latent_mean"].std(["trajectory", "time"])
width = (codes["latent_std"] ** 2).mean(["trajectory", "time"]) ** 0.5
background = float((varies / width).mean())
filtered = romvae.assimilate(
    rom, wrong, observations, method="etkf", steps=steps, members=64, background=background, inflation=1.02
)
filtered

# %%
maps = xr.concat(
    [truth["u"], free["u"], filtered["u"]], xr.DataArray(["truth", "free run", "with sensors"], dims="run")
)
grid = maps.isel(trajectory=0).plot(x="x", col="run", robust=True)

# %% [markdown]
# ## Error over time
#
# Root mean square over points and runs, beside what is obtained without any model: the field is drawn as straight lines
# between the readings of the sensors.


# %%
def error_of(field):
    """Root mean square error over runs and points, at every time."""
    return ((field - truth["u"]) ** 2).mean(["trajectory", "x"]) ** 0.5


grid_x = truth["x"].values
lines = np.apply_along_axis(
    lambda reading: np.interp(grid_x, places["x"], reading, period=22.0), 2, observations["value"].values
)
drawn = xr.DataArray(lines, dims=("trajectory", "time", "x"), coords={"time": observations["time"], "x": grid_x})
errors = xr.Dataset(
    {
        "free run": error_of(free["u"]),
        "sensors alone": error_of(drawn).reindex(time=truth["time"]),
        "with sensors": error_of(filtered["u"]),
        "claimed": (filtered["u_std"] ** 2).mean(["trajectory", "x"]) ** 0.5,
    }
)
curves = errors.to_dataarray("run", name="root mean square error").plot.line(x="time")

# %%
second_half = errors.isel(time=slice(steps // 2, None)).mean()
{name: round(float(value), 3) for name, value in second_half.items()}

# %% [markdown]
# `claimed` is the standard deviation that the filter states. Unlike that of a forecast it is not calibrated on held-out
# runs: a filter that claims less than its error is overconfident, and `inflation` or `model_error` are to be raised.

# %% [markdown]
# ## When the sensors fall silent
#
# Readings up to half of the time, then a forecast from the best state found so far.

# %%
first_half = observations.isel(time=slice(0, steps // 2))
then_alone = romvae.assimilate(rom, wrong, first_half, steps=steps, background=background, inflation=1.02)
compared = xr.Dataset(
    {
        "free run": errors["free run"],
        "sensors to the end": errors["with sensors"],
        "sensors for the first half": error_of(then_alone["u"]),
        "claimed, first half": (then_alone["u_std"] ** 2).mean(["trajectory", "x"]) ** 0.5,
    }
)
curves = compared.to_dataarray("run", name="root mean square error").plot.line(x="time")

# %% [markdown]
# The error grows back towards that of the free run as fast as the model loses the truth. The stated uncertainty grows with it: it
# is what says when new readings are needed.
#
# For the state at an *earlier* time, later readings count too: `method="4dvar"` is a smoother over a window, at the price
# of an optimisation.
