"""romvae: reduced-order models of physics simulations with calibrated uncertainty.

A reduced-order model is three conditional distributions on one grid: an encoder q(z | x), latent dynamics
p(z' | z, c) and a decoder p(x | z). Public names are imported on first use, so that `import romvae` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from romvae.version import __version__

_HOME = {
    "Comparison": "romvae.comparison",
    "ROM": "romvae.rom",
    "Schema": "romvae.schema",
    "compare": "romvae.comparison",
    "fit": "romvae.training",
    "open_snapshots": "romvae.data",
    "show_versions": "romvae.environment",
    "simulate": "romvae.solvers",
    "split": "romvae.data",
    "write_report": "romvae.report",
    "write_snapshots": "romvae.data",
}
_MODULES = ("baselines", "data", "dynamics", "metrics", "nn", "plot", "report", "solvers", "testing", "training")

__all__ = [
    "ROM",
    "Comparison",
    "Schema",
    "__version__",
    "compare",
    "fit",
    "open_snapshots",
    "show_versions",
    "simulate",
    "solvers",
    "split",
    "write_report",
    "write_snapshots",
]

if TYPE_CHECKING:
    from romvae import solvers
    from romvae.comparison import Comparison, compare
    from romvae.data import open_snapshots, split, write_snapshots
    from romvae.environment import show_versions
    from romvae.report import write_report
    from romvae.rom import ROM
    from romvae.schema import Schema
    from romvae.solvers import simulate
    from romvae.training import fit


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"romvae.{name}")
    raise AttributeError(f"module 'romvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOME, *_MODULES})
