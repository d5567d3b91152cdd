"""Proper orthogonal decomposition: the best linear subspace for a set of samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from romvae.baselines.base import State
from romvae.errors import ConfigError, DataError

__all__ = ["POD"]

Array = NDArray[np.float64]

EXACT_COST = 4e9
"""Largest (samples x size x smaller of both) for a full SVD: some seconds on one core."""
ITERATIONS = 4
"""Power iterations of the randomised SVD."""


class POD:
    r"""Proper orthogonal decomposition :math:`u \approx \bar u + s \odot \sum_{k \le r} a_k \phi_k`.

    A sample is an array `(..., field, point)`: a snapshot, or a whole trajectory `(time, field, point)`.
    Samples are centred on their mean :math:`\bar u` and each field is divided by its own standard deviation
    :math:`s`, so that fields with different units weigh the same. Arithmetic is in float64. Small problems
    take a thin SVD; larger ones a randomised SVD with power iterations that reads the samples in blocks. All
    grid points weigh the same: uniform grids only.

    Arguments:
        rank: Number of modes r; fewer are kept where the samples span less (to round-off).

    Attributes:
        mean: Mean sample.
        std: Standard deviation per field about the mean sample, shape `(field, 1)`.
        modes: Orthonormal modes as rows, shape `(rank, size)`.
        singular_values: Of the centred, scaled samples; with the randomised SVD only the leading ones.
        energies: Their squares as fractions of the total variance.

    References:
        Sirovich (1987), Turbulence and the dynamics of coherent structures, doi:10.1090/qam/910462.
        Halko, Martinsson and Tropp (2011), Finding structure with randomness, arXiv:0909.4061.
    """

    def __init__(self, rank: int) -> None:
        if rank < 1:
            raise ConfigError(f"POD: rank is {rank}, expected 1 or more. Try 16.")
        self.rank = rank

    def fit(self, samples: NDArray[np.floating], seed: int = 0) -> Self:
        """Computes the modes of samples of shape `(sample, ..., field, point)`.

        Arguments:
            samples: float32 or float64, finite.
            seed: Seed of the randomised SVD.

        Raises:
            DataError: Fewer than two samples.
        """
        if samples.ndim < 3 or len(samples) < 2:
            raise DataError(
                f"POD: samples have shape {samples.shape}, expected (2 or more samples, ..., field, point). "
                "Give more snapshots or trajectories."
            )
        self.mean: Array = samples.mean(axis=0, dtype=np.float64)
        self.std: Array = np.ones((samples.shape[-2], 1))
        self.std = self._field_std(samples)
        count, size = len(samples), self.mean.size
        total = sum(float(np.square(block).sum()) for block in self._blocks(samples))
        if count * size * min(count, size) <= EXACT_COST:
            _, values, modes = np.linalg.svd(np.concatenate(list(self._blocks(samples))), full_matrices=False)
        else:
            values, modes = self._randomised(samples, np.random.default_rng(seed))
        significant = int((values > values[0] * np.finfo(np.float64).eps * max(count, size)).sum())
        self.rank = max(1, min(self.rank, significant))
        self.modes: Array = modes[: self.rank]
        self.singular_values: Array = values
        self.energies: Array = values**2 / total if total > 0 else np.zeros_like(values)
        return self

    @staticmethod
    def operations(count: int, size: int, rank: int) -> float:
        """About how many additions and multiplications a fit to so many samples of a size takes."""
        if count * size * min(count, size) <= EXACT_COST:
            return 10.0 * count * size * min(count, size)
        return 2.0 * (2 * ITERATIONS + 3) * count * size * _width(rank, count, size)

    def truncate(self, rank: int) -> Self:
        """Keeps the first `rank` modes only; returns itself."""
        self.rank = max(1, min(rank, self.rank))
        self.modes = np.ascontiguousarray(self.modes[: self.rank])
        return self

    def first(self, rank: int) -> POD:
        """The same decomposition with the first `rank` modes only."""
        other = copy(self)
        return other.truncate(rank)

    def state(self) -> State:
        """What `from_state` needs, to be saved."""
        arrays = {"mean": self.mean, "std": self.std, "modes": self.modes, "singular_values": self.singular_values}
        return State({}, {**arrays, "energies": self.energies})

    @classmethod
    def from_state(cls, state: State, shape: tuple[int, ...]) -> POD:
        """The inverse of `state`, for samples of this shape `(..., field, point)`.

        Raises:
            ValueError: An array has another shape than it must have.
        """
        rank, known = len(state.arrays["modes"]), len(state.arrays["singular_values"])
        pod = cls(rank)
        expected = {
            "mean": shape,
            "std": (shape[-2], 1),
            "modes": (rank, math.prod(shape)),
            "singular_values": (known,),
            "energies": (known,),
        }
        for name, size in expected.items():
            found = state.arrays[name]
            if found.shape != size:
                raise ValueError(f"{name} of the POD has shape {found.shape}, expected {size}")
            setattr(pod, name, found)
        return pod

    def project(self, samples: NDArray[np.floating]) -> Array:
        """Coefficients of samples `(*leading, ..., field, point)`, shape `(*leading, rank)`."""
        leading = samples.shape[: samples.ndim - self.mean.ndim]
        rows = samples.reshape(-1, *self.mean.shape)
        return self._product(rows, self.modes.T).reshape(*leading, self.rank)

    def reconstruct(self, coefficients: Array) -> Array:
        """Samples `(*leading, ..., field, point)` from coefficients `(*leading, rank)`."""
        scaled = (coefficients @ self.modes).reshape(*coefficients.shape[:-1], *self.mean.shape)
        return self.mean + self.std * scaled

    def sizes(self, samples: NDArray[np.floating]) -> Array:
        """Squared norms of samples `(*leading, ..., field, point)`, centred and scaled, shape `(*leading,)`.

        What they exceed the squared norm of the coefficients by is what the modes do not hold.
        """
        leading = samples.shape[: samples.ndim - self.mean.ndim]
        rows = samples.reshape(-1, *self.mean.shape)
        return np.concatenate([np.square(block).sum(1) for block in self._blocks(rows)]).reshape(leading)

    def resolved(self, samples: NDArray[np.floating]) -> int:
        """Modes with more energy than the rounding of these samples, which it was fitted to, can have.

        Rounding spreads over all directions nearly alike: of a matrix of independent errors of one size, none holds
        more than four times its share; sixteen times leaves room for those of large values, which are larger.
        """
        relative = float(np.finfo(samples.dtype).eps) / math.sqrt(12)
        scaled = self.mean.reshape(-1, *self.std.shape[:1], samples.shape[-1]) / self.std
        noise = relative**2 * (1 + float(np.square(scaled).mean()))
        return int((self.energies > 16 * noise / min(len(samples), self.mean.size)).sum())

    def _field_std(self, samples: NDArray[np.floating]) -> Array:
        """Standard deviation of each field about the mean sample, 1 where the field never differs from it."""
        axes = tuple(i for i in range(samples.ndim) if i != samples.ndim - 2)
        total = np.zeros(samples.shape[-2])
        step = self._block_length()
        for first in range(0, len(samples), step):
            total += np.square(samples[first : first + step] - self.mean).sum(axis=axes)
        std = np.sqrt(total / (samples.size / samples.shape[-2]))
        return np.where(std > 0, std, 1.0)[:, None]

    def _blocks(self, samples: NDArray[np.floating]) -> Iterator[Array]:
        """Centred, scaled samples as float64 rows, some at a time."""
        step = self._block_length()
        for first in range(0, len(samples), step):
            block = (samples[first : first + step] - self.mean) / self.std
            yield block.reshape(len(block), -1)

    def _block_length(self) -> int:
        """Samples per block: about 64 MiB."""
        return max(1, 2**23 // self.mean.size)

    def _randomised(self, samples: NDArray[np.floating], rng: np.random.Generator) -> tuple[Array, Array]:
        """Leading singular values and right singular vectors (Halko et al., algorithms 4.4 and 5.1)."""
        width = _width(self.rank, len(samples), self.mean.size)
        test: Array = rng.standard_normal((len(samples), width))
        for _ in range(ITERATIONS):
            basis, _ = np.linalg.qr(self._transposed_product(samples, test))
            test, _ = np.linalg.qr(self._product(samples, basis))
        basis, _ = np.linalg.qr(self._transposed_product(samples, test))
        _, values, rotation = np.linalg.svd(self._product(samples, basis), full_matrices=False)
        return values, rotation @ basis.T

    def _product(self, samples: NDArray[np.floating], right: Array) -> Array:
        return np.concatenate([block @ right for block in self._blocks(samples)])

    def _transposed_product(self, samples: NDArray[np.floating], right: Array) -> Array:
        product = np.zeros((self.mean.size, right.shape[1]))
        first = 0
        for block in self._blocks(samples):
            product += block.T @ right[first : first + len(block)]
            first += len(block)
        return product


def _width(rank: int, count: int, size: int) -> int:
    """Columns of the randomised SVD: more than are asked for, which makes those exact."""
    return min(rank + max(10, rank // 2), count, size)
