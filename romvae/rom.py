"""The reduced-order model as one object: schema, normalisation, VAE, dynamics and calibration."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from romvae.boundary import Boundary
from romvae.calibration import Calibration
from romvae.dynamics.residual import ResidualDynamics
from romvae.errors import ConfigError, DataError, FewMembersWarning, SchemaError
from romvae.nn.decoder import FieldDecoder
from romvae.nn.encoder import Encoder
from romvae.nn.layout import Layout
from romvae.nn.observation import LocalGaussian
from romvae.nn.padding import Sides
from romvae.normalise import Normaliser, ParameterScaling
from romvae.rollout import calibrated, forecast_moments, latent_members
from romvae.schema import LATENT, TIME, TRAJECTORY, Schema, canonical, check_snapshots
from romvae.tensors import field_tensor, largest_step, parameter_tensor, pod
from romvae.vae import VAE

__all__ = ["ROM"]

FEW_MEMBERS = 8
"""With fewer members than this a forecast warns that its spread is not to be trusted."""
LINEAR_LIMIT = 2**25
"""Largest number of weights in the linear path of encoder or decoder; above it there is none."""


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
        rom = _build(schema, normaliser, scaling, config)
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
                out[name] = (dims, values[:, k].reshape(*shape, *self.schema.grid.shape).numpy(), _attrs(field.units))
        return xr.Dataset(out, {**{d: latent[d] for d in lead if d in latent.coords}, **self._space()})

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
        steps = self.steps if steps is None else steps
        for name, value in (("steps", steps), ("members", members)):
            if value < 1:
                raise ConfigError(f"rollout: {name} is {value}, expected 1 or more. Choose a positive number.")
        if not 0 < level < 1:
            raise ConfigError(f"rollout: level is {level}, expected between 0 and 1. Choose 0.9, for example.")
        if TIME in start.dims and start.sizes[TIME] != 1:
            raise DataError(
                f"rollout: start holds {start.sizes[TIME]} times, expected one. Select the one to start from, "
                "start.isel(time=0)."
            )
        if members < FEW_MEMBERS:
            warnings.warn(
                f"rollout: {members} members say little about the spread of a forecast, and its interval was "
                "calibrated with 16. Use 16 or more for the uncertainty; the mean is fine.",
                FewMembersWarning,
                stacklevel=2,
            )
        single = TRAJECTORY not in start.dims
        x, c = self.normalised(start)
        _finite(x, self.schema)
        pieces = [
            self._forecast(x[i : i + 16, 0], c[i : i + 16], steps, members, seed, level, i)
            for i in range(0, len(x), 16)
        ]
        t0 = float(np.asarray(start[TIME].values).reshape(-1)[0]) if TIME in start.coords else 0.0
        times = t0 + self.schema.dt * np.arange(steps + 1)
        dims = (TRAJECTORY, TIME, *self.schema.grid.names)
        out: dict[str, Any] = {}
        units = {f.name: f.units for f in self.schema.fields}
        for name in pieces[0]:
            values = np.concatenate([piece[name] for piece in pieces])
            field = next((f for f in units if name == f or name.startswith(f + "_")), "")
            out[name] = ((TRAJECTORY, TIME, LATENT), values) if name == LATENT else (dims, values, _attrs(units[field]))
        coords: dict[str, Any] = {**self._space(), TIME: (TIME, times, _attrs(self.schema.time_units))}
        if TRAJECTORY in start.coords:
            coords[TRAJECTORY] = start[TRAJECTORY].variable if not single else (TRAJECTORY, [int(start[TRAJECTORY])])
        for name in self.schema.parameter_names:
            coords[name] = (TRAJECTORY, np.asarray(start[name].values).reshape(-1), start[name].attrs)
        forecast = xr.Dataset(
            out,
            coords,
            {
                "Conventions": "CF-1.11 romvae-1",
                "level": level,
                "members": members,
                "seed": seed,
                "calibration_trajectories": int(self.calibration.trajectories),
            },
        )
        if "boundary_conditions" in start.attrs:
            forecast.attrs["boundary_conditions"] = start.attrs["boundary_conditions"]
        return forecast.isel({TRAJECTORY: 0}) if single else forecast

    def _forecast(
        self, x0: Tensor, c: Tensor, steps: int, members: int, seed: int, level: float, first: int
    ) -> dict[str, np.ndarray]:
        """Forecast of a block of trajectories as arrays `(trajectory, time, *space)`."""
        path = latent_members(self.vae, self.dynamics, x0, c, steps, members, seed, first)
        shape = (steps + 1, len(x0), *self.schema.grid.shape)
        kinds = ("", "_std", "_std_decoder", "_std_dynamics", "_lower", "_upper")
        out = {f + kind: np.empty(shape, np.float32) for f in self.schema.field_names for kind in kinds}
        for moments in forecast_moments(self.vae, path, torch.arange(steps + 1)):
            stds = calibrated(moments, self.calibration, level)
            mean = self.normaliser.inverse(moments.mean.flatten(0, 1)).reshape(moments.mean.shape)
            total, decoder, dynamics, half = (
                self.normaliser.inverse_std(s.flatten(0, 1)).reshape(s.shape) for s in stds
            )
            rows = moments.lead.numpy()
            for k, f in enumerate(self.schema.field_names):
                parts = (mean, total, decoder, dynamics, mean - half, mean + half)
                for kind, values in zip(kinds, parts, strict=True):
                    out[f + kind][rows] = values[:, :, k].numpy()
        result = {name: np.swapaxes(values, 0, 1) for name, values in out.items()}
        result[LATENT] = path.mean(1).transpose(0, 1).numpy()
        return result

    def _space(self) -> dict[str, Any]:
        return {a.name: (a.name, np.asarray(a.coordinates), _attrs(a.units)) for a in self.schema.grid.axes}

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
        return _build(
            schema, Normaliser([0.0] * n, [1.0] * n), ParameterScaling([0.0] * count, [1.0] * count), content["model"]
        )


def _build(schema: Schema, normaliser: Normaliser, scaling: ParameterScaling, config: dict[str, Any]) -> ROM:
    """Assembles a ROM from its resolved sizes; the global random state is left as it was."""
    sides: tuple[Sides, ...] = tuple((a.lower.kind, a.upper.kind) for a in schema.grid.axes)
    fields, shape, latent = len(schema.fields), schema.grid.shape, config["latent"]
    values = _boundary_values(schema, normaliser)
    layout = Layout.for_grid(
        fields, shape, sides, latent, config["patch"], config["channels"], config["blocks"], values
    )
    thin, blocks = max(4, layout.channels[0] // 2), min(1, layout.blocks)
    small = Layout.for_grid(fields, shape, sides, latent, layout.patch, thin, blocks, values)
    linear = layout.latent * layout.points <= LINEAR_LIMIT
    with torch.random.fork_rng():
        torch.manual_seed(config["seed"])
        decoder = LocalGaussian(
            FieldDecoder(layout, linear), FieldDecoder(small, linear=False, smooth=0), config["noise_floor"]
        )
        vae = VAE(Encoder(layout, linear), decoder)
        dynamics = ResidualDynamics(
            layout.latent,
            len(schema.parameters),
            schema.dt,
            config["stride"],
            config["members"],
            config["hidden"],
            config["depth"],
            config["seed"],
        )
    return ROM(schema, normaliser, scaling, vae, dynamics, Calibration(fields), config["steps"], config["seed"])


def _boundary_values(schema: Schema, normaliser: Normaliser) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    """Prescribed boundary values of each field in normalised units, by axis and side; empty where there are none."""
    sides = [(axis.lower, axis.upper) for axis in schema.grid.axes]
    if not any(side.kind == "value" for pair in sides for side in pair):
        return ()
    scale = list(zip(schema.field_names, normaliser.mean.tolist(), normaliser.std.tolist(), strict=True))

    def normalised(side: Boundary) -> tuple[float, ...]:
        given = dict(side.value)
        return tuple((given.get(name, 0.0) - mean) / std for name, mean, std in scale)

    return tuple((normalised(lower), normalised(upper)) for lower, upper in sides)


def _attrs(units: str) -> dict[str, str]:
    return {"units": units}


def _finite(x: Tensor, schema: Schema) -> None:
    bad = (~x.isfinite()).nonzero()
    if len(bad):
        trajectory, _, channel, *space = (int(i) for i in bad[0])
        place = ", ".join(f"{d}={i}" for d, i in zip(schema.grid.names, space, strict=True))
        raise DataError(
            f"rollout: start field {schema.field_names[channel]!r} is not finite at trajectory={trajectory}, {place}. "
            "Repair the initial field."
        )
