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
# # Bring your own HDF5 files
#
# Somebody else's solver wrote files, and you want to know whether a reduced-order model of them is worth having. Their layout
# is their author's: names, the order of axes and the places of parameters follow no standard. This notebook goes
# from such files to a report. The training is tiny, so that the notebook runs in well under a minute: its figures show
# what is measured and how to read it, not what the method can do.

# %% [markdown]
# ## Files that somebody else wrote
#
# The viscous Burgers equation $\partial_t u + u\,\partial_x u = \nu\,\partial_{xx} u$ on a periodic interval, solved by the
# Cole-Hopf transformation: $u = -2\nu\,\partial_x \log \theta$, where $\theta$ obeys the heat equation. There is a file for each
# viscosity, with ten runs in one array whose axes are *backwards* (place, time, run). The viscosity is an attribute, and
# the units are in the head of the person who wrote the files.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

POINTS, RUNS, LENGTH = 64, 10, 2.0
rng = np.random.default_rng(0)
x = np.arange(POINTS) * LENGTH / POINTS
t = np.linspace(0, 1, 21)
viscosities = np.linspace(0.02, 0.06, 8)
k = 2 * np.pi * np.fft.rfftfreq(POINTS, LENGTH / POINTS)
minus_potential = np.divide(1j, k, out=np.zeros(len(k), complex), where=k > 0)  # -1 / (i k), with mean zero


def one_run(nu):
    """Velocity (time, place) from a random start of three waves."""
    u0 = sum(0.5 * rng.normal() / m * np.sin(m * np.pi * (x - rng.uniform(0, LENGTH))) for m in (1, 2, 3))
    theta0 = np.exp(np.fft.irfft(minus_potential * np.fft.rfft(u0), POINTS) / (2 * nu))
    theta = np.fft.rfft(theta0) * np.exp(-nu * k**2 * t[:, None])
    return -2 * nu * np.fft.irfft(1j * k * theta, POINTS) / np.fft.irfft(theta, POINTS)


folder = Path(tempfile.mkdtemp())
cubes = {}
for number, nu in enumerate(viscosities):
    cube = np.stack([one_run(nu).T for _ in range(RUNS)], axis=-1).astype("float32")
    cubes[f"run_{number}.h5"] = cube
    with h5py.File(folder / f"run_{number}.h5", "w") as file:
        file["flow/velocity"] = cube
        file["mesh/x"] = x
        file["mesh/times"] = t
        file.attrs["viscosity"] = nu
files = list(cubes)
cube.shape

# %% [markdown]
# ## What `romvae info` makes of it
#
# The commands are run from Python here, so that the notebook is one file; in a shell the words after the name are the
# same. Files of a known layout (The Well, PDEBench, NetCDF with CF conventions and others) would be recognised by their
# content. These are not, so `info` looks for arrays that could be fields and coordinates, and proposes a *mapping*.
# It never guesses what an axis means from its length alone: where it does not know, it writes `?`. It ends with exit code 3,
# since files with open questions are not usable; any other end than the one we expect stops the notebook.


# %%
def romvae_command(*words, code=0):
    """Run `romvae ...` in the folder of the files, show what it says, and stop unless it ends with this exit code."""
    command = [sys.executable, "-m", "romvae", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603 (the words stand below)
    print(done.stdout + done.stderr)
    if done.returncode != code:
        raise RuntimeError(f"romvae {' '.join(words)} ended with exit code {done.returncode}, expected {code}")


romvae_command("info", "run_0.h5", code=3)

# %% [markdown]
# ## The mapping, corrected
#
# The two axes with coordinates of their own length were found. What is left for us to say: the third axis counts the runs,
# the units, that the viscosity is a parameter (an attribute with one number per file), and what holds at the ends of
# the interval. The boundary matters: convolutions pad by it, and a periodic axis may be shifted.

# %%
mapping = """\
reader: hdf5
fields:
  u: {path: flow/velocity, dims: [x, time, trajectory], units: m s-1, long_name: velocity}
coordinates:
  time: {path: mesh/times, units: s}
  x: {path: mesh/x, units: m}
parameters:
  nu: {attribute: viscosity, units: m2 s-1}
boundaries:
  x: [periodic, periodic]
"""
_ = (folder / "mapping.yaml").write_text(mapping)
romvae_command("info", *files, "--reader", "mapping.yaml")

# %% [markdown]
# A mapping that does not fit is refused, with the place. Here the axes of time and place are exchanged:

# %%
wrong = mapping.replace("[x, time, trajectory]", "[time, x, trajectory]")
_ = (folder / "wrong.yaml").write_text(wrong)
romvae_command("info", "run_0.h5", "--reader", "wrong.yaml", code=3)

# %% [markdown]
# ## Check and pack
#
# `check` reads every value and lists what is wrong with it: not finite, constant in time, twice the same trajectory,
# times that are not evenly spaced. `pack` writes the same data once in romvae's own layout, with a checksum for every
# part, verified against the files it came from. For files as small as these it is not needed; for large ones with the
# axes in an unlucky order it is what makes the training fast, and later changes to the data are noticed.

# %%
romvae_command("check", *files, "--reader", "mapping.yaml")
romvae_command("pack", *files, "runs.zarr", "--reader", "mapping.yaml", "--quiet")

# %% [markdown]
# What was packed has its axes in romvae's order, and the same values:

# %%
import romvae

data = romvae.open_snapshots(folder / "runs.zarr")
np.testing.assert_array_equal(data["u"].values, np.concatenate([cube.T for cube in cubes.values()]))
data

# %%
drawn = data["u"].isel(trajectory=0, time=[0, 5, 10, 20]).plot.line(x="x")

# %% [markdown]
# ## Train and compare
#
# From here on nothing depends on where the data came from. 80 runs are few: half of them are trained on, and
# twelve calibrate the intervals. With twelve, a promise of 90 % can only be kept by the widest of them: expect intervals that
# hold more than they are meant to.

# %%
parts = romvae.split(data, seed=0)
rom = romvae.ROM.for_data(parts.train, latent=6, channels=16, hidden=64, members=2)
history = romvae.fit(rom, parts, seed=0, vae_steps=150, variance_steps=50, dynamics_steps=150)

# %% [markdown]
# There is no solver for these data, only the files. So the comparison is with the baselines, and it cannot say what a
# rollout saves: the report states that.

# %%
found = romvae.compare(rom, parts.test, train=parts.train, members=16)
errors = {name: baseline["relative_l2"] for name, baseline in found.metrics["baselines"].items()}
errors["rom"] = found.metrics["rom"]["relative_l2"]
for name, error in sorted(errors.items(), key=lambda item: item[1]):
    print(f"{name:12} {error:7.1%}")
print(f"90 % interval holds {found.metrics['rom']['coverage_90']:.0%} of the held-out values")

# %%
romvae.plot.error_over_time(found.series)

# %% [markdown]
# ## The report
#
# One page that needs nothing but itself, with the verdict in words at its top.

# %%
page = romvae.write_report(found, folder / "report")
print(page.name, f"{page.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# ## The same in three commands
#
# ```bash
# romvae info run_0.h5 > mapping.yaml                      # then put in what only you know
# romvae train run_*.h5 --reader mapping.yaml --out runs/mine
# romvae compare runs/mine --out comparison                # comparison/report.html
# ```
#
# `romvae train` without further flags trains at full length: minutes rather than seconds, and much more exact than this
# notebook. `--model auto` trains the baselines too and keeps what forecasts best on held-out trajectories.
