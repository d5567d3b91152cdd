"""`romvae pack`: snapshots of any format as one canonical store, or a part of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from romvae.commands.options import Overwrite, Quiet, Reader
from romvae.commands.outputs import check_store
from romvae.environment import available_cpus
from romvae.errors import ConfigError
from romvae.progress import stage, terminal_progress

if TYPE_CHECKING:
    from romvae.data.subset import Range

__all__ = ["pack"]


def pack(
    *paths: Path,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    fields: str | None = None,
    trajectories: str | None = None,
    time: str | None = None,
    x: str | None = None,
    y: str | None = None,
    z: str | None = None,
    stride_time: int | None = None,
    stride_x: int | None = None,
    stride_y: int | None = None,
    stride_z: int | None = None,
    min_steps: int | None = None,
    trim: bool = False,
    interpolate_time: float | None = None,
    interpolate_x: int | None = None,
    interpolate_y: int | None = None,
    interpolate_z: int | None = None,
    method: Literal["linear", "cubic"] = "linear",
    reader: Reader = None,
    layout: Literal["romvae", "well"] = "romvae",
    workers: Annotated[int | None, Parameter(name=["--workers", "-j"])] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Convert, cut or interpolate snapshots into one verified store; called again, it goes on where it was stopped.

    Arguments:
        paths: stores to read, their trajectories one after the other, and last, without --out, the store to write: a
            folder NAME.zarr, or a file NAME.h5 or NAME.nc.
        out: store to write, where it is not the last of the paths.
        fields: names of the fields to keep, such as u,v.
        trajectories: positions of the trajectories to keep, FIRST:END, the end not included.
        time: range of times to keep, LOW:HIGH in units of time, both included; either may be left out.
        x: range of x to keep, LOW:HIGH in its units; a cut side becomes open.
        y: range of y to keep.
        z: range of z to keep.
        stride_time: keep every n-th time.
        stride_x: keep every n-th point of x.
        stride_y: keep every n-th point of y.
        stride_z: keep every n-th point of z.
        min_steps: drop trajectories with fewer times.
        trim: cut all trajectories to the times of the shortest.
        interpolate_time: interpolate to this time step.
        interpolate_x: interpolate x to this number of points.
        interpolate_y: interpolate y to this number of points.
        interpolate_z: interpolate z to this number of points.
        method: how to interpolate; cubic overshoots at jumps.
        layout: of the store to write: romvae's own, or that of The Well (a file NAME.hdf5 or NAME.h5, in one go).
        workers: processes, by default one per processor; the store is the same for any number.
    """
    inputs = list(paths)
    if out is None and inputs:
        out = inputs.pop()
    if out is None or not inputs:
        raise ConfigError("pack: give one store to read or several, and last, or with --out, the store to write.")
    check_store(out, overwrite)
    from romvae.data.pack import Selection, packed_view
    from romvae.data.pack import pack as packed

    ranges = {"time": time, "x": x, "y": y, "z": z}
    strides = {"time": stride_time, "x": stride_x, "y": stride_y, "z": stride_z}
    points = {"x": interpolate_x, "y": interpolate_y, "z": interpolate_z}
    selection = Selection(
        fields=tuple(name.strip() for name in fields.split(",")) if fields is not None else None,
        trajectories=_positions(trajectories) if trajectories is not None else None,
        ranges={dim: _range(f"--{dim}", text) for dim, text in ranges.items() if text is not None},
        strides={dim: n for dim, n in strides.items() if n is not None},
        min_steps=min_steps,
        trim=trim,
        dt=interpolate_time,
        points={dim: n for dim, n in points.items() if n is not None},
        method=method,
    )
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers = {workers}: should be at least 1.")
    if layout == "well":
        from romvae.data import write_well

        with packed_view(inputs, selection, reader) as ds:
            write_well(ds, out, overwrite=overwrite)
        print(f"{out}: written and verified")
        return
    with terminal_progress(quiet) as progress:
        packed(
            inputs,
            out,
            selection,
            reader=reader,
            workers=workers or available_cpus(),
            overwrite=overwrite,
            progress=stage(progress, "pack"),
        )
    print(f"{out}: packed and verified")
    print(f"Next: romvae info {out}")


def _range(flag: str, text: str) -> Range:
    low, colon, high = text.partition(":")
    try:
        bounds = (float(low) if low.strip() else None, float(high) if high.strip() else None)
    except ValueError:
        bounds, colon = (None, None), ""
    if not colon or (bounds[0] is not None and bounds[1] is not None and bounds[0] > bounds[1]):
        raise ConfigError(f"{flag} = {text}: expected LOW:HIGH, such as {flag} 0:10.")
    return bounds


def _positions(text: str) -> tuple[int | None, int | None]:
    first, colon, end = text.partition(":")
    try:
        bounds = (int(first) if first.strip() else None, int(end) if end.strip() else None)
    except ValueError:
        bounds, colon = (None, None), ""
    if not colon or any(bound is not None and bound < 0 for bound in bounds):
        raise ConfigError(f"--trajectories = {text}: expected FIRST:END, such as --trajectories 0:100.")
    return bounds
