"""Physics for training and checks: derivatives of decoded fields, residuals of equations, conserved quantities."""

from romvae.physics.derivatives import Derivatives, vorticity_velocity
from romvae.physics.equation import Equation, State, volume_mean
from romvae.physics.residual import EQUATIONS, Conserved, Residual, conserved_of, equation_of, residual_of

__all__ = [
    "EQUATIONS",
    "Conserved",
    "Derivatives",
    "Equation",
    "Residual",
    "State",
    "conserved_of",
    "equation_of",
    "residual_of",
    "volume_mean",
    "vorticity_velocity",
]
