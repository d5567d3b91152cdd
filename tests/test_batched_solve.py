"""Many linear systems at once give, on several threads too, what each gives alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from romvae.batched_solve import ALONE, inverse, solve
from romvae.dynamics.least_squares import stabilised

SIZES = (ALONE // 8, ALONE + 32)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """The setting in which torch's own routine fails, from about 150 rows on."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def matrices(n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(2, 1, n, n, dtype=dtype, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("left", [True, False])
def test_the_solution_solves_every_system(n, dtype, left):
    A, B = matrices(n, dtype), matrices(n + 1, dtype)[..., :n, :n]
    B = B[..., :2] if left else B[..., :2, :]
    X = solve(A, B, left=left)
    assert X.shape == B.shape
    assert (A @ X if left else X @ A).sub(B).abs().max() < 1e-8


@pytest.mark.parametrize("n", SIZES)
def test_a_matrix_times_its_inverse_is_one(n):
    A = matrices(n)
    assert (inverse(A) @ A - torch.eye(n)).abs().max() < 1e-7


@pytest.mark.parametrize("n", SIZES)
def test_a_singular_matrix_is_refused_among_others(n):
    A = matrices(n)
    A[1, 0] = 0
    for call in (lambda: solve(A, A), lambda: inverse(A)):
        with pytest.raises(torch.linalg.LinAlgError):
            call()


@pytest.mark.parametrize("n", SIZES)
def test_maps_of_many_trajectories_are_stabilised_as_one_is(n):
    A = 1.5 * matrices(n) / n**0.5
    found = stabilised(A)
    assert torch.linalg.eigvals(found).abs().max() < 1 + 1e-8
    assert torch.allclose(found[1, 0], stabilised(A[1, 0]), atol=1e-8)
