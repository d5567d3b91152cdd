"""How fast snapshots come from a file, beside a plain copy of memory measured in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
import zarr

from romvae.canonical import TIME, TRAJECTORY, fields_of
from romvae.data.source import SnapshotSource
from romvae.data.store import format_of, open_snapshots
from romvae.errors import DataError
from romvae.statistics import field_statistics

__all__ = ["measure"]

_BLOCK_BYTES = 2**23
_RANDOM = 64
_TURNS = 8


def measure(path: Path | str, seconds: float = 1.0, seed: int = 0, reader: str | Path | None = None) -> dict[str, Any]:
    """Reads random snapshots, blocks and everything for the statistics, each for about `seconds`, in turns.

    The file is read once before, so that a file smaller than the memory is measured from the disk cache: what is
    measured is the cost of reading, and not the disk. Time is that of the process (user and system); the wall clock
    stands beside it. Snapshots are read on one thread.

    Arguments:
        path: Anything that `open_snapshots` reads.
        seconds: Wall-clock per measurement.
        seed: Of the choice of snapshots.
        reader: Layout of the file, or a mapping file; None recognises it.

    Returns:
        JSON types: `rows`, each with `what`, `MB_per_s` and `MB_per_cpu_s`; how the fields are read; ratios.
    """
    with open_snapshots(path, check=False, reader=reader) as ds:
        names = fields_of(ds)
        source = SnapshotSource(ds, names, str(path))
        rng = np.random.default_rng(seed)
        picks = rng.integers(0, source.snapshots, _RANDOM)
        block = max(1, min(source.snapshots, _BLOCK_BYTES // source.snapshot_bytes))
        starts = rng.integers(0, source.snapshots - block + 1, _RANDOM)
        one = np.empty((1, *source.shape), source.dtype)
        many = np.empty((block, *source.shape), source.dtype)
        memory = np.empty((min(_RANDOM, source.snapshots) * block, *source.shape), source.dtype)[: 16 * block]
        memory[:] = 1
        batch = np.empty((block, *source.shape), source.dtype)
        in_memory = rng.integers(0, len(memory), (_RANDOM, block))
        _warm(source, many)
        works: dict[str, tuple[int, Callable[[int], object]]] = {
            "copy of memory": (batch.nbytes, lambda k: np.copyto(batch, memory[:block])),
            "random snapshots": (source.snapshot_bytes, lambda k: source.read_block(picks[k], picks[k] + 1, one)),
            "blocks": (many.nbytes, lambda k: source.read_block(starts[k], starts[k] + block, many)),
            "batches from memory": (batch.nbytes, lambda k: memory.take(in_memory[k], 0, out=batch, mode="clip")),
        }
        library, close = _library(Path(path), names)
        if library is not None:
            works[f"random snapshots, {library[0]}"] = (
                source.snapshot_bytes,
                lambda k: library[1](*divmod(int(picks[k]), source.times)),
            )
        part, nbytes = _some(ds, names)
        works["statistics"] = nbytes, lambda k: field_statistics(part, names, str(path))
        works["values in memory, statistics alone"] = _loaded(part, names)
        rows = _rows(works, seconds)
        close()
    return {
        "path": str(path),
        "snapshots": source.snapshots,
        "snapshot_bytes": source.snapshot_bytes,
        "block": block,
        "read": source.kinds,
        "rows": rows,
        "ratios": _ratios({row["what"]: row["MB_per_cpu_s"] for row in rows}),
    }


def _rows(works: Mapping[str, tuple[int, Callable[[int], object]]], seconds: float) -> list[dict[str, Any]]:
    """Repeats each work for about `seconds`, in turns: a machine that others use is not the same for long."""
    spent = {what: np.zeros(3) for what in works}  # times, wall-clock, processor time
    for _, work in works.values():
        work(0)
    for _ in range(_TURNS):
        for what, (_, work) in works.items():
            spent[what] += _timed(work, seconds / _TURNS, int(spent[what][0]))
    rows = []
    for what, (nbytes, _) in works.items():
        n, wall, cpu = map(float, spent[what])
        megabytes = n * nbytes / 1e6
        rows.append({"what": what, "MB_per_s": megabytes / wall, "MB_per_cpu_s": megabytes / max(cpu, 1e-9)})
    return rows


def _timed(work: Callable[[int], object], seconds: float, first: int) -> tuple[int, float, float]:
    wall, cpu, n = time.perf_counter(), time.process_time(), 0
    while not n or time.perf_counter() - wall < seconds:
        work((first + n) % _RANDOM)
        n += 1
    return n, time.perf_counter() - wall, time.process_time() - cpu


def _ratios(rates: dict[str, float]) -> dict[str, float]:
    copy, blocks = rates["copy of memory"], rates["blocks"]
    ratios = {
        "blocks / copy of memory": blocks / copy,
        "batches from memory / copy of memory": rates["batches from memory"] / copy,
        "statistics / blocks": rates["statistics"] / blocks,
    }
    for what, rate in rates.items():
        if what.startswith("random snapshots, "):
            ratios[f"random snapshots / {what.removeprefix('random snapshots, ')}"] = rates["random snapshots"] / rate
    return ratios


def _warm(source: SnapshotSource, out: np.ndarray) -> None:
    for lo in range(0, min(source.snapshots, 2**33 // source.snapshot_bytes), len(out)):
        hi = min(source.snapshots, lo + len(out))
        source.read_block(lo, hi, out[: hi - lo])


def _library(
    path: Path, names: list[str]
) -> tuple[tuple[str, Callable[[int, int], object]] | None, Callable[[], object]]:
    """The format's own Python library, reading one snapshot of all fields; None where it cannot, by these names."""
    try:
        kind = format_of(path)
    except DataError:  # a folder of files, or arrays of NumPy
        return None, lambda: None
    if kind == "zarr":
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        if not all(isinstance(group.get(name), zarr.Array) for name in names):
            return None, lambda: None
        arrays: list[Any] = [group[name] for name in names]
        return ("zarr-python", lambda i, t: [array[i, t] for array in arrays]), lambda: None
    file = h5py.File(path, "r")
    if not all(isinstance(file.get(name), h5py.Dataset) for name in names):
        file.close()
        return None, lambda: None
    datasets: list[Any] = [file[name] for name in names]
    return ("h5py", lambda i, t: [dataset[i, t] for dataset in datasets]), file.close


def _some(ds: xr.Dataset, names: list[str]) -> tuple[xr.Dataset, int]:
    """Trajectories of about 64 MB."""
    each = sum(ds[name].nbytes for name in names) // ds.sizes[TRAJECTORY]
    part = ds.isel({TRAJECTORY: slice(0, max(1, 2**26 // each)), TIME: slice(0, max(1, ds.sizes[TIME]))})
    return part, sum(part[name].nbytes for name in names)


def _loaded(part: xr.Dataset, names: list[str]) -> tuple[int, Callable[[int], object]]:
    loaded = part[names].compute()
    return sum(loaded[name].nbytes for name in names), lambda k: field_statistics(loaded, names)
