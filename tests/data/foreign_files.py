"""Small files of every public layout, written by hand, and what each of them has to become.

A value says where it sits: trajectory, time, z, y, x and field are digits of one number. So an exchanged axis, a
shifted time or a mixed-up component changes values, on grids whose sides all differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

DIGITS = {"trajectory": 100_000, "time": 10_000, "z": 1_000, "y": 100, "x": 10}
SIZES = {"trajectory": 2, "time": 3, "z": 4, "y": 5, "x": 6}
TIMES = np.array([0.0, 0.5, 1.0])
X = np.array([0.0, 1.0, 2.0, 4.0, 5.0, 7.0])
Y = np.array([-2.0, -1.0, 0.0, 1.0, 3.0])
Z = np.array([0.0, 2.0, 3.0, 4.0])
AXES = {"x": X, "y": Y, "z": Z}


def number(dims: Sequence[str], which: int = 0, dtype: str = "f4", **sizes: int) -> np.ndarray:
    """The array of a field with the named axes in the given order."""
    shape = [{**SIZES, **sizes}[dim] for dim in dims]
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum((DIGITS[d] * g for d, g in zip(dims, grids, strict=True)), np.zeros(shape) + which).astype(dtype)


def field_of(space: Sequence[str], which: int = 0, dtype: str = "f4", **sizes: int) -> np.ndarray:
    """What a field has to be in the canonical Dataset."""
    order = [axis for axis in ("z", "y", "x") if axis in space]
    return number(("trajectory", "time", *order), which, dtype, **sizes)


@dataclass
class Expected:
    """What a file has to become: every entry is compared exactly."""

    layout: str
    fields: dict[str, np.ndarray]
    axes: dict[str, np.ndarray]
    times: np.ndarray = field(default_factory=lambda: TIMES)
    parameters: dict[str, Any] = field(default_factory=dict)
    boundaries: dict[str, list[str]] = field(default_factory=dict)
    others: dict[str, tuple[tuple[str, ...], np.ndarray]] = field(default_factory=dict)


def well(path: Path, kept: bool = False, flat: bool = False, n: int = 2, first: int = 0) -> Path:
    """Scalar, vector, tensor, fields without time or without one axis; `kept` keeps those axes at length one."""
    xy = ("trajectory", "time", "x", "y")
    with h5py.File(path, "w") as file:
        file.attrs.update(dataset_name="mock", grid_type="cartesian", n_spatial_dims=2, n_trajectories=n)
        file.attrs["simulation_parameters"] = ["Rayleigh"]
        file.attrs["Rayleigh"] = 1e4
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        for name, values in (("time", TIMES), ("x", X), ("y", Y)):
            dimensions[name] = values.astype("f4")
            dimensions[name].attrs.update(sample_varying=False, time_varying=False)
        for name, kind, dim, size in (("x_periodic", "PERIODIC", "x", 6), ("y_wall", "wall", "y", 5)):
            group = file.create_group(f"boundary_conditions/{name}")
            group.attrs.update(bc_type=kind, sample_varying=False, time_varying=False)
            group.attrs["associated_dims"] = [dim]
            group.attrs["associated_fields"] = h5py.Empty("f4")
            group["mask"] = np.array([i in (0, size - 1) for i in range(size)])
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["Prandtl", "heating", "seed"]
        for name, values, by_sample, by_time in (
            ("Prandtl", np.float32(5), False, False),
            ("heating", np.array([1, 2, 3], "f4"), False, True),
            ("seed", first + np.arange(n, dtype="f4"), True, False),
        ):
            scalars[name] = values
            scalars[name].attrs.update(sample_varying=by_sample, time_varying=by_time)
        start = 100_000 * first
        fields = {
            "t0_fields/buoyancy": (number(xy, 1, trajectory=n) + start, (1, 1), (True, True), 0),
            "t0_fields/profile": (_axis(number(xy[2:3], 2), kept), (0, 0), (True, False), 0),
            "t0_fields/forcing": (_axis(number(("time", "x"), 3), kept), (0, 1), (True, False), 0),
            "t1_fields/velocity": (_stack(xy, (4, 5), n) + start, (1, 1), (True, True), 1),
            "t2_fields/D": (_stack(xy, (6, 7, 8, 9), n, not flat) + start, (1, 1), (True, True), 2),
        }
        for group in ("t0_fields", "t1_fields", "t2_fields"):
            names = [name.split("/")[1] for name in fields if name.startswith(group)]
            file.create_group(group).attrs["field_names"] = names
        for name, (values, (by_sample, by_time), varying, order) in fields.items():
            file[name] = values.astype("f4")
            file[name].attrs.update(sample_varying=bool(by_sample), time_varying=bool(by_time))
            file[name].attrs["dim_varying"] = np.array(varying)
            if order == 2:
                file[name].attrs.update(symmetric=False, antisymmetric=False)
    return path


def well_expected(n: int = 2) -> Expected:
    def of(which: int) -> np.ndarray:
        return field_of("xy", which, trajectory=n)

    names = ("buoyancy", "forcing", "velocity_x", "velocity_y", "D_xx", "D_xy", "D_yx", "D_yy")
    forcing = np.broadcast_to(number(("time", "x"), 3)[None, :, None, :], (n, 3, 5, 6))
    fields = dict(zip(names, (of(1), forcing, *(of(k) for k in range(4, 10))), strict=True))
    return Expected(
        "well",
        fields,
        {"y": Y, "x": X},
        parameters={"Rayleigh": [1e4] * n, "Prandtl": [5.0] * n, "seed": list(range(n))},
        boundaries={"x": ["periodic", "periodic"], "y": ["wall", "wall"]},
        others={"profile": (("x",), number(("x",), 2)), "heating": (("time",), np.array([1, 2, 3.0]))},
    )


def _axis(values: np.ndarray, kept: bool) -> np.ndarray:
    return values[..., None] if kept else values


def _stack(dims: Sequence[str], which: Sequence[int], n: int, square: bool = False) -> np.ndarray:
    parts = np.stack([number(dims, k, trajectory=n) for k in which], -1)
    return parts.reshape(*parts.shape[:-1], 2, 2) if square else parts


def pdebench_scalar(path: Path) -> Expected:
    with h5py.File(path, "w") as file:
        file["tensor"] = number(("trajectory", "time", "x"))
        file["x-coordinate"] = X.astype("f4")
        file["t-coordinate"] = np.array([0.0, 0.5, 1.0, 1.5], "f4")  # one more than there are frames
        file.attrs["Nu"] = 0.01
    return Expected("pdebench", {"u": field_of("x")}, {"x": X}, parameters={"nu": [0.01, 0.01]})


def pdebench_flow(path: Path) -> Expected:
    dims = ("trajectory", "time", "x", "y", "z")
    names = ("density", "pressure", "Vx", "Vy", "Vz")
    with h5py.File(path, "w") as file:
        for i, name in enumerate(names):
            file[name] = number(dims, i)
        for axis in "xyz":
            file[f"{axis}-coordinate"] = AXES[axis].astype("f4")
        file["t-coordinate"] = np.array([0.0, 0.5, 1.0, 1.5], "f4")
        file.attrs.update(eta=1e-8, zeta=2e-8, M=0.1)
    return Expected(
        "pdebench",
        {name: field_of("xyz", i) for i, name in enumerate(names)},
        {"z": Z, "y": Y, "x": X},
        parameters={"eta": [1e-8] * 2, "zeta": [2e-8] * 2, "mach": [0.1] * 2},
    )


def pdebench_seeds(path: Path) -> Expected:
    with h5py.File(path, "w") as file:
        for i, seed in enumerate(("0000", "0007")):  # some seeds are missing
            data = np.stack([number(("time", "x", "y"), k) for k in (1, 2)], -1) + np.float32(100_000 * i)
            file.create_dataset(f"{seed}/data", data=data, compression="lzf")
            file[f"{seed}/grid/x"], file[f"{seed}/grid/y"], file[f"{seed}/grid/t"] = X, Y, TIMES
            file[seed].attrs["config"] = "sim: {seed: 1}"
    return Expected("pdebench", {"u": field_of("xy", 1), "v": field_of("xy", 2)}, {"y": Y, "x": X})


def pdebench_incompressible(path: Path) -> Expected:
    dims = ("trajectory", "time", "x", "y")
    with h5py.File(path, "w") as file:
        for name, which in (("velocity", (1, 2)), ("particles", (3,))):
            shape = (2, 5, 6, 5, len(which))
            data = file.create_dataset(
                name, shape, "f4", chunks=(1, 1, 6, 5, len(which)), compression="lzf", shuffle=True
            )
            data[:, :3] = np.stack([number(dims, k) for k in which], -1)  # the last two frames were never computed
        file["force"] = np.stack([number(("trajectory", "x", "y"), k) for k in (4, 5)], -1)
        file["t"] = np.tile(np.array([0, 0.5, 1.0, 0.0, 0.0], "f4"), (2, 1))
        file.attrs["latestIndex"] = 2
    static = ("trajectory", "y", "x")
    return Expected(
        "pdebench",
        {"velocity_x": field_of("xy", 1), "velocity_y": field_of("xy", 2), "particles": field_of("xy", 3)},
        {"y": (np.arange(5) + 0.5) / 5, "x": (np.arange(6) + 0.5) / 6},
        others={f"force_{a}": (static, number(static, k)) for a, k in (("x", 4), ("y", 5))},
    )


def pdearena_flow(path: Path) -> Expected:
    dims = ("trajectory", "time", "x", "y")
    with h5py.File(path, "w") as file:
        for i, name in enumerate(("u", "vx", "vy")):
            file[f"train/{name}"] = number(dims, i, "f8")
        for name, values in (("t", TIMES), ("x", X), ("y", Y)):
            file[f"train/{name}"] = np.tile(values, (2, 1))
        file["train/buo_y"] = np.array([0.25, 0.5])
    return Expected(
        "pdearena",
        {name: field_of("xy", i, "f8") for i, name in enumerate(("u", "vx", "vy"))},
        {"y": Y, "x": X},
        parameters={"buo_y": [0.25, 0.5]},
    )


def pdearena_chaos(path: Path) -> Expected:
    with h5py.File(path, "w") as file:
        file["train/pde_3-6"] = number(("trajectory", "time", "x"), 0, "f8")
        file["train/dt"], file["train/dx"] = np.array([0.5, 0.5]), np.array([0.25, 0.25])
        file["train/v"] = np.array([1.0, 2.0])
    axes = {"x": 0.25 * np.arange(6)}
    return Expected("pdearena", {"u": field_of("x", 0, "f8")}, axes, parameters={"viscosity": [1.0, 2.0]})


def pdearena_water(path: Path) -> Expected:
    dims = ("trajectory", "time", "lev", "lat", "lon")
    ds = xr.Dataset(coords={"time": TIMES, "lat": -Y, "lon": X, "lev": [1.0]})
    for i, name in enumerate(("u", "v", "vor")):
        values = number(("trajectory", "time", "y", "x"), i)[:, :, None]
        ds[name] = (("b", *dims[1:]), values)
    ds["pres"] = (("b", "time", "lat", "lon"), number(("trajectory", "time", "y", "x"), 3))
    ds.to_netcdf(path, engine="h5netcdf")
    turned = {name: field_of("xy", i)[:, :, ::-1] for i, name in enumerate(("u", "v", "vor", "pres"))}  # north to south
    return Expected("pdearena", turned, {"y": -Y[::-1], "x": X})


def pdearena_maxwell(path: Path) -> Expected:
    dims = ("trajectory", "time", "x", "y", "z")
    with h5py.File(path, "w") as file:
        for k, name in enumerate(("d_field", "h_field")):
            file[f"valid/{name}"] = np.stack([number(dims, 3 * k + i, "f8") for i in range(3)], -1)
    fields = {f"{n}_{a}": field_of("xyz", 3 * k + i, "f8") for k, n in enumerate("dh") for i, a in enumerate("xyz")}
    counted = {axis: np.arange(n, dtype=float) for axis, n in (("z", 4), ("y", 5), ("x", 6))}
    return Expected("pdearena", fields, counted, np.arange(3.0))


def apebench(path: Path) -> Expected:
    """Training and test arrays of one scenario on 6 points; the test trajectories are shorter by one step."""
    path.mkdir()
    for split, n, t in (("train", 2, 3), ("test", 1, 2)):
        data = np.stack([number(("trajectory", "time", "x"), k, trajectory=n, time=t) for k in (1, 2)], 2)
        np.save(path / f"1d_burgers_{split}.npy", data)
    info = {"num_points": 6, "domain_extent": 3.0, "dt": 0.5}
    (path / "1d_burgers.json").write_text(json.dumps({"name": "1d_burgers", "info": info}))
    fields = {}
    for k in (1, 2):
        test, train = number(("trajectory", "time", "x"), k, trajectory=1), field_of("x", k)
        test[:, 2] = np.nan
        fields[f"u{k - 1}"] = np.concatenate([test, train])
    sides = {"x": ["periodic", "periodic"]}
    lengths = (("trajectory",), np.array([2, 3, 3]))
    return Expected("apebench", fields, {"x": 0.5 * np.arange(6)}, boundaries=sides, others={"n_steps": lengths})


def cfdbench(path: Path) -> Expected:
    for i, name in enumerate(("case2", "case10")):  # natural order, not that of the alphabet
        folder = path / "dam" / name
        folder.mkdir(parents=True)
        for k, variable in enumerate("uv"):
            np.save(folder / f"{variable}.npy", number(("time", "y", "x"), k) + np.float32(100_000 * i))
        case = {"velocity": 0.1 + i, "density": 100.0, "barrier_height": 0.5, "barrier_width": 0.6}
        (folder / "case.json").write_text(json.dumps({**case, "height": 1.0, "width": 1.5, "case_no": i}))
    x, y = 1.5 * (np.arange(6) + 0.5) / 6, (np.arange(5) + 0.5) / 5
    mask = np.ones((5, 6), np.int8)
    mask[:2, 2:4] = 0  # centres (0.625, 0.875) of 0.5 to 1.1, below 0.5
    mask[2, 2:4] = 1
    return Expected(
        "cfdbench",
        {"u": field_of("xy", 0), "v": field_of("xy", 1)},
        {"y": y, "x": x},
        0.1 * np.arange(3),
        {"velocity": [0.1, 1.1], "density": [100.0] * 2, "barrier_height": [0.5] * 2, "barrier_width": [0.6] * 2},
        others={"mask": (("y", "x"), mask)},
    )


def bubbleml(path: Path) -> Expected:
    path.mkdir()
    names = ("dfun", "pressure", "temperature", "velx", "vely")
    y, x = np.meshgrid(Y, X, indexing="ij")
    for i, wall in enumerate((90, 100)):
        with h5py.File(path / f"Twall-{wall}.hdf5", "w") as file:
            for k, name in enumerate(names):
                file[name] = number(("time", "y", "x"), k) + np.float32(100_000 * i)
            file["x"], file["y"] = np.tile(x, (3, 1, 1)), np.tile(y, (3, 1, 1))
            table = np.dtype([("name", "S80"), ("value", "f8")])
            rows = [(b"ins_invreynolds".ljust(80), 0.5 + i), (b"plotfileintervaltime".ljust(80), 0.5)]
            file["real-runtime-params"] = np.array(rows, table)
    return Expected(
        "bubbleml",
        {name: field_of("xy", k) for k, name in enumerate(names)},
        {"y": Y, "x": X},
        parameters={"wall_temperature": [90.0, 100.0], "ins_invreynolds": [0.5, 1.5]},
    )


def jhtdb(path: Path) -> Expected:
    with h5py.File(path, "w") as file:
        for i, index in enumerate((1, 3, 5)):  # indices may skip
            part = [number(("time", "z", "y", "x"), k)[i] for k in (1, 2, 3)]
            file[f"Velocity_{index:04d}"] = np.stack(part, -1)
            file[f"Pressure_{index:04d}"] = number(("time", "z", "y", "x"), 4)[i][..., None]
        for axis in "xyz":
            file[f"{axis}coor"] = AXES[axis].astype("f4")
    names = ("velocity_x", "velocity_y", "velocity_z", "pressure")
    fields = {name: field_of("xyz", k + 1, trajectory=1) for k, name in enumerate(names)}
    return Expected("jhtdb", fields, {"z": Z, "y": Y, "x": X}, np.array([1.0, 3.0, 5.0]))


def dedalus(path: Path) -> Expected:
    """Sets 9 and 10; the run was restarted, so that set 10 repeats the last write of set 9."""
    path.mkdir()
    truth = [number(("time", "x", "y"), k, "f8", y=5) for k in range(3)]
    for number_of_set, writes in ((9, [0, 1]), (10, [1, 2])):
        with h5py.File(path / f"snapshots_s{number_of_set}.h5", "w") as file:
            file.attrs.update(set_number=number_of_set, handler_name="snapshots", writes=len(writes))
            stale = 0.0 if number_of_set == 10 else 7.0  # what the first attempt wrote before it was restarted
            scales = file.create_group("scales")
            scales["sim_time"] = TIMES[writes]
            scales["write_number"] = np.array(writes) + 1
            scales["x_hash_1"], scales["z_hash_2"] = X, Y
            scales["constant"] = np.zeros(1)
            for scale in scales.values():
                scale.make_scale(str(scale.name).rpartition("/")[2])
            tensors = {"b": truth[0][writes], "u": np.stack([truth[1][writes], truth[2][writes]], 1)}
            for name, values in tensors.items():
                values = values.copy()
                values[np.array(writes) == 1] += stale
                task = file.create_dataset(f"tasks/{name}", data=values)
                task.attrs.update(constant=np.zeros(values.ndim - 1, bool), grid_space=np.ones(2, bool))
                task.dims[0].label = "t"
                for scale in ("sim_time", "write_number"):
                    task.dims[0].attach_scale(scales[scale])
                for axis, label, scale in ((-2, "x", "x_hash_1"), (-1, "z", "z_hash_2")):
                    task.dims[values.ndim + axis].label = label
                    task.dims[values.ndim + axis].attach_scale(scales[scale])
    one = {"trajectory": 1}
    fields = {"b": field_of("xy", 0, "f8", **one), "u_x": field_of("xy", 1, "f8", **one)}
    return Expected("dedalus", {**fields, "u_z": field_of("xy", 2, "f8", **one)}, {"y": Y, "x": X})


def cf(path: Path, engine: str = "h5netcdf", **options: Any) -> Expected:
    ds = xr.Dataset(
        {"tas": (("t", "latitude", "longitude"), number(("time", "y", "x"), 0, "f8"))},
        coords={
            "t": ("t", TIMES, {"units": "hours since 2000-01-01", "calendar": "noleap"}),
            "latitude": ("latitude", -Y, {"units": "degrees_north", "standard_name": "latitude"}),
            "longitude": ("longitude", X, {"units": "degrees_east"}),
        },
        attrs={"Conventions": "CF-1.8"},
    )
    ds["tas"].attrs.update(units="K", standard_name="air_temperature")
    ds["t_bnds"] = (("t", "bnds"), np.stack([TIMES, TIMES + 0.5], 1))
    ds["t"].attrs["bounds"] = "t_bnds"
    packed = {"dtype": "i4", "scale_factor": 0.5, "add_offset": 1.0, "_FillValue": -1}
    if engine == "zarr":
        ds.to_zarr(path, consolidated=False, **options)
    else:
        ds.to_netcdf(path, engine=engine, encoding={"tas": packed}, **options)  # type: ignore[call-overload]
    fields = {"tas": field_of("xy", 0, "f8", trajectory=1)[:, :, ::-1]}
    return Expected("cf", fields, {"y": -Y[::-1], "x": X})


def cf_netcdf3(path: Path) -> Expected:
    return cf(path, "scipy")


def cf_zarr2(path: Path) -> Expected:
    return cf(path, "zarr", zarr_format=2)


def cf_zarr3(path: Path) -> Expected:
    return cf(path, "zarr", zarr_format=3)


def _well(kept: bool, flat: bool) -> Callable[[Path], Expected]:
    def write(path: Path) -> Expected:
        well(path, kept, flat)
        return well_expected()

    return write


LAYOUTS: dict[str, tuple[str, Callable[[Path], Expected]]] = {
    "The Well, axes dropped": ("a.hdf5", _well(False, False)),
    "The Well, axes kept at length one": ("a.hdf5", _well(True, True)),
    "PDEBench scalar": ("1D_Burgers_Sols_Nu0.01.hdf5", pdebench_scalar),
    "PDEBench compressible": ("3D_CFD_Rand.hdf5", pdebench_flow),
    "PDEBench, group per seed": ("2D_diff-react_NA_NA.h5", pdebench_seeds),
    "PDEBench incompressible": ("ns_incom_inhom_2d_512-0.h5", pdebench_incompressible),
    "PDEArena Navier-Stokes": ("NavierStokes2D_train.h5", pdearena_flow),
    "PDEArena Kuramoto-Sivashinsky": ("KS_train.h5", pdearena_chaos),
    "PDEArena shallow water": ("output.nc", pdearena_water),
    "PDEArena Maxwell": ("Maxwell3D.h5", pdearena_maxwell),
    "APEBench": ("scenario", apebench),
    "CFDBench": ("cfdbench", cfdbench),
    "BubbleML": ("PoolBoiling", bubbleml),
    "JHTDB": ("channel.h5", jhtdb),
    "Dedalus": ("snapshots", dedalus),
    "CF netCDF-4": ("model.nc", cf),
    "CF netCDF-3": ("model3.nc", cf_netcdf3),
    "CF Zarr v2": ("model2.zarr", cf_zarr2),
    "CF Zarr v3": ("model3.zarr", cf_zarr3),
}
