"""What `romvae rollout` says of how long a forecast can be trusted, and of what its intervals are to hold."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from romvae.errors import ConfigError, DataError, FewTrajectoriesWarning

if TYPE_CHECKING:
    import xarray as xr

    from romvae.baselines.model import Model

__all__ = ["TOLERANCE", "PromiseOptions", "few_in_words", "ready", "summary", "warn_of_few"]

TOLERANCE = 0.1
"""Error, in standard deviations of the training data, up to which a forecast is trusted where nothing else is asked."""
_LEVEL = 0.9
"""Of intervals and the trust horizon where no other is asked for."""


@Parameter(name="*")
@dataclass(frozen=True)
class PromiseOptions:
    """What intervals are to hold, and how large an error is accepted.

    Arguments:
        tolerance: error, in standard deviations of the training data, up to which a forecast is trusted; OUT gets
            trust_horizon, the first lead time at which the error is expected to be larger. By default 0.1 where whole
            forecasts are asked for and there are enough calibration trajectories.
        until: the same tolerance, and each forecast ends at its trust horizon.
        interval: what an interval is to hold with the probability --level: the value at a point, a share of the points
            of the field at each time, or a share of all points and times of the run (the risk band).
        share: that share, 0.5, 0.8, 0.9, 0.95, 0.99, or 1 for all points at once.
    """

    tolerance: float | None = None
    until: float | None = None
    interval: Literal["point", "field", "run"] = "point"
    share: float = 0.9

    def check(self, many: bool) -> None:
        """Refuses what makes no sense before anything is opened.

        Arguments:
            many: Whether forecasts pass to the disk one by one.
        """
        for name, value in (("tolerance", self.tolerance), ("until", self.until)):
            if value is not None and not value > 0:
                raise ConfigError(f"--{name} = {value:g}: should be positive, such as 0.1.")
        if self.tolerance is not None and self.until is not None:
            raise ConfigError("--until is a tolerance too. Leave --tolerance out.")
        if self.until is not None and many:
            raise ConfigError(
                "--until ends forecasts that are held in memory together, not those of --n, --workers or --scheduler. "
                "Use --tolerance: OUT then says until when each of them is trusted."
            )

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for and is not the default, as `ROM.rollout` takes it."""
        asked = {"interval": self.interval, "share": self.share}
        return {name: value for name, value in asked.items() if value != getattr(PromiseOptions, name)}

    def tolerance_for(self, model: Model, level: float, whole: bool) -> float | None:
        """The tolerance of the trust horizon; None where there is to be none.

        Arguments:
            model: A ROM, or a baseline, which has no trust horizon.
            level: Share of new runs whose error is to stay below it.
            whole: Whether fields are asked for at all points and times, with their spread.

        Raises:
            DataError: A tolerance was asked for, and the ROM has too few calibration trajectories for the level.
        """
        asked = self.tolerance if self.until is None else self.until
        if asked is not None:
            return asked
        scores = getattr(model, "trust", None)
        if scores is None or not whole:
            return None
        try:
            scores.threshold(TOLERANCE, level)
        except DataError:
            return None
        return TOLERANCE

    def without(self, model: Model, level: float, whole: bool) -> str:
        """Why there is no trust horizon though whole forecasts of a ROM were asked for; empty where there is one.

        Arguments:
            model: As in `tolerance_for`, like the others.
            level: Share of new runs.
            whole: Whether whole forecasts are asked for.
        """
        scores = getattr(model, "trust", None)
        if scores is None or not whole or self.tolerance_for(model, level, whole) is not None:
            return ""
        if not scores.trajectories:
            return "no trust horizon: this ROM has no calibrated errors; romvae.calibrate_trust makes them"
        return f"no trust horizon: {few_in_words(level, scores.trajectories)}. Train on more, or lower --level."


def few_in_words(level: float, count: int) -> str:
    """How many trajectories a level takes, in a clause.

    Arguments:
        level: Share of new runs that something is to hold for.
        count: Calibration trajectories that there are.
    """
    from romvae.calibration import trajectories_needed
    from romvae.data.split import in_all

    needed = trajectories_needed(level)
    return (
        f"level {level:g} takes at least {needed} calibration trajectories, about {in_all('calibration', needed)} in "
        f"all with the usual shares; there {'is' if count == 1 else 'are'} {count}"
    )


def warn_of_few(count: int, source: str) -> None:
    """Says before a training that its calibration part is too small for what a forecast promises by default.

    Arguments:
        count: Calibration trajectories.
        source: The data.
    """
    from romvae.calibration import trajectories_needed

    if count < trajectories_needed(_LEVEL):
        warnings.warn(
            f"{source}: forecasts will have no trust horizon, and their 90 % intervals no guarantee: "
            f"{few_in_words(_LEVEL, count)}. Simulate more, or give calibration a larger share (--split.calibration).",
            FewTrajectoriesWarning,
            stacklevel=2,
        )


def ready(forecast: xr.Dataset, cut_off: bool) -> xr.Dataset:
    """A forecast as a store takes it: the horizon as a coordinate, since its variables are fields.

    Arguments:
        forecast: From `ROM.rollout` with a tolerance.
        cut_off: End each trajectory at its horizon; `n_steps` says where. Its initial field stays in any case.
    """
    from romvae.canonical import N_STEPS, TIME, TRAJECTORY
    from romvae.trust import HORIZON, cut

    if not cut_off:
        return forecast.set_coords(HORIZON)
    trusted = forecast[TIME] - forecast[TIME][0] < forecast[HORIZON]
    steps = trusted.sum(TIME).clip(min=1).astype("int32").assign_attrs(romvae_role="valid_length")
    return cut(forecast, least=1).set_coords(HORIZON).assign_coords({N_STEPS: (TRAJECTORY, steps.values, steps.attrs)})


def summary(forecast: xr.Dataset) -> str:
    """For how many trajectories a forecast is trusted to its end, and the median horizon, in a sentence."""
    import numpy as np

    from romvae.trust import HORIZON

    horizon = forecast[HORIZON]
    ends = np.isinf(horizon.values)
    median = float(np.median(horizon.values))
    units = str(horizon.attrs.get("units", "1"))
    time = f"{median:.4g}" + ("" if units == "1" else f" {units}")
    middle = time if np.isfinite(median) else "beyond the end"
    return (
        f"error below {horizon.attrs['tolerance']:g} of the field's standard deviation: trusted to the end for "
        f"{int(ends.sum())} of {ends.size} trajectories, median trust horizon {middle}"
    )
