"""Hybrid rollouts: their two ends are solver and ROM, and a calibrated alarm keeps its tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from romvae import Alarm, calibrate_alarm, hybrid_rollout
from romvae.errors import BeyondCalibrationWarning, ConfigError, DataError, NumericsError, SchemaError
from romvae.propagation import network_paths
from romvae.trust import true_error


def test_without_trust_it_is_the_solver(heat):
    start = heat.parts.test.isel(time=0)
    run = hybrid_rollout(heat.rom, heat.case, start, Alarm(0.0, burst=3))
    name = heat.rom.schema.field_names[0]
    scale = float(np.abs(heat.parts.test[name]).max())
    # bursts of a linear solver are the whole run, and the data are its float32
    assert np.allclose(run[name], heat.parts.test[name].transpose(*run[name].dims), atol=1e-6 * scale)
    assert (run["work"] == 1).all()
    assert (run["source"][:, 1:] == 2).all()
    assert (run["hand_overs"] == 4).all()  # 10 steps in bursts of 3


def test_with_full_trust_it_is_the_mean_of_the_networks(heat):
    rom, start = heat.rom, heat.parts.test.isel(time=0)
    run = hybrid_rollout(rom, heat.case, start, Alarm(np.inf))
    x, c = rom.normalised(start)
    path = network_paths(rom.vae, rom.dynamics, x[:, 0], c, rom.steps)
    mean = rom.vae.decoder(path.flatten(0, 2)).mean.reshape(*path.shape[:3], *x.shape[2:]).mean(1)
    wanted = rom.normaliser.inverse(mean.flatten(0, 1)).reshape(mean.shape).detach().numpy()[:, :, 0]
    name = rom.schema.field_names[0]
    assert np.allclose(run[name][:, 1:], wanted.swapaxes(0, 1)[:, 1:], atol=1e-5)
    assert (run["work"] == 0).all()
    assert (run["source"][:, 1:] == 1).all()


@pytest.mark.parametrize(("check", "back"), [(None, False), (2, False), (None, True), (2, True), (None, None)])
def test_calibrated_alarm_keeps_its_tolerance_on_the_calibration_runs(heat, check, back):
    rom, data = heat.rom, heat.parts.calibration
    pure = true_error(rom, data, hybrid_rollout(rom, heat.case, data.isel(time=0), Alarm(np.inf)))
    tolerance = float(pure.max("time").quantile(0.6))
    alarm = calibrate_alarm(rom, heat.case, data, tolerance, level=0.9, check=check, back=back)
    assert back in (None, alarm.back)
    run = hybrid_rollout(rom, heat.case, data.isel(time=0), alarm)
    late = (true_error(rom, data, run) > tolerance).any("time")
    assert (int(late.sum()) + 1) / (24 + 1) <= 0.1 + 1e-9
    assert float(run["work"].mean()) == pytest.approx(alarm.work)
    solved = (run["source"] == 2).sum("time") / 10
    assert (run["work"] >= solved - 1e-12).all()
    if check is None:
        assert np.allclose(run["work"], solved)
    assert f"the error stays below {tolerance:g} at all times of 10 steps" in alarm.statement
    assert run[rom.schema.field_names[0]].notnull().all()
    with pytest.warns(BeyondCalibrationWarning, match="12 steps are asked for .* calibrated on runs of 10"):
        hybrid_rollout(rom, heat.case, data.isel(time=0, trajectory=[0]), alarm, 12)


def test_a_solver_that_goes_on_from_its_own_field_leaves_one_stretch_to_the_rom(heat):
    rom, test = heat.rom, heat.parts.test
    start = test.isel(time=0)
    told = hybrid_rollout(rom, heat.case, start, Alarm(np.inf))["predicted_error"]
    run = hybrid_rollout(rom, heat.case, start, Alarm(float(told.quantile(0.6)), burst=2, back=True))
    name = rom.schema.field_names[0]
    by_rom = run["source"].values[:, 1:] == 1
    assert by_rom.any()
    assert not by_rom.all()
    assert (np.diff(by_rom.astype(int)) >= 0).all()  # the solver first, then the ROM to the end
    exact = test[name].transpose(*run[name].dims).values
    own = run["source"].values == 2
    assert np.allclose(run[name].values[own], exact[own], atol=1e-5 * np.abs(exact).max())
    assert np.allclose(run["work"], own.sum(1) / 10)
    assert (run["predicted_error"].notnull() == (run["source"] == 1)).all()


@pytest.mark.parametrize("check", [None, 2])
def test_where_the_solver_refuses_a_field_of_the_rom_it_goes_back_to_its_own(heat, check):
    start = heat.parts.test.isel(time=0)
    name = heat.rom.schema.field_names[0]
    base = type(heat.case.solver(**{p: float(start[p][0]) for p in heat.rom.schema.parameter_names}))
    accepted = {row.astype(np.float64).tobytes() for row in start[name].values}

    class Choosy(base):
        """Goes on from given fields and from its own only."""

        @classmethod
        def _integrate_many(cls, solvers, u0, times):
            for solver, field in zip(solvers, u0, strict=True):
                if field.tobytes() not in accepted:
                    raise solver.failed(times[0], "the field is not resolved")
            u = super()._integrate_many(solvers, u0, times)
            accepted.update(row.tobytes() for path in u for row in path)
            return u

    def solver(values):
        made = heat.case.solver(**values)
        made.__class__ = Choosy
        return made

    pure = hybrid_rollout(heat.rom, heat.case, start, Alarm(np.inf))
    alarm = Alarm(float(pure["predicted_error"].quantile(0.6)), burst=3, check=check)
    run = hybrid_rollout(heat.rom, solver, start, alarm)
    plain = hybrid_rollout(heat.rom, heat.case, start, alarm)
    assert (plain["hand_overs"] > 0).any()  # from fields of the ROM, which the choosy one does not take
    by_rom, by_solver = run["source"].values == 1, run["source"].values == 2
    exact = heat.parts.test[name].transpose(*run[name].dims).values
    assert np.allclose(run[name].values[by_solver], exact[by_solver], atol=1e-5 * np.abs(exact).max())
    # The ROM's stretches are at the end: in front of the solver's none is left.
    assert all((np.diff(row.astype(int)) >= 0).all() for row in by_rom)
    assert np.isnan(run["predicted_error"].values[by_solver]).all()
    assert (run["work"].values >= by_solver.sum(1) / 10 - 1e-12).all()
    if check is None:
        assert by_rom.any()


def test_the_solver_takes_over_where_the_latents_of_one_run_diverge(heat, monkeypatch):
    rom, start = heat.rom, heat.parts.test.isel(time=0)
    before = hybrid_rollout(rom, heat.case, start, Alarm(np.inf, burst=3))
    original = type(rom.dynamics).rollout

    def diverging(self, z0, c, dt, steps, **more):
        path = original(self, z0, c, dt, steps, **more)
        lost = c.broadcast_to(*path.shape[1:-1], c.shape[-1])[..., :1] == rom.normalised(start)[1][0, 0]
        return path.where(~lost, path.new_tensor(float("nan")))

    monkeypatch.setattr(type(rom.dynamics), "rollout", diverging)
    run = hybrid_rollout(rom, heat.case, start, Alarm(np.inf, burst=3))
    name = rom.schema.field_names[0]
    assert run[name].notnull().all()
    assert (run["source"][0, 1:] == 2).all()
    assert np.array_equal(run[name][1:], before[name][1:])


def test_a_solver_that_fails_on_its_own_fields_ends_the_run(heat):
    def solver(values):
        made = heat.case.solver(**values)

        class Broken(type(made)):
            @classmethod
            def _integrate_many(cls, solvers, u0, times):
                raise solvers[0].failed(times[0], "it is broken")

        made.__class__ = Broken
        return made

    with pytest.raises(NumericsError, match="it is broken"):
        hybrid_rollout(heat.rom, solver, heat.parts.test.isel(time=0), Alarm(0.0))


def test_single_trajectory_is_one_of_many(heat):
    start = heat.parts.test.isel(time=0)
    alarm = Alarm(0.02, burst=2)
    many = hybrid_rollout(heat.rom, heat.case, start, alarm)
    one = hybrid_rollout(heat.rom, heat.case, start.isel(trajectory=3), alarm)
    name = heat.rom.schema.field_names[0]
    assert np.allclose(one[name], many[name].isel(trajectory=3), atol=1e-5)
    assert one["source"].equals(many["source"].isel(trajectory=3))


def test_messages(heat):
    start = heat.parts.test.isel(time=0)
    with pytest.raises(ConfigError, match="burst is 0, expected 1 or more stored steps"):
        Alarm(0.1, burst=0)
    with pytest.raises(ConfigError, match="threshold is -1, expected 0 or more"):
        Alarm(-1)
    with pytest.raises(SchemaError, match="Use the solver that made its data"):
        hybrid_rollout(heat.rom, "kuramoto_sivashinsky_1d", start, Alarm(0.1))
    with pytest.raises(ConfigError, match="case 'heat' is unknown"):
        hybrid_rollout(heat.rom, "heat", start, Alarm(0.1))
    with pytest.raises(DataError, match=r"8 trajectories, expected at least 19 for the level 0\.95"):
        calibrate_alarm(heat.rom, heat.case, heat.parts.test, 0.1)
    with pytest.raises(ConfigError, match="tolerance is -1"):
        calibrate_alarm(heat.rom, heat.case, heat.parts.test, -1)
    with pytest.raises(DataError, match="start holds 11 times, expected one"):
        hybrid_rollout(heat.rom, heat.case, heat.parts.test, Alarm(0.1))
