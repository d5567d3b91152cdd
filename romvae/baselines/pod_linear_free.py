"""POD with linear dynamics and a number of modes of its choice, beside that of the ROM's latent size."""

from __future__ import annotations

from typing import Any, Self

import xarray as xr

from romvae.baselines.pod_linear import PODLinear
from romvae.errors import DataError

__all__ = ["PODLinearFree"]


class PODLinearFree(PODLinear):
    """`PODLinear` that chooses its number of modes, under a name of its own.

    It is not registered: it is kept and benchmarked as `pod_linear` with a rank of its choice.

    Arguments:
        latent: Latent size of the ROM, which `pod_linear` has.
    """

    name = "pod_linear_free"

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def fit(self, train: xr.Dataset, **options: Any) -> Self:
        """As `PODLinear`.

        Raises:
            DataError: It chooses the latent size of the ROM, so that it is `pod_linear` once more.
        """
        super().fit(train, **options)
        if self.pod.rank == self.latent:
            raise DataError(f"its own choice is {self.latent} modes, those of pod_linear.")
        return self
