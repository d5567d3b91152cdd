"""Affine normalisation per field and of the physical parameters; it travels with the weights.

Affine on purpose: a Gaussian in normalised units is a Gaussian in physical ones, and a standard deviation is exactly
the scale times the network's. Logarithms of fields belong to data preparation (store `log_density` as the field).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from romvae.errors import DataError
from romvae.statistics import FieldStatistics, require_scale

__all__ = ["FieldStatistics", "Normaliser", "ParameterScaling", "UnitNormaliser"]


class Normaliser(nn.Module):
    """x = (u - mean) / std, one mean and one standard deviation per field.

    Arguments:
        mean: Mean of each field, physical units.
        std: Standard deviation of each field, physical units, positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float64))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float64))

    @classmethod
    def of(cls, blocks: Iterable[Sequence[np.ndarray]], names: Sequence[str]) -> Normaliser:
        """Fits the statistics in one streamed pass.

        Arguments:
            blocks: For each block (a trajectory, say) one array per field, any shape.
            names: Field names, for the messages.

        Raises:
            DataError: A field is constant, so that it has no scale.
        """
        statistics = {name: FieldStatistics() for name in names}
        for block in blocks:
            statistics = {name: s.add(values) for (name, s), values in zip(statistics.items(), block, strict=True)}
        return cls.from_statistics(statistics)

    @classmethod
    def from_statistics(cls, statistics: Mapping[str, FieldStatistics]) -> Normaliser:
        """The normaliser of fields whose statistics are known, in their order.

        Raises:
            DataError: A field is constant, so that it has no scale.
        """
        require_scale(statistics)
        return cls([s.mean for s in statistics.values()], [s.std for s in statistics.values()])

    def _shape(self, value: Tensor, like: Tensor) -> Tensor:
        return value.to(like.dtype).reshape(-1, *[1] * (like.ndim - 2))

    def forward(self, u: Tensor) -> Tensor:
        """Physical fields `(batch, channel, *space)` to normalised ones."""
        return (u - self._shape(self.mean, u)) / self._shape(self.std, u)

    def inverse(self, x: Tensor) -> Tensor:
        """Normalised fields to physical ones."""
        return x * self._shape(self.std, x) + self._shape(self.mean, x)

    def inverse_std(self, std: Tensor) -> Tensor:
        """Standard deviation in normalised units to physical ones."""
        return std * self._shape(self.std, std)


class UnitNormaliser(Normaliser):
    """Leaves fields as they are; for observation models of values in [0, 1]."""

    @classmethod
    def from_statistics(cls, statistics: Mapping[str, FieldStatistics]) -> Normaliser:
        """Checks that all values lie in [0, 1].

        Raises:
            DataError: A value does not, or a field is constant.
        """
        require_scale(statistics)
        for name, s in statistics.items():
            if s.low < 0 or s.high > 1:
                raise DataError(
                    f"variable {name!r} holds {s.low if s.low < 0 else s.high:g}, but this observation model is for "
                    "values in [0, 1]. Rescale the field, or use observation='gaussian'."
                )
        return Normaliser([0.0] * len(statistics), [1.0] * len(statistics))


class ParameterScaling(nn.Module):
    """Maps every physical parameter to [-1, 1] over the training range; wide positive ranges by their logarithm.

    A parameter that spans more than a factor of three, all positive, is scaled in its logarithm: viscosities and
    Reynolds numbers act by their order of magnitude. A parameter that is constant in training becomes zero.

    Arguments:
        low: Smallest value of each parameter in training.
        high: Largest value of each parameter in training.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(list(low), dtype=torch.float64))
        self.register_buffer("high", torch.tensor(list(high), dtype=torch.float64))

    @property
    def logarithmic(self) -> Tensor:
        """Which parameters are scaled by their logarithm, shape `(parameter,)`."""
        return (self.low > 0) & (self.high > 3 * self.low)

    @property
    def log_range(self) -> Tensor:
        """Half the range of each of these parameters' logarithms, which becomes 1, and 0 of the others."""
        tiny = torch.finfo(torch.float64).tiny
        half = (self.high.clamp_min(tiny) / self.low.clamp_min(tiny)).log() / 2
        return torch.where(self.logarithmic, half, torch.zeros_like(half))

    def forward(self, values: Tensor) -> Tensor:
        """Physical values `(batch, parameter)` to normalised ones, in the default float type."""
        log = self.logarithmic
        tiny = torch.finfo(torch.float64).tiny

        def scaled(v: Tensor) -> Tensor:
            return torch.where(log, v.clamp_min(tiny).log(), v)

        low, high = scaled(self.low), scaled(self.high)
        span = high - low
        unit = 2 * (scaled(values.to(torch.float64)) - low) / torch.where(span > 0, span, torch.ones_like(span)) - 1
        return torch.where(span > 0, unit, torch.zeros_like(unit)).to(torch.get_default_dtype())
