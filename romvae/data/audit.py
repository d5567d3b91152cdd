"""Everything that is wrong with a store, not only the first thing: what `romvae check` prints."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from romvae.canonical import N_STEPS, TIME, TRAJECTORY, blocks
from romvae.check import LARGEST, check_dims, check_snapshots, read_block, structure_checks, unused
from romvae.data.direct import read_directly
from romvae.data.manifest import Checksums, Finding, Manifest
from romvae.data.store import STORES, format_of, manifest_of, open_snapshots
from romvae.data.transposed import canonical_on_disk
from romvae.errors import DataError

__all__ = ["Audit", "audit"]


@dataclass
class Audit:
    """What was found in a file.

    Arguments:
        source: The file.
        findings: What is wrong.
        notes: What is not stated and would be assumed.
        manifest: SHA-256 of the manifest; empty where the store has none, so that exchanged chunks cannot be seen.
    """

    source: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    manifest: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "sound": not self.findings}

    def add(self, error: Exception, variable: str = "") -> None:
        """Adds what an error says, without the name of the file, which is known."""
        finding = Finding(variable, "", str(error).removeprefix(f"{self.source}: "))
        if finding not in self.findings:
            self.findings.append(finding)


def audit(path: Path | str, reader: str | Path | None = None) -> Audit:
    """Reads a store to its end and lists every finding: file, variable, index, what.

    Looked for are: missing chunks, inner chunks of shards included; chunks whose checksum is wrong; chunks that were
    exchanged; values that are not finite or lie beyond the end of a trajectory; coordinates that are not in order;
    attributes, names, types or shapes that differ from the manifest; a missing completion marker.

    Arguments:
        path: Anything that `open_snapshots` reads.
        reader: Layout of the file, or a mapping file; None recognises it.
    """
    result = Audit(str(path))
    ds, manifest = _opened(Path(path), result) if reader is None else (_read_as(Path(path), reader, result), None)
    if ds is None:
        return result
    with ds:
        lost = {(f.variable, f.at.partition(",")[0]) for f in result.findings if f.variable}
        gone = {name for name, _ in lost if name in ds.coords}  # what is read there is made up
        if manifest is not None:
            result.manifest = manifest.sha256
            try:
                result.findings += [f for f in manifest.structure(ds, result.source) if f.variable not in gone]
            except DataError as error:
                result.add(error)
        for check in structure_checks(ds, result.source):
            try:
                check()
            except DataError as error:
                if not any(repr(name) in str(error) for name in gone):
                    result.add(error)
        _note(ds, result)
        sums = Checksums().for_dims_of(ds)
        for name in map(str, ds.data_vars):
            for found in _values(ds, name, result.source, sums):
                if (name, "") not in lost and (name, found.at.partition(",")[0]) not in lost:
                    result.findings.append(found)
        unsure = lost | {(f.variable, f.at.partition(",")[0]) for f in result.findings if f.variable and f.at}
        if manifest is not None:
            changed = manifest.values(sums)
            result.findings += [f for f in changed if (f.variable, f.at) not in unsure and (f.variable, "") not in lost]
    return result


def _opened(path: Path, result: Audit) -> tuple[xr.Dataset | None, Manifest | None]:
    """The store with whatever can be read of it; None where nothing can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind = format_of(path)
            ds = STORES[kind].read(path, result.source, require=False, whole=False)
        except DataError as error:
            return _foreign(path, result, error), None
        try:
            check_dims(ds, result.source)
        except DataError as error:
            ds.close()
            return _foreign(path, result, error), None
        result.findings += STORES[kind].missing(path)
        try:
            STORES[kind].read(path, result.source, whole=False).close()
        except DataError as error:
            result.add(error)
        try:
            return read_directly(canonical_on_disk(ds)), manifest_of(path)
        except DataError as error:
            result.add(error)
            return read_directly(canonical_on_disk(ds)), None


def _read_as(path: Path, reader: str | Path, result: Audit) -> xr.Dataset | None:
    """A file through the reader that the user named; None where it cannot be opened."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return open_snapshots(path, check=False, reader=reader)
        except DataError as error:
            result.add(error)
            return None


def _foreign(path: Path, result: Audit, error: DataError) -> xr.Dataset | None:
    """A file of another program, through its reader; otherwise the finding is why it cannot be opened."""
    try:
        return open_snapshots(path, check=False)
    except DataError as refusal:
        result.add(refusal)
        if str(refusal) != str(error):
            result.add(error)
        return None


def _note(ds: xr.Dataset, result: Audit) -> None:
    """Collects what a check would warn about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_snapshots(ds, result.source, values=False)
        except DataError:
            return  # a finding already
    result.notes += [str(w.message).removeprefix(f"{result.source}: ") for w in caught]


def _values(ds: xr.Dataset, name: str, source: str, sums: Checksums) -> Iterator[Finding]:
    """Findings in the values of one variable, at most one per block, or per snapshot where a block is damaged."""
    for chosen in blocks(ds, name):
        try:
            values = read_block(ds, name, chosen, source)
        except DataError:
            yield from _damaged(ds, name, chosen, source)
            continue
        sums(name, chosen, values)
        outside, beyond = unused(ds, name, chosen)
        late = beyond & ~np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)
        wrong = ~(np.abs(values) < LARGEST) & ~(outside | beyond)
        for bad, what in (
            (late, f"has values beyond {N_STEPS!r} of its trajectory, expected NaN"),
            (wrong, "is NaN, infinite or a fill value, expected finite values"),
        ):
            if bad.any():
                at = _place(ds, name, chosen, np.argwhere(bad)[0])
                count = np.count_nonzero(bad)
                more = f" ({count} of {values.size} values from there on)" if count > 1 else ""
                yield Finding(name, at, f"{what}{more}. Repair or drop that trajectory")


def _damaged(ds: xr.Dataset, name: str, chosen: dict[str, slice], source: str) -> Iterator[Finding]:
    """The snapshots of a block that cannot be read."""
    times = chosen.get(TIME)
    parts = [{**chosen, TIME: slice(t, t + 1)} for t in range(times.start, times.stop)] if times else [chosen]
    for part in parts:
        try:
            read_block(ds, name, part, source)
        except DataError:
            at = ", ".join(f"{dim} {cut.start}" for dim, cut in part.items())
            yield Finding(name, at, "cannot be read: checksum or length is wrong. Copy or simulate the file again")


def _place(ds: xr.Dataset, name: str, chosen: dict[str, slice], local: np.ndarray) -> str:
    dims = list(map(str, ds[name].dims))
    index = [(chosen[dim].start if dim in chosen else 0) + int(i) for dim, i in zip(dims, local, strict=True)]
    order = sorted(zip(dims, index, strict=True), key=lambda pair: pair[0] != TRAJECTORY)
    return ", ".join(f"{dim} {i}" for dim, i in order)
