"""Errors field by field, on the page and in the terminal; and what a terminal always shows of the verdict."""

from __future__ import annotations

import re
from copy import deepcopy

import pytest

from romvae.commands.text import skill
from romvae.report import headlines, verdict
from romvae.report.fields import field_table, flattered
from romvae.report.page import render

from .fake import fake_comparison

WALL = {
    "units": "K",
    "relative_l2": 0.0026,
    "nrmse": 0.0302,
    "vrmse": 0.031,
    "mean_absolute_error": 0.72,
    "crps": 0.51,
    "coverage_90": 0.913,
    "mean": 350.0,
    "standard_deviation": 30.0,
}
SPEED = {**WALL, "units": "m s-1", "relative_l2": 0.0302, "mean_absolute_error": 0.0072, "crps": 0.005, "mean": 0.01}
SPEED |= {"standard_deviation": 0.3}
HINT = (
    "The mean of T_wall is 12 times its standard deviation, which flatters its relative L2 error (0.26 %): over the "
    "deviation it is 3.0 %."
)


@pytest.fixture
def compared():
    comparison = fake_comparison((16,), times=6, examples=1, fields=("T_wall", "vel_x"))
    comparison.examples = comparison.examples.drop_vars(
        list(comparison.examples.data_vars)
    )  # no pictures: they take long
    comparison.metrics["rom"]["fields"] = {"T_wall": WALL, "vel_x": SPEED}
    return comparison


def test_the_page_has_a_table_of_fields_with_heads_of_rows_and_columns_and_units(compared):
    page = render(compared)
    table = next(each for each in page.split("<table>") if "for each field alone" in each).split("</table>")[0]
    assert "<caption>" in table
    assert table.count('<th scope="col">') == 6
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["T_wall", "vel_x"]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    assert [[cell.replace("\u00a0", " ").replace("\u202f", " ") for cell in row] for row in rows] == [
        ["0.26 %", "3.0 %", "0.72 K", "0.51 K", "91.3 %"],
        ["3.0 %", "3.0 %", "0.0072 m s⁻¹", "0.005 m s⁻¹", "91.3 %"],
    ]
    assert "The mean of T_wall" in table
    wide = re.findall(r'<div class="(?:wide|panel scores)"(.*?)>', page)
    names = ("Numbers", "Table of fields", "Table of trust horizons")
    assert wide == [f' tabindex="0" role="region" aria-label="{name}"' for name in names]  # they scroll by the keyboard
    assert "relative L2 errors are combined by their root mean square, and VRMSE, coverage, mean absolute error" in page


def test_without_scores_of_fields_as_in_earlier_versions_there_is_no_table(compared):
    del compared.metrics["rom"]["fields"]
    assert field_table(compared.metrics) is None
    assert flattered(compared.metrics) == ""


def test_a_field_far_from_zero_is_said_to_flatter_and_others_are_not(compared):
    assert flattered(compared.metrics) == HINT
    assert HINT in verdict(compared.metrics)
    compared.metrics["rom"]["fields"]["T_wall"] = {**WALL, "mean": -89.0}
    assert flattered(compared.metrics) == ""


def test_the_terminal_has_a_line_for_each_of_several_fields_and_nothing_new_for_one(compared):
    lines = skill(compared.metrics).splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("field by field"))
    assert " ".join(lines[at].split()) == "field by field relative L2 over deviation mean error CRPS 90 % holds"
    assert " ".join(lines[at + 1].split()) == "T_wall 0.26 % 3.02 % 0.72 K 0.51 K 91.30 %"
    assert " ".join(lines[at + 2].split()) == "vel_x 3.02 % 3.02 % 0.0072 m s-1 0.005 m s-1 91.30 %"
    assert len({len(line) for line in lines[at : at + 3]}) == 1
    assert HINT in headlines(compared.metrics)
    one = deepcopy(compared.metrics)
    one["rom"]["fields"] = {"T_wall": WALL}
    none = deepcopy(compared.metrics)
    del none["rom"]["fields"]
    assert skill(one) == skill(none)
    assert headlines(one) == headlines(none)


def _said(metrics):
    return len(re.findall(r"[.!?](?=\s|$)", " ".join(headlines(metrics))))


@pytest.mark.parametrize("loses", [False, True])
@pytest.mark.parametrize(("coverage", "word"), [(0.55, "too narrow"), (0.99, "too wide"), (0.9, "")])
def test_a_terminal_always_says_what_not_to_do_and_that_intervals_are_wrong(compared, coverage, word, loses):
    metrics = fake_comparison((16,), times=6, examples=1, loses=loses).metrics
    metrics["rom"] |= {"coverage_90": coverage, "coverage_90_fifths": [coverage] * 5, "fields": {"a": WALL, "b": SPEED}}
    shown, whole = headlines(metrics), verdict(metrics)
    assert shown[0] == whole[0]
    assert shown[-1] == whole[-1]
    assert shown[-1].startswith("Do not use it for")
    assert any("90 % intervals hold" in each for each in shown) == bool(word)
    assert not word or word in " ".join(shown)
    assert set(shown) <= set(whole)
    assert len(set(shown)) == len(shown)
    assert _said(metrics) <= 6


def test_intervals_that_are_wrong_in_a_part_of_the_horizon_only_are_said_to_be(compared):
    compared.metrics["rom"] |= {"coverage_90": 0.9, "coverage_90_fifths": [0.99, 0.95, 0.9, 0.85, 0.6]}
    assert "too narrow in the 5th (60 %) fifth" in " ".join(headlines(compared.metrics))
