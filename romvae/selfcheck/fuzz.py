"""Files with random damage: each must give the data it held, or one refusal; never a crash, a hang, other numbers."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from romvae.selfcheck.child import forked
from romvae.selfcheck.hooks import at_step, kill
from romvae.selfcheck.record import Case, require
from romvae.selfcheck.workshop import Workshop

__all__ = ["fuzz_cases", "mutated"]

REFUSED = 3
MEMORY = 2**30


def fuzz_cases(shop: Workshop, quick: bool) -> list[Case]:
    """Cases that go through the kinds of files in turn, 300 in all, fewer if `quick`.

    Stores of every format are opened, checked and packed: `romvae check` has to find what was changed.
    """
    stores = {"HDF5": shop.hdf5, "Zarr": shop.store, "netCDF": shop.netcdf}
    ways = {"": _snapshots, ", checked": _checked, ", packed": _packed}
    kinds = {f"{kind}{way}": (path, read) for way, read in ways.items() for kind, path in stores.items()}
    kinds |= {
        "model": (shop.run / "model", _model),
        "training.state": (_state(shop), _training_state),
        "YAML": (shop.run / "config.yaml", _settings),
    }
    names = list(kinds)
    expected: dict[str, str] = {}
    return [
        _case(shop, number, names[number % len(names)], *kinds[names[number % len(names)]], expected)
        for number in range(25 if quick else 300)
    ]


def _case(
    shop: Workshop, number: int, kind: str, original: Path, read: Callable[[Path], str], expected: dict[str, str]
) -> Case:
    def run() -> str:
        if kind not in expected:
            code, expected[kind] = _digest(shop, original, read)
            require(code == 0, f"the undamaged {original.name} is refused: {expected[kind]}")
        folder = shop.new()
        path = folder / original.name
        target = _copy(original, path)
        rng = random.Random(number)  # noqa: S311
        damaged = target if target.is_file() else rng.choice(sorted(p for p in target.rglob("*") if p.is_file()))
        content, what = mutated(damaged.read_bytes(), rng)
        damaged.write_bytes(content)
        code, found = _digest(shop, path, read)
        shutil.rmtree(folder)
        where = f"{damaged.relative_to(folder)}: {what}"
        if code == REFUSED:
            require("\n" not in found and bool(found), f"{where}: refused in several lines or none: {found}")
            return f"{where}: refused"
        if kind == "YAML":
            return f"{where}: read as other valid settings or the same"
        require(found == expected[kind], f"{where}: other data were read")
        return f"{where}: the same data"

    return Case(f"{kind} {number}", f"damaged {kind}", "the same data or one refusal", run)


def _copy(original: Path, path: Path) -> Path:
    return Path(shutil.copytree(original, path) if original.is_dir() else shutil.copy(original, path))


def _digest(shop: Workshop, path: Path, read: Callable[[Path], str]) -> tuple[int, str]:
    """Exit status of a child that reads a file, and what it found: a digest, or the text of the refusal."""
    from romvae.errors import RomvaeError

    def work() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                text, code = read(path), 0
            except RomvaeError as error:
                text, code = str(error), REFUSED
        os.write(1, text.encode("utf-8", "replace"))
        return code

    ended = forked(work, timeout=20, memory=MEMORY)
    if ended.code is not None and ended.code < 0:
        require(False, f"{signal.Signals(-ended.code).name} while reading {path.name}")
    require(ended.code is not None, "still reading after 20 s")
    require(ended.code in (0, REFUSED), f"no refusal but a traceback: {ended.err.strip()[-300:]}")
    return ended.code or 0, ended.out


def mutated(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Bytes with one kind of damage, and its name."""
    if not content:
        return b"\0", "a byte in an empty file"
    raw, at = bytearray(content), rng.randrange(len(content))
    length = min(len(raw) - at, rng.choice((1, 4, 16, 64, 512)))
    kind = rng.choice(("flip", "flip", "random", "zero", "cut", "remove", "insert", "repeat"))
    if kind == "flip":
        raw[at] ^= 1 << rng.randrange(8)
    elif kind == "random":
        raw[at : at + length] = rng.randbytes(length)
    elif kind == "zero":
        raw[at : at + length] = bytes(length)
    elif kind == "cut":
        del raw[at:]
    elif kind == "remove":
        del raw[at : at + length]
    elif kind == "insert":
        raw[at:at] = rng.randbytes(length)
    else:
        raw[at:at] = raw[at : at + length]
    return bytes(raw), f"{kind} at byte {at} of {len(content)}"


def _state(shop: Workshop) -> Path:
    """A training state whose predecessor is gone."""
    run = shop.new() / "run"
    shop.train(run, hook=at_step(12, kill))
    path = shop.new() / "training.state"
    shutil.copy(run / "training.state", path)
    return path


def _arrays(named: Iterable[tuple[str, Any]]) -> str:
    digest = hashlib.sha256()
    for name, values in named:
        digest.update(f"{name} {values.shape} {values.dtype}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _snapshots(path: Path) -> str:
    """Digest of values, coordinates, dims and all attributes: one that changed has to be refused as well."""
    from romvae.data import open_snapshots

    with open_snapshots(path) as ds:
        names = sorted(map(str, ds.variables))
        facts = [(name, ds[name].dims, sorted(ds[name].attrs.items())) for name in names]
        return _arrays((n, ds[n].values) for n in names) + str(facts) + str(sorted(ds.attrs.items()))


def _checked(path: Path) -> str:
    """The digest of a store in which an audit finds nothing."""
    from romvae.data.audit import audit
    from romvae.errors import DataError

    for finding in audit(path).findings:
        raise DataError(finding.text(str(path)))
    return _snapshots(path)


def _packed(path: Path) -> str:
    """The digest of the store that is packed from another."""
    from romvae.data.pack import pack

    return _snapshots(pack([path], path.parent / f"{path.name}-packed.zarr"))


def _model(path: Path) -> str:
    from romvae.rom import ROM

    rom = ROM.load(path)
    return _arrays((name, value.numpy()) for name, value in rom.state_arrays().items()) + rom.description()


def _training_state(path: Path) -> str:
    from romvae.training.session import read_state

    state = read_state(path)
    rest = f"{state.stage} {state.step} {state.settings} {state.history} {state.optimiser['schedule']}"
    return _arrays((name, value.numpy()) for name, value in state.model.items()) + rest


def _settings(path: Path) -> str:
    from romvae.settings import TrainSettings, to_yaml
    from romvae.settings_file import load_settings

    return to_yaml(load_settings(TrainSettings, path))
