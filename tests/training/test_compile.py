"""Compiled networks in the first stage: decided by measurement, equal to rounding, and part of what a run remembers."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch

from romvae.data import split
from romvae.errors import ConfigError
from romvae.nn.compilable import compiled
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import MeanStage, compiling, fit
from romvae.training.compiling import decide_compiling

STEPS = {"vae_steps": 20, "variance_steps": 5, "dynamics_steps": 5, "batch_size": 16}


class _StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def parts():
    return split(mock_snapshots(1, trajectories=16, times=12), seed=0)


def _rom(parts, **choices):
    return ROM.for_data(parts.train, latent=3, channels=8, hidden=16, members=2, **choices)


def _trained(parts, **told):
    rom = _rom(parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(rom, parts, **{**STEPS, **told})
    return rom, history


def _stage(parts, steps: int = 1000, **choices):
    return MeanStage(_rom(parts, **choices).vae, steps)


@pytest.fixture
def pretended(monkeypatch):
    """Compiles nothing, and takes times from a list: of the eager passes first, then of the compiled ones."""
    calls = []

    def wrapped(function, **options):
        calls.append(function)
        return function

    def of(*seconds):
        left = list(seconds)
        monkeypatch.setattr(torch, "compile", wrapped)
        monkeypatch.setattr(compiling, "_seconds", lambda one_pass: left.pop(0))
        return calls

    return of


@pytest.mark.parametrize(("eager", "faster", "used"), [(1.0, 0.6, True), (1.0, 0.96, False), (1.0, 1.3, False)])
def test_auto_takes_what_it_measured_to_be_faster(parts, pretended, eager, faster, used):
    calls = pretended(eager, faster)
    stage = _stage(parts)
    found = decide_compiling(stage, "auto", 8, 1, "cpu")
    assert (found.used, found.eager_s, found.compiled_s) == (used, eager, faster)
    assert {call.__self__ for call in calls} >= {stage.vae.encoder, stage.vae.decoder.mean}


def test_auto_does_not_try_where_the_stage_is_over_before_it_has_paid(parts, pretended):
    calls = pretended(0.1)
    found = decide_compiling(_stage(parts, steps=int(compiling.WORTH / 0.1) - 1), "auto", 8, 1, "cpu")
    assert not found.used
    assert "too short" in found.why
    assert calls == []


def test_the_measurement_leaves_no_trace(parts, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(compiling, "WORTH", 0.0)
    stage = _stage(parts)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    random = torch.get_rng_state()
    found = decide_compiling(stage, "auto", 8, 2, "cpu")
    assert min(found.eager_s, found.compiled_s) > 0
    assert all(torch.equal(value, before[name]) for name, value in stage.state_dict().items())
    assert all(p.grad is None for p in stage.parameters())
    assert torch.equal(random, torch.get_rng_state())


def _broken(function, **options):
    def fails(*args):
        raise RuntimeError("No working C++ compiler found")

    return fails


def test_without_a_compiler_on_refuses_and_auto_goes_on_without(parts, monkeypatch, caplog):
    monkeypatch.setattr(torch, "compile", _broken)
    monkeypatch.setattr(compiling, "WORTH", 0.0)
    with pytest.raises(ConfigError, match=r"cannot be compiled: No working C\+\+ compiler found. Leave compile out"):
        _trained(parts, compile="on")
    rom, history = _trained(parts, compile="auto")
    assert not history.notes["compile"]["used"]
    assert "not compiled: No working C++ compiler" in caplog.text
    plain, _ = _trained(parts)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in rom.state_dict().items())


def test_dropout_is_not_compiled(parts, monkeypatch):
    monkeypatch.setattr(compiling, "WORTH", 0.0)
    stage = _stage(parts, dropout=0.1)
    assert not decide_compiling(stage, "auto", 8, 1, "cpu").used
    with pytest.raises(ConfigError, match="dropout"):
        decide_compiling(stage, "on", 8, 1, "cpu")


def test_only_training_passes_are_compiled_and_only_while_it_lasts(parts, monkeypatch):
    calls = []

    def counted(function, **options):
        return lambda batch: calls.append(len(batch)) or function(batch)

    monkeypatch.setattr(torch, "compile", counted)
    rom = _rom(parts)
    x = rom.normalised(parts.train)[0][0]
    with compiled([rom.vae]):
        rom.vae.decoder.mean(rom.vae.encoder(x).mean)
        with torch.no_grad():
            rom.vae.encoder(x)
    assert calls == [len(x)] * 2
    rom.vae.encoder(x)
    assert len(calls) == 2


def test_a_decision_is_kept_by_the_training_that_continues(parts, monkeypatch, tmp_path):
    """Were it measured again, weights would depend on when a training was interrupted."""
    monkeypatch.setattr(compiling, "WORTH", 0.0)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    left = [1.0, 0.5]
    monkeypatch.setattr(compiling, "_seconds", lambda one_pass: left.pop(0))

    def stop(stage, done, *args):
        if stage == "vae":
            raise _StoppedError

    told = {"compile": "auto", "checkpoint": tmp_path / "state", "checkpoint_every": 0.0}
    with pytest.raises(_StoppedError):
        _trained(parts, progress=stop, **told)
    with pytest.raises(ConfigError, match="was trained with compile = 'auto', now it is 'off'"):
        _trained(parts, **{**told, "compile": "off"})
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(torch, "compile", _broken)
        with pytest.raises(ConfigError, match="cannot be compiled"):  # on a machine without a compiler
            _trained(parts, **told)
    _, history = _trained(parts, **told)  # `left` is empty: a second measurement would fail
    assert history.notes["compile"]["used"]
    json.dumps(history.notes["compile"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("ndim", [1, 2])
def test_compiled_training_follows_the_eager_one_and_resumes_to_the_bit(ndim, tmp_path):
    parts = split(mock_snapshots(ndim, trajectories=16, times=12), seed=0)
    _, eager = _trained(parts)
    rom, whole = _trained(parts, compile="on")
    assert whole.notes["compile"]["used"]
    losses = (torch.tensor(history.curves["vae"]["loss"]) for history in (eager, whole))
    # Other orders of summation, through 20 steps of an optimiser that divides by the gradient's size.
    torch.testing.assert_close(*losses, rtol=1e-3, atol=1e-2)

    def stop(stage, done, *args):
        if stage == "vae" and done >= 10:
            raise _StoppedError

    told = {"compile": "on", "checkpoint": tmp_path / "state", "checkpoint_every": 0.0}
    with pytest.raises(_StoppedError):
        _trained(parts, progress=stop, **told)
    again, history = _trained(parts, **told)
    assert history.curves["vae"] == whole.curves["vae"]
    assert all(torch.equal(value, rom.state_dict()[name]) for name, value in again.state_dict().items())
