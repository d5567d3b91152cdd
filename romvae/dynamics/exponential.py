"""Exponential Runge-Kutta steps of fourth order: the linear part is exact, however stiff it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["exponential_step", "step_matrices"]

_FULL, _HALF, _EARLY, _FIRST, _MIDDLE, _LAST = range(6)


def step_matrices(linear: Tensor, h: float) -> Tensor:
    r"""What `exponential_step` multiplies by, for :math:`z' = L z + N(z)` over a time h.

    With :math:`\varphi_k` of h L (:math:`\varphi_0 = \exp`, :math:`\varphi_k(x) = (\varphi_{k-1}(x) - 1/(k-1)!) / x`),
    which are read off the exponential of a block matrix and so do not suffer from that formula's cancellation.

    Arguments:
        linear: L, `(..., latent, latent)`, to the left of a column of latents.
        h: The step.

    Returns:
        Six matrices `(6, ..., latent, latent)`, float64 on the CPU: of the state over the step and over half of it, and
        of N in the first half, at the start, in the middle and at the end.
    """
    linear = linear.detach().cpu().double()
    half, early = _phi(h / 2 * linear, 1)
    full, one, two, three = _phi(h * linear, 3)
    first, middle, last = one - 3 * two + 4 * three, 2 * two - 4 * three, 4 * three - two
    return torch.stack([full, half, h / 2 * early, h * first, h * middle, h * last])


def exponential_step(
    rest: Callable[[Tensor], Tensor], state: Tensor, times: Callable[[int, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    r"""The state a step later, and N at its start: exponential time differencing with four stages.

    Exact where N is constant, of fourth order otherwise; for L = 0 it is the classical Runge-Kutta method.

    Arguments:
        rest: N, what the linear part leaves of the rate of change.
        state: Any shape that both functions take.
        times: Multiplies by the matrix of that number in `step_matrices`.

    References:
        Cox and Matthews (2002), Exponential time differencing for stiff systems, doi:10.1006/jcph.2002.6995.
    """
    begin, half = rest(state), times(_HALF, state)
    a = half + times(_EARLY, begin)
    at_a = rest(a)
    at_b = rest(half + times(_EARLY, at_a))
    end = rest(times(_HALF, a) + times(_EARLY, 2 * at_b - begin))
    after = times(_FULL, state) + times(_FIRST, begin) + times(_MIDDLE, at_a + at_b) + times(_LAST, end)
    return after, begin


def _phi(matrix: Tensor, highest: int) -> list[Tensor]:
    """The functions 0 to `highest` of it."""
    d = matrix.shape[-1]
    blocks = matrix.new_zeros(*matrix.shape[:-2], (highest + 1) * d, (highest + 1) * d)
    blocks[..., :d, :d] = matrix
    for k in range(highest):
        blocks[..., k * d : (k + 1) * d, (k + 1) * d : (k + 2) * d] = torch.eye(d).to(matrix)
    return list(torch.linalg.matrix_exp(blocks)[..., :d, :].split(d, -1))
