"""Schema: facts come back exactly, and data that differ are refused with a line that says how."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from romvae.errors import DataError, OutOfRangeWarning, SchemaError
from romvae.schema import (
    Axis,
    Boundary,
    Field,
    Grid,
    Parameter,
    Schema,
    boundaries_of,
    canonical,
    check_snapshots,
    fields_of,
    parameters_of,
    snapshots,
)
from romvae.testing import mock_snapshots

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_facts_are_those_of_the_data(ndim: int) -> None:
    ds = mock_snapshots(ndim, ("u", "p"), trajectories=3)
    schema = Schema.of(ds)
    assert schema.field_names == ("u", "p")
    assert schema.grid.names == ("z", "y", "x")[-ndim:]
    assert schema.grid.shape == ds["u"].shape[2:]
    assert schema.grid.points == math.prod(schema.grid.shape)
    assert schema.dt == pytest.approx(0.1, rel=1e-12)
    assert schema.time_units == "s"
    assert schema.grid.axes[-1].periodic
    assert schema.grid.axes[-1].spacing == pytest.approx(1 / schema.grid.shape[-1], rel=1e-12)
    (viscosity,) = schema.parameters
    assert (viscosity.low, viscosity.high) == (float(ds["viscosity"].min()), float(ds["viscosity"].max()))
    schema.check(ds)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_order_of_dims_and_fields_does_not_matter(ndim: int) -> None:
    ds = mock_snapshots(ndim, ("u", "p"), trajectories=3)
    turned = ds[["p", "u"]].transpose("x", ..., "trajectory")
    schema = Schema.of(ds)
    schema.check(turned)
    assert Schema.of(turned[["u", "p"]]) == schema
    xr.testing.assert_identical(canonical(turned)[["u", "p"]], ds)


def test_one_snapshot_can_be_checked() -> None:
    ds = mock_snapshots(2, trajectories=3)
    schema = Schema.of(ds)
    schema.check(ds.isel(trajectory=0, time=0), time=False)
    schema.check(ds.isel(trajectory=0))
    with pytest.raises(SchemaError, match=r"'u' has dims \(y, x\), expected \(trajectory, time, y, x\)"):
        schema.check(ds.isel(trajectory=0, time=0))


@settings(max_examples=30, deadline=None)
@given(st.lists(finite, min_size=1, max_size=5), finite, finite, finite, st.text(max_size=5))
def test_json_returns_the_same_bits(coordinates: list[float], dt: float, low: float, value: float, units: str) -> None:
    wall = Boundary("value", (("u", value),))
    schema = Schema(
        (Field("u", units, "velocity"),),
        Grid((Axis("x", tuple(coordinates), units, wall, Boundary("open")),)),
        dt,
        units,
        (Parameter("nu", units, low, math.inf),),
    )
    assert Schema.from_json(schema.to_json()) == schema


def test_json_of_another_format_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"format is 'other', expected 'romvae-schema-1'"):
        Schema.from_json('{"format": "other"}')
    with pytest.raises(SchemaError, match=r"cannot be read"):
        Schema.from_json("no JSON")


def _differing() -> dict[str, tuple[xr.Dataset, str]]:
    ds = mock_snapshots(1, ("u", "pressure"), trajectories=3)
    shifted = ds.assign_coords(x=("x", ds["x"].values + 1e-6, ds["x"].attrs))
    slow = ds.assign_coords(time=("time", 2 * ds["time"].values, ds["time"].attrs))
    cm = ds.copy()
    cm["u"] = cm["u"].assign_attrs(units="cm s-1")
    walled = ds.assign_attrs(boundary_conditions='{"x": ["wall", "open"]}')
    return {
        "dt": (
            slow,
            r"data.zarr: time step is 0.2 s, but this ROM was trained at 0.1 s. "
            r"Interpolate the data to dt=0.1, or retrain",
        ),
        "field": (
            ds.rename(pressure="presure"),
            r"data.zarr: field 'pressure' is missing, found u, presure. "
            r"Did you mean 'presure'\? Rename it or add it",
        ),
        "grid": (shifted, r"data.zarr: 'x' is 1e-06 at index 0, but this ROM was trained at 0"),
        "size": (ds.isel(x=slice(1, None)), r"data.zarr: 'x' has 15 points, but this ROM was trained on 16"),
        "units": (cm, r"data.zarr: 'u' is in 'cm s-1', but this ROM was trained in 'm s-1'"),
        "boundary": (
            walled,
            r"boundary conditions of 'x' are \[\"wall\", \"open\"\], but this ROM was trained with",
        ),
        "parameter": (
            ds.rename(viscosity="viscosty"),
            r"data.zarr: parameter 'viscosity' is missing, found viscosty. Did you mean 'viscosty'\?",
        ),
    }


@pytest.mark.parametrize("what", list(_differing()))
def test_data_that_differ_are_refused(what: str) -> None:
    schema = Schema.of(mock_snapshots(1, ("u", "pressure"), trajectories=3))
    ds, message = _differing()[what]
    with pytest.raises(SchemaError, match=message):
        schema.check(ds, "data.zarr")


def test_further_fields_and_rounding_are_fine() -> None:
    ds = mock_snapshots(1, trajectories=3)
    schema = Schema.of(ds)
    rounded = ds.assign_coords(x=("x", ds["x"].values * (1 + 1e-15), ds["x"].attrs), extra=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schema.check(rounded.assign(v=2 * rounded["u"]))


def test_parameter_out_of_range_warns_with_value_and_range() -> None:
    ds = mock_snapshots(1, trajectories=3)
    schema = Schema.of(ds)
    low, high = schema.parameters[0].low, schema.parameters[0].high
    ds["viscosity"] = ds["viscosity"].copy(data=[low, 7.5, high])
    with pytest.warns(OutOfRangeWarning, match=rf"'viscosity' is 7.5, outside the trained range {low:.10g} to"):
        schema.check(ds)


def _broken() -> dict[str, tuple[xr.Dataset, type[DataError], str]]:
    ds = mock_snapshots(2, trajectories=3)
    nan, infinite, filled = ds.copy(deep=True), ds.copy(deep=True), ds.copy(deep=True)
    nan["u"].values[2, 4, 3, 5] = np.nan
    nan["u"].values[1, 5, 0, 1] = np.nan
    infinite["u"].values[0, 0, 7, 11] = -np.inf
    filled["u"].values[0, 1, 0, 0] = 9.96921e36
    t = ds["time"].values
    return {
        "nan": (
            nan,
            DataError,
            r"d: 'u' is NaN, first at trajectory 1, time 5 \(time=0.5\), y 0 \(y=0\)",
        ),
        "infinity": (infinite, DataError, r"'u' is infinite, first at trajectory 0, time 0 \(time=0\), y 7"),
        "fill value": (filled, DataError, r"'u' is 9.96921e\+36, first at trajectory 0, time 1"),
        "repeats": (
            ds.assign_coords(time=np.where(np.arange(6) == 3, t[2], t)),
            SchemaError,
            r"d: time repeats at index 3 \(0.2 after 0.2\)",
        ),
        "decreases": (
            ds.assign_coords(time=t[::-1]),
            SchemaError,
            r"time decreases at index 1 \(0.4 after 0.5\)",
        ),
        "not uniform": (
            ds.assign_coords(time=t + 0.01 * (np.arange(6) == 4)),
            SchemaError,
            r"time is not uniform: step 0.11 before index 4 \(time 0.41\), expected 0.1",
        ),
        "dims": (
            ds.rename(time="tme"),
            SchemaError,
            r"'u' has dims \(trajectory, tme, y, x\), expected \(trajectory, time, y, x\). "
            r"Did you mean 'tme'\?",
        ),
        "one trajectory": (
            ds.isel(trajectory=0),
            SchemaError,
            r"'u' has dims \(time, y, x\), expected \(trajectory",
        ),
        "only y": (ds.isel(x=0), SchemaError, r"spatial dims are \(y\), expected x, or y and x"),
        "dtype": (ds.astype("int16"), SchemaError, r"'u' has dtype int16, expected float32 or float64"),
        "x decreases": (
            ds.isel(x=slice(None, None, -1)),
            SchemaError,
            r"'x' does not increase at index 1 .*ds.sortby\('x'\)",
        ),
        "no x": (ds.drop_vars("x"), SchemaError, r"dim 'x' has no coordinate. Add it with ds.assign_coords"),
        "parameter": (
            ds.assign_coords(viscosity=ds["viscosity"].copy(data=[1.0, np.nan, 2.0])),
            DataError,
            r"coordinate 'viscosity' is nan at index 1",
        ),
        "trajectory": (
            ds.assign_coords(trajectory=[0, 1, 1]),
            SchemaError,
            r"trajectory 1 occurs more than once",
        ),
        "parameter of time": (
            ds.assign_coords(viscosity=("time", np.ones(6), ds["viscosity"].attrs)),
            SchemaError,
            r"coordinate 'viscosity' has dims \(time\), expected \(trajectory\)",
        ),
        "empty": (ds.isel(trajectory=[]), SchemaError, r"dim 'trajectory' is empty"),
        "nothing": (ds.drop_vars("u"), SchemaError, r"holds no variable"),
        "one-sided": (
            ds.assign_attrs(boundary_conditions='{"x": ["periodic", "wall"]}'),
            SchemaError,
            r"boundary_conditions: x is periodic on one side only",
        ),
        "unknown side": (
            ds.assign_attrs(boundary_conditions='{"x": ["periodical", "periodical"]}'),
            SchemaError,
            r"boundary condition 'periodical' is unknown; use one of periodic, wall, reflecting, open, value",
        ),
        "no JSON": (ds.assign_attrs(boundary_conditions="wall"), SchemaError, r"found 'wall', expected JSON"),
    }


@pytest.mark.parametrize("what", list(_broken()))
def test_what_is_not_canonical_is_refused(what: str) -> None:
    ds, error, message = _broken()[what]
    with pytest.raises(error, match=message) as caught:
        check_snapshots(ds, "d")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("d: ")


def test_first_index_is_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    ds = mock_snapshots(2, trajectories=3)
    ds["u"].values[2, 4, 3, 5] = np.nan
    monkeypatch.setattr("romvae.canonical.blocks.__defaults__", (2 * ds["u"][0, 0].nbytes, None))
    with pytest.raises(DataError, match=r"trajectory 2, time 4 \(time=0.4\), y 3 \(y=0.375\), x 5"):
        check_snapshots(ds)


def test_time_stored_as_float32_is_still_uniform() -> None:
    ds = mock_snapshots(1, trajectories=2, times=200)
    check_snapshots(ds.assign_coords(time=("time", ds["time"].values.astype(np.float32), ds["time"].attrs)))


def test_missing_units_and_boundaries_warn() -> None:
    ds = mock_snapshots(1, trajectories=2)
    del ds["u"].attrs["units"], ds.attrs["boundary_conditions"]
    with pytest.warns(UserWarning, match="d: no") as caught:
        check_snapshots(ds, "d")
    texts = [str(w.message) for w in caught]
    assert any("d: no units for u: taken as dimensionless" in text for text in texts)
    assert any("d: no boundary condition for x: taken as open" in text for text in texts)


def test_a_single_time_has_no_step() -> None:
    with pytest.raises(SchemaError, match="holds a single time, expected at least two"):
        Schema.of(mock_snapshots(1, times=1))


def test_builder_refuses_other_shapes() -> None:
    with pytest.raises(
        SchemaError, match=r"field 'u': shape is \(trajectory=2, time=3, x=4\), expected \(trajectory, time=3, x=5\)"
    ):
        snapshots({"u": np.zeros((2, 3, 4))}, {"x": np.arange(5.0)}, np.arange(3.0))
    with pytest.raises(SchemaError, match=r"parameter 'nu': shape is \(3,\), expected \(2,\)"):
        snapshots({"u": np.zeros((2, 3, 4))}, {"x": np.arange(4.0)}, np.arange(3.0), {"nu": [1, 2, 3]})
    with pytest.raises(SchemaError, match=r"axes: found r, expected some of z, y, x"):
        snapshots({"u": np.zeros((2, 3, 4))}, {"r": np.arange(4.0)}, np.arange(3.0))


def test_names_and_boundaries_are_read_off() -> None:
    ds = mock_snapshots(2, ("u", "v")).assign(latent=(("trajectory", "time", "latent"), np.zeros((8, 6, 3))))
    assert fields_of(ds) == ["u", "v"]
    assert fields_of(ds.isel(trajectory=0, time=0)) == ["u", "v"]
    assert parameters_of(ds) == ["viscosity"]
    assert boundaries_of(ds)["y"][1] == Boundary("value", (("u", 0.0), ("v", 0.0)))
    check_snapshots(ds)


def test_axis_knows_whether_it_is_uniform() -> None:
    assert Axis("x", (0.0, 0.5, 1.0)).spacing == 0.5
    assert math.isnan(Axis("x", (0.0, 0.5, 1.1)).spacing)
    assert Axis("x", tuple(np.linspace(0, 1, 1000, dtype=np.float32).tolist())).uniform


def _timed(dt: float, units: str) -> xr.Dataset:
    ds = mock_snapshots(1, trajectories=3)
    return ds.assign_coords(time=("time", dt * np.arange(ds.sizes["time"]), {"units": units}))


@pytest.mark.parametrize(
    ("dt", "units", "message"),
    [
        (50.0, "ms", r"'time' is in 'ms', but this ROM was trained in 's' \(50 ms = 0.05 s\). Convert it and set its"),
        (2.0, "min", r"'time' is in 'min', .* 's' \(2 min = 120 s\)"),
        (3.0, "t_0", r"'time' is in 't_0', .* 's' \(its step is 3 t_0, that of this ROM 0.05 s\)"),
        (50.0, "s", r"step is 50 s, but .* at 0.05 s. Is it in another unit\? Interpolate the data to dt=0.05"),
        (3.0, "s", r"step is 3 s, but .* at 0.05 s. Is it in another unit\? Interpolate"),
        (0.06, "s", r"step is 0.06 s, but this ROM was trained at 0.05 s. Interpolate the data to dt=0.05"),
    ],
)
def test_units_of_time_are_compared_before_its_step(dt: float, units: str, message: str) -> None:
    schema = Schema.of(_timed(0.05, "s"))
    schema.check(_timed(0.05, "s"), "a.zarr")
    with pytest.raises(SchemaError, match=f"a.zarr: .*{message}"):
        schema.check(_timed(dt, units), "a.zarr")


def test_a_step_without_units_is_told_as_a_number() -> None:
    with pytest.raises(SchemaError, match=r"step is 0\.06, but this ROM was trained at 0.05. Interpolate"):
        Schema.of(_timed(0.05, "1")).check(_timed(0.06, "1"))


def test_a_missing_parameter_is_not_looked_for_in_the_bookkeeping() -> None:
    ds = mock_snapshots(1, trajectories=3)
    schema = Schema.of(ds)
    kept = {"source_file": ("trajectory", ["a"] * 3), "source_index": ("trajectory", [0, 1, 2])}
    bare = ds.drop_vars("viscosity").assign_coords(**kept, split=("trajectory", np.int8([0, 1, 2])))
    with pytest.raises(SchemaError, match=r"'viscosity' is missing, found none\. Add it with ds\.assign_coords"):
        schema.check(bare)
    with pytest.raises(SchemaError, match=r"a\.h5: .* is missing, found nu\. State it in a mapping file .*--reader"):
        schema.check(bare.assign_coords(nu=("trajectory", [1.0, 2.0, 3.0])), "a.h5")


def _built(**changed: object) -> xr.Dataset:
    given = {
        "fields": {"u": np.zeros((8, 6, 16))},
        "axes": {"x": np.arange(16.0)},
        "times": np.arange(6.0),
        "parameters": {"nu": np.ones(8)},
        "boundaries": {"x": ("wall", "open")},
        "units": {"u": "m", "x": "m", "time": "s", "nu": "m2 s-1"},
    }
    return snapshots(**{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boundaries": {"y": "open"}}, r"boundaries: found 'y', expected some of x"),
        ({"boundaries": {"x": "peridoic"}}, r"'peridoic' is unknown; .* Did you mean 'periodic'\?"),
        ({"units": {"uu": "m"}}, r"units: found 'uu', expected some of u, x, nu, time. Did you mean 'u'\?"),
        ({"units": {"y": "m"}}, r"units: found 'y', expected some of u, x, nu, time"),
        (
            {"fields": {"u": np.zeros((8, 16, 6))}},
            r"'u': shape is \(trajectory=8, time=16, x=6\), expected \(traj.*=6, x",
        ),
        (
            {"fields": {"u": np.zeros((6, 16))}},
            r"'u': shape is \(6, 16\), with 2 axes, expected 3 \(trajectory, time=6",
        ),
        ({"fields": {"u": 1.0}}, r"'u': shape is \(\), with 0 axes, expected 3"),
        ({"fields": {"u": np.zeros((8, 16, 6))}, "parameters": {"nu": 0.1}}, "field 'u': shape"),
        ({"fields": {"u": np.zeros((8, 6, 16)), "v": np.zeros((7, 6, 16))}, "units": {}}, "field 'v': holds 7 traj"),
        ({"fields": {"u": [["a"]]}}, "field 'u': cannot be read as an array of numbers"),
        (
            {"parameters": {"nu": 0.1}},
            r"'nu': shape is \(\), expected \(8,\): one number for each of the 8 .*full\(8, 0.1",
        ),
        ({"parameters": {"nu": np.ones(6)}}, r"parameter 'nu': shape is \(6,\), expected \(8,\): one number"),
        ({"parameters": {"u": np.ones(8)}}, r"parameter 'u': is the name of a field too. Rename one of them"),
        ({"parameters": {"time": np.ones(8)}}, r"parameter 'time': is the name of a dim too"),
        ({"fields": {"x": np.zeros((8, 6, 16))}}, r"field 'x': is the name of a dim too"),
    ],
)
def test_builder_names_what_does_not_fit(changed: dict, message: str) -> None:
    _built()
    with pytest.raises(SchemaError, match=message):
        _built(**changed)


def test_builder_declares_only_the_boundaries_that_were_stated() -> None:
    shape = {"fields": {"u": np.zeros((8, 6, 3, 16))}, "axes": {"y": np.arange(3.0), "x": np.arange(16.0)}}
    assert list(boundaries_of(_built(**shape))) == ["x"]
    assert boundaries_of(_built(boundaries=None)) == {}
    assert boundaries_of(_built(boundaries={"x": "periodic"}))["x"] == (Boundary("periodic"),) * 2
    with pytest.warns(UserWarning, match="no boundary condition for y: taken as open"):
        check_snapshots(_built(**shape))
