"""What the self-check found and what was repaired since."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from romvae import checkpoint, cli
from romvae.data import open_snapshots, write_snapshots
from romvae.errors import CheckpointError, DataError, OutputError
from romvae.rom import ROM
from romvae.solvers import ensemble_bytes, simulate
from romvae.testing import mock_snapshots
from romvae.training import session
from romvae.training.session import History, TrainingState, read_state, write_state


@pytest.fixture
def model(tmp_path):
    rom = ROM.for_data(mock_snapshots(1, trajectories=12, times=8), latent=3, channels=4, hidden=8, members=2)
    return rom.save(tmp_path / "model")


def _forge(folder, change):
    """Changes weights and configuration together with their checksums."""
    weights, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    change(weights, config)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = {name: checkpoint.file_sha256(folder / name) for name in manifest["sha256"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["calibration.lead", "calibration.variance_factor", "calibration.half_width"])
def test_a_calibration_of_another_shape_is_refused(model, name):
    _forge(model, lambda weights, config: weights.update({name: np.zeros((2, 5, 7), weights[name].dtype)}))
    with pytest.raises(CheckpointError, match="do not fit together"):
        ROM.load(model)


def test_sizes_that_the_weights_cannot_fill_are_refused_before_anything_is_allocated(model):
    _forge(model, lambda weights, config: config["model"].update(latent=10**9))
    with pytest.raises(CheckpointError, match=r"latent is 1000000000, with .* weights in all"):
        ROM.load(model)


def test_older_formats_of_a_model_go_through_the_table_of_migrations(model, monkeypatch):
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps({**manifest, "format": -1}))
    with pytest.raises(CheckpointError, match=r"format is -1, this romvae .* reads 1 up to 2"):
        ROM.load(model)
    order = []
    for older in (-1, 0):
        monkeypatch.setitem(checkpoint.MIGRATIONS, older, lambda old, older=older: order.append(older) or old)
    ROM.load(model)
    assert order == [-1, 0]


def test_older_formats_of_a_training_state_go_through_the_table_of_migrations(tmp_path, monkeypatch):
    path = tmp_path / "training.state"
    monkeypatch.setattr(session, "FORMAT", 0)
    write_state(TrainingState({}, "vae", 3, {}, {}, History().to_dict()), path)
    monkeypatch.setattr(session, "FORMAT", 1)
    with pytest.raises(CheckpointError, match="format 0 is too old"):
        read_state(path)
    monkeypatch.setitem(session.MIGRATIONS, 0, lambda fields: {**fields, "step": fields["step"] + 1})
    assert read_state(path).step == 4


def test_a_coordinate_shorter_than_its_dim_is_refused(tmp_path):
    path = write_snapshots(mock_snapshots(1), tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["x"], file["u"].attrs["DIMENSION_LIST"]
        file["x"] = np.arange(15) / 15
        file["x"].make_scale("x")
        for i, name in enumerate(("trajectory", "time", "x")):
            file["u"].dims[i].attach_scale(file[name])
    with pytest.raises(DataError, match=r"'u' has 16 entries along a dim whose scale 'x' has shape \(15,\)"):
        open_snapshots(path)


def test_links_in_a_circle_are_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"], file["v"] = h5py.SoftLink("/v"), h5py.SoftLink("/u")
    with pytest.raises(DataError, match="/u is a link that leads nowhere"):
        open_snapshots(tmp_path / "a.h5")


def test_the_size_of_an_ensemble_is_known_before_it_is_computed(tmp_path, monkeypatch, capsys):
    assert ensemble_bytes("heat_1d", 3) == simulate("heat_1d", 3)["u"].nbytes
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    for compute in ("ensemble.simulate", "on_disk.shared_out"):
        monkeypatch.setattr(f"romvae.solvers.{compute}", lambda *args: pytest.fail("computed"))
    assert cli.main(["simulate", "heat_1d", "-q", "--out", str(tmp_path / "a.h5")]) == 5
    assert "but the disk has 1 kB free" in capsys.readouterr().err
    assert cli.main(["demo", "-q", "--out", str(tmp_path / "demo")]) == 5
    assert not (tmp_path / "demo").exists()


def test_a_run_that_was_killed_as_it_began_can_be_begun_again(tmp_path):
    from romvae.commands.train import _check_target

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    with pytest.raises(OutputError):
        _check_target(tmp_path / "run", overwrite=False)
    _check_target(tmp_path / "run", overwrite=True)


def test_a_finished_run_keeps_nothing_of_a_killed_write(tmp_path):
    from romvae.commands.run_folder import RunFolder

    for name in ("training.state", "training.state.previous", ".training.0123456789ab.state", "model"):
        (tmp_path / name).touch()
    RunFolder(tmp_path).finish()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
