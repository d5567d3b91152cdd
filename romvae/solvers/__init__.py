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
    from romvae.solvers.advection_diffusion import AdvectionDiffusion
    from romvae.solvers.base import Case, Draw, Range, Solver, equidistant
    from romvae.solvers.burgers import Burgers1d
    from romvae.solvers.burgers_2d import Burgers2d
    from romvae.solvers.burgers_2d_parametric import BurgersHeld2d
    from romvae.solvers.burgers_inviscid import BurgersInviscid1d
    from romvae.solvers.burgers_walls import BurgersWalls1d
    from romvae.solvers.cases import CASES, get_case
    from romvae.solvers.channel_transport import ChannelTransport2d
    from romvae.solvers.costs import CostRow, cost_table, cost_text
    from romvae.solvers.cylinder_flow import CylinderFlow2d
    from romvae.solvers.discretisation import reference_error
    from romvae.solvers.ensemble import ensemble_bytes, simulate
    from romvae.solvers.fitzhugh_nagumo import FitzHughNagumo2d
    from romvae.solvers.function_solver import FunctionSolver
    from romvae.solvers.gray_scott import GrayScott
    from romvae.solvers.heat import Heat
    from romvae.solvers.korteweg_de_vries import KortewegDeVries1d
    from romvae.solvers.kuramoto_sivashinsky import KuramotoSivashinsky1d
    from romvae.solvers.listing import catalogue
    from romvae.solvers.lyapunov import largest_lyapunov_exponent
    from romvae.solvers.navier_stokes import NavierStokes2d
    from romvae.solvers.on_disk import simulate_to
    from romvae.solvers.rayleigh_benard import RayleighBenard2d
    from romvae.solvers.reaction_diffusion import ReactionDiffusion1d
    from romvae.solvers.sampling import DESIGNS, Design, sampled
    from romvae.solvers.shallow_water import ShallowWater2d
    from romvae.solvers.verify import verify_solver
    from romvae.solvers.vorticity import velocity
    from romvae.solvers.wave_1d import Wave1d
    from romvae.solvers.wave_2d import Wave2d
    from romvae.tasks.failures import FailedTrajectoriesError

__all__ = [
    "CASES",
    "Advection1d",
    "AdvectionDiffusion",
    "Burgers1d",
    "Burgers2d",
    "BurgersHeld2d",
    "BurgersInviscid1d",
    "BurgersWalls1d",
    "Case",
    "ChannelTransport2d",
    "CostRow",
    "CylinderFlow2d",
    "DESIGNS",
    "Design",
    "Draw",
    "FailedTrajectoriesError",
    "FitzHughNagumo2d",
    "FunctionSolver",
    "GrayScott",
    "Heat",
    "KortewegDeVries1d",
    "KuramotoSivashinsky1d",
    "NavierStokes2d",
    "Range",
    "RayleighBenard2d",
    "ReactionDiffusion1d",
    "ShallowWater2d",
    "Solver",
    "Wave1d",
    "Wave2d",
    "catalogue",
    "cost_table",
    "cost_text",
    "ensemble_bytes",
    "equidistant",
    "get_case",
    "largest_lyapunov_exponent",
    "reference_error",
    "sampled",
    "simulate",
    "simulate_to",
    "velocity",
    "verify_solver",
]

_HOMES = {
    "Advection1d": "advection",
    "AdvectionDiffusion": "advection_diffusion",
    "Burgers1d": "burgers",
    "Burgers2d": "burgers_2d",
    "BurgersHeld2d": "burgers_2d_parametric",
    "BurgersInviscid1d": "burgers_inviscid",
    "BurgersWalls1d": "burgers_walls",
    "CASES": "cases",
    "Case": "base",
    "ChannelTransport2d": "channel_transport",
    "CostRow": "costs",
    "CylinderFlow2d": "cylinder_flow",
    "DESIGNS": "sampling",
    "Design": "sampling",
    "Draw": "base",
    "FailedTrajectoriesError": "blocks",
    "FitzHughNagumo2d": "fitzhugh_nagumo",
    "FunctionSolver": "function_solver",
    "GrayScott": "gray_scott",
    "Heat": "heat",
    "KortewegDeVries1d": "korteweg_de_vries",
    "KuramotoSivashinsky1d": "kuramoto_sivashinsky",
    "NavierStokes2d": "navier_stokes",
    "Range": "base",
    "RayleighBenard2d": "rayleigh_benard",
    "ReactionDiffusion1d": "reaction_diffusion",
    "ShallowWater2d": "shallow_water",
    "Solver": "base",
    "Wave1d": "wave_1d",
    "Wave2d": "wave_2d",
    "catalogue": "listing",
    "cost_table": "costs",
    "cost_text": "costs",
    "ensemble_bytes": "ensemble",
    "equidistant": "base",
    "get_case": "cases",
    "largest_lyapunov_exponent": "lyapunov",
    "reference_error": "discretisation",
    "sampled": "sampling",
    "simulate": "ensemble",
    "simulate_to": "on_disk",
    "velocity": "vorticity",
    "verify_solver": "verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
