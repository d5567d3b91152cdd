"""Forecasts at times between stored ones lie on the same trajectories, or are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.canonical import snapshots
from romvae.distributions import moments
from romvae.dynamics import OdeDynamics
from romvae.errors import ConfigError
from romvae.quantities import keep_scores, maximum
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from tests.dynamics.kinds import DT, build, linear_system

STEP = 0.2
X = (np.arange(8) + 0.5) / 8


def _fields(times: np.ndarray, count: int = 12, growth: float = -0.4) -> np.ndarray:
    """u = exp(growth t) (a cos(t) sin(2 pi x) + a sin(t) cos(2 pi x)), from phases of its own."""
    rng = np.random.default_rng(0)
    size, phase = rng.uniform(0.5, 1.5, (count, 1, 1)), rng.uniform(0, 2 * np.pi, (count, 1, 1))
    t = times[:, None]
    return size * np.exp(growth * t) * np.sin(2 * np.pi * X + t + phase)


def _rom(dynamics: str, growth: float = -0.4, **choices) -> tuple[ROM, xr.Dataset]:
    """Codes are POD's, and the dynamics is what least squares makes of them."""
    times = STEP * np.arange(11)
    ends = {"x": ("periodic", "periodic")}
    data = snapshots({"u": _fields(times, growth=growth)}, {"x": X}, times, boundaries=ends)
    sizes = {"latent": 2, "compression": "pod", "variance": "global", "hidden": 4, "members": 2}
    rom = ROM.for_data(data, **sizes, dynamics=dynamics, **choices)
    x, c = rom.normalised(data)
    with torch.no_grad():
        z = moments(rom.vae.encoder(x.flatten(0, 1)))[0].unflatten(0, x.shape[:2])
    rom.dynamics.start_from_linear(z, c)
    if isinstance(rom.dynamics, OdeDynamics):
        rom.dynamics.network.silence()
    return rom.eval(), data


def test_a_differential_equation_is_solved_at_any_time():
    rom, data = _rom("ode", stride=2)
    wanted = np.array([0.0, 0.07, STEP, 0.53, 3 * STEP, 1.99])
    forecast = rom.rollout(data.isel(time=0), 10, 8, times=wanted)
    np.testing.assert_allclose(forecast.time, wanted, rtol=1e-12)
    # Runge-Kutta steps of 0.2 on a rate of about 1: 1e-5 of the state in each, float32 beside.
    np.testing.assert_allclose(forecast.u, _fields(wanted), atol=2e-3)
    stored = rom.rollout(data.isel(time=0), 10, 8, times=[STEP, 3 * STEP])
    for name in ("u", "u_std", "u_upper", "u_std_ensemble", "latent"):
        np.testing.assert_allclose(forecast[name].isel(time=[2, 4]), stored[name], rtol=1e-4, atol=1e-5)
    mean = rom.rollout(data.isel(time=0), 10, 1, times=wanted, propagation="mean")
    np.testing.assert_allclose(mean.u, _fields(wanted), atol=2e-3)


@pytest.mark.parametrize("kind", ["ode", "residual", "gru", "transformer", "fourier"])
def test_a_time_between_belongs_to_the_members_that_pass_by(kind):
    """A rollout with a half or a quarter of the stored step comes by the same times."""
    data = mock_snapshots(1, trajectories=6, times=10)
    rom = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2, dynamics=kind, stride=2).eval()
    with torch.no_grad():
        for each in rom.dynamics.parameters():
            each.add_(0.05 * torch.randn(each.shape, generator=torch.Generator().manual_seed(1)))
    first = data.isel(time=0)
    x, c = rom.normalised(first)
    dt, begin = rom.schema.dt, float(first.time)
    found = rom.rollout(first, 8, 2, times=begin + dt * np.array([0.5, 1.0, 2.75, 4.5]), propagation="mean")
    path = rom.dynamics.rollout(moments(rom.vae.encoder(x[:, 0]))[0], c, dt / 4, 24).mean(1)
    expected = path[[2, 4, 11, 18]].transpose(0, 1).detach().numpy()
    np.testing.assert_allclose(found.latent, expected, rtol=1e-4, atol=1e-5)
    assert rom.rollout(first, 8, 8, times=[begin + 2.75 * dt], propagation="auto").propagation == "members"
    with pytest.raises(ConfigError, match="propagation='linear' knows stored times only"):
        rom.rollout(first, 8, 8, times=[begin + 2.75 * dt], propagation="linear")


def test_the_calibration_is_interpolated_in_lead_time():
    rom, data = _rom("ode", stride=2)
    first, wanted = data.isel(time=0), [0.25 * STEP, 1.5 * STEP, 6.5 * STEP]
    keep_scores(rom, torch.tensor([0, 2, 4]), {"u_maximum": [np.arange(1, 31)[:, None] * np.array([[1.0, 2.0, 3.0]])]})
    plain = rom.rollout(first, 10, 8, times=wanted, quantities=[maximum("u")])
    calibration = rom.calibration
    calibration.half_width = calibration.half_width[:, :1].repeat(1, 2, 1)
    calibration.lead, calibration.variance_factor = torch.tensor([0.0, 4.0]), torch.tensor([[1.0], [16.0]])
    scaled = rom.rollout(first, 10, 8, times=wanted, quantities=[maximum("u")])
    # Linear in the logarithm of the variance from 1 to 16 over four steps, and held from there on.
    for k, factor in enumerate((16 ** (0.25 / 8), 16 ** (1.5 / 8), 4.0)):
        np.testing.assert_allclose(scaled.u_std[:, k], factor * plain.u_std[:, k], rtol=1e-5)
    half = (plain.u_maximum_upper - plain.u_maximum) / plain.u_maximum_std
    np.testing.assert_allclose(half, half.values[0, 0], rtol=1e-6)
    root = np.sqrt((np.arange(1, 31) ** 2).mean())
    raw = plain.u_maximum_std / (root * np.interp([0.25, 1.5, 6.5], [0, 2, 4], [1, 2, 3]))
    np.testing.assert_allclose(raw, raw.values.mean(), rtol=1e-3)  # the decoder's spread is the same at all times


@pytest.mark.parametrize(("kind", "stride"), [("residual", 1), ("gru", 1), ("linear", 2)])
def test_what_knows_stored_times_only_names_the_nearest(kind, stride):
    data = mock_snapshots(1, trajectories=6, times=10)
    rom = ROM.for_data(data, latent=3, channels=4, hidden=8, members=2, dynamics=kind, stride=stride)
    begin, dt = float(data.time[0]), rom.schema.dt
    near = f"nearest are {begin + 2 * dt:.10g} and {begin + 3 * dt:.10g}"
    with pytest.raises(ConfigError, match=rf"{near}\. Choose one of them, or train with dynamics='ode'"):
        rom.rollout(data.isel(time=0), 8, 8, times=[begin + 2.4 * dt])
    with pytest.raises(ConfigError, match=r"Choose among them, or roll out more steps"):
        rom.rollout(data.isel(time=0), 8, 8, times=[begin + 9 * dt])


def test_no_time_beyond_the_forecast_is_given():
    rom, data = _rom("ode", stride=2)
    for wanted in (-0.01, 10.01 * STEP, np.nan):
        with pytest.raises(ConfigError, match=r"is none of the forecast's, which go from 0 to 2, at any time"):
            rom.rollout(data.isel(time=0), 10, 8, times=[wanted])


def test_any_time_looks_back_and_is_driven():
    z, c, _ = linear_system()
    model = build("gru", stride=2)
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.2 * torch.randn(each.shape, generator=torch.Generator().manual_seed(1)).double())
    past, times = z[:, 1:5:2], DT * torch.arange(5, dtype=torch.float64)
    expected = model.rollout(z[:, 5], c, DT, 4, past=past)
    torch.testing.assert_close(model.at_times(z[:, 5], c, times, past=past), expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(model.at_times(z[:, 5], c, times)[1:], expected[1:], rtol=1e-3)


def test_controls_are_linear_between_stored_times():
    """z' = f(t) with f linear between stored times: z is the integral by the trapezoidal rule, at every time."""
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(12, 9, 1, dtype=torch.float64, generator=generator)
    z = torch.cat([torch.zeros(12, 1, 1), (DT * (f[:, 1:] + f[:, :-1]) / 2).cumsum(1)], 1)
    model = OdeDynamics(1, 2, DT, 1, 2, 4, controls=1).double()
    model.start_from_linear(z, torch.zeros(12, 0, dtype=torch.float64), f)
    model.network.silence()
    times = DT * torch.tensor([0.5, 3.25, 8.0], dtype=torch.float64)
    found = model.at_times(z[:, 0], torch.zeros(12, 0), times, controls=f)[:, 0, :, 0]
    for t, values in zip((0.5, 3.25, 8.0), found, strict=True):
        k, phase = (7, 1.0) if t == 8 else (int(t), t % 1)
        end = f[:, k] + phase * (f[:, k + 1] - f[:, k])
        expected = z[:, k] + phase * DT * (f[:, k] + end) / 2
        torch.testing.assert_close(values, expected[:, 0], rtol=1e-6, atol=1e-7)  # a penalty of 1e-8 in the fit


def test_linear_dynamics_grows_where_it_is_asked_to():
    stable, data = _rom("linear", growth=0.3)
    growing, _ = _rom("linear", growth=0.3, linear_stable=False)
    exact = _fields(STEP * np.arange(21), growth=0.3)
    for rom, low, high in ((growing, 0.0, 1e-2), (stable, 0.5, 1.0)):  # modes of the latter neither grow nor decay
        error = float(np.abs(rom.rollout(data.isel(time=0), 20, 8).u - exact).max()) / np.abs(exact).max()
        assert low <= error < high


@pytest.mark.parametrize("kind", ["linear", "gp"])
def test_the_choice_reaches_every_linear_kind(kind, tmp_path):
    for asked in (True, False):
        data = mock_snapshots(1, trajectories=6, times=10)
        rom = ROM.for_data(data, latent=3, channels=4, dynamics=kind, linear_stable=asked)
        assert rom.dynamics.stable is asked
        assert ROM.load(rom.save(tmp_path / str(asked))).dynamics.stable is asked


@pytest.mark.parametrize("kind", ["ode", "read off", "residual", "linear"])
def test_stored_times_are_those_of_a_rollout(kind):
    z, c, _ = linear_system()
    model = build("ode" if kind == "read off" else kind, stride=3)
    model.start_from_linear(z, c)
    if kind == "read off":  # the times within a large step lie on a cubic
        model.reads_off = True
    times = DT * torch.arange(8, dtype=torch.float64)
    expected = model.rollout(z[:, 0], c, DT, 7)
    torch.testing.assert_close(model.at_times(z[:, 0], c, times), expected, rtol=1e-10, atol=1e-10)
