"""What a rollout costs, and what the reference solver costs at the accuracy that the rollout has."""

from __future__ import annotations

from romvae.cost.equal_accuracy import cost_at_equal_accuracy
from romvae.cost.regrid import regrid
from romvae.cost.sweep import Run, cheapest, sweep
from romvae.cost.workload import Workload

__all__ = ["Run", "Workload", "cheapest", "cost_at_equal_accuracy", "regrid", "sweep"]
