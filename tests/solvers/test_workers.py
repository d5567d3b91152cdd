"""Worker processes: a killed one loses nothing, and what cannot be saved is named."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from romvae.data import open_snapshots
from romvae.errors import ConfigError, NumericsError
from romvae.solvers import simulate, simulate_to
from romvae.tasks.dask_workers import _check_versions, _versions, on_dask
from romvae.tasks.workers import RETRIES, LostWorkerError, on_processes

from decay import DECAY, FRAGILE  # isort: skip


@pytest.fixture(scope="module")
def unbroken() -> np.ndarray:
    """What nobody disturbed."""
    return simulate("burgers_1d", 160)["u"].values


def once_killed(task: tuple[str, int]) -> int:
    """Twice the number; a task whose file is not there yet makes it and ends its process."""
    folder, number = task
    mark = Path(folder, str(number))
    if number % 3 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def deadly(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def raising(number: int) -> int:
    raise ConfigError(f"task {number} is wrong")


def test_a_task_whose_worker_was_killed_is_done_by_another(tmp_path):
    tasks = [(str(tmp_path), number) for number in range(4)]
    found = dict(on_processes(once_killed, tasks, 2))
    assert found == {task: 2 * task[1] for task in tasks}
    assert {path.name for path in tmp_path.iterdir()} == {"0", "3"}
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_given_up_and_the_others_are_done():
    found = dict(on_processes(deadly, list(range(4)), 2))
    lost = found.pop(1)
    assert found == {0: 0, 2: 2, 3: 3}
    assert isinstance(lost, LostWorkerError)
    assert f"killed by SIGKILL, perhaps for want of memory, {RETRIES + 1} times" in str(lost)


def test_an_error_is_raised_here_and_the_workers_end():
    with pytest.raises(ConfigError, match="task 0 is wrong") as error:
        list(on_processes(raising, [0, 0], 2))
    assert "in raising" in "".join(error.value.__notes__)
    assert not multiprocessing.active_children()


def unsendable(number: int) -> object:
    return lambda: number


@pytest.mark.slow
def test_what_cannot_go_to_another_process_or_come_back_is_one_error(monkeypatch):
    """A lambda cannot be named, and a function of an interactive session is known to that session only."""
    with pytest.raises(ConfigError, match=r"cannot be sent to another process \(.*lambda.*use workers=1"):
        simulate(replace(DECAY, solver=lambda rate: DECAY.solver(rate)), n=40, workers=2)
    session = types.ModuleType("session")
    exec("def made(rate):\n    from decay import Decay\n    return Decay(rate)", vars(session))
    monkeypatch.setitem(sys.modules, "session", session)
    with pytest.raises(ConfigError, match=r"another process cannot do the work \(No module named 'session'\)"):
        simulate(replace(DECAY, solver=session.made), n=40, workers=2)
    with pytest.raises(RuntimeError, match="lambda"):
        list(on_processes(unsendable, [1, 2], 2))
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_three_workers_killed_at_random_lose_nothing(tmp_path, unbroken):
    rng, killed = random.Random(0), []

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        alive = multiprocessing.active_children()
        if stage == "simulate" and alive and len(killed) < 3 and rng.random() < 0.5:
            victim = rng.choice(alive)
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)

    simulate_to(tmp_path / "a.h5", "burgers_1d", 160, workers=3, progress=kill, error_estimate=False)
    assert len(killed) == 3
    assert np.array_equal(open_snapshots(tmp_path / "a.h5")["u"], unbroken)


@pytest.mark.slow
def test_failures_are_the_same_on_any_number_of_processes():
    messages = []
    for workers in (1, 2):
        with pytest.raises(NumericsError) as error:
            simulate(FRAGILE, n=40, workers=workers)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


SCRIPT = """
from romvae.solvers import simulate
simulate("heat_1d", n=40, workers=2)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'lacks `if __name__ == "__main__":`. Use workers=1' in done.stderr


def _simulate(out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "romvae", "simulate", "burgers_1d", "--n", "160", "--out", str(out), *words]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_killed_command_continues_where_it_was(tmp_path, unbroken, number, code):
    """The same command again computes the rest only; no worker outlives the one who asked for it."""
    out = tmp_path / "a.h5"
    partial = tmp_path / "a.h5.partial"
    words = _simulate(out, "--workers", "2", "--no-error-estimate")

    # A shell that starts the tests in the background has Ctrl-C ignored by all of them.
    def heard() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    while process.poll() is None and len(list(partial.glob("*.shard"))) < 16:
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    if number != signal.SIGKILL:
        assert f"Continue with: romvae simulate burgers_1d --out {out} --n 160 --workers 2 --no-error-estimate" in err
    kept = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.shard")}
    assert 16 <= len(kept) < 160
    assert not out.exists()
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "kept: " in err
    assert not partial.exists()
    assert np.array_equal(open_snapshots(out)["u"], unbroken)


def test_dask_is_needed_for_a_scheduler(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"a Dask scheduler needs distributed, .*pip install 'romvae\[dask\]'"):
        simulate(DECAY, n=40, scheduler="local")


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("romvae.tasks.dask_workers._CONNECT", "1s")
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"):
        simulate(DECAY, n=2, scheduler="tcp://127.0.0.1:9")


def test_dask_workers_of_other_versions_are_refused():
    def client(answer: Callable[..., str]) -> types.SimpleNamespace:
        return types.SimpleNamespace(run=lambda function, names: {"tcp://a:1": function(names), "tcp://b:2": answer()})

    _check_versions(client(_versions))
    with pytest.raises(
        ConfigError, match=r"the Dask worker tcp://b:2 has numpy 1, expected romvae .* Install the same"
    ):
        _check_versions(client(lambda: "numpy 1"))


@pytest.mark.slow
def test_a_task_that_kills_every_dask_worker_is_given_up():
    """The others end too; one that waited at the same workers may be given up with it."""
    pytest.importorskip("distributed")
    found = dict(on_dask(deadly, list(range(4)), "local", 2))
    lost = found.pop(1)
    assert isinstance(lost, LostWorkerError)
    assert "its Dask worker was lost, 4 times" in str(lost)
    assert set(found) == {0, 2, 3}
    assert all(result == task or isinstance(result, LostWorkerError) for task, result in found.items())


@pytest.mark.slow
def test_dask_gives_the_same_bits_and_outlives_a_killed_worker(tmp_path, unbroken):
    distributed = pytest.importorskip("distributed")
    killed: list[int] = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address

        def kill(stage: str, done: int, total: int, note: str = "") -> None:
            if stage == "simulate" and done >= 32 and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        simulate_to(tmp_path / "a.h5", "burgers_1d", 160, scheduler=address, progress=kill, error_estimate=False)
    assert killed
    assert np.array_equal(open_snapshots(tmp_path / "a.h5")["u"], unbroken)


@pytest.mark.slow
def test_dask_workers_that_do_not_share_the_disk_send_their_trajectories(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    from romvae.tasks.ensemble import Errand

    monkeypatch.setattr(Errand, "into", classmethod(lambda cls, folder, block: cls(block, "/nonexistent", "")))
    simulate_to(tmp_path / "a.h5", "heat_1d", 6, workers=2, scheduler="local")
    assert np.array_equal(open_snapshots(tmp_path / "a.h5")["u"], simulate("heat_1d", 6)["u"])
