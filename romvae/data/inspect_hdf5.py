"""HDF5 files of unknown origin: what could show other files, run foreign code or fill the memory is refused.

Everything here looks at structure alone; no value is read. A link or an external segment may lead to any file of this
machine, a filter may load a plug-in, and a few bytes may declare terabytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import h5py
import h5py.h5o

from romvae.data.layout import refuse_bomb
from romvae.data.probe import probe
from romvae.errors import DataError

__all__ = ["check_links", "check_unwritten", "inspect", "tree"]

# Filters that come with HDF5 itself, and h5py's lzf; all others are native code found at run time.
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
_MOST_OBJECTS = 200_000


def inspect(path: Path, source: str) -> None:
    """Raises unless the file can be read without harm; to be called before anything else is done with it.

    Arguments:
        path: A file.
        source: What the messages call it.

    Raises:
        DataError: No HDF5, being written, damaged, a link to another file, an unknown filter, or more declared values
            than the file can hold.
    """
    try:
        status = path.stat()
        probe(path, source)
        declared = _declared(path, source, status.st_mtime_ns, status.st_size)
    except BlockingIOError as error:
        raise DataError(f"{source}: is being written by another process. Wait until it is done") from error
    except PermissionError as error:
        raise DataError(f"{source}: may not be read (permission). Change its permissions") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{source}: cannot be opened as HDF5: the file is cut off or damaged. Copy or simulate it again"
        ) from error
    refuse_bomb(declared, status.st_size, source)


@lru_cache(maxsize=4096)
def _declared(path: Path, source: str, changed: int, size: int) -> int:
    """Bytes of all values that a harmless file declares; a file that did not change is looked through once."""
    declared = 0
    with h5py.File(path, "r") as file:
        check_links(file, source)
        for dataset in tree(file):
            _check_filters(dataset, f"{source}: {dataset.name}")
            declared += int(dataset.size or 0) * dataset.dtype.itemsize
    return declared


def check_links(file: h5py.File, source: str) -> None:
    """Refuses links out of the file before anything is followed: they could show any other file.

    Raises:
        DataError: An external link, a virtual dataset, or values kept in another file.
    """
    groups: list[h5py.Group] = [file]
    seen = set()
    while groups:
        group = groups.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # a group can be its own member
            continue
        seen.add(address)
        if len(seen) > _MOST_OBJECTS:
            raise DataError(f"{source}: has more than {_MOST_OBJECTS} groups. Split it into several files")
        for name in map(str, group):
            item = _own_item(group, name, f"{source}: {str(group.name).rstrip('/')}/{name}")
            if isinstance(item, h5py.Group):
                groups.append(item)


def tree(group: h5py.Group) -> Iterator[h5py.Dataset]:
    """All datasets below a group that are reached by hard links, each once and by name."""
    groups, seen = [group], set()
    while groups:
        current = groups.pop(0)
        for name in map(str, current):
            if not isinstance(current.get(name, getlink=True), h5py.HardLink):
                continue
            item = current[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Dataset):
                yield item
            elif isinstance(item, h5py.Group):
                groups.append(item)


def check_unwritten(dataset: h5py.Dataset, where: str) -> None:
    """Refuses a dataset of which HDF5 would make up values, zeros as a rule.

    Raises:
        DataError: Chunks or all values were never written.
    """
    if not dataset.size or dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT:
        return
    if dataset.chunks is None:
        if dataset.id.get_storage_size() == 0:
            raise DataError(f"{where}: its values were never written. Copy or simulate it again")
        return
    expected = math.prod(math.ceil(n / c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    stored = dataset.id.get_num_chunks()
    if stored < expected:
        raise DataError(f"{where}: {expected - stored} of {expected} chunks were never written. Simulate it again")


def _own_item(group: h5py.Group, name: str, where: str) -> object:
    """A member of a group that lives in this file; None for a link within the file."""
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise DataError(f"{where} links into another file ({link.filename}). Copy the values into this file")
    if isinstance(link, h5py.SoftLink):
        return None
    item = group[name]
    if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
        kind = "is a virtual dataset" if item.is_virtual else "keeps its values in another file"
        raise DataError(f"{where} {kind}. Copy the values into this file, for instance with h5repack")
    return item


def _check_filters(dataset: h5py.Dataset, where: str) -> None:
    properties = dataset.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if code not in _FILTERS:
            label = name.decode(errors="replace") or "unnamed"
            raise DataError(
                f"{where}: is packed with filter {code} ({label}), expected one of {', '.join(_FILTERS.values())}. "
                "Repack it, for instance with h5repack -f GZIP=1"
            )
