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
# # Uncertainty maps and what they mean
#
# A forecast comes with standard deviations at every point and time, and with intervals. This notebook says what each of
# them is, what is promised of it and under which assumption, and how to notice that the assumption does not hold.
#
# The model is tiny and trained for seconds. Its errors are therefore far larger than those of a real training, which
# suits the purpose: there is something to be uncertain about. What holds here for the *calibration* holds for a better
# model too, with narrower intervals.

# %%
import warnings

import numpy as np
import xarray as xr

import romvae
from romvae import quantities
from romvae.latent import Typicality

every = slice(None, None, 4)
data = romvae.simulate("burgers_1d", n=120, seed=0).isel(time=every, x=every)
parts = romvae.split(data, seed=0)
rom = romvae.ROM.for_data(parts.train, latent=6, channels=16, hidden=64, members=4)
history = romvae.fit(rom, parts, seed=0, vae_steps=200, variance_steps=80, dynamics_steps=250)
# Runs beyond the trained viscosities are left out of the test here; what happens with them is seen at the end.
low, high = parts.train["viscosity"].min(), parts.train["viscosity"].max()
truth = parts.test.isel(trajectory=((parts.test["viscosity"] >= low) & (parts.test["viscosity"] <= high)).values)
start = truth.isel(time=0)
{name: getattr(parts, name).sizes["trajectory"] for name in ("train", "variance", "calibration", "test")}

# %% [markdown]
# ## Four standard deviations that add up in squares
#
# By the law of total variance, over the members $m$ of the forecast,
#
# $$\mathrm{var}(u) = \underbrace{\mathrm{mean}_m\,\mathrm{var}(u \mid z_m)}_{\text{decoder}}
# + \underbrace{\mathrm{var}_m\,\mathrm{mean}(u \mid z_m)}_{\text{dynamics}}.$$
#
# * `u_std_decoder`: what a code of six numbers cannot represent of the field. More simulations help little; a larger code
#   does.
# * `u_std_dynamics`: what the forecast of the code does not know. It is split once more:
#   * `u_std_posterior`: what the first field leaves open about the code that the forecast starts from;
#   * `u_std_ensemble`: where the networks of the ensemble disagree. This is the part that more simulations reduce.

# %%
forecast = rom.rollout(start, members=32, seed=0)
parts_of_it = ["u_std_decoder", "u_std_posterior", "u_std_ensemble"]
square = sum(forecast[name].astype("float64") ** 2 for name in parts_of_it)
np.testing.assert_allclose(square, forecast["u_std"].astype("float64") ** 2, rtol=1e-3)

one = forecast.isel(trajectory=0)
maps = xr.concat([one[name] for name in ["u_std", *parts_of_it]], xr.DataArray(["total", *parts_of_it], dims="part"))
grid = maps.plot(x="x", col="part", robust=True, cbar_kwargs={"label": "standard deviation of u"})

# %% [markdown]
# Beside them the error that was really made. It should be large only where the standard deviation is, but it is one draw:
# no map of a standard deviation looks like the error of one run.

# %%
both = xr.concat(
    [abs(one["u"] - truth["u"].isel(trajectory=0)), one["u_std"]], xr.DataArray(["error", "std"], dims="is")
)
grid = both.plot(x="x", col="is", robust=True, cbar_kwargs={"label": "u"})

# %% [markdown]
# ## Three intervals with three promises
#
# `u_lower` to `u_upper` can hold three different things with the same probability `level`:
#
# * `point`: the value at a point and time. The default, and the narrowest.
# * `field`: a share of the points of the field, at each time.
# * `run`: a share of all points and times of the run. With the share 0.9 it is the risk band: at least 90 % of the points in
#   at least 90 % of the runs.
#
# The attribute `guarantee` says on how many calibration runs the promise rests and what it assumes. The share of new runs for
# which it holds depends on the calibration runs that happened to be drawn: with few of them it can be a good deal more or
# less than 90 %.

# %%
later = slice(1, None)  # the first time is given, not forecast
for interval in ("point", "field", "run"):
    band = rom.rollout(start, members=32, seed=0, interval=interval)
    held = ((truth["u"] >= band["u_lower"]) & (truth["u"] <= band["u_upper"])).isel(time=later)
    points, fields, runs = held.mean(), (held.mean("x") >= 0.9).mean(), (held.mean(["time", "x"]) >= 0.9).mean()
    width = (band["u_upper"] - band["u_lower"]).isel(time=later).mean()
    shares = f"points {float(points):4.0%}, fields {float(fields):4.0%}, runs {float(runs):4.0%}"
    print(f"{interval:5}  {shares}, mean width {float(width):.3f}")
    print("      ", band.attrs["guarantee"])

# %% [markdown]
# The three columns are measured on held-out runs: the share of points inside; the share of fields, and of runs, of which
# at least 90 % of the points are inside. Each interval is made for its own column, and is too narrow for the next one.

# %% [markdown]
# ## Reliability
#
# Over all levels: how often does an interval that is meant to hold 50 %, 80 %, 95 % of the values hold them? `compare`
# measures it on held-out runs. Points on the diagonal are as meant; below it the model is overconfident. 18 calibration runs
# can promise 90 %, but not 95 %, which takes 19: up there the curve may drop below the diagonal.

# %%
found = romvae.compare(rom, truth, train=parts.train, members=16)
romvae.plot.reliability(found.series["coverage"])

# %% [markdown]
# Calibrated on average is not calibrated everywhere: in the fifths of the horizon the same interval may hold too much or
# too little. Each number is followed by its standard error over the runs.

# %%
rom_scores = found.metrics["rom"]
for fifth, (share, error) in enumerate(
    zip(rom_scores["coverage_90_fifths"], rom_scores["coverage_90_fifths_se"], strict=True), 1
):
    print(f"fifth {fifth} of the horizon: {share:.0%} +- {error:.0%}")

# %% [markdown]
# ## How long to trust it
#
# A tolerance in units of the field's standard deviation over the training data gives a *trust horizon*: the first lead time
# at which a forecast says of itself that it may be further off than that. Training has calibrated it, so that at most one run in ten
# exceeds the tolerance before its horizon. `inf` means that the forecast ends first.

# %%
for tolerance in (0.2, 0.4, 0.8):
    horizon = romvae.trust_horizon(rom, forecast, tolerance=tolerance)
    print(f"tolerance {tolerance:.0%}:", np.sort(horizon.values).round(2))
horizon.attrs["guarantee"]

# %% [markdown]
# Fields of this equation fade, and the errors with them: a run is trusted from its start on and to its end, or not at all.
# A model as coarse as this one may not be trusted anywhere at the smallest tolerance, and that is the right answer. In a
# chaotic system, where errors grow, horizons lie in between.

# %% [markdown]
# ## A number instead of a field
#
# The interval of a maximum or of a mean cannot be computed from those of the points, since their errors go together in ways
# that a map of standard deviations does not tell. Quantities of interest are therefore calibrated on their own.

# %%
watched = [quantities.maximum("u"), quantities.probe("u", x=0.25), quantities.l2("u")]
quantities.calibrate(rom, parts.calibration, watched)
numbers = rom.rollout(start, members=32, seed=0, quantities=watched)
exact = {
    "u_maximum": truth["u"].max("x"),
    "u_probe": truth["u"].sel(x=0.25),
    "u_l2": (truth["u"] ** 2).mean("x") ** 0.5,
}
for name, value in exact.items():
    inside = (value >= numbers[f"{name}_lower"]) & (value <= numbers[f"{name}_upper"])
    print(f"{name:10} inside its 90 % interval at {float(inside.isel(time=later).mean()):.0%} of the later times")

# %%
lines = xr.Dataset(
    {
        "truth": exact["u_maximum"],
        "forecast": numbers["u_maximum"],
        "lower end": numbers["u_maximum_lower"],
        "upper end": numbers["u_maximum_upper"],
    }
).isel(trajectory=0)
drawn = lines.to_dataarray("line", name="largest u").plot.line(x="time")

# %% [markdown]
# ## Where not to trust it
#
# Every promise above is for runs *from the same distribution* as the calibration runs. Two signs tell when that fails.
# First, a parameter outside of the training range gives a warning:

# %%
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    beyond = rom.rollout(start.assign_coords(viscosity=2 * start["viscosity"]), steps=2, members=16)
for warning in said:
    print(warning.category.__name__, "-", warning.message)

# %% [markdown]
# Second, a field can be foreign to the model even where the parameters are not. `Typicality` ranks the encoding error and
# the place of the code among those of the calibration runs. The result is a p-value: spread evenly from 0 to 1 for fields of
# the same distribution, and small for foreign ones. With 18 calibration runs the smallest possible value is 1/19, which is
# too coarse to judge a single field by; several together tell more. Here: short waves on top of held-out runs. The fields at the start of a run are rougher than all
# later ones; ranked among them, hardly anything would look foreign. So the later times are ranked among themselves.

# %%
faded = slice(5, None)
typical = Typicality.of(rom, parts.train.isel(time=faded), parts.calibration.isel(time=faded))
foreign = truth.assign(u=truth["u"] + 0.5 * np.cos(2 * np.pi * 12 * truth["x"]).astype("float32"))
p_values = {
    name: typical.p_value(rom, fields.isel(time=faded))
    for name, fields in (("held out", truth), ("with short waves", foreign))
}
romvae.plot.typicality(p_values)

# %%
for name, values in p_values.items():
    print(f"{name:17} median p-value {float(values.median()):.2f}, below 0.2: {float((values < 0.2).mean()):.0%}")

# %% [markdown]
# Held-out runs spread over the whole range, those with waves gather at its lower end. They stand at 0.12 and
# would do so with waves twice as strong: the most extreme of several ranks counts, and among 18 runs a field that is extreme in
# one of them only is not rarer than that. More calibration runs give the number its force.
#
# Neither sign is sent by the interval itself: the forecast from the foreign field has a standard deviation too, and nothing
# backs it.

# %%
astray = rom.rollout(foreign.isel(time=0), steps=1, members=16, seed=0).isel(time=0)
error = ((astray["u"] - foreign["u"].isel(time=0)) ** 2).mean() ** 0.5
claimed = (astray["u_std"] ** 2).mean() ** 0.5
print(
    f"error of the foreign start, encoded and decoded: {float(error):.2f}; what the forecast says of it: {float(claimed):.2f}"
)
