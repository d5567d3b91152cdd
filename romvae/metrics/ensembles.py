"""Scores of an ensemble of fields that are samples themselves, such as a baseline's members or decoded latents."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scoringrules
import xarray as xr

from romvae.errors import DataError, SchemaError
from romvae.metrics.matching import Dims, Fields, mean_over, per_field, space_dims
from romvae.schema import MEMBER

__all__ = ["energy_score", "ensemble_crps", "rank_histogram"]


def ensemble_crps(
    truth: Fields, members: Fields, dims: Dims = None, estimator: Literal["fair", "nrg"] = "fair"
) -> Fields:
    r"""Continuous ranked probability score of M members, mean over `dims`, in the field's units.

    .. math:: \overline{|x_m - u|} - \frac{1}{2 M (M - 1)} \sum_{m, n} |x_m - x_n|

    Arguments:
        truth: Reference fields.
        members: The same with a further dim `member`.
        dims: Dims to reduce over.
        estimator: `fair` is unbiased for the distribution that the members come from; `nrg` divides by M squared and
            is the score of the members as they are.

    References:
        Ferro (2014), Fair scores for ensemble forecasts, doi:10.1002/qj.2270.
    """

    def one(u: xr.DataArray, x: np.ndarray) -> xr.DataArray:
        # `pwm`, probability weighted moments, is the fair score with a sort in place of all pairs of members.
        kind = "pwm" if estimator == "fair" else estimator
        return mean_over(u.copy(data=scoringrules.crps_ensemble(u.values, x, estimator=kind)), dims)

    return _with_members("ensemble_crps", one, truth, members)


def energy_score(truth: Fields, members: Fields, dims: Dims = None) -> Fields:
    r"""Energy score of whole snapshots, unbiased, in the field's units; mean over `dims` (never spatial ones).

    .. math:: \overline{\|x_m - u\|} - \frac{1}{2 M (M - 1)} \sum_{m, n} \|x_m - x_n\|

    with the root mean square over the snapshot as the norm: the CRPS of a field as one object, which a right spread
    at every point with wrong dependence between them does not satisfy.

    References:
        Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation,
        doi:10.1198/016214506000001437.
    """

    def one(u: xr.DataArray, x: np.ndarray) -> xr.DataArray:
        space = space_dims(u)
        kept = [d for d in u.dims if d not in space]
        axes = tuple(u.dims.index(d) for d in space)
        count = x.shape[-1]
        distance = np.sqrt(((x - u.values[..., None]) ** 2).mean(axes)).mean(-1)
        pairs = np.zeros(distance.shape)
        for m in range(1, count):
            pairs += np.sqrt(((x[..., m:] - x[..., :-m]) ** 2).mean(axes)).sum(-1)
        score = distance - pairs / (count * (count - 1))
        like = u.isel(dict.fromkeys(space, 0), drop=True).transpose(*kept)
        over = kept if dims is None else dims
        return mean_over(like.copy(data=score), over)

    return _with_members("energy_score", one, truth, members)


def rank_histogram(truth: Fields, members: Fields, seed: int = 0) -> Fields:
    """Share of values that have 0, 1, ..., M members below them, dim `rank`; 1 / (M + 1) each for exchangeable members.

    Ties are broken at random.
    """

    def one(u: xr.DataArray, x: np.ndarray) -> xr.DataArray:
        below, equal = (x < u.values[..., None]).sum(-1), (x == u.values[..., None]).sum(-1)
        rank = below + np.random.default_rng(seed).integers(0, equal + 1)
        counts = np.bincount(rank.ravel(), minlength=x.shape[-1] + 1)
        return xr.DataArray(counts / counts.sum(), dims="rank")

    return _with_members("rank_histogram", one, truth, members)


def _with_members(where: str, function: Any, truth: Fields, members: Fields) -> Fields:
    """Applies a function of a field in float64 and its members, an array with the member axis last."""
    if isinstance(truth, xr.Dataset):
        if not isinstance(members, xr.Dataset) or set(members.data_vars) != set(truth.data_vars):
            raise SchemaError(
                f"{where}: members must be a Dataset with the fields {sorted(map(str, truth.data_vars))}."
            )
        return xr.Dataset({n: _with_members(where, function, truth[n], members[n]) for n in truth.data_vars})
    if isinstance(members, xr.Dataset) or MEMBER not in members.dims:
        raise SchemaError(f"{where}: the second argument has no dim {MEMBER!r}. Stack the members along it.")
    if members.sizes[MEMBER] < 2:
        raise DataError(f"{where}: one member, at least two are needed. Use more members.")

    def one(u: xr.DataArray, _: xr.DataArray) -> xr.DataArray:
        x = np.asarray(members.transpose(*u.dims, MEMBER).values, dtype=np.float64)
        result: xr.DataArray = function(u, x)
        return result

    return per_field(where, one, truth, members.isel({MEMBER: 0}, drop=True))
