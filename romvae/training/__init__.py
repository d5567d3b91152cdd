"""Training: the only place that imports lightning."""

from romvae.training.fit import fit
from romvae.training.session import History
from romvae.training.stages import DynamicsStage, MeanStage, Stage, VarianceStage

__all__ = ["DynamicsStage", "History", "MeanStage", "Stage", "VarianceStage", "fit"]
