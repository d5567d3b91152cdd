"""How the power of a field is spread over wavenumbers, and whether a forecast has it right."""

from __future__ import annotations

import numpy as np
import xarray as xr

from romvae.errors import DataError
from romvae.metrics.matching import Dims, Fields, mean_over, per_field, space_dims

__all__ = ["error_of_spectra", "spectral_error", "spectrum"]


def spectrum(field: Fields, window: bool = False) -> Fields:
    r"""Power of a field in shells of the wavenumber, on a uniform grid.

    .. math:: E(k) = \sum_{|k'| \in shell\ k} |\hat u(k')|^2, \qquad \sum_k E(k) = \langle u^2 \rangle

    Shells are as wide as the coarsest axis resolves: 2 pi over the shortest length. Points outside of the domain
    should hold zero, in truth and forecast alike.

    Arguments:
        field: Fields on space, any further dims.
        window: Whether to remove the mean and fade to zero at the ends with a Hann window: for axes that are not
            periodic, whose jump from end to start would otherwise leak into all shells. The sum is then the power of
            the windowed field, scaled so that a white field keeps its power.

    Returns:
        E with the dim `wavenumber` in place of the spatial ones, in squared units of the field; its coordinate is 2 pi
        over the wavelength.

    Raises:
        DataError: A spatial coordinate is missing or not uniform, or has fewer than 4 points.
    """
    return per_field("spectrum", lambda u: _spectrum(u, window), field)


def spectral_error(
    truth: Fields, forecast: Fields, dims: Dims = None, window: bool = False, floor: float = 1e-6
) -> Fields:
    r"""Root mean square over shells of :math:`\log_{10}(E_{forecast} / E_{truth})`; 0.3 is a factor of two.

    Both spectra are averaged over `dims` first, and shells beyond the smallest Nyquist wavenumber, or in which the
    truth has less than `floor` of its power, are left out: there is round-off and little else.

    Arguments:
        truth: Reference fields.
        forecast: Forecast fields.
        dims: Dims to average spectra over, besides space; None takes all.
        window: As in `spectrum`.
        floor: Least share of the truth's power that a shell must hold to count.
    """

    def one(u: xr.DataArray, v: xr.DataArray) -> xr.DataArray:
        over = [d for d in u.dims if d not in space_dims(u)] if dims is None else dims
        limit = min(np.pi / abs(float(u[d][1] - u[d][0])) for d in space_dims(u))
        return error_of_spectra(
            mean_over(_spectrum(u, window), over), mean_over(_spectrum(v, window), over), limit, floor
        )

    return per_field("spectral_error", one, truth, forecast)


def error_of_spectra(truth: xr.DataArray, forecast: xr.DataArray, limit: float, floor: float = 1e-6) -> xr.DataArray:
    """`spectral_error` of spectra that are known already.

    Arguments:
        truth: Power of the truth, mean over whatever is averaged, with the dim `wavenumber`.
        forecast: Of the forecast.
        limit: Smallest Nyquist wavenumber of the grid, pi over the largest spacing.
        floor: As in `spectral_error`.
    """
    counts = (truth["wavenumber"] <= limit * (1 + 1e-9)) & (truth > floor * truth.sum("wavenumber"))
    share = forecast.clip(min=np.finfo(float).tiny) / truth.where(counts)
    ratio = share.copy(data=np.log10(share.values))
    return (ratio**2).mean("wavenumber") ** 0.5


def _spectrum(u: xr.DataArray, window: bool) -> xr.DataArray:
    space = space_dims(u)
    lengths, shape = [], []
    for dim in space:
        x = np.asarray(u[dim].values, dtype=np.float64) if dim in u.coords else np.zeros(0)
        steps = np.diff(x)
        if len(x) < 4 or not np.allclose(steps, steps[0], rtol=1e-4):
            raise DataError(
                f"spectrum: {dim} has {u.sizes[dim]} points that are not evenly spaced, or fewer than 4. "
                "Interpolate onto a uniform grid first."
            )
        lengths.append(abs(float(steps.mean())) * len(x))
        shape.append(len(x))
    values = u.transpose(..., *space).values
    axes = tuple(range(values.ndim - len(space), values.ndim))
    if window:
        values = values - values.mean(axes, keepdims=True)
        for axis, n in zip(axes, shape, strict=True):
            hann = np.hanning(n + 2)[1:-1] if n > 4 else np.ones(n)
            values = values * (hann / np.sqrt((hann**2).mean())).reshape(-1, *[1] * (values.ndim - 1 - axis))
    power = np.abs(np.fft.fftn(values, axes=axes, norm="forward")) ** 2
    waves = np.meshgrid(
        *(2 * np.pi * np.fft.fftfreq(n, length / n) for n, length in zip(shape, lengths, strict=True)), indexing="ij"
    )
    width = 2 * np.pi / min(lengths)
    shell = np.rint(np.sqrt(sum(k**2 for k in waves)) / width).astype(int).ravel()
    flat = power.reshape(-1, shell.size)
    out = np.zeros((len(flat), shell.max() + 1))
    for row, each in zip(out, flat, strict=True):
        row[:] = np.bincount(shell, each, minlength=len(row))
    lead = [d for d in u.dims if d not in space]
    sizes = [u.sizes[d] for d in lead]
    coords = {d: u[d] for d in lead if d in u.coords}
    waves_of = {"wavenumber": width * np.arange(out.shape[1])}
    return xr.DataArray(out.reshape(*sizes, -1), {**coords, **waves_of}, [*lead, "wavenumber"])
