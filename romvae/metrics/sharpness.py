"""Whether a standard deviation points at the errors, and whether a forecast's distribution has the right shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from romvae.metrics.matching import Fields, per_field, space_dims
from romvae.metrics.predictive import pit
from romvae.schema import SPACE

__all__ = ["ause", "in_domain", "pit_histogram", "sparsification"]

FRACTIONS = tuple(round(0.05 * k, 2) for k in range(20))
"""Shares of the values that are taken out: 0, 0.05, ..., 0.95."""


def sparsification(truth: Fields, mean: Fields, std: Fields, fractions: Sequence[float] = FRACTIONS) -> Fields:
    """Root mean square error of what is left when the least certain values are taken out, over that of all.

    Arguments:
        truth: Reference fields.
        mean: Forecast mean.
        std: Forecast standard deviation.
        fractions: Shares that are taken out.

    Returns:
        Dims `(order, fraction)`: `order` is `std` (taken out by the forecast's own standard deviation), `error` (by the
        true error, which nobody knows: the best there is). Taking out at random leaves 1.

    References:
        Ilg et al. (2018), Uncertainty estimates and multi-hypotheses networks for optical flow, arXiv:1802.07095.
    """

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        error = ((u - m) ** 2).values.ravel()
        whole = error.mean()
        curves = []
        for order in (s.values.ravel(), error):
            left = np.cumsum(error[np.argsort(order, kind="stable")])
            kept = [max(1, round((1 - f) * len(error))) for f in fractions]
            curves.append([np.sqrt(left[k - 1] / k / whole) for k in kept])
        coords = {"order": ["std", "error"], "fraction": list(fractions)}
        return xr.DataArray(np.array(curves), coords, ["order", "fraction"])

    return per_field("sparsification", one, truth, mean, std)


def ause(truth: Fields, mean: Fields, std: Fields, relative: bool = True) -> Fields:
    """Area between the two curves of `sparsification`; 0 is the order of the true errors.

    Arguments:
        truth: Reference fields.
        mean: Forecast mean.
        std: Forecast standard deviation.
        relative: Over the area that an uninformative standard deviation gives: 1 is then as good as random.
    """

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        curve = sparsification(u, m, s)
        best = curve.sel(order="error", drop=True)
        area = (curve.sel(order="std", drop=True) - best).integrate("fraction")
        return area / (1 - best).integrate("fraction") if relative else area

    return per_field("ause", one, truth, mean, std)


def pit_histogram(truth: Fields, mean: Fields, std: Fields, bins: int = 10) -> Fields:
    """Density of the probability integral transform in equal bins, dim `bin`: 1 everywhere if calibrated.

    A hump in the middle is too wide a forecast, a trough too narrow a one, a slope a bias.
    """

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        values = pit(u, m, s).values
        counts, edges = np.histogram(values[np.isfinite(values)], bins=bins, range=(0, 1), density=True)
        density = counts if np.isfinite(values).all() else counts * np.nan
        return xr.DataArray(density, {"bin": (edges[1:] + edges[:-1]) / 2}, ["bin"])

    return per_field("pit_histogram", one, truth, mean, std)


def in_domain(fields: Fields, mask: np.ndarray | None) -> Fields:
    """Only the points inside the domain, in a row: for every score that does not look at neighbours.

    The spatial dims become one, `x`, without coordinates. Do the same to all arguments of a score.

    Arguments:
        fields: On the whole grid.
        mask: True inside, `(*space)` in the order z, y, x; None returns the fields as they are.
    """
    if mask is None:
        return fields
    space = space_dims(fields)
    ordered = [d for d in SPACE if d in space]
    bare = fields.drop_vars([name for name, c in fields.coords.items() if set(c.dims) & set(ordered)])
    if isinstance(bare, xr.Dataset):
        bare = bare[[name for name, v in bare.data_vars.items() if set(ordered) <= set(v.dims)]]
    flat = bare.stack(point=ordered, create_index=False)
    return flat.isel(point=np.flatnonzero(np.asarray(mask, bool).ravel())).rename(point="x")
