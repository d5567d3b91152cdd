"""romvae: reduced-order models of physics simulations with calibrated uncertainty.

A reduced-order model is three conditional distributions on one grid: an encoder q(z | x), latent dynamics
p(z' | z, c) and a decoder p(x | z). Public names are imported on first use, so that `import romvae` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from romvae.version import __version__

_HOME = {
    "Alarm": "romvae.hybrid",
    "Comparison": "romvae.comparison",
    "ROM": "romvae.rom",
    "Schema": "romvae.schema",
    "Selection": "romvae.data.pack",
    "acquire": "romvae.acquisition",
    "assimilate": "romvae.assimilation",
    "audit": "romvae.data.audit",
    "calibrate_alarm": "romvae.hybrid",
    "calibrate_trust": "romvae.trust",
    "compare": "romvae.comparison",
    "export": "romvae.deployment",
    "fit": "romvae.training",
    "fit_model": "romvae.candidates",
    "hybrid_rollout": "romvae.hybrid",
    "interpolate": "romvae.data.interpolate",
    "open_snapshots": "romvae.data",
    "pack": "romvae.data.pack",
    "rollout_to": "romvae.studies.on_disk",
    "show_versions": "romvae.environment",
    "simulate": "romvae.solvers",
    "split": "romvae.data",
    "study": "romvae.studies.study",
    "subset": "romvae.data.subset",
    "suggest_latent": "romvae.training",
    "trust_horizon": "romvae.trust",
    "write_report": "romvae.report",
    "write_snapshots": "romvae.data",
}
_MODULES = (
    "assimilation",
    "baselines",
    "data",
    "dynamics",
    "latent",
    "metrics",
    "nn",
    "physics",
    "plot",
    "quantities",
    "report",
    "solvers",
    "testing",
    "training",
)

__all__ = [
    "ROM",
    "Alarm",
    "Comparison",
    "Schema",
    "Selection",
    "__version__",
    "acquire",
    "assimilate",
    "audit",
    "calibrate_alarm",
    "calibrate_trust",
    "compare",
    "export",
    "fit",
    "fit_model",
    "hybrid_rollout",
    "interpolate",
    "open_snapshots",
    "pack",
    "rollout_to",
    "show_versions",
    "simulate",
    "solvers",
    "split",
    "study",
    "subset",
    "suggest_latent",
    "trust_horizon",
    "write_report",
    "write_snapshots",
]

if TYPE_CHECKING:
    from romvae import solvers
    from romvae.acquisition import acquire
    from romvae.assimilation import assimilate
    from romvae.candidates import fit_model
    from romvae.comparison import Comparison, compare
    from romvae.data import open_snapshots, split, write_snapshots
    from romvae.data.audit import audit
    from romvae.data.interpolate import interpolate
    from romvae.data.pack import Selection, pack
    from romvae.data.subset import subset
    from romvae.deployment import export
    from romvae.environment import show_versions
    from romvae.hybrid import Alarm, calibrate_alarm, hybrid_rollout
    from romvae.report import write_report
    from romvae.rom import ROM
    from romvae.schema import Schema
    from romvae.solvers import simulate
    from romvae.studies.on_disk import rollout_to
    from romvae.studies.study import study
    from romvae.training import fit, suggest_latent
    from romvae.trust import calibrate_trust, trust_horizon


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"romvae.{name}")
    raise AttributeError(f"module 'romvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOME, *_MODULES})
