"""Real processes that train together, really stopped and killed: one error, none left behind, and on to the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from romvae.data import write_snapshots
from romvae.testing import mock_snapshots

pytestmark = pytest.mark.slow

SETTINGS = [
    *("--model.latent", "3", "--model.channels", "4", "--model.hidden", "8", "--model.members", "2"),
    *("--training.vae-steps", "400", "--training.variance-steps", "5", "--training.dynamics-steps", "5"),
    *("--training.batch-size", "5", "--devices", "2"),
]


def _romvae(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "romvae", *map(str, words), "--checkpoint-every", "0"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _members(process: subprocess.Popen[str]) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_killed_and_terminated_two_processes_end_together_and_another_number_continues(tmp_path):
    store, run = tmp_path / "data.zarr", tmp_path / "run"
    write_snapshots(mock_snapshots(1, trajectories=12, times=8), store)
    for words, number, code, message in (
        ([store, "--out", run, *SETTINGS], signal.SIGKILL, 7, "process 1 of 2 was ended by SIGKILL"),
        (["--resume", run], signal.SIGTERM, 143, "training stopped by SIGTERM; the state is in"),
    ):
        before = (run / "training.state").stat().st_mtime_ns if run.exists() else 0
        process = _romvae("train", *words)
        while process.poll() is None and _written(run) <= before:
            time.sleep(0.02)
        members = _members(process)
        os.kill(members[1] if number == signal.SIGKILL else process.pid, number)
        _, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        assert err.count("error: ") == 1
        assert message in err
        assert f"Continue with: romvae train --resume {run}" in err
        assert "Traceback" not in err
        assert not (run / "running.json").exists()
        for pid in members:
            assert not Path(f"/proc/{pid}").exists()
    process = _romvae("train", "--resume", run, "--devices", "1")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "continuing with 1 processes what was begun with 2" in err
    assert all(np.isfinite(value).all() for value in load_file(run / "model" / "model.safetensors").values())


def _written(run: Path) -> int:
    state = run / "training.state"
    return state.stat().st_mtime_ns if state.exists() else 0
