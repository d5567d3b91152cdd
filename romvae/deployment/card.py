"""The model card of an exported ROM, as JSON and as a page."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from romvae.deployment.programs import Plan
from romvae.deployment.tracing import OPSET, SUFFIX, Format, Program
from romvae.version import __version__

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["SCORES", "card_of", "card_text"]

FORMAT = 1
"""Version of the layout of `card.json`."""
SCORES = (
    "relative_l2",
    "worst_relative_l2",
    "compression_relative_l2",
    "vrmse",
    "crps",
    "coverage_90",
    "coverage_90_se",
)
TO_FILL_IN = "not stated: to be filled in by whoever hands the model on"


def card_of(
    rom: ROM,
    plan: Plan,
    example: str,
    kind: Format,
    programs: Sequence[Program],
    measured: Mapping[str, Mapping[str, float]],
    metrics: Mapping[str, Any] | None,
    licence: str,
) -> dict[str, Any]:
    """All that is known of the model, JSON types only.

    Arguments:
        rom: The model.
        plan: What the forecast is fixed to.
        example: Where the example comes from.
        kind: Format of the programs.
        programs: What was written.
        measured: Differences from the ROM, by program and output.
        metrics: What `metrics.json` holds, or None.
        licence: Of the model; may be empty.
    """
    schema, calibration = rom.schema, rom.calibration
    return {
        "format": FORMAT,
        "licence": licence or TO_FILL_IN,
        "fields": [{"name": f.name, "units": f.units, "long_name": f.long_name or f.name} for f in schema.fields],
        "parameters": [{"name": p.name, "units": p.units, "low": p.low, "high": p.high} for p in schema.parameters],
        "controls": [{"name": c.name, "units": c.units, "low": c.low, "high": c.high} for c in schema.controls],
        "grid": [
            {
                "name": a.name,
                "units": a.units,
                "coordinates": list(a.coordinates),
                "lower": a.lower.entry,
                "upper": a.upper.entry,
            }
            for a in schema.grid.axes
        ],
        "points_outside_the_domain": 0 if rom.mask is None else int((~rom.mask).sum()),
        "time": {
            "step": schema.dt,
            "units": schema.time_units,
            "steps": plan.steps,
            "trained_steps": rom.steps,
            "calibrated_steps": float(calibration.lead[-1]),
        },
        "forecast": {
            "members": plan.members,
            "level": plan.level,
            "interval": plan.interval,
            "share": plan.share,
            "propagation": "members",
        },
        "calibration": {
            "trajectories": int(calibration.trajectories),
            "statement": calibration.statement(plan.level, plan.share),
            "guarantee": str(calibration.guarantee(plan.level, plan.interval, plan.share)),
        },
        "accuracy": _accuracy(metrics),
        "model": {
            **rom.config,
            "window": rom.dynamics.window,
            "weights": sum(p.numel() for p in rom.parameters()),
        },
        "data_sha256": rom.data_hash,
        "limits": _limits(rom, plan),
        "programs": {p.name: {"file": p.name + SUFFIX[kind], **p.describe()} for p in programs},
        "checked": {
            "example": example,
            "unit": "standard deviations of the field over the training data; latent: its own unit",
            "largest": max(max(each.values()) for each in measured.values()),
            "differences": {name: dict(each) for name, each in measured.items()},
        },
        "versions": _versions(kind),
    }


def _accuracy(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """The scores of a comparison that a user of the model asks for first."""
    rom = (metrics or {}).get("rom", {})
    found: dict[str, Any] = {name: rom[name] for name in SCORES if rom.get(name) is not None}
    if found and "intervals" in rom:
        found["intervals_95"] = {name: rom["intervals"][name] for name in SCORES if name in rom["intervals"]}
    return found


def _limits(rom: ROM, plan: Plan) -> list[str]:
    """What the model is not to be trusted for, in sentences."""
    known = ", ".join(f"{p.name} from {p.low:g} to {p.high:g}" for p in rom.schema.parameters)
    last = float(rom.calibration.lead[-1])
    limits = [
        f"Outside of the trained range of parameters ({known}) nothing is promised; the programs do not refuse it."
        if known
        else "There is no parameter: the programs are right for the physics of the training data only.",
        "Initial fields have to come from the distribution of the training data; others are encoded as if they did.",
        f"The training trajectories have {rom.steps} steps, and factors are calibrated up to step {last:g}; beyond, "
        "the last ones are held.",
        "Grid, boundary conditions and time step are fixed.",
        "The points of a field depend on each other: a sample of the forecast is not drawn point by point.",
        "A forecast that diverges comes out as NaN or infinity, without an error.",
        "The stored noise is that of 16 trajectories; others take the same numbers again. Any standard normal numbers "
        "will do.",
    ]
    if rom.dynamics.window > 1:
        limits.append(
            f"Intervals are those of forecasts that start from {rom.choices['given']} of the fields that dynamics with "
            "memory can take; from another number of them they promise nothing."
        )
    if not rom.calibration.fitted:
        limits.insert(0, "The model is not calibrated: its intervals are as the networks give them.")
    if rom.mask is not None:
        limits.append("Points outside of the domain are fixed; there a forecast repeats what stands in the start.")
    if plan.members < 8:
        limits.append(f"{plan.members} members say little about the spread; it was calibrated with 16.")
    return limits


def _versions(kind: Format) -> dict[str, str]:
    names = ["torch", "numpy"] + (["onnx", "onnxscript", "onnxruntime"] if kind == "onnx" else [])
    found = {"romvae": __version__, "python": platform.python_version()}
    found |= {name: metadata.version(name) for name in names}
    return found | ({"opset": str(OPSET)} if kind == "onnx" else {})


def card_text(card: Mapping[str, Any]) -> str:
    """The card as a page of Markdown."""
    time, forecast = card["time"], card["forecast"]
    horizon = f"{time['steps']} steps of {time['step']:g} {time['units']}"
    lines = [
        "# Model card",
        "",
        "A reduced-order model as programs that need no romvae: `python run_without_romvae.py` runs the whole rollout",
        "on `example.npz`, `python step_by_step.py STEPS` any number of steps. The ROM's own forecast of the example",
        "is in `example_forecast.npz`. `card.json` holds all of this for other programs.",
        "",
        f"**Licence:** {card['licence']}.",
        "",
        "## Inputs and outputs",
        "",
        "| | name | units | range of the training data |",
        "|---|---|---|---|",
        *(f"| field | {f['name']} | {f['units']} | |" for f in card["fields"]),
        *(
            f"| {kind[:-1]} | {p['name']} | {p['units']} | {p['low']:g} to {p['high']:g} |"
            for kind in ("parameters", "controls")
            for p in card[kind]
        ),
        "",
        *(_axis(axis) for axis in card["grid"]),
        f"- time: {horizon}; the training trajectories have {time['trained_steps']} steps",
        f"- points outside of the domain: {card['points_outside_the_domain']}",
        f"- SHA-256 of the training data: `{card['data_sha256'] or 'not known'}`",
        "",
        *_programs(card["programs"]),
        "",
        "Axes that are named may have any size, the others are fixed. Rows are members, then one for each network.",
        "",
        "## Uncertainty",
        "",
        f"{forecast['members']} members; the interval from `lower` to `upper` is of kind `{forecast['interval']}` at "
        f"the level {forecast['level']:g}"
        + ("." if forecast["interval"] == "point" else f" for the share {forecast['share']:g} of the points."),
        "",
        card["calibration"]["statement"],
        "",
        *([] if forecast["interval"] == "point" else [card["calibration"]["guarantee"], ""]),
        "## Accuracy on held-out trajectories",
        "",
        *_scores(card["accuracy"]),
        "",
        "## Known limits",
        "",
        *(f"- {limit}" for limit in card["limits"]),
        "",
        "## How this was checked",
        "",
        f"On {card['checked']['example']}, the programs read back from their files differ from the ROM by at most "
        f"{card['checked']['largest']:.1e} standard deviations of the field.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in card["versions"].items()) + ".",
        "",
        "Load programs from sources that you trust only: a `.pt2` archive can execute code when torch loads it. The",
        "scripts compare every file with its SHA-256 in `card.json` first, which shows damage, not a forgery of both.",
        "",
    ]
    return "\n".join(lines)


def _axis(axis: Mapping[str, Any]) -> str:
    x = axis["coordinates"]
    sides = f"{_side(axis['lower'])} and {_side(axis['upper'])}"
    return f"- {axis['name']}: {len(x)} points from {x[0]:g} to {x[-1]:g} {axis['units']}, boundaries {sides}"


def _side(entry: str | Mapping[str, Any]) -> str:
    if isinstance(entry, str):
        return entry
    return "value (" + ", ".join(f"{name} = {value:g}" for name, value in entry["value"].items()) + ")"


def _programs(programs: Mapping[str, Any]) -> list[str]:
    lines = ["| file | inputs | outputs | does |", "|---|---|---|---|"]
    for about in programs.values():
        inputs = ", ".join(f"{name} ({', '.join(map(str, i['shape']))})" for name, i in about["inputs"].items())
        shapes: dict[str, list[str]] = {}
        for name, shape in about["outputs"].items():
            shapes.setdefault(shape, []).append(name)
        outputs = "; ".join(f"{', '.join(names)} {shape}" for shape, names in shapes.items())
        lines.append(f"| `{about['file']}` | {inputs} | {outputs} | {about['summary']} |")
    return lines


def _scores(accuracy: Mapping[str, Any]) -> list[str]:
    if not accuracy:
        return ["Not measured, or `metrics.json` was not at hand when the model was exported."]
    rows = [f"| `{name}` | {value:.4g} |" for name, value in accuracy.items() if isinstance(value, int | float)]
    return ["| score | value |", "|---|---|", *rows]
