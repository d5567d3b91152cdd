"""A training that was stopped anywhere continues to the bit; a state that cannot be trusted is refused."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from romvae.data import split
from romvae.errors import CheckpointError, ConfigError, NumericsError, OutOfRangeWarning, TrainingStoppedError
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import MeanStage, fit
from romvae.training.session import History, TrainingState, read_state, write_state

STEPS = {"vae_steps": 8, "variance_steps": 5, "dynamics_steps": 7, "batch_size": 4}


class _Killed(Exception):
    pass


def _train(checkpoint: Path | None = None, stop_at: int | None = None, sig: int | None = None, **settings):
    """Trains from nothing or from the checkpoint; `stop_at` counts the calls of the progress callable."""
    parts = split(mock_snapshots(1, trajectories=12, times=8), seed=0)
    rom = ROM.for_data(parts.train, latent=3, channels=4, hidden=8, members=2)
    calls = 0

    def progress(*args) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            if sig is None:
                raise _Killed
            os.kill(os.getpid(), sig)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        history = fit(
            rom, parts, progress=progress, checkpoint=checkpoint, checkpoint_every=0.0, **{**STEPS, **settings}
        )
    return rom, history, calls


@pytest.fixture(scope="module")
def straight():
    return _train()


def _assert_same(one, two) -> None:
    for (name, a), b in zip(one[0].state_dict().items(), two[0].state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert one[1].curves == two[1].curves


def test_keeping_the_state_does_not_change_the_training(straight, tmp_path):
    _assert_same(straight, _train(tmp_path / "state"))


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5, 6])
def test_stopped_between_any_two_units_of_work_it_continues_to_the_bit(straight, tmp_path, stop_at):
    with pytest.raises(_Killed):
        _train(tmp_path / "state", stop_at)
    _assert_same(straight, _train(tmp_path / "state"))


@pytest.mark.parametrize("stage", ["vae", "variance", "dynamics"])
@pytest.mark.parametrize("step", [1, 4])
def test_stopped_in_the_middle_of_a_stage_it_continues_to_the_bit(straight, tmp_path, monkeypatch, stage, step):
    from romvae.training import stages

    original = stages.Stage.training_step

    def failing(self, batch, batch_idx):
        if self.name == stage and self.done == step:
            raise _Killed
        return original(self, batch, batch_idx)

    monkeypatch.setattr(stages.Stage, "training_step", failing)
    with pytest.raises(_Killed):
        _train(tmp_path / "state")
    monkeypatch.setattr(stages.Stage, "training_step", original)
    state = read_state(tmp_path / "state")
    assert (state.stage, state.step) == (stage, step)
    _assert_same(straight, _train(tmp_path / "state"))


def test_stopped_many_times_it_still_arrives_at_the_same_weights(straight, tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(6):
        try:
            _train(tmp_path / "state", int(rng.integers(1, 5)))
        except _Killed:
            continue
    _assert_same(straight, _train(tmp_path / "state"))


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_the_state_and_says_where(straight, tmp_path, sig):
    before = signal.getsignal(sig)
    with pytest.raises(TrainingStoppedError, match=rf"{sig.name}; the state is in .*state") as caught:
        _train(tmp_path / "state", 2, sig)
    assert caught.value.exit_code == 128 + sig
    assert signal.getsignal(sig) is before
    _assert_same(straight, _train(tmp_path / "state"))


def test_a_damaged_state_falls_back_to_the_one_before(straight, tmp_path, caplog):
    path = tmp_path / "state"
    with pytest.raises(_Killed):
        _train(path, 4)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    _assert_same(straight, _train(path))
    assert "checksum differs" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is no training state"), (b"PK\x03\x04 something", "is no training state")],
)
def test_what_is_no_state_is_refused(tmp_path, content, reason):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        _train(tmp_path / "state")


@pytest.mark.parametrize("forced", [False, True])
def test_a_state_that_would_execute_code_is_refused_and_does_not(tmp_path, monkeypatch, forced):
    """Not even where the surroundings tell torch to load everything."""
    marker = tmp_path / "executed"
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    state = TrainingState({}, "vae", 0, {}, {"x": Hostile()}, History().to_dict())
    write_state(state, tmp_path / "state")
    with pytest.raises(CheckpointError, match="cannot be loaded without executing code"):
        read_state(tmp_path / "state")
    assert not marker.exists()


def test_other_settings_are_refused_by_name(tmp_path):
    with pytest.raises(_Killed):
        _train(tmp_path / "state", 3)
    with pytest.raises(ConfigError, match="was trained with seed = 0, now it is 1"):
        _train(tmp_path / "state", seed=1)
    with pytest.raises(ConfigError, match="vae_steps = 8, now it is 9"):
        _train(tmp_path / "state", vae_steps=9)


def test_a_loss_that_is_not_finite_stops_with_stage_step_and_trajectories_and_keeps_the_last_good_state(
    straight, tmp_path, monkeypatch
):
    original = MeanStage.loss

    def broken(self, batch):
        loss = original(self, batch)
        return loss * float("nan") if self.done == 5 else loss

    monkeypatch.setattr(MeanStage, "loss", broken)
    with pytest.raises(NumericsError, match=r"stage vae: the loss is nan at step 5 of 8 \(batch of .*trajectories \d"):
        _train(tmp_path / "state")
    assert read_state(tmp_path / "state").step == 5
    monkeypatch.setattr(MeanStage, "loss", original)
    _assert_same(straight, _train(tmp_path / "state"))


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(tmp_path, monkeypatch):
    original = MeanStage.loss

    def broken(self, batch):
        loss = original(self, batch)
        return loss + (loss - loss.detach()) * float("inf") if self.done == 3 else loss

    monkeypatch.setattr(MeanStage, "loss", broken)
    with pytest.raises(NumericsError, match=r"(the gradient's norm|the loss) is nan at step 3"):
        _train(tmp_path / "state")
    assert all(bool(value.isfinite().all()) for value in read_state(tmp_path / "state").model.values())


def test_divergence_is_advised_on_and_not_trained_through(tmp_path, monkeypatch):
    original = MeanStage.loss
    monkeypatch.setattr(MeanStage, "loss", lambda self, batch: original(self, batch) + (1e9 if self.done > 2 else 0))
    with pytest.raises(NumericsError, match=r"grown from .* Lower --training.learning-rate"):
        _train(tmp_path / "state")
