"""POD with the ROM's own network dynamics: what is left of the ROM without its autoencoder."""

from __future__ import annotations

import time
import warnings
from typing import Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike

from romvae.baselines.base import Baseline, State, check_rank, check_times, register
from romvae.baselines.paths import steps_of, time_step
from romvae.baselines.stack import FieldStack
from romvae.budget import LEAST, affordable
from romvae.errors import OutOfRangeWarning
from romvae.progress import Progress
from romvae.propagation import network_paths
from romvae.schema import LATENT, TIME, TRAJECTORY

__all__ = ["PODNetwork"]

DEFAULT_STEPS = 2500


@register
class PODNetwork(Baseline):
    """The ROM with `compression="pod"`: POD in place of the autoencoder, all else the same.

    Arguments:
        latent: Number of modes; None chooses as `ROM.for_data` does.
        steps: Steps of the dynamics' training; None takes those of `romvae.fit`, or what the budget allows.

    Attributes:
        rom: The fitted ROM.
    """

    name = "pod_network"

    def __init__(self, latent: int | None = None, steps: int | None = None) -> None:
        super().__init__()
        self.latent, self.steps = check_rank(self.name, latent), steps

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
        self.stack = FieldStack.of(train)
        self.dt = time_step(train[TIME].values, self.name)
        if validation is None:
            order = np.random.default_rng(seed).permutation(train.sizes[TRAJECTORY])
            fifth = max(1, round(len(order) / 5))
            validation, train = train.isel({TRAJECTORY: order[:fifth]}), train.isel({TRAJECTORY: order[fifth:]})
        parts = Parts(train, validation, validation, validation, train)
        self.rom = ROM.for_data(train, latent=self.latent, seed=seed, compression="pod", variance="global")
        steps = self.steps
        if steps is None and budget is not None:
            wanted = {"vae_steps": 1, "variance_steps": 1, "dynamics_steps": DEFAULT_STEPS}
            share = affordable(self.rom, parts, wanted, budget, seed, {"fallback": "never"}).share
            steps = round(DEFAULT_STEPS * max(LEAST, share))
        began = time.process_time()
        fit(self.rom, parts, seed=seed, dynamics_steps=steps, progress=progress, fallback="never")
        taken = steps or DEFAULT_STEPS
        self.choice = {"latent": self.rom.vae.latent, "steps": taken, "seconds": time.process_time() - began}
        return self

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
