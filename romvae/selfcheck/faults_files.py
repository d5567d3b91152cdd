"""Faults of disks and files (F4, F5, F9 to F14)."""

from __future__ import annotations

import json
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

SIMULATE = ("simulate", "heat_1d", "--n", 5, "--workers", 1, "-q")


def file_faults(shop: Workshop, quick: bool) -> list[Case]:
    """The cases; those that start an interpreter or take long are left out if `quick`."""
    whole = "nothing or a complete file under the final name"
    one = "exit 5, one line, nothing left"
    return [
        Case(
            "F4",
            "kill -9 in simulate, 5 places",
            "finished trajectories kept, only the rest added, the same bytes as without",
            lambda: _killed_simulation(shop),
        ),
        Case("F5", "kill -9 in rollout and compare", whole, lambda: _killed_outputs(shop)),
        Case("F9", "disk full in simulate", f"{one}, no segfault at exit", lambda: _full_simulation(shop, quick)),
        Case("F10", "disk full while the state is written", "exit 5, the older state loads", lambda: _full_state(shop)),
        Case("F11", "disk full in rollout and compare", f"{one}; the run unharmed", lambda: _full_outputs(shop)),
        Case("F12", "output folder read-only", "exit 5 before any computation", lambda: _read_only(shop)),
        Case("F13", "TMPDIR missing or full", "no effect on a training", lambda: _no_temporary(shop)),
        Case("F14", "NaN in one cell of the data", "exit 3 with file, variable, index", lambda: _nan_cell(shop)),
    ]


def _killed_simulation(shop: Workshop) -> str:
    """Killed after k trajectories, while the store is written, and before the work folder goes."""
    folder = shop.new()
    straight = folder / "straight.h5"
    ended = romvae(*SIMULATE, "--out", straight)
    require(ended.code == 0, ended.brief)

    def after(k: int) -> None:
        at_call(os, "replace", 1 + k, kill)  # the first rename is that of the list of facts

    def in_store() -> None:
        from romvae.data import store

        at_call(store, "require_space", 0, kill)

    def at_end() -> None:
        from romvae.tasks.folder import WorkFolder

        at_call(WorkFolder, "remove", 0, kill)

    faults: list[tuple[str, int, Hook]] = [
        *((f"{k}.h5", k, partial(after, k)) for k in (0, 1, 3)),
        ("store.zarr", 5, in_store),
        ("end.h5", 5, at_end),
    ]
    for name, kept, fault in faults:
        out, work = folder / name, folder / f"{name}.partial"
        ended = romvae(*SIMULATE, "--out", out, hook=fault)
        require(ended.code == -signal.SIGKILL, f"{name}: {ended.brief}")
        require(out.exists() == (fault is at_end), f"{name} is there after the kill, or is not")
        found = len(list(work.glob("*.shard")))
        require(found == kept, f"{name}: {found} trajectories are kept, expected {kept}")
        before = {path.name: path.stat().st_mtime_ns for path in work.glob("*.shard")}
        _adds_the_rest(shop, out, work, before)
        if name.endswith(".h5"):
            require(out.read_bytes() == straight.read_bytes(), f"{name}: other bytes than without the kill")
        require(not work.exists(), f"{work.name} is left")
    return "after 0, 1, 3 of 5 trajectories, before the store and before the work folder goes"


def _adds_the_rest(shop: Workshop, out: Path, work: Path, before: dict[str, int]) -> None:
    """Runs the command again and looks, at its end, which trajectories it has written anew."""
    seen = shop.new() / "seen.json"

    def look() -> None:
        from romvae.tasks.folder import WorkFolder

        def note() -> None:
            after = {path.name: path.stat().st_mtime_ns for path in work.glob("*.shard")}
            seen.write_text(json.dumps(after), encoding="utf-8")

        at_call(WorkFolder, "remove", 0, note)

    ended = romvae(*SIMULATE, "--out", out, hook=look)
    require(ended.code == 0, ended.brief)
    after = json.loads(seen.read_text(encoding="utf-8"))
    again = [name for name, written in before.items() if after.get(name) != written]
    require(not again, f"{out.name}: computed again: {again}")
    require(len(after) == 5, f"{out.name}: {len(after)} trajectories at the end, expected 5")


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
from romvae.solvers import on_disk
from romvae.data import store
from romvae.selfcheck.hooks import fill
on_disk.require_space = lambda path, nbytes: None
store.require_space = lambda path, nbytes: fill(Path(path).parent, 20_000)
cli.run()
"""


def _full_simulation(shop: Workshop, quick: bool) -> str:
    with shop.small_disk(2**22) as disk:
        for suffix in ("h5", "zarr"):
            out = disk.folder / f"a.{suffix}"
            words = ("simulate", "heat_1d", "--n", 400, "--workers", 1, "-q", "--out", out)
            ended = romvae(*words, hook=disk.limit)
            require(ended.code == 5 and ended.err.count("\n") == 1, ended.brief)
            require(not out.exists(), "half a store is left on the full disk")
            if disk.real:
                require("needs" in ended.err and "free" in ended.err, ended.brief)
                require(not list(disk.folder.iterdir()), "something is left on the full disk")
        if not disk.real:
            return "with a limit on the size of files: a disk cannot be mounted here"
        for suffix in () if quick else ("h5", "nc", "zarr"):  # a new interpreter: HDF5 has crashed at its end
            out = disk.folder / f"b.{suffix}"
            done = interpreter("-c", _FILL_LATE, *SIMULATE, "--out", out)
            (disk.folder / "filler").unlink()
            require(done.returncode == 5, f"{suffix}: exit status {done.returncode}, {done.stderr[-300:]!r}")
            require(done.stderr.count("\n") == 1 and "disk is full" in done.stderr, done.stderr[-300:])
            left = {path.name for path in disk.folder.iterdir()}
            require(left == {f"b.{suffix}.partial"}, f"{suffix}: left on the full disk: {left}")
            ended = romvae(*SIMULATE, "--out", out)
            require(ended.code == 0, f"with room again: {ended.brief}")
            shutil.rmtree(out) if out.is_dir() else out.unlink()
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
        from romvae import data, demo
        from romvae.data import pack
        from romvae.solvers import on_disk
        from romvae.training.stages import Stage

        for owner, name in (  # as each command finds them
            (data, "open_snapshots"),
            (pack, "open_snapshots"),
            (demo, "simulate"),
            (on_disk, "simulate_to"),
            (Stage, "training_step"),
        ):
            at_call(owner, name, 0, lambda: os._exit(99))

    if os.geteuid() == 0:
        with mounted(folder, "ro"):
            return _refused_at_once(shop, folder, no_computation)
    folder.chmod(0o555)
    return _refused_at_once(shop, folder, no_computation)


def _refused_at_once(shop: Workshop, folder: Path, hook: Hook) -> str:
    commands: list[list[object]] = [
        [*SIMULATE, "--out", folder / "a.h5"],
        list(shop.training(folder / "run")),
        _rollout(shop, folder / "f.h5"),
        _compare(shop, folder / "comparison"),
        ["demo", "--quick", "--out", folder / "demo"],
        ["report", shop.run, "--out", folder / "report.html"],
        ["pack", shop.store, folder / "packed.h5"],
    ]
    for words in commands:
        ended = romvae(*words, hook=hook)
        require(ended.code == 5 and ended.err.count("\n") == 1, f"{words[0]}: {ended.brief}")
        require(str(folder) in ended.err, f"{words[0]}: {ended.brief}")
    return ", ".join(str(words[0]) for words in commands)


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
