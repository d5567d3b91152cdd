"""Student-t observation model: heavy tails, for residuals that are mostly small and sometimes large (shocks)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import StudentT

from romvae.distributions import Fields
from romvae.nn.decoder import FieldDecoder
from romvae.nn.linear import MeanDecoder
from romvae.nn.observation.gaussian import LocalGaussian

__all__ = ["LocalStudentT"]

LEAST = 3.0
"""Least degrees of freedom: the variance exists above 2, and with 3 it is already dominated by rare values."""


class LocalStudentT(LocalGaussian):
    r"""p(x | z) = mu(z) + lambda(z) t_nu with a local scale, and degrees of freedom nu >= 3 per field.

    The local head of `LocalGaussian` stands for the logarithm of the *variance* :math:`\lambda^2 \nu / (\nu - 2)`, so
    that both models are initialised, bounded and read in the same way. The mean is trained at the profiled shared
    variance.

    Arguments:
        mean, log_var, floor, mask: As in `LocalGaussian`.

    References:
        Takahashi, Iwata, Yamanaka, Yamada and Yagi (2018), Student-t variational autoencoder for robust density
        estimation, IJCAI, doi:10.24963/ijcai.2018/374.
    """

    def __init__(
        self, mean: MeanDecoder, log_var: FieldDecoder, floor: float = 1e-3, mask: Tensor | None = None
    ) -> None:
        super().__init__(mean, log_var, floor, mask)
        # softplus(10) is 10: the training starts at 13 degrees of freedom, near the Gaussian.
        self.tail = nn.Parameter(torch.full((mean.layout.fields,), 10.0))

    @property
    def freedom(self) -> Tensor:
        """Degrees of freedom of each field, shape `(channel, 1, ...)`."""
        return (LEAST + F.softplus(self.tail)).reshape(-1, *[1] * self.mean.layout.ndim)

    def forward(self, z: Tensor) -> Fields:
        mean = self.decoded(z)
        log_var = self.log_variance(z, mean)
        scale = torch.exp(0.5 * log_var) * torch.sqrt((self.freedom - 2) / self.freedom)
        base = StudentT(self.freedom.expand_as(mean), mean, scale, validate_args=False)
        return Fields(base, self.event_dims, self.mask)

    def moments_of(self, z: Tensor) -> tuple[Tensor, Tensor]:
        # The local head is the logarithm of the variance itself, and torch's Student t branches on values.
        mean = self.decoded(z)
        log_var = self.log_variance(z, mean)
        return mean, self.inside(torch.exp(log_var))

    def head_parameters(self) -> list[nn.Parameter]:
        return [*super().head_parameters(), self.tail]

    def _scored(self, log_var: Tensor, squared: Tensor) -> Tensor:
        r"""Negative log-likelihood per value, without its constant :math:`\tfrac12\log\pi`."""
        nu = self.freedom
        # squared / (nu lambda^2) with lambda^2 = var (nu - 2) / nu
        tail = 0.5 * (nu + 1) * torch.log1p(squared * torch.exp(-log_var) / (nu - 2))
        shape = torch.lgamma(nu / 2) - torch.lgamma((nu + 1) / 2) + 0.5 * torch.log(nu - 2)
        return self._mean(shape + 0.5 * log_var + tail)
