"""Monomials of parameters, by which linear dynamics may vary with them."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor

__all__ = ["degrees_of", "exponents", "highest_degree", "monomials"]

DEGREE, MONOMIALS = 4, 15
"""Highest degree of the monomials; lower where there would be more of them than this, the constant among them."""


def highest_degree(names: int, most: int = MONOMIALS) -> int:
    """The highest degree up to `DEGREE` at which `names` variables have at most `most` monomials; at least 1."""
    return max(k for k in range(1, DEGREE + 1) if k == 1 or math.comb(names + k, k) <= most)


def exponents(names: int, degree: int) -> Tensor:
    """Powers of each variable in every monomial of degree 1 to `degree`, integers `(monomial, name)`.

    Lower degrees come first, so that the first ones are the variables themselves.
    """
    each = [one for k in range(1, degree + 1) for one in combinations_with_replacement(range(names), k)]
    powers = [[one.count(i) for i in range(names)] for one in each]
    return torch.tensor(powers, dtype=torch.long).reshape(len(each), names)


def degrees_of(powers: Tensor) -> Tensor:
    """Degree of every monomial, `(monomial,)`."""
    return powers.sum(-1)


def monomials(c: Tensor, powers: Tensor) -> Tensor:
    """Their values, `(..., monomial)`, of variables `(..., name)`."""
    return c.unsqueeze(-2).pow(powers).prod(-1)
