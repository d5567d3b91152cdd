"""Parameter studies: the table is what rollouts say, and every interval is the calibrated one."""

from __future__ import annotations

import copy
import csv
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import romvae
from romvae.data import open_snapshots
from romvae.errors import ConfigError, DataError, FewTrajectoriesWarning, OutOfRangeWarning, SchemaError
from romvae.quantities import Quantity, maximum, standard
from romvae.solvers import Range, get_case
from romvae.studies import blocks
from romvae.studies.named import named, resolved
from romvae.studies.reduced import PREDICTED, leads_of, reduced_forecast
from romvae.studies.starts import digest_of, from_case, points
from romvae.trust import predicted_error

from .conftest import stopping

ASK = {"steps": 4, "members": 8}
PARTS = ("", "_std", "_lower", "_upper")


@pytest.fixture(scope="module")
def plain(small, tmp_path_factory):
    """A study from given fields with their own parameters, and its folder."""
    out = tmp_path_factory.mktemp("study") / "study"
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutOfRangeWarning)
        found = romvae.study(
            small.rom, small.start, **ASK, calibration=small.calibration, tolerance=0.5, at=[0.2, 0.4], out=out
        )
    return found, out


def test_quantities_and_their_intervals_are_those_of_a_rollout_to_the_bit(small, plain):
    found, _ = plain
    expected = small.rom.rollout(small.start, **ASK, quantities=standard(small.rom.schema), tolerance=0.5)
    for quantity in standard(small.rom.schema):
        for part in PARTS:
            assert np.array_equal(found[quantity.name + part], expected[quantity.name + part])
    assert np.array_equal(found["trust_horizon"], expected["trust_horizon"])
    assert found["trust_horizon"].attrs["guarantee"] == expected["trust_horizon"].attrs["guarantee"]
    # Means over space of the same float32 numbers, taken in another order.
    np.testing.assert_allclose(found[PREDICTED], predicted_error(small.rom, expected), rtol=1e-5)


def test_the_table_has_a_row_for_every_rollout_and_time_with_all_digits(small, plain):
    found, out = plain
    assert {path.name for path in out.iterdir()} == {"table.csv", "table.json", "study.nc", "study.svg"}
    assert [path.name for path in out.parent.iterdir()] == ["study"]
    with (out / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 6
    assert [row["time"] for row in rows[:4]] == ["0.2", "0.4"] * 2
    for name in ("u_maximum", "v_mean_lower", "viscosity"):
        here = found[name].isel(time=4) if "time" in found[name].dims else found[name]
        assert [float(row[name]) for row in rows[1::2]] == here.values.tolist()
    content = json.loads((out / "table.json").read_text())
    assert list(content["columns"]) == list(rows[0])
    assert content["columns"]["viscosity"] == {"is": "parameter", "units": found["viscosity"].attrs["units"]}
    assert content["calibration_trajectories"]["u_mean"] == 12
    assert content["study"]["level"] == 0.9
    assert [row["u_maximum"] for row in content["rows"]] == [float(row["u_maximum"]) for row in rows]
    horizon = found["trust_horizon"].values
    assert [row["trusted"] for row in content["rows"][1::2]] == (horizon > 0.4).astype(int).tolist()
    assert not any(row["out_of_range"] for row in content["rows"])
    with xr.open_dataset(out / "study.nc", engine="h5netcdf") as kept:
        assert kept.load().identical(found)


@pytest.mark.slow
def test_fields_are_kept_when_asked_for_and_change_nothing_else(small, plain, forecast, tmp_path):
    found, _ = plain
    kept = romvae.study(small.rom, small.start, **ASK, tolerance=0.5, keep_fields=True, out=tmp_path / "study")
    for quantity in standard(small.rom.schema):
        assert np.array_equal(kept[f"{quantity.name}_upper"], found[f"{quantity.name}_upper"])
    fields = open_snapshots(tmp_path / "study" / "fields.zarr")
    for name in ("u", "u_std", "v_lower", "latent"):
        assert np.array_equal(fields[name], forecast[name])


def test_times_that_are_left_out_are_not_decoded_and_make_the_horizon_shorter_at_most(small, plain, monkeypatch):
    found, _ = plain
    decoded: list[int] = []
    decoder = small.rom.vae.decoder
    handle = decoder.register_forward_hook(lambda module, given, result: decoded.append(len(given[0])))
    start, ask = small.start.isel(trajectory=slice(0, 4)), blocks.Request(**ASK, quantities=(maximum("u"),))
    some = reduced_forecast(small.rom, start, ask, every=3)
    handle.remove()
    assert leads_of(4, 3).tolist() == [0, 3, 4]
    assert sum(decoded) == 3 * 8 * 4
    every = found.isel(time=[0, 3, 4], trajectory=slice(0, 4))
    np.testing.assert_allclose(
        some["u_maximum_upper"], every["u_maximum_upper"], rtol=1e-5
    )  # another batch of decoding
    horizon = romvae.study(small.rom, small.start, **ASK, tolerance=0.5, every=3, quantities=["max:u"])["trust_horizon"]
    assert bool((horizon <= found["trust_horizon"] + 1e-9).all())


def test_a_design_covers_its_ranges_and_flags_what_lies_beyond(small):
    with pytest.warns(OutOfRangeWarning, match="rollouts lie outside of the trained range"):
        found = romvae.study(
            small.rom,
            small.start.isel(trajectory=[3, 5]),
            n=4,
            ranges=[Range("viscosity", 0.2, 1.6, "log")],
            design="grid",
            quantities=["mean:u"],
            **ASK,
        )
    np.testing.assert_allclose(found["viscosity"], np.repeat(np.geomspace(0.2, 1.6, 4), 2))
    assert found["initial_field"].values.tolist() == [3, 5] * 4
    beyond = np.repeat(np.geomspace(0.2, 1.6, 4) > float(small.start["viscosity"].max()), 2)
    assert found["out_of_range"].values.astype(bool).tolist() == beyond.tolist()
    assert 0 < beyond.sum() < 8
    assert found.attrs["design"] == "grid"


def test_a_study_that_was_interrupted_goes_on(small, plain, tmp_path, monkeypatch):
    """Its calibration is made again, to the bit: otherwise the work would be that of another model."""
    found, _ = plain
    ask = {**ASK, "quantities": ["max:u"], "out": tmp_path / "study"}
    with pytest.raises(KeyboardInterrupt):
        romvae.study(small.rom, small.start, **ask, progress=stopping(4))
    assert len(list((tmp_path / "study.partial").glob("*.shard"))) == 4
    calls, rolled = [], blocks.rolled
    monkeypatch.setattr(blocks, "rolled", lambda *given: calls.append(given[2].first) or rolled(*given))
    again = romvae.study(small.rom, small.start, **ask)
    assert calls == [0, 4]
    assert np.array_equal(again["u_maximum_lower"], found["u_maximum_lower"])


def test_quantities_are_named_by_kind_field_and_place(small):
    schema = small.rom.schema
    assert [each.name for each in resolved(["mean:u", "l2:v", "max:u", "min:u", "probe:u@x=0.25"], schema)] == [
        "u_mean", "v_l2", "u_maximum", "u_minimum", "u_probe_x0p25",
    ]  # fmt: skip
    assert resolved((), schema) == standard(schema)
    u = small.start["u"]
    np.testing.assert_array_equal(named("probe:u@x=0.26", schema).of(u), u.sel(x=0.25))
    for text, message in (
        ("mean", r"quantity 'mean': is not understood, expected KIND:FIELD, such as mean:u"),
        ("mean:u@x=1", "is not understood"),
        ("maxi:u", r"kind is 'maxi'\. Did you mean 'max"),
        ("probe:u", "the place needs x, such as probe:u@x=0.5"),
        ("probe:u@y=0.5", "the place needs x"),
        ("probe:u@x", "'x' is no place, expected AXIS=NUMBER"),
        ("probe:u@x=7", "x = 7 lies outside of the grid, 0 to 0.9375"),
    ):
        with pytest.raises(ConfigError, match=message):
            named(text, schema)
    with pytest.raises(SchemaError, match="there is no field 'w', only u, v"):
        resolved(["mean:w"], schema)
    with pytest.raises(ConfigError, match="'u_mean' is given twice"):
        resolved(["mean:u", "mean:u"], schema)


def test_what_is_not_calibrated_is_calibrated_on_data_or_refused(small):
    rom = copy.deepcopy(small.untouched)
    start, ask = small.start.isel(trajectory=[0]), {**ASK, "quantities": ["probe:u@x=0.5"]}
    with pytest.raises(ConfigError, match="quantity 'u_probe_x0p5' is not calibrated in this ROM"):
        romvae.study(rom, start, **ask)
    with pytest.warns(FewTrajectoriesWarning, match="the interval of u_probe_x0p5 is infinite: 5 calibration"):
        found = romvae.study(rom, start, **ask, calibration=small.calibration.isel(trajectory=slice(0, 5)))
    assert np.isinf(found["u_probe_x0p5_upper"]).all()
    with pytest.raises(DataError, match=r"level 0\.99 takes at least 99 calibration trajectories"):
        romvae.study(rom, start, **ASK, tolerance=0.1, level=0.99, calibration=small.calibration)


def test_what_makes_no_sense_is_refused(small, tmp_path):
    start = small.start.isel(trajectory=[0])
    own = Quantity("u_maximum", "u", lambda u: u.max("x"))
    for given, message in (
        ({"keep_fields": True, "every": 2}, "every is 2, but fields are kept at all times"),
        ({"every": 0}, "every is 0, expected 1 or more"),
        ({"ranges": [Range("viscosity", 0, 1)]}, "ranges were given, but no number of points"),
        ({"n": 0}, "n is 0, expected 1 or more"),
        ({"at": [0.33]}, "time 0.33 is not looked at, the nearest one is 0.3"),
        ({"quantities": [own], "workers": 2}, "its function cannot be sent to other processes"),
    ):
        with pytest.raises(ConfigError, match=message):
            romvae.study(small.rom, start, **{**ASK, **given}, out=tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_a_case_draws_the_field_that_belongs_to_each_point():
    from romvae.schema import Schema

    case = get_case("burgers_1d_parametric")
    case = replace(case, times=case.times[:2])
    data = romvae.simulate(case, 2)
    values = points(list(case.ranges), 5, 0, "sobol")
    starts = from_case(case, Schema.of(data), values, seed=0)
    rows = starts.rows([1, 4])
    for place, index in enumerate((1, 4)):
        drawn = case.draw(index, 0, values=values[index])
        np.testing.assert_array_equal(rows["u"][place, 0], drawn.u0[0].astype(np.float32))
        assert all(float(rows[name][place]) == value for name, value in values[index].items())
    assert digest_of(starts) == digest_of(from_case(case, Schema.of(data), values, seed=0))
    with pytest.raises(ConfigError, match="varies a, w, but the model knows b"):
        from_case(case, Schema.of(data), [{"b": 1.0}], seed=0)
