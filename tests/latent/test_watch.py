"""Recording a training changes nothing of it; stages run in a Trainer of one's own."""

from __future__ import annotations

import csv
import warnings

import lightning
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from romvae.cli import main
from romvae.data import split, write_snapshots
from romvae.errors import CheckpointError, ConfigError, OutOfRangeWarning
from romvae.latent import held_out_bound
from romvae.rom import ROM
from romvae.settings import TrainSettings, validated
from romvae.testing import mock_snapshots
from romvae.training import MeanStage, Pictures, Watch, fit, restore_vae, snapshot_loader

TINY = {"latent": 3, "channels": 4, "hidden": 8, "members": 1}
STEPS = {"vae_steps": 12, "variance_steps": 4, "dynamics_steps": 4, "batch_size": 16}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def parts():
    return split(mock_snapshots(1, trajectories=16, times=6), seed=0)


def _fitted(parts, **how) -> ROM:
    rom = ROM.for_data(parts.train, **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        fit(rom, parts, **STEPS, **how)
    return rom


@pytest.fixture(scope="module")
def watched(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    return _fitted(parts, watch=Watch(folder, every=4)), folder


def test_watching_does_not_touch_the_bits(parts, watched):
    plain, (rom, _) = _fitted(parts), watched
    for (name, one), other in zip(plain.state_dict().items(), rom.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_what_was_watched_is_there(watched):
    _, folder = watched
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    for stage in ("vae", "variance", "dynamics"):
        assert f"{stage}/metrics.csv" in names
    assert {
        f"pictures/{kind}-{step:06d}.png" for kind in ("reconstructions", "samples") for step in (4, 8, 12)
    } <= names
    assert sum(name.startswith("best/") for name in names) == 1
    rows = list(csv.DictReader((folder / "vae" / "metrics.csv").open()))
    assert {"val_elbo", "val_kl", "val_error", "loss", "lr-AdamW"} <= set(rows[0])
    bounds = [float(row["val_elbo"]) for row in rows if row["val_elbo"]]
    assert len(bounds) == 3


def test_the_best_weights_are_those_of_the_best_bound(parts, watched):
    """Read back, they give the validation bound that was logged, at the same samples of the codes."""
    folder = watched[1]
    (best,) = (folder / "best").iterdir()
    rows = list(csv.DictReader((folder / "vae" / "metrics.csv").open()))
    bounds = {int(row["step"]) + 1: float(row["val_elbo"]) for row in rows if row["val_elbo"]}
    assert int(best.stem.removeprefix("step=")) == max(bounds, key=bounds.get)
    fresh = ROM.for_data(parts.train, **TINY)
    restore_vae(fresh, best)
    trainer = lightning.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    (found,) = trainer.validate(
        MeanStage(fresh.vae, 12), snapshot_loader(fresh, parts.variance, shuffle=False), verbose=False
    )
    assert found["val_elbo"] == pytest.approx(max(bounds.values()), rel=1e-5)


def test_foreign_weights_are_refused(parts, watched, tmp_path):
    (best,) = (watched[1] / "best").iterdir()
    other = ROM.for_data(parts.train, **{**TINY, "latent": 2})
    with pytest.raises(CheckpointError, match=r"no weights of this model's first stage.*of the same sizes"):
        restore_vae(other, best)
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"text: no weights"):
        restore_vae(other, tmp_path / "text")


def test_stages_run_in_a_trainer_of_ones_own(parts, tmp_path):
    """Callbacks, a logger, limited batches and a validation dataloader, as Lightning has them."""
    rom = ROM.for_data(parts.train, **TINY)
    stage = MeanStage(rom.vae, steps=20)
    before = held_out_bound(rom.vae, rom.normalised(parts.variance)[0].flatten(0, 1)).value
    trainer = lightning.Trainer(
        max_epochs=5,
        limit_train_batches=3,
        accelerator="cpu",
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=CSVLogger(tmp_path, name="own"),
        callbacks=[
            LearningRateMonitor("step"),
            EarlyStopping("val_elbo", mode="max", patience=100),
            ModelCheckpoint(tmp_path / "kept", monitor="val_elbo", mode="max"),
            Pictures(rom, parts.variance, tmp_path / "pictures", every=6),
        ],
    )
    trainer.fit(stage, snapshot_loader(rom, parts.train, 16), snapshot_loader(rom, parts.variance, shuffle=False))
    assert stage.done == 15
    assert len(stage.history["loss"]) == 15
    assert float(trainer.callback_metrics["val_elbo"]) != pytest.approx(before)
    assert {"loss", "val_kl", "val_error"} <= set(trainer.callback_metrics)
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir())[:2] == [
        "reconstructions-000003.png",
        "reconstructions-000009.png",
    ]


def test_batches_without_noise_are_a_function_of_seed_and_step(parts):
    losses = []
    for _ in range(2):
        rom = ROM.for_data(parts.train, **TINY)
        batch = next(iter(snapshot_loader(rom, parts.train, 8)))
        losses.append(float(MeanStage(rom.vae, 5, seed=3).loss(batch).detach()))
    assert losses[0] == losses[1]


def test_events_for_tensorboard_hold_numbers_and_pictures(parts, tmp_path):
    pytest.importorskip("tensorboard")
    _fitted(parts, watch=Watch(tmp_path, every=6, keep=0, tensorboard=True))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "vae"))
    events.Reload()
    assert {"val_elbo", "lr-AdamW"} <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {"reconstructions", "samples"}


def test_without_tensorboard_the_message_says_what_to_install(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'romvae\[tensorboard\]'"):
        Watch(tmp_path, tensorboard=True)


def test_impossible_intervals_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"every is 0 and keep is 1"):
        Watch(tmp_path, every=0)


RUN = [
    *("--model.latent", "3", "--model.channels", "4", "--model.hidden", "8", "--model.members", "1"),
    *("--training.vae-steps", "12", "--training.variance-steps", "8", "--training.dynamics-steps", "8"),
    *("--training.batch-size", "16", "--quiet"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "waves.zarr"
    write_snapshots(mock_snapshots(1, trajectories=16, times=6), path)
    return path


def test_a_run_of_the_command_line_is_recorded_where_settings_say_so(store, tmp_path):
    """The same weights as without; the settings are kept, so that a run that is continued is recorded too."""
    for name, flags in (("plain", []), ("watched", ["--watch.every", "6", "--watch.keep", "2"])):
        assert main(["train", str(store), "--out", str(tmp_path / name), *RUN, *flags]) == 0
    assert not (tmp_path / "plain" / "watch").exists()
    watch = tmp_path / "watched" / "watch"
    names = {file.relative_to(watch).as_posix() for file in watch.rglob("*") if file.is_file()}
    assert {f"{stage}/metrics.csv" for stage in ("vae", "variance", "dynamics")} <= names
    drawn = {f"pictures/{kind}-{step:06d}.png" for kind in ("reconstructions", "samples") for step in (6, 12)}
    assert drawn <= names
    assert sum(name.startswith("best/") for name in names) == 2
    assert validated(TrainSettings, yaml.safe_load((tmp_path / "watched" / "config.yaml").read_text())).watch.every == 6
    plain, other = (ROM.load(tmp_path / name / "model").state_dict() for name in ("plain", "watched"))
    assert all(torch.equal(value, other[name]) for name, value in plain.items())


def test_pictures_weights_and_tensorboard_are_settings_too(store, tmp_path, capsys):
    pytest.importorskip("tensorboard")
    flags = ["--watch.every", "12", "--watch.images=false", "--watch.keep", "0", "--watch.tensorboard"]
    assert main(["train", str(store), "--out", str(tmp_path / "run"), *RUN, *flags]) == 0
    watch = tmp_path / "run" / "watch"
    assert {path.name for path in watch.iterdir()} == {"vae", "variance", "dynamics"}
    assert list((watch / "vae").glob("events.out.tfevents.*"))
    capsys.readouterr()
    assert main(["train", str(store), "--out", str(tmp_path / "none"), *RUN, "--watch.tensorboard"]) == 2
    assert (
        "watch.tensorboard records nothing without watch.every: give that too, such as 200" in capsys.readouterr().err
    )
    assert not (tmp_path / "none").exists()


def test_what_is_recorded_of_a_continued_training_does_not_replace_what_was_there(parts, tmp_path):
    """Lightning's own logger would delete the first part of the curve."""
    state, folder = tmp_path / "training.state", tmp_path / "watch"

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer, stage, *args, **kwargs):
            if stage.done == 7:
                raise RuntimeError("the machine goes down")

    watch = Watch(folder, every=4, callbacks=[Stop()])
    with pytest.raises(RuntimeError, match="goes down"):
        _fitted(parts, watch=watch, checkpoint=state, checkpoint_every=0.0)
    _fitted(parts, watch=Watch(folder, every=4), checkpoint=state)
    assert (folder / "vae" / "metrics.csv").exists()
    assert (folder / "vae-from-7" / "metrics.csv").exists()
    assert {path.name for path in (folder / "best-from-7").iterdir()} == {"step=4.ckpt"}
    assert (folder / "variance" / "metrics.csv").exists()
