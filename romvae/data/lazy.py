"""Arrays that are computed when they are read, as variables of a Dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

__all__ = ["Key", "lazy_variable"]

Key = tuple[slice | np.ndarray, ...]
"""For every dim a slice, or an array of indices; never a single index."""


def lazy_variable(
    dims: Sequence[str], shape: Sequence[int], dtype: Any, attrs: Mapping[Any, Any], read: Callable[[Key], np.ndarray]
) -> xr.Variable:
    """A variable whose values are what `read` returns for the part that is asked for."""
    return xr.Variable(dims, indexing.LazilyIndexedArray(_Computed(tuple(shape), np.dtype(dtype), read)), dict(attrs))


class _Computed(BackendArray):
    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], read: Callable[[Key], np.ndarray]) -> None:
        self.shape, self.dtype, self.read = shape, dtype, read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        single = tuple(i for i, k in enumerate(key) if isinstance(k, int | np.integer))
        whole = tuple(slice(int(k), int(k) + 1) if i in single else k for i, k in enumerate(key))
        return self.read(whole).squeeze(single)
