"""Descriptions: what is there, and what is missing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from romvae.data import describe, summary, write_snapshots
from romvae.testing import mock_snapshots


def test_description_says_what_is_there(tmp_path: Path) -> None:
    ds = mock_snapshots(2, ("u", "p"))
    path = write_snapshots(ds, tmp_path / "a.zarr")
    found = describe(path)
    json.dumps(found, allow_nan=False)
    assert found["format"] == "zarr"
    assert found["usable"]
    assert not found["problems"]
    assert not found["missing"]
    assert found["times"] == {"count": 6, "start": 0.0, "end": 0.5, "step": 0.1, "units": "s"}
    assert [axis["name"] for axis in found["axes"]] == ["y", "x"]
    u = ds["u"].values.astype(np.float64)
    assert found["fields"][0]["mean"] == pytest.approx(u.mean(), abs=1e-14)
    assert found["fields"][0]["std"] == pytest.approx(u.std(), rel=1e-13)
    text = summary(found)
    for part in (
        "a.zarr (zarr",
        "trajectories  8",
        "field u",
        "parameter viscosity",
        "periodic",
        "usable: yes",
    ):
        assert part in text


def test_description_says_what_is_missing() -> None:
    ds = mock_snapshots(1, trajectories=3).assign_coords(beta=("trajectory", [1.0, 2.0, 3.0]))
    del ds["x"].attrs["units"], ds.attrs["boundary_conditions"]
    ds["u"].values[:] = 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = describe(ds)
    assert found["usable"]
    missing = "\n".join(found["missing"])
    for part in (
        "field 'u' is 2 everywhere",
        "5 more trajectories: training needs at least 8",
        "units of 'x'",
        "boundary condition of 'x'",
        "role of 'beta'",
    ):
        assert part in missing
    ds["u"].values[1, 2, 3] = np.nan
    found = describe(ds)
    assert not found["usable"]
    assert found["problems"][0].startswith("'u' is NaN, first at trajectory 1, time 2")
    assert "usable: no" in summary(found)


def test_what_can_be_read_and_what_can_be_trained_on_are_told_apart() -> None:
    ds = mock_snapshots(1, ("u", "v"))
    assert describe(ds)["trainable"]
    constant = ds.assign(v=ds["v"].copy(data=np.full(ds["v"].shape, 2.0, dtype=np.float32)))
    for changed, message in (
        (ds.isel(trajectory=slice(0, 7)), "found 7 trajectories, needed are at least 8"),
        (ds.isel(time=slice(0, 1)), "holds a single time"),
        (ds.rename(v="u_std"), "field 'u_std' has the name of a variable of the forecast"),
        (constant, "variable 'v': constant at 2"),
    ):
        found = describe(changed)
        assert (found["usable"], found["trainable"], found["forecast_of"]) == (True, False, [])
        assert any(message in text for text in found["obstacles"])
        assert "usable: yes\n  cannot be trained on: " in summary(found)


def test_a_forecast_says_what_it_is() -> None:
    ds = mock_snapshots(1, ("u", "v"))
    said = {"level": 0.9, "calibration": "Calibrated on 3 trajectories", "calibration_trajectories": 3}
    forecast = ds.assign({f"{n}_{kind}": ds[n] for n in "uv" for kind in ("std", "lower")}).assign_attrs(said)
    found = describe(forecast)
    assert found["forecast_of"] == ["u", "v"]
    assert not found["trainable"]
    assert "this is a forecast of u, v, not data to train on" in summary(found)
