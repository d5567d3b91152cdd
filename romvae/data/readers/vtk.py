"""VTK files and OpenFOAM cases: values of cells, put on a grid with an explicit mask.

Image data and rectilinear grids keep their grid. Cells of a mesh that form a tensor product (a `blockMesh` of one
block) are sorted into it, which is checked. Any other mesh is sampled at the points that the mapping asks for, each
point taking the value of the cell it lies in; points outside of the mesh are NaN and 0 in `mask`.

Limitations: sampling is first order in the size of the cells. Meshes that move are refused. OpenFOAM data come in
single precision. A time step is read as a whole each time one of its fields is used. Files are read in C++ by VTK,
which is not made for hostile input. Needs the extra `vtk` (pyvista).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from romvae.canonical import SPACE, TIME
from romvae.data.mapping import Mapping
from romvae.data.readers.axes import canonical_axes, vector_attrs
from romvae.data.readers.files import Files
from romvae.data.readers.part import About, Part
from romvae.data.readers.piece import Piece
from romvae.errors import ConfigError, DataError, SchemaError, optional_import

__all__ = ["read", "recognises"]

_SUFFIXES = (".vti", ".vtr", ".vts", ".vtu", ".vtk", ".pvd", ".foam")
_SAME = 1e-6  # of the spacing: centres that VTK computes in single precision


def recognises(files: Files) -> bool:
    """Files of VTK, or an OpenFOAM case (`system/controlDict`)."""
    if files.folder is not None and (files.folder / "system" / "controlDict").is_file():
        return True
    return any(_is_vtk(path) for path in files.ending(*_SUFFIXES))


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads one simulation: a series file, an OpenFOAM case, or a file per time in natural order."""
    series = _series(files, mapping)
    mesh = series.mesh(0)
    grid = _grid(mesh, mapping, series.where)
    names = canonical_axes(list(grid.axes), series.where)
    fields: dict[str, list[Piece]] = {}
    attrs: dict[str, dict[str, Any]] = {}
    for name in _array_names(mesh, grid, series.where):
        components = _components(name, _values(mesh, grid, name), grid, names)
        for label, i, about in components:
            attrs[label] = about
            dims = tuple(names[axis] for axis in SPACE if axis in grid.axes)
            fields[label] = [Piece(_Step(series, grid, k, name, i), dims) for k in range(series.times.size)]
    axes = {names[axis]: values for axis, values in grid.axes.items()}
    inside = None if grid.inside.all() else grid.inside
    facts = {"resampling": grid.method}
    part = Part(series.where, fields, series.times, axes, 1, inside=inside)
    return [part], About("vtk", "cells", {}, attrs, {}, facts)


@dataclass(frozen=True, eq=False)
class _Series:
    """Meshes in time."""

    where: str
    times: np.ndarray
    load: Callable[[int], Any]

    def mesh(self, step: int) -> Any:
        return _loaded(self, step)


@lru_cache(maxsize=2)
def _loaded(series: _Series, step: int) -> Any:
    try:
        return series.load(step)
    except (OSError, ValueError, RuntimeError, KeyError, IndexError) as error:
        raise DataError(f"{series.where}: time {step} cannot be read: damaged. Copy or simulate it again") from error


@dataclass(frozen=True, eq=False)
class _Grid:
    """Coordinates of the axes with more than one point, and how the values of a mesh come onto them."""

    axes: dict[str, np.ndarray]
    inside: np.ndarray
    method: str
    values: Callable[[Any, str], np.ndarray]


class _Step:
    """One component of one field at one time, on the grid."""

    def __init__(self, series: _Series, grid: _Grid, step: int, name: str, component: int | None) -> None:
        self.series, self.grid, self.step, self.name, self.component = series, grid, step, name, component
        self.shape: tuple[int, ...] = grid.inside.shape
        self.dtype = _values(series.mesh(0), grid, name).dtype

    def __getitem__(self, key: tuple[int | slice, ...]) -> np.ndarray:
        mesh = self.series.mesh(self.step)
        if self.name not in mesh.cell_data and self.name not in mesh.point_data:
            raise DataError(f"{self.series.where}: {self.name!r} is missing at time {self.step}. Simulate it again")
        values = _values(mesh, self.grid, self.name)
        values = values if self.component is None else values[..., self.component]
        if values.shape != self.shape:
            raise SchemaError(f"{self.series.where}: the mesh changes at time {self.step}, expected a fixed one")
        return values[key]


def _pyvista() -> Any:
    return optional_import("pyvista", "vtk", "reading VTK and OpenFOAM")


def _is_vtk(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(512)
    return path.suffix == ".foam" or b"<VTKFile" in head or head.startswith(b"# vtk DataFile")


def _series(files: Files, mapping: Mapping) -> _Series:
    pv = _pyvista()
    folder = files.folder
    foam = folder is not None and (folder / "system" / "controlDict").is_file()
    case = next(iter(files.ending(".foam")), None)
    collection = next(iter(files.ending(".pvd")), None)
    if foam or case is not None:
        return _foam(pv, case or Path(str(folder)) / "case.foam", files.source)
    if collection is not None:
        _check_collection(collection)
        reader = pv.get_reader(str(collection))

        def load(step: int) -> Any:
            reader.set_active_time_point(step)
            return reader.read()[0]

        return _Series(str(collection), np.asarray(reader.time_values, dtype=np.float64), load)
    paths = files.ending(*_SUFFIXES)
    entry = mapping.coordinates.get(TIME)
    if len(paths) > 1 and (entry is None or not entry.given):
        raise ConfigError(
            f"{files.source}: {len(paths)} files without times. Save a mapping file with the lines 'reader: vtk' and "
            "'coordinates: {time: {start: 0.0, step: 0.1}}', and give it with --reader"
        )
    return _Series(files.source, np.arange(len(paths), dtype=np.float64), lambda step: pv.read(str(paths[step])))


def _check_collection(path: Path) -> None:
    """The files that a series names have to lie beside it: a path could lead anywhere."""
    import re

    text = path.read_text(encoding="utf-8", errors="replace")[:10_000_000]
    for name in re.findall(r'file\s*=\s*"([^"]*)"', text):
        if Path(name).is_absolute() or ".." in Path(name).parts or "://" in name:
            raise DataError(f"{path}: names {name!r}, expected files in its own folder. Move them there")


def _foam(pv: Any, case: Path, where: str) -> _Series:
    folder = case.parent
    if not (folder / "system" / "controlDict").is_file():
        raise DataError(f"{where}: has no system/controlDict beside it, expected an OpenFOAM case. Give its folder")
    parallel = (folder / "processor0").is_dir()
    reader = pv.POpenFOAMReader(str(folder / "system" / "controlDict"))  # needs no empty file `case.foam`
    reader.case_type = "decomposed" if parallel else "reconstructed"
    reader.cell_to_point_creation = False
    reader.skip_zero_time = False
    times = np.asarray(reader.time_values, dtype=np.float64)
    if not times.size:
        raise DataError(f"{where}: has no time folders. Run the solver, or give another case")

    def load(step: int) -> Any:
        reader.set_active_time_value(float(times[step]))
        return reader.read()["internalMesh"]

    return _Series(where, times, load)


def _grid(mesh: Any, mapping: Mapping, where: str) -> _Grid:
    pv = _pyvista()
    if mapping.points:
        return _sampled(mesh, mapping.points, where)
    if isinstance(mesh, pv.ImageData | pv.RectilinearGrid):
        return _structured(mesh)
    return _sorted(mesh, where)


def _structured(mesh: Any) -> _Grid:
    """Points where there are point values, else centres of cells; VTK stores x fastest."""
    points = bool(mesh.point_data)
    nodes = {axis: np.asarray(getattr(_pyvista().RectilinearGrid(*_nodes(mesh)), axis)) for axis in "xyz"}
    centres = {axis: (v[1:] + v[:-1]) / 2 if v.size > 1 else v for axis, v in nodes.items()}
    every = nodes if points else centres
    shape = tuple(every[axis].size for axis in SPACE)
    axes = {axis: every[axis].astype(np.float64) for axis in SPACE if every[axis].size > 1}
    kept = tuple(n for n in shape if n > 1)

    def values(found: Any, name: str) -> np.ndarray:
        data = np.asarray((found.point_data if points else found.cell_data)[name])
        return data.reshape(*kept, *data.shape[1:])

    return _Grid(axes, np.ones(kept, bool), "none", values)


def _nodes(mesh: Any) -> tuple[np.ndarray, ...]:
    if hasattr(mesh, "origin"):
        return tuple(
            np.asarray(o + s * np.arange(n)) for o, s, n in zip(mesh.origin, mesh.spacing, mesh.dimensions, strict=True)
        )
    return tuple(np.asarray(getattr(mesh, axis)) for axis in "xyz")


def _sorted(mesh: Any, where: str) -> _Grid:
    """Cells whose centres form a tensor product, in its order."""
    centres = np.asarray(mesh.cell_centers().points, dtype=np.float64)
    axes, places = {}, {}
    for axis, column in zip("xyz", centres.T, strict=True):
        levels, place = _levels(column)
        places[axis] = place
        if levels.size > 1:
            axes[axis] = levels
    order = [axis for axis in SPACE if axis in axes]
    shape = tuple(axes[axis].size for axis in order)
    flat = np.ravel_multi_index([places[axis] for axis in order], shape) if order else np.zeros(len(centres), int)
    if len(centres) != int(np.prod(shape)) or np.unique(flat).size != flat.size:
        raise SchemaError(
            f"{where}: its {len(centres)} cells do not form a grid. Save a mapping file with the lines 'reader: vtk' "
            "and 'points: {x: 64, y: 32}' (points of the grid to sample on) and give it with --reader"
        )
    back = np.argsort(flat)

    def values(found: Any, name: str) -> np.ndarray:
        data = np.asarray(found.cell_data[name])
        if len(data) != len(back):
            raise SchemaError(f"{where}: the mesh changes to {len(data)} cells, expected {len(back)}. Use a fixed mesh")
        return data[back].reshape(*shape, *data.shape[1:])

    return _Grid({axis: axes[axis] for axis in order}, np.ones(shape, bool), "cells sorted into their grid", values)


def _levels(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different coordinates of a column, and the place of every entry among them."""
    order = np.argsort(column, kind="stable")
    rising = column[order]
    gaps = np.diff(rising)
    extent = float(rising[-1] - rising[0]) if rising.size else 0.0
    new = np.concatenate([[False], gaps > max(_SAME * extent, 1e-300)])
    number = np.cumsum(new)
    place = np.empty(column.size, dtype=np.int64)
    place[order] = number
    return np.array([rising[number == k].mean() for k in range(number[-1] + 1)]), place


def _sampled(mesh: Any, points: dict[str, int], where: str) -> _Grid:
    """Centres of equal cells of the bounding box; each takes the value of the mesh's cell it lies in."""
    bounds = dict(zip("xyz", np.asarray(mesh.bounds).reshape(3, 2), strict=True))
    axes = {}
    for axis in (a for a in SPACE if a in points):
        low, high = bounds[axis]
        axes[axis] = low + (high - low) * (np.arange(points[axis]) + 0.5) / points[axis]
    middle = {axis: np.array([(low + high) / 2]) for axis, (low, high) in bounds.items()}
    every = [axes.get(axis, middle[axis]) for axis in SPACE]
    z, y, x = (grid.ravel() for grid in np.meshgrid(*every, indexing="ij"))
    cells = np.asarray(mesh.find_containing_cell(np.column_stack([x, y, z])))
    shape = tuple(values.size for values in axes.values())
    if (cells < 0).all():
        raise SchemaError(f"{where}: no point of the grid lies in the mesh. Check points in the mapping")

    def values(found: Any, name: str) -> np.ndarray:
        if found.n_cells != mesh.n_cells:
            raise SchemaError(
                f"{where}: the mesh changes to {found.n_cells} cells, expected {mesh.n_cells}. Use a fixed mesh"
            )
        data = np.asarray(found.cell_data[name], dtype=np.float64)
        taken = data[np.maximum(cells, 0)]
        taken[cells < 0] = np.nan
        return taken.reshape(*shape, *data.shape[1:])

    return _Grid(axes, (cells >= 0).reshape(shape), "value of the containing cell", values)


def _array_names(mesh: Any, grid: _Grid, where: str) -> list[str]:
    data = mesh.point_data if grid.method == "none" and mesh.point_data else mesh.cell_data
    names = [str(n) for n in data if np.asarray(data[n]).dtype.kind == "f" and not str(n).startswith("vtk")]
    if not names:
        raise DataError(
            f"{where}: holds no values in cells. Convert point values to cells (VTK: point data to cell data)"
        )
    return names


def _values(mesh: Any, grid: _Grid, name: str) -> np.ndarray:
    return grid.values(mesh, name)


def _components(
    name: str, values: np.ndarray, grid: _Grid, names: dict[str, str]
) -> list[tuple[str, int | None, dict[str, Any]]]:
    if values.ndim == len(grid.axes):
        return [(name, None, {"long_name": name})]
    if values.shape[-1] == 3:
        kept = [(axis, i) for i, axis in enumerate("xyz") if axis in grid.axes]
        return [(f"{name}_{axis}", i, vector_attrs(name, axis, names[axis])) for axis, i in kept]
    return [(f"{name}_{i}", i, {"long_name": f"{name} {i}"}) for i in range(values.shape[-1])]
