"""Where training does not improve on what is known in closed form, that is kept."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from romvae import ROM, fit, split
from romvae.data import open_snapshots, write_snapshots
from romvae.distributions import moments
from romvae.errors import ConfigError, OutOfRangeWarning
from romvae.latent.activity import reconstruction_error
from romvae.linear_start import modes_of
from romvae.report.chosen import closed_form
from romvae.testing import mock_snapshots
from romvae.training.dynamics import Codes, DynamicsPlan
from romvae.training.fallback import decisions, first_forecast_error, forecast_error, keep_better_compression
from romvae.training.selection import trial

from .test_ragged import cut

STEPS = {"vae_steps": 4, "variance_steps": 4, "dynamics_steps": 4, "batch_size": 16, "threads": 1}


class _KilledError(Exception):
    pass


def _turning(trajectories: int = 40, times: int = 12, points: int = 32, noise: float = 0.0) -> xr.Dataset:
    """Two modes that turn into each other: linear in the field, and two POD modes hold all of it but the noise."""
    rng = np.random.default_rng(0)
    x = np.arange(points) / points
    phase = rng.uniform(0, 2 * np.pi, (trajectories, 1, 1))
    size = rng.uniform(0.5, 1.5, (trajectories, 1, 1))
    t = np.arange(times)[None, :, None]
    u = size * np.sin(2 * np.pi * x + phase - 0.3 * t)
    u = u + noise * rng.standard_normal(u.shape)
    ds = mock_snapshots(1, trajectories=trajectories, times=times, shape=(points,))
    return ds.assign({name: (ds[name].dims, u.astype(np.float32)) for name in list(ds.data_vars)})


def _fitted(data=None, choices=None, checkpoint=None, stop_at=None, rom=None, **settings):
    parts = split(_turning() if data is None else data, seed=0)
    sizes = {"latent": 2, "channels": 4, "hidden": 8, "members": 3, "stride": 1}
    rom = ROM.for_data(parts.train, **{**sizes, **(choices or {})}) if rom is None else rom
    calls = 0

    def progress(*args) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise _KilledError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        beside = {} if checkpoint is None else {"checkpoint": checkpoint, "checkpoint_every": 0.0}
        history = fit(rom, parts, progress=progress, **beside, **{**STEPS, **settings})
    return rom, history, parts, calls


def _error(rom, part) -> float:
    return reconstruction_error(rom.vae, rom.normalised(part, spacing=False)[0].flatten(0, 1))


def test_pod_is_kept_where_it_holds_new_snapshots_better():
    rom, history, parts, _ = _fitted()
    pod = ROM.for_data(parts.train, latent=2, compression="pod")
    other, told, *_ = _fitted(fallback="never")
    found = history.notes["compression"]
    assert found["kept"] == "pod"
    assert found["pod_error"] < found["error"]
    assert "compression" not in told.notes
    assert _error(rom, parts.test) == pytest.approx(_error(pod, parts.test), rel=1e-3, abs=1e-6)
    assert _error(rom, parts.test) < _error(other, parts.test)
    assert rom.config["compression"] == "vae"


@pytest.mark.parametrize(("noise", "latent"), [(0.1, 2), (0.0, 5)])  # with five latents there are only two modes
def test_the_code_of_a_kept_pod_is_known_exactly_and_its_dynamics_is_that_of_pod(noise, latent):
    data = _turning(noise=noise)
    rom, history, parts, _ = _fitted(data, {"latent": latent})
    pod, *_ = _fitted(data, {"compression": "pod", "latent": latent})
    assert history.notes["compression"]["kept"] == "pod"
    x = rom.normalised(parts.test, spacing=False)[0].flatten(0, 1)
    (mean, std), (other, narrow) = (moments(model.vae.encoder(x)) for model in (rom, pod))
    torch.testing.assert_close(mean, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std, narrow)
    assert float(std.max()) < 1e-5
    for (name, a), b in zip(rom.dynamics.state_dict().items(), pod.dynamics.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)


def test_an_autoencoder_that_is_better_stays():
    rng = np.random.default_rng(1)
    ds = mock_snapshots(1, trajectories=40, times=12, shape=(32,))
    x = np.arange(32) / 32
    place = rng.uniform(0.2, 0.5, (40, 1, 1)) + 0.02 * np.arange(12)[None, :, None]
    u = np.tanh((x - place) / 0.03).astype(np.float32)  # a front: a curve that no two modes hold
    data = ds.assign({name: (ds[name].dims, u) for name in list(ds.data_vars)})
    rom, history, parts, _ = _fitted(data, {"channels": 16}, vae_steps=300, augment="none")
    found = history.notes["compression"]
    assert found["kept"] == "network"
    assert found["error"] < 0.5 * found["pod_error"]
    pod = ROM.for_data(parts.train, latent=2, compression="pod")
    assert _error(rom, parts.test) < 0.5 * _error(pod, parts.test)


def test_linear_dynamics_is_kept_where_its_forecasts_are_better_and_survives_saving(tmp_path):
    rom, history, parts, _ = _fitted()
    found = history.notes["dynamics_kept"]
    assert found["kept"] == rom.config["dynamics"] == "linear"
    assert found["scores"]["linear"]["crps"] < found["scores"]["residual"]["crps"]
    assert found["scores"]["linear"]["error"] < 1e-2
    other = _fitted(fallback="never")[0]
    assert other.config["dynamics"] == "residual"
    rom.save(tmp_path / "rom")
    again = ROM.load(tmp_path / "rom")
    start = parts.test.isel(time=0)
    first, second = (model.rollout(start, steps=11, members=3, seed=0) for model in (rom, again))
    xr.testing.assert_identical(first, second)
    truth = next(iter(parts.test.data_vars))
    error = float(np.sqrt(((first[truth] - parts.test[truth]) ** 2).mean() / (parts.test[truth] ** 2).mean()))
    assert error < 0.02


def _chaotic() -> xr.Dataset:
    """Three waves whose amplitudes follow the equations of Lorenz (1963): quadratic, and not linear."""
    z = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5
    path, h = [], 0.01
    for k in range(300):
        x, y, w = z.unbind(-1)
        middle = z + h / 2 * torch.stack([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w], -1)
        x, y, w = middle.unbind(-1)
        z = z + h * torch.stack([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w], -1)
        if k >= 200 and k % 4 == 0:
            path.append(z)
    waves = torch.stack([torch.sin(2 * torch.pi * (k + 1) * torch.arange(24) / 24) for k in range(3)]).double()
    u = (torch.stack(path, 1) @ waves).float().numpy()
    ds = mock_snapshots(1, trajectories=60, times=25, shape=(24,))
    return ds.assign({name: (ds[name].dims, u) for name in list(ds.data_vars)})


@pytest.mark.parametrize("rate", [0.3, 1e-9])
def test_a_training_that_makes_polynomial_dynamics_worse_is_given_back(rate, tmp_path):
    """With steps that are far too large; with none, both are as good."""
    choices = {"latent": 3, "compression": "pod", "dynamics": "ode"}
    rom, history, parts, _ = _fitted(_chaotic(), choices, learning_rate=rate, augment="none")
    found = history.notes["dynamics_kept"]
    scores = {name: each["crps"] for name, each in found["scores"].items()}
    assert set(scores) == {"ode", "linear", "untrained"}
    assert found["kept"] == rom.config["dynamics"] == "ode"
    assert found["trained"] == (scores["ode"] <= scores["untrained"])
    silent = rom.dynamics.known()
    start, c = torch.zeros(2, 3), torch.zeros(2, len(rom.schema.parameters))
    same = torch.equal(rom.dynamics.step(start, c, float(silent.dt)), silent.step(start, c, float(silent.dt)))
    assert same == (not found["trained"])
    if rate > 0.1:
        assert not found["trained"]
        assert scores["untrained"] < 0.5 * scores["ode"]
        assert "polynomial" in closed_form({"kept": decisions(history.notes)})
    else:
        assert scores["untrained"] == pytest.approx(scores["ode"], rel=1e-3)
    rom.save(tmp_path / "rom")
    again = ROM.load(tmp_path / "rom")
    first, second = (model.rollout(parts.test.isel(time=0), 5, 3, 0) for model in (rom, again))
    xr.testing.assert_identical(first, second)
    assert (
        "untrained" not in _fitted(_chaotic(), choices | {"dynamics": "residual"})[1].notes["dynamics_kept"]["scores"]
    )


@pytest.mark.parametrize("same", [False, True])
def test_a_training_that_was_stopped_goes_on_to_the_same_decisions(tmp_path, same):
    """In another process, or in the same one with the ROM that was being trained."""
    straight, told, parts, calls = _fitted()
    for stop_at in (3, 7, 11, calls - 1):
        path = tmp_path / str(stop_at)
        rom = ROM.for_data(parts.train, latent=2, channels=4, hidden=8, members=3, stride=1)
        with pytest.raises(_KilledError):
            _fitted(checkpoint=path, stop_at=stop_at, rom=rom)
        again, found, *_ = _fitted(checkpoint=path, rom=rom if same else None)
        assert found.notes["compression"] == told.notes["compression"]
        assert found.notes["dynamics_kept"] == told.notes["dynamics_kept"]
        for (name, a), b in zip(straight.state_dict().items(), again.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("choices", "settings", "expected"),
    [
        ({}, {"objective": "beta", "beta": 2.0}, {"dynamics_kept"}),
        ({"variance": "joint"}, {}, {"dynamics_kept"}),
        ({"prior": "mixture"}, {}, {"dynamics_kept"}),
        ({"compression": "pod"}, {}, {"dynamics_kept"}),
        ({"dynamics": "linear"}, {}, {"compression"}),
        ({"transition": "gaussian"}, {}, {"compression"}),
        ({}, {"finetune": "mse", "finetune_steps": 2}, {"compression"}),
        ({}, {"fallback": "never"}, set()),
    ],
)
def test_what_was_asked_for_beyond_a_good_mean_is_left_as_it_is(choices, settings, expected):
    notes = _fitted(choices=choices, **settings)[1].notes
    assert {"compression", "dynamics_kept"} & set(notes) == expected


@pytest.mark.parametrize("kind", ["streamed", "ragged"])
def test_closed_forms_are_judged_on_what_there_is(tmp_path, kind):
    data, beside = _turning(), {}
    if kind == "streamed":
        write_snapshots(data, tmp_path / "data.zarr")
        data, beside = open_snapshots(tmp_path / "data.zarr"), {"memory_budget": 2e-5}
    else:
        data = cut(data, np.where(np.arange(40) % 3 == 0, 8, 12))
    rom, history, *_ = _fitted(data, **beside)
    whole, told, *_ = _fitted()
    assert ("memory_budget" in history.notes) == (kind == "streamed")
    assert history.notes["compression"]["kept"] == told.notes["compression"]["kept"] == "pod"
    assert history.notes["dynamics_kept"]["kept"] == "linear"
    test = _fitted(fallback="never")[2].test
    assert _error(rom, test) < 1e-4
    assert _error(whole, test) < 1e-4


def test_an_unknown_fallback_is_refused():
    with pytest.raises(ConfigError, match="fallback is 'nevr', expected auto or never"):
        _fitted(fallback="nevr")


def test_few_held_out_trajectories_decide_nothing():
    data = _turning(trajectories=14)
    _, history, parts, _ = _fitted(data)
    assert parts.variance.sizes["trajectory"] < 4
    assert not {"compression", "dynamics_kept"} & set(history.notes)


@pytest.mark.parametrize("gains", [True, False])
def test_pod_that_holds_little_less_is_kept_where_forecasts_gain_by_it(gains):
    rom, _, parts, _ = _fitted(_turning(noise=0.1), fallback="never")
    x = rom.normalised(parts.train, spacing=False)[0].flatten(0, 1)
    held = rom.normalised(parts.variance, spacing=False)[0].flatten(0, 1)
    modes = modes_of(x, 2)
    for part in (rom.vae.encoder, rom.vae.decoder.mean):  # as if training had found the best there is
        part.become_pod(modes.mean, modes.modes, modes.std)
    trained = {name: value.clone() for name, value in rom.vae.state_dict().items()}
    own = reconstruction_error(rom.vae, held)
    for turn, asked in ((0.0, 0), (0.04, 2), (0.15, 2), (2.0, 0)):  # better than what was trained, worse, much worse
        rom.vae.load_state_dict(trained)
        if turn == 0.0:  # what was trained is spoilt instead
            rom.vae.decoder.mean.linear.bias.data += 0.2
        others = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
        basis = torch.linalg.qr(torch.cat([modes.modes, others]).T)[0].T  # the last two are orthogonal to the modes
        off = replace(modes, modes=torch.linalg.qr((modes.modes + turn * basis[2:]).T)[0].T)
        states = []

        def forecast(projected, states=states):
            states.append(rom.vae.encoder.linear.weight.clone())
            return 0.1 if projected == gains else 0.2

        found = keep_better_compression(rom.vae, off, held, forecast=forecast)
        assert len(states) == asked
        if asked:
            assert 1 < found["pod_error"] / own < 2
            assert not torch.equal(*states)
            assert found["forecast"] != found["pod_forecast"]
        kept = "pod" if turn == 0.0 or (asked and gains) else "network"
        assert found["kept"] == kept
        expected = found["pod_error"] if kept == "pod" else own
        assert reconstruction_error(rom.vae, held) == pytest.approx(expected, rel=1e-6)


def _coded(rom, parts):
    """Fields and codes of the trajectories that are trained on, and of others."""
    found = {}
    for name in ("train", "variance"):
        x, c = rom.normalised(getattr(parts, name), spacing=False)
        mean, std = (part.detach() for part in moments(rom.vae.encoder(x.flatten(0, 1))))
        found[name] = x, Codes(*(part.reshape(1, *x.shape[:2], -1) for part in (mean, std)), c)
    return found["train"][1], *found["variance"][::-1]


def test_forecasts_are_judged_by_the_fields():
    """In two modes the field turns by a linear map, which the codes of two trained layers do not follow as well."""
    rom, _, parts, _ = _fitted(_turning(noise=0.02), fallback="never")
    codes, held, fields = _coded(rom, parts)
    linear = trial(rom, "linear")
    codes.start(linear)
    error = forecast_error(rom, linear, held, fields)
    assert reconstruction_error(rom.vae, fields.flatten(0, 1)) <= error * 1.05
    assert error < 0.2 < forecast_error(rom, linear, held, fields.flip(0))
    several = forecast_error(rom, rom.dynamics, held, fields)  # of networks: what the mean of their fields is off
    path = rom.dynamics.rollout(held.mean[0, :, 0], held.c, float(rom.dynamics.dt), fields.shape[1] - 1)
    with torch.no_grad():
        decoded = rom.vae.decoder(path.flatten(0, 2)).mean.unflatten(0, path.shape[:3]).mean(1).transpose(0, 1)
    assert several == pytest.approx(float((decoded - fields).square().mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize(("settled", "runs"), [(1e9, 0), (0.0, 1)])
def test_first_forecasts_try_a_network_where_linear_dynamics_leaves_something_to_gain(monkeypatch, settled, runs):
    rom, _, parts, _ = _fitted(_turning(noise=0.02), fallback="never")
    monkeypatch.setattr("romvae.training.fallback.SETTLED", settled)
    codes, held, fields = _coded(rom, parts)
    before, trained = {name: value.clone() for name, value in rom.state_dict().items()}, []
    linear = trial(rom, "linear")
    codes.start(linear)
    plan = DynamicsPlan(40, 1e-3, 16, 2, 0)

    def run(stage, batches):
        assert torch.is_grad_enabled()
        trained.append((stage.steps, type(stage.dynamics)))

    error = first_forecast_error(rom, codes, held, fields, torch.ones(2), plan, run)
    assert trained == [(8, type(rom.dynamics))][:runs]
    assert error <= forecast_error(rom, linear, held, fields) + 1e-12
    assert all(torch.equal(value, before[name]) for name, value in rom.state_dict().items())
