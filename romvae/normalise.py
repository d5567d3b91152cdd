"""Affine normalisation per field and of the physical parameters; it travels with the weights.

Affine on purpose: a Gaussian in normalised units is a Gaussian in physical ones, and a standard deviation is exactly
the scale times the network's. Logarithms of fields belong to data preparation (store `log_density` as the field).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from romvae.errors import DataError

__all__ = ["FieldStatistics", "Normaliser", "ParameterScaling"]


@dataclass(frozen=True)
class FieldStatistics:
    """Count, mean and sum of squared deviations, merged block by block in float64.

    References:
        Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance,
        doi:10.1080/00031305.1983.10483115.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, block: np.ndarray) -> FieldStatistics:
        """Returns the statistics of what was seen so far and `block` together (two passes over the block)."""
        values = np.asarray(block, dtype=np.float64)
        n = values.size
        if n == 0:
            return self
        mean = float(values.mean())
        squares = float(np.square(values - mean).sum())
        total, delta = self.count + n, mean - self.mean
        return FieldStatistics(
            total, self.mean + delta * n / total, self.squares + squares + delta * delta * self.count * n / total
        )

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.count)) if self.count else float("nan")


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
        statistics = [FieldStatistics() for _ in names]
        for block in blocks:
            statistics = [s.add(values) for s, values in zip(statistics, block, strict=True)]
        for name, s in zip(names, statistics, strict=True):
            if not s.std > 1e-12 * max(abs(s.mean), 1e-300):
                raise DataError(
                    f"variable {name!r}: constant at {s.mean:g} over all training trajectories, so it has no scale and "
                    "nothing to learn. Leave it out of the data."
                )
        return cls([s.mean for s in statistics], [s.std for s in statistics])

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
