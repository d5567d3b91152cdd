"""The divergence KL(q || p) of two distributions of codes: closed where there is a form, else at given samples."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from romvae.distributions.gaussian import kl_standard_normal
from romvae.distributions.reparameterise import moments

__all__ = ["analytic", "divergence"]


def analytic(q: Distribution, p: Distribution) -> bool:
    """Whether KL(q || p) has a closed form here: both Gaussian, `p` standard normal."""
    standard = isinstance(p, Independent) and isinstance(p.base_dist, Normal) and _standard(p.base_dist)
    return standard and isinstance(q, Independent | MultivariateNormal)


def divergence(q: Distribution, p: Distribution, z: Tensor | None = None) -> Tensor:
    r"""KL(q || p) of each code, shape `(*batch, latent)` or, where latents are not independent, `(*batch, 1)`.

    Without samples the closed form: for a full covariance :math:`\Sigma = LL^\top`,

    .. math:: \tfrac12 (\|\mu\|^2 + \|L\|_F^2 - d) - \textstyle\sum_i \log L_{ii} .

    With samples the estimate log q(z) - log p(z), one per sample.

    Arguments:
        q: Posterior, event shape `(latent,)`.
        p: Prior, event shape `(latent,)`.
        z: Samples of `q`, `(..., *batch, latent)`.

    Raises:
        ValueError: There is no closed form and no sample was given.
    """
    if z is not None:
        return (q.log_prob(z) - p.log_prob(z)).unsqueeze(-1)
    if not analytic(q, p):
        raise ValueError("divergence: no closed form for this posterior and prior; pass samples of the posterior.")
    if isinstance(q, MultivariateNormal):
        factor = q.scale_tril
        size = q.loc.square().sum(-1) + factor.square().sum((-2, -1)) - q.loc.shape[-1]
        return (0.5 * size - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)).unsqueeze(-1)
    mean, std = moments(q)
    return kl_standard_normal(mean, std)


def _standard(normal: Normal) -> bool:
    """Whether a Gaussian is the standard one; judged by a mark, so that nothing is computed in a training step."""
    return bool(getattr(normal, "standard", False))
