"""Statistics of snapshots in one streamed pass, float64, with the same bits for any number of workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import xarray as xr

from romvae.canonical import MASK, N_STEPS, TRAJECTORY, blocks
from romvae.check import LARGEST, Watch, check_values, unused
from romvae.errors import DataError

__all__ = ["FieldStatistics", "field_statistics", "in_order", "require_scale"]

_TILE = 2**16
"""Values that are looked at together: as float64 they stay in the cache of one core."""

_ROW = 2**13
"""Products that BLAS adds up at once: little enough that it never deals them out to threads, which changes bits."""

_ONES = np.ones(_ROW)

_LOSS = 30.0
"""Mean square over variance of a tile above which its deviations from the mean are computed one by one."""

_BLOCK_BYTES = 2**22
"""Bytes that are read at once: little enough that they are still in the cache when they are looked at."""

_Moments = tuple[int, float, float]
"""Count, mean, sum of squared deviations from it."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FieldStatistics:
    """Count, mean, sum of squared deviations and range, merged block by block in float64.

    Where the sum of squares less the square of the sum would leave little of a small spread on a large mean, a part of
    a block takes two passes, mean first and then the deviations from it. Two parts merge by

        mean = mean_a + d n_b / n,   squares = squares_a + squares_b + d^2 n_a n_b / n,   d = mean_b - mean_a,

    so that the result depends on the order of the parts, which is that of the trajectories, and on nothing else.

    Arguments:
        count: Values seen.
        mean: Their mean.
        squares: Sum of their squared deviations from it.
        low: The smallest.
        high: The largest.
        bad: Values that are NaN, infinite or a fill value; they are in none of the other numbers.

    References:
        Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance,
        doi:10.1080/00031305.1983.10483115.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    bad: int = 0

    def add(self, block: np.ndarray) -> FieldStatistics:
        """What was seen so far and `block`, all of whose values count, together."""
        flat = np.ascontiguousarray(block).reshape(-1)
        if not flat.size:
            return self
        scratch = np.empty(min(flat.size, _TILE))
        total: _Moments = (0, 0.0, 0.0)
        low, high = float("inf"), float("-inf")
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, flat.size, _TILE):
                tile = flat[start : start + _TILE]
                total = _merged(total, _of_tile(tile, scratch[: tile.size]))
                low, high = min(low, float(np.minimum.reduce(tile))), max(high, float(np.maximum.reduce(tile)))
        return self.merged(FieldStatistics(*total, low, high))

    def merged(self, other: FieldStatistics) -> FieldStatistics:
        """The statistics of two parts together; merging with an empty part changes no bit."""
        bad = self.bad + other.bad
        if not self.count or not other.count:
            full = self if self.count else other
            return FieldStatistics(full.count, full.mean, full.squares, full.low, full.high, bad)
        count, mean, squares = _merged((self.count, self.mean, self.squares), (other.count, other.mean, other.squares))
        return FieldStatistics(count, mean, squares, min(self.low, other.low), max(self.high, other.high), bad)

    @property
    def std(self) -> float:
        return float(np.sqrt(self.squares / self.count)) if self.count else float("nan")


def field_statistics(
    ds: xr.Dataset,
    names: Sequence[str],
    source: str = "",
    *,
    workers: int = 1,
    strict: bool = True,
    watch: Watch | None = None,
) -> dict[str, FieldStatistics]:
    """Statistics per field, in one pass over the values.

    Points outside of the mask and times beyond the end of a trajectory are left out.

    Arguments:
        ds: Snapshots, in memory or lazily opened.
        names: Fields.
        source: File that the messages name.
        workers: Threads that read and count trajectories; the result has the same bits for any number.
        strict: Whether a value that is not finite is an error; otherwise it is counted in `bad`.
        watch: Called with every block, from any thread, blocks of one trajectory and field in their order. The values
            are its own for the time of the call only.

    Raises:
        DataError: A value is not finite, or the file is damaged.
    """
    from romvae.data.direct import read_blocks, reader_of  # romvae.data needs this module itself

    readers = {name: reader_of(ds.variables[name]) for name in names}
    all_count = MASK not in ds.variables and N_STEPS not in ds.variables

    def of_trajectory(item: tuple[str, list[dict[str, slice]]]) -> tuple[str, FieldStatistics]:
        name, parts = item
        result = FieldStatistics()
        for chosen, values in read_blocks(ds, name, parts, readers[name], source):
            if watch is not None:
                watch(name, chosen, values)
            found = _of_block(ds, name, chosen, values, all_count)
            if strict and found.bad:
                check_values(ds, name, source, parts=[chosen])  # raises, and says where
            result = result.merged(found)
        return name, result

    totals = {name: FieldStatistics() for name in names}
    for name, found in in_order(of_trajectory, _trajectories(ds, names), workers):
        totals[name] = totals[name].merged(found)
    return totals


def require_scale(statistics: Mapping[str, FieldStatistics]) -> None:
    """Raises where a field is constant, so that it has no scale.

    Raises:
        DataError: The message names the field and its value.
    """
    for name, s in statistics.items():
        if not s.std > 1e-12 * max(abs(s.mean), 1e-300):
            raise DataError(
                f"variable {name!r}: constant at {s.mean:g} over all training trajectories, so it has no scale and "
                "nothing to learn. Leave it out of the data."
            )


def in_order(work: Callable[[Item], Result], items: Iterator[Item], workers: int) -> Iterator[Result]:
    """`map` on threads: results come in the order of the items, and at most two per worker wait."""
    if workers <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(work, item) for item in islice(items, 2 * workers)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(work, item) for item in islice(items, 1)]


def _trajectories(ds: xr.Dataset, names: Sequence[str]) -> Iterator[tuple[str, list[dict[str, slice]]]]:
    """The blocks of each field and trajectory."""
    for name in names:
        parts: list[dict[str, slice]] = []
        for chosen in blocks(ds, name, _BLOCK_BYTES):
            if parts and chosen.get(TRAJECTORY) != parts[0].get(TRAJECTORY):
                yield name, parts
                parts = []
            parts.append(chosen)
        if parts:
            yield name, parts


def _of_block(
    ds: xr.Dataset, name: str, chosen: Mapping[str, slice], values: np.ndarray, all_count: bool
) -> FieldStatistics:
    left_out = np.zeros((), dtype=bool)
    if not all_count:
        outside, beyond = unused(ds, name, chosen)
        left_out = outside | beyond
    if not left_out.any():
        found = FieldStatistics().add(values)
        if found.low > -LARGEST and found.high < LARGEST and not math.isnan(found.mean):
            return found
    used = values[~np.broadcast_to(left_out, values.shape)]
    finite = used[np.abs(used) < LARGEST]
    found = FieldStatistics().add(finite)
    return FieldStatistics(found.count, found.mean, found.squares, found.low, found.high, bad=used.size - finite.size)


def _merged(one: _Moments, other: _Moments) -> _Moments:
    """Count, mean and sum of squared deviations of two parts together."""
    (n, mean, squares), (m, its_mean, its_squares) = one, other
    if not n:
        return other
    total, delta = n + m, its_mean - mean
    return total, mean + delta * m / total, squares + its_squares + delta * delta * n * m / total


def _of_tile(tile: np.ndarray, scratch: np.ndarray) -> _Moments:
    """One pass over values that lie in the cache, or two where one would cancel; `scratch` holds them in float64.

    Squares of single precision are exact in float64, and their sum less the square of the mean loses log10 of
    their ratio in digits: one or two of sixteen at most, as a tile that would lose more is shifted to its mean first.
    """
    np.copyto(scratch, tile)
    rows = scratch[: tile.size // _ROW * _ROW].reshape(-1, _ROW)
    rest = scratch[rows.size :]
    mean = _sum_of_products(rows, rest, _ONES, _ONES[: rest.size]) / tile.size
    squares = _sum_of_products(rows, rest, rows, rest)
    about_mean = squares - tile.size * mean * mean
    if about_mean * _LOSS > squares:
        return tile.size, mean, about_mean
    np.subtract(scratch, mean, out=scratch)
    return tile.size, mean, _sum_of_products(rows, rest, rows, rest)


def _sum_of_products(rows: np.ndarray, rest: np.ndarray, by: np.ndarray, by_rest: np.ndarray) -> float:
    return float(np.add.reduce(np.vecdot(rows, by)) + np.vecdot(rest, by_rest))
