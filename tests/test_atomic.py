"""An output is there whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from romvae.atomic import atomic_file, atomic_folder, check_target, require_space
from romvae.errors import OutputError


def _tree(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text() if f.is_file() else "/" for f in folder.rglob("*")}


def _write(path: Path, text: str, overwrite: bool = False, fail: BaseException | None = None) -> None:
    with atomic_file(path, overwrite) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == path.suffix
        temporary.write_text(text)
        if fail:
            raise fail


def _write_folder(path: Path, text: str, overwrite: bool = False, fail: BaseException | None = None) -> None:
    with atomic_folder(path, overwrite) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a.txt").write_text(text)
        if fail:
            raise fail


WRITERS = [_write, _write_folder]


@pytest.mark.parametrize("write", WRITERS)
def test_output_appears_with_its_folders(write, tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "out.x", "new")
    assert "new" in _tree(tmp_path).values()
    assert (tmp_path / "a" / "b" / "out.x").exists()
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("write", WRITERS)
def test_nothing_is_left_behind_after_an_error(write, error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        write(tmp_path / "a" / "b" / "out.x", "new", fail=error)
    assert _tree(tmp_path) == {}


@pytest.mark.parametrize("write", WRITERS)
def test_existing_output_is_refused(write, tmp_path: Path) -> None:
    write(tmp_path / "out.x", "old")
    before = _tree(tmp_path)
    with pytest.raises(
        OutputError, match=r"out.x: exists already. Choose another path, or replace it with --overwrite"
    ):
        write(tmp_path / "out.x", "new")
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("write", WRITERS)
def test_overwriting_replaces_only_with_what_is_complete(write, tmp_path: Path) -> None:
    write(tmp_path / "out.x", "old")
    before = _tree(tmp_path)
    with pytest.raises(RuntimeError):
        write(tmp_path / "out.x", "new", overwrite=True, fail=RuntimeError("boom"))
    assert _tree(tmp_path) == before
    write(tmp_path / "out.x", "new", overwrite=True)
    assert _tree(tmp_path) == {name: text.replace("old", "new") for name, text in before.items()}


def _slow(path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("second")
        path.write_text("first")


def test_output_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        _slow(tmp_path / "out.x")
    assert _tree(tmp_path) == {"out.x": "first"}


def test_folder_swap_that_fails_restores_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_folder(tmp_path / "out", "old")
    before, rename = _tree(tmp_path), os.rename

    def failing(one: Path, other: Path) -> None:
        if Path(other) == tmp_path / "out" and not str(one).endswith(".old"):
            raise OSError(errno.EIO, "no")
        rename(one, other)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no"):
        _write_folder(tmp_path / "out", "new", overwrite=True)
    assert _tree(tmp_path) == before


def test_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _write_folder(tmp_path / "out", "new")
    assert _tree(tmp_path / "out")["sub/a.txt"] == "new"


def test_working_folder_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").write_text("mine")
    monkeypatch.chdir(tmp_path / "work")
    for path in (".", "..", tmp_path):
        with pytest.raises(OutputError, match="holds the working or the home folder"):
            check_target(path, overwrite=True)


def test_full_disk_is_said_in_words(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    for write in WRITERS:
        with pytest.raises(OutputError, match=r"out.x: the disk is full; nothing was written"):
            write(tmp_path / "out.x", "new", fail=full)
    with pytest.raises(OutputError, match=r"out.x: needs 1e\+03 PB, but the disk has .* free"):
        require_space(tmp_path / "not" / "there" / "out.x", 10**18)
    require_space(tmp_path / "out.x", 1)


def test_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot be written \(.*\). Choose another path"):
        _write(tmp_path / "file" / "out.x", "new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a folder, expected a file"):
        _write(tmp_path / "folder", "new")
    assert (tmp_path / "file").read_text() == "mine"


def test_forgotten_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nothing was written"), atomic_file(tmp_path / "out.x"):
        pass
