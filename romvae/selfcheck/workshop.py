"""Tiny data, a tiny run that was never disturbed, and small or read-only disks to work on."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from romvae.selfcheck.child import Ended, Hook, forked, romvae
from romvae.selfcheck.hooks import FAILPOINTS, counting
from romvae.selfcheck.record import NotHeldError, SkippedError, require

__all__ = ["SETTINGS", "Disk", "Workshop", "contents", "mounted", "weights"]

SETTINGS = [
    *("--model.latent", "3", "--model.channels", "4", "--model.hidden", "8", "--model.members", "2"),
    *("--training.vae-steps", "8", "--training.variance-steps", "5", "--training.dynamics-steps", "7"),
    *("--training.batch-size", "4", "--training.threads", "1"),
]


@dataclass(frozen=True)
class Disk:
    """A folder on a disk with little room, and a hook that a child has to call to feel it."""

    folder: Path
    limit: Hook
    real: bool


class Workshop:
    """A temporary folder with what every check needs; made when it is first used.

    Arguments:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def new(self) -> Path:
        """An empty folder."""
        self._count += 1
        path = self.folder / f"case-{self._count}"
        path.mkdir()
        return path

    @cached_property
    def store(self) -> Path:
        """A Zarr store of 12 trajectories."""
        return self._write("data.zarr")

    @cached_property
    def hdf5(self) -> Path:
        """The same as HDF5."""
        return self._write("data.h5")

    @cached_property
    def netcdf(self) -> Path:
        """The same as netCDF."""
        return self._write("data.nc")

    def _write(self, name: str) -> Path:
        path = self.folder / name

        def write() -> None:
            from romvae.data import write_snapshots
            from romvae.testing import mock_snapshots

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write_snapshots(mock_snapshots(1, trajectories=12, times=8), path)

        ended = forked(write)
        require(ended.code == 0, f"the data could not be written: {ended.brief}")
        return path

    @cached_property
    def run(self) -> Path:
        """A run that nothing disturbed; how often it passed each failpoint is in `passed`."""
        path, passed = self.folder / "straight", self.folder / "passed.json"
        words = self.training(path)  # here, so that the data are made once and not in the child

        def train() -> int:
            from romvae import cli

            counts: dict[str, int] = {}
            counting(counts)()
            code = cli.main(words)
            passed.write_text(json.dumps(counts), encoding="utf-8")
            return code

        ended = forked(train)
        require(ended.code == 0, f"an undisturbed training failed: {ended.brief}")
        return path

    @cached_property
    def passed(self) -> dict[str, int]:
        """How often an undisturbed training passes each failpoint."""
        if not self.run.is_dir():
            raise NotHeldError("the undisturbed run is gone.")
        counts = json.loads((self.folder / "passed.json").read_text(encoding="utf-8"))
        return {name: int(counts[name]) for name in FAILPOINTS}

    def training(self, out: Path, *more: object, store: Path | None = None) -> list[str]:
        """Words of a small training that writes its state at every step."""
        words = ["train", store or self.store, "--out", out, "--checkpoint-every", 0, "-q", *SETTINGS, *more]
        return [str(word) for word in words]

    def train(self, out: Path, *more: object, hook: Hook | None = None, store: Path | None = None) -> Ended:
        """Runs a small training in a child."""
        return romvae(*self.training(out, *more, store=store), hook=hook)

    def resumes_exactly(self, out: Path) -> None:
        """Continues a stopped run and compares it with the undisturbed one.

        Raises:
            NotHeldError: It cannot be continued, or weights or losses differ.
        """
        if (out / "model").exists():  # stopped after the end
            ended = romvae("train", "--resume", out, "-q")
            require(ended.code == 0 and "has finished" in ended.out, f"a finished run: {ended.brief}")
        elif (out / "data.json").exists():
            ended = romvae("train", "--resume", out, "--checkpoint-every", 0, "-q")
            require(ended.code == 0, f"the continuation failed: {ended.brief}")
        else:  # stopped before there was anything to continue
            ended = self.train(out, "--overwrite")
            require(ended.code == 0, f"starting again failed: {ended.brief}")
        require(weights(out) == weights(self.run), "the weights differ from those of the undisturbed training")
        curves = [json.loads((run / "history.json").read_text(encoding="utf-8"))["curves"] for run in (out, self.run)]
        require(curves[0] == curves[1], "the losses differ from those of the undisturbed training")
        found, expected = (sorted(p.name for p in run.iterdir()) for run in (out, self.run))
        require(found == expected, f"the run folder holds {found}, expected {expected}")

    @contextmanager
    def small_disk(self, size: int = 2**20) -> Iterator[Disk]:
        """A disk of `size` bytes: a real one as root, otherwise a limit on the size of each file."""
        folder = self.new()
        try:
            with mounted(folder, f"size={size}"):
                yield Disk(folder, lambda: None, real=True)
        except SkippedError:
            yield Disk(folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 64, size // 64)), real=False)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mounts a tmpfs on a folder.

    Raises:
        SkippedError: This process may not mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = 1 if "ro" in options.split(",") else 0  # MS_RDONLY
    data = ",".join(word for word in options.split(",") if word != "ro").encode()
    if libc.mount(b"romvae", os.fsencode(folder), b"tmpfs", flags, data) != 0:
        raise SkippedError(f"a disk cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH


def weights(run: Path) -> str:
    """SHA-256 of a run's weights."""
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
