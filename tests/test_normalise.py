"""Normalisation: exact statistics in any block partition, affine both ways, scaling of parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from romvae.errors import DataError
from romvae.normalise import FieldStatistics, Normaliser, ParameterScaling


@pytest.mark.parametrize("blocks", [1, 3, 10, 600])
def test_streamed_statistics_agree_with_two_passes_for_a_tiny_spread_on_a_large_mean(blocks):
    values = 101325.0 + 5.0 * np.random.default_rng(0).standard_normal(6000)
    statistics = FieldStatistics()
    for block in np.array_split(values, blocks):
        statistics = statistics.add(block)
    assert statistics.count == 6000
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-14)
    assert statistics.std == pytest.approx(values.std(), rel=1e-10)


def test_an_empty_block_changes_nothing():
    seen = FieldStatistics().add(np.arange(4.0))
    assert seen.add(np.empty(0)) == seen


def test_normalised_fields_have_zero_mean_and_unit_spread_and_come_back():
    rng = np.random.default_rng(1)
    u, v = 300 + 20 * rng.standard_normal((5, 7, 9)), 1e-6 * rng.standard_normal((5, 7, 9))
    normaliser = Normaliser.of(([u[i], v[i]] for i in range(5)), ["u", "v"])
    fields = torch.from_numpy(np.stack([u, v], axis=1))
    x = normaliser(fields)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(normaliser.inverse(x), fields, rtol=1e-13, atol=0)


def test_a_standard_deviation_scales_and_does_not_shift():
    normaliser = Normaliser([10.0], [3.0])
    assert normaliser.inverse_std(torch.full((1, 1, 2), 2.0)).tolist() == [[[6.0, 6.0]]]


def test_a_constant_field_is_refused_by_name():
    with pytest.raises(DataError, match=r"'p': constant at 7 over all training"):
        Normaliser.of([[np.arange(3.0), np.full(3, 7.0)]], ["u", "p"])


def test_parameters_go_to_the_unit_interval_wide_ones_by_their_logarithm():
    scaling = ParameterScaling([1e-3, 0.7, 4.0], [1e-1, 0.9, 4.0])
    assert scaling.logarithmic.tolist() == [True, False, False]
    values = torch.tensor([[1e-3, 0.7, 4.0], [1e-2, 0.8, 4.0], [1e-1, 0.9, 5.0]], dtype=torch.float64)
    expected = torch.tensor([[-1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    torch.testing.assert_close(scaling(values), expected, atol=1e-6, rtol=0)


def test_no_parameters_is_fine():
    assert ParameterScaling([], [])(torch.zeros(4, 0)).shape == (4, 0)
