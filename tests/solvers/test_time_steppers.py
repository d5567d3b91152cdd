"""Time steppers on problems with a known solution."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.solvers.integrators import ETDRK4, march, ssp_rk3, substeps


def test_etdrk4_is_exact_without_nonlinearity() -> None:
    c = np.array([0.0, -1e-9, -1e-3, -1.0, -50.0, -1e6])
    v = np.arange(1.0, 7.0)
    stepper = ETDRK4(c, lambda v: np.zeros_like(v), 0.1)
    assert stepper(stepper(v)) == pytest.approx(v * np.exp(0.2 * c), abs=1e-15)


def test_etdrk4_is_exact_for_a_constant_source() -> None:
    """v' = c v + 1: v = (e^(c t) - 1) / c, from c = 0 to stiff; the coefficients must not cancel."""
    c = np.array([-1e-12, -1e-6, -1e-2, -1.0, -1e2, -1e5])
    v = ETDRK4(c, np.ones_like, 0.3)(np.zeros(6))
    assert v == pytest.approx(np.expm1(0.3 * c) / c, rel=1e-12)


@pytest.mark.parametrize("stiffness", [0.0, 1.0])
def test_etdrk4_order(stiffness: float) -> None:
    """v' = -s v + s v - v^2 for any s: v = 1 / (1 + t)."""
    steps, errors = [0.1, 0.05, 0.025], []
    for h in steps:
        stepper = ETDRK4(np.array([-stiffness]), lambda v: stiffness * v - v**2, h)
        v = np.array([1.0])
        for _ in range(round(1 / h)):
            v = stepper(v)
        errors.append(abs(v[0] - 0.5))
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_etdrk4_is_exact_for_a_constant_source_under_rotation() -> None:
    """v' = i w v + 1: v = (e^(i w t) - 1) / (i w), from a standstill to 1e4 turns a step."""
    c = 1j * np.array([1e-12, 1e-6, 1e-2, -1.0, 1e2, -1e5])
    v = ETDRK4(c, np.ones_like, 0.3)(np.zeros(6, dtype=complex))
    assert v == pytest.approx(np.expm1(0.3 * c) / c, rel=1e-11)


def test_etdrk4_order_for_a_rotating_solution() -> None:
    """v' = i v - |v|^2 v with |v| = 1 / sqrt(1 + 2 t): the rotation is exact, the decay of fourth order."""
    steps, errors = [0.1, 0.05, 0.025], []
    for h in steps:
        stepper = ETDRK4(np.array([1j]), lambda v: -(np.abs(v) ** 2) * v, h)
        v = np.array([1.0 + 0j])
        for _ in range(round(1 / h)):
            v = stepper(v)
        errors.append(abs(v[0] - np.exp(1j) / np.sqrt(3)))
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_a_real_diagonal_written_as_complex_gives_the_same_step() -> None:
    c = np.array([-1e-3, -1.0, -50.0])
    real, turned = (ETDRK4(diagonal, np.cos, 0.2)(np.ones(3)) for diagonal in (c, c.astype(complex)))
    assert turned == pytest.approx(real, abs=1e-14)


def test_march_reaches_every_time_with_few_steppers() -> None:
    made: list[float] = []

    def make(step: float) -> ETDRK4:
        made.append(step)
        return ETDRK4(np.array([-1.0]), lambda v: 0 * v, step)

    times = np.array([0.0, 0.1, 0.2, 0.5])
    reached = list(march(make, np.array([1.0]), times, 0.04))
    assert [i for i, _ in reached] == [1, 2, 3]
    assert [float(v[0]) for _, v in reached] == pytest.approx(np.exp(-times[1:]), rel=1e-14)
    assert made == pytest.approx([0.1 / 3, 0.3 / 8])


def test_ssp_rk3_order() -> None:
    steps, errors = [0.1, 0.05, 0.025], []
    for h in steps:
        v = np.array([1.0])
        for _ in range(round(1 / h)):
            v = ssp_rk3(lambda v: -(v**2), v, h)
        errors.append(abs(v[0] - 0.5))
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize(
    ("interval", "step", "n"), [(1.0, 0.3, 4), (0.01, 0.001, 10), (0.3 - 0.2, 0.1, 1), (1.0, 9.0, 1)]
)
def test_substeps(interval: float, step: float, n: int) -> None:
    assert substeps(interval, step) == n
