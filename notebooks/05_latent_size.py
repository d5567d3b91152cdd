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
# # How many latents?
#
# The latent size is the one number that everybody has to choose. Too few latents blur the fields; too many make the
# dynamics harder to learn, and rollouts dearer. This notebook shows what can be looked at: what POD needs, what each latent
# carries, what happens if it is left out, and what `suggest_latent` makes of all that.
#
# The data are made so that their true dimension is known. The trainings are short: a longer one moves the errors down, and
# may move the answer.

# %% [markdown]
# ## Pulses of which we know everything
#
# A pulse travels around a periodic interval. It has a *place* and a *width*; its speed is a parameter and not part of the
# field. So the fields form a two-dimensional surface. The place runs around a circle, and a circle needs two
# coordinates if it is not to be cut open: **three latents** are the least that a continuous code can do with.
#
# POD has no chance to find that: a sharp pulse that moves needs many modes.

# %%
import numpy as np

import romvae
from romvae.latent import activity, pod_curve, traverse
from romvae.schema import snapshots

POINTS, RUNS = 48, 60
rng = np.random.default_rng(0)
x, t = np.arange(POINTS) / POINTS, np.linspace(0, 1, 21)
place, width, speed = rng.uniform(0, 1, RUNS), rng.uniform(0.08, 0.16, RUNS), rng.uniform(0.5, 1.0, RUNS)
angle = 2 * np.pi * (x - place[:, None, None] - speed[:, None, None] * t[:, None])
u = np.exp((np.cos(angle) - 1) / (2 * np.pi * width[:, None, None]) ** 2)
data = snapshots(
    {"u": u}, {"x": x}, t, {"speed": speed}, {"x": ("periodic", "periodic")}, {"x": "m", "time": "s", "speed": "m s-1"}
)
parts = romvae.split(data, seed=0)
drawn = data["u"].isel(time=0, trajectory=slice(0, 4)).plot.line(x="x")

# %% [markdown]
# ## What POD needs
#
# The error on held-out runs over the number of modes, in units of the field's standard deviation. It costs next to nothing
# to compute and is the first thing to look at: where a few modes are enough, a network is not needed.

# %%
some = romvae.ROM.for_data(parts.train, latent=8, channels=16, hidden=32, members=1)
train, held = (some.normalised(part)[0].flatten(0, 1) for part in (parts.train, parts.variance))
curve = pod_curve(train, held, most=16)
for modes in (1, 2, 3, 4, 6, 8, 12, 16):
    print(f"{modes:3d} modes: {curve[modes - 1]:6.1%}")

# %% [markdown]
# ## What each latent carries
#
# A model with eight latents, which are more than the data need. Two measures for each latent, on held-out fields:
#
# * its divergence from the prior in nats: how much the code knows of the field through this latent;
# * the ablation gain: by how much the error grows if this latent is set to its mean.
#
# A latent counts as active with more than one nat *and* a gain above 2 %.

# %%
history = romvae.fit(some, parts, seed=0, vae_steps=300, variance_steps=20, dynamics_steps=20)
found = activity(some, parts.test)
for i in np.argsort(-found.table["kl"].values):
    row = found.table.isel(latent=int(i))
    print(f"z{i}: {float(row['kl']):5.2f} nats, gain {float(row['gain']):7.1%}, active: {bool(row['active'])}")
print(f"error of encoding and decoding: {found.relative_error:.1%}; POD with 8 modes: {curve[7]:.1%}")

# %%
romvae.plot.activity_bars(found.table)

# %% [markdown]
# All eight are in use, although three could do: the model starts as POD, in which every latent is used, and nothing forces it to
# let go of one that still helps a little. Read the count as an upper bound. Gains are so large here because the error that
# they are compared with is so small.

# %% [markdown]
# ## What a latent does to the field
#
# One latent at a time is moved away from the code of a snapshot. A latent that does nothing gives a row of equal
# curves. Far from the middle the fields are no pulses any more: moving one number alone leaves the surface that the data lie
# on, and place and width are spread over several latents.

# %%
one = parts.test.isel(trajectory=[0], time=[0])
strongest = np.argsort(-found.table["kl"].values)[:4].tolist()
romvae.plot.traversal(traverse(some, one, strongest), "u")

# %% [markdown]
# ## The search
#
# `suggest_latent` starts from bounds that the data give: a nearest-neighbour estimate of the dimension below, POD's 99.9 %
# above. It trains at the upper bound, counts the active latents, trains again with one more than those, and so on until a
# size does as well on held-out runs as the largest one. `romvae train --model.latent auto` does the same before the
# training itself. With `sweep=True`, as here, it tries all powers of two instead: dearer, and one sees the curve.

# %%
answer = romvae.suggest_latent(parts, model={"channels": 16}, training={"vae_steps": 300}, sweep=True)
print(answer.sentence())

# %%
romvae.plot.latent_size(answer.to_dict())

# %% [markdown]
# ## What this tells
#
# The network's curve lies well below that of POD at every size that was tried: that is what a network is for. Yet the search
# does not answer three. The fields *can* be described by three numbers, but every further latent makes them easier to
# describe, and after a few hundred steps that is still worth more than it costs. Such an answer is about data *and*
# training: give `suggest_latent` the training that the model will get, and take its answer as a size that is enough, not as
# the dimension of the physics. The lower bound from the nearest neighbours speaks of that, and it is rough: here it
# rests on the thirty runs of the training part.
#
# If rollouts are not the bottleneck, prefer the larger of two sizes: an idle latent costs little, a missing one cannot be
# made up for. The price of a larger code is paid by the dynamics, which has more to learn: compare forecasts, not only
# reconstructions, before you settle.
