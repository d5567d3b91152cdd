"""Scores of a Gaussian forecast and of its standard deviation."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import scoringrules
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from romvae.metrics.matching import Dims, Fields, mean_over, per_field
from romvae.schema import TRAJECTORY

__all__ = [
    "gaussian_crps",
    "gaussian_nll",
    "pit",
    "spearman",
    "spearman_over_trajectories",
    "spread_skill",
]


def gaussian_crps(truth: Fields, mean: Fields, std: Fields, dims: Dims = None) -> Fields:
    r"""Continuous ranked probability score of :math:`N(m, s^2)`, mean over `dims`, in the field's units.

    .. math:: s\,[\,z (2 \Phi(z) - 1) + 2 \varphi(z) - 1 / \sqrt\pi\,], \quad z = (u - m) / s

    A zero `std` gives the absolute error; a perfect forecast scores :math:`s / \sqrt\pi` on average. Pass
    `dims=()` for one value per point.

    References:
        Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation,
        doi:10.1198/016214506000001437.
    """

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        sure = s.values == 0
        score = scoringrules.crps_normal(u.values, m.values, np.where(sure, 1.0, s.values))
        return mean_over(u.copy(data=np.where(sure, np.abs(u.values - m.values), score)), dims)

    return per_field("gaussian_crps", one, truth, mean, std)


def gaussian_nll(truth: Fields, mean: Fields, std: Fields, dims: Dims = None) -> Fields:
    r"""Negative log-likelihood :math:`\frac12 \log 2\pi s^2 + (u - m)^2 / 2 s^2` in nats, mean over dims."""

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        variance = s**2
        return mean_over((u - m) ** 2 / (2 * variance) + variance.copy(data=0.5 * np.log(2 * np.pi * variance)), dims)

    return per_field("gaussian_nll", one, truth, mean, std)


def spread_skill(truth: Fields, mean: Fields, std: Fields, dims: Dims = None, members: int | None = None) -> Fields:
    r"""Spread over error :math:`\sqrt{\langle s^2 \rangle} / \mathrm{RMSE}`, both over `dims`.

    1 is calibrated, less is overconfident.

    Arguments:
        truth: Reference fields.
        mean: Forecast mean.
        std: Forecast standard deviation (of unbiased variances, where it comes from members).
        dims: Dims to reduce over.
        members: Size M of the ensemble that `mean` and `std` come from: the ratio is multiplied by
            :math:`\sqrt{(M + 1) / M}`, because the mean of M members has an error of its own. Leave it out
            for a parametric forecast.

    References:
        Fortin et al. (2014), Why should ensemble spread match the RMSE of the ensemble mean?,
        doi:10.1175/JHM-D-14-0008.1.
    """
    factor = 1.0 if members is None else (1 + 1 / members) ** 0.5

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        return factor * (mean_over(s**2, dims) / mean_over((u - m) ** 2, dims)) ** 0.5

    return per_field("spread_skill", one, truth, mean, std)


def pit(truth: Fields, mean: Fields, std: Fields) -> Fields:
    r"""Probability integral transform :math:`\Phi((u - m) / s)` per point: uniform on [0, 1] at best."""

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        return u.copy(data=stats.norm.cdf(((u - m) / s).values))

    return per_field("pit", one, truth, mean, std)


def spearman(truth: Fields, mean: Fields, std: Fields, dims: Dims = None) -> Fields:
    """Spearman rank correlation of standard deviation and absolute error over the points of `dims`.

    1 where the uncertainty map orders points by their error, 0 where it says nothing about it. Ties share
    their mean rank; NaN where either is constant.
    """

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        over = list(u.dims) if dims is None else [dims] if isinstance(dims, str) else list(dims)
        return _rank_correlation(s, abs(u - m), over)

    return per_field("spearman", one, truth, mean, std)


def spearman_over_trajectories(truth: Fields, mean: Fields, std: Fields) -> Fields:
    """Spearman rank correlation over trajectories of each one's RMS standard deviation and its RMSE.

    Says whether the forecast knows which trajectories it gets wrong; means over all other dims come first.
    """

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        rest = [dim for dim in u.dims if dim != TRAJECTORY]
        return _rank_correlation(mean_over(s**2, rest), mean_over((u - m) ** 2, rest), [TRAJECTORY])

    return per_field("spearman_over_trajectories", one, truth, mean, std)


def _rank_correlation(a: xr.DataArray, b: xr.DataArray, dims: list[Hashable] | list[str]) -> xr.DataArray:
    def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
        flat = values.reshape(*values.shape[: values.ndim - len(dims)], -1)
        ranked = stats.rankdata(flat, axis=-1)
        return ranked - ranked.mean(axis=-1, keepdims=True)

    def correlation(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
        p, q = ranks(a), ranks(b)
        with np.errstate(invalid="ignore"):
            return (p * q).sum(-1) / np.sqrt((p**2).sum(-1) * (q**2).sum(-1))

    return xr.apply_ufunc(correlation, a, b, input_core_dims=[dims, dims])
