"""A file that crashes or hangs the HDF5 library becomes one line; sound files and romvae's own pass."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from romvae.cli import main
from romvae.data import open_snapshots, probe, readers, write_snapshots
from romvae.errors import DataError
from romvae.testing import mock_snapshots

STAND_IN = """
import os, signal, sys, time
for line in sys.stdin:
    name = bytes.fromhex(line).decode().rsplit("/", 1)[-1]
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("idle") and not os.path.exists(line.strip()[-40:]):
        open(line.strip()[-40:], "w").close()
        os.kill(os.getpid(), signal.SIGALRM)
    print(flush=True)
"""


@pytest.fixture
def child(monkeypatch):
    """A child of this test alone."""
    own = probe._Child()
    monkeypatch.setattr(probe, "_CHILD", own)
    yield own
    own.close()


def _foreign(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["tensor"] = np.random.default_rng(0).random((3, 5, 8), dtype="f4")
        file["x-coordinate"] = np.arange(8.0)
        file["t-coordinate"] = np.arange(6.0)
    return path


@pytest.fixture
def stand_in(child, monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "_WALK", STAND_IN)
    monkeypatch.chdir(tmp_path)
    return child


@pytest.mark.parametrize("reader", [None, "pdebench"])
def test_a_crash_is_one_line_and_the_next_file_is_read(stand_in, tmp_path, reader):
    with pytest.raises(DataError, match=r"crash.h5: cannot be read: HDF5's own library crashed on it \(SIGSEGV\)"):
        open_snapshots(_foreign(tmp_path / "crash.h5"), reader=reader)
    with open_snapshots(_foreign(tmp_path / "sound.h5"), reader=reader) as ds:
        assert ds.sizes["time"] == 5


def test_a_hang_is_one_line(stand_in, monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "SECONDS", 1.0)
    with pytest.raises(DataError, match=r"hang.h5: cannot be read: .* did not come to an end within 1 s, so its"):
        readers.foreign(_foreign(tmp_path / "hang.h5"))
    assert stand_in.process is None  # nothing is left behind


def test_a_child_that_had_gone_home_is_started_again(stand_in, tmp_path):
    assert readers.foreign(_foreign(tmp_path / "idle.h5"))


def test_the_exit_code_is_that_of_bad_data(stand_in, tmp_path, capsys):
    assert main(["info", str(_foreign(tmp_path / "crash.h5"))]) == 3
    assert "SIGSEGV" in capsys.readouterr().err


def test_stores_of_our_own_are_not_probed(child, tmp_path):
    data = mock_snapshots(1)
    for name in ("a.h5", "a.nc", "a.zarr"):
        with open_snapshots(write_snapshots(data, tmp_path / name)) as ds:
            assert ds.sizes["trajectory"] == 8
    assert child.process is None


def test_one_child_serves_all_files_and_looks_at_each_once(child, tmp_path):
    for name in ("b.h5", "c.h5", "b.h5"):
        path = tmp_path / name
        assert readers.foreign(path if path.exists() else _foreign(path))
    first = child.process
    assert first is not None
    assert first.poll() is None
    assert readers.foreign(_foreign(tmp_path / "d.h5"))
    assert child.process is first
