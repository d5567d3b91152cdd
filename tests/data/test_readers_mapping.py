"""Any array file through a mapping: what it says is done exactly, what it does not fit is refused, never guessed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml
import zarr

from romvae.boundary import boundaries_of
from romvae.cli import main
from romvae.data import open_snapshots, write_snapshots
from romvae.data.mapping import read_mapping
from romvae.data.readers import propose
from romvae.errors import AssumptionWarning, ConfigError, DataError
from romvae.testing import mock_snapshots

from .foreign_files import TIMES, X, Y, field_of, number

MAPPING = """\
reader: {reader}
fields:
  u: {{path: {u}, dims: [trajectory, time, x, y, component], index: {{component: 0}}, units: m s-1}}
  v: {{path: {u}, dims: [trajectory, time, x, y, component], index: {{component: 1}}, units: m s-1, long_name: rise}}
coordinates:
  time: {{start: 0.0, step: 0.5, units: s}}
  x: {{path: {x}, units: m}}
  y: {{values: [-2.0, -1.0, 0.0, 1.0, 3.0]}}
parameters:
  nu: {{path: {nu}, units: m2 s-1}}
  gravity: {{value: 9.81}}
statics:
  depth: {{path: {depth}, dims: [y, x]}}
boundaries:
  x: [periodic, periodic]
  y: [wall, {{kind: value, value: {{u: 1.0}}}}]
units: {{y: m}}
title: mine
"""
NAMES = {"u": "velocity", "x": "x_m", "nu": "nu", "depth": "depth"}
ARRAYS = {
    "velocity": np.stack([number(("trajectory", "time", "x", "y"), k) for k in (1, 2)], -1),
    "x_m": X,
    "nu": np.array([0.1, 0.2]),
    "depth": number(("y", "x")),
}


def _files(kind: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """The same arrays in every container."""
    path = folder / f"data.{kind}"
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            for name, values in ARRAYS.items():
                file[f"run/{name}"] = values
        return path, {key: f"/run/{name}" for key, name in NAMES.items()}
    if kind == "netcdf":
        dims = {"velocity": ("n", "t", "a", "b", "c"), "x_m": ("a",), "nu": ("n",), "depth": ("b", "a")}
        ds = xr.Dataset({name: (dims[name], values) for name, values in ARRAYS.items()})
        ds.to_netcdf(path, engine="h5netcdf")
    elif kind == "zarr":
        group = zarr.create_group(path)
        for name, values in ARRAYS.items():
            group.create_array(name, data=values)
    elif kind == "npz":
        np.savez(path, **ARRAYS)
    else:
        path.mkdir()
        for name, values in ARRAYS.items():
            np.save(path / f"{name}.npy", values)
        return path, {key: f"{name}.npy" for key, name in NAMES.items()}
    return path, NAMES


@pytest.mark.parametrize("kind", ["hdf5", "netcdf", "zarr", "npz", "npy"])
def test_every_container_becomes_what_the_mapping_says(kind: str, tmp_path: Path) -> None:
    path, names = _files(kind, tmp_path)
    (tmp_path / "m.yaml").write_text(MAPPING.format(reader=kind, **names))
    with open_snapshots(path, reader=str(tmp_path / "m.yaml")) as ds:
        for name, which in (("u", 1), ("v", 2)):
            np.testing.assert_array_equal(ds[name].values, field_of("xy", which))
            assert ds[name].attrs["units"] == "m s-1"
        assert ds["v"].attrs["long_name"] == "rise"
        np.testing.assert_array_equal(ds["time"], TIMES)
        np.testing.assert_array_equal(ds["x"], X)
        np.testing.assert_array_equal(ds["y"], Y)
        assert (ds["time"].units, ds["x"].units, ds["y"].units) == ("s", "m", "m")
        assert ds["nu"].values.tolist() == [0.1, 0.2]
        assert ds["gravity"].values.tolist() == [9.81, 9.81]
        np.testing.assert_array_equal(ds["depth"].values, number(("y", "x")))
        lower, upper = boundaries_of(ds)["y"]
        assert (lower.kind, upper.kind, dict(upper.value)) == ("wall", "value", {"u": 1.0})
        assert ds.attrs["title"] == "mine"
        np.testing.assert_array_equal(ds["u"].isel(time=[2, 0], x=3).values, field_of("xy", 1)[:, [2, 0]][..., 3])
        write_snapshots(ds, tmp_path / "copy.zarr")


def _refused(
    text: str, path: Path, message: str, error: type[Exception] | tuple[type[Exception], ...] = DataError
) -> None:
    mapping = path.with_name("m.yaml")
    mapping.write_text(text)
    with pytest.raises(error, match=message) as caught:
        open_snapshots(path, reader=mapping)
    assert "\n" not in str(caught.value)


CHANGES = [
    (
        "dims: [trajectory, time, x, y, component]",
        "dims: [trajectory, time, y, x, component]",
        r"y: has 5 values, but the data have 6",
    ),
    (
        "dims: [trajectory, time, x, y, component]",
        "dims: [trajectory, time, x, component]",
        r"dims names 4 axes \(traj",
    ),
    ("index: {component: 0}", "index: {component: 2}", r"index component = 2, but that axis has 2 entries"),
    ("path: /run/velocity", "path: /run/velocty", r"holds no array '/run/velocty', .* mean 'run/velocity'"),
    ("path: /run/nu", "path: /run/x_m", r"parameter 'nu' has shape \(6,\), expected a value for each of the 2"),
    ("{path: /run/nu, units", "{attribute: nu, units", r"attribute 'nu' of '/' is None, expected a number"),
    ("dims: [y, x]}", "dims: [x, y]}", r"'depth' has 5 entries along x"),
    ("dims: [y, x]}", "dims: [y]}", r"statics.depth: '/run/depth' has shape \(5, 6\), but dims names 1 axes"),
    (
        "start: 0.0, step: 0.5",
        "path: /run/velocity",
        r"coordinates.time: '/run/velocity' has shape .*, expected one axis",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), CHANGES)
def test_a_mapping_that_does_not_fit_the_file_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path, names = _files("hdf5", tmp_path)
    text = MAPPING.format(reader="hdf5", **names)
    assert old in text
    _refused(text.replace(old, new), path, message, (DataError, ConfigError))


WRONG = [
    ("titel: mine", r"m.yaml:1:1: titel: unknown key. Did you mean 'title'\? Remove or correct it"),
    ("reader: hdf6", r"m.yaml:1:1: reader = hdf6: should be 'well', .*"),
    ("reader: hdf5", r"reader hdf5 needs fields; romvae info FILE proposes them"),
    ("reader: hdf5\nfields: {u: {pth: a}}", r"m.yaml:2:14: fields.u.pth: unknown key. Did you mean 'path'"),
    ("reader: hdf5\nfields: {u: {path: a, dims: [x, '?']}}", r"dims holds '\?': say what that axis is"),
    ("reader: hdf5\nfields: {u: {path: a, dims: [x, x]}}", r"dims names 'x' twice"),
    ("reader: hdf5\nfields: {u: {path: a, dims: [tim, x]}}", r"dims names 'tim', expected some of .* mean 'time'"),
    (
        "reader: hdf5\nfields: {u: {path: a, dims: [x], index: {c: 0}}}",
        r"index names 'c', which is not among dims \(x\)",
    ),
    (
        "reader: well\ncoordinates: {t: {start: 0, step: 1}}",
        r"m.yaml:2:15: coordinates names 't', expected some of time, z, y, x",
    ),
    ("reader: well\nboundaries: {x: peridoic}", r"m.yaml:2:14: boundaries.x = peridoic: .* Did you mean 'periodic'\?"),
    ("reader: well\nboundaries: {x: [wall, opn]}", r"m.yaml:2:14: boundaries.x = .*: .* Did you mean 'open'\?"),
    ("reader: well\nboundaries: {x: [wall]}", r"m.yaml:2:14: boundaries.x = .*: expected one condition for both ends"),
    ("reader: well\nboundaries: {x: [wall, periodic]}", r"m.yaml:2:14: .* is periodic on one side only"),
    ("reader: well\nboundaries: {q: wall}", r"m.yaml:2:14: boundaries names 'q', expected some of z, y, x"),
    ("reader: hdf5\nfields: {u: a}", r"m.yaml:2:10: fields.u = a: expected entries in braces, such as \{path"),
    ("reader: well\ncoordinates: {x: {start: 0, step: '?'}}", r"m.yaml:2:29: .*step = \?: is still to be said"),
    ("reader: well\ncoordinates: {time: {start: 0}}", r"exactly one of path, values, or start with step"),
    ("reader: well\ncoordinates: {time: {start: 0, step: -1}}", r"step = -1: should be greater than 0"),
    ("reader: well\nparameters: {nu: {}}", r"exactly one of path, attribute or value"),
    ("reader: well\nalong: space", r"along = space: should be 'trajectory' or 'time'"),
    ("reader: yes", r"reader = True: should not be a yes/no value|reader"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_mapping_says_where(text: str, message: str, tmp_path: Path) -> None:
    if "reader" not in text:
        text = f"{text}\nreader: well"
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_mapping(tmp_path / "m.yaml")


def test_a_mapping_without_reader_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("title: mine\n")
    with pytest.raises(ConfigError, match=r"m.yaml: reader: is missing. Add it: one of well, .*, hdf5, .*romvae info"):
        read_mapping(tmp_path / "m.yaml")


def test_one_word_stands_for_both_ends(tmp_path: Path) -> None:
    for text in ("{x: periodic}", "{x: [periodic, periodic]}"):
        (tmp_path / "m.yaml").write_text(f"reader: well\nboundaries: {text}\n")
        assert read_mapping(tmp_path / "m.yaml").boundaries == {"x": ("periodic", "periodic")}


def test_frames_and_entries_that_do_not_count_can_be_left_out(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = number(("time", "x"))
        file["t"] = np.array([[9.0, 9, 9, 9], [0, 0.5, 1, 1.5]])
    text = (
        "reader: hdf5\nfields: {u: {path: u, dims: [time, x], window: {time: [1, 3]}}}\n"
        "coordinates: {time: {path: t, index: [1, null], stop: 2}, x: {start: 0, step: 1}}\n"
    )
    (tmp_path / "m.yaml").write_text(text)
    with open_snapshots(tmp_path / "a.h5", reader=tmp_path / "m.yaml") as ds:
        np.testing.assert_array_equal(ds["u"].values, field_of("x", trajectory=1)[:, 1:])
        np.testing.assert_array_equal(ds["time"], [0.0, 0.5])
    _refused(text.replace("[1, 3]", "[1, 9]"), tmp_path / "a.h5", "window time = 1 to 9")


def test_nan_is_refused_until_the_user_masks_it(tmp_path: Path) -> None:
    """Masked points stay NaN; a NaN anywhere else is still refused at its index."""
    values = number(("trajectory", "time", "y", "x"))
    values[:, :, 1, 2:4] = np.nan
    path = tmp_path / "a.npy"
    np.save(path, values)
    text = 'reader: npy\nfields: {u: {path: "", dims: [trajectory, time, y, x]}}\n'
    text += "coordinates: {time: {start: 0, step: 1}, x: {start: 0, step: 1}, y: {start: 0, step: 1}}\n"
    _refused(text, path, r"'u' is NaN, first at trajectory 0, time 0 .*, y 1 .*, x 2")
    (tmp_path / "m.yaml").write_text(text + "mask: {number_in: u}\n")
    with open_snapshots(path, reader=tmp_path / "m.yaml") as ds:
        assert ds["mask"].dims == ("y", "x")
        np.testing.assert_array_equal(ds["mask"].values, np.isfinite(values[0, 0]).astype(np.int8))
        np.testing.assert_array_equal(ds["u"].values, values)
    values[1, 2, 0, 0] = np.nan
    np.save(path, values)
    _refused(text + "mask: {number_in: u}\n", path, r"'u' is NaN, first at trajectory 1, time 2 .*, y 0 .*, x 0")


def test_a_mask_of_the_file_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = number(("time", "x", "y"))
        file["solid"] = np.eye(6, 5, dtype=np.int8)
    axes = ", ".join(f"{name}: {{start: 0, step: 1}}" for name in ("time", "x", "y"))
    (tmp_path / "m.yaml").write_text(
        f"reader: hdf5\nfields: {{u: {{path: u, dims: [time, x, y]}}}}\ncoordinates: {{{axes}}}\n"
        "mask: {path: solid, dims: [x, y], inside: 0}\n"
    )
    with open_snapshots(tmp_path / "a.h5", reader=tmp_path / "m.yaml") as ds:
        np.testing.assert_array_equal(ds["mask"].values, 1 - np.eye(5, 6, dtype=np.int8))


def test_what_a_layout_does_not_say_can_be_stated(tmp_path: Path) -> None:
    from .foreign_files import pdearena_maxwell

    pdearena_maxwell(tmp_path / "a.h5")
    (tmp_path / "m.yaml").write_text(
        "reader: pdearena\ncoordinates: {time: {start: 1.0, step: 0.25, units: s}}\n"
        "parameters: {eps: {value: [1.0, 2.0]}}\n"
        "boundaries: {z: [periodic, periodic]}\nunits: {d_x: C m-2}\n"
    )
    with pytest.warns(AssumptionWarning, match="no coordinate 'x': counted in steps of one"):
        ds = open_snapshots(tmp_path / "a.h5", reader=tmp_path / "m.yaml")
    assert ds["time"].values.tolist() == [1.0, 1.25, 1.5]
    assert ds["eps"].values.tolist() == [1.0, 2.0]
    assert ds["d_x"].units == "C m-2"
    assert boundaries_of(ds)["z"][0].kind == "periodic"
    ds.close()


@pytest.mark.parametrize("kind", ["hdf5", "zarr", "npz"])
def test_the_proposal_is_true_and_asks_for_the_rest(kind: str, tmp_path: Path) -> None:
    """Completed by putting names for the question marks, it opens the file; before that it is refused."""
    path = tmp_path / f"data.{kind}"
    arrays = {"vel": ARRAYS["velocity"], "x": X, "y": Y, "time": TIMES}
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    elif kind == "zarr":
        group = zarr.create_group(path)
        for name, values in arrays.items():
            group.create_array(name, data=values)
    else:
        np.savez(path, **arrays)
    text = propose(path)
    assert "# boundaries: {x: [open, open], y: [open, open]" in text
    assert yaml.safe_load(text)["fields"]["vel"]["dims"] == ["?", "time", "x", "y", "?"]
    _refused(text, path, r"dims holds '\?'", ConfigError)
    done = text.replace('["?", time, x, y, "?"]', "[trajectory, time, x, y, c], index: {c: 0}")
    path.with_name("m.yaml").write_text(done)
    with open_snapshots(path, reader=path.with_name("m.yaml")) as ds:
        np.testing.assert_array_equal(ds["vel"].values, field_of("xy", 1))
        np.testing.assert_array_equal(ds["time"].values, TIMES)


def test_equal_lengths_are_a_question_in_the_proposal(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"], file["x"], file["y"] = np.zeros((5, 4, 4)), np.arange(4.0), np.arange(4.0)
    assert yaml.safe_load(propose(tmp_path / "a.h5"))["fields"]["u"]["dims"] == ["?", "?", "?"]


def test_info_proposes_a_mapping_and_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, names = _files("hdf5", tmp_path)
    assert main(["info", str(path)]) == 3
    out, err = capsys.readouterr()
    assert yaml.safe_load(out)["reader"] == "hdf5"
    assert "save the mapping above as NAME.yaml" in err
    (tmp_path / "m.yaml").write_text(MAPPING.format(reader="hdf5", **names))
    assert main(["info", str(path), "--reader", str(tmp_path / "m.yaml"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["trajectories"], facts["usable"]) == ("hdf5", 2, True)


def test_info_says_how_boundaries_are_stated_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it prints is taken as it stands: as a mapping, and as a command up to the training."""
    from .foreign_files import pdebench_seeds

    monkeypatch.chdir(tmp_path)
    pdebench_seeds(Path("a b.h5"))
    with h5py.File("a b.h5", "r+") as file:
        for i in range(6):  # as many as a training needs
            file.copy("0000", f"01{i:02d}")
    assert main(["info", "a b.h5"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("Next: romvae train 'a b.h5' --out 'runs/a b'\n")
    assert "missing: units of 'u', 'v', 'time', 'y', 'x': taken as dimensionless" in out
    printed = out[out.index("  reader: pdebench") : out.index("Next:")]
    Path("m.yaml").write_text(printed.replace("x: [open, open]", "x: [periodic, periodic]"))
    assert main(["info", "a b.h5", "--reader", "m.yaml"]) == 0
    out = capsys.readouterr().out
    assert "boundary condition" not in out.lower()
    assert out.endswith("Next: romvae train 'a b.h5' --reader m.yaml --out 'runs/a b'\n")
    Path("m.yaml").write_text("reader: pdebench\n")
    assert main(["info", "a b.h5", "--reader", "m.yaml"]) == 0
    assert "add to m.yaml:\n  boundaries: {y: [open, open], x: [open, open]}" in capsys.readouterr().out


def test_info_knows_layouts_and_own_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from .foreign_files import well

    assert main(["info", str(well(tmp_path / "a.hdf5")), str(well(tmp_path / "b.hdf5", first=2))]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'a.hdf5'} and 1 more (well," in out
    assert "trajectories  4" in out
    write_snapshots(mock_snapshots(1), tmp_path / "own.h5")
    assert main(["info", str(tmp_path / "own.h5")]) == 0
    assert "own.h5 (hdf5," in capsys.readouterr().out


def test_readers_need_neither_torch_nor_pyvista() -> None:
    code = "import sys, romvae.data.readers; print({'torch', 'pyvista', 'vtk', 'lightning'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_units_and_attributes_that_are_numbers_are_proposed(kind: str, tmp_path: Path) -> None:
    """Scalars stand as parameters, rows as a question; completed, all of them arrive with one value per trajectory."""
    path = tmp_path / f"data.{kind}"
    arrays = {"vel": ARRAYS["velocity"][..., 0], "x": X, "y": Y, "time": TIMES}
    of_file = {"gravity": 9.81, "viscosity": np.array([0.1, 0.2]), "author": "me", "checked": True, "_FillValue": -1.0}
    of_arrays = {
        "vel": {"unit": 'm "s-1"', "reynolds": 40, "scale_factor": 2.0},
        "x": {"units": " km "},
        "y": {"units": ""},
    }
    root = h5py.File(path, "w") if kind == "hdf5" else zarr.create_group(path)
    for name, values in arrays.items():
        array = root.create_dataset(name, data=values) if kind == "hdf5" else root.create_array(name, data=values)
        array.attrs.update(of_arrays.get(name, {}))
    plain = {
        name: value.tolist() if kind == "zarr" and name == "viscosity" else value for name, value in of_file.items()
    }
    root.attrs.update(plain)
    if kind == "hdf5":
        root.close()
    text = propose(path)
    found = yaml.safe_load(text)
    assert found["fields"]["vel"]["units"] == 'm "s-1"'
    assert [found["coordinates"][axis]["units"] for axis in ("x", "y", "time")] == ["km", "1", "1"]
    assert set(found["parameters"]) == {"gravity", "vel_reynolds"}
    assert '  # viscosity: {attribute: "viscosity", units: "1"}  # 2 numbers, if they are one per trajectory' in text
    done = text.replace('["?", time, x, y]', "[trajectory, time, x, y]").replace("  # viscosity:", "  viscosity:")
    path.with_name("m.yaml").write_text(done)
    with open_snapshots(path, reader=path.with_name("m.yaml")) as ds:
        assert ds["gravity"].values.tolist() == [9.81, 9.81]
        assert ds["vel_reynolds"].values.tolist() == [40.0, 40.0]
        assert ds["viscosity"].values.tolist() == [0.1, 0.2]


def test_an_attribute_needs_a_number_or_one_per_trajectory(tmp_path: Path) -> None:
    path, names = _files("hdf5", tmp_path)
    with h5py.File(path, "a") as file:
        file.attrs["three"], file.attrs["text"] = [1.0, 2.0, 3.0], "high"
    text = MAPPING.format(reader="hdf5", **names)
    three = text.replace("{path: /run/nu, units", "{attribute: three, units")
    _refused(three, path, r"parameter 'nu' has shape \(3,\), expected a value for each of the 2 trajectories")
    words = text.replace("{path: /run/nu, units", "{attribute: text, units")
    _refused(words, path, r"attribute 'text' of '/' is 'high', expected a number, or one for each trajectory")


def _odd(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["run/T_wall [K]"], file["other/T_wall [K]"] = np.zeros((3, 4, 5)), np.zeros((3, 4, 5))
        file["run/2d-u"] = np.zeros((3, 4, 5))
        file["run/when"], file["run/place"], file["run/Re"] = np.arange(4.0), np.arange(5.0), np.arange(3.0)
        file["run/other"] = np.zeros(7)
    return path


def test_names_that_are_proposed_are_identifiers_and_each_its_own(tmp_path: Path) -> None:
    fields = yaml.safe_load(propose(_odd(tmp_path / "a.h5")))["fields"]
    assert {entry["path"]: name for name, entry in fields.items()} == {
        "other/T_wall [K]": "T_wall_K",
        "run/T_wall [K]": "run_T_wall_K",
        "run/2d-u": "u_2d_u",
    }


def test_lists_of_fitting_length_stand_beside_what_they_may_be_and_no_step_is_made_up(tmp_path: Path) -> None:
    text = propose(_odd(tmp_path / "a.h5"))
    lines = {line.split(":")[0].strip(" #"): line for line in text.splitlines()}
    for axis in ("time", "x"):
        assert all(f'"run/{name}" ({n},)' in lines[axis] for name, n in (("when", 4), ("place", 5), ("Re", 3)))
    assert yaml.safe_load(text)["coordinates"]["time"]["step"] == "?"
    assert '{path: "run/Re", units: "1"}' in lines["Re"]
    assert [line for line in text.splitlines() if line.startswith("#   ")] == ["#   run/other (7,)"]
    named = text.replace('["?", "?", "?"]', "[trajectory, time, x]")
    _refused(named, tmp_path / "a.h5", "step = .: is still to be said", ConfigError)


def test_info_says_which_coordinates_are_made_up_and_what_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, mapping = _odd(tmp_path / "a.h5"), tmp_path / "m.yaml"
    mapping.write_text(
        'reader: hdf5\nfields: {T: {path: "run/T_wall [K]", dims: [trajectory, time, x]}}\n'
        "coordinates: {time: {start: 1, step: 0.5}}\nparameters: {Re: {path: run/Re}}\n"
    )
    assert main(["info", str(path), "--reader", str(mapping)]) == 0
    out = capsys.readouterr().out
    assert "made up: time (the mapping's start 1 and step 0.5)" in out
    assert "made up: x (stated nowhere: counted in steps of one)" in out
    assert "not used: other/T_wall [K] (3, 4, 5), run/2d-u (3, 4, 5), run/other (7,), run/place (5,), run/when" in out
    assert "Next: romvae train" not in out
    assert "A trained run can start from it: romvae rollout RUN --start" in out
