"""Figures: honest scales, no global state, and no trouble with what files may hold."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from romvae import plot
from romvae.plot.fields import draw_map, plane, quantities
from romvae.plot.style import new_figure

pytestmark = pytest.mark.filterwarnings("error")


def _example(shape: tuple[int, ...] = (12,), times: int = 5, units: str = "m s-1") -> xr.Dataset:
    """One trajectory with dims (time, *space)."""
    rng = np.random.default_rng(0)
    names = ("z", "y", "x")[-len(shape) :]
    dims = ("time", *names)
    truth = rng.normal(size=(times, *shape))
    error = 0.1 * rng.normal(size=truth.shape)
    arrays = {"truth": truth, "mean": truth + error, "std": np.full(truth.shape, 0.1)}
    arrays |= {"lower": truth + error - 0.16, "upper": truth + error + 0.16}
    coords = {name: (name, np.arange(size) / size) for name, size in zip(names, shape, strict=True)}
    data = {f"{name}_u": (dims, values, {"units": units}) for name, values in arrays.items()}
    return xr.Dataset(data, coords={"time": ("time", np.arange(times) * 0.1, {"units": "s"}), **coords})


def _series(**curves: np.ndarray) -> xr.Dataset:
    size = len(next(iter(curves.values())))
    time = ("time", np.linspace(0.0, 1.0, size), {"units": "s"})
    return xr.Dataset({name: ("time", values) for name, values in curves.items()}, coords={"time": time})


def _figures() -> dict[str, Figure]:
    rom = np.linspace(0.01, 0.1, 11)
    levels = xr.DataArray([0.2, 0.5, 0.9], dims="level", coords={"level": [0.2, 0.5, 0.9]})
    example = _example()
    scale = plot.FieldScale.of(example, "u")
    series = _series(rom_relative_l2=rom, baseline_persistence_relative_l2=np.linspace(0, 1, 11))
    return {
        "error": plot.error_over_time(series),
        "coverage": plot.coverage_over_time(_series(rom_coverage_90=0.9 - rom), [0.8] * 5, [0.01] * 5),
        "reliability": plot.reliability(levels),
        "spread": plot.spread_skill(_series(rmse=rom, std=rom, std_decoder=rom / 2, std_dynamics=rom / 2)),
        "panel": plot.map_panel(example["truth_u"], "truth", scale),
        "maps": plot.forecast_maps(example, "u"),
        "lines": plot.interval_lines(example, "u", -1),
        "kl": plot.kl_per_dimension(np.array([3.0, 0.0, 1.0])),
        "training": plot.training_curves({"vae": {"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0]}}),
        "seconds": plot.stage_seconds({"vae": 3.0, "dynamics": 2.0}),
    }


def test_each_function_returns_a_figure_and_leaves_the_users_settings_alone() -> None:
    before = dict(matplotlib.rcParams)
    figures = _figures()
    assert all(isinstance(figure, Figure) for figure in figures.values())
    assert all(plot.svg(figure).startswith(b"<?xml") for figure in figures.values())
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = "import sys, romvae.plot; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_released_figure_is_freed() -> None:
    figure = plot.kl_per_dimension(np.ones(4))
    plot.svg(figure)
    reference = weakref.ref(figure)
    plot.release(figure)
    del figure
    gc.collect()
    assert reference() is None


def test_the_same_figure_gives_the_same_bytes() -> None:
    first, second = (plot.svg(plot.kl_per_dimension(np.ones(4))) for _ in range(2))
    assert first == second


def test_truth_and_mean_share_limits_and_so_do_error_and_std() -> None:
    scale = plot.FieldScale.of(_example(), "u")
    truth, mean, error, std = (scale.colours(name)[1] for name in ("truth", "mean", "error", "std"))
    assert (truth.vmin, truth.vmax) == (mean.vmin, mean.vmax)
    assert error.vmin == -scale.deviation
    assert error.vmax == std.vmax == scale.deviation
    assert std.vmin == 0


def test_a_forecast_that_runs_away_does_not_squeeze_the_truth() -> None:
    example = _example()
    before = plot.FieldScale.of(example, "u")
    example["mean_u"][-1] = 1e6
    after = plot.FieldScale.of(example, "u")
    assert (after.low, after.high) == (before.low, before.high)


def test_zero_is_the_middle_of_a_signed_field_only() -> None:
    signed = plot.FieldScale.of(_example(), "u")
    positive = plot.FieldScale.of(_example() + 10.0, "u")
    assert signed.signed
    assert signed.colours("truth")[0] == "RdBu_r"
    assert positive.low > 0
    assert positive.colours("truth")[0] == "viridis"


@pytest.mark.parametrize(("shape", "dims"), [((9,), ("time", "x")), ((6, 9), ("y", "x")), ((4, 6, 9), ("y", "x"))])
def test_a_map_shows_time_and_x_or_the_middle_plane(shape: tuple[int, ...], dims: tuple[str, ...]) -> None:
    example = _example(shape)
    shown = plane(example["truth_u"], 2)
    assert shown.dims == dims
    if len(shape) == 3:
        np.testing.assert_array_equal(shown, example["truth_u"][2, 2])
    assert len(plot.forecast_maps(example, "u", 2).axes) == 8  # four maps, four colour bars


def test_a_map_of_a_nonuniform_axis_shows_the_nearest_point() -> None:
    x = np.array([0.0, 0.1, 0.2, 1.0])
    values = xr.DataArray(np.tile(x, (2, 1)), dims=("time", "x"), coords={"time": [0.0, 1.0], "x": x})
    _, (axes,) = new_figure()
    image = draw_map(axes, values, "truth", plot.FieldScale(0.0, 1.0, 1.0))
    # Pixels stand at 0, 1/3, 2/3 and 1; the points nearest to them are 0, 0.2, 1 and 1.
    np.testing.assert_array_equal(np.asarray(image.get_array())[0], [0.0, 0.2, 1.0, 1.0])
    assert image.get_extent()[:2] == pytest.approx([-1 / 6, 7 / 6])


def test_the_error_is_forecast_minus_truth_in_the_fields_units() -> None:
    example = _example()
    error = quantities(example, "u")["error"]
    np.testing.assert_array_equal(error, example["mean_u"].values - example["truth_u"].values)
    assert error.attrs["units"] == "m s-1"


def test_the_error_axis_is_logarithmic_only_for_a_wide_range_and_drops_zeros() -> None:
    zero_at_start = np.linspace(0.0, 1.0, 11)
    wide = plot.error_over_time(
        _series(rom_relative_l2=np.full(11, 0.01), baseline_persistence_relative_l2=zero_at_start)
    )
    narrow = plot.error_over_time(_series(rom_relative_l2=np.linspace(0.01, 0.02, 11)))
    assert wide.axes[0].get_yscale() == "log"
    assert np.isnan(wide.axes[0].lines[0].get_ydata()[0])  # type: ignore[index]
    assert narrow.axes[0].get_yscale() == "linear"


def test_values_that_are_not_finite_do_not_stop_a_figure() -> None:
    example = _example()
    example["mean_u"][-1] = np.nan
    example["std_u"][-1] = np.inf
    plot.svg(plot.forecast_maps(example, "u"))
    plot.svg(plot.interval_lines(example, "u", -1))
    plot.svg(plot.error_over_time(_series(rom_relative_l2=np.array([0.1, np.nan, np.inf]))))
    plot.svg(plot.coverage_over_time(_series(rom_coverage_90=np.full(3, np.nan))))


@pytest.mark.parametrize("name", ["$\\frac{", "a_b^{", "%d %s", "line\nbreak\x07", "x" * 500])
def test_names_from_files_cannot_break_a_figure(name: str) -> None:
    example = _example(units=name).rename({f"{part}_u": f"{part}_{name}" for part in ("truth", "mean", "std")})
    plot.svg(plot.forecast_maps(example, name))
    plot.svg(plot.training_curves({name: {"step": [1, 2], name: [1.0, 2.0]}}))
    assert len(plot.plain(name)) <= 40


def test_latent_dimensions_in_use_are_counted() -> None:
    figure = plot.kl_per_dimension(np.array([0.0, 2.0, 0.05, 1.0]))
    assert figure.axes[0].get_title(loc="left") == "2 of 4 dimensions in use"
    heights = [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights == [2.0, 1.0, 0.05, 0.0]


def test_long_training_curves_are_thinned_to_means() -> None:
    loss = np.arange(1000.0)
    figure = plot.training_curves({"vae": {"loss": loss.tolist()}})
    line = figure.axes[0].lines[0]
    drawn = np.asarray(line.get_ydata(), dtype=float)
    assert drawn.size <= 400
    assert drawn[0] == loss[:3].mean()


def test_an_interval_that_is_wider_than_the_field_is_seen_whole() -> None:
    """Where the field hardly moves its own range would cut off the band, and nobody could tell how wide it is."""
    example = _example()
    narrow = plot.interval_lines(example, "u", -1).axes[0].get_ylim()
    still = example.assign(lower_u=example["mean_u"] - 50.0, upper_u=example["mean_u"] + 50.0)
    low, high = plot.interval_lines(still, "u", -1).axes[0].get_ylim()
    assert high - low > 5 * (narrow[1] - narrow[0])
    assert low < float(still["lower_u"].isel(time=-1).quantile(0.5))
    assert high > float(still["upper_u"].isel(time=-1).quantile(0.5))
