"""A code whose distribution is a transformed standard normal."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

__all__ = ["FlowCode"]


class FlowCode(Distribution):
    r"""z = shift + exp(log_std) T(noise), with an invertible T and standard normal noise.

    By the change of variables :math:`\log q(z) = \log N(\epsilon) - \log|\det T'(\epsilon)| - \sum_i \log s_i`. The
    density of the samples drawn last is remembered; for other codes T is inverted, latent by latent.

    Arguments:
        transform: T, with `call_and_ladj(noise)` and `inv`, as zuko's transformations have.
        shift: Shape `(*batch, latent)`.
        log_std: Logarithm of the scale, same shape.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own convention)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, transform: Any, shift: Tensor, log_std: Tensor) -> None:
        self.transform, self.shift, self.log_std = transform, shift, log_std
        self._drawn: tuple[Tensor, Tensor] | None = None
        super().__init__(shift.shape[:-1], shift.shape[-1:], validate_args=False)

    def at(self, noise: Tensor) -> Tensor:
        """The code that noise `(..., *batch, latent)` leads to."""
        inner, log_det = self.transform.call_and_ladj(noise)
        z = self.shift + self.log_std.exp() * inner
        self._drawn = (z, self._noise_density(noise) - log_det - self.log_std.sum(-1))
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        if self._drawn is not None and self._drawn[0] is value:
            return self._drawn[1]
        inner = (value - self.shift) * (-self.log_std).exp()
        noise, log_det = self.transform.inv.call_and_ladj(inner)
        return self._noise_density(noise) + torch.as_tensor(log_det) - self.log_std.sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.at(torch.randn(shape, dtype=self.shift.dtype, device=self.shift.device))

    @staticmethod
    def _noise_density(noise: Tensor) -> Tensor:
        return -0.5 * (noise.square().sum(-1) + noise.shape[-1] * math.log(2 * math.pi))
