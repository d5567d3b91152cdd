"""Observation model p(x | z): a Gaussian with a mean and a variance at every grid point."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from romvae.distributions import gaussian, soft_clamp
from romvae.nn.decoder import FieldDecoder

__all__ = ["LocalGaussian"]


class LocalGaussian(nn.Module):
    r"""p(x | z) = N(mu(z), diag sigma^2(z)), one mean and one variance per field and grid point.

    The log-variance is :math:`\log\sigma^2 = \mathrm{softclamp}(s(z) + \log\hat\sigma^2_c)`: a shared variance per
    field, which has a closed-form optimum, times a local factor exp(s) from a small decoder of its own that starts at
    one. Until `local` is set, the shared variance alone is used.

    Arguments:
        mean: Decoder of the mean.
        log_var: Decoder of the local log-variance factor.
        floor: Smallest standard deviation in normalised units: the declared resolution of the model. Without one the
            likelihood of noise-free snapshots is unbounded.

    References:
        Lin et al. (2019), Balancing reconstruction quality and regularisation in ELBO for VAEs, arXiv:1909.03765.
        Rybkin, Daniilidis and Levine (2021), Simple and effective VAE training with calibrated decoders,
        arXiv:2006.13202.
    """

    log_var_shared: Tensor
    local: Tensor

    def __init__(self, mean: FieldDecoder, log_var: FieldDecoder, floor: float = 1e-3) -> None:
        super().__init__()
        if not floor > 0:
            raise ValueError(f"LocalGaussian: floor is {floor}, expected a positive number such as 1e-3.")
        self.mean, self.log_var, self.floor = mean, log_var, floor
        self.register_buffer("log_var_shared", torch.zeros(mean.layout.fields))
        self.register_buffer("local", torch.tensor(False))

    @property
    def event_dims(self) -> int:
        return 1 + self.mean.layout.ndim

    def variance_parameters(self, z: Tensor) -> Tensor:
        """Local log-variance of shape `(batch, channel, *space)`."""
        local = self.log_var(z)
        return self._bounded(local + self.shared_log_var(local))

    def shared_log_var(self, like: Tensor) -> Tensor:
        """The shared log-variance of each field, in the shape of `like`."""
        return self.log_var_shared.reshape(-1, *[1] * self.mean.layout.ndim).expand_as(like)

    def _bounded(self, log_var: Tensor) -> Tensor:
        return soft_clamp(log_var, 2 * math.log(self.floor), math.log(4.0))

    def forward(self, z: Tensor) -> Independent:
        """Distribution of the normalised snapshot given latents `(batch, latent)`; event `(channel, *space)`."""
        mean = self.mean(z)
        log_var = self.variance_parameters(z) if bool(self.local) else self.shared_log_var(mean)
        return gaussian(mean, log_var, self.event_dims)
