"""Designs: in range, balanced as their names promise, and functions of (case, n, seed) alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from romvae.errors import ConfigError
from romvae.solvers import CASES, DESIGNS, Case, Heat, Range, sampled, simulate

from decay import DECAY, RANGES  # isort: skip

PLACED = DESIGNS[1:]


def fractions(n: int, design, seed: int = 0) -> np.ndarray:
    """Where the values lie in their ranges, from 0 to 1; the first range is logarithmic."""
    values = sampled(DECAY, n, seed, design)
    assert values is not None
    rate, height = RANGES
    return np.array(
        [
            [
                math.log(v["rate"] / rate.low) / math.log(rate.high / rate.low),
                (v["height"] - height.low) / (height.high - height.low),
            ]
            for v in values
        ]
    )


@pytest.mark.parametrize("design", PLACED)
@pytest.mark.parametrize("n", [1, 7, 16])
def test_values_lie_in_their_ranges_and_follow_from_the_arguments(design, n):
    found = fractions(n, design)
    assert found.shape == (n, 2)
    assert found.min() >= -1e-12  # a logarithm and its inverse
    assert found.max() <= 1 + 1e-12
    assert sampled(DECAY, n, 0, design) == sampled(DECAY, n, 0, design)
    if design != "grid":
        assert sampled(DECAY, n, 0, design) != sampled(DECAY, n, 1, design)


def test_random_leaves_every_trajectory_to_its_own_numbers():
    assert sampled(DECAY, 5) is None


@pytest.mark.parametrize("seed", range(3))
def test_a_latin_hypercube_has_one_value_in_every_slice(seed):
    slices = np.floor(fractions(20, "latin_hypercube", seed) * 20).astype(int)
    assert [sorted(column) for column in slices.T.tolist()] == [list(range(20))] * 2


@pytest.mark.parametrize("seed", range(3))
def test_a_sobol_sequence_is_balanced_and_continues_itself(seed):
    found = fractions(16, "sobol", seed)
    boxes = np.floor(found * 4).astype(int)  # a (0, 4, 2)-net in base 2 has one point in each of 4 x 4 boxes
    assert len({tuple(box) for box in boxes.tolist()}) == 16
    assert sampled(DECAY, 11, seed, "sobol") == sampled(DECAY, 16, seed, "sobol")[:11]


@pytest.mark.parametrize(("n", "sizes"), [(9, (3, 3)), (12, (4, 3)), (10, (4, 3)), (1, (1, 1))])
def test_a_grid_has_equidistant_values_with_both_ends(n, sizes):
    found = fractions(n, "grid").round(9)
    assert len({tuple(row) for row in found.tolist()}) == n
    for column, size in zip(found.T, sizes, strict=True):
        levels = np.linspace(0, 1, size) if size > 1 else [0.5]
        assert np.unique(column) == pytest.approx(levels)


def test_initial_fields_are_those_of_the_random_design():
    """Of the two draws only the parameters differ: heights scale the same random numbers."""
    drawn, placed = simulate(DECAY, n=3), simulate(DECAY, n=3, design="sobol")
    assert not np.array_equal(drawn["rate"], placed["rate"])
    starts = [(ds["u"].isel(time=0) / ds["height"]).values for ds in (drawn, placed)]
    assert starts[0] == pytest.approx(starts[1], rel=1e-6)  # stored as float32
    assert (drawn.attrs["design"], placed.attrs["design"]) == ("random", "sobol")


def test_a_design_replaces_what_a_case_has_planned():
    case = CASES["burgers_1d_parametric"]
    values = sampled(case, 4, 0, "grid")
    draws = [case.draw(i, 0, values=v) for i, v in enumerate(values)]
    assert {d.split for d in draws} == {None}
    assert [d.parameters["a"] for d in draws] == pytest.approx([0.7, 0.7, 0.9, 0.9])


def test_what_cannot_be_placed_is_refused():
    with pytest.raises(ConfigError, match="design is 'sobel', expected one of random, grid, latin_hypercube, sobol"):
        simulate(DECAY, design="sobel")
    fixed = Case("fixed", "", Heat, (0.0, 1.0), 2)
    with pytest.raises(ConfigError, match="case fixed: no parameter varies"):
        simulate(fixed, design="sobol")


def test_a_logarithmic_range_is_covered_evenly_in_the_logarithm():
    r = Range("x", 1e-3, 1e3, "log")
    assert [r.at(f) for f in (0, 0.5, 1)] == pytest.approx([1e-3, 1.0, 1e3])
