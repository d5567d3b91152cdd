"""What memory there is, and what is refused for want of it."""

from __future__ import annotations

import os
import resource
import sys
import warnings
from pathlib import Path

import pytest

from romvae import memory
from romvae.data import open_snapshots, write_snapshots
from romvae.data.unchanged import Stamp
from romvae.errors import DataError, NotEnoughMemoryError
from romvae.memory import available_bytes, require_memory
from romvae.testing import mock_snapshots

linux = pytest.mark.skipif(sys.platform != "linux", reason="what is available is read from /proc")


@linux
def test_what_is_asked_for_is_compared_with_what_there_is():
    available = available_bytes()
    assert available is not None
    assert 0 < available < 2**50
    require_memory("nothing much", 1, "")
    with pytest.raises(NotEnoughMemoryError) as error:
        require_memory("a large field", 10**18, "Make it smaller")
    assert str(error.value).startswith("a large field: needs about 1,000,000,000,000 MB of memory, but ")
    assert str(error.value).endswith(" MB are available. Make it smaller")
    assert error.value.exit_code == 5


@linux
def test_a_limit_on_the_address_space_counts():
    pid = os.fork()
    if pid == 0:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**26,) * 2)
        found = available_bytes()
        # Between the two readings the interpreter may have mapped a little more, never less than nothing.
        os._exit(0 if found is not None and 2**25 < found <= 2**26 + 2**22 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_limit_of_the_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2500\ninactive_file 400\n")
    assert available_bytes() == 2400
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes() != 2400


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_a_store_that_changes_while_it_is_read_is_noticed(tmp_path, suffix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write_snapshots(mock_snapshots(1), tmp_path / f"a.{suffix}")
        ds = open_snapshots(path)
    stamp = Stamp.of(ds, ds.isel(trajectory=[0]), mock_snapshots(1))
    ds["u"].load()
    stamp.check()
    file = path if path.is_file() else next(p for p in (path / "u").rglob("*") if p.is_file())
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(DataError, match=rf"a\.{suffix}: was changed while it was read"):
        stamp.check()
    file.unlink()
    with pytest.raises(DataError, match=r"was (removed|changed) while it was read"):
        stamp.check()
