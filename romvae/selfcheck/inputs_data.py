"""Odd and bad HDF5 files: 31."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from romvae.selfcheck.record import Case
from romvae.selfcheck.trial import accepted, refused
from romvae.selfcheck.workshop import Workshop

__all__ = ["hdf5_inputs"]

SHAPE = (6, 6, 16)
INFO = ("info", "HERE/a.h5")


def hdf5_inputs(shop: Workshop, quick: bool) -> list[Case]:
    """All of them, whether `quick` or not."""

    def bad(name: str, make: Callable[[Path], None], pattern: str, command: tuple[str, ...] = INFO) -> Case:
        return refused(shop, name, lambda folder: make(folder / "a.h5"), command, rf"a\.h5: .*(?:{pattern})")

    def odd(name: str, make: Callable[[Path], None], pattern: str = "usable: yes") -> Case:
        return accepted(shop, name, lambda folder: make(folder / "a.h5"), INFO, pattern)

    train = ("train", "HERE/a.h5", "--out", "HERE/run")
    return [
        bad("empty", Path.touch, "is empty"),
        bad("text file", lambda p: _put(p, b"x,u\n0,1\n"), "is no store"),
        bad("truncated at 10 %", partial(_truncated, share=0.1), "cut off or damaged"),
        bad("truncated at 50 %", partial(_truncated, share=0.5), "cut off or damaged"),
        bad("truncated at 90 %", partial(_truncated, share=0.9), "cut off or damaged"),
        bad("header byte flipped", lambda p: _flipped(p, 3), "is no store|cut off or damaged"),
        bad("chunk byte flipped, with checksum", _flipped_chunk, "'u' cannot be read at trajectory 1"),
        bad("chunk byte flipped to NaN, without checksum", _flipped_raw, "'u' is (NaN|infinite), first at"),
        bad("missing variable", lambda p: _edited(p, lambda f: f.pop("u")), "variable 'u' is missing"),
        bad("wrong rank", lambda p: _foreign(p, u=np.zeros((6, 6), "f4"), dims=("trajectory", "time")), "'u' has dims"),
        bad("zero-length axis", lambda p: _foreign(p, u=np.zeros((0, 6, 16), "f4")), "is empty|empty"),
        bad("int dtype", lambda p: _foreign(p, u=np.ones(SHAPE, "i4")), "'u' has dtype int32"),
        bad("complex dtype", lambda p: _foreign(p, u=np.ones(SHAPE, "c8")), "'u' has dtype|complex"),
        bad("text dtype", lambda p: _foreign(p, u=np.full(SHAPE, b"a", "S1")), "'u' has dtype"),
        bad("compound dtype", lambda p: _foreign(p, u=np.zeros(SHAPE, [("a", "f4"), ("b", "f4")])), "'u' has dtype"),
        odd("big-endian", lambda p: _foreign(p, u=_field().astype(">f4"))),
        odd("float64", lambda p: _foreign(p, u=_field().astype("f8"))),
        bad("NaN", lambda p: _foreign(p, u=_with(np.nan)), "'u' is NaN, first at trajectory 3, time 5"),
        bad("infinity", lambda p: _foreign(p, u=_with(np.inf)), "'u' is infinite, first at trajectory 3, time 5"),
        bad(
            "constant field",
            lambda p: _foreign(p, u=np.ones((12, 6, 16), "f4")),
            "'u': constant at 1",
            train,
        ),
        bad("time decreases", lambda p: _foreign(p, time=[0, 1, 2, 1.5, 3, 4]), "time decreases at index 3"),
        bad("time repeats", lambda p: _foreign(p, time=[0, 1, 2, 2, 3, 4]), "time repeats at index 3"),
        bad("time not uniform", lambda p: _foreign(p, time=[0, 1, 2, 3, 4.5, 5.5]), "time is not uniform: .* index 4"),
        bad("length of a coordinate", _short_coordinate, "'u' has 16 entries along a dim whose scale 'x' has shape"),
        odd("missing units", lambda p: _foreign(p, units=False), "missing: units of 'u'"),
        bad("unwritten chunks", _unwritten, "'u': .* of .* chunks were never written"),
        bad("external link", _external, "/u links into another file"),
        bad("soft-link loop", _loop, "/u is a link that leads nowhere"),
        bad("virtual dataset, source missing", _virtual, "/u is a virtual dataset"),
        bad("61 TiB declared", _bomb, "declares .* bytes"),
        bad("not completed", lambda p: _edited(p, _incomplete), "is incomplete"),
    ]


def _field() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=SHAPE).astype("f4")


def _with(value: float) -> np.ndarray:
    u = _field()
    u[3, 5, 9] = value
    return u


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _written(path: Path) -> None:
    from romvae.data import write_snapshots
    from romvae.testing import mock_snapshots

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_snapshots(mock_snapshots(1), path)


def _truncated(path: Path, share: float) -> None:
    _written(path)
    os.truncate(path, int(share * path.stat().st_size))


def _flipped(path: Path, at: int) -> None:
    if not path.exists():
        _written(path)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(bytes(content))


def _flipped_chunk(path: Path) -> None:
    import h5py

    _written(path)
    with h5py.File(path, "r") as file:
        at = file["u"].id.get_chunk_info(9).byte_offset
    _flipped(path, at + 5)


def _flipped_raw(path: Path) -> None:
    """Without a checksum only values that no simulation has can be told from damage."""
    import h5py

    _foreign(path)
    with h5py.File(path, "r") as file:
        at = file["u"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[at + 40 : at + 44] = b"\xff\xff\xff\x7f"
    path.write_bytes(bytes(content))


def _edited(path: Path, change: Callable[[Any], object]) -> None:
    import h5py

    _written(path)
    with h5py.File(path, "r+") as file:
        change(file)


def _incomplete(file: Any) -> None:
    file.attrs["romvae_complete"] = 0


def _foreign(
    path: Path,
    u: np.ndarray | None = None,
    time: Any = None,
    dims: tuple[str, ...] = ("trajectory", "time", "x"),
    units: bool = True,
    field: Callable[[Any], None] | None = None,
) -> None:
    """A file of another program, with dimension scales and without a marker."""
    import h5py

    u = _field() if u is None else u
    with h5py.File(path, "w") as file:
        sizes = dict(zip(dims, u.shape, strict=True))
        file["trajectory"] = np.arange(sizes.get("trajectory", 6))
        file["time"] = np.asarray(time if time is not None else 0.1 * np.arange(6), "f8")
        file["x"] = np.arange(16) / 16
        if field is None:
            file["u"] = u
        else:
            field(file)
        for name in ("trajectory", "time", "x"):
            file[name].make_scale(name)
        if "u" in file:
            for i, name in enumerate(dims):
                file["u"].dims[i].attach_scale(file[name])
        if units:
            for name in ("u", "time", "x"):
                if name in file:
                    file[name].attrs["units"] = "1"


def _short_coordinate(path: Path) -> None:
    import h5py

    _foreign(path)
    with h5py.File(path, "r+") as file:
        del file["x"]
        file["x"] = np.arange(15) / 15
        file["x"].make_scale("x")
        del file["u"].attrs["DIMENSION_LIST"]
        for i, name in enumerate(("trajectory", "time", "x")):
            file["u"].dims[i].attach_scale(file[name])


def _unwritten(path: Path) -> None:
    def half(file: Any) -> None:
        file.create_dataset("u", SHAPE, "f4", chunks=(1, 1, 16))[:2] = 1.0

    _foreign(path, field=half)


def _external(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["u"] = h5py.ExternalLink("/etc/passwd", "u")


def _loop(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["u"] = h5py.SoftLink("/v")
        file["v"] = h5py.SoftLink("/u")


def _virtual(path: Path) -> None:
    import h5py

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout(SHAPE, dtype="f4")
        layout[0] = h5py.VirtualSource("not_there.h5", "u", shape=SHAPE[1:])
        file.create_virtual_dataset("u", layout)

    _foreign(path, field=virtual)


def _bomb(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("u", (6, 6, 61 * 2**40 // (36 * 4)), "f4", chunks=(1, 1, 1000))
