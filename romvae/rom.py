"""The reduced-order model as one object: schema, normalisation, VAE, dynamics and calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from romvae.assembly import DYNAMICS_SIZES, networks, require_positive, resolved_choices
from romvae.calibration import Calibration, Interval, warn_beyond
from romvae.canonical import mask_of, require_mask
from romvae.data.manifest import Checksums, data_hash
from romvae.distributions import moments
from romvae.dynamics.base import EnsembleDynamics
from romvae.errors import ConfigError, SchemaError
from romvae.forecast import Propagation, Request, check_names, forecast
from romvae.kinds import DEFAULTS, Choices
from romvae.linear_start import modes_of, refined, start_from_linear
from romvae.normalise import Normaliser, ParameterScaling, UnitNormaliser
from romvae.quantities import Quantity
from romvae.schema import LATENT, TIME, TRAJECTORY, Schema, canonical, check_snapshots
from romvae.start import require_ahead
from romvae.statistics import field_statistics
from romvae.streamed import samples_of
from romvae.tensors import field_tensor, largest_step, parameter_tensor
from romvae.trust import TrustScores, cut, require_whole, trust_horizon
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
        steps: Stored steps of a training trajectory.
        seed: Seed of the initial weights, for the record.
        choices: Kinds of its parts, the keys of `assembly.DEFAULTS`; they must be those the parts were built with.

    Attributes:
        data_hash: SHA-256 of the training data that the normalisation was made from; empty where it is not known.
    """

    def __init__(
        self,
        schema: Schema,
        normaliser: Normaliser,
        scaling: ParameterScaling,
        vae: VAE,
        dynamics: EnsembleDynamics,
        calibration: Calibration,
        steps: int,
        seed: int = 0,
        choices: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.schema, self.steps, self.seed = schema, steps, seed
        self.data_hash = ""
        self.choices = {**DEFAULTS, **(choices or {})}
        self.normaliser, self.scaling = normaliser, scaling
        self.vae, self.dynamics, self.calibration = vae, dynamics, calibration
        self.trust = TrustScores()
        controls = schema.controls
        self.control_scaling: ParameterScaling | None = None
        if controls:
            self.control_scaling = ParameterScaling([c.low for c in controls], [c.high for c in controls])

    @property
    def start_times(self) -> int:
        """Stored times that a forecast starts from: up to the last of `given` fields, a large step apart."""
        return 1 + (int(self.choices["given"]) - 1) * self.dynamics.stride

    @property
    def steps_ahead(self) -> int:
        """Stored steps of a training trajectory after its start: the horizon for which a forecast is calibrated."""
        return self.steps + 1 - self.start_times

    @classmethod
    def for_data(
        cls,
        ds: xr.Dataset,
        *,
        latent: int | None = None,
        patch: int | None = None,
        channels: int | None = None,
        blocks: int | None = None,
        expand: int | None = None,
        hidden: int | None = None,
        depth: int | None = None,
        stride: int | None = None,
        members: int = 4,
        seed: int = 0,
        memory_budget: float | None = None,
        **choices: Unpack[Choices],
    ) -> ROM:
        """Builds an untrained ROM whose sizes follow from the data, and which starts as POD.

        Arguments:
            ds: Training snapshots, `parts.train`; nothing is read from any other part, nor beyond the end of a
                trajectory where they differ in length.
            latent: Latent dimension; None takes the number of POD modes that hold 99.9 % of the variance, between 4
                and 32.
            patch: Grid points per axis in a patch; None follows from the grid.
            channels: Channels at the finest level; None chooses 32 (1-D and 2-D; 64 in 2-D where it is the only level)
                or 24 (3-D).
            blocks: Residual blocks per level; None chooses 1.
            expand: Width of two fully connected layers of the decoder between the code and the convolutional trunk;
                None chooses 8 times the channels in 2-D and none in 1-D and 3-D, zero leaves them out.
            hidden: Width of the dynamics; None chooses by its kind, 192 for the default one.
            depth: Hidden layers of the dynamics; None chooses by its kind, 3 for the default one.
            stride: Stored steps in the largest step of the dynamics; None follows from how fast the fields change. 1
                suits `dynamics="ode"` where the equation is quadratic.
            members: Networks in the dynamics ensemble.
            seed: Seed of the initial weights.
            memory_budget: GB that the data may take; of larger ones, evenly chosen snapshots give POD and sizes. None
                does so where they would take more than half of the memory that is available.
            choices: What the model is made of, such as `variance="global"` or `compression="pod"`: see `Choices`.

        Raises:
            SchemaError: The data are not canonical.
            DataError: A value is not finite, a field is constant, or no time is left after the given fields.
        """
        if isinstance(latent, str):
            raise ConfigError(
                f"ROM.for_data: latent is {latent!r}, expected a number or None. To find the size that the data need, "
                "use latent=romvae.suggest_latent(parts).latent."
            )
        sizes = {"latent": latent, "patch": patch, "channels": channels, "hidden": hidden, "depth": depth}
        kinds = resolved_choices(choices)
        floors = {name: kinds[name] for name in ("noise_floor", "noise_std")}
        require_positive({**sizes, "stride": stride, "members": members, **floors})
        check_snapshots(ds, values=False)
        ds = canonical(ds)
        schema = Schema.of(ds)
        check_names(schema)
        names = list(schema.field_names)
        sums = Checksums().for_dims_of(ds)
        kind = Normaliser if kinds["observation"] == "gaussian" else UnitNormaliser
        normaliser = kind.from_statistics(field_statistics(ds, names, watch=sums))
        scaling = ParameterScaling([p.low for p in schema.parameters], [p.high for p in schema.parameters])
        x, scattered = samples_of(ds, schema, normaliser, memory_budget)
        modes = modes_of(scattered.flatten(0, 1), latent or 64)
        if latent is None:
            latent = int(min(32, max(4, 1 + int((modes.energy() < 0.999).sum()))))
            modes = modes.first(latent)
        if kinds["compression"] == "pod":
            modes = refined(modes, scattered.flatten(0, 1))
        mask = mask_of(ds)
        width, layers = DYNAMICS_SIZES.get(kinds["dynamics"], DYNAMICS_SIZES["residual"])
        # What a control, or the noise of a step, does within a longer step is not seen.
        single = bool(schema.controls) or kinds["transition"] == "gaussian"
        config: dict[str, Any] = {
            "latent": latent,
            "patch": patch,
            "channels": channels,
            "blocks": 1 if blocks is None else blocks,
            "expand": expand,
            "hidden": width if hidden is None else hidden,
            "depth": layers if depth is None else depth,
            "members": members,
            **kinds,
            "masked": mask is not None,
            "stride": largest_step(x, stride, single),
            "steps": ds.sizes[TIME] - 1,
            "seed": seed,
        }
        rom = _assembled(schema, normaliser, scaling, config)
        require_ahead(rom, ds.sizes[TIME], "ROM.for_data")
        if mask is not None and rom.vae.decoder.mask is not None:
            rom.vae.decoder.mask.copy_(torch.from_numpy(mask))
        start_from_linear(rom.vae, scattered.flatten(0, 1), modes, kinds["compression"])
        rom.data_hash = data_hash(ds, names, sums)
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
            "expand": layout.expand,
            "hidden": dynamics.hidden,
            "depth": dynamics.depth,
            "members": dynamics.members,
            **self.choices,
            "masked": self.vae.decoder.mask is not None,
            "stride": dynamics.stride,
            "steps": self.steps,
            "seed": self.seed,
        }

    # -- between physical fields and latents

    def normalised(self, ds: xr.Dataset, spacing: bool = True) -> tuple[Tensor, Tensor]:
        """Checked snapshots as normalised tensors; outside of the ROM's mask they are zero.

        Arguments:
            ds: Canonical, on the ROM's grid.
            spacing: Whether the spacing of the times has to be the ROM's; codes of snapshots do not depend on it.

        Returns:
            Fields `(trajectory, time, channel, *space)` and parameters `(trajectory, parameter)`.
        """
        self.schema.check(ds, time=spacing and TIME in ds.dims and ds.sizes[TIME] > 1)
        require_mask(ds, self.mask)
        for dim in (TRAJECTORY, TIME):
            if dim not in ds.dims:
                ds = ds.expand_dims(dim)
        x = self.vae.decoder.inside(field_tensor(ds, self.schema, self.normaliser))
        return x, parameter_tensor(ds, self.schema, self.scaling)

    @property
    def mask(self) -> np.ndarray | None:
        """Where the domain is, `(*space)`: True inside; None where all points belong to it."""
        mask = self.vae.decoder.mask
        return None if mask is None else mask.cpu().numpy()

    @torch.no_grad()
    def encode(self, ds: xr.Dataset) -> xr.Dataset:
        """Codes of snapshots: `latent_mean` and `latent_std` with dims `(trajectory, time, latent)`."""
        x, _ = self.normalised(ds)
        codes = [moments(self.vae.encoder(part)) for part in x.flatten(0, 1).split(1024)]
        shape = (*x.shape[:2], self.vae.latent)
        dims = (TRAJECTORY, TIME, LATENT)
        coords = {d: ds[d].variable for d in (TRAJECTORY, TIME) if d in ds.dims and d in ds.coords}
        return xr.Dataset(
            {
                "latent_mean": (dims, torch.cat([mean for mean, _ in codes]).reshape(shape).numpy()),
                "latent_std": (dims, torch.cat([std for _, std in codes]).reshape(shape).numpy()),
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
        ps = [self.vae.decoder(part) for part in z.reshape(-1, self.vae.latent).split(512)]
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
        self,
        start: xr.Dataset,
        steps: int | None = None,
        members: int = 32,
        seed: int = 0,
        level: float = 0.9,
        *,
        interval: Interval = "point",
        share: float = 0.9,
        propagation: Propagation = "members",
        quantities: Sequence[Quantity] = (),
        controls: xr.Dataset | None = None,
        tolerance: float | None = None,
        until: float | None = None,
        times: Sequence[float] | None = None,
        fields: Sequence[str] | None = None,
        region: Mapping[str, Any] | None = None,
        keep_members: bool = False,
    ) -> xr.Dataset:
        """Forecast from initial fields and parameters, with uncertainty maps.

        Arguments:
            start: One snapshot or one per trajectory, on the ROM's grid, with its parameters as coordinates. A `time`
                dimension must have a single entry, `ds.isel(time=0)` selects one; dynamics with memory (`gru`,
                `transformer`) take several, of which the last is the one to start from. The ROM's intervals are those
                of forecasts from `start_times` stored times, which follow from the choice `given`.
            steps: Stored steps to forecast; None takes those of a training trajectory after its start, for which the
                uncertainty is calibrated. Beyond it the last factors are held; the attribute `calibrated_steps` says
                where that begins.
            members: Members of the ensemble, 1 or more; 16 to 64.
            seed: Seed of the members.
            level: Nominal coverage of the interval `u_lower` to `u_upper`, in (0, 1); for single points guaranteed at
                0.5, 0.8, 0.9 and 0.95, and read off these at others.
            interval: What the interval is to hold, with the probability `level`: the value at a point (`point`), a
                share of the points of the field at each time (`field`), or a share of all points and times of the run
                (`run`, over the calibrated lead times). `run` with the share 0.9 is the risk band: at least 90 % of
                the points in at least 90 % of the runs.
            share: That share: 0.5, 0.8, 0.9, 0.95, 0.99, or 1 for all points at once.
            propagation: `members` follows samples; `linear` propagates the posterior's covariance to first order,
                without sampling noise, for small spread only. The calibration was made with members. `auto` chooses
                between the two by a few frames that are tried first (`romvae.agreement`); the attributes `propagation`
                and `propagation_choice` say which and why. `mean` gives the mean alone, at the cost of decoding one
                code for each time: what the networks reach from the posterior's mean, averaged.
            quantities: Numbers wanted per trajectory and time, such as a maximum or a probe, each calibrated on its
                own: see `romvae.quantities`.
            controls: Where the ROM was trained with controls (`rom.schema.controls`), a Dataset that holds them at
                the times of the forecast, such as the data that `start` was taken from.
            tolerance: Adds `trust_horizon`, the first lead time at which the predicted error of each trajectory
                exceeds this many of the field's standard deviations over the training data (0.05: five per cent),
                so that of new runs a share of `level` stays below it until then: see `romvae.trust`.
            until: The same tolerance, and the forecast ends there: values are NaN from a trajectory's horizon on, and
                times that no trajectory reaches are left out. What is cut off has been computed all the same.
            times: Which of the forecast's times are wanted, in the data's units; None takes all stored ones. Neither
                other times nor what follows are decoded. Times between stored ones can be had where the dynamics takes
                any step (`ode`; networks whose largest step is several stored ones); their uncertainty is interpolated.
            fields: Names of the fields that are wanted; None takes all.
            region: Which part of the grid is decoded, two ends for each axis that is cut: `{"x": (0.2, 0.5)}`.
            keep_members: Adds for each field `u_members` with a dim `member`: the mean that each member decodes to. It
                takes as much memory as `members` fields; only with `propagation="members"`.

        Returns:
            For each field `u`, on the snapshots' own dims and times 0 to `steps`: `u` (mean), `u_std`,
            `u_std_decoder` (what the code cannot represent), `u_std_dynamics` (what the forecast does not know; with
            the decoder's part it adds up in squares to `u_std`), the latter's two parts `u_std_posterior` (what the
            initial field leaves open; with stochastic dynamics also their noise) and `u_std_ensemble` (where the
            networks disagree), `u_lower`, `u_upper`; for each quantity its mean, `_std`, `_lower` and `_upper`; and
            `latent`, the members' mean. `u_members` are forecasts that could be, as far as the posterior of the initial
            field and the networks leave them open; their mean is `u`. The decoder's noise is not in them: it would be
            independent at every point, which no field is. So they spread less than `u_std`, and are not scaled by the
            calibration. The attributes `calibration` and `guarantee` say what the intervals promise.
            The points of a field are not independent of each other: a sample of the forecast is not drawn point by
            point.

        Raises:
            SchemaError: Grid, fields, units or parameters differ from the ROM's.
            DataError: A start value is not finite.
            ConfigError: `steps`, `members` or `level` is out of range, a time, field or region is not the ROM's, or
                members are to be kept where none are followed.
            NotEnoughMemoryError: The members that are to be kept do not fit into memory.
            DivergedError: The latent diverged, with the trajectory, the step and what to do.

        Warns:
            OutOfRangeWarning: A parameter lies outside the training range.
            HeldBackWarning: Latents go twice as far out as any training code, and are held there.
            BeyondCalibrationWarning: There are more steps than the uncertainty was calibrated for; one of the former.
            FewMembersWarning: There are too few members to trust the spread.
            OtherStartWarning: The start gives another number of fields than the forecasts of the calibration had.
        """
        ask = Request(
            steps=self.steps_ahead if steps is None else steps,
            members=members,
            seed=seed,
            level=level,
            interval=interval,
            share=share,
            propagation=propagation,
            quantities=tuple(quantities),
            times=times,
            fields=fields,
            region=region,
            keep_members=keep_members,
        )
        warn_beyond(self.calibration, ask.steps)
        wanted = tolerance if until is None else until
        if wanted is not None:
            require_whole(propagation, times, fields, region)
        result = forecast(self, start, ask, controls)
        if wanted is None:
            return result
        result = result.assign(trust_horizon=trust_horizon(self, result, wanted, level))
        return result if until is None else cut(result)

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
        content["model"] = {**DEFAULTS, "expand": 0, **content["model"]}  # what came later, as it was before
        schema = Schema.from_json(json.dumps(content["schema"]))
        n, count = len(schema.fields), len(schema.parameters)
        return _assembled(
            schema, Normaliser([0.0] * n, [1.0] * n), ParameterScaling([0.0] * count, [1.0] * count), content["model"]
        )


def _assembled(schema: Schema, normaliser: Normaliser, scaling: ParameterScaling, config: dict[str, Any]) -> ROM:
    vae, dynamics = networks(schema, normaliser, config)
    calibration = Calibration(len(schema.fields))
    choices = resolved_choices({name: config[name] for name in DEFAULTS})
    return ROM(schema, normaliser, scaling, vae, dynamics, calibration, config["steps"], config["seed"], choices)
