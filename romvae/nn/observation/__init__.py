"""Observation models p(x | z): what a decoder says of every field and grid point, each a distribution of snapshots."""

from romvae.nn.observation.base import Observation
from romvae.nn.observation.bounded import BernoulliFields, ContinuousBernoulliFields
from romvae.nn.observation.gaussian import FixedGaussian, LocalGaussian, SharedGaussian, profiled_log_likelihood
from romvae.nn.observation.rules import RULES, MeanRule
from romvae.nn.observation.student_t import LocalStudentT

__all__ = [
    "RULES",
    "BernoulliFields",
    "ContinuousBernoulliFields",
    "FixedGaussian",
    "LocalGaussian",
    "LocalStudentT",
    "MeanRule",
    "Observation",
    "SharedGaussian",
    "profiled_log_likelihood",
]
