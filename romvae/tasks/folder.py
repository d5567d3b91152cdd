"""The folder of finished trajectories, beside the output that they are to become.

The work folder of `data.zarr` is `data.zarr.partial`:

| file | holds |
|---|---|
| `ensemble.json` | what is computed, and everything that its values follow from |
| `running.json` | which process works here |
| `00000012.shard` | trajectory 12, as `romvae.tasks.shards` writes it |
| `failed.json` | trajectories that could not be computed: parameters, time, why |
| `error.json` | of simulations: the estimate of the discretisation error, once it is known |
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from romvae.atomic import atomic_file, remove_torn
from romvae.errors import OutputError
from romvae.lock import LOCK
from romvae.tasks.failures import Failure

__all__ = ["WorkFolder"]


class WorkFolder:
    """Where finished trajectories are kept until the output is whole.

    Arguments:
        out: The output.
        command: Which command makes it, for messages.
    """

    def __init__(self, out: Path, command: str = "simulate") -> None:
        self.out, self.command = out, command
        self.path = out.with_name(f"{out.name}.partial")

    def make(self) -> None:
        """Makes the folder.

        Raises:
            OutputError: That cannot be.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be made ({error.strerror}). Choose another path") from error

    def found(self) -> dict[str, Any] | None:
        """What the folder was begun for; None where there is none, or one that was killed as it began."""
        return self._json("ensemble.json")

    def begin(self, facts: Mapping[str, Any], overwrite: bool) -> None:
        """Takes up what an earlier process has left, or begins; the folder is there and held by this process.

        Raises:
            OutputError: It belongs to other work and `overwrite` is off, or is none of romvae's.
        """
        there = self.found()
        remove_torn(self.path)
        for path in self.path.glob("*.writing"):
            path.unlink()
        if there is None and any(path.name != LOCK for path in self.path.iterdir()):
            raise OutputError(
                f"{self.path}: holds no work of romvae {self.command}. Remove it, or choose another --out"
            )
        if there is not None and there != facts:
            if not overwrite:
                raise OutputError(
                    f"{self.path}: was begun with {_difference(there, dict(facts))}. Run that command again to "
                    "complete it, or start anew with --overwrite or by removing the folder"
                )
            self.clear()
        self.put("ensemble.json", facts)

    def clear(self) -> None:
        """Removes what earlier work has left, but for the lock."""
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
