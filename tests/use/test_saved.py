"""A saved ROM whose weights were exchanged for others of another shape is refused, whichever of them it is."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from romvae import ROM, calibrate_trust
from romvae.checkpoint import file_sha256
from romvae.errors import CheckpointError


@pytest.fixture(scope="module")
def folder(heat, tmp_path_factory):
    rom = copy.deepcopy(heat.rom)
    calibrate_trust(rom, heat.parts.calibration, members=4)
    return rom.save(tmp_path_factory.mktemp("saved") / "rom")


def _forge(folder, weights):
    save_file(weights, folder / "model.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["model.safetensors"] = file_sha256(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _grown(value, axis):
    one = [1 if i == axis else n for i, n in enumerate(value.shape)]
    return np.concatenate([value, np.take(value, [-1], axis) if value.size else np.zeros(one, value.dtype)], axis)


def test_a_tensor_of_another_shape_is_refused_whichever_it_is(folder):
    weights = load_file(folder / "model.safetensors")
    _forge(folder, weights)
    ROM.load(folder)  # the forgery itself is not what is refused
    changed = {(name, -1): value[None] for name, value in weights.items() if value.ndim}
    changed |= {(n, axis): _grown(value, axis) for n, value in weights.items() for axis in range(value.ndim)}
    free = {(name, 1) for name in weights if name.endswith("__score")}  # each quantity has its own number of runs
    assert any(name.startswith("trust.") for name in weights)
    assert free
    accepted = []
    for (name, axis), value in changed.items():
        _forge(folder, {**weights, name: value})
        try:
            ROM.load(folder)
            accepted.append((name, axis))
        except CheckpointError as error:
            assert "do not fit together" in str(error), name
    _forge(folder, weights)
    assert set(accepted) == free
