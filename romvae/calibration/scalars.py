"""Scores of quantities of interest: one number per trajectory and lead time, calibrated on its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from romvae.calibration.conformal import Guarantee, conformal_quantile
from romvae.calibration.lead import interpolate
from romvae.errors import ConfigError

__all__ = ["ScalarScores"]


class ScalarScores(nn.Module):
    """For each quantity by name: |forecast - truth| in units of its own spread, `(lead, trajectory)`.

    The points of a field depend on each other in ways that a local variance does not know, so that the interval of
    a mean or a maximum cannot be computed from theirs; it is measured.
    """

    @property
    def names(self) -> list[str]:
        return sorted({_shown(name.rpartition("__")[0]) for name in self._buffers})

    def keep(self, name: str, lead: Tensor, score: Tensor) -> None:
        """Keeps the scores of a quantity, replacing earlier ones of that name.

        Arguments:
            name: Of the quantity.
            lead: Calibrated lead times in stored steps, `(lead,)`.
            score: Shape `(lead, trajectory)`.
        """
        self.register_buffer(f"{_kept(name)}__lead", lead.double())
        self.register_buffer(f"{_kept(name)}__score", score.float())

    def trajectories(self, name: str) -> int:
        """Calibration trajectories behind a quantity."""
        return int(self._of(name)[1].shape[-1])

    def at(self, name: str, lead: Tensor, level: float) -> tuple[Tensor, Tensor]:
        """Factor on the standard deviation and half-width of the interval, both in units of the raw spread, `(time,)`.

        Raises:
            ConfigError: The quantity is not calibrated.
        """
        knots, score = self._of(name)
        rms = score.double().square().mean(-1).sqrt()
        width = conformal_quantile(score, level, score.shape[-1]).double()
        return interpolate(knots, rms, lead), interpolate(knots, width, lead)

    def guarantee(self, name: str, level: float) -> Guarantee:
        """What the interval of a quantity promises; its `str` is a sentence.

        Raises:
            ConfigError: The quantity is not calibrated.
        """
        return Guarantee(level, "the value at each calibrated lead time taken by itself", self.trajectories(name))

    def _of(self, name: str) -> tuple[Tensor, Tensor]:
        kept = _kept(name)
        if f"{kept}__score" not in self._buffers:
            known = ", ".join(self.names) or "none"
            raise ConfigError(
                f"quantity {name!r} is not calibrated in this ROM (calibrated: {known}). Call "
                "romvae.quantities.calibrate(rom, parts.calibration, [...]) first."
            )
        return self.get_buffer(f"{kept}__lead"), self.get_buffer(f"{kept}__score")

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        for name in list(self._buffers):
            delattr(self, name)
        for name, value in state_dict.items():
            quantity, _, part = name.removeprefix(prefix).rpartition("__")
            if name.startswith(prefix) and part == "score":  # how many trajectories and lead times is free
                leads = state_dict.get(f"{prefix}{quantity}__lead", value).numel()
                n = value.shape[-1] if value.ndim == 2 else 0
                self.keep(_shown(quantity), torch.empty(leads), torch.empty(leads, n))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _kept(name: str) -> str:
    """The name under which torch keeps it: a dot would mean a part of the module."""
    return name.replace("%", "%25").replace(".", "%2E")


def _shown(kept: str) -> str:
    return kept.replace("%2E", ".").replace("%25", "%")
