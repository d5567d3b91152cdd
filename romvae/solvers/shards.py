"""Finished trajectories on disk, a file each, beside the store that they are to become.

The work folder of `data.zarr` is `data.zarr.partial`:

| file | holds |
|---|---|
| `ensemble.json` | what is simulated: case, number, seed, design, versions, a digest of the first and last trajectory |
| `running.json` | which process works here |
| `00000012.shard` | trajectory 12: a line with the SHA-256 of the rest, a line of JSON, then its float32 values |
| `failed.json` | trajectories that could not be solved: parameters, time, why |
| `error.json` | the estimate of the discretisation error, once it is known |
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from romvae.atomic import atomic_file, remove_torn
from romvae.errors import OutputError
from romvae.lock import LOCK
from romvae.solvers.blocks import Ensemble, Failure, Row
from romvae.version import __version__

__all__ = ["DamagedShardError", "Shard", "ShardArray", "WorkFolder", "manifest", "put_row"]

_READ = 2**20
_DTYPE = np.dtype("<f4")


class DamagedShardError(Exception):
    """A shard is not what was written."""

    def __init__(self, index: int, why: str) -> None:
        self.index = index
        super().__init__(f"trajectory {index}: {why}")


@dataclass(frozen=True)
class Shard:
    """A shard that was found whole: where its values begin, and what belongs to them."""

    path: Path
    index: int
    offset: int
    shape: tuple[int, ...]
    parameters: dict[str, float]
    split: str | None

    @classmethod
    def read(cls, path: Path) -> Shard:
        """Reads the file once, in small pieces, and compares its checksum.

        Raises:
            DamagedShardError: It is cut off or changed.
        """
        index = int(path.stem)
        try:
            with path.open("rb") as file:
                expected = file.readline(80).strip()
                found = hashlib.sha256()
                head = file.readline(_READ)
                found.update(head)
                while piece := file.read(_READ):
                    found.update(piece)
                offset = 65 + len(head)
        except OSError as error:
            raise DamagedShardError(index, f"cannot be read ({error.strerror})") from error
        if expected != found.hexdigest().encode():
            raise DamagedShardError(index, "its checksum is wrong")
        about = json.loads(head)
        if about["trajectory"] != index:
            raise DamagedShardError(index, f"it is trajectory {about['trajectory']}")
        return cls(path, index, offset, tuple(about["shape"]), about["parameters"], about["split"])

    def values(self, field: int, start: int, stop: int) -> NDArray[np.float32]:
        """The stored times `start` to `stop` of one field, `(time, *space)`."""
        snapshot = int(np.prod(self.shape[2:]))
        begin = (field * self.shape[1] + start) * snapshot
        wanted = (stop - start) * snapshot
        with self.path.open("rb") as file:
            found = np.fromfile(file, _DTYPE, wanted, offset=self.offset + begin * _DTYPE.itemsize)
        if found.size < wanted:
            raise DamagedShardError(self.index, "it is cut off")
        return found.reshape(stop - start, *self.shape[2:])


def put_row(folder: Path, row: Row) -> None:
    """Writes a shard under a temporary name and renames it.

    It is not flushed to the disk: after a power cut the checksum tells what has arrived.
    """
    about = {"trajectory": row.index, "shape": row.u.shape, "parameters": row.parameters, "split": row.split}
    head = (json.dumps(about) + "\n").encode()
    values = np.ascontiguousarray(row.u, dtype=_DTYPE)
    checksum = hashlib.sha256(head)
    checksum.update(values.data)
    path = folder / f"{row.index:08d}.shard"
    temporary = path.with_suffix(f".{uuid.uuid4().hex[:12]}.writing")  # machines that share the disk share numbers
    try:
        with temporary.open("wb") as file:
            file.write(checksum.hexdigest().encode() + b"\n" + head)
            file.write(values.data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}). The trajectories that are finished are kept in {folder}: "
            "free some space and run the same command again"
        ) from error


def manifest(ensemble: Ensemble) -> dict[str, Any]:
    """Everything that the values follow from; what two of them differ in is what is different."""
    case, first, last = ensemble.case, ensemble.draw(0), ensemble.draw(ensemble.n - 1)
    digest = hashlib.sha256(np.array(case.times).tobytes())
    for draw in (first, last):
        digest.update(draw.u0.tobytes())
        digest.update(json.dumps([dict(draw.solver.parameters), dict(draw.parameters), draw.split]).encode())
    for axis in first.solver.grid.axes:
        digest.update(np.array(axis.coordinates).tobytes())
    return {
        "format": 1,
        "romvae": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "case": case.name,
        "n": ensemble.n,
        "seed": ensemble.seed,
        "design": ensemble.design,
        "solver": f"{type(first.solver).__module__}.{type(first.solver).__qualname__}",
        "solver_settings": json.loads(json.dumps(first.solver.settings)),
        "digest": digest.hexdigest(),
    }


class WorkFolder:
    """Where finished trajectories are kept until the store is whole.

    Arguments:
        out: The store.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out.with_name(f"{out.name}.partial")

    def found(self) -> dict[str, Any] | None:
        """What the folder was begun for; None where there is none, or one that was killed as it began."""
        return self._json("ensemble.json")

    def begin(self, facts: Mapping[str, Any], overwrite: bool) -> None:
        """Takes up what an earlier process has left, or begins; the folder is there and held by this process.

        Raises:
            OutputError: It belongs to another simulation and `overwrite` is off, or is none of romvae's.
        """
        there = self.found()
        remove_torn(self.path)
        for path in self.path.glob("*.writing"):
            path.unlink()
        if there is None and any(path.name != LOCK for path in self.path.iterdir()):
            raise OutputError(f"{self.path}: holds no work of romvae simulate. Remove it, or choose another --out")
        if there is not None and there != facts:
            if not overwrite:
                raise OutputError(
                    f"{self.path}: was begun with {_difference(there, dict(facts))}. Run that command again to "
                    "complete it, or start anew with --overwrite or by removing the folder"
                )
            self.clear()
        self.put("ensemble.json", facts)

    def clear(self) -> None:
        """Removes what an earlier simulation has left, but for the lock."""
        for path in self.path.iterdir():
            if path.suffix in (".shard", ".writing") or path.name in ("failed.json", "error.json"):
                path.unlink()

    def shards(self) -> Iterator[Path]:
        """The files of finished trajectories."""
        return iter(sorted(self.path.glob("[0-9]*.shard")))

    def kept_bytes(self) -> int:
        """Size of the finished trajectories."""
        return sum(path.stat().st_size for path in self.shards())

    def failures(self) -> list[Failure]:
        """The trajectories that failed when they were last tried."""
        return [Failure(**entry) for entry in self._json("failed.json") or []]

    def put_failures(self, failures: Sequence[Failure]) -> None:
        """Keeps the failures, or forgets them where there are none."""
        if failures:
            self.put("failed.json", [asdict(failure) for failure in failures])
        else:
            (self.path / "failed.json").unlink(missing_ok=True)

    def error(self) -> dict[str, Any] | None:
        """The estimate of the discretisation error, if it is known, and for which trajectories it was made."""
        return self._json("error.json")

    def put(self, name: str, content: Any) -> None:
        """Writes a JSON file."""
        with atomic_file(self.path / name, overwrite=True) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def remove(self) -> None:
        """Removes all of it, under another name first: half of a work folder could not be told from a whole one."""
        aside = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex[:12]}{self.path.suffix}")
        os.replace(self.path, aside)
        shutil.rmtree(aside)

    def remove_if_empty(self) -> None:
        """Leaves nothing behind where nothing was finished."""
        if self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {LOCK, "ensemble.json"}:
            self.remove()

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Such as `seed 0 (now 1)`."""
    keys = [key for key in here if there.get(key) != here[key]]
    named = [key for key in keys if key != "digest"]
    if not named:
        return "other initial fields, parameters, times or grid of the same case"
    return ", ".join(f"{key} {there.get(key)} (now {here[key]})" for key in named)


class ShardArray(BackendArray):
    """One field of all trajectories, `(trajectory, time, *space)`, read from the shards when it is used.

    Arguments:
        shards: In the order of the trajectories.
        field: Which of the solver's fields.
    """

    def __init__(self, shards: Sequence[Shard], field: int) -> None:
        self.shards, self.field = shards, field
        self.shape = (len(shards), *shards[0].shape[1:])
        self.dtype = np.dtype(np.float32)

    @property
    def lazy(self) -> indexing.LazilyIndexedArray:
        """Wrapped as the data of a variable: values stay on disk."""
        return indexing.LazilyIndexedArray(self)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[np.float32]:
        which, times, *space = key
        rows = np.arange(len(self.shards))[which]
        steps = np.arange(self.shape[1])[times]
        if np.ndim(rows) == 0:
            return self._row(self.shards[int(rows)], steps, tuple(space))
        if not len(rows):
            return np.empty(self.shape, self.dtype)[tuple(key)]
        return np.stack([self._row(self.shards[i], steps, tuple(space)) for i in rows.tolist()])

    def _row(self, shard: Shard, steps: Any, space: tuple[Any, ...]) -> NDArray[np.float32]:
        if np.ndim(steps) == 0:
            return np.asarray(shard.values(self.field, int(steps), int(steps) + 1)[0][space])
        if not len(steps):
            return np.empty(self.shape[1:], self.dtype)[(steps, *space)]
        low, high = int(steps.min()), int(steps.max()) + 1
        return np.asarray(shard.values(self.field, low, high)[(steps - low, *space)])
