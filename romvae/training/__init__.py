"""Training: the only place that imports lightning."""

from romvae.training.calibrate import recalibrate
from romvae.training.callbacks import Pictures, Watch, restore_vae, snapshot_loader
from romvae.training.dynamics import DynamicsStage
from romvae.training.fit import fit
from romvae.training.mean import MeanStage
from romvae.training.session import History
from romvae.training.size import suggest_latent
from romvae.training.stages import Stage, VarianceStage

__all__ = [
    "DynamicsStage",
    "History",
    "MeanStage",
    "Pictures",
    "Stage",
    "VarianceStage",
    "Watch",
    "fit",
    "recalibrate",
    "restore_vae",
    "snapshot_loader",
    "suggest_latent",
]
