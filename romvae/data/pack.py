"""Converts snapshots into one canonical store: a part of them or all, larger than memory, resumable, verified."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from romvae.atomic import atomic_file, check_target, flush, publish_folder, require_space
from romvae.canonical import TIME, TRAJECTORY, fields_of
from romvae.check import check_snapshots, check_values
from romvae.data import zarr_store
from romvae.data.concatenated import concatenate
from romvae.data.interpolate import Method, interpolate
from romvae.data.layout import check_storable
from romvae.data.manifest import Checksums, Manifest
from romvae.data.source import SnapshotSource
from romvae.data.store import format_of, manifest_of, open_snapshots, write_snapshots
from romvae.data.subset import Range, subset
from romvae.errors import AssumptionWarning, ConfigError, DataError, OutputError
from romvae.lock import locked
from romvae.processes import end_with_parent, interrupts_held

__all__ = ["Selection", "pack", "packed_view"]


@dataclass(frozen=True)
class Selection:
    """Which part of snapshots to take, and what to interpolate; the default takes everything as it is.

    Arguments:
        fields, trajectories, ranges, strides, min_steps, trim: As in `subset`; trajectories as (first, end).
        dt, points, method: As in `interpolate`, which comes after the cut.
    """

    fields: tuple[str, ...] | None = None
    trajectories: tuple[int | None, int | None] | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    strides: Mapping[str, int] = field(default_factory=dict)
    min_steps: int | None = None
    trim: bool = False
    dt: float | None = None
    points: Mapping[str, int] = field(default_factory=dict)
    method: Method = "linear"

    def cut(self, ds: xr.Dataset) -> xr.Dataset:
        """What is done with every input by itself."""
        part = subset(ds, self.fields, None, self.ranges, self.strides)
        return interpolate(part, self.dt, self.points, self.method)

    def choose(self, ds: xr.Dataset) -> xr.Dataset:
        """What is done with all of them together."""
        numbers = None if self.trajectories is None else slice(*self.trajectories)
        return subset(ds, trajectories=numbers, min_steps=self.min_steps, trim=self.trim)


def pack(
    inputs: Sequence[Path | str],
    out: Path | str,
    selection: Selection | None = None,
    *,
    reader: str | Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes snapshots from one file or several as one canonical store.

    A Zarr store is written one trajectory at a time into a folder `.NAME.packing.zarr` beside it, where finished
    trajectories stay if the process is killed: the same call goes on from there. Every trajectory is read back and its
    checksum compared with that of the input (and with the manifest of the input, where it has one and values are taken
    as they are) before the store appears. HDF5 and netCDF are written in one go, in this process.

    Arguments:
        inputs: What `open_snapshots` reads; trajectories follow each other in this order.
        out: Ends in `.zarr`, `.h5`, `.hdf5`, `.nc` or `.nc4`.
        selection: The part to take; None takes everything.
        reader: Layout of the inputs, or a mapping file, as in `open_snapshots`; None recognises it.
        workers: Processes; the store is the same for any number.
        overwrite: Whether an existing store may be replaced, once the new one is complete.
        progress: Called as `progress(done, total)` in trajectories.

    Returns:
        The path.

    Raises:
        DataError: An input is damaged, not finite, or differs from the others.
        ConfigError: The selection does not fit the data.
        OutputError: The path is taken, the disk is full, what was read back differs, or another process packs there.
    """
    target, chosen = Path(out), selection or Selection()
    if not inputs:
        raise ConfigError("pack: no input. Give one store of snapshots or several, and the store to write")
    for path in inputs:
        if Path(path).exists() and target.exists() and os.path.samefile(path, target):
            raise OutputError(f"{target}: is an input itself. Choose another path")
    check_target(target, overwrite)
    with packed_view(inputs, chosen, reader) as ds:
        if target.suffix != ".zarr":
            return write_snapshots(ds, target, overwrite=overwrite)
        if target.is_dir() and any(target.iterdir()) and not zarr_store.is_store(target):
            raise OutputError(f"{target}: is a folder that is no Zarr store and is not replaced. Choose another path")
        work = target.absolute().parent / f".{target.stem}.packing.zarr"
        work.mkdir(parents=True, exist_ok=True)
        try:
            with locked(work, "packs"), warnings.catch_warnings():
                job = _Job(tuple(str(Path(path).absolute()) for path in inputs), chosen, work, reader)
                warnings.simplefilter("ignore", AssumptionWarning)  # said as the inputs were opened
                _pack(job, ds, target, max(1, workers), progress or (lambda done, total: None))
                publish_folder(work / "store", target, overwrite)
        except DataError:  # the input is at fault: there is nothing to go on with
            shutil.rmtree(work)
            raise
        shutil.rmtree(work)
    return target


@contextmanager
def packed_view(
    inputs: Sequence[Path | str], selection: Selection, reader: str | Path | None = None
) -> Iterator[xr.Dataset]:
    """What `pack` writes, as a lazy Dataset; the inputs are open as long as it lasts."""
    with ExitStack() as stack:
        uniform = selection.dt is None
        opened = [
            stack.enter_context(open_snapshots(path, check=False, uniform=uniform, reader=reader)) for path in inputs
        ]
        sources = [str(path) for path in inputs]
        cut = []
        for ds, source in zip(opened, sources, strict=True):
            try:
                cut.append(selection.cut(ds))
            except (ConfigError, DataError) as error:
                raise type(error)(f"{source}: {error}") from error
        ds = selection.choose(concatenate(cut, sources))
        for variable in ds.variables.values():
            variable.encoding = {}
        yield ds


@dataclass(frozen=True)
class _Job:
    """All that a worker needs to pack a trajectory."""

    inputs: tuple[str, ...]
    selection: Selection
    work: Path
    reader: str | Path | None

    @property
    def plan(self) -> str:
        """What is packed; another plan cannot go on where this one stopped."""
        files = [[path, *_state(Path(path))] for path in self.inputs]
        return json.dumps({"inputs": files, "selection": asdict(self.selection), "reader": str(self.reader)})


def _pack(job: _Job, ds: xr.Dataset, target: Path, workers: int, progress: Callable[[int, int], None]) -> None:
    source = ", ".join(job.inputs)
    check_snapshots(ds, source, values=False)
    check_storable(ds, source)
    n = ds.sizes[TRAJECTORY]
    todo = _begin(job, ds, target)
    progress(n - len(todo), n)
    for done, _ in enumerate(_packed(job, ds, todo, workers), n - len(todo) + 1):
        progress(done, n)
    store = job.work / "store"
    sums = _collected(job, ds)
    _verify(job, ds, sums)
    _compare_with_inputs(job, ds, sums)
    zarr_store.describe(store, Manifest.of(ds, sums).to_json())
    zarr_store.complete(store)


def _begin(job: _Job, ds: xr.Dataset, target: Path) -> list[int]:
    """Prepares the folder, or finds what an earlier process has finished; returns what is left to do."""
    plan, store, done = job.work / "plan.json", job.work / "store", job.work / "done"
    if not plan.is_file() or plan.read_text(encoding="utf-8") != job.plan:
        plan.unlink(missing_ok=True)
        for folder in (store, done):
            shutil.rmtree(folder, ignore_errors=True)
        require_space(target, ds.nbytes + ds.nbytes // 20 + 2**20)
        zarr_store.create(ds, store)
        done.mkdir()
        with atomic_file(plan, overwrite=True) as temporary:
            temporary.write_text(job.plan, encoding="utf-8")
    return [i for i in range(ds.sizes[TRAJECTORY]) if not (done / f"{i}.json").is_file()]


def _packed(job: _Job, ds: xr.Dataset, todo: Sequence[int], workers: int) -> Iterator[None]:
    """Packs trajectories, here or in other processes, and yields as each is finished."""
    if min(workers, len(todo)) <= 1:
        for i in todo:
            _pack_trajectory(job, ds, i)
            yield
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_open_inputs, initargs=(job,)) as pool:
        try:
            with interrupts_held():
                finished = pool.map(_pack_number, todo, chunksize=max(1, min(16, len(todo) // (4 * workers))))
            yield from finished
        except BrokenProcessPool as error:
            raise OutputError(
                f"{job.work}: a worker process ended early, for want of memory perhaps. Call again to go on, with "
                "--workers 1"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_in_worker: list[tuple[_Job, xr.Dataset, ExitStack]] = []
"""The inputs, opened once in each worker process."""


def _open_inputs(job: _Job) -> None:
    end_with_parent()
    warnings.simplefilter("ignore", AssumptionWarning)  # the process that asks has said it
    stack = ExitStack()
    _in_worker.append((job, stack.enter_context(packed_view(job.inputs, job.selection, job.reader)), stack))


def _pack_number(i: int) -> None:
    job, ds, _ = _in_worker[0]
    _pack_trajectory(job, ds, i)


def _pack_trajectory(job: _Job, ds: xr.Dataset, i: int) -> None:
    """Writes the shards of one trajectory, and once the disk has them the record that it is finished."""
    store = job.work / "store"
    group = zarr.open_group(store, mode="r", use_consolidated=False)
    sums = Checksums().for_dims_of(ds)
    source = ", ".join(job.inputs)

    def keep(name: str, chosen: Mapping[str, slice], values: np.ndarray) -> None:
        sums(name, chosen, values)
        array = group[name]
        if isinstance(array, zarr.Array) and array.shards is not None:
            zarr_store.write_block(array, store / name, dict(chosen), values)

    for name in _of_trajectories(ds):
        check_values(ds, name, source, keep, zarr_store.shard_blocks(ds, name, [i]))
        for file in (store / name).glob(f"c/{i}/**/*"):
            if file.is_file():
                flush(file)
    record = {name: (sums.sums[name][i], sums.finite[name][i]) for name in _of_trajectories(ds)}
    with atomic_file(job.work / "done" / f"{i}.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(record), encoding="utf-8")


def _collected(job: _Job, ds: xr.Dataset) -> Checksums:
    """The checksums of all trajectories as they were read from the inputs, and of what has no trajectory."""
    sums = Checksums().for_dims_of(ds)
    for i in range(ds.sizes[TRAJECTORY]):
        record = json.loads((job.work / "done" / f"{i}.json").read_text(encoding="utf-8"))
        for name, (crc, finite) in record.items():
            sums.sums[name][i], sums.finite[name][i] = crc, finite
    own = set(_of_trajectories(ds))
    for name in (name for name in map(str, ds.data_vars) if name not in own):
        check_values(ds, name, ", ".join(job.inputs), sums)
    return sums


def _verify(job: _Job, ds: xr.Dataset, sums: Checksums) -> None:
    """Reads the store back; a trajectory that differs is packed again by the next call.

    Raises:
        OutputError: Something differs.
    """
    store = job.work / "store"
    with zarr_store.read(store, str(store), require=False) as written:
        meant = Manifest.of(ds, sums)
        for finding in meant.structure(written, str(store)):
            raise OutputError(f"{finding.text(str(store))}. It was read back otherwise than written. Check the disk")
        differing = list(meant.values(_read_back(written, str(store))))
        for finding in differing:
            (job.work / "done" / f"{finding.at.removeprefix(TRAJECTORY).strip()}.json").unlink(missing_ok=True)
        for finding in differing:
            raise OutputError(
                f"{store}: {finding.variable!r} at {finding.at} read back differs from what was written. Check the "
                "disk, and call again to go on"
            )


def _read_back(written: xr.Dataset, source: str) -> Checksums:
    """The checksums of what the disk gives back; the first trajectory also through zarr-python, as others read it."""
    sums = Checksums().for_dims_of(written)
    for name in map(str, written.data_vars):
        first = zarr_store.shard_blocks(written, name, [0]) if TRAJECTORY in written[name].dims else None
        check_values(written, name, source, sums, first)
        if first is None or name not in fields_of(written):
            rest = range(1, written.sizes[TRAJECTORY]) if first is not None else []
            check_values(written, name, source, sums, zarr_store.shard_blocks(written, name, rest) if rest else [])
            continue
        reader = SnapshotSource(written, [name], source)
        for chosen in zarr_store.shard_blocks(written, name, range(1, written.sizes[TRAJECTORY])):
            lo, times = chosen[TRAJECTORY].start * reader.times, chosen[TIME]
            values = np.empty((times.stop - times.start, *reader.shape), reader.dtype)
            reader.read_block(lo + times.start, lo + times.stop, values)
            sums(name, chosen, values[None, :, 0])
    return sums


def _compare_with_inputs(job: _Job, ds: xr.Dataset, sums: Checksums) -> None:
    """Where an input has a manifest and its values are taken as they are, they have to be those that it promises."""
    s = job.selection
    if s.ranges or s.strides or s.dt is not None or s.points or s.trim or s.trajectories or s.min_steps is not None:
        return
    start = 0
    for path in job.inputs:
        manifest = manifest_of(path) if job.reader is None and _is_ours(path) else None
        with open_snapshots(path, check=False, reader=job.reader) as own:
            n, times = own.sizes[TRAJECTORY], own.sizes[TIME]
        if manifest is not None and times == ds.sizes[TIME]:
            part = Checksums().for_dims_of(ds)
            for name in _of_trajectories(ds):
                part.sums[name] = {i: sums.sums[name][start + i] for i in range(n)}
            for finding in manifest.values(part):
                raise DataError(finding.text(path))
        start += n


def _is_ours(path: str) -> bool:
    try:
        return format_of(path) in ("zarr", "hdf5", "netcdf")
    except DataError:
        return False


def _of_trajectories(ds: xr.Dataset) -> list[str]:
    return [str(name) for name, variable in ds.data_vars.items() if TRAJECTORY in variable.dims]


def _state(path: Path) -> list[int]:
    """What changes when a file is written again: number of files, bytes, time of the last change."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    states = [file.stat() for file in files]
    return [len(files), sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)]
