"""POD with the ROM's own network dynamics: what is left of the ROM without its autoencoder."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike

from romvae.baselines.base import Baseline, State, check_rank, check_times, register
from romvae.baselines.paths import steps_of, time_step
from romvae.baselines.stack import FieldStack
from romvae.budget import LEAST, quietly
from romvae.errors import OutOfRangeWarning
from romvae.progress import Progress
from romvae.propagation import network_paths
from romvae.schema import LATENT, TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.rom import ROM

__all__ = ["OF_THE_DYNAMICS", "PODNetwork"]

DEFAULT_STEPS = 2500
MOST_STEPS = 4
"""In units of the usual number of steps: more do not make the dynamics of a few latents better."""
TRIAL = (24, 60, 40)
"""Steps of the trial that measures the time of one: at least, at most, and their share (1/40) of the usual number."""
OF_THE_DYNAMICS = ("dynamics", "stride", "hidden", "depth", "members", "transition", "history", "ode_solver")
"""Arguments of `ROM.for_data` that are about the dynamics."""
_NOT_HERE = ("vae_steps", "variance_steps", "dynamics_steps", "fallback", "devices", "nodes", "budget")


@register
class PODNetwork(Baseline):
    """The ROM with `compression="pod"`: POD in place of the autoencoder, all else the same.

    With a budget it is trained for as many steps as fit into it, up to four times the usual number: what the ROM spends
    on its autoencoder goes into the dynamics. A trial of 24 to 60 steps, which counts, measures what a step takes; the
    number of steps, which the learning rate depends on, is fixed then. More than four times the usual number are not
    needed, however large the budget is.

    Arguments:
        latent: Number of modes; None chooses as `ROM.for_data` does.
        steps: Steps of the dynamics' training; None takes the usual number, or what the budget allows.
        model: Arguments of `ROM.for_data`, such as `dynamics`, `stride` and `hidden`; what is not about the dynamics is
            passed over. None leaves all to the data.
        training: Arguments of `romvae.fit`, such as `horizon` and `batch_size`. Its `dynamics_steps`, or those of
            `romvae.fit`, are the usual number. Those of the autoencoder's stages are passed over, and so is `fallback`:
            this baseline keeps its network, unless it is a neural ODE, whose training may have made the polynomial
            field that it started from worse.

    Attributes:
        rom: The fitted ROM.
    """

    name = "pod_network"

    def __init__(
        self,
        latent: int | None = None,
        steps: int | None = None,
        *,
        model: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.latent, self.steps = check_rank(self.name, latent), steps
        self.usual = int((training or {}).get("dynamics_steps") or DEFAULT_STEPS)
        self.model = {name: value for name, value in (model or {}).items() if name in OF_THE_DYNAMICS}
        self.training = {name: value for name, value in (training or {}).items() if name not in _NOT_HERE}

    @classmethod
    def of(cls, rom: ROM, train: xr.Dataset) -> PODNetwork:
        """A ROM that was trained with POD in place of the autoencoder, as a baseline.

        Arguments:
            rom: The ROM.
            train: What it was trained on.
        """
        made = cls(rom.vae.latent)
        made.rom, made.stack, made.dt = rom, FieldStack.of(train), rom.schema.dt
        made.choice = {"latent": rom.vae.latent}
        return made

    @classmethod
    def reason_against(cls, train: xr.Dataset) -> str:
        """It needs trajectories to hold out."""
        count = train.sizes.get(TRAJECTORY, 0)
        return "" if count >= 4 else f"{count} trajectories, expected 4 or more"

    def fit(
        self,
        train: xr.Dataset,
        *,
        validation: xr.Dataset | None = None,
        seed: int = 0,
        budget: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Trains the dynamics of POD coefficients; `validation`, or a fifth of `train`, serves its variance only."""
        from romvae.data import Parts
        from romvae.rom import ROM
        from romvae.training import fit

        self._require(train)
        began = time.process_time()
        self.stack = FieldStack.of(train)
        self.dt = time_step(train[TIME].values, self.name)
        if validation is None:
            order = np.random.default_rng(seed).permutation(train.sizes[TRAJECTORY])
            fifth = max(1, round(len(order) / 5))
            validation, train = train.isel({TRAJECTORY: order[:fifth]}), train.isel({TRAJECTORY: order[fifth:]})
        parts = Parts(train, validation, validation, validation, train)
        self.rom = ROM.for_data(
            train, latent=self.latent, seed=seed, compression="pod", variance="global", **self.model
        )
        steps = self.steps or self.usual
        if self.steps is None and budget is not None:
            steps = self._affordable(parts, seed, began + budget)
        fallback = "auto" if self.rom.choices["dynamics"] == "ode" else "never"
        asked = self.training | {"dynamics_steps": steps, "fallback": fallback}
        history = fit(self.rom, parts, seed=seed, progress=progress, **asked)
        dynamics = self.rom.dynamics
        self.choice = {
            "latent": self.rom.vae.latent,
            "dynamics": self.rom.choices["dynamics"],
            "stride": dynamics.stride,
            "hidden": dynamics.hidden,
            "steps": len(history.curves.get("dynamics", {}).get("loss", ())),
            "seconds": time.process_time() - began,
        }
        return self

    def _affordable(self, parts: Parts, seed: int, until: float) -> int:
        """Steps that end at `until` in process time, as a trial with a copy of the ROM says."""
        from romvae.rom import ROM
        from romvae.training import fit
        from romvae.training.pace import Pace

        copy = ROM.from_description(self.rom.description())
        copy.load_state_dict(self.rom.state_dict())
        least, most, share = TRIAL
        left, pace = until - time.process_time(), Pace("dynamics", time.process_time)
        asked = self.training | {"dynamics_steps": min(most, max(least, self.usual // share)), "fallback": "never"}
        with quietly(logging.getLogger("romvae.training")):  # what so short a training decides is no news
            fit(copy, parts, seed=seed, watch=pace, **asked)
        found = pace.affordable(left)
        if found is None:
            return self.usual
        return min(MOST_STEPS * self.usual, max(found, 1, round(LEAST * self.usual)))

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Mean over the networks of the ensemble, each followed from the mean code; see `Baseline.rollout`."""
        times = check_times(times)
        steps = steps_of(times, self.dt, self.name)
        start = self.stack.start(start)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", OutOfRangeWarning)
            x, c = self.rom.normalised(start)
            codes = network_paths(self.rom.vae, self.rom.dynamics, x[:, -1], c, max(1, int(steps[-1]))).mean(1)
        # Decoding is linear, so that the decoded mean of the networks is the mean of what they decode to.
        kept = codes.transpose(0, 1)[:, torch.from_numpy(steps)].numpy()
        fields = self.rom.decode(xr.DataArray(kept, dims=(TRAJECTORY, TIME, LATENT)))
        return self.stack.dataset(self.stack.array(fields), start, times)

    def _state(self) -> State:
        arrays = {name: value.numpy() for name, value in self.rom.state_arrays().items()}
        return State({"dt": self.dt, "rom": self.rom.description()}, arrays)

    def _restore(self, state: State) -> None:
        from romvae.checkpoint import restored

        self.dt = float(state.facts["dt"])
        weights = {name: torch.from_numpy(a) for name, a in state.arrays.items()}
        self.rom = restored(str(state.facts["rom"]), weights)
        self.latent = self.rom.vae.latent
