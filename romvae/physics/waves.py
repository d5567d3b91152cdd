"""Equations of waves, dispersive and chaotic ones included: wave, shallow water, Korteweg-de Vries, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from romvae.physics.derivatives import Parity
from romvae.physics.equation import Equation, State, volume_mean

__all__ = ["WAVES"]

Settings = Mapping[str, Any]
Largest = Mapping[str, float]

WEAK = 4.0
"""Cells that the test functions of weak forms reach to both sides."""
FINER = 2
"""A cube is averaged on so many times the points, where it has no modes that the points do not hold."""


def korteweg_de_vries(settings: Settings, largest: Largest) -> Equation:
    """u_t + u u_x + delta u_xxx = 0."""
    length = float(settings["length"])

    def rate(s: State) -> dict[str, Tensor]:
        u = s["u"]
        return {"u": -u * s.d(u, "x") - s.parameters["dispersion"] * s.d(u, "x", 3)}

    def conserved(s: State) -> dict[str, Tensor]:
        u, slope = _finer(s["u"]), _finer(s.d(s["u"], "x"))
        energy = u**3 / 6 - s.parameters["dispersion"] * slope.square() / 2
        integrands = {"mass": u, "momentum": u.square() / 2, "energy": energy}
        return {name: length * value.mean(-1) for name, value in integrands.items()}

    return Equation("u_t + u u_x + dispersion u_xxx = 0", rate, conserved=conserved)


def _finer(u: Tensor) -> Tensor:
    n = u.shape[-1]
    coefficients = torch.fft.rfft(u) * FINER
    if n % 2 == 0:  # the highest mode is both of the pair k, -k
        last = torch.ones(coefficients.shape[-1], dtype=u.dtype, device=u.device)
        last[-1] = 0.5
        coefficients = coefficients * last
    return torch.fft.irfft(coefficients, n=FINER * n)


def kuramoto_sivashinsky(settings: Settings, largest: Largest) -> Equation:
    """u_t + u u_x + u_xx + u_xxxx = 0."""
    length = float(settings["length"])

    def rate(s: State) -> dict[str, Tensor]:
        u, d = s["u"], s.d
        return {"u": -u * d(u, "x") - d(u, "x", 2) - d(u, "x", 4)}

    return Equation(
        "u_t + u u_x + u_xx + u_xxxx = 0", rate, conserved=lambda s: {"mass": length * volume_mean(s["u"], s.d)}
    )


def wave_1d(settings: Settings, largest: Largest) -> Equation:
    """u_t = v, v_t = c^2 u_xx."""
    length = float(settings["length"])

    def rate(s: State) -> dict[str, Tensor]:
        return {"u": s["v"], "v": s.parameters["speed"].square() * s.d(s["u"], "x", 2, field="u")}

    def conserved(s: State) -> dict[str, Tensor]:
        u, v = s["u"], s["v"]
        curvature = s.d(u, "x", 2, field="u")
        energy = length * volume_mean(v.square() - s.parameters["speed"].square() * u * curvature, s.d) / 2
        axis = s.d.grid.axes[0]
        held = "value" in (axis.lower.kind, axis.upper.kind)
        return {"energy": energy} if held else {"energy": energy, "momentum": length * volume_mean(v, s.d)}

    return Equation("u_t = v, v_t = speed^2 u_xx", rate, conserved=conserved)


def wave_2d(settings: Settings, largest: Largest) -> Equation:
    """u_t = v, v_t = div(c^2 grad u) in the medium of `romvae.solvers.wave_2d`."""
    length, wraps = float(settings["length"]), settings["boundary"] == "periodic"

    def images(x: Tensor, centre: Tensor | float, width: float) -> Tensor:
        mirrored = [(1, 2 * i) for i in (-1, 0, 1)] + [(-1, 2 * i) for i in (-1, 0, 1, 2)]
        centres = [(1, i) for i in (-2, -1, 0, 1, 2)] if wraps else mirrored
        return torch.stack([(-((x - sign * centre - i) / width).square()).exp() for sign, i in centres]).sum(0)

    def square_speed(s: State) -> Tensor:
        x, y, p = s.coordinate("x") / length, s.coordinate("y") / length, s.parameters
        lens = images(x, p["lens_x"], 0.15) * images(y, p["lens_y"], 0.15)
        return (1 + p["layer"] * images(y, 0.7, 0.1) + p["lens"] * lens).square()

    def rate(s: State) -> dict[str, Tensor]:
        u, d, square = s["u"], s.d, square_speed(s)
        parity: Parity = "odd"
        bent = torch.stack([d(square * d(u, name), name, parity=parity) for name in ("x", "y")]).sum(0)
        return {"u": s["v"], "v": bent}

    def conserved(s: State) -> dict[str, Tensor]:
        u, v = s["u"], s["v"]
        slopes = s.d(u, "x").square() + s.d(u, "y").square()
        energy = 0.5 * volume_mean(v.square() + square_speed(s) * slopes, s.d)
        return {"energy": energy, "mean_velocity": volume_mean(v, s.d)}

    homogeneous = not (largest.get("layer") or largest.get("lens"))
    text = "u_t = v, v_t = div(c^2 grad u), c = 1 + layer b(y) + lens g(x - lens_x, y - lens_y)"
    return Equation(text, rate, conserved=conserved, homogeneous=homogeneous)


def shallow_water(settings: Settings, largest: Largest) -> Equation:
    """Mass and momentum in conservation form times test functions a few cells wide, between mirroring walls."""
    g = float(settings["gravity"])
    signs: dict[str, tuple[Parity, Parity]] = {"h": ("even", "even"), "hu": ("odd", "even"), "hv": ("even", "odd")}

    def smoothed(u: Tensor, s: State, name: str) -> Tensor:
        along_x, along_y = signs[name]
        return s.d.smooth(s.d.smooth(u, "x", WEAK, along_x), "y", WEAK, along_y)

    def rate(s: State) -> dict[str, Tensor]:
        h, u, v, d = s["h"], s["u"], s["v"], s.d
        pressure = g * h.square() / 2
        flux_x = {"h": h * u, "hu": h * u.square() + pressure, "hv": h * u * v}
        flux_y = {"h": h * v, "hu": h * u * v, "hv": h * v.square() + pressure}
        turned: dict[Parity, Parity] = {"even": "odd", "odd": "even"}
        rates = {}
        for name, (along_x, along_y) in signs.items():
            out = d(flux_x[name], "x", parity=turned[along_x]) + d(flux_y[name], "y", parity=turned[along_y])
            rates[name] = -smoothed(out, s, name)
        return rates

    def evolved(s: State) -> dict[str, Tensor]:
        h = s["h"]
        return {name: smoothed(q, s, name) for name, q in (("h", h), ("hu", h * s["u"]), ("hv", h * s["v"]))}

    return Equation(
        "h_t + div(h w) = 0, (h w)_t + div(h w w) + grad(gravity h^2 / 2) = 0, weak",
        rate,
        evolved=evolved,
        conserved=lambda s: {"volume": volume_mean(s["h"], s.d)},
        left_out="what happens within a few cells of a bore; its loss of energy",
    )


WAVES = {
    "korteweg_de_vries_1d": korteweg_de_vries,
    "kuramoto_sivashinsky_1d": kuramoto_sivashinsky,
    "wave_1d": wave_1d,
    "wave_2d": wave_2d,
    "shallow_water_2d": shallow_water,
}
"""By the name of the solver: the equation, from the solver's settings and the largest size of every parameter."""
