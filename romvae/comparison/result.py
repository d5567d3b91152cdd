"""What a comparison measured, and how it is kept on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from romvae.atomic import atomic_folder
from romvae.errors import CheckpointError

__all__ = ["Comparison"]


@dataclass
class Comparison:
    """What was measured, enough to render the report again.

    Arguments:
        metrics: Numbers by name, JSON types only; see README.
        series: Scores over lead time, reliability over nominal levels, KL per latent dimension.
        examples: Truth, mean, standard deviations and interval of a few held-out trajectories.
        info: Configuration, environment, training curves.
        latent: What `romvae.latent.latent_summary` says of the code; empty in comparisons of earlier versions.
    """

    metrics: dict[str, Any]
    series: xr.Dataset
    examples: xr.Dataset
    info: dict[str, Any] = field(default_factory=dict)
    latent: xr.Dataset = field(default_factory=xr.Dataset)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes `metrics.json`, `info.json`, `series.nc`, `examples.nc` and `latent.nc`, whole or not at all."""
        with atomic_folder(folder, overwrite) as target:
            for name, content in (("metrics", self.metrics), ("info", self.info)):
                (target / f"{name}.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
            self.series.to_netcdf(target / "series.nc", engine="h5netcdf")
            self.examples.to_netcdf(target / "examples.nc", engine="h5netcdf")
            self.latent.to_netcdf(target / "latent.nc", engine="h5netcdf")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: A part is missing or cannot be read.
        """
        folder = Path(folder)
        try:
            texts = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("metrics", "info")]
            series = xr.load_dataset(folder / "series.nc", engine="h5netcdf")
            examples = xr.load_dataset(folder / "examples.nc", engine="h5netcdf")
            kept = folder / "latent.nc"
            latent = xr.load_dataset(kept, engine="h5netcdf") if kept.exists() else xr.Dataset()
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder}: no readable comparison: {error}. Run `romvae compare` again.") from error
        return cls(texts[0], series, examples, texts[1], latent)
