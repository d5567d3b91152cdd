"""The reduced-order model as one object: schema, normalisation, VAE, dynamics and calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from romvae.assembly import networks
from romvae.calibration import Calibration
from romvae.dynamics.residual import ResidualDynamics
from romvae.errors import ConfigError, SchemaError
from romvae.forecast import check_names, forecast
from romvae.normalise import Normaliser, ParameterScaling
from romvae.schema import LATENT, TIME, TRAJECTORY, Schema, canonical, check_snapshots
from romvae.tensors import field_tensor, largest_step, parameter_tensor, pod
from romvae.vae import VAE

__all__ = ["ROM"]


class ROM(nn.Module):
    """Reduced-order model: physical fields in, physical fields with uncertainty out.

    Build one with `ROM.for_data`, train it with `romvae.fit`, keep it with `save` and `load`.

    Arguments:
        schema: What the data look like.
        normaliser: Affine map of the fields to normalised units.
        scaling: Map of the physical parameters to [-1, 1].
        vae: Encoder, decoder and prior.
        dynamics: Time evolution of the latent.
        calibration: Factors on the forecast's variance; the identity before training.
        steps: Stored steps of a training trajectory: the horizon for which a forecast is calibrated.
        seed: Seed of the initial weights, for the record.
    """

    def __init__(
        self,
        schema: Schema,
        normaliser: Normaliser,
        scaling: ParameterScaling,
        vae: VAE,
        dynamics: ResidualDynamics,
        calibration: Calibration,
        steps: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.schema, self.steps, self.seed = schema, steps, seed
        self.normaliser, self.scaling = normaliser, scaling
        self.vae, self.dynamics, self.calibration = vae, dynamics, calibration

    @classmethod
    def for_data(
        cls,
        ds: xr.Dataset,
        *,
        latent: int | None = None,
        patch: int | None = None,
        channels: int | None = None,
        blocks: int | None = None,
        hidden: int | None = None,
        depth: int | None = None,
        members: int = 4,
        noise_floor: float = 1e-3,
        seed: int = 0,
    ) -> ROM:
        """Builds an untrained ROM whose sizes follow from the data, and which starts as POD.

        Arguments:
            ds: Training snapshots, `parts.train`; nothing is read from any other part.
            latent: Latent dimension; None takes the number of POD modes that hold 99.9 % of the variance, between 4
                and 32.
            patch: Grid points per axis in a patch; None follows from the grid.
            channels: Channels at the finest level; None chooses 32 (1-D and 2-D) or 24 (3-D).
            blocks: Residual blocks per level; None chooses 1.
            hidden: Width of the dynamics; None chooses 192.
            depth: Hidden layers of the dynamics; None chooses 3.
            members: Networks in the dynamics ensemble.
            noise_floor: Smallest standard deviation of the decoder, as a fraction of each field's own.
            seed: Seed of the initial weights.

        Raises:
            SchemaError: The data are not canonical.
            DataError: A value is not finite, or a field is constant.
        """
        sizes = {"latent": latent, "patch": patch, "channels": channels, "hidden": hidden, "depth": depth}
        for name, value in {**sizes, "members": members, "noise_floor": noise_floor}.items():
            if value is not None and not value > 0:
                raise ConfigError(
                    f"ROM.for_data: {name} is {value}, expected a positive number. Leave it out or raise it."
                )
        check_snapshots(ds)
        ds = canonical(ds)
        schema = Schema.of(ds)
        check_names(schema)
        normaliser = Normaliser.of(
            (
                [np.asarray(ds[name].isel({TRAJECTORY: i}).values) for name in schema.field_names]
                for i in range(ds.sizes[TRAJECTORY])
            ),
            schema.field_names,
        )
        scaling = ParameterScaling([p.low for p in schema.parameters], [p.high for p in schema.parameters])
        x = field_tensor(ds, schema, normaliser)
        mean, modes, std = pod(x.flatten(0, 1), latent or 64)
        if latent is None:
            energy = std.square().cumsum(0) / x.flatten(2).var((0, 1), correction=0).sum()
            latent = int(min(32, max(4, 1 + int((energy < 0.999).sum()))))
            mean, modes, std = mean, modes[:latent], std[:latent]
        config: dict[str, Any] = {
            "latent": latent,
            "patch": patch,
            "channels": channels,
            "blocks": 1 if blocks is None else blocks,
            "hidden": 192 if hidden is None else hidden,
            "depth": 3 if depth is None else depth,
            "members": members,
            "noise_floor": noise_floor,
            "stride": largest_step(x),
            "steps": ds.sizes[TIME] - 1,
            "seed": seed,
        }
        rom = _assembled(schema, normaliser, scaling, config)
        rom.vae.encoder.start_from_pod(mean, modes, std)
        rom.vae.decoder.mean.start_from_pod(mean, modes, std)
        return rom

    @property
    def config(self) -> dict[str, Any]:
        """The resolved sizes, JSON types only."""
        layout, dynamics = self.vae.encoder.layout, self.dynamics
        return {
            "latent": layout.latent,
            "patch": layout.patch,
            "channels": layout.channels[0],
            "blocks": layout.blocks,
            "hidden": dynamics.weights[0].shape[-1],
            "depth": len(dynamics.weights) - 1,
            "members": dynamics.members,
            "noise_floor": self.vae.decoder.floor,
            "stride": dynamics.stride,
            "steps": self.steps,
            "seed": self.seed,
        }

    # -- between physical fields and latents

    def normalised(self, ds: xr.Dataset) -> tuple[Tensor, Tensor]:
        """Checked snapshots as normalised tensors.

        Returns:
            Fields `(trajectory, time, channel, *space)` and parameters `(trajectory, parameter)`.
        """
        self.schema.check(ds, time=TIME in ds.dims and ds.sizes[TIME] > 1)
        for dim in (TRAJECTORY, TIME):
            if dim not in ds.dims:
                ds = ds.expand_dims(dim)
        return field_tensor(ds, self.schema, self.normaliser), parameter_tensor(ds, self.schema, self.scaling)

    @torch.no_grad()
    def encode(self, ds: xr.Dataset) -> xr.Dataset:
        """Codes of snapshots: `latent_mean` and `latent_std` with dims `(trajectory, time, latent)`."""
        x, _ = self.normalised(ds)
        qs = [self.vae.encoder(part).base_dist for part in x.flatten(0, 1).split(1024)]
        shape = (*x.shape[:2], self.vae.latent)
        dims = (TRAJECTORY, TIME, LATENT)
        coords = {d: ds[d] for d in (TRAJECTORY, TIME) if d in ds.dims and d in ds.coords}
        return xr.Dataset(
            {
                "latent_mean": (dims, torch.cat([q.mean for q in qs]).reshape(shape).numpy()),
                "latent_std": (dims, torch.cat([q.stddev for q in qs]).reshape(shape).numpy()),
            },
            coords,
        )

    @torch.no_grad()
    def decode(self, latent: xr.DataArray) -> xr.Dataset:
        """Fields of latents: for each field `u` the mean `u` and the decoder's local standard deviation `u_std`.

        Arguments:
            latent: Any dims, the last one `latent`; the field's dims are the others followed by the grid's.
        """
        if latent.dims[-1:] != (LATENT,) or latent.sizes[LATENT] != self.vae.latent:
            raise SchemaError(
                f"decode: dims are {dict(latent.sizes)}, expected `latent` of size {self.vae.latent} last. "
                "Transpose it, or encode the fields with this ROM."
            )
        z = torch.from_numpy(np.ascontiguousarray(latent.values, dtype=np.float32))
        ps = [self.vae.decoder(part).base_dist for part in z.reshape(-1, self.vae.latent).split(512)]
        mean = self.normaliser.inverse(torch.cat([p.mean for p in ps]))
        std = self.normaliser.inverse_std(torch.cat([p.stddev for p in ps]))
        lead = latent.dims[:-1]
        dims, shape = (*lead, *self.schema.grid.names), tuple(latent.sizes[d] for d in lead)
        out: dict[str, Any] = {}
        for k, field in enumerate(self.schema.fields):
            for name, values in ((field.name, mean), (f"{field.name}_std", std)):
                out[name] = (
                    dims,
                    values[:, k].reshape(*shape, *self.schema.grid.shape).numpy(),
                    {"units": field.units},
                )
        return xr.Dataset(out, {**{d: latent[d] for d in lead if d in latent.coords}, **self.space()})

    # -- forecast

    @torch.no_grad()
    def rollout(
        self, start: xr.Dataset, steps: int | None = None, members: int = 32, seed: int = 0, level: float = 0.9
    ) -> xr.Dataset:
        """Forecast from initial fields and parameters, with uncertainty maps.

        Arguments:
            start: One snapshot or one per trajectory, on the ROM's grid, with its parameters as coordinates. A `time`
                dimension must have a single entry, `ds.isel(time=0)` selects one.
            steps: Stored steps to forecast; None takes the length of a training trajectory, for which the
                uncertainty is calibrated. Beyond it the last factors are held.
            members: Members of the ensemble, 1 or more; 16 to 64.
            seed: Seed of the members.
            level: Nominal coverage of the interval `u_lower` to `u_upper`, in (0, 1).

        Returns:
            For each field `u`, on the snapshots' own dims and times 0 to `steps`: `u` (mean), `u_std`,
            `u_std_decoder` (what the code cannot represent), `u_std_dynamics` (what the forecast does not know; with
            the decoder's part it adds up in squares to `u_std`), `u_lower`, `u_upper`; and `latent`, the members' mean.
            The intervals hold point by point; the points of a field are not independent of each other.

        Raises:
            SchemaError: Grid, fields, units or parameters differ from the ROM's.
            DataError: A start value is not finite.
            ConfigError: `steps`, `members` or `level` is out of range.
            NumericsError: The latent diverged, with the step.

        Warns:
            OutOfRangeWarning: A parameter lies outside the training range.
            FewMembersWarning: There are too few members to trust the spread.
        """
        return forecast(self, start, self.steps if steps is None else steps, members, seed, level)

    def space(self) -> dict[str, Any]:
        """Coordinates of the grid with their units, as xarray takes them."""
        return {a.name: (a.name, np.asarray(a.coordinates), {"units": a.units}) for a in self.schema.grid.axes}

    # -- keeping

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the ROM as a folder of JSON and safetensors with a checksum manifest; it appears whole or not at all.

        Raises:
            OutputError: The path exists and `overwrite` is off, or it cannot be written.
        """
        from romvae.checkpoint import save_rom

        return save_rom(self, Path(path), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> ROM:
        """Reads a saved ROM; no code in the file is executed and every checksum is verified.

        Raises:
            CheckpointError: Something is missing, damaged, or made by a newer version.
        """
        from romvae.checkpoint import load_rom

        return load_rom(Path(path))

    def state_arrays(self) -> dict[str, Tensor]:
        """All weights and buffers, contiguous, by name."""
        return {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}

    def description(self) -> str:
        """Schema and resolved sizes as JSON text."""
        return json.dumps({"schema": json.loads(self.schema.to_json()), "model": self.config}, indent=2)

    @classmethod
    def from_description(cls, text: str) -> ROM:
        """An untrained ROM of the described sizes; the inverse of `description`."""
        content = json.loads(text)
        schema = Schema.from_json(json.dumps(content["schema"]))
        n, count = len(schema.fields), len(schema.parameters)
        return _assembled(
            schema, Normaliser([0.0] * n, [1.0] * n), ParameterScaling([0.0] * count, [1.0] * count), content["model"]
        )


def _assembled(schema: Schema, normaliser: Normaliser, scaling: ParameterScaling, config: dict[str, Any]) -> ROM:
    vae, dynamics = networks(schema, normaliser, config)
    calibration = Calibration(len(schema.fields))
    return ROM(schema, normaliser, scaling, vae, dynamics, calibration, config["steps"], config["seed"])
