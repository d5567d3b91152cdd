"""Figures and report of the latent space: what they show, the same bytes each time, and what is left out."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

from romvae import latent as looking
from romvae import plot
from romvae.comparison import Comparison
from romvae.errors import ConfigError
from romvae.report.latent import latent_charts
from romvae.report.page import render

ANSWER = {
    "latent": 3,
    "lower": 1.8,
    "upper": 5,
    "pod": [0.5, 0.3, 0.2, 0.1, 0.05],
    "tried": {"5": {"error": 0.04, "active": 2.0, "bound": 1.0}, "3": {"error": 0.041, "active": 2.0, "bound": 1.0}},
    "answer": "3 latents.",
}


@pytest.fixture(scope="module")
def summary(line):
    rom, parts = line
    return looking.latent_summary(rom, parts.test)


def test_the_summary_can_be_kept_and_read_again(summary, tmp_path):
    kept = Comparison({}, xr.Dataset(), xr.Dataset(), latent=summary)
    again = Comparison.load(kept.save(tmp_path / "c")).latent
    xr.testing.assert_allclose(again, summary)
    assert again["traversed"].attrs["field"] == "u"


@pytest.mark.parametrize("most", [1, 4, 30])
def test_a_summary_takes_so_many_snapshots_at_most(line, monkeypatch, most):
    rom, parts = line
    monkeypatch.setattr("romvae.latent.summary._SNAPSHOTS", most)
    codes = looking.latent_summary(rom, parts.test)["first"]
    assert 1 <= codes.size <= most < parts.test.sizes["trajectory"] * parts.test.sizes["time"]


def test_a_comparison_of_an_earlier_version_still_loads(tmp_path):
    folder = Comparison({}, xr.Dataset(), xr.Dataset()).save(tmp_path / "c")
    (folder / "latent.nc").unlink()
    assert not Comparison.load(folder).latent.data_vars


def test_the_page_has_a_section_with_a_text_for_each_picture(summary):
    comparison = Comparison(
        {"rom": {"relative_l2": 0.05}}, xr.Dataset(), xr.Dataset(), {"latent_size": ANSWER}, summary
    )
    page = render(comparison)
    section = page.split('<h2 id="latent">')[1].split("<h2")[0]
    assert '<a href="#latent">' in page
    titles = re.findall(r"<h3>(.*?)</h3>", section)
    assert titles[:2] == ["How many latents the data need", "What each latent carries"]
    assert len(titles) == 8
    alts = re.findall(r'alt="(.*?)"', section)
    assert len(alts) == 8
    assert all(len(alt) > 10 for alt in alts)
    assert len(page.encode()) < 3e6
    assert render(comparison) == page


@pytest.mark.slow
def test_the_section_is_drawn_in_any_dimension(each):
    rom, parts = each
    pictures = latent_charts(looking.latent_summary(rom, parts.test), {})
    assert len(pictures) == 7


def test_without_a_latent_space_there_is_no_section():
    assert 'id="latent"' not in render(Comparison({"rom": {"relative_l2": 0.05}}, xr.Dataset(), xr.Dataset()))
    assert latent_charts(None, {}) == []
    assert len(latent_charts(None, {"latent_size": ANSWER})) == 1


def test_active_latents_are_counted_in_the_title_and_filled():
    table = xr.Dataset(
        {
            "kl": ("latent", [0.1, 5.0, 3.0]),
            "gain": ("latent", [0.0, 1.0, 1.0]),
            "active": ("latent", [False, True, True]),
        }
    )
    (axes,) = plot.activity_bars(table).axes
    assert axes.get_title(loc="left") == "2 of 3 latents are active"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["z1", "z2", "z0"]
    table["kl"][:] = np.nan  # codes that are points
    assert plot.activity_bars(table).axes[0].get_ylabel() == "ablation gain"


def test_the_curve_of_sizes_shows_pod_and_what_was_tried():
    (axes,) = plot.latent_size(ANSWER).axes
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["POD"][:, 1], ANSWER["pod"])
    np.testing.assert_allclose(lines["trained"], [[3, 0.041], [5, 0.04]])
    np.testing.assert_allclose(lines["chosen"][:, 0], 3)
    plot.latent_size({**ANSWER, "lower": None})


def test_an_unknown_colour_is_refused(line):
    rom, parts = line
    with pytest.raises(ConfigError, match=r"no 'mass' to colour by\. Expected one of .*time.*error"):
        plot.projection(looking.project(rom, parts.test), "mass")


def test_a_flat_histogram_is_what_calibrated_p_values_give():
    figure = plot.typicality({"new": np.linspace(0.005, 0.995, 100), "foreign": np.full(10, 0.01)})
    heights = figure.axes[0].patches[0].get_data().values
    np.testing.assert_allclose(heights, 0.1)


@pytest.mark.parametrize("shape", [(9,), (4, 6), (3, 4, 6)])
def test_a_gallery_takes_fields_of_any_dimension_even_constant_ones(shape):
    names = ("z", "y", "x")[-len(shape) :]
    field = xr.DataArray(np.zeros((3, *shape)), dims=("sample", *names), name="u", attrs={"units": "m s-1"})
    figure = plot.gallery({"truth": field, "decoded": field + 1})
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["truth", "decoded"]
    assert plot.svg(figure) == plot.svg(plot.gallery({"truth": field, "decoded": field + 1}))
