"""Training of the latent dynamics: what is learnt, what is kept, and which kind is chosen."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from romvae.data import split
from romvae.dynamics import GaussianTransition, OdeDynamics, ResidualDynamics
from romvae.dynamics.linear_ensemble import Form
from romvae.errors import ConfigError, DataError, NumericsError, OutOfRangeWarning, SchemaError
from romvae.rollout import latent_members
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import fit, selection
from romvae.training.batches import WindowBatches
from romvae.training.dynamics import Codes, DynamicsPlan, DynamicsStage, forecast_score, train_dynamics
from romvae.training.runner import run_stage
from romvae.training.session import Session
from tests.dynamics.kinds import DT, LEARNED, build

STEPS = {"vae_steps": 6, "variance_steps": 4, "dynamics_steps": 10, "batch_size": 4}


class _Killed(Exception):
    pass


def _run(stage, batches) -> None:
    run_stage(stage, batches, torch.nn.Module(), Session(None, {}), "cpu", lambda *args: None)


def _circles(trajectories: int, seed: int = 0, steps: int = 30) -> Codes:
    """Rotations whose angle is a quadratic function of the parameter, which no linear kind can follow."""
    c = 2 * torch.rand(trajectories, 1, generator=torch.Generator().manual_seed(seed)) - 1
    phase = 2 * math.pi * torch.rand(trajectories, 1, generator=torch.Generator().manual_seed(seed + 1))
    angle = phase + (0.2 + 0.15 * c**2) * torch.arange(steps + 1)
    mean = torch.stack([angle.cos(), angle.sin()], -1)[None]
    return Codes(mean, torch.full_like(mean, 1e-3), c)


def _fit_rom(checkpoint: Path | None = None, stop_at: int | None = None, choices=None, **settings):
    parts = split(mock_snapshots(1, trajectories=12, times=8), seed=0)
    rom = ROM.for_data(parts.train, latent=3, channels=4, hidden=8, members=2, **(choices or {}))
    calls = 0

    def progress(*args) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise _Killed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        history = fit(
            rom, parts, progress=progress, checkpoint=checkpoint, checkpoint_every=0.0, **{**STEPS, **settings}
        )
    return rom, history, calls


# -- what is learnt


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in LEARNED])
def test_every_network_learns_rotations_that_one_linear_map_cannot(kind):
    codes, held = _circles(64), _circles(32, seed=9)
    precision = torch.full((2,), 1e4)
    sizes = {"hidden": 32, "depth": 2} if kind != "transformer" else {"hidden": 32, "depth": 1}
    linear = build("linear", 2, 1, stride=5, members=1).float()
    linear._choice = lambda *data: Form(0, penalty=0.0)  # one map for all; with powers it is nearly exact
    codes.start(linear)
    model = type(build(kind))(2, 1, DT, 5, 1, **sizes)
    train_dynamics(model, codes, precision, DynamicsPlan(200, 1e-2, 64, 4), _run)
    found, without = (forecast_score(m, held, precision).error for m in (model, linear))
    # The phases differ by up to 4.5 radians at the end, of which one linear map can follow the mean only.
    assert without > 0.3
    assert found < 0.4 * without


@pytest.mark.slow
def test_products_stay_and_the_network_learns_what_they_leave():
    """Rotations seen through a bend: products with the parameters know most of them, the rest is nonlinear."""
    codes, held = (replace(each, mean=each.mean + 0.2 * each.mean**3) for each in (_circles(64), _circles(64, seed=9)))
    precision = torch.full((2,), 1e6)
    model = ResidualDynamics(2, 1, DT, 5, 1, hidden=32, depth=2)
    codes.start(model)
    start, before = model.products.weight.clone(), forecast_score(model, held, precision).error
    assert float(model.products.used) == 1.0
    train_dynamics(model, codes, precision, DynamicsPlan(300, 1e-2, 64, 4), _run)
    assert torch.equal(model.products.weight, start)
    assert forecast_score(model, held, precision).error < 0.95 * before


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(("kind", "trajectories"), [("linear", 20), ("gp", 9)])
def test_codes_say_which_of_them_are_copies_of_one_trajectory(kind, trajectories, ragged):
    """Codes that their symmetric copies repeat give the same ensemble as they do alone, disagreement included."""
    codes, models = _circles(trajectories), []
    kept = torch.ones(trajectories, codes.mean.shape[2], dtype=torch.bool)
    kept[::4, 20:] = False
    for copies in (1, 3):
        mean, std = (part.double().repeat(copies, 1, 1, 1) for part in (codes.mean, codes.std))
        model = build(kind, 2, 1, members=3)
        Codes(mean, std, codes.c.double(), kept=kept if ragged else None).start(model)
        models.append(model.state_dict())
    for name, value in models[0].items():
        # The scales of the process come from an optimiser that stops at a tolerance.
        torch.testing.assert_close(models[1][name], value, rtol=1e-3 if kind == "gp" else 1e-8, atol=1e-8)


def _ornstein_uhlenbeck(trajectories: int, steps: int, decay: float, std: float) -> Codes:
    generator = torch.Generator().manual_seed(3)
    stationary = std / math.sqrt(1 - decay**2)
    path = [stationary * torch.randn(trajectories, 1, generator=generator)]
    for _ in range(steps):
        path.append(decay * path[-1] + std * torch.randn(trajectories, 1, generator=generator))
    mean = torch.stack(path, 1)[None]
    return Codes(mean, torch.zeros_like(mean), torch.zeros(trajectories, 0))


@pytest.mark.slow
def test_a_transition_recovers_an_ornstein_uhlenbeck_process():
    decay, std = 0.9, 0.3
    codes = _ornstein_uhlenbeck(256, 40, decay, std)
    model = GaussianTransition(ResidualDynamics(1, 0, DT, members=2, hidden=8, depth=1), spread=1.0)
    precision = torch.ones(1)
    train_dynamics(model, codes, precision, DynamicsPlan(400, 5e-3, 128, 4), _run)
    z = torch.linspace(-1, 1, 21)[:, None]
    c = torch.zeros(21, 0)
    with torch.no_grad():
        p = model(z.unsqueeze(-2), c, DT)
        # 10,000 transitions fix the decay to 0.005 and the width to 1 %; optimisation noise is some times that.
        torch.testing.assert_close(p.mean.mean(0), decay * z, rtol=0, atol=0.06)
        torch.testing.assert_close(p.stddev.mean(0), torch.full_like(z, std), rtol=0.12, atol=0)
        noise = torch.randn(200, 2, 500, 1, generator=torch.Generator().manual_seed(5))
        long = model.rollout(torch.zeros(500, 1), torch.zeros(500, 0), DT, 200, noise=noise)[50:]
    # Stationary standard deviation std / sqrt(1 - decay^2): an error e of the decay moves it by about 5 e.
    assert float(long.std()) == pytest.approx(std / math.sqrt(1 - decay**2), rel=0.2)


def test_the_energy_score_is_least_at_the_true_spread():
    codes = _ornstein_uhlenbeck(64, 30, 0.9, 0.3)
    model = GaussianTransition(ResidualDynamics(1, 0, DT, members=1, hidden=4, depth=1))
    codes.start(model)
    batches = WindowBatches(codes.mean, codes.std, codes.c, 1, 512, 1, 3, 100, 0, samples=4)
    stage = DynamicsStage(model, torch.ones(1), 100)
    scores = []
    for spread in (0.1, 0.3, 0.9):
        with torch.no_grad():
            model.log_std.fill_(math.log(spread / float(model.mean_model.scale)))
            scores.append(
                np.mean([float(stage.loss(batches.batch(torch.Generator().manual_seed(s), 99))) for s in range(8)])
            )
    assert scores[1] < scores[0]
    assert scores[1] < scores[2]


def test_consistency_is_nothing_for_codes_that_decode_to_themselves():
    class Faithful(torch.nn.Module):
        def __init__(self, pull: float) -> None:
            super().__init__()
            self.pull, self.decoder = pull, torch.nn.Module()
            self.decoder.mean = lambda z: z

        def encoder(self, x: Tensor):
            return torch.distributions.Independent(torch.distributions.Normal(self.pull * x, 1.0), 1)

    codes = _circles(16)
    model = ResidualDynamics(2, 1, DT, members=2, hidden=4)
    batch = WindowBatches(codes.mean, codes.std, codes.c, 2, 8, 1, 2, 10, 0).batch(torch.Generator(), 9)
    losses = [
        float(DynamicsStage(model, torch.ones(2), 10, vae=vae, consistency=1.0).loss(batch).detach())
        for vae in (None, Faithful(1.0), Faithful(0.5))
    ]
    assert losses[0] == losses[1] < losses[2]


# -- what is kept


def test_the_average_of_the_weights_is_that_of_its_formula(monkeypatch):
    codes = _circles(16)
    model = ResidualDynamics(2, 1, DT, members=1, hidden=4, depth=1)
    weights = []
    original = DynamicsStage._follow

    def following(self, done):
        original(self, done)
        weights.append(self.dynamics.linear.detach().clone())

    monkeypatch.setattr(DynamicsStage, "_follow", following)
    train_dynamics(model, codes, torch.ones(2), DynamicsPlan(6, 1e-2, 8, 2, ema=0.5), _run)
    average = weights[0].clone()
    for k, value in enumerate(weights, 1):
        decay = min(0.5, k / (k + 10))
        average = decay * average + (1 - decay) * value
    torch.testing.assert_close(model.linear.detach(), average, rtol=1e-5, atol=1e-7)


def test_training_stops_on_the_forecast_and_keeps_the_best_weights():
    codes = _circles(16)
    model = ResidualDynamics(2, 1, DT, members=1, hidden=4, depth=1)
    codes.start(model)
    seen: list[Tensor] = []
    scores = iter([3.0, float("inf"), 1.0, float("nan"), 2.0, 2.0, 0.0])

    def judge(dynamics) -> float:
        seen.append(dynamics.linear.detach().clone())
        return next(scores)

    stage = DynamicsStage(model, torch.ones(2), 50, 1e-2, judge=judge, patience=3)
    _run(stage, WindowBatches(codes.mean, codes.std, codes.c, 1, 8, 1, 2, 50, 0))
    assert stage.done == 12  # an evaluation every second step, the third is the best, three more without progress
    assert torch.equal(model.linear, seen[2])
    assert stage.history["forecast_step"] == [2, 4, 6, 8, 10, 12]


def test_a_diverging_forecast_scores_infinity():
    codes = _circles(8)
    model = build("linear", 2, 1, members=1, stable=False)
    model.A *= 1e40
    score = forecast_score(model, Codes(codes.mean.double(), codes.std.double(), codes.c.double()), torch.ones(2))
    assert score.error == score.crps == math.inf


def test_the_score_of_a_perfect_forecast_is_zero_and_of_the_mean_one():
    held = _circles(64, steps=40)
    still = ResidualDynamics(2, 1, DT, members=3, hidden=4)

    class Known(ResidualDynamics):
        def rollout(self, z0, c, dt, steps, **beside):
            return self.path.unsqueeze(1).expand(-1, 3, -1, -1)

    known = Known(2, 1, DT, members=3, hidden=4)
    truth = held.mean[0].transpose(0, 1)
    for path, expected in ((truth, 0.0), (truth.mean((0, 1)).expand_as(truth), 1.0)):
        known.path = path
        score = forecast_score(known, held, torch.ones(2))
        assert score.error == pytest.approx(expected, abs=1e-6)
        assert score.crps == pytest.approx(expected, abs=1e-6)
    assert forecast_score(still, held, torch.ones(2)).error > 0.5


@pytest.mark.parametrize(
    ("kind", "step"),
    [("gru", 3), *(pytest.param(*each, marks=pytest.mark.slow) for each in (("gru", 8), ("ode", 3), ("ode", 8)))],
)
def test_average_best_weights_and_patience_continue_to_the_bit(tmp_path, monkeypatch, kind, step):
    settings = {"choices": {"dynamics": kind}, "ema": 0.8, "patience": 2, "latent_consistency": 0.1}
    straight = _fit_rom(**settings)
    original = DynamicsStage.training_step

    def failing(self, batch, batch_idx):
        if self.done == step:
            raise _Killed
        return original(self, batch, batch_idx)

    if step < len(straight[1].curves["dynamics"]["loss"]):
        monkeypatch.setattr(DynamicsStage, "training_step", failing)
        with pytest.raises(_Killed):
            _fit_rom(tmp_path / "state", **settings)
        monkeypatch.setattr(DynamicsStage, "training_step", original)
    again = _fit_rom(tmp_path / "state", **settings)
    for (name, a), b in zip(straight[0].state_dict().items(), again[0].state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert straight[1].curves == again[1].curves


# -- which kind is chosen


@pytest.mark.parametrize("many", [False, True])
def test_auto_says_what_it_chose_and_why_and_continues_to_the_bit(tmp_path, monkeypatch, many):
    monkeypatch.setattr(selection, "MANY", 2 if many else 100)
    auto = {"choices": {"dynamics": "auto"}}
    straight = _fit_rom(**auto)
    found = straight[1].notes["dynamics"]
    assert set(found["scores"]) == {"residual", "linear", "ode", "gru", "transformer", "gp"} | (
        {"fourier"} if many else set()
    )
    assert found["kind"] == min(found["scores"], key=lambda kind: found["scores"][kind]["crps"])
    assert straight[0].config["dynamics"] == found["kind"]
    for stop_at in (4, straight[2] - 2):  # before and after the choice
        path = tmp_path / str(stop_at)
        with pytest.raises(_Killed):
            _fit_rom(path, stop_at, **auto)
        again = _fit_rom(path, **auto)
        for (name, a), b in zip(straight[0].state_dict().items(), again[0].state_dict().values(), strict=True):
            assert torch.equal(a, b), name
        assert again[1].notes["dynamics"] == found
    straight[0].save(tmp_path / "rom")
    start = split(mock_snapshots(1, trajectories=12, times=8), seed=0).test.isel(time=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forecasts = [rom.rollout(start, members=8) for rom in (straight[0], ROM.load(tmp_path / "rom"))]
    xr.testing.assert_identical(*forecasts)


def test_a_kind_that_diverges_is_not_chosen(monkeypatch):
    original = DynamicsStage.training_step

    def failing(self, batch, batch_idx):
        if self.name == "dynamics: ode":
            raise NumericsError("the loss is nan")
        return original(self, batch, batch_idx)

    monkeypatch.setattr("romvae.training.selection.CANDIDATES", ("ode", "residual"))
    monkeypatch.setattr(DynamicsStage, "training_step", failing)
    rom, history, _ = _fit_rom(choices={"dynamics": "auto"})
    assert rom.config["dynamics"] == "residual"
    assert history.notes["dynamics"]["diverged"] == {"ode": "the loss is nan"}
    assert set(history.notes["dynamics"]["scores"]) == {"residual"}


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"dynamics": "linear", "transition": "gaussian"}, "dynamics 'linear' has no gaussian transition"),
        ({"dynamics": "lstm"}, "dynamics is 'lstm', expected one of residual, linear, ode"),
        ({"dynamics": "gru", "history": 0}, "history is 0, expected 1 or more"),
    ],
)
def test_kinds_that_do_not_go_together_are_refused(choices, reason):
    with pytest.raises(ConfigError, match=reason):
        ROM.for_data(mock_snapshots(1), latent=2, channels=4, **choices)


# -- histories, noise and controls of a whole ROM


@pytest.fixture(scope="module")
def remembering():
    return _fit_rom(choices={"dynamics": "gru", "history": 3})[0]


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
def test_a_model_with_memory_starts_from_one_field_or_several(remembering):
    data = split(mock_snapshots(1, trajectories=12, times=8), seed=0).test
    single, several = remembering.rollout(data.isel(time=[2])), remembering.rollout(data.isel(time=[0, 1, 2]))
    assert several.sizes["time"] == single.sizes["time"] == 8
    assert float(several.time[0]) == float(data.time[2])
    np.testing.assert_allclose(several.u.isel(time=0), single.u.isel(time=0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(several.u.isel(time=-1), single.u.isel(time=-1), rtol=1e-6)
    with pytest.raises(DataError, match=r"start holds 4 times, expected 1 to 3\. .*time=slice\(-3, None\)"):
        remembering.rollout(data.isel(time=slice(0, 4)))


def test_noise_belongs_to_the_trajectory_and_the_member():
    rom = _fit_rom(choices={"transition": "gaussian"}, dynamics_steps=2)[0]
    assert rom.config["stride"] == 1
    x, c = rom.normalised(mock_snapshots(1, trajectories=3, times=2))
    few, many = (latent_members(rom.vae, rom.dynamics, x[:, 0], c, 6, m, 0) for m in (3, 6))
    torch.testing.assert_close(few, many[:, :3], rtol=1e-4, atol=1e-5)  # float32 products of other sizes
    alone = latent_members(rom.vae, rom.dynamics, x[2:, 0], c[2:], 6, 3, 0, first=2)
    torch.testing.assert_close(alone[:, :, 0], few[:, :, 2], rtol=1e-4, atol=1e-5)
    mean = latent_members(rom.vae, rom.dynamics, x[:, 0], c, 6, 1, 0)
    assert not torch.allclose(mean[-1, 0], few[-1, 0], rtol=1e-3)


def test_a_divergence_is_reported_with_its_step():
    rom = _fit_rom(choices={"dynamics": "linear"})[0]
    rom.dynamics.stable = False
    rom.dynamics.b.fill_(float("inf"))
    x, c = rom.normalised(mock_snapshots(1, trajectories=2, times=2))
    with pytest.raises(NumericsError, match=r"stopped being finite at step 1 of 9"):
        latent_members(rom.vae, rom.dynamics, x[:, 0], c, 9, 4, 0)
    rom.dynamics.b.zero_()
    rom.dynamics.A.copy_(30 * torch.eye(rom.vae.latent))
    with pytest.raises(NumericsError, match=r"has grown more than 10000 times at step [2-5] of 9"):
        latent_members(rom.vae, rom.dynamics, x[:, 0], c, 9, 4, 0)


def _driven(trajectories: int = 12, times: int = 10) -> xr.Dataset:
    """u = a(t) sin(x) with a' = f(t): the amplitude is the integral of the forcing by the trapezoidal rule."""
    rng = np.random.default_rng(0)
    forcing = rng.normal(size=(trajectories, times))
    steps = 0.05 * (forcing[:, 1:] + forcing[:, :-1])
    amplitude = np.concatenate([np.ones((trajectories, 1)), 1 + np.cumsum(steps, 1)], 1)
    data = mock_snapshots(1, trajectories=trajectories, times=times).drop_vars("viscosity")
    data["u"] = data.u.copy(data=(amplitude[..., None] * np.sin(2 * np.pi * data.x.values)).astype(np.float32))
    data["f"] = (("trajectory", "time"), forcing, {"romvae_role": "forcing", "units": "m s-2"})
    return data


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
@pytest.mark.filterwarnings("ignore::romvae.errors.FewMembersWarning")
def test_a_forced_field_is_followed_through_its_control(tmp_path):
    data = _driven()
    parts = split(data, seed=0)
    rom = ROM.for_data(parts.train, latent=1, members=2, compression="pod", variance="global", dynamics="linear")
    assert rom.schema.control_names == ("f",)
    fit(rom, parts, **STEPS)
    test = parts.test
    forecast = rom.rollout(test.isel(time=0), members=1, controls=test)
    # One mode and an exactly linear system: what is left is float32, and the POD's.
    np.testing.assert_allclose(forecast.u, test.u, atol=1e-4)
    rom.save(tmp_path / "rom")
    again = ROM.load(tmp_path / "rom").rollout(test.isel(time=0), members=1, controls=test)
    xr.testing.assert_identical(forecast, again)
    later = rom.rollout(test.isel(time=3), steps=4, members=1, controls=test)
    np.testing.assert_allclose(later.u, test.u.isel(time=slice(3, 8)), atol=1e-4)
    with pytest.raises(SchemaError, match="driven by f, whose values are needed"):
        rom.rollout(test.isel(time=0))
    with pytest.raises(SchemaError, match=r"no value at time 0\.8.*, step 5 of 9"):
        rom.rollout(test.isel(time=3), controls=test.isel(time=slice(0, 8)))
    with pytest.raises(SchemaError, match="control 'f' is missing"):
        rom.rollout(test.isel(time=0), controls=test.drop_vars("f"))
    with pytest.raises(SchemaError, match="control 'f' is missing"):
        fit(rom, split(data.drop_vars("f"), seed=0), **STEPS)


def test_the_ode_of_a_rom_sees_the_control_at_both_ends_of_a_step():
    rom = ROM.for_data(_driven(), latent=1, channels=4, hidden=4, members=2, dynamics="ode")
    assert isinstance(rom.dynamics, OdeDynamics)
    assert (rom.dynamics.controls, rom.dynamics.parameters_in, rom.dynamics.stride) == (1, 1, 1)
