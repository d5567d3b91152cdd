"""Files whose axes are stored in another order, read in canonical order without loading them.

`xarray` transposes arrays on disk by point-wise indices, which are slow and take many times the memory of the
values; here the selection is read in the order of the file and turned in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from romvae.canonical import canonical

__all__ = ["canonical_on_disk"]


def canonical_on_disk(ds: xr.Dataset) -> xr.Dataset:
    """What `canonical` returns, for a Dataset that was just opened: still lazy, and as fast to read."""
    ordered = canonical(ds)
    turned = {
        name: xr.Variable(
            variable.dims,
            indexing.LazilyIndexedArray(_Transposed(ds[name].variable, variable.dims)),
            variable.attrs,
            variable.encoding,
        )
        for name, variable in ordered.variables.items()
        if name in ds.data_vars and variable.dims != ds[name].dims
    }
    result = ordered.assign(turned)
    result.set_close(ds.close)
    return result


class _Transposed(BackendArray):
    def __init__(self, variable: xr.Variable, dims: tuple[Any, ...]) -> None:
        self.variable = variable
        self.dims = dims
        self.shape = tuple(variable.sizes[dim] for dim in dims)
        self.dtype = variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        part = self.variable.isel(dict(zip(self.dims, key, strict=True)))
        kept = [dim for dim in self.dims if dim in part.dims]
        return np.transpose(part.values, [part.dims.index(dim) for dim in kept])
