"""Structural similarity of fields in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import ndimage

from romvae.errors import DataError
from romvae.metrics.matching import Fields, per_field, space_dims

__all__ = ["ssim"]


def ssim(
    truth: Fields,
    forecast: Fields,
    data_range: float | None = None,
    mask: np.ndarray | None = None,
    periodic: Sequence[str] = (),
    sigma: float = 1.5,
) -> Fields:
    r"""Structural similarity index of each snapshot, in [-1, 1], 1 for equal fields.

    .. math:: \frac{(2 \mu_u \mu_v + C_1) (2 \sigma_{uv} + C_2)}
        {(\mu_u^2 + \mu_v^2 + C_1) (\sigma_u^2 + \sigma_v^2 + C_2)}

    with local moments in a Gaussian window, :math:`C_i = (k_i R)^2`, k = 0.01 and 0.03, and the mean over all windows
    that lie in the domain. A picture measure: it depends on the data range R and on where zero is, so that it is no
    substitute for an error in the norm. One value per trajectory and time.

    Arguments:
        truth: Reference fields.
        forecast: Forecast fields.
        data_range: R in the field's units; None takes the truth's largest minus its smallest value, over everything.
        mask: True inside the domain, `(*space)` in the order of the truth's dims; windows that reach outside are
            left out.
        periodic: Spatial dims around which the window goes on; elsewhere it has to fit in.
        sigma: Standard deviation of the window in grid points; it reaches 3.5 of them to both sides.

    Raises:
        DataError: An axis is shorter than the window, the field is constant, or no window fits.

    References:
        Wang, Bovik, Sheikh and Simoncelli (2004), Image quality assessment: from error visibility to structural
        similarity, doi:10.1109/TIP.2003.819861.
    """
    radius = int(3.5 * sigma + 0.5)

    def one(u: xr.DataArray, v: xr.DataArray) -> xr.DataArray:
        space = space_dims(u)
        u, v = (each.transpose(..., *space) for each in (u, v))
        for dim in space:
            if u.sizes[dim] <= 2 * radius:
                raise DataError(
                    f"ssim: {dim} has {u.sizes[dim]} points, the window {2 * radius + 1}. Use a smaller sigma."
                )
        inside = np.ones([u.sizes[d] for d in space], bool) if mask is None else np.asarray(mask, bool)
        span = float(u.where(xr.DataArray(inside, dims=space)).max() - u.where(xr.DataArray(inside, dims=space)).min())
        size = span if data_range is None else data_range
        if not size > 0:
            raise DataError(
                f"ssim: the data range is {size}, expected above zero. The field is constant: leave it out."
            )
        counted = _windows_inside(inside, [d in periodic for d in space], radius)
        if not counted.any():
            raise DataError("ssim: no window lies inside the domain. Use a smaller sigma.")
        index = _index(u.values, v.values, inside, size, sigma, radius, [d in periodic for d in space])
        mean = index[..., counted].mean(-1)
        return u.isel(dict.fromkeys(space, 0), drop=True).copy(data=mean)

    return per_field("ssim", one, truth, forecast)


def _index(
    u: np.ndarray, v: np.ndarray, inside: np.ndarray, size: float, sigma: float, radius: int, wrap: Sequence[bool]
) -> np.ndarray:
    """The index at every point; values outside of the domain do not matter, since no window that counts sees them."""
    axes = tuple(range(u.ndim - inside.ndim, u.ndim))
    modes = ["wrap" if each else "nearest" for each in wrap]

    def smooth(values: np.ndarray) -> np.ndarray:
        out: np.ndarray = ndimage.gaussian_filter(values, sigma, mode=modes, radius=radius, axes=axes)
        return out

    u, v = np.where(inside, u, 0.0), np.where(inside, v, 0.0)
    mu, mv = smooth(u), smooth(v)
    uu, vv, uv = smooth(u * u) - mu**2, smooth(v * v) - mv**2, smooth(u * v) - mu * mv
    c1, c2 = (0.01 * size) ** 2, (0.03 * size) ** 2
    out: np.ndarray = (2 * mu * mv + c1) * (2 * uv + c2) / ((mu**2 + mv**2 + c1) * (uu + vv + c2))
    return out


def _windows_inside(inside: np.ndarray, wrap: Sequence[bool], radius: int) -> np.ndarray:
    """Where the whole window is inside the domain and, along axes that are not periodic, inside the grid."""
    out = inside
    for axis, periodic in enumerate(wrap):
        mode = "wrap" if periodic else "constant"
        out = ndimage.minimum_filter1d(out.astype(np.uint8), 2 * radius + 1, axis=axis, mode=mode, cval=0) > 0
    return out
