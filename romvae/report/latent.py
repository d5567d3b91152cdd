"""The page's section on the latent space: what each latent carries, where the data lie, how the size was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from romvae import plot
from romvae.plot.style import plain
from romvae.report.picture import Picture, as_picture
from romvae.report.reading import percent
from romvae.schema import LATENT, TIME, TRAJECTORY

__all__ = ["latent_charts"]

_COORDINATES: Final = (TRAJECTORY, TIME, "path_trajectory", "shown", "between", "position", LATENT, "split")


def latent_charts(latent: xr.Dataset | None, info: Mapping[str, Any]) -> list[Picture]:
    """Figures of the section; a part that was not measured is left out.

    Arguments:
        latent: From `romvae.latent.latent_summary`; None where there is none.
        info: Its `latent_size` holds what `latent: auto` found.
    """
    pictures = []
    answer = info.get("latent_size")
    if isinstance(answer, Mapping) and answer.get("tried"):
        pictures.append(_size(answer))
    if latent is None:
        return pictures
    if "kl" in latent:
        pictures.append(_activity(latent))
    if "first" in latent:
        pictures += [_projection(latent, name) for name in _colours(latent)]
    if "path" in latent:
        pictures.append(_paths(latent))
    if "interpolated_latent" in latent:
        pictures.append(_interpolation(latent))
    if "traversed" in latent:
        pictures.append(_traversal(latent))
    return pictures


def _size(answer: Mapping[str, Any]) -> Picture:
    return as_picture(
        plot.latent_size(answer),
        "How many latents the data need",
        f"{answer.get('answer', '')} The dashed line is the best linear compression; a trained size below it says more "
        "with as many numbers.",
        f"Error against the size of the code: POD's curve and the trained sizes; {answer.get('latent')} was chosen.",
    )


def _activity(latent: xr.Dataset) -> Picture:
    active, total = int(latent["active"].sum()), latent.sizes[LATENT]
    return as_picture(
        plot.activity_bars(latent),
        "What each latent carries",
        "Information per latent on held-out snapshots. A filled one carries more than a nat (dashed), and without it "
        "the error grows by more than 2 %. Idle ones do no harm, but a smaller code would do; if none is idle, a "
        "larger code may compress better.",
        f"Bar chart of the KL divergence of {total} latents, {active} of them active.",
    )


def _colours(latent: xr.Dataset) -> list[str]:
    """Time, the reconstruction error, and the first parameter that varies."""
    names = [
        str(name) for name in latent.coords if str(name) not in _COORDINATES and latent[name].dims == (TRAJECTORY,)
    ]
    varying = [name for name in names if latent[name].dtype.kind == "f" and float(np.ptp(latent[name].values)) > 0]
    return [TIME, *varying[:1], "error"] if latent.sizes[TIME] > 1 else [*varying[:1], "error"]


def _projection(latent: xr.Dataset, colour: str) -> Picture:
    by = {"error": "reconstruction error", TIME: "time"}.get(colour, plain(colour))
    what = {
        "error": "Bright spots are states that the code represents badly: more data there would help most.",
        TIME: "Trajectories (thin lines) should run smoothly through it: jumps are hard for the dynamics to learn.",
    }.get(colour, "A parameter that orders the cloud is one that the code has found.")
    return as_picture(
        plot.projection(latent, colour),
        f"Where the data lie in the code, by {by}",
        f"Every held-out snapshot's code, on the two directions in which the codes vary most. {what}",
        f"Scatter plot of the codes on their two leading principal axes, coloured by {by}.",
    )


def _paths(latent: xr.Dataset) -> Picture:
    path = latent["path"].rename({"path_trajectory": TRAJECTORY, "shown": LATENT})
    return as_picture(
        plot.latent_trajectories(path),
        "The paths of trajectories in the code",
        "What the latent dynamics has to forecast: one line per held-out trajectory, the most informative latents "
        "first. Smooth lines of about unit size are easy.",
        f"Line charts of {path.sizes[LATENT]} latents over time for {path.sizes[TRAJECTORY]} trajectories.",
    )


def _interpolation(latent: xr.Dataset) -> Picture:
    names = ("latent", "field", "encoding")
    errors = xr.Dataset({name: (TIME, latent[f"interpolated_{name}"].values) for name in names})
    errors = errors.assign_coords({TIME: latent["between"].values})
    middle = errors.isel({TIME: errors.sizes[TIME] // 2})
    return as_picture(
        plot.interpolation(errors),
        "Halfway between two states",
        "The fields decoded from points on the straight line between the codes of two times, against the true states "
        "in between. Below the dashed line (the mean of the two fields themselves) the code is a better place to "
        "interpolate in; the dotted line is what the compression costs anyway.",
        f"Line chart of interpolation errors: {percent(float(middle['latent']))} between codes, "
        f"{percent(float(middle['field']))} between fields, at the middle.",
    )


def _traversal(latent: xr.Dataset) -> Picture:
    field = latent["traversed"]
    name = str(field.attrs.get("field", "field"))
    spaces = {str(dim): str(dim).removeprefix("at_") for dim in field.dims[2:]}
    fields = field.rename({**spaces, "shown": LATENT}).rename(plain(name)).to_dataset(name=plain(name))
    return as_picture(
        plot.traversal(fields, plain(name)),
        "What each latent does",
        f"The field {plain(name)} decoded from one held-out snapshot's code (middle column) as one latent at a time is "
        "moved by up to two deviations of the prior.",
        f"Small fields in a grid: {fields.sizes[LATENT]} latents down, {fields.sizes['position']} positions across.",
        as_map=field.ndim > 3,
    )
