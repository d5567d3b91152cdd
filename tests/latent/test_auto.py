"""`latent: auto` on the command line: the answer is kept, said, shown, and not looked for twice."""

from __future__ import annotations

import json

import pytest

from romvae import training
from romvae.cli import main
from romvae.commands.run_folder import RunFolder
from romvae.data import write_snapshots
from romvae.errors import TrainingStoppedError
from romvae.rom import ROM
from romvae.settings import ModelSettings, validated
from romvae.testing import mock_snapshots

FLAGS = [
    *("--model.latent", "auto", "--model.channels", "4", "--model.hidden", "8", "--model.members", "1"),
    *("--training.vae-steps", "12", "--training.variance-steps", "2", "--training.dynamics-steps", "2"),
    *("--training.batch-size", "16", "--quiet"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "waves.zarr"
    write_snapshots(mock_snapshots(1, trajectories=24, times=6), path)
    return path


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(data), "--out", str(path), *FLAGS]) == 0
    return path


def test_the_answer_is_kept_in_the_run_and_the_model_has_its_size(run):
    kept = json.loads((run / "latent.json").read_text())
    assert ROM.load(run / "model").vae.latent == kept["latent"]
    assert str(kept["upper"]) in kept["tried"]
    assert kept["answer"].startswith(f"{kept['latent']} latents. ")
    assert "latent: auto" in (run / "config.yaml").read_text()


@pytest.mark.slow
def test_the_report_shows_it(run, tmp_path):
    assert main(["compare", str(run), "--out", str(tmp_path / "c"), "--quiet", "--members", "2"]) == 0
    page = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert "How many latents the data need" in page
    assert json.loads((run / "latent.json").read_text())["answer"][:40] in page


def test_a_run_that_is_continued_does_not_look_again(data, tmp_path, monkeypatch, capsys):
    from romvae.training import fit as real

    def stopped(*args, **kwargs):
        raise TrainingStoppedError(15, None)

    monkeypatch.setattr(training, "fit", stopped)
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *FLAGS]) != 0
    kept = RunFolder(tmp_path / "run").latent_size()
    assert kept is not None

    def never(*args, **kwargs):
        raise AssertionError("looked for the size again")

    monkeypatch.setattr(training, "fit", real)
    monkeypatch.setattr(training, "suggest_latent", never)
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert f"latent: auto: {kept['latent']} latents." in capsys.readouterr().out
    assert ROM.load(tmp_path / "run" / "model").vae.latent == kept["latent"]


def test_a_size_is_a_number_or_auto():
    assert ModelSettings(latent="auto").latent == "auto"
    assert validated(ModelSettings, {"latent": 4}).latent == 4
    for wrong in ("large", 0, True):
        with pytest.raises(Exception, match="latent"):
            validated(ModelSettings, {"latent": wrong})
