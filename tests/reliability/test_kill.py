"""Real processes, really killed: whatever the moment, a training continues to the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from romvae.data import write_snapshots
from romvae.testing import mock_snapshots

pytestmark = pytest.mark.slow

SETTINGS = [
    *("--model.latent", "3", "--model.channels", "4", "--model.hidden", "8", "--model.members", "2"),
    *("--training.vae-steps", "60", "--training.variance-steps", "20", "--training.dynamics-steps", "60"),
    *("--training.batch-size", "4", "--training.threads", "1"),
]


def _romvae(*words: object) -> list[str]:
    return [sys.executable, "-m", "romvae", *map(str, words)]


def _weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("kill") / "data.zarr"
    return write_snapshots(mock_snapshots(1, trajectories=12, times=8), path)


@pytest.fixture(scope="module")
def straight(store) -> tuple[str, str]:
    run = store.parent / "straight"
    subprocess.run(_romvae("train", store, "--out", run, *SETTINGS), check=True, capture_output=True)
    return _weights(run), (run / "history.json").read_text()


def _start(store: Path, run: Path) -> subprocess.Popen[bytes]:
    words = ["--resume", run] if (run / "data.json").exists() else [store, "--out", run, "--overwrite", *SETTINGS]
    command = _romvae("train", *words, "--checkpoint-every", "0")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments_it_ends_in_the_same_bytes(store, straight, tmp_path, seed):
    rng, run, kills = random.Random(seed), tmp_path / "run", 0
    for _ in range(30):
        process = _start(store, run)
        state = run / "training.state"
        # Start-up takes seconds of which nothing is interesting: wait for the training, then a random while.
        while process.poll() is None and not (state.exists() or (run / "model").exists()):
            time.sleep(0.01)
        wait = rng.uniform(0.0, 0.5) if kills < 3 else 60.0
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0, process.stderr and process.stderr.read()
        break
    assert kills >= 1
    assert _weights(run) == straight[0]
    assert sorted(p.name for p in run.iterdir()) == [
        "command.txt",
        "config.yaml",
        "data.json",
        "env.json",
        "history.json",
        "model",
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_with_its_exit_code_and_the_command_that_continues(store, straight, tmp_path, number, code):
    run = tmp_path / "run"
    process = _start(store, run)
    while process.poll() is None and not (run / "training.state").exists():
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"romvae train --resume {run}" in err.decode()
    assert "Traceback" not in err.decode()
    assert not (run / "running.json").exists()
    subprocess.run(_romvae("train", "--resume", run), check=True, capture_output=True)
    assert _weights(run) == straight[0]
