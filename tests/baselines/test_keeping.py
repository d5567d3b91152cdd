"""A saved baseline: what is damaged or foreign is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from romvae.baselines import Baseline, Persistence
from romvae.baselines.keeping import is_baseline
from romvae.checkpoint import file_sha256
from romvae.errors import CheckpointError, OutputError

from .kinds import QUICK, fitted

FILES = ("baseline.json", "arrays.safetensors", "manifest.json")


def _resealed(folder: Path) -> None:
    """Brings the checksums in line with files that were changed on purpose."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = {name: file_sha256(folder / name) for name in manifest["sha256"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_baseline_that_is_not_fitted_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="persistence is not fitted"):
        Persistence().save(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    baseline = fitted("climatology", 1)
    baseline.save(tmp_path / "kept")
    assert is_baseline(tmp_path / "kept")
    with pytest.raises(OutputError, match="exists already"):
        baseline.save(tmp_path / "kept")
    baseline.save(tmp_path / "kept", overwrite=True)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_needed_and_checked(name: str, tmp_path: Path) -> None:
    fitted("pod_linear", 1).save(tmp_path / "kept")
    content = (tmp_path / "kept" / name).read_bytes()
    (tmp_path / "kept" / name).write_bytes(content[:-3] + b"\0\0\0")
    with pytest.raises(CheckpointError):
        Baseline.load(tmp_path / "kept")
    (tmp_path / "kept" / name).unlink()
    with pytest.raises(CheckpointError):
        Baseline.load(tmp_path / "kept")


def test_another_format_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    folder = fitted("persistence", 1).save(tmp_path / "kept")
    facts = json.loads((folder / "baseline.json").read_text())
    (folder / "baseline.json").write_text(json.dumps({**facts, "name": "oracle"}))
    _resealed(folder)
    with pytest.raises(CheckpointError, match=r"'oracle' is not known, expected one of .*persistence"):
        Baseline.load(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 9}))
    with pytest.raises(CheckpointError, match=r"format is 9, this romvae .* reads 1"):
        Baseline.load(folder)


@pytest.mark.parametrize("name", [n for n in QUICK if n != "persistence"])
def test_every_array_of_another_shape_is_refused(name: str, tmp_path: Path) -> None:
    folder = fitted(name, 1).save(tmp_path / "kept")
    arrays = load_file(folder / "arrays.safetensors")
    for which, array in arrays.items():
        if array.ndim == 0 or array.size == 0 or which == "grid.inside":
            continue
        wrong = np.concatenate([array, array], axis=-1)
        save_file({**arrays, which: wrong}, folder / "arrays.safetensors")
        _resealed(folder)
        try:
            loaded = Baseline.load(folder)
        except CheckpointError:
            continue
        raise AssertionError(f"{which} was accepted by {type(loaded).__name__}")
