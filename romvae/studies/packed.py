"""A model as the bytes of its files: it goes to every worker once, is loaded there once, and nothing is unpickled."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from romvae.baselines.model import load_model

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["PackedModel", "forget", "unpacked"]

_loaded: dict[str, Model] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class PackedModel:
    """The files of a saved model.

    Arguments:
        digest: SHA-256 of their names and contents.
        files: Contents by name, relative to the model's folder.
    """

    digest: str
    files: dict[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, model: Model) -> PackedModel:
        """Saves a model and reads the files."""
        with TemporaryDirectory() as folder:
            saved = model.save(Path(folder) / "model")
            found = sorted(path for path in saved.rglob("*") if path.is_file())
            files = {path.relative_to(saved).as_posix(): path.read_bytes() for path in found}
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
        return cls(digest.hexdigest(), files)


def unpacked(packed: PackedModel) -> Model:
    """The model; a process loads it once and keeps it until it is given another one."""
    with _lock:  # the threads of a Dask worker share it
        if packed.digest not in _loaded:
            _loaded.clear()
            with TemporaryDirectory() as folder:
                for name, content in packed.files.items():
                    path = Path(folder, "model", name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                _loaded[packed.digest] = load_model(Path(folder, "model"))
        return _loaded[packed.digest]


def forget() -> None:
    """Lets the model of this process go."""
    with _lock:
        _loaded.clear()
