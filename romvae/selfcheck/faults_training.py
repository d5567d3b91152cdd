"""Faults of a training under way: killed, stopped, not finite (F1 to F3, F6 to F8, F15, F16, F19 to F21, F26)."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

from romvae.selfcheck.child import Hook, command, finished, forked, romvae, start
from romvae.selfcheck.hooks import at_call, at_step, kill, send
from romvae.selfcheck.record import Case, require
from romvae.selfcheck.workshop import Workshop, contents

__all__ = ["training_faults"]


def training_faults(shop: Workshop, quick: bool) -> list[Case]:
    """The cases, with fewer kills if `quick`."""
    same = "the continuation ends in the same losses and weights, to the bit"
    kills = 2 if quick else 20
    return [
        Case("F1", f"kill -9 before {kills} random training steps", same, lambda: _killed_in_steps(shop, kills)),
        Case("F2", "kill -9 between stages and in calibration", same, lambda: _killed_between(shop)),
        Case("F3", "kill -9 inside the write of the state, 4 places", f"the state loads; {same}", lambda: _torn(shop)),
        Case("F6", "SIGTERM in training", f"exit 143, the command that continues; {same}", lambda: _stopped(shop)),
        Case("F7", "Ctrl-C once and twice", "exit 130, no traceback; the second stops at once", lambda: _ctrl_c(shop)),
        Case("F8", "SLURM's signal before its time limit", "state saved, scontrol requeue", lambda: _requeued(shop)),
        Case(
            "F15", "loss is NaN at a step", "exit 4, step and trajectories named, good state kept", lambda: _nan(shop)
        ),
        Case("F16", "learning rate of 1e6", "refused, or exit 4 with advice", lambda: _diverges(shop)),
        Case("F19", "worker processes of a loader", "there are none that could die", lambda: _no_workers(shop)),
        Case("F20", "data cut off during training", "exit 3 or 5, the file named", lambda: _data_cut(shop)),
        Case("F21", "two runs in one folder", "the second is refused, the first unharmed", lambda: _two_runs(shop)),
        Case("F26", "other number of threads on resume", "a warning that exactness is lost", lambda: _threads(shop)),
    ]


def _killed(shop: Workshop, hook: Hook) -> Path:
    run = shop.new() / "run"
    ended = shop.train(run, hook=hook)
    require(ended.code == -signal.SIGKILL, f"the kill did not happen: {ended.brief}")
    return run


def _killed_in_steps(shop: Workshop, kills: int) -> str:
    steps = shop.passed["step"]
    for nth in sorted(random.Random(1).choices(range(steps), k=kills)):  # noqa: S311
        shop.resumes_exactly(_killed(shop, at_step(nth, kill)))
    return f"{kills} kills in {steps} steps"


def _killed_between(shop: Workshop) -> str:
    from romvae.training.session import STAGES

    for each in (name for name in STAGES if name != "finetune"):  # nothing asks for that one here

        def hook(place: str = each) -> None:
            from romvae.training.session import Session

            original = Session.begin

            def begin(self: Session, stage: str) -> None:
                if stage == place:
                    kill()
                original(self, stage)

            Session.begin = begin  # type: ignore[method-assign]

        shop.resumes_exactly(_killed(shop, hook))

    def in_calibration() -> None:
        at_call(sys.modules["romvae.training.calibrate"], "latent_members", 0, kill)

    shop.resumes_exactly(_killed(shop, in_calibration))
    return "4 stages and calibration; there is no validation during training"


def _torn(shop: Workshop) -> str:
    from romvae.training.session import read_state

    state_writes = [("write", 4), ("flush", 12), ("rename", 9), ("rename", 10)]
    for failpoint, nth in state_writes:
        run = _killed(shop, at_step(nth, kill, failpoint))
        state = read_state(run / "training.state")
        require(all(bool(v.isfinite().all()) for v in state.model.values()), f"{failpoint}: the state is not whole")
        shop.resumes_exactly(run)
    return "before the write, the flush and both renames"


def _stopped(shop: Workshop) -> str:
    run = shop.new() / "run"
    ended = shop.train(run, hook=at_step(6, send(signal.SIGTERM)))
    require(ended.code == 143, ended.brief)
    require(f"romvae train --resume {run}" in ended.err and "Traceback" not in ended.err, ended.brief)
    require(not (run / "running.json").exists(), "the lock is left behind")
    shop.resumes_exactly(run)
    return ""


def _ctrl_c(shop: Workshop) -> str:
    for signals in ((signal.SIGINT,), (signal.SIGINT, signal.SIGINT)):
        run = shop.new() / "run"
        ended = shop.train(run, hook=at_step(6, send(*signals)))
        require(ended.code == 130, ended.brief)
        require("Traceback" not in ended.err and ended.err.count("error:") == 1, ended.brief)
        shop.resumes_exactly(run)
    return ""


def _requeued(shop: Workshop) -> str:
    folder = shop.new()
    fake, calls = folder / "scontrol", folder / "calls"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n', encoding="utf-8")
    fake.chmod(0o755)
    env = {"PATH": f"{folder}:{os.environ.get('PATH', '')}", "SLURM_JOB_ID": "4711", "SLURM_NTASKS": "1"}
    run = folder / "run"
    ended = romvae(*shop.training(run), hook=at_step(6, send(signal.SIGUSR1)), env=env)
    require(ended.code == 128 + signal.SIGUSR1, ended.brief)
    require(calls.is_file() and calls.read_text() == "requeue 4711\n", "scontrol requeue was not called")
    shop.resumes_exactly(run)
    return "with a stand-in for scontrol"


def _nan(shop: Workshop) -> str:
    from romvae.training.session import read_state

    def hook() -> None:
        from romvae.training import MeanStage

        original = MeanStage.loss
        MeanStage.loss = lambda self, batch: original(self, batch) * (float("nan") if self.done == 5 else 1.0)  # type: ignore[method-assign]

    run = shop.new() / "run"
    ended = shop.train(run, hook=hook)
    require(ended.code == 4, ended.brief)
    require("at step 5 of 8 (batch of the training part's trajectories " in ended.err, ended.brief)
    state = read_state(run / "training.state")
    require(state.step == 5 and all(bool(v.isfinite().all()) for v in state.model.values()), "the last state is bad")
    require(not (run / "model").exists(), "a model was written")
    shop.resumes_exactly(run)
    return "without the fault the run goes on from the last good state"


def _diverges(shop: Workshop) -> str:
    folder = shop.new()
    ended = shop.train(folder / "run", "--training.learning-rate", "1e6")
    require(ended.code == 2 and "learning-rate" in ended.err, ended.brief)
    require(not (folder / "run").exists(), "a run folder was made")

    def hook() -> None:
        from romvae.training import MeanStage

        original = MeanStage.__init__

        def init(self, vae, steps, learning_rate, *rest, **more) -> None:  # type: ignore[no-untyped-def]
            original(self, vae, steps, 1e6, *rest, **more)

        MeanStage.__init__ = init  # type: ignore[method-assign, assignment]

    ended = shop.train(folder / "run", hook=hook)
    require(ended.code == 4 and "Lower --training.learning-rate" in ended.err, ended.brief)
    return "refused on the command line; past that, stopped with advice"


def _no_workers(shop: Workshop) -> str:
    found = shop.new() / "children"

    def look() -> None:
        tasks = Path(f"/proc/{os.getpid()}/task")
        found.write_text(" ".join((task / "children").read_text() for task in tasks.iterdir()), encoding="ascii")

    ended = shop.train(found.parent / "run", hook=at_step(3, look))
    require(ended.code == 0, ended.brief)
    require(not found.read_text().split(), f"child processes during training: {found.read_text()}")
    return "no worker processes exist: verified"


def _data_cut(shop: Workshop) -> str:
    """The parts for variance and calibration are read after the cut; HDF5 may still hold 8 MB of chunks, of 25."""
    for suffix in ("h5", "zarr"):
        folder = shop.new()
        store = folder / f"data.{suffix}"

        def write(store: Path = store) -> None:
            from romvae.data import write_snapshots
            from romvae.testing import mock_snapshots

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write_snapshots(mock_snapshots(1, trajectories=12, times=32, shape=(16384,)), store)

        def cut(store: Path = store) -> None:
            files = [store] if store.is_file() else [path for path in (store / "u").rglob("*") if path.is_file()]
            for path in files:
                if path.name != "zarr.json":
                    os.truncate(path, path.stat().st_size // 3)

        require((ended := forked(write)).code == 0, ended.brief)
        ended = shop.train(folder / "run", hook=at_step(3, cut), store=store)
        require(ended.code in (3, 5), f"{suffix}: {ended.brief}")
        require(str(store) in ended.err and ended.err.count("error:") == 1, f"{suffix}: {ended.brief}")
        require("Traceback" not in ended.err and not (folder / "run" / "model").exists(), f"{suffix}: {ended.brief}")
    return "HDF5 and Zarr, cut to a third while the mean was trained"


def _two_runs(shop: Workshop) -> str:
    folder = shop.new()
    run, going, go_on = folder / "run", folder / "going", folder / "go-on"

    def wait() -> None:
        going.touch()
        while not go_on.exists():
            time.sleep(0.01)

    first = start(command(shop.training(run), at_step(3, wait)), timeout=60)
    try:
        begin = time.monotonic()
        while not going.exists() and time.monotonic() < begin + 30:
            time.sleep(0.01)
        before = contents(run)
        second = romvae("train", "--resume", run, "-q")
        require(contents(run) == before, "the second run changed the folder of the first")
    finally:
        go_on.touch()
        ended = finished(first)
    require(second.code == 5 and f"process {first.pid} trains here already" in second.err, second.brief)
    require(ended.code == 0, ended.brief)
    shop.resumes_exactly(run)
    return "a lock whose process was killed is taken over in F1"


def _threads(shop: Workshop) -> str:
    words = [word for word in shop.training(shop.new() / "run") if word not in ("--training.threads", "1")]
    run = Path(words[words.index("--out") + 1])
    ended = romvae(*words, hook=at_step(6, kill))
    require(ended.code == -signal.SIGKILL, ended.brief)

    def two_threads() -> None:
        import torch

        torch.set_num_threads(2)

    ended = romvae("train", "--resume", run, "-q", hook=two_threads)
    require(ended.code == 0, ended.brief)
    require("continuing with 2 threads what was begun with 1" in ended.err, ended.brief)
    return ""
