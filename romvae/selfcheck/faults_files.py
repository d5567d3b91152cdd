"""Faults of disks and files (F4, F5, F9 to F14)."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from romvae.selfcheck.child import Hook, interpreter, romvae
from romvae.selfcheck.hooks import at_call, at_step, fill, kill
from romvae.selfcheck.record import Case, require
from romvae.selfcheck.workshop import Workshop, contents, mounted

__all__ = ["file_faults"]

SIMULATE = ("simulate", "heat_1d", "--n", 2, "--workers", 1, "-q")


def file_faults(shop: Workshop, quick: bool) -> list[Case]:
    """The cases; those that start an interpreter or take long are left out if `quick`."""
    whole = "nothing or a complete file under the final name"
    one = "exit 5, one line, nothing left"
    return [
        Case("F4", "kill -9 in simulate", f"{whole}; again gives the same values", lambda: _killed_simulation(shop)),
        Case("F5", "kill -9 in rollout and compare", whole, lambda: _killed_outputs(shop)),
        Case("F9", "disk full in simulate", f"{one}, no segfault at exit", lambda: _full_simulation(shop, quick)),
        Case("F10", "disk full while the state is written", "exit 5, the older state loads", lambda: _full_state(shop)),
        Case("F11", "disk full in rollout and compare", f"{one}; the run unharmed", lambda: _full_outputs(shop)),
        Case("F12", "output folder read-only", "exit 5 before any computation", lambda: _read_only(shop)),
        Case("F13", "TMPDIR missing or full", "no effect on a training", lambda: _no_temporary(shop)),
        Case("F14", "NaN in one cell of the data", "exit 3 with file, variable, index", lambda: _nan_cell(shop)),
    ]


def _killed_simulation(shop: Workshop) -> str:
    folder = shop.new()

    def hook() -> None:
        from romvae.solvers import ensemble

        at_call(ensemble, "_dataset", 0, kill)

    def late() -> None:
        at_call(os, "fsync", 1, kill)

    for name, fault in (("a.h5", hook), ("b.zarr", late)):
        ended = romvae(*SIMULATE, "--out", folder / name, hook=fault)
        require(ended.code == -signal.SIGKILL, ended.brief)
        require(not (folder / name).exists(), f"{name} is there after the kill")
    for name in ("a.h5", "b.h5"):
        ended = romvae(*SIMULATE, "--out", folder / name)
        require(ended.code == 0, ended.brief)
    require((folder / "a.h5").read_bytes() == (folder / "b.h5").read_bytes(), "the same seed gave other values")
    return "finished trajectories are computed again: a trajectory depends on its seed and number only"


def _killed_outputs(shop: Workshop) -> str:
    folder = shop.new()
    for nth in (0, 2, 5):
        out = folder / f"forecast-{nth}.zarr"
        ended = romvae(*_rollout(shop, out), hook=partial(at_call, os, "fsync", nth, kill))
        require(ended.code == -signal.SIGKILL, ended.brief)
        require(not out.exists() or romvae("info", out).code == 0, f"half of {out.name} is there")
        out = folder / f"comparison-{nth}"
        ended = romvae(*_compare(shop, out), hook=partial(at_call, os, "fsync", nth, kill))
        require(ended.code == -signal.SIGKILL, ended.brief)
        for page in out.glob("[!.]*.html"):
            require(page.read_text(encoding="utf-8").rstrip().endswith("</html>"), f"half of {page} is there")
    return ""


def _rollout(shop: Workshop, out: Path) -> list[object]:
    return ["rollout", shop.run, "--start", shop.store, "--out", out, "--members", 8]


def _compare(shop: Workshop, out: Path) -> list[object]:
    return ["compare", shop.run, "--out", out, "--members", 8, "-q"]


_FILL_LATE = """
from pathlib import Path
from romvae import cli
from romvae.commands import simulate
from romvae.data import store
from romvae.selfcheck.hooks import fill
simulate.require_space = lambda path, nbytes: None
store.require_space = lambda path, nbytes: fill(Path(path).parent, 20_000)
cli.run()
"""


def _full_simulation(shop: Workshop, quick: bool) -> str:
    with shop.small_disk() as disk:
        for suffix in ("h5", "zarr"):
            words = ("simulate", "heat_1d", "--n", 400, "--workers", 1, "-q", "--out", disk.folder / f"a.{suffix}")
            ended = romvae(*words, hook=disk.limit)
            require(ended.code == 5 and ended.err.count("\n") == 1, ended.brief)
            if disk.real:
                require("needs" in ended.err and "free" in ended.err, ended.brief)
            require(not list(disk.folder.iterdir()), "something is left on the full disk")
        if not disk.real:
            return "with a limit on the size of files: a disk cannot be mounted here"
        for suffix in () if quick else ("h5", "nc", "zarr"):  # a new interpreter: HDF5 has crashed at its end
            words = (*SIMULATE, "--out", disk.folder / f"b.{suffix}")
            done = interpreter("-c", _FILL_LATE, *words)
            (disk.folder / "filler").unlink()
            require(done.returncode == 5, f"{suffix}: exit status {done.returncode}, {done.stderr[-300:]!r}")
            require(done.stderr.count("\n") == 1 and "disk is full" in done.stderr, done.stderr[-300:])
            require(not list(disk.folder.iterdir()), f"{suffix}: something is left on the full disk")
    return "" if quick else "also where it fills after the check of free space"


def _full_state(shop: Workshop) -> str:
    from romvae.training.session import read_state

    with shop.small_disk(2**22) as disk:
        run = disk.folder / "run"

        def action() -> None:
            if disk.real:
                fill(disk.folder, 4096)
            else:
                disk.limit()

        ended = shop.train(run, hook=at_step(6, action))
        require(ended.code == 5 and ended.err.count("error:") == 1, ended.brief)
        require(str(run) in ended.err, ended.brief)
        (disk.folder / "filler").unlink(missing_ok=True)
        require(read_state(run / "training.state").step == 6, "the older state is gone")
        shop.resumes_exactly(run)
        return "" if disk.real else "with a limit on the size of files: a disk cannot be mounted here"


def _full_outputs(shop: Workshop) -> str:
    before = contents(shop.run)
    with shop.small_disk() as disk:

        def limit() -> None:
            if disk.real:
                fill(disk.folder, 8192)
            else:
                disk.limit()

        for words in (_rollout(shop, disk.folder / "f.h5"), _compare(shop, disk.folder / "comparison")):
            ended = romvae(*words, hook=limit)
            require(ended.code == 5 and ended.err.count("\n") == 1, ended.brief)
            (disk.folder / "filler").unlink(missing_ok=True)
            left = [str(path) for path in disk.folder.rglob("*") if path.is_file()]
            require(not any(name.endswith((".html", ".h5")) for name in left), f"left on the full disk: {left}")
        require(contents(shop.run) == before, "the run changed")
        return "" if disk.real else "with a limit on the size of files: a disk cannot be mounted here"


def _read_only(shop: Workshop) -> str:
    folder = shop.new()

    def no_computation() -> None:
        from romvae.data import store
        from romvae.solvers import ensemble
        from romvae.training.stages import Stage

        for owner, name in ((store, "open_snapshots"), (ensemble, "simulate"), (Stage, "training_step")):
            at_call(owner, name, 0, lambda: os._exit(99))

    if os.geteuid() == 0:
        with mounted(folder, "ro"):
            _refused_at_once(shop, folder, no_computation)
        return ""
    folder.chmod(0o555)
    _refused_at_once(shop, folder, no_computation)
    return ""


def _refused_at_once(shop: Workshop, folder: Path, hook: Hook) -> None:
    commands: list[list[object]] = [
        [*SIMULATE, "--out", folder / "a.h5"],
        list(shop.training(folder / "run")),
        _rollout(shop, folder / "f.h5"),
        _compare(shop, folder / "comparison"),
        ["demo", "--quick", "--out", folder / "demo"],
        ["report", shop.run, "--out", folder / "report.html"],
    ]
    for words in commands[:5]:
        ended = romvae(*words, hook=hook)
        require(ended.code == 5 and ended.err.count("\n") == 1, f"{words[0]}: {ended.brief}")
        require(str(folder) in ended.err, f"{words[0]}: {ended.brief}")


def _no_temporary(shop: Workshop) -> str:
    def forget() -> None:
        tempfile.tempdir = None

    run = shop.new() / "run"
    ended = romvae(*shop.training(run), env={"TMPDIR": "/nonexistent"}, hook=forget)
    require(ended.code == 0, ended.brief)
    shop.resumes_exactly(run)
    with shop.small_disk() as disk:
        if disk.real:
            fill(disk.folder)
            run = shop.new() / "run"
            ended = romvae(*shop.training(run), env={"TMPDIR": str(disk.folder)}, hook=forget)
            require(ended.code == 0, ended.brief)
            shop.resumes_exactly(run)
            return "missing and full"
    return "missing; a full one needs a mount"


def _nan_cell(shop: Workshop) -> str:
    import h5py

    folder = shop.new()
    store = Path(shutil.copy(shop.hdf5, folder / "data.h5"))
    with h5py.File(store, "r+") as file:
        file["u"][3, 5, 9] = np.nan
    ended = shop.train(folder / "run", store=store)
    require(ended.code == 3 and ended.err.count("\n") == 1, ended.brief)
    for part in (str(store), "'u' is NaN", "trajectory 3, time 5", "x 9"):
        require(part in ended.err, f"{part!r} is not named: {ended.brief}")
    require(not (folder / "run").exists(), "a run folder was made")
    return ""
