"""300 files of every layout with flipped bytes or a missing end: each gives data or one line that refuses it.

Foreign layouts carry no checksums as a rule, so that a flipped value cannot be seen in them (`romvae pack` gives them
some); that nothing else happens is what is tried here. The files are opened in a process of its own, as HDF5's C
library crashes or hangs on a few damaged files: `romvae.data.probe` is there to make one line of that, so that the
process has to live through all of them. 400 files of other seeds ended in no other way.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import xarray as xr

from romvae.data import open_snapshots, probe
from romvae.errors import RomvaeError

from .foreign_files import LAYOUTS

FILES = 300
SECONDS = 120.0  # of wall-clock; sound files take less than a tenth of one
ENDINGS = ("same data", "other values", "refused")


def _damage(path: Path, draw: random.Random) -> None:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    file = draw.choice(files)
    raw = bytearray(file.read_bytes())
    if draw.random() < 0.2:
        raw = raw[: draw.randrange(len(raw))]
    else:
        end = len(raw) if draw.random() < 0.5 else min(len(raw), 4000)  # half of them where the structure is
        for _ in range(draw.choice([1, 1, 2, 8])):
            raw[draw.randrange(end)] = draw.randrange(256)
    file.write_bytes(raw)


def _digest(ds: xr.Dataset) -> str:
    """Of all values and what they are called."""
    digest = hashlib.sha256()
    for name in sorted({*map(str, ds.variables)} - {"source_file"}):
        variable = ds.variables[name]
        digest.update(f"{name} {variable.dims} {variable.shape} {variable.dtype.str}".encode())
        digest.update(variable.values.tobytes())
    return digest.hexdigest()


def _opened(path: Path, reader: str | None) -> str:
    """What becomes of one file: the digest of its data, `refused`, or what else happened."""
    warnings.simplefilter("ignore")
    try:
        with open_snapshots(path, reader=reader) as ds:
            return _digest(ds.load())
    except RomvaeError as error:
        text = str(error)
        return "refused" if "\n" not in text and str(path.parent) in text else f"unclear: {text}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def _serve(requests: Connection) -> None:
    probe.SECONDS = SECONDS / 4
    while (asked := requests.recv()) is not None:
        requests.send(_opened(*asked))


class _Opener:
    """A process that opens files; another one takes its place where a file has ended it."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self.requests, theirs = self.context.Pipe()
        self.process = self.context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def opened(self, path: Path, reader: str | None) -> str:
        self.requests.send((path, reader))
        try:
            if self.requests.poll(SECONDS):
                return str(self.requests.recv())
            found = "hangs"
        except EOFError:
            self.process.join()
            found = f"ends the process ({self.process.exitcode})"
        self.process.kill()
        self.process.join()
        self._start()
        return found

    def close(self) -> None:
        self.requests.send(None)
        self.process.join()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a file that is open can be removed on Linux only")
def test_damaged_files_give_data_or_one_line(tmp_path: Path) -> None:
    draw = random.Random(0)
    sound = {}
    for number, (layout, (name, write)) in enumerate(LAYOUTS.items()):
        folder = tmp_path / f"sound{number}"
        folder.mkdir()
        reader = write(folder / name).layout
        sound[layout] = (folder / name, reader, _opened(folder / name, reader))
    outcome: dict[str, Counter[str]] = {layout: Counter() for layout in LAYOUTS}
    opener = _Opener()
    for number in range(FILES):
        layout = draw.choice(list(sound))
        source, reader, digest = sound[layout]
        folder = tmp_path / "damaged"
        folder.mkdir()
        path = folder / source.name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
        _damage(path, draw)
        found = opener.opened(path, reader if number % 2 else None)
        if len(found) == len(digest) and " " not in found:
            found = "same data" if found == digest else "other values"
        outcome[layout][found] += 1
        shutil.rmtree(folder)
    opener.close()
    print("\n" + _table(outcome))
    total = sum(outcome.values(), Counter())
    assert set(total) <= set(ENDINGS), total
    assert min(total["same data"], total["refused"]) > FILES // 10  # both happen, or nothing was tried


def _table(outcome: Mapping[str, Counter[str]]) -> str:
    """How many files of each layout ended how."""
    rows = [(layout, *(counts[ending] for ending in ENDINGS), _others(counts)) for layout, counts in outcome.items()]
    total = ("all", *(sum(row[k] for row in rows) for k in range(1, 5)))
    words = [("layout", *ENDINGS, "crash, hang, unclear"), *rows, total]
    return "\n".join(f"{row[0]:<36}" + "".join(f"{entry!s:>22}" for entry in row[1:]) for row in words)


def _others(counts: Counter[str]) -> int:
    return sum(counts.values()) - sum(counts[ending] for ending in ENDINGS)
