"""`romvae.export`: a folder that forecasts without romvae, checked against the ROM before it appears."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from romvae.atomic import atomic_folder, check_target
from romvae.baselines.model import BaselineModel, Model, load_model
from romvae.calibration import Interval
from romvae.checkpoint import file_sha256
from romvae.deployment.card import card_of, card_text
from romvae.deployment.checks import difference, first_of, require_equal, stepwise
from romvae.deployment.example import Example, drawn_noise, example_of, expected
from romvae.deployment.parts import programs_of, require_exportable
from romvae.deployment.programs import Plan
from romvae.deployment.scripts import script, stepping_script
from romvae.deployment.tracing import SUFFIX, Format, Program, Runner, opened, written
from romvae.errors import ConfigError, optional_import
from romvae.forecast import BLOCK
from romvae.progress import Progress

if TYPE_CHECKING:
    import xarray as xr

    from romvae.rom import ROM

__all__ = ["TOLERANCE", "export"]

TOLERANCE = 1e-3
"""Largest difference from the ROM that counts as rounding, in standard deviations of the field."""


def export(
    model: Model | str | Path,
    out: str | Path,
    *,
    format: Format = "torch",
    steps: int | None = None,
    members: int = 32,
    level: float = 0.9,
    interval: Interval = "point",
    share: float = 0.9,
    data: xr.Dataset | None = None,
    metrics: Mapping[str, Any] | None = None,
    licence: str = "",
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Writes a ROM as programs that run without romvae, with a model card, an example and a script that runs it.

    Normalisation is inside: fields, parameters and controls go in, and mean, standard deviations and interval come
    out, in physical units. Random numbers are an input, and those of `ROM.rollout` with seed 0 are stored beside. Every
    program is read back from its file and compared with the ROM before the folder appears.

    Arguments:
        model: A ROM, or the path of a run or of a saved ROM.
        out: Folder to write.
        format: `torch` for `torch.export` archives (`.pt2`), `onnx` for ONNX models (the extra `onnx`).
        steps: Stored steps of the whole rollout; None takes those of a training trajectory. Step by step any number is
            possible.
        members: As in `ROM.rollout`; the programs are fixed to it, as to the next three.
        level: As in `ROM.rollout`.
        interval: As in `ROM.rollout`.
        share: As in `ROM.rollout`.
        data: Canonical trajectories that the example is taken from; None decodes random codes.
        metrics: What `metrics.json` of a comparison holds, for the card.
        licence: Under which the model is handed on, for the card; to be filled in where it is empty.
        tolerance: Largest difference from the ROM, in standard deviations of the field.
        overwrite: Whether an existing folder may be replaced.
        progress: Called as `progress(stage, done, total, note)`.

    Returns:
        The folder.

    Raises:
        ConfigError: An argument is out of range, or the model is of a kind that cannot be exported: the message says
            why and what to do.
        NumericsError: A program differs from the ROM by more than rounding.
        OutputError: The folder exists, or it cannot be written.
    """
    if format not in get_args(Format):
        raise ConfigError(f"export: format is {format!r}, expected {' or '.join(get_args(Format))}. Choose one.")
    out = check_target(out, overwrite)
    rom = _loaded(model)
    if format == "onnx":
        for library in ("onnx", "onnxscript", "onnxruntime"):
            optional_import(library, "onnx", "export: format 'onnx'")
    plan = Plan(rom.steps_ahead if steps is None else steps, members, level, interval, share)
    require_exportable(rom, format)
    example = example_of(rom, data, plan)
    say: Progress = progress or (lambda *words: None)
    with atomic_folder(out, overwrite) as folder:
        programs, measured = _written(rom, plan, example, folder, format, tolerance, say)
        facts = card_of(rom, plan, example.source, format, programs, measured, metrics, licence)
        _finish(folder, facts, drawn_noise(rom, plan), format)
    return out


def _loaded(model: Model | str | Path) -> ROM:
    if isinstance(model, str | Path):
        path = Path(model)
        model = load_model(path / "model" if (path / "model").is_dir() else path)
    if isinstance(model, BaselineModel):
        raise ConfigError(
            f"export: the model is the baseline {model.name!r}, which has no networks that could be exported. Train a "
            "ROM with --model vae, for example on POD: --model.compression pod --model.dynamics linear"
        )
    return model


def _written(
    rom: ROM,
    plan: Plan,
    example: Example,
    folder: Path,
    kind: Format,
    tolerance: float,
    say: Progress,
) -> tuple[list[Program], dict[str, dict[str, float]]]:
    """Writes all programs, reads them back and compares them; what was measured, by the name of the program."""
    wanted = expected(rom, plan, example)
    inputs = example.inputs(rom, plan)
    back = example.inputs(rom, plan, looking_back=True) if rom.dynamics.window > 1 else {}
    programs = programs_of(rom, plan, inputs, back.get("earlier"))
    runners: dict[str, Runner] = {}
    for k, program in enumerate(programs):
        say("export", k, len(programs) + 1, f"write {program.name}")
        path = folder / (program.name + SUFFIX[kind])
        written(program, path, kind)
        runners[program.name] = opened(path, program.outputs)
    say("export", len(programs), len(programs) + 1, "compare with the ROM")
    truth = {"rollout": wanted, "step_by_step": wanted}
    found = {"rollout": runners["rollout"](inputs), "step_by_step": stepwise(rom, plan.steps, runners, inputs)}
    found["rollout of one"] = runners["rollout"](first_of(inputs))
    truth["rollout of one"] = first_of(wanted, one=False)
    if back:
        found["rollout_history"] = runners["rollout_history"](back)
        truth["rollout_history"] = expected(rom, plan, example, looking_back=True)
    found["decoder"], truth["decoder"] = _decoded(rom, runners, wanted["latent"][:, 0])
    measured = {name: difference(rom, values, truth[name]) for name, values in found.items()}
    for name, each in measured.items():
        require_equal(name, each, tolerance)
    _keep(folder / "example.npz", {name: v for name, v in {**inputs, **back}.items() if "noise" not in name})
    _keep(folder / "example_forecast.npz", wanted)
    say("export", len(programs) + 1, len(programs) + 1, "")
    return programs, measured


def _decoded(rom: ROM, runners: Mapping[str, Runner], z: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the exported decoder and `ROM.decode` make of codes `(batch, latent)`."""
    import xarray as xr

    decoded = rom.decode(xr.DataArray(z, dims=("trajectory", "latent")))
    names = rom.schema.field_names
    wanted = {
        kind: np.stack([decoded[f + end].values for f in names], 1) for kind, end in (("mean", ""), ("std", "_std"))
    }
    return runners["decoder"]({"latents": z}), wanted


def _finish(folder: Path, facts: dict[str, Any], noise: Mapping[str, np.ndarray], kind: Format) -> None:
    """Noise, scripts, checksums and card."""
    _keep(folder / "noise.npz", noise)
    (folder / "run_without_romvae.py").write_text(script(kind), encoding="utf-8")
    (folder / "step_by_step.py").write_text(stepping_script(kind), encoding="utf-8")
    facts["noise"] = {"file": "noise.npz", "trajectories": BLOCK, "seed": 0, "inputs": list(noise)}
    facts["sha256"] = {file.name: file_sha256(file) for file in sorted(folder.iterdir())}
    (folder / "card.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(card_text(facts), encoding="utf-8")


def _keep(path: Path, arrays: Mapping[str, Any]) -> None:
    """Arrays by name in a file that is read without pickles."""
    np.savez(path, **arrays)
