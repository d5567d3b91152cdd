"""Reference simulations on numpy and scipy, torch-free: one equation per file, verified by exact solutions.

>>> from romvae.solvers import Burgers1d
>>> import numpy as np
>>> solver = Burgers1d(viscosity=1e-2, points=64)
>>> solver.solve(solver.initial(np.random.default_rng(0)), times=np.linspace(0, 0.1, 3)).shape
(3, 1, 64)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from romvae.solvers.advection import Advection1d
    from romvae.solvers.base import Case, Draw, Range, Solver, equidistant
    from romvae.solvers.burgers import Burgers1d
    from romvae.solvers.burgers_inviscid import BurgersInviscid1d
    from romvae.solvers.burgers_walls import BurgersWalls1d
    from romvae.solvers.cases import CASES, get_case
    from romvae.solvers.ensemble import ensemble_bytes, simulate
    from romvae.solvers.heat import Heat
    from romvae.solvers.korteweg_de_vries import KortewegDeVries1d
    from romvae.solvers.kuramoto_sivashinsky import KuramotoSivashinsky1d
    from romvae.solvers.lyapunov import largest_lyapunov_exponent
    from romvae.solvers.reaction_diffusion import ReactionDiffusion1d
    from romvae.solvers.verify import verify_solver
    from romvae.solvers.wave_1d import Wave1d

__all__ = [
    "CASES",
    "Advection1d",
    "Burgers1d",
    "BurgersInviscid1d",
    "BurgersWalls1d",
    "Case",
    "Draw",
    "Heat",
    "Range",
    "Solver",
    "ensemble_bytes",
    "equidistant",
    "get_case",
    "simulate",
    "KortewegDeVries1d",
    "KuramotoSivashinsky1d",
    "ReactionDiffusion1d",
    "Wave1d",
    "largest_lyapunov_exponent",
    "verify_solver",
]

_HOMES = {
    "Advection1d": "advection",
    "Burgers1d": "burgers",
    "BurgersInviscid1d": "burgers_inviscid",
    "BurgersWalls1d": "burgers_walls",
    "CASES": "cases",
    "Case": "base",
    "Draw": "base",
    "Heat": "heat",
    "Range": "base",
    "Solver": "base",
    "ensemble_bytes": "ensemble",
    "equidistant": "base",
    "get_case": "cases",
    "simulate": "ensemble",
    "verify_solver": "verify",
    "KortewegDeVries1d": "korteweg_de_vries",
    "KuramotoSivashinsky1d": "kuramoto_sivashinsky",
    "ReactionDiffusion1d": "reaction_diffusion",
    "Wave1d": "wave_1d",
    "largest_lyapunov_exponent": "lyapunov",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
