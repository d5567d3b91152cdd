"""`romvae train`: a ROM from a store of snapshots, begun or continued."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from romvae.atomic import require_space
from romvae.commands.choosing import fit_candidates
from romvae.commands.options import Config, Overwrite, Quiet, Reader
from romvae.commands.outputs import check_output
from romvae.commands.run_folder import DataRecord, RunFolder, fingerprint
from romvae.commands.trusted import warn_of_few
from romvae.errors import (
    AssumptionWarning,
    ConfigError,
    DataError,
    OutputError,
    RankLostError,
    TrainingStoppedError,
)
from romvae.kinds import Precision
from romvae.launch import Place, place_of, require_place
from romvae.lock import locked
from romvae.progress import Progress, terminal_progress
from romvae.settings import TrainSettings, to_yaml
from romvae.settings_file import load_settings
from romvae.supervision import Family, end_with_supervisor, supervised, this_program, words

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.ranks import Ranks
    from romvae.rom import ROM
    from romvae.training import Watch

__all__ = ["train"]


def train(
    *data: Path,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    resume: Path | None = None,
    config: Config = None,
    settings: Annotated[TrainSettings | None, Parameter(name="*")] = None,
    reader: Reader = None,
    checkpoint_every: float = 30.0,
    devices: int | None = None,
    nodes: int | None = None,
    precision: Precision | None = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a reduced-order model on a store of snapshots, or continue a training that was stopped.

    Arguments:
        data: store of snapshots, or a file or folder of another program; romvae info shows whether it is usable. The
            trajectories of several follow each other. For a run that is continued: where the data are now.
        out: folder of the run: the model, its settings, its losses and the environment.
        resume: folder of a run that was stopped; it continues to the bit, with the settings it was begun with.
        settings: single settings, on top of those of the file. --model NAME is short for --model.kind NAME.
        checkpoint_every: seconds between two writes of the training state.
        devices: processes on each machine that share every batch; short for --training.devices, and a run may be
            continued with another number.
        nodes: machines; short for --training.nodes. More than one: start this with srun or torchrun on each.
        precision: float32 or bf16; short for --training.precision.
    """
    if not checkpoint_every >= 0:
        raise ConfigError(f"--checkpoint-every = {checkpoint_every}: should be at least 0.")
    given = settings.model_dump(exclude_unset=True) if settings else {}
    if resume is not None:
        if out is not None or config is not None or given or overwrite or reader is not None or precision is not None:
            raise ConfigError(
                "--resume takes its settings from the run. Leave out --out, --config, --reader and all settings; "
                "--devices and --nodes may differ."
            )
        run = RunFolder.open(resume, finished=False)
        chosen = load_settings(TrainSettings, run.path / "config.yaml", _short({}, devices, nodes))
        reader = run.reader()
    else:
        if not data or out is None:
            missing = "DATA" if not data else "--out"
            raise ConfigError(f"{missing} is missing. Give DATA and --out, or --resume with the folder of a run.")
        run, chosen = RunFolder(out), load_settings(TrainSettings, config, _short(given, devices, nodes, precision))
    place, chosen = _placed(chosen)
    first = place is None or place.rank == 0
    if resume is not None and run.model.exists():  # a batch script may well ask once more
        if first:
            with locked(run.path):
                run.finish()
            print(f"{run.path}: its training has finished, there is nothing to continue.")
        return
    if resume is None and first:
        _check_target(run.path, overwrite)
    if place is None and (chosen.training.devices or 1) > 1:
        _supervise(run, chosen.training.devices or 1)
        return
    end_with_supervisor()
    paths = _stopped(run, data, verify=first) if resume is not None else data
    from romvae.data import open_snapshots, split
    from romvae.data.mapping import mapping_text

    with _silent_unless(first):
        snapshots = open_snapshots(paths, reader=reader)
        mapping = mapping_text(reader)
        _check_device(chosen.training.device)
        ranks = _joined(place, chosen)
        watch = _watch(run, chosen)
        with _naming(paths):
            parts = split(snapshots, seed=chosen.seed, **chosen.split.chosen())
            alone = chosen.model.latent == "auto" or chosen.model.kind != "vae"
            rom = None if alone else ranks.once(lambda: _untrained(parts, chosen))
        if first and resume is None:
            warn_of_few(parts.calibration.sizes["trajectory"], ", ".join(map(str, paths)))
        aside = None
        if first and rom is not None:
            _require_space(run, rom)
        if first and resume is None:
            aside = _set_aside(run.path)
            run.path.mkdir(parents=True, exist_ok=True)
            run.begin(
                settings=to_yaml(chosen, "settings of this run; romvae train DATA --config takes this file"),
                data=DataRecord.of(paths, parts, chosen.seed, reader),
                command=shlex.join(["romvae", *sys.argv[1:]]),
                mapping=mapping,
            )
        with locked(run.path) if first else nullcontext():
            if chosen.model.kind == "vae":
                _fit(run, rom, parts, chosen, checkpoint_every, quiet, watch, ranks)
            else:
                fit_candidates(run, parts, chosen, quiet)
    if aside is not None:
        shutil.rmtree(aside)
    if first:
        _tell(run, parts)


def _tell(run: RunFolder, parts: Parts) -> None:
    found = run.latent_size()
    if found is not None:
        print(f"latent: auto: {found['answer']}")
    for line in _decided(run.history().get("notes", {})):
        print(line)
    print(f"{run.path}: trained on {len(parts.train['trajectory'])} trajectories")
    print(f"Next: romvae compare {run.path} --out {run.path}_comparison")


def _decided(notes: Mapping[str, Any]) -> list[str]:
    """What was chosen in training, and what closed form was better than what was trained, a line each."""
    from romvae.report.chosen import closed_form
    from romvae.training.fallback import decisions

    lines, found = [], notes.get("dynamics")
    if found:
        crps = {name: f"{each['crps']:.3g}" for name, each in found["scores"].items()}
        crps |= dict.fromkeys(found.get("diverged", ()), "diverged")
        others = ", ".join(f"{name} {value}" for name, value in crps.items() if name != found["kind"])
        lines.append(
            f"dynamics: auto: {found['kind']} has the smallest CRPS on held-out trajectories, {crps[found['kind']]}"
            + (f" ({others})" if others else "")
        )
    kept = closed_form({"kept": decisions(notes)})
    return [*lines, *([f"kept: {kept}"] if kept else [])]


def _short(given: Mapping[str, Any], devices: int | None, nodes: int | None, precision: str | None = None) -> Any:
    """Settings with those that have a short flag."""
    flags = {"devices": devices, "nodes": nodes, "precision": precision}
    told = {name: value for name, value in flags.items() if value is not None}
    return {**given, "training": {**given.get("training", {}), **told}} if told else given


def _placed(chosen: TrainSettings) -> tuple[Place | None, TrainSettings]:
    """Which of several processes this is, and the settings with their number.

    Raises:
        ConfigError: They cannot train this together, or have not been started.
    """
    training = chosen.training
    place = place_of(training.devices, training.nodes, automatic=True)
    if (training.nodes or 1) > 1:
        require_place(place, training.devices, training.nodes)
    _check_kind(chosen, place is not None or (training.devices or 1) > 1)
    if place is None:
        return None, chosen
    count = {"devices": place.local_size, "nodes": place.size // place.local_size}
    return place, chosen.model_copy(update={"training": training.model_copy(update=count)})


def _joined(place: Place | None, chosen: TrainSettings) -> Ranks:
    from romvae.ranks import join

    if place is None:
        return join(None)
    import torch

    return join(place, chosen.training.device != "cpu" and torch.cuda.is_available())


def _supervise(run: RunFolder, devices: int) -> None:
    """Trains in several processes on this machine; this one only looks after them."""

    def advice() -> str:
        if not run.state.exists():
            return "Nothing was kept; train again."
        return f"Continue with: romvae train --resume {shlex.quote(str(run.path))}"

    code = Family(this_program(words()), devices, advice).run()
    if code:
        raise SystemExit(code)


@contextmanager
def _silent_unless(first: bool) -> Iterator[None]:
    """Warnings are the first process's to say; the others would repeat them."""
    logger = logging.getLogger("romvae")
    level = logger.level
    with warnings.catch_warnings():
        if not first:
            logger.setLevel(logging.ERROR)
            warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


def _untrained(parts: Parts, chosen: TrainSettings, **found: int) -> ROM:
    """The ROM that is to be trained; `found` replaces settings."""
    from romvae.rom import ROM

    model = {**chosen.model.chosen(), **found}
    return ROM.for_data(parts.train, seed=chosen.seed, memory_budget=chosen.training.memory_budget, **model)


def _sized(run: RunFolder, parts: Parts, chosen: TrainSettings, progress: Progress, ranks: Ranks) -> ROM:
    """The ROM of the size that the data need: looked for, or read where a run that is continued has found it."""
    from romvae.latent import LatentSize
    from romvae.training import suggest_latent

    kept = ranks.once(run.latent_size)
    if kept is None:
        model, training = chosen.model.chosen(), chosen.training.chosen()
        found = suggest_latent(parts, seed=chosen.seed, model=model, training=training, progress=progress)
        if ranks.first:
            run.keep_latent_size(found.to_dict())
    else:
        found = LatentSize.from_dict(kept)
    rom = ranks.once(lambda: _untrained(parts, chosen, latent=found.latent))
    if ranks.first:
        _require_space(run, rom)
    return rom


def _fit(
    run: RunFolder,
    rom: ROM | None,
    parts: Parts,
    chosen: TrainSettings,
    every: float,
    quiet: bool,
    watch: Watch | None,
    ranks: Ranks,
) -> None:
    from romvae.training import fit

    try:
        with terminal_progress(quiet or not ranks.first) as progress, ranks.guarded():
            if rom is None:
                rom = _sized(run, parts, chosen, progress, ranks)
            history = fit(
                rom,
                parts,
                seed=chosen.seed,
                progress=progress,
                checkpoint=run.state,
                checkpoint_every=every,
                watch=watch,
                **chosen.training.chosen(),
            )
    except BaseException as error:
        lost = isinstance(error, RankLostError) and not supervised()  # a supervisor says it
        stopped = isinstance(error, TrainingStoppedError) or not isinstance(error, Exception)  # asked, not failed
        if ranks.first and (lost or stopped):
            print(f"Continue with: romvae train --resume {shlex.quote(str(run.path))}", file=sys.stderr)
        if ranks.first and isinstance(error, TrainingStoppedError) and error.signum == getattr(signal, "SIGUSR1", None):
            _requeue(os.environ.get("SLURM_JOB_ID"))
        raise
    if ranks.first:
        run.record(history.to_dict())
        rom.save(run.model, overwrite=True)
        run.finish()


def _watch(run: RunFolder, chosen: TrainSettings) -> Watch | None:
    """What the settings say to record; None where they say nothing."""
    told = chosen.watch
    if told.every is None:
        return None
    from romvae.training import Watch

    return Watch(run.watched, told.every, told.images, told.keep, told.tensorboard)


def _check_kind(chosen: TrainSettings, several: bool) -> None:
    if chosen.model.kind != "vae" and several:
        raise ConfigError(
            f"--devices: --model {chosen.model.kind} trains in one process. Leave --devices and --nodes out, or use "
            "--model vae."
        )
    if chosen.model.kind != "vae" and chosen.model.latent == "auto":
        raise ConfigError(
            f"--model.latent = auto: goes with --model vae only, not with {chosen.model.kind}. Give a number, or leave "
            "it out."
        )


@contextmanager
def _naming(paths: Sequence[Path]) -> Iterator[None]:
    """Puts the name of the store in front of what is wrong with its data; assumptions were said when it was opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)
            yield
    except DataError as error:
        raise type(error)(f"{', '.join(map(str, paths))}: {error}") from error


def _stopped(run: RunFolder, data: Sequence[Path], verify: bool) -> Sequence[Path]:
    """Data of the run to continue; reading them all to `verify` them is the business of one process."""
    record = run.data()
    paths = data or record.paths
    for path in paths:
        if not path.exists():
            raise DataError(
                f"{path}: the run's data are gone. Give their new place: romvae train DATA --resume {run.path}"
            )
    if verify and fingerprint(paths) != record.fingerprint:
        raise DataError(
            f"{', '.join(map(str, paths))}: differs from the data that the run was begun with, so it cannot be "
            "continued exactly. Give the same data, or train anew."
        )
    return paths


def _check_target(out: Path, overwrite: bool) -> None:
    if not overwrite and (out / "data.json").is_file() and not (out / "model").exists():
        raise OutputError(f"{out}: holds a training that was stopped. Continue it with --resume {out}, or --overwrite.")
    check_output(out, overwrite, ("data.json", "config.yaml"))  # the second: of one that was killed as it began


def _require_space(run: RunFolder, rom: ROM) -> None:
    """Refuses a disk on which the training could not be kept: two states with two moments per weight, and the model."""
    weights = sum(value.numel() * value.element_size() for value in rom.state_arrays().values())
    require_space(run.state, 8 * weights + 2**17)


def _set_aside(out: Path) -> Path | None:
    """Moves a run that is to be replaced out of the way; it goes when the new one is complete."""
    if not out.exists() or not any(out.iterdir()):
        return None
    with locked(out):
        aside = out.with_name(f"{out.name}.replaced-{uuid.uuid4().hex[:8]}")
        os.replace(out, aside)
    return aside


def _requeue(job: str | None) -> None:
    """Asks SLURM to run the job again; outside of SLURM nothing happens."""
    if job is None:
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"warning: the job could not be requeued: {error}", file=sys.stderr)


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        reason = "this torch is built for CPU only" if torch.version.cuda is None else "no usable GPU or driver"
        raise ConfigError(f"--training.device = cuda: {reason} (torch {torch.__version__}). Use auto or cpu.")
