"""The folder that `romvae train` writes, so that every other command needs only its path.

| file | holds |
|---|---|
| `model/` | the ROM: JSON and safetensors with checksums |
| `config.yaml` | the resolved settings; `romvae train DATA --config RUN/config.yaml` repeats the run |
| `data.json` | where the data are, their fingerprint and reader, and which trajectory went into which part |
| `reader.yaml` | the mapping that the data were read with, where one was given |
| `history.json` | losses and seconds per stage |
| `latent.json` | with `latent: auto`: the size of the code that was found, and why |
| `watch/` | with `watch.every`: learning rate, losses and validation bound, the best weights, pictures |
| `ranking.json` | with another model than `vae`: the candidates by the error of their forecasts |
| `candidates/` | while several models are trained: those that are finished |
| `baselines/` | with `--model auto`: the fitted baselines that were not chosen, for `romvae compare` |
| `alarms/` | what the calibrations of `romvae hybrid` found, a file per tolerance |
| `export-torch/`, `export-onnx/` | where `romvae export` was called without `--out`: programs that run without romvae |
| `env.json` | machine, threads and package versions |
| `command.txt` | the command as typed |
| `training.state` | while the training is under way: all that is needed to continue it to the bit |
| `running.json` | while a process trains: which one |
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from romvae.atomic import atomic_file, remove_torn
from romvae.errors import AssumptionWarning, CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["DataRecord", "RunFolder", "fingerprint"]

_HASHED_BYTES = 2**31
_MAPPING = "reader.yaml"


@dataclass(frozen=True)
class DataRecord:
    """Which data a run was made from.

    Arguments:
        path: absolute path of the store, of the first one where there are several.
        fingerprint: of the store's bytes, see `fingerprint`.
        seed: seed of the split.
        trajectories: identifiers of the trajectories in each part.
        reader: layout that the data were read with, or `reader.yaml` in the folder; None: it was recognised.
        more: absolute paths of the other stores, in the order in which their trajectories follow.
    """

    path: str
    fingerprint: str
    seed: int
    trajectories: dict[str, list[int]]
    reader: str | None = None
    more: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """All stores, in their order."""
        return [Path(self.path), *map(Path, self.more)]

    @classmethod
    def of(cls, paths: Path | Sequence[Path], parts: Any, seed: int, reader: str | None = None) -> DataRecord:
        """Record of the store at `paths`, or of several, split into `parts`, as `romvae.split` gives them."""
        from romvae.data.split import PARTS

        trajectories: dict[str, list[int]] = {
            name: [int(i) for i in getattr(parts, name)["trajectory"].values] for name in PARTS
        }
        first, *others = [str(path.resolve()) for path in _several(paths)]
        return cls(first, fingerprint(paths), seed, trajectories, reader, tuple(others))

    def select(self, dataset: xr.Dataset, part: str, source: str = "") -> xr.Dataset:
        """The trajectories of one part, in the order of the record.

        Raises:
            DataError: a trajectory of the part is not in `dataset`.
        """
        wanted = self.trajectories[part]
        found = set(dataset["trajectory"].values.tolist())
        missing = [number for number in wanted if number not in found]
        if missing:
            raise DataError(
                f"{source or self.path}: trajectory {missing[0]} is missing, expected all {len(wanted)} of "
                f"the run's {part} part. Give the data that the run was trained on, or use --split all."
            )
        return dataset.sel(trajectory=wanted)


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder, and its readable parts."""

    path: Path

    @property
    def model(self) -> Path:
        """Folder of the saved ROM."""
        return self.path / "model"

    @property
    def state(self) -> Path:
        """File of the training state while the training is under way."""
        return self.path / "training.state"

    @property
    def watched(self) -> Path:
        """Folder of what was recorded of the training beside its result."""
        return self.path / "watch"

    @property
    def candidates(self) -> Path:
        """Folder of finished models while several are trained."""
        return self.path / "candidates"

    @property
    def baselines(self) -> Path:
        """Folder of fitted baselines that were not chosen."""
        return self.path / "baselines"

    def alarm(
        self, case: str, tolerance: float, burst: int | None, check: int | None, signal: str = "variance"
    ) -> Path:
        """File of what hybrid rollouts found with one tolerance, see `romvae.alarm.Trials`."""
        others = "".join(f"-{name}{value}" for name, value in (("burst", burst), ("check", check)) if value)
        others += "" if signal == "variance" else f"-{signal}"
        return self.path / "alarms" / f"{case}-{tolerance!r}{others}.json"

    @classmethod
    def open(cls, path: Path, finished: bool = True) -> RunFolder:
        """The run at `path`.

        Arguments:
            path: its folder.
            finished: whether the training has to be complete.

        Raises:
            CheckpointError: no such folder, or it holds no run, or none that is complete.
        """
        if not path.exists():
            raise CheckpointError(f"{path}: no such folder. Expected a run that romvae train wrote.")
        if not (path / "data.json").exists():
            raise CheckpointError(f"{path}: data.json is missing, so this is no run of romvae train.")
        if finished and not (path / "model").exists():
            raise CheckpointError(
                f"{path}: model is missing, the training has not finished. Continue it: romvae train --resume {path}"
            )
        return cls(path)

    def opened(self, path: Path | Sequence[Path], reader: str | None = None) -> tuple[xr.Dataset, bool]:
        """Snapshots at `path`, and whether they are the data of this run, byte for byte.

        Arguments:
            path: a store, or a file or folder of another program, or several.
            reader: layout or mapping file of other data; those of the run are read as they were for the training, and
                so are others that are not recognised.
        """
        from romvae.data import open_snapshots

        own = all(each.exists() for each in _several(path)) and fingerprint(path) == self.data().fingerprint
        if reader is not None or own:
            return open_snapshots(path, reader=reader or self.reader()), own
        theirs = self.reader()
        if theirs is None or _recognised(path, theirs):
            return open_snapshots(path), own
        where = ", ".join(map(str, _several(path)))
        try:
            found = open_snapshots(path, reader=theirs)
        except (ConfigError, DataError) as error:
            raise type(error)(
                f"{error} (read with {theirs}, as the data of this run were; --reader NAME reads it otherwise)"
            ) from error
        warnings.warn(
            f"{where}: read with {theirs}, as the data of this run were. --reader NAME reads it otherwise",
            AssumptionWarning,
            stacklevel=2,
        )
        return found, own

    def own_data(self) -> xr.Dataset:
        """The data that this run was trained on.

        Raises:
            DataError: They are not there any more, or were changed.
        """
        paths = self.data().paths
        where = ", ".join(map(str, paths))
        if not all(path.exists() for path in paths):
            raise DataError(f"{where}: the data of this run are not there any more. Put them back.")
        snapshots, own = self.opened(paths)
        if not own:
            raise DataError(f"{where}: are not what this run was trained on any more. Put the data back.")
        return snapshots

    def reader(self) -> str | None:
        """Layout or mapping file that the run's data were read with; None where it was recognised."""
        reader = self.data().reader
        return str(self.path / reader) if reader == _MAPPING else reader

    def begin(self, settings: str, data: DataRecord, command: str, mapping: str | None = None) -> None:
        """Writes what is known before the training starts; `data.json` comes last and makes the folder a run.

        A mapping is copied into the folder: the file that the user gave may change, and the run be moved.

        Arguments:
            settings: resolved settings as YAML.
            data: what the run is made from.
            command: command line that made the run.
            mapping: text of the mapping file that the data were read with, if there is one.
        """
        from romvae.environment import show_versions

        self._write("config.yaml", settings)
        self._write("command.txt", command + "\n")
        self._write("env.json", json.dumps(show_versions(), indent=2) + "\n")
        if mapping is not None:
            self._write(_MAPPING, mapping)
            data = replace(data, reader=_MAPPING)
        self._write("data.json", json.dumps(asdict(data), indent=1) + "\n")

    def record(self, history: dict[str, Any]) -> None:
        """Writes losses and seconds per stage."""
        self._write("history.json", json.dumps(history) + "\n")

    def finish(self) -> None:
        """Removes the training state, once the model is in place, and what a killed process left of one."""
        for file in (self.state, self.state.with_name(self.state.name + ".previous")):
            file.unlink(missing_ok=True)
        remove_torn(self.path)

    def _write(self, name: str, text: str) -> None:
        with atomic_file(self.path / name, overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def data(self) -> DataRecord:
        """Which data the run was made from."""
        from romvae.data.split import PARTS

        record = self._json("data.json")
        try:
            trajectories: dict[str, list[int]] = {
                name: [int(i) for i in record["trajectories"][name]] for name in PARTS
            }
            reader = None if record.get("reader") is None else str(record["reader"])
            return DataRecord(
                str(record["path"]),
                str(record["fingerprint"]),
                int(record["seed"]),
                trajectories,
                reader,
                tuple(map(str, record.get("more", ()))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.path / 'data.json'}: is damaged ({error}). Train the run again.") from None

    def history(self) -> dict[str, Any]:
        """Losses and seconds per stage."""
        return self._json("history.json")

    def latent_size(self) -> dict[str, Any] | None:
        """What `latent: auto` found, as `LatentSize.to_dict` gives it; None where nothing was looked for."""
        return self._json("latent.json") if (self.path / "latent.json").exists() else None

    def keep_latent_size(self, found: dict[str, Any]) -> None:
        """Writes what `latent: auto` found, so that a run that is continued goes on with the same size."""
        self._write("latent.json", json.dumps(found, indent=1) + "\n")

    def ranking(self) -> dict[str, Any] | None:
        """The candidates that were trained, as `Ranking.to_dict` gives them; None where only the ROM was."""
        return self._json("ranking.json") if (self.path / "ranking.json").exists() else None

    def keep_ranking(self, ranking: dict[str, Any]) -> None:
        """Writes which candidates were trained and how good they are."""
        self._write("ranking.json", json.dumps(ranking, indent=1) + "\n")

    def environment(self) -> dict[str, Any]:
        """Machine and package versions of the run."""
        return self._json("env.json")

    def settings(self) -> dict[str, Any]:
        """Resolved settings of the run."""
        from romvae.settings_file import read_settings_file

        try:
            return read_settings_file(self.path / "config.yaml").data
        except ConfigError as error:
            path = self.path / "config.yaml"
            raise CheckpointError(f"{path}: the settings of the run cannot be read. Train the run again.") from error

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read as JSON ({error}). Train the run again.") from None
        if not isinstance(value, dict):
            raise CheckpointError(f"{path}: holds a {type(value).__name__}, expected an object. Train the run again.")
        return value


def _recognised(paths: Path | Sequence[Path], theirs: str) -> bool:
    """Whether files show their layout by themselves, and it is not the one that a run's mapping completes."""
    from romvae.data import open_snapshots, readers
    from romvae.data.mapping import is_mapping, read_mapping

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        try:
            open_snapshots(paths, check=False).close()
        except DataError:
            return not all(each.exists() for each in _several(paths))
        if not is_mapping(theirs) or not readers.foreign(_several(paths)[0]):
            return True
        return readers.layout_name(paths) != read_mapping(theirs).reader


def _several(paths: Path | Sequence[Path]) -> list[Path]:
    return [paths] if isinstance(paths, Path) else list(paths)


def fingerprint(paths: Path | Sequence[Path]) -> str:
    """SHA-256 of a store: of names and contents, or of names and sizes where the contents exceed 2 GiB.

    Several stores have that of their fingerprints, in their order.
    """
    path, *others = _several(paths)
    if others:
        each = [fingerprint(one) for one in (path, *others)]
        return f"{each[0].split(':')[0]}:{hashlib.sha256(' '.join(each).encode()).hexdigest()}"
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    contents = sum(file.stat().st_size for file in files) <= _HASHED_BYTES
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        if contents:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"{'contents' if contents else 'sizes'}:{digest.hexdigest()}"
