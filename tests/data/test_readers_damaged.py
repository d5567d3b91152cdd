"""Files of every layout with flipped bytes or a missing end: each gives data or one line that refuses it.

Without checksums a flipped value cannot be seen; that nothing else happens is what is tried here. Every file is opened
in a process of its own, as HDF5's C library itself crashes or hangs on a few damaged files that carry no checksums of
their structure (twice in 1400 files of other seeds); those end here by a limit of processor time, and are counted.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest

from romvae.data import open_snapshots
from romvae.errors import RomvaeError

from .foreign_files import LAYOUTS

FILES = 200
SECONDS = 10  # of processor time; sound files take less than a tenth of one


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


def _opened(path: Path, reader: str | None) -> str:
    """What becomes of one file."""
    warnings.simplefilter("ignore")
    try:
        with open_snapshots(path, reader=reader) as ds:
            ds.load()
        return "data"
    except RomvaeError as error:
        text = str(error)
        return "refused" if "\n" not in text and str(path.parent) in text else f"unclear: {text}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def _in_a_child(path: Path, reader: str | None, answer: Path) -> str:
    import resource

    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.close(2)  # what Python says of a crash
        answer.write_text(_opened(path, reader))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return answer.read_text() if status == 0 else "C library"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and limits of processor time")
def test_damaged_files_give_data_or_one_line(tmp_path: Path) -> None:
    draw = random.Random(0)
    sound = {}
    for number, (layout, (name, write)) in enumerate(LAYOUTS.items()):
        folder = tmp_path / f"sound{number}"
        folder.mkdir()
        sound[layout] = (folder / name, write(folder / name).layout)
    outcome: Counter[str] = Counter()
    for number in range(FILES):
        source, reader = sound[draw.choice(list(sound))]
        folder = tmp_path / "damaged"
        folder.mkdir()
        path = folder / source.name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
        _damage(path, draw)
        outcome[_in_a_child(path, reader if number % 2 else None, tmp_path / "answer")] += 1
        shutil.rmtree(folder)
    print(dict(outcome))
    assert set(outcome) <= {"data", "refused", "C library"}, outcome
    assert outcome["C library"] <= FILES // 100
    assert min(outcome["data"], outcome["refused"]) > FILES // 10  # both happen, or nothing was tried
