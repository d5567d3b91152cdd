"""bfloat16 in the convolutions of a training step: near float32 in loss and forecast, and float32 everywhere else."""

from __future__ import annotations

import warnings

import pytest
import torch

from romvae.candidates import forecast_error
from romvae.data import split
from romvae.errors import ConfigError
from romvae.nn.observation import SharedGaussian
from romvae.nn.precision import in_precision
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import MeanStage, fit
from romvae.training.session import read_state

STEPS = {"vae_steps": 60, "variance_steps": 20, "dynamics_steps": 60, "batch_size": 16}


class _StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def parts():
    return split(mock_snapshots(1, trajectories=16, times=12), seed=0)


def _trained(parts, precision: str, **told):
    rom = ROM.for_data(parts.train, latent=3, channels=8, hidden=16, members=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = fit(rom, parts, precision=precision, **{**STEPS, **told})
    return rom, history


@pytest.fixture(scope="module")
def both(parts):
    return {name: _trained(parts, name) for name in ("float32", "bf16")}


def test_losses_and_forecasts_are_near_those_of_float32(both, parts):
    single, half = (both[name][1].curves["vae"]["loss"] for name in ("float32", "bf16"))
    # Eight bits: errors of 2^-9 per product of the convolutional correction, which itself is small beside the field.
    assert half[0] == pytest.approx(single[0], rel=1e-2)
    assert half != single
    errors = {name: forecast_error(rom, parts.variance) for name, (rom, _) in both.items()}
    assert errors["bf16"] < 1.25 * errors["float32"]


def test_weights_buffers_and_the_optimiser_are_float32(both, parts, tmp_path):
    assert all(value.dtype != torch.bfloat16 for value in both["bf16"][0].state_dict().values())
    calls = []

    def progress(stage, *args):
        calls.append(stage)
        if stage == "dynamics":
            raise _StoppedError

    with pytest.raises(_StoppedError):
        _trained(parts, "bf16", checkpoint=tmp_path / "state", checkpoint_every=0.0, progress=progress)
    state = read_state(tmp_path / "state")
    moments = [value for one in state.optimiser["optimiser"]["state"].values() for value in one.values()]
    assert moments
    assert {value.dtype for value in moments} == {torch.float32}
    assert torch.bfloat16 not in {value.dtype for value in state.model.values()}


def test_a_training_is_not_continued_in_other_digits(parts, tmp_path):
    def progress(stage, *args):
        raise _StoppedError

    with pytest.raises(_StoppedError):
        _trained(parts, "float32", checkpoint=tmp_path / "state", progress=progress)
    with pytest.raises(ConfigError, match="was trained with precision = 'float32', now it is 'bf16'"):
        _trained(parts, "bf16", checkpoint=tmp_path / "state")


def test_convolutions_round_and_likelihood_and_divergence_do_not(parts, monkeypatch):
    rom = ROM.for_data(parts.train, latent=3, channels=8, hidden=16, members=2)
    stage, seen = MeanStage(rom.vae, 10), {}
    stage.digits = "bf16"
    conv = next(m for m in rom.vae.encoder.trunk.modules() if isinstance(m, torch.nn.Conv1d))
    conv.register_forward_hook(lambda m, args, out: seen.update(conv=out.dtype))
    original = SharedGaussian.profiled

    def profiled(self, residual, *args):
        seen["residual"], seen["autocast"] = residual.dtype, torch.is_autocast_enabled("cpu")
        return original(self, residual, *args)

    monkeypatch.setattr(SharedGaussian, "profiled", profiled)
    x, _ = rom.normalised(parts.train)
    loss = stage.training_step({"x": x.flatten(0, 1)[:8]}, 0)
    assert seen == {"conv": torch.bfloat16, "residual": torch.float32, "autocast": False}
    assert loss.dtype == torch.float32
    rom.vae.encoder(x[:, 0])
    assert rom.vae.encoder.reduced is None  # what looks at the model outside of a step sees float32


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_linear_model_is_not_rounded_at_all(ndim):
    """The linear paths are the model at the start of a training, and POD is to be no worse for fewer digits."""
    data = split(mock_snapshots(ndim, trajectories=12, times=8), seed=0).train
    rom = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2)
    x = rom.normalised(data)[0].flatten(0, 1)
    with torch.no_grad():
        code, field = rom.vae.encoder(x).mean, rom.vae.decoder.mean(rom.vae.encoder(x).mean)
        with in_precision([rom.vae], "bf16"):
            assert {rom.vae.encoder.reduced, rom.vae.decoder.mean.reduced} == {torch.bfloat16}
            # The convolutional corrections start at zero, which is exact in any precision.
            torch.testing.assert_close(rom.vae.encoder(x).mean, code, rtol=0, atol=0)
            torch.testing.assert_close(rom.vae.decoder.mean(code), field, rtol=0, atol=0)
