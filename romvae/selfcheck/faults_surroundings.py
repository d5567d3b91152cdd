"""Faults of solver, memory, formats, surroundings and devices (F17, F18, F22 to F25, F27)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from romvae.selfcheck.child import forked, interpreter, romvae
from romvae.selfcheck.hooks import at_step, kill
from romvae.selfcheck.record import Case, SkippedError, require
from romvae.selfcheck.workshop import Workshop, weights

__all__ = ["surroundings_faults"]


def surroundings_faults(shop: Workshop, quick: bool) -> list[Case]:
    """The cases; those that start an interpreter are left out if `quick`."""
    return [
        Case("F17", "reference solver fails", "exit 4 naming the trajectory, others kept", lambda: _solver_fails(shop)),
        Case("F18", "data larger than memory", "streams, or exit 5 in one line", lambda: _memory(shop, quick)),
        Case("F22", "model and state of other formats", "newer refused, older migrated", lambda: _formats(shop)),
        Case("F23", "no network, no home, no display", "the demo passes", lambda: _alone(shop, quick)),
        Case("F24", "reader of a pipe has gone", "exit 0 or 141, no traceback", lambda: _closed_pipe(shop, quick)),
        Case("F25", "device cuda without a GPU", "exit 2 with the reason", lambda: _no_gpu(shop)),
        Case("F27", "GPU out of memory", "exit 5, batch size, memory, advice", lambda: _gpu_memory(shop)),
    ]


def _solver_fails(shop: Workshop) -> str:
    folder = shop.new()

    def hook() -> None:
        from romvae.solvers.cases import get_case
        from romvae.solvers.heat import Heat

        original = Heat._advance
        second = get_case("heat_1d").draw(1).solver.parameters

        def failing(solvers: Any, u0: Any, times: Any) -> Any:
            u = original(solvers, u0, times)
            for row, solver in enumerate(solvers):
                if solver.parameters == second:
                    u[row, 5:] = np.inf
            return u

        Heat._advance = staticmethod(failing)  # type: ignore[method-assign]

    out, work = folder / "a.h5", folder / "a.h5.partial"
    words = ("simulate", "heat_1d", "--n", 3, "--workers", 1, "-q", "--out", out)
    ended = romvae(*words, hook=hook)
    require(ended.code == 4 and ended.err.count("error:") == 1 and "Traceback" not in ended.err, ended.brief)
    require("1 of 3 trajectories failed (1)" in ended.err and str(work) in ended.err, ended.brief)
    for part in ("failed: trajectory 1 (diffusivity=", "heat: failed at t=0.1 (", "the field is not finite"):
        require(part in ended.err, f"{part!r} is not named: {ended.brief}")
    listed = json.loads((work / "failed.json").read_text(encoding="utf-8"))
    require([entry["index"] for entry in listed] == [1], f"failed.json lists {listed}")
    kept = sorted(path.name for path in work.glob("*.shard"))
    require(kept == ["00000000.shard", "00000002.shard"], f"kept are {kept}")
    require(not out.exists(), "a store was written")
    ended = romvae(*words, "--skip-failed", hook=hook)
    require(ended.code == 0, f"--skip-failed: {ended.brief}")
    require("failed_trajectories: [1]" in romvae("info", out).out, "the store does not say what is missing")
    return "the others are kept, --skip-failed writes the store without it"


def _memory(shop: Workshop, quick: bool) -> str:
    if quick:
        raise SkippedError("writes and reads a large file, left out by --quick")
    folder, mib = shop.new(), 128

    def write() -> None:
        import h5py

        from romvae.data import hdf5_store
        from romvae.testing import mock_snapshots

        data = mock_snapshots(1, trajectories=16, times=8, shape=(1024,))
        hdf5_store.write(data, folder / "small.h5")
        with h5py.File(folder / "small.h5", "r") as small, h5py.File(folder / "large.h5", "w") as large:
            n = mib * 2**20 // (8 * 1024 * 4)
            for name, item in small.items():
                if item.shape and item.shape[0] == 16:
                    values = np.resize(item[()], (n, *item.shape[1:])) if name != "trajectory" else np.arange(n)
                    chunks = (64, *item.shape[1:]) if item.ndim == 3 else None
                    large.create_dataset(name, data=values, chunks=chunks)
                else:
                    large.create_dataset(name, data=item[()])
                for key in ("units", "romvae_role"):
                    if key in item.attrs:
                        large[name].attrs[key] = item.attrs[key]
            for name in ("trajectory", "time", "x"):
                large[name].make_scale(name)
            for i, name in enumerate(("trajectory", "time", "x")):
                large["u"].dims[i].attach_scale(large[name])
            large["viscosity"].dims[0].attach_scale(large["trajectory"])
            large.attrs["coordinates"] = "viscosity"

    require((ended := forked(write)).code == 0, ended.brief)
    store, room = folder / "large.h5", (mib // 2) * 2**20 + 2**27
    ended = romvae("info", store, memory=room)
    require(ended.code == 0 and "usable: yes" in ended.out, f"info: {ended.brief}")
    ended = shop.train(folder / "run", store=store, hook=_limited(room))
    require(ended.code == 5 and ended.err.count("error:") == 1, f"train: {ended.brief}")
    require("Traceback" not in ended.err and "MB of memory, but " in ended.err, f"train: {ended.brief}")
    words = ("simulate", "heat_3d", "--n", mib * 2**20 // (21 * 7680 * 4), "--workers", 1, "-q")
    ended = romvae(*words, "--out", folder / "simulated.h5", memory=2**26)
    require(ended.code == 0, f"simulate: {ended.brief}")
    return f"{mib} MiB of values: info in {room // 2**20} MiB and simulate in 64 MiB stream, train says what it needs"


def _limited(room: int) -> Any:
    def hook() -> None:
        import resource

        from romvae.selfcheck.child import mapped_bytes

        limit = mapped_bytes() + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return hook


def _formats(shop: Workshop) -> str:
    run = Path(shutil.copytree(shop.run, shop.new() / "run"))
    manifest = run / "model" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**content, "format": 99, "romvae": "9.9.9"}), encoding="utf-8")
    ended = romvae("info", run)
    require(ended.code == 3 and "format is 99" in ended.err and "written by romvae 9.9.9" in ended.err, ended.brief)
    _old_model(shop, run, content)
    stopped = shop.new() / "run"
    ended = shop.train(stopped, hook=at_step(6, kill))

    def newer() -> None:
        from romvae.training import session

        state = session.read_state(stopped / "training.state")
        session.FORMAT = 99
        session.write_state(state, stopped / "training.state")

    require((ended := forked(newer)).code == 0, ended.brief)
    (stopped / "training.state.previous").unlink()
    ended = romvae("train", "--resume", stopped, "-q")
    require(ended.code == 3 and "newer romvae" in ended.err and ended.err.count("error:") == 1, ended.brief)
    return "models of format 1 and of an invented 0 migrated; the state has one format so far"


def _old_model(shop: Workshop, run: Path, content: dict[str, Any]) -> None:
    """A model of format 1, which knew one kind of each part, and one of an invented format 0 with another key."""
    from romvae.checkpoint import file_sha256
    from romvae.kinds import DEFAULTS

    config, manifest = run / "model" / "config.json", run / "model" / "manifest.json"
    described = json.loads(config.read_text(encoding="utf-8"))

    def write(version: int) -> None:
        config.write_text(json.dumps(described), encoding="utf-8")
        sums = {**content["sha256"], "config.json": file_sha256(config)}
        manifest.write_text(json.dumps({**content, "format": version, "sha256": sums}), encoding="utf-8")

    described["model"] = {key: value for key, value in described["model"].items() if key not in DEFAULTS}
    write(1)
    ended = romvae("info", run)
    require(ended.code == 0, f"format 1: {ended.brief}")
    require(
        ended.out.replace(str(run), "") == romvae("info", shop.run).out.replace(str(shop.run), ""), "read as another"
    )
    described["sizes"] = described.pop("model")
    write(0)

    def migration() -> None:
        from romvae import checkpoint

        def renamed(old: checkpoint.Content) -> checkpoint.Content:
            described = {key: value for key, value in old.description.items() if key != "sizes"}
            return checkpoint.Content({**described, "model": old.description["sizes"]}, old.weights)

        checkpoint.MIGRATIONS[0] = renamed

    ended = romvae("info", run)
    require(ended.code == 3 and "format is 0" in ended.err, f"without a migration: {ended.brief}")
    ended = romvae("info", run, hook=migration)
    require(ended.code == 0, f"with a migration: {ended.brief}")
    require(weights(run) == weights(shop.run), "reading an old model changed its file")


def _alone(shop: Workshop, quick: bool) -> str:
    if quick:
        raise SkippedError("starts an interpreter, left out by --quick")
    prefix = ("unshare", "-n") if shutil.which("unshare") and sys.platform == "linux" else ()
    probe = interpreter("-c", "pass", prefix=prefix)
    prefix = prefix if probe.returncode == 0 else ()
    out = shop.new() / "demo"
    env = {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "DISPLAY": "", "MPLCONFIGDIR": "/proc/none"}
    done = interpreter("-m", "romvae", "demo", "--quick", "-q", "--out", out, prefix=prefix, **env)
    require(done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-400:]}")
    require((out / "report.html").is_file() and "Traceback" not in done.stderr, done.stderr[-400:])
    return "in a network namespace of its own" if prefix else "the network could not be taken away here"


def _closed_pipe(shop: Workshop, quick: bool) -> str:
    if quick:
        raise SkippedError("starts an interpreter, left out by --quick")
    line = f"{sys.executable} -m romvae info {shop.run} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = interpreter("-c", "import subprocess, sys; sys.exit(subprocess.call(['bash', '-c', sys.argv[1]]))", line)
    require(done.returncode in (0, 141), f"exit status {done.returncode}: {done.stderr[-300:]}")
    require(not done.stderr, done.stderr[-300:])
    return ""


def _no_gpu(shop: Workshop) -> str:
    words = [*shop.training(shop.new() / "run"), "--training.device", "cuda"]
    ended = romvae(*words, env={"CUDA_VISIBLE_DEVICES": "-1"})
    require(ended.code == 2 and ended.err.count("\n") == 1, ended.brief)
    require("cuda: " in ended.err and "Use auto or cpu" in ended.err, ended.brief)
    return ""


def _gpu_memory(shop: Workshop) -> str:
    """On a machine without a GPU, the error that torch raises is raised in a training step."""

    def has_gpu() -> int:
        import torch

        return 0 if torch.cuda.is_available() else 1

    def little() -> None:
        import torch

        torch.cuda.set_per_process_memory_fraction(1e-6)

    def injected() -> None:
        import torch

        at_step(3, _raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")))()

    real = forked(has_gpu).code == 0
    run = shop.new() / "run"
    words = [*shop.training(run), *(("--training.device", "cuda") if real else ())]
    ended = romvae(*words, hook=little if real else injected)
    require(ended.code == 5 and ended.err.count("error:") == 1 and "Traceback" not in ended.err, ended.brief)
    for part in ("GPU memory", "batch_size 4", "Lower --training.batch-size", "--training.device cpu"):
        require(part in ended.err, f"{part!r} is not said: {ended.brief}")
    if not real:
        shop.resumes_exactly(run)
    return "on a GPU" if real else "no GPU here: torch's error was injected into a training step"


def _raising(error: Exception) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action
