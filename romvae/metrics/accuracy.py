"""Errors of a mean forecast."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from romvae.metrics.matching import Dims, Fields, mean_over, per_field, space_dims

__all__ = ["nrmse", "relative_l2", "rmse", "vrmse", "worst_relative_l2"]


def relative_l2(truth: Fields, forecast: Fields, dims: Dims = None) -> Fields:
    r"""Pooled relative L2 error :math:`\sqrt{\sum |v - u|^2 / \sum |u|^2}`, both sums over `dims`.

    Sums first, ratio last: with `dims=None` it is one number for all trajectories, times and points, in which
    trajectories with large fields weigh more. A zero field scores 0 if perfect, else infinity.

    Arguments:
        truth: Reference fields u.
        forecast: Forecast v, same dims and coordinates.
        dims: Dims to pool over.
    """

    def one(u: xr.DataArray, v: xr.DataArray) -> xr.DataArray:
        error = ((v - u) ** 2).sum(dims, skipna=False)
        size = (u**2).sum(dims, skipna=False)
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((error / size) ** 0.5).where(error != 0, 0.0)

    return per_field("relative_l2", one, truth, forecast)


def worst_relative_l2(truth: Fields, forecast: Fields) -> Fields:
    r"""Worst relative L2 error :math:`\max_{trajectory, t} \|v - u\| / \|u\|`, norms over space only.

    The figure that papers on latent-space dynamics identification report.

    References:
        Bonneville et al. (2024), GPLaSDI: Gaussian process-based interpretable latent space dynamics
        identification through deep autoencoder, arXiv:2308.05882.
    """
    return per_field(
        "worst_relative_l2",
        lambda u, v: relative_l2(u, v, space_dims(u)).max(skipna=False),
        truth,
        forecast,
    )


def rmse(truth: Fields, forecast: Fields, dims: Dims = None) -> Fields:
    r"""Root mean square error :math:`\sqrt{\langle |v - u|^2 \rangle}` over `dims`, in the field's units."""
    return per_field("rmse", lambda u, v: mean_over((v - u) ** 2, dims) ** 0.5, truth, forecast)


def nrmse(truth: Fields, forecast: Fields, dims: Dims = None, by: Literal["std", "range", "rms"] = "std") -> Fields:
    r"""RMSE over `dims`, divided by the truth's own size over `dims`.

    Arguments:
        truth: Reference fields u.
        forecast: Forecast v.
        dims: Dims to reduce over.
        by: What the size is: the standard deviation of u, its range max - min, or its root mean square (then
            it equals `relative_l2`).
    """

    def size(u: xr.DataArray) -> xr.DataArray:
        if by == "std":
            return u.std(dims, skipna=False)
        if by == "range":
            return u.max(dims, skipna=False) - u.min(dims, skipna=False)
        return mean_over(u**2, dims) ** 0.5

    return per_field("nrmse", lambda u, v: mean_over((v - u) ** 2, dims) ** 0.5 / size(u), truth, forecast)


def vrmse(truth: Fields, forecast: Fields, eps: float = 1e-7) -> Fields:
    r"""Variance-scaled RMSE of each snapshot, as in The Well.

    .. math:: \sqrt{\langle |u - v|^2 \rangle / (\langle |u - \langle u \rangle|^2 \rangle + \epsilon)}

    with means over space, so that forecasting the truth's spatial mean scores 1. One value per trajectory and
    time; their mean is the number in tables.

    Arguments:
        truth: Reference fields u.
        forecast: Forecast v.
        eps: Added to the variance, in squared units of the field; lower it for fields much smaller than 1.

    References:
        Ohana et al. (2024), The Well: a large-scale collection of diverse physics simulations for machine
        learning, arXiv:2412.00568.
    """

    def one(u: xr.DataArray, v: xr.DataArray) -> xr.DataArray:
        space = space_dims(u)
        return (mean_over((u - v) ** 2, space) / (u.var(space, skipna=False) + eps)) ** 0.5

    return per_field("vrmse", one, truth, forecast)
