"""Foreign files that are broken, ambiguous or not what they seem: each is refused by one line that says where and what.

The table below is the list; every row damages a file of a public layout in one way. `python -m tests.data.refusals`
prints it with what became of each row, together with the hostile files and the mappings that do not fit.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from romvae.data import open_snapshots
from romvae.errors import AssumptionWarning, ConfigError, DataError

from .foreign_files import LAYOUTS, X, number

Change = Callable[[h5py.File], None]


def _replace(name: str, values: np.ndarray) -> Change:
    """Puts other values in the place of a dataset, attributes kept."""

    def change(file: h5py.File) -> None:
        attrs = dict(file[name].attrs) if name in file else {}
        if name in file:
            del file[name]
        file[name] = values
        for key, value in attrs.items():
            if key not in ("REFERENCE_LIST", "DIMENSION_LIST", "CLASS", "NAME"):
                file[name].attrs[key] = value

    return change


def _remove(name: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def _attr(name: str, key: str, value: object) -> Change:
    def change(file: h5py.File) -> None:
        file[name].attrs[key] = value

    return change


def _without_attr(name: str, key: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[name].attrs[key]

    return change


def _set(name: str, index: tuple[int, ...], value: float) -> Change:
    def change(file: h5py.File) -> None:
        file[name][index] = value

    return change


def _unwritten(name: str) -> Change:
    """A dataset that was allocated, but never filled: HDF5 would give zeros."""

    def change(file: h5py.File) -> None:
        shape, dtype, attrs = file[name].shape, file[name].dtype, dict(file[name].attrs)
        del file[name]
        data = file.create_dataset(name, shape, dtype, chunks=(1, *shape[1:]))
        data[:1] = 1.0
        data.attrs.update(attrs)

    return change


def _constant(values: np.ndarray) -> np.ndarray:
    return np.tile(values, (2, 1))


WELL, SCALAR, FLOW = "The Well, axes dropped", "PDEBench scalar", "PDEBench compressible"
ARENA, CHAOS, JHTDB = "PDEArena Navier-Stokes", "PDEArena Kuramoto-Sivashinsky", "JHTDB"
BUBBLE, DEDALUS, FRAMES = "BubbleML", "Dedalus", "PDEBench incompressible"
CUBE = np.zeros((5, 5, 5, 3), "f4")

IN_HDF5: list[tuple[str, str, Change, str]] = [
    (
        WELL,
        "",
        _replace("t0_fields/buoyancy", np.zeros((2, 3, 5, 6), "f4")),
        r"t0_fields/buoyancy: has shape \(2, 3, 5, 6\)",
    ),
    (WELL, "", _remove("t1_fields/velocity"), r"t1_fields names 'velocity', which is not there"),
    (WELL, "", _remove("dimensions/y"), r"dimensions/y: is missing"),
    (
        WELL,
        "",
        _attr("dimensions/x", "time_varying", True),
        r"dimensions/x: the grid moves in time, expected a fixed one",
    ),
    (WELL, "", _without_attr("t0_fields/buoyancy", "time_varying"), r"attribute 'time_varying' is missing"),
    (WELL, "", _attr("t0_fields/buoyancy", "dim_varying", [True]), r"dim_varying has 1 entries, expected 2"),
    (
        WELL,
        "",
        _attr("boundary_conditions/y_wall", "bc_type", "INFLOW"),
        r"bc_type is 'INFLOW', expected wall, open or",
    ),
    (
        WELL,
        "",
        _replace("scalars/seed", np.zeros(3, "f4")),
        r"parameter 'seed' has shape \(3,\), expected a value for each of",
    ),
    (WELL, "", _replace("scalars/Rayleigh", np.float32(2e4)), r"scalars names|variables|Rayleigh"),
    (
        WELL,
        "",
        _set("t1_fields/velocity", (1, 2, 3, 4, 1), np.nan),
        r"'velocity_y' is NaN, first at trajectory 1, time 2 ",
    ),
    (WELL, "", _unwritten("t0_fields/buoyancy"), r"t0_fields/buoyancy: 1 of 2 chunks were never written"),
    (
        SCALAR,
        "",
        _replace("t-coordinate", np.arange(5.0)),
        r"'t-coordinate' has shape \(5,\), expected 3 times for 3 frames",
    ),
    (SCALAR, "", _replace("tensor", np.zeros((2, 1, 6, 5), "f4")), r"'tensor' has one time \(a steady problem\)"),
    (SCALAR, "", _replace("tensor", np.zeros((2, 6, 3), "f4")), r"'t-coordinate' has shape|'u' has 3 entries along x"),
    (
        SCALAR,
        "",
        _replace("x-coordinate", X[:5]),
        r"'u' has 6 entries along x .* but 5 are expected from the coordinates",
    ),
    (SCALAR, "", _replace("x-coordinate", X[[0, 2, 1, 3, 4, 5]]), r"coordinate 'x' does not increase at index 2"),
    (FLOW, "", _remove("z-coordinate"), r"'z-coordinate' is missing"),
    (
        FLOW,
        "",
        _set("density", (0, 1, 2, 3, 1), np.inf),
        r"'density' is infinite, first at trajectory 0, time 1 .*, z 1",
    ),
    (
        "PDEBench, group per seed",
        "",
        _remove("0007/grid"),
        r": 0007: has no 'data' and 'grid', expected both in every group",
    ),
    (
        "PDEBench, group per seed",
        "",
        _replace("0007/grid/x", X + 1),
        r"0007: 'x' is 1 at index 0, but 0 in .*: 0000. Interp",
    ),
    (FRAMES, "", _attr("/", "latestIndex", 7), r"latestIndex is 7, but there are 5 frames"),
    (FRAMES, "", _attr("/", "latestIndex", 4), r"velocity: 4 of 10 chunks were never written"),
    (FRAMES, "", _attr("/", "latestIndex", 3), r"velocity: chunks before index 4 of axis 1 were never written"),
    (
        ARENA,
        "",
        _replace("train/t", np.array([[0, 0.5, 1], [0, 0.6, 1]])),
        r"coordinate 't' of trajectory 1 differs .*index 1",
    ),
    (ARENA, "", _remove("train/x"), r"train: 'x' is missing"),
    (ARENA, "", _replace("train/buo_y", np.zeros(3)), r"parameter 'buo_y' has shape \(3,\)"),
    (
        CHAOS,
        "",
        _replace("train/pde_4-8", np.zeros((2, 4, 8))),
        r"has several series \(pde_3-6, pde_4-8\), expected one",
    ),
    (
        CHAOS,
        "",
        _replace("train/pde_3-6", np.zeros((2, 6))),
        r"pde_3-6: has shape \(2, 6\), expected \(trajectory, time, x\)",
    ),
    (JHTDB, "", _remove("Pressure_0003"), r"index 0003 is stored of one of"),
    (
        JHTDB,
        "",
        _replace("Velocity_0001", np.zeros((5, 5, 6, 3), "f4")),
        r"Velocity_0001: has shape .*coordinates have sizes",
    ),
    (
        JHTDB,
        "",
        _replace("Velocity_0001", np.zeros((4, 5, 6, 2), "f4")),
        r"Velocity_0001 has 2 components, expected 1 or 3",
    ),
    (
        BUBBLE,
        "Twall-90.hdf5",
        _set("x", (1, 2, 3), 9.0),
        r"'x' is 9 at time 1, y 2, x 3, expected the same at all times",
    ),
    (
        BUBBLE,
        "Twall-100.hdf5",
        _set("velx", (2, 3, 1), np.nan),
        r"'velx' is NaN, first at trajectory 1, time 2 .*, y 3 .*, x 1",
    ),
    (BUBBLE, "Twall-100.hdf5", _remove("vely"), r"Twall-100.hdf5: fields are .*, but .*Twall-90.hdf5 has"),
    (
        BUBBLE,
        "Twall-90.hdf5",
        _replace("real-runtime-params", np.zeros(3)),
        r"'real-runtime-params' is no table of names",
    ),
    (DEDALUS, "snapshots_s9.h5", _remove("scales/sim_time"), r"snapshots_s9.h5: scales/sim_time is missing"),
    (
        DEDALUS,
        "snapshots_s9.h5",
        _replace("scales/write_number", np.array([2, 1])),
        r"write_number does not increase within",
    ),
    (
        DEDALUS,
        "snapshots_s10.h5",
        _attr("/", "handler_name", "profiles"),
        r"sets of several handlers \(profiles, snapshots\)",
    ),
    (DEDALUS, "snapshots_s10.h5", _remove("tasks/b"), r"task 'b' is not in all sets"),
    (DEDALUS, "snapshots_s10.h5", _replace("tasks/b", np.zeros((2, 6, 5), "c16")), r"tasks/b"),
]


def _npy(name: str, values: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path / name, values)


def _case(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path / "dam" / "case2" / "case.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def _only_extent(path: Path) -> None:
    (path / "dam" / "case2" / "case.json").write_text(json.dumps({"velocity": 0.1}))


def _cut(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path / name
        file.write_bytes(file.read_bytes()[:-40])

    return change


IN_FOLDERS: list[tuple[str, Callable[[Path], None], str]] = [
    (
        "APEBench",
        _npy("1d_burgers_test.npy", np.zeros((2, 6), "f4")),
        r"burgers_test.npy: has shape \(2, 6\), expected \(traj",
    ),
    (
        "APEBench",
        _npy("1d_burgers_test.npy", number(("trajectory", "time", "x"))[..., None]),
        r"\[1\] points in space, but",
    ),
    ("APEBench", _cut("1d_burgers_test.npy"), r"burgers_test.npy: is cut off or no .npy file"),
    (
        "CFDBench",
        _npy("dam/case2/v.npy", np.zeros((3, 5, 7), "f4")),
        r"case2: u.npy has shape \(3, 5, 6\) and v.npy \(3, 5, 7\)",
    ),
    ("CFDBench", _case(density="heavy"), r"case2/case.json: density is 'heavy', expected a number"),
    ("CFDBench", _case(width=3.0), r"'x' is 0.125 at index 0, but 0.25 in .*case2. Interpolate to one grid"),
    ("CFDBench", _case(inflow=1.0), r"parameters are .*, but .*case2 has .*inflow"),
    ("CFDBench", _only_extent, r"case.json: has none of x_min, width, dx, expected one"),
    ("CFDBench", _cut("dam/case10/u.npy"), r"case10/u.npy: is cut off or no .npy file"),
]


@pytest.fixture(autouse=True)
def _assumptions_are_expected() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        yield


def _label(value: object) -> str:
    return value if isinstance(value, str) else ""


def _refused(path: Path, layout: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_snapshots(path, reader=layout).close()
    text = str(caught.value)
    assert "\n" not in text
    assert str(path.parent) in text  # the file, or the folder of the data set


@pytest.mark.parametrize(("layout", "inside", "change", "message"), IN_HDF5, ids=_label)
def test_damaged_hdf5_is_refused_by_one_line(
    layout: str, inside: str, change: Change, message: str, tmp_path: Path
) -> None:
    name, write = LAYOUTS[layout]
    expected = write(tmp_path / name)
    with h5py.File(tmp_path / name / inside if inside else tmp_path / name, "r+") as file:
        if "Rayleigh" in message:  # a scalar that contradicts the attribute of the same name
            file["scalars"].attrs["field_names"] = ["Prandtl", "Rayleigh"]
            message = r"scalars/Rayleigh: is 20000, but the attribute of that name is 10000"
        change(file)
        if "Rayleigh" in message:
            file["scalars/Rayleigh"].attrs.update(sample_varying=False, time_varying=False)
    _refused(tmp_path / name, expected.layout, message)


@pytest.mark.parametrize(("layout", "change", "message"), IN_FOLDERS, ids=_label)
def test_damaged_folder_is_refused_by_one_line(
    layout: str, change: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    name, write = LAYOUTS[layout]
    expected = write(tmp_path / name)
    change(tmp_path / name)
    _refused(tmp_path / name, expected.layout, message)


def test_a_cube_is_a_question_and_the_answer_counts(tmp_path: Path) -> None:
    """With sides of equal length nobody can know; the user says the order, and gets exactly that."""
    path = tmp_path / "cube.h5"
    values = number(("y", "x", "z"), z=5, x=5).astype("f4")
    with h5py.File(path, "w") as file:
        for index in (1, 2):
            file[f"Pressure_{index:04d}"] = values
        for axis in "xyz":
            file[f"{axis}coor"] = np.arange(5.0)
    with pytest.raises(DataError, match=r"which axis is which\? Sides of equal length cannot tell. Save a file with"):
        open_snapshots(path)
    (tmp_path / "m.yaml").write_text("reader: jhtdb\naxes: [y, x, z]\n")
    with pytest.warns(AssumptionWarning, match="has no times"), open_snapshots(path, reader=tmp_path / "m.yaml") as ds:
        np.testing.assert_array_equal(ds["pressure"][0, 0].values, values.transpose(2, 0, 1))
    (tmp_path / "m.yaml").write_text("reader: jhtdb\naxes: [x, y, y]\n")
    with pytest.raises(DataError, match=r"which is not \(x, y, y\)"):
        open_snapshots(path, reader=tmp_path / "m.yaml")


def test_two_layouts_in_one_file_are_a_question(tmp_path: Path) -> None:
    name, write = LAYOUTS[SCALAR]
    write(tmp_path / name)
    with h5py.File(tmp_path / name, "r+") as file:
        file["tasks/b"], file["scales/sim_time"] = np.zeros(3), np.zeros(3)
    with pytest.raises(DataError, match=r"could be pdebench or dedalus. Say which with --reader pdebench"):
        open_snapshots(tmp_path / name)
    with open_snapshots(tmp_path / name, reader="pdebench") as ds:
        assert ds.attrs["source_format"] == "pdebench"


def test_readers_are_named_exactly(tmp_path: Path) -> None:
    name, write = LAYOUTS[SCALAR]
    write(tmp_path / name)
    with pytest.raises(ConfigError, match=r"--reader pdebnch: no such layout, expected one of .* mean 'pdebench'"):
        open_snapshots(tmp_path / name, reader="pdebnch")
    with pytest.raises(ConfigError, match=r"m.yaml: no such mapping file. Check the path given to --reader"):
        open_snapshots(tmp_path / name, reader=tmp_path / "m.yaml")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    paths = []
    for i, layout in enumerate((SCALAR, SCALAR)):
        _, write = LAYOUTS[layout]
        paths.append(tmp_path / f"{i}.hdf5")
        write(paths[-1])
    with h5py.File(paths[1], "r+") as file:
        _replace("t-coordinate", np.array([0, 0.25, 0.5]))(file)
    message = r"1.hdf5: 'time' is 0.25 at index 1, but 0.5 in .*0.hdf5. Interpolate to one time axis, or open them sep"
    with pytest.raises(DataError, match=message):
        open_snapshots(paths)
    with h5py.File(paths[1], "r+") as file:
        _replace("t-coordinate", np.array([0, 0.5, 1.0]))(file)
        _replace("tensor", number(("trajectory", "time", "x"), x=5))(file)
        _replace("x-coordinate", X[:5])(file)
    with pytest.raises(DataError, match=r"1.hdf5: 'x' has 5 points, but .*0.hdf5 has 6. Interpolate to one grid"):
        open_snapshots(paths)


def test_the_list_is_long_enough() -> None:
    from .refusals import ROWS

    assert len(IN_HDF5) + len(IN_FOLDERS) >= 25
    assert len(ROWS) >= 60
    assert len({(row.group, row.what) for row in ROWS}) == len(ROWS)
