"""VTK and OpenFOAM: what is on a grid stays on it, what is not is sampled with a mask, and outside is never zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from romvae.data import open_snapshots
from romvae.errors import AssumptionWarning, ConfigError, DataError

pv = pytest.importorskip("pyvista", reason="needs pip install 'romvae[vtk]'")

pytestmark = pytest.mark.filterwarnings("ignore::romvae.errors.AssumptionWarning")

SERIES = "coordinates: {time: {start: 0.0, step: 0.5}}\n"


def _cells(step: int) -> np.ndarray:
    """Values on 6 x 5 cells (y, x): digits of time, y and x."""
    y, x = np.meshgrid(np.arange(5), np.arange(6), indexing="ij")
    return 100.0 * step + 10.0 * y + x


def _image(path: Path, step: int) -> None:
    grid = pv.ImageData(dimensions=(7, 6, 2), spacing=(0.5, 0.2, 1.0), origin=(1.0, 0.0, 0.0))
    grid.cell_data["p"] = _cells(step).ravel()
    grid.cell_data["U"] = np.stack([_cells(step).ravel() + k for k in (1000, 2000, 3000)], 1)
    grid.save(path)


def _mapping(path: Path, text: str) -> Path:
    path.write_text(f"reader: vtk\n{text}")
    return path


def test_image_data_keep_their_cells(tmp_path: Path) -> None:
    """A file per time, in natural order; a plane of cells is two-dimensional."""
    (tmp_path / "run").mkdir()
    for step, number in enumerate((2, 10, 11)):
        _image(tmp_path / "run" / f"t{number}.vti", step)
    with open_snapshots(tmp_path / "run", reader=_mapping(tmp_path / "m.yaml", SERIES)) as ds:
        assert sorted(map(str, ds.data_vars)) == ["U_x", "U_y", "p"]
        assert ds["p"].dims == ("trajectory", "time", "y", "x")
        np.testing.assert_array_equal(ds["p"].values[0], [_cells(step) for step in range(3)])
        np.testing.assert_array_equal(ds["U_y"].isel(time=2).values[0], _cells(2) + 2000)
        np.testing.assert_allclose(ds["x"], 1.25 + 0.5 * np.arange(6), rtol=1e-15)
        np.testing.assert_allclose(ds["y"], 0.1 + 0.2 * np.arange(5), rtol=1e-15)
        assert ds["time"].values.tolist() == [0.0, 0.5, 1.0]
        assert ds["U_y"].attrs["vector_component"] == "y"
        assert "mask" not in ds


def test_rectilinear_points_keep_their_places(tmp_path: Path) -> None:
    x, y, z = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 2.0, 3.0]), np.array([0.0, 1.0])
    grid = pv.RectilinearGrid(x, y, z)
    values = np.arange(24.0).reshape(2, 3, 4)
    grid.point_data["T"] = values.ravel()  # x is the fastest
    grid.save(tmp_path / "a.vtr")
    with open_snapshots(tmp_path / "a.vtr") as ds:
        np.testing.assert_array_equal(ds["T"].values[0, 0], values)
        for axis, expected in (("x", x), ("y", y), ("z", z)):
            np.testing.assert_array_equal(ds[axis].values, expected)


def test_cells_in_any_order_are_sorted_into_their_grid(tmp_path: Path) -> None:
    """An unstructured mesh of boxes in scrambled order is the grid it came from."""
    grid = pv.ImageData(dimensions=(7, 6, 2), spacing=(0.5, 0.2, 1.0)).cast_to_unstructured_grid()
    grid.cell_data["p"] = _cells(0).ravel()
    scrambled = grid.extract_cells(np.random.default_rng(0).permutation(30))
    pv.UnstructuredGrid(scrambled).save(tmp_path / "a.vtu")
    order = np.random.default_rng(0).permutation(30)
    cells = np.concatenate([np.r_[8, grid.get_cell(int(i)).point_ids] for i in order])
    mesh = pv.UnstructuredGrid(cells, np.full(30, grid.get_cell(0).type, np.uint8), grid.points)
    mesh.cell_data["p"] = _cells(0).ravel()[order]
    mesh.save(tmp_path / "b.vtu")
    for name in ("a.vtu", "b.vtu"):
        with open_snapshots(tmp_path / name) as ds:
            np.testing.assert_array_equal(ds["p"].values[0, 0], _cells(0))
            assert ds.attrs["resampling"] == "cells sorted into their grid"


def _ring() -> pv.UnstructuredGrid:
    """A plane with a hole: a quarter of the boxes is missing."""
    grid = pv.ImageData(dimensions=(5, 5, 2), spacing=(0.25, 0.25, 1.0)).cast_to_unstructured_grid()
    grid.cell_data["p"] = 1.0 + np.arange(16.0)
    centres = np.asarray(grid.cell_centers().points)
    return grid.extract_cells(np.flatnonzero(~((centres[:, 0] > 0.5) & (centres[:, 1] > 0.5))))


def test_a_mesh_without_grid_is_a_question(tmp_path: Path) -> None:
    _ring().save(tmp_path / "a.vtu")
    with pytest.raises(DataError, match=r"its 12 cells do not form a grid. Save a mapping file with the lines"):
        open_snapshots(tmp_path / "a.vtu")


def test_points_outside_of_the_mesh_are_nan_and_masked(tmp_path: Path) -> None:
    """VTK itself would give zeros there."""
    _ring().save(tmp_path / "a.vtu")
    with open_snapshots(tmp_path / "a.vtu", reader=_mapping(tmp_path / "m.yaml", "points: {x: 8, y: 4}\n")) as ds:
        inside = np.ones((4, 8), np.int8)
        inside[2:, 4:] = 0
        np.testing.assert_array_equal(ds["mask"].values, inside)
        expected = np.repeat(1.0 + np.arange(16.0).reshape(4, 4), 2, axis=1)
        expected[inside == 0] = np.nan
        np.testing.assert_array_equal(ds["p"].values[0, 0], expected)
        np.testing.assert_allclose(ds["x"], (np.arange(8) + 0.5) / 8)
        assert ds.attrs["resampling"] == "value of the containing cell"


def test_times_that_nobody_stated_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for step in range(2):
        _image(tmp_path / "run" / f"{step}.vti", step)
    with pytest.raises(ConfigError, match=r"2 files without times. Save a mapping file with the lines 'reader: vtk'"):
        open_snapshots(tmp_path / "run")


def test_a_series_that_climbs_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    entry = '<DataSet timestep="0" part="0" file="../../etc/secret.vtu"/>'
    text = f'<?xml version="1.0"?><VTKFile type="Collection"><Collection>{entry}</Collection></VTKFile>'
    (tmp_path / "a.pvd").write_text(text)
    with pytest.raises(DataError, match=r"a.pvd: names '../../etc/secret.vtu', expected files in its own folder"):
        open_snapshots(tmp_path / "a.pvd")


def test_a_series_file_gives_the_times(tmp_path: Path) -> None:
    entries = []
    for step in range(3):
        _image(tmp_path / f"{step}.vti", step)
        entries.append(f'<DataSet timestep="{0.25 * step}" part="0" file="{step}.vti"/>')
    text = f'<?xml version="1.0"?><VTKFile type="Collection"><Collection>{"".join(entries)}</Collection></VTKFile>'
    (tmp_path / "a.pvd").write_text(text)
    with open_snapshots(tmp_path / "a.pvd") as ds:
        assert ds["time"].values.tolist() == [0.0, 0.25, 0.5]
        np.testing.assert_array_equal(ds["p"].values[0], [_cells(step) for step in range(3)])


HEADER = "FoamFile {{ version 2.0; format ascii; class {kind}; object {name}; }}\n"


def _foam_case(folder: Path) -> None:
    """Two unit boxes side by side along x, in a row of 2 x 1 x 1 cells, with p at two times."""
    mesh = folder / "constant" / "polyMesh"
    mesh.mkdir(parents=True)
    (folder / "system").mkdir()
    (folder / "system" / "controlDict").write_text(
        HEADER.format(kind="dictionary", name="controlDict")
        + "application icoFoam; startTime 0; endTime 1; deltaT 0.5;\n"
    )
    points = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1, 2)]
    faces = [(1, 4, 10, 7), (0, 6, 9, 3), (2, 5, 11, 8)]  # between the cells, left, right
    faces += [(0, 1, 7, 6), (1, 2, 8, 7), (3, 9, 10, 4), (4, 10, 11, 5)]
    faces += [(0, 3, 4, 1), (1, 4, 5, 2), (6, 7, 10, 9), (7, 8, 11, 10)]
    owner = [0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]

    def write(name: str, kind: str, items: list[str]) -> None:
        head = HEADER.format(kind=kind, name=name)
        (mesh / name).write_text(f"{head}{len(items)}\n(\n" + "\n".join(items) + "\n)\n")

    write("points", "vectorField", [f"({x} {y} {z})" for x, y, z in points])
    write("faces", "faceList", [f"4({' '.join(map(str, face))})" for face in faces])
    write("owner", "labelList", list(map(str, owner)))
    write("neighbour", "labelList", ["1"])
    walls = "{ type wall; nFaces 10; startFace 1; }"
    write("boundary", "polyBoundaryMesh", [f"walls {walls}"])
    for step, time in enumerate(("0", "0.5")):
        (folder / time).mkdir()
        values = f"nonuniform List<scalar> 2({10 * step + 1} {10 * step + 2})"
        (folder / time / "p").write_text(
            HEADER.format(kind="volScalarField", name="p")
            + f"dimensions [0 2 -2 0 0 0 0];\ninternalField {values};\n"
            + "boundaryField { walls { type zeroGradient; } }\n"
        )


def test_an_openfoam_case_is_read_with_its_times(tmp_path: Path) -> None:
    _foam_case(tmp_path / "case")
    with open_snapshots(tmp_path / "case") as ds:
        assert ds["p"].dims == ("trajectory", "time", "x")
        np.testing.assert_array_equal(ds["p"].values[0], [[1, 2], [11, 12]])
        np.testing.assert_array_equal(ds["time"], [0.0, 0.5])
        np.testing.assert_allclose(ds["x"], [0.5, 1.5], rtol=1e-6)  # VTK computes centres in single precision


def test_assumptions_are_said(tmp_path: Path) -> None:
    _image(tmp_path / "a.vti", 0)
    with pytest.warns(AssumptionWarning, match="no units for"):
        open_snapshots(tmp_path / "a.vti").close()
