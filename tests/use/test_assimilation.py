"""Assimilation is held to the exact Kalman filter and smoother, and sensors to what they must read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

import romvae
from romvae import assimilate
from romvae.assimilation import Sensors, etkf, observe, perturbed_observations
from romvae.assimilation.analysis import _initial
from romvae.assimilation.filters import exact_sample
from romvae.distributions import moments
from romvae.errors import ConfigError, DataError, SchemaError
from romvae.schema import Schema
from romvae.testing import mock_snapshots

PLACES = {"x": [0.1, 0.33, 0.7]}


@pytest.fixture(scope="module")
def linear():
    """A ROM with linear dynamics and decoder in float64, and observations of its data."""
    parts = romvae.split(mock_snapshots(1, trajectories=10, times=12), seed=0)
    rom = romvae.ROM.for_data(
        parts.train, latent=2, members=1, compression="pod", dynamics="linear", variance="global"
    ).double()
    x, c = rom.normalised(parts.train)
    with torch.no_grad():
        rom.vae.decoder.log_var_shared.fill_(-4.0)
        z = moments(rom.vae.encoder(x.double().flatten(0, 1)))[0].unflatten(0, x.shape[:2])
    rom.dynamics.start_from_linear(z, c)
    observations = observe(parts.test, PLACES, 0.1, every=2)
    return SimpleNamespace(rom=rom, start=parts.test.isel(time=0), observations=observations, test=parts.test)


def model(linear, trajectory=0, background=10.0):
    """Matrices of z' = A z + a, y = H z + h with their errors, read off the ROM, for one trajectory."""
    rom = linear.rom
    x, c = rom.normalised(linear.start.isel(trajectory=[trajectory]))
    sensors = Sensors.of(linear.observations, rom.schema)
    sensors = sensors.normalised(rom.normaliser.mean, rom.normaliser.std, rom.schema.grid.points)
    probes = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
    with torch.no_grad():
        after = rom.dynamics.rollout(probes[None], c.double().expand(3, -1), float(rom.dynamics.dt), 1)[1, 0]
        p = rom.vae.decoder(probes)
        mean, std = moments(rom.vae.encoder(x[:, 0].double()))
    seen = sensors(p.mean.flatten(1))
    rho = sensors.variance(p.variance.flatten(1))[0]
    A, a = (after[1:] - after[0]).T.numpy(), after[0].numpy()
    H, h = (seen[1:] - seen[0]).T.numpy(), seen[0].numpy()
    R = np.diag(0.1**2 + rho.numpy())
    return A, a, H, h, R, mean[0].numpy(), np.diag((background * std[0].numpy()) ** 2)


def kalman(linear, trajectory=0):
    """The Kalman filter: means and covariances at steps 0 to 10, observations at the even steps after the first."""
    A, a, H, h, R, m, P = model(linear, trajectory)
    y = linear.observations["value"].values[trajectory]
    out = [(m, P)]
    for step in range(1, 11):
        m, P = A @ m + a, A @ P @ A.T
        if step % 2 == 0:
            gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + R)
            m, P = m + gain @ (y[step // 2 - 1] - H @ m - h), P - gain @ H @ P
        out.append((m, P))
    return out


def run(linear, method, **options):
    given = {"background": 10.0, "model_error": 0.0, "members": 8, **options}
    return assimilate(linear.rom, linear.start, linear.observations, method=method, **given)


def test_etkf_is_the_kalman_filter(linear):
    result = run(linear, "etkf")
    for i in range(result.sizes["trajectory"]):
        exact = kalman(linear, i)
        assert np.allclose(result["latent"][i], [m for m, _ in exact], atol=1e-9)  # round-off, grown by 10 steps
        assert np.allclose(result["latent_std"][i], [np.sqrt(np.diag(P)) for _, P in exact], rtol=1e-7)


def test_enkf_converges_to_the_kalman_filter_like_one_over_the_root_of_its_members(linear):
    exact = np.array([[m for m, _ in kalman(linear, i)] for i in range(linear.start.sizes["trajectory"])])
    sizes = np.array([16, 64, 256, 1024])
    errors = [
        np.sqrt(np.mean([np.mean((run(linear, "enkf", members=n, seed=s)["latent"] - exact) ** 2) for s in range(6)]))
        for n in sizes
    ]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.12)  # six repetitions: each error is known to about a tenth


def test_4dvar_is_the_kalman_smoother(linear):
    result = run(linear, "4dvar")
    for i in range(result.sizes["trajectory"]):
        A, a, H, h, R, m, P = model(linear, i)
        precision, rhs = np.linalg.inv(P), np.linalg.inv(P) @ m
        B, b = np.eye(2), np.zeros(2)
        for step in range(1, 11):
            B, b = A @ B, A @ b + a
            if step % 2 == 0:
                J, y = H @ B, linear.observations["value"].values[i, step // 2 - 1]
                precision = precision + J.T @ np.linalg.inv(R) @ J
                rhs = rhs + J.T @ np.linalg.inv(R) @ (y - h - H @ b)
        z0 = np.linalg.solve(precision, rhs)
        assert np.allclose(result["latent"][i, 0], z0, atol=1e-7)  # L-BFGS ends at a gradient of 1e-11 of its scale
        assert np.allclose(result["latent_std"][i, 0], np.sqrt(np.diag(np.linalg.inv(precision))), rtol=1e-6)


def test_4dvar_in_windows_ends_where_the_kalman_filter_does(linear):
    result = run(linear, "4dvar", window=4)
    for i in range(result.sizes["trajectory"]):
        m, P = kalman(linear, i)[-1]
        assert np.allclose(result["latent"][i, -1], m, atol=1e-7)
        assert np.allclose(result["latent_std"][i, -1], np.sqrt(np.diag(P)), rtol=1e-5)


@pytest.mark.parametrize("method", ["etkf", "enkf", "4dvar"])
def test_missing_readings_count_as_no_sensor(linear, method):
    fewer = linear.observations.isel(sensor=[0, 2])
    holes = linear.observations.copy(deep=True)
    holes["value"][:, :, 1] = np.nan
    options = {"background": 10.0, "members": 8, "method": method}
    with_holes = assimilate(linear.rom, linear.start, holes, **options)
    without = assimilate(linear.rom, linear.start, fewer, **options)
    tolerance = 1e-8 if method != "enkf" else 0.05  # other random numbers
    assert np.allclose(with_holes["latent"], without["latent"], atol=tolerance)


def test_observations_improve_on_the_prior(linear):
    """Without a start: from the prior of the codes to the truth within what sensors and code leave open."""
    result = assimilate(linear.rom, None, linear.observations, members=16)
    error = (result["u"] - linear.test["u"].sel(time=result["time"], method="nearest").values) ** 2
    assert float(error[:, -1].mean()) < 0.1 * float((linear.test["u"] ** 2).mean())
    assert result.sizes["time"] == 9  # from the first observation to the last
    spread = result["latent_std"].mean(("trajectory", "latent"))
    assert float(spread[-1]) < 0.5 * float(spread[0])


def test_result_goes_beyond_the_last_observation(linear):
    result = run(linear, "etkf", steps=14)
    A, a, *_ = model(linear)
    z = result["latent"][0].values
    assert np.allclose(z[-1], A @ z[-2] + a, atol=1e-9)
    total = result["u_std_decoder"] ** 2 + result["u_std_dynamics"] ** 2
    assert np.allclose(total, result["u_std"] ** 2, rtol=1e-6)


def test_stochastic_dynamics_keep_their_noise_beyond_the_last_observation(linear):
    """A linear mean and noise of one size: the covariance of the state grows as A P A^T + Q."""
    rom = romvae.ROM.for_data(
        linear.test, latent=2, members=1, hidden=4, compression="pod", dynamics="residual", transition="gaussian"
    ).double()
    x, c = rom.normalised(linear.test)
    with torch.no_grad():
        z = moments(rom.vae.encoder(x.double().flatten(0, 1)))[0].unflatten(0, x.shape[:2])
        rom.dynamics.start_from_linear(z, c)
        rom.dynamics.log_std.fill_(-1.0)
        probes = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
        after = rom.dynamics.rollout(probes[None], c[:1].double().expand(3, -1), float(rom.dynamics.dt), 1)[1, 0]
        noise = rom.dynamics.step_std(probes[None], c[:1].double().expand(3, -1))[0]
        std = moments(rom.vae.encoder(x[:1, 0].double()))[1][0].numpy()
    A, Q = (after[1:] - after[0]).T.numpy(), np.diag(noise[0].numpy() ** 2)
    blind = linear.observations.assign(std=1e6)
    given = {"members": 4000, "background": 10.0, "steps": int(blind.sizes["time"]) * 2 + 3}
    result = assimilate(rom, linear.test.isel(time=0, trajectory=[0]), blind.isel(trajectory=[0]), **given)
    P = np.diag((10 * std) ** 2)
    for step in range(given["steps"] + 1):
        assert np.allclose(result["latent_std"][0, step], np.sqrt(np.diag(P)), rtol=0.06)  # of 4000 members, 1 % each
        P = A @ P @ A.T + Q
    with pytest.raises(ConfigError, match="4dvar takes the dynamics of a window for exact"):
        assimilate(rom, linear.start, linear.observations, method="4dvar")


def test_a_full_posterior_keeps_its_correlations(linear):
    rom = romvae.ROM.for_data(linear.test, latent=2, posterior="full")
    with torch.no_grad():
        for weights in rom.vae.encoder.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)))
    x, _ = rom.normalised(linear.test)
    with torch.no_grad():
        q = rom.vae.encoder(x[:, 0])
    _, factor = _initial(rom, x[:, 0], len(x), background=2.0)
    wanted = 4 * q.covariance_matrix.double()
    assert wanted[..., 0, 1].abs().min() > 1e-3
    assert torch.allclose(factor @ factor.mT, wanted, rtol=1e-5)


def test_transform_has_no_sampling_noise():
    """The analysis of both filters on one Gaussian, against the formula."""
    generator = torch.Generator().manual_seed(0)
    mean, factor = torch.zeros(1, 2).double(), torch.tensor([[[1.0, 0.0], [0.5, 2.0]]]).double()
    z = exact_sample(mean, factor, 2000, generator)
    P = (factor @ factor.mT)[0]
    predicted, y, var = z[..., :1], torch.tensor([[1.0]]).double(), torch.tensor([[0.5]]).double()
    gain = P[:, 0] / (P[0, 0] + 0.5)
    wanted = P - gain[:, None] * P[None, 0]
    for method, tolerance in ((etkf, 1e-10), (perturbed_observations, 0.1)):  # 2000 members: 1 / sqrt(2000), few times
        args = (generator,) if method is perturbed_observations else ()
        after = method(z, predicted, y, var, *args)
        assert torch.allclose(after.mean(0)[0], gain, atol=tolerance)
        assert torch.allclose(torch.cov(after[:, 0].T), wanted, atol=tolerance)


@pytest.mark.parametrize(("members", "networks"), [(4, 1), (12, 1), (4, 3), (12, 3)])
def test_a_sample_has_its_covariance_on_average(members, networks):
    """Over the members of all networks, which share a mean, with fewer of them than latents and with more."""
    many, latent = 4000, 8
    factor = torch.eye(latent).double().expand(many * networks, -1, -1)
    freedom = (members * networks - 1) / networks
    z = exact_sample(torch.zeros(many * networks, latent).double(), factor, members, torch.Generator(), freedom)
    z = z.reshape(members, networks, many, latent).flatten(0, 1).transpose(0, 1)
    covariance = z.mT @ z / (members * networks - 1)
    assert torch.allclose(z.mean(1), torch.zeros(()).double(), atol=1e-12)
    assert torch.allclose(covariance.mean(0), torch.eye(latent).double(), atol=0.05)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_sensors_interpolate_linear_fields_exactly(ndim):
    ds = mock_snapshots(ndim, trajectories=2, times=2)
    axes = [d for d in ("z", "y", "x") if d in ds.dims]
    plane = sum((k + 1.0) * ds[d] for k, d in enumerate(axes)) + 0.3
    ds["u"] = (ds["u"] * 0 + plane).transpose(*ds["u"].dims)
    places = {d: np.linspace(float(ds[d][1]), float(ds[d][-2]), 5) for d in axes}  # inside, away from the periodic end
    seen = observe(ds, places, 1e-12)["value"].values
    wanted = sum((k + 1.0) * places[d] for k, d in enumerate(axes)) + 0.3
    assert np.allclose(seen, wanted, atol=1e-5)  # the field is float32


def test_sensors_wrap_around_a_periodic_axis_and_stop_at_a_wall():
    ds = mock_snapshots(2, trajectories=2, times=2)
    schema = Schema.of(ds)
    here, there = observe(ds, {"x": [0.97], "y": [0.3]}, 1e-9), observe(ds, {"x": [-0.03], "y": [0.3]}, 1e-9)
    assert np.allclose(here["value"], there["value"], atol=1e-6)
    with pytest.raises(SchemaError, match=r"sensor 0 is at y=2, the grid reaches from 0 to 0\.875"):
        Sensors.of(xr.Dataset(coords={"x": ("sensor", [0.5]), "y": ("sensor", [2.0])}), schema)


def test_sensors_can_be_sums_with_weights(linear):
    name, grid = "u", linear.rom.schema.grid
    weights = xr.DataArray(np.full((1, grid.points), 1 / grid.points), dims=("sensor", "x"))
    mean = linear.test[name].mean("x").isel(time=slice(2, None, 2)).expand_dims(sensor=1).transpose(..., "sensor")
    observations = xr.Dataset({"value": mean, "std": 0.01, "weights": weights})
    sensors = Sensors.of(observations, linear.rom.schema)
    u = torch.from_numpy(linear.test[name].values.astype(float))
    assert np.allclose(sensors(u)[..., 0], linear.test[name].mean("x"), atol=1e-6)  # xarray sums in float32
    assert assimilate(linear.rom, linear.start, observations)["u"].notnull().all()


def test_messages(linear):
    with pytest.raises(ConfigError, match="method is 'ukf', expected one of"):
        run(linear, "ukf")
    with pytest.raises(ConfigError, match="inflation is 0, expected a positive number"):
        run(linear, "etkf", inflation=0)
    with pytest.raises(ConfigError, match="members is 1 "):
        run(linear, "etkf", members=1)
    with pytest.raises(ConfigError, match="steps is 4, expected at least 1 and the 10 up to the last observation"):
        run(linear, "etkf", steps=4)
    late = linear.observations.assign_coords(time=linear.observations["time"] + 0.03)
    with pytest.raises(DataError, match=r"observations have time 0\.23, expected increasing times from 0 on"):
        assimilate(linear.rom, linear.start, late)
    with pytest.raises(DataError, match="std holds values that are not positive"):
        assimilate(linear.rom, linear.start, linear.observations.assign(std=0.0))
    with pytest.raises(SchemaError, match="observations have no variable 'std'"):
        assimilate(linear.rom, linear.start, linear.observations.drop_vars("std"))
    with pytest.raises(SchemaError, match="a sensor sees 'w', but the fields are u"):
        assimilate(linear.rom, linear.start, linear.observations.assign_coords(field=("sensor", ["w"] * 3)))
    with pytest.raises(SchemaError, match="'viscosity' is missing"):
        assimilate(linear.rom, None, linear.observations.drop_vars("viscosity"))
