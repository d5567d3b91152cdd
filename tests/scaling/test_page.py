"""SCALING.md shows the rows that were measured, and says no more of the model than they do."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scaling import model
from tests.scaling.page import PAGE, TABLES, filled


def test_the_tables_of_the_page_are_those_of_the_rows():
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text, model.found()) == text


def test_a_place_that_is_missing_is_named():
    with pytest.raises(ValueError, match=f"no place for the table {next(iter(TABLES))!r}"):
        filled("", model.found())


def test_what_is_checked_was_not_fitted():
    assert not set(model.FITTED) & set(model.CHECKED)
    assert len(model.CHECKED) >= 6


def test_a_fit_finds_the_constants_that_made_the_values():
    """Exactly, without noise; a constant that would be negative is zero."""
    terms = np.random.default_rng(0).random((6, 3))
    fit = model.Fit.of(("a", "b", "c"), terms, terms @ [2.0, 0.5, 3.0])
    np.testing.assert_allclose(fit.constants, [2.0, 0.5, 3.0], rtol=1e-9)
    assert min(model.Fit.of(("a", "b"), terms[:, :2], 1 + terms[:, 0] - 0.5 * terms[:, 1]).constants) >= 0


def test_the_page_states_how_far_the_model_is_off():
    """The bounds in its text hold for the rows: 1.5 in one and two dimensions, a factor of two in three."""
    rows = model.found()
    off = {True: 1.0, False: 1.0}
    for _, name, predicted, value in model.predictions(rows):
        off[name.startswith("3-D")] = max(off[name.startswith("3-D")], predicted / value, value / predicted)
    assert off[False] < 1.5
    assert off[True] < 2.0


def test_the_page_states_how_far_the_memory_of_training_is_off():
    """Eight rows: one by 1.65, the others by less than 1.3."""
    rows = model.memory_predictions(model.found())
    off = sorted(max(predicted / value, value / predicted) for _, _, predicted, value in rows)
    assert len(off) >= 6
    assert off[-1] < 1.66
    assert off[-2] < 1.3
    assert {name for name, *_ in rows}.isdisjoint(model.MEMORY_FITTED)


def test_rows_reach_what_the_page_claims():
    rows = model.found()
    assert all(rows[f"rollout/{name}"]["ratio"] < 1.2 for name in ("1-D 256", "2-D 64"))
    assert all(rows[f"start/{name}"]["seconds"] < 10 for name in ("1-D 256", "2-D 64", "2-D 256"))
    for grid in ("1-D 256", "2-D 64"):
        peaks = [rows[f"memory/to disk, {grid}, {steps} steps"]["peak_mib"] for steps in (100, 400, 1600)]
        assert max(peaks) / min(peaks) < 1.2
    assert all(abs(r["step_ratio"] - 1) < 0.05 for k, r in rows.items() if k.startswith("traffic/two"))
