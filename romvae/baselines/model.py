"""A fitted baseline as a model that can be handed on: schema, spread and calibrated intervals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from romvae.atomic import atomic_folder
from romvae.baselines.base import Baseline
from romvae.baselines.keeping import load_baseline, save_baseline
from romvae.calibration import Calibration, calibrated_steps, warn_beyond
from romvae.canonical import canonical, mask_of
from romvae.checkpoint import file_sha256
from romvae.errors import CheckpointError, ConfigError, DataError
from romvae.ragged import existing, ragged_lengths
from romvae.schema import TIME, TRAJECTORY, Schema
from romvae.start import check_start, start_time

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["BaselineModel", "Model", "load_model"]

Model: TypeAlias = "ROM | BaselineModel"
"""What a run holds, and what can be compared."""

FACTS, SPREAD, MANIFEST, INNER = "model.json", "calibration.safetensors", "manifest.json", "baseline"
LEADS, POINTS = 24, 4096
"""Lead times and grid points that the spread is fitted on."""
NEGLIGIBLE = 1e-6
"""A residual below this share of a field's standard deviation counts as it: an exact forecast has no other spread."""


@dataclass
class BaselineModel:
    r"""A baseline with a Gaussian residual: :math:`u = \hat u + \sigma_f(t)\, \varepsilon`, the same at every point.

    The standard deviation per field and lead time, and the half-widths of the intervals, are fitted to forecasts of
    calibration trajectories, as a ROM's are (`romvae.calibration`). It is the least that a forecast can say of its
    error; a ROM's maps of uncertainty have to be better than that to be worth anything.

    Attributes:
        baseline: Fitted.
        schema: What the data look like.
        calibration: Of the residuals, in units of `width`.
        width: Standard deviation of each field over the calibration trajectories, `(field,)`.
        steps: Stored steps of a training trajectory.
        mask: Where the domain is, `(*space)`; None where all points belong to it.
    """

    baseline: Baseline
    schema: Schema
    calibration: Calibration
    width: NDArray[np.float64]
    steps: int
    mask: NDArray[np.bool_] | None = None

    @property
    def name(self) -> str:
        """The baseline's."""
        return self.baseline.name

    @property
    def start_times(self) -> int:
        """Stored times that a forecast starts from, as `ROM.start_times`: baselines know of one."""
        return 1

    @property
    def steps_ahead(self) -> int:
        """Stored steps of a training trajectory after its start."""
        return self.steps

    @property
    def config(self) -> dict[str, Any]:
        """What it is, JSON types only."""
        return {"baseline": self.name, **self.baseline.choice}

    @classmethod
    def calibrated(cls, baseline: Baseline, schema: Schema, data: xr.Dataset, steps: int) -> BaselineModel:
        """Fits the spread to forecasts of trajectories that the baseline was not fitted to.

        Arguments:
            baseline: Fitted.
            schema: Of the training data.
            data: Calibration trajectories.
            steps: Stored steps of a training trajectory.

        Raises:
            DataError: No trajectory, or none with a second time.
        """
        data = canonical(data)
        lengths = ragged_lengths(data)
        last = data.sizes[TIME] - 1 if lengths is None else int(np.sort(lengths)[0]) - 1
        if data.sizes[TRAJECTORY] < 1 or last < 1:
            raise DataError(f"{baseline.name}: no calibration trajectory has a second time. Give longer ones.")
        leads = np.unique(np.linspace(0, last, min(LEADS, last + 1)).round().astype(int))
        mask = mask_of(data)
        forecast = baseline.rollout(data.isel({TIME: 0}), data[TIME].values[: last + 1])
        truth = _rows(data.isel({TIME: leads}), schema, mask)
        residual = np.abs(_rows(forecast.isel({TIME: leads}), schema, mask) - truth)
        whole = _rows(data, schema, mask)
        kept = np.ones(whole.shape[:2], bool) if lengths is None else existing(lengths, whole.shape[1])
        width = whole[kept].std((0, 2))
        width = np.where(width > 0, width, 1.0)
        ratio = torch.from_numpy(np.maximum(residual / width[:, None], NEGLIGIBLE)).permute(1, 2, 0, 3)
        pick = torch.from_numpy(np.sort(np.random.default_rng(0).permutation(ratio.shape[-1])[:POINTS]))
        calibration = Calibration(len(schema.fields))
        largest = ratio.amax(-1, keepdim=True).float()
        calibration.fit(torch.from_numpy(leads), ratio[..., pick].float(), (largest, torch.ones_like(largest)))
        return cls(baseline, schema, calibration, width, steps, mask)

    def rollout(
        self,
        start: xr.Dataset,
        steps: int | None = None,
        members: int = 0,
        seed: int = 0,
        level: float = 0.9,
        *,
        controls: xr.Dataset | None = None,
    ) -> xr.Dataset:
        """Forecast from initial fields and parameters, with an interval.

        Arguments:
            start: As for `ROM.rollout`.
            steps: Stored steps; None takes those of a training trajectory.
            members: Not looked at: a baseline has no members.
            seed: Not looked at.
            level: Nominal coverage of the interval.
            controls: Not looked at: baselines do not know of controls.

        Returns:
            For each field `u`: `u` (mean), `u_std`, `u_lower` and `u_upper`.

        Raises:
            SchemaError: Grid, fields, units or parameters differ from the training data's.
            ConfigError: `steps` or `level` is out of range.
            NumericsError: The forecast diverged.

        Warns:
            OutOfRangeWarning: A parameter lies outside the training range.
            BeyondCalibrationWarning: There are more steps than the uncertainty was calibrated for.
        """
        steps = self.steps if steps is None else steps
        check_start(start, steps=steps)
        if not 0 < level < 1:
            raise ConfigError(f"rollout: level is {level}, expected between 0 and 1. Choose 0.9, for example.")
        self.schema.check(start, time=False)
        warn_beyond(self.calibration, steps)
        mean = self.baseline.rollout(start, start_time(start) + self.schema.dt * np.arange(steps + 1))
        factor, half = self.calibration.at(torch.arange(steps + 1), level)
        std = factor.double().numpy() * self.width
        inside = np.ones(self.schema.grid.shape) if self.mask is None else self.mask.astype(float)
        out: dict[str, Any] = {}
        for k, field in enumerate(self.schema.field_names):
            u = mean[field]
            spread = xr.DataArray(std[:, k], dims=TIME) * xr.DataArray(inside, dims=self.schema.grid.names)
            spread = spread.broadcast_like(u.drop_vars(list(u.coords))).transpose(*u.dims)
            reach = spread * xr.DataArray(half[:, k].double().numpy(), dims=TIME)
            values = {"": u.values, "_std": spread.values, "_lower": u - reach, "_upper": u + reach}
            for suffix, each in values.items():
                out[field + suffix] = (u.dims, np.asarray(each, dtype=np.float32), {"units": _units(u)})
        attrs = {
            "Conventions": "CF-1.11 romvae-1",
            "baseline": self.name,
            "level": level,
            "calibration_trajectories": int(self.calibration.trajectories),
            "calibrated_steps": calibrated_steps(self.calibration),
            "calibration": self.calibration.statement(level),
        }
        return xr.Dataset(out, mean.coords, {**mean.attrs, **attrs})

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes a folder of JSON and safetensors with checksums; it appears whole or not at all.

        Raises:
            OutputError: The path exists and `overwrite` is off, or it cannot be written.
        """
        facts = {"schema": json.loads(self.schema.to_json()), "steps": self.steps}
        arrays = {f"calibration.{name}": value.contiguous() for name, value in self.calibration.state_dict().items()}
        arrays["width"] = torch.from_numpy(self.width)
        if self.mask is not None:
            arrays["mask"] = torch.from_numpy(self.mask)
        with atomic_folder(path, overwrite) as folder:
            save_baseline(self.baseline, folder / INNER)
            (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
            save_file(arrays, folder / SPREAD)
            sums = {name: file_sha256(folder / name) for name in (FACTS, SPREAD)}
            manifest = {"format": 1, "kind": "baseline", "sha256": sums}
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> BaselineModel:
        """Reads what `save` wrote; no code in the files is executed.

        Raises:
            CheckpointError: Something is missing, damaged, or of another format.
        """
        path = Path(path)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            for name in (FACTS, SPREAD):
                if file_sha256(path / name) != manifest["sha256"][name]:
                    raise CheckpointError(f"{path / name}: is damaged or changed. Copy the whole folder again.")
            facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
            schema = Schema.from_json(json.dumps(facts["schema"]))
            arrays = load_file(path / SPREAD)
            calibration = Calibration(len(schema.fields))
            calibration.load_state_dict(
                {n.removeprefix("calibration."): a for n, a in arrays.items() if n.startswith("calibration.")}
            )
            width = arrays["width"].double().numpy()
            mask = arrays["mask"].numpy().astype(bool) if "mask" in arrays else None
            if width.shape != (len(schema.fields),) or (mask is not None and mask.shape != schema.grid.shape):
                raise ValueError(f"width has shape {width.shape} for {len(schema.fields)} fields")
            steps = int(facts["steps"])
        except (CheckpointError, ConfigError):
            raise
        except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path}: cannot be read as a saved baseline: {reason}. Train again.") from error
        return cls(load_baseline(path / INNER), schema, calibration, width, steps, mask)


def load_model(path: Path) -> Model:
    """The model of a run, whichever it is.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    from romvae.rom import ROM

    return BaselineModel.load(path) if (path / FACTS).is_file() else ROM.load(path)


def _units(field: xr.DataArray) -> str:
    return str(field.attrs.get("units", "1"))


def _rows(ds: xr.Dataset, schema: Schema, mask: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Fields as `(trajectory, time, field, point)`, points of the domain only."""
    dims = (TRAJECTORY, TIME, *schema.grid.names)
    fields = [np.asarray(ds[name].transpose(*dims).values, dtype=np.float64) for name in schema.field_names]
    stacked = np.stack([each.reshape(*each.shape[:2], -1) for each in fields], axis=2)
    return stacked if mask is None else stacked[..., mask.reshape(-1)]
