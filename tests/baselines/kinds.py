"""Every baseline, small enough for a test, and fitted once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
import xarray as xr

from romvae.baselines import (
    DMD,
    PODRBF,
    Baseline,
    Climatology,
    FourierNeuralOperator,
    OperatorInference,
    Persistence,
    PODGaussianProcess,
    PODLinear,
    PODNetwork,
)

from .conftest import linear_waves

KINDS: dict[str, Callable[[], Baseline]] = {
    "persistence": Persistence,
    "climatology": Climatology,
    "pod_linear": lambda: PODLinear(3),
    "pod_rbf": PODRBF,
    "pod_gp": lambda: PODGaussianProcess(3),
    "dmd": lambda: DMD(3),
    "opinf": lambda: OperatorInference(3),
    "fno": lambda: FourierNeuralOperator(width=4, modes=3, learning_rate=2e-3, steps=6),
    "pod_network": lambda: PODNetwork(3, steps=3),
}
LIBRARIES = {"pod_gp": "sklearn", "dmd": "pydmd", "opinf": "opinf", "fno": "neuralop"}
SLOW = ("fno", "pod_network")
INTERPOLATE = ("pod_rbf", "pod_gp")
"""Baselines that know the initial fields by the parameters alone."""
QUICK = [name for name in KINDS if name not in SLOW]


def make(name: str) -> Baseline:
    """A baseline, not fitted; the test is skipped where its library is not installed."""
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name])
    return KINDS[name]()


@lru_cache
def waves(name: str, ndim: int) -> xr.Dataset:
    """The linear problem in so many dimensions, with initial fields to which a baseline applies."""
    return linear_waves(ndim, follow=name in INTERPOLATE)


@lru_cache
def fitted(name: str, ndim: int) -> Baseline:
    """A baseline that was fitted to `waves`."""
    return make(name).fit(waves(name, ndim), seed=0)
