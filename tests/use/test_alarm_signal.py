"""Signals of the alarm: planted weights are found, they rise with their parts, and what they promise is kept."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import romvae.hybrid
import romvae.hybrid_learning
from romvae import Alarm, calibrate_alarm, hybrid_rollout
from romvae.alarm_signal import VARIANCE, held_out, learned, rank_correlation
from romvae.errors import AssumptionWarning, ConfigError, DataError, SchemaError
from romvae.grid import Grid
from romvae.hybrid_learning import readings
from romvae.hybrid_residual import known_residual, squares
from romvae.schema import Boundary
from romvae.tensors import field_tensor
from romvae.trust import true_error

pytestmark = pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(romvae.hybrid, "THRESHOLDS", (0.25, 0.5, 1.0))


def parameters_of(heat, data):
    return {n: torch.from_numpy(data[n].values.astype(float)) for n in heat.rom.schema.parameter_names}


@pytest.fixture(scope="module")
def tolerance(heat) -> float:
    data = heat.parts.calibration
    alone = hybrid_rollout(heat.rom, heat.case, data.isel(time=0), Alarm(np.inf))
    return float(true_error(heat.rom, data, alone).max("time").quantile(0.6))


def own_solver(heat):
    """A solver of one's own: nothing tells its equation."""
    return lambda values: heat.case.solver(**values)


def planted(seed: int = 0):
    rng = np.random.default_rng(seed)
    parts = {name: np.exp(rng.normal(size=(12, 5))) for name in ("decoder", "disagreement", "residual 1")}
    return parts, 3 * parts["decoder"] ** 0.5 * parts["residual 1"] ** 1.25 / parts["disagreement"] ** 0.2


def test_a_planted_law_is_found_and_parts_that_rise_count_alike():
    parts, true = planted()
    one = learned("residual", {"residual 1": parts["residual 1"]}, 3 * parts["residual 1"] ** 1.25)
    assert one.weights == (1.25,)
    assert np.isclose(one.offset, np.log(3), atol=1e-3)  # kept to four digits
    found = learned("ranks", {**parts, "still": np.ones_like(true)}, true)  # disagreement falls where the error rises
    assert found.parts == ("decoder", "residual 1")
    shares = [w * np.log(parts[name]).std() for name, w in zip(found.parts, found.weights, strict=True)]
    assert np.isclose(shares[0], shares[1], rtol=1e-3)
    with pytest.raises(DataError, match=r"none of decoder rises with the true error\. Use signal='variance'"):
        learned("ranks", {"decoder": 1 / true}, true)


def test_a_signal_never_falls_where_a_part_rises_and_is_in_the_units_of_the_error():
    parts, true = planted()
    signal = learned("ranks", parts, true)
    before = signal.error(parts)
    for name in parts:
        assert (signal.error({**parts, name: 1.5 * parts[name]}) >= before * (1 - 1e-12)).all()
    assert np.allclose(learned("ranks", parts, 10 * true).error(parts), 10 * before, rtol=1e-2)  # four digits
    assert rank_correlation(signal.error(parts), true) > rank_correlation(parts["decoder"], true)


def test_ranks_of_a_trajectory_are_predicted_by_the_others():
    parts, true = planted()
    before = held_out("ranks", parts, true)
    changed = true.copy()
    changed[3] *= 100  # of the fold 3, 7, 11: what these are told does not change
    after = held_out("ranks", parts, changed)
    assert np.array_equal(before[3::4], after[3::4])
    assert not np.array_equal(before[0], after[0])


def test_the_residual_is_that_of_the_equation(heat):
    data, residual = heat.parts.test, known_residual(heat.case)
    u = field_tensor(data, heat.rom.schema, heat.rom.normaliser)
    u = heat.rom.normaliser.inverse(u.flatten(0, 1).double()).reshape(u.shape)
    own = parameters_of(heat, data)
    right = squares(residual, u, heat.rom.schema, own)
    fields = {name: u[:, :, k] for k, name in enumerate(heat.rom.schema.field_names)}
    whole = residual(fields, heat.rom.schema.grid, own, heat.rom.schema.dt)
    assert np.allclose(right, whole.square().flatten(3).mean(-1))
    wrong = squares(residual, u, heat.rom.schema, {name: 1.5 * value for name, value in own.items()})
    assert (right.mean(1) < 0.05 * wrong.mean(1)).all()
    with pytest.raises(ConfigError, match=r"the residual gave shape \(\), expected a tensor .* first dim"):
        squares(lambda fields, *_: fields[heat.rom.schema.field_names[0]].mean(), u, heat.rom.schema, own)


def test_readings_do_not_depend_on_the_window(heat, monkeypatch):
    data = heat.parts.variance
    own, residual = parameters_of(heat, data), known_residual(heat.case)
    found = []
    for window in (1, 2, 7):
        monkeypatch.setattr(romvae.hybrid_learning, "WINDOW", 2 * window)
        found.append(readings(heat.rom, data, own, residual))
    assert set(found[0][0]) == {"decoder", "disagreement", "residual 1"}
    for parts, variance, true in found[1:]:
        for name, values in parts.items():
            # float32 decoders differ in the last digits with the size of a batch, and derivatives magnify that
            assert np.allclose(values, found[0][0][name], rtol=1e-3, atol=1e-6)
        assert np.allclose(variance, found[0][1], rtol=1e-4)
        assert np.allclose(true, found[0][2], rtol=1e-3, atol=1e-6)
    alone = hybrid_rollout(heat.rom, heat.case, data.isel(time=0), Alarm(np.inf))
    assert np.allclose(found[0][2], true_error(heat.rom, data, alone)[:, 1:], rtol=1e-3, atol=1e-6)
    assert np.allclose(found[0][1], alone["predicted_error"][:, 1:], rtol=1e-4)


@pytest.mark.parametrize("signal", ["residual", "ranks", "auto"])
def test_every_signal_keeps_the_tolerance_on_the_calibration_runs(heat, tolerance, few, signal):
    rom, data = heat.rom, heat.parts.calibration
    learning = heat.parts.variance if signal == "ranks" else None
    options = {"level": 0.8, "back": True, "signal": signal, "learning": learning}
    alarm = calibrate_alarm(rom, heat.case, data, tolerance, **options)
    apart = np.arange(24) % 3 == 2
    judged = data if learning is not None else data.isel(trajectory=~apart)
    assert alarm.trajectories == judged.sizes["trajectory"]
    assert dict(alarm.signal.correlations).keys() == {"variance", "residual", "ranks"}
    assert signal == "auto" or alarm.signal.kind == signal
    if signal == "auto":
        best = max(value for _, value in alarm.signal.correlations)
        assert dict(alarm.signal.correlations)[alarm.signal.kind] == best
    run = hybrid_rollout(rom, heat.case, judged.isel(time=0), alarm)
    late = (true_error(rom, judged, run) > tolerance).any("time")
    assert (int(late.sum()) + 1) / (alarm.trajectories + 1) <= 0.2 + 1e-9
    assert float(run["work"].mean()) == pytest.approx(alarm.work)
    assert run.attrs["signal"] == alarm.signal.formula
    last = hybrid_rollout(rom, heat.case, judged.isel(time=0), replace(alarm, threshold=np.inf), 1)
    told = hybrid_rollout(rom, heat.case, judged.isel(time=0), replace(alarm, threshold=np.inf))
    # one step has no three times in it: the residual looks one step beyond the end
    assert np.allclose(last["predicted_error"][:, 1], told["predicted_error"][:, 1], rtol=1e-3)


def test_a_solver_of_ones_own_has_the_residual_that_is_given(heat, tolerance, few):
    rom, data, solver = heat.rom, heat.parts.calibration, own_solver(heat)
    options = {"level": 0.8, "back": True, "learning": heat.parts.variance}
    with pytest.raises(ConfigError, match="signal is 'residual', but no equation is known for this solver"):
        calibrate_alarm(rom, solver, data, tolerance, signal="residual", **options)
    given = calibrate_alarm(
        rom, solver, data, tolerance, signal="residual", residual=known_residual(heat.case), **options
    )
    assert given == calibrate_alarm(rom, heat.case, data, tolerance, signal="residual", **options)
    with pytest.warns(AssumptionWarning, match="the signal 'ranks' goes without a residual"):
        alarm = calibrate_alarm(rom, solver, data, tolerance, signal="ranks", **options)
    assert not any(name.startswith("residual") for name in alarm.signal.parts)
    assert dict(alarm.signal.correlations).keys() == {"variance", "ranks"}


def test_what_a_signal_cannot_be_learned_of_is_refused(heat):
    rom, data = heat.rom, heat.parts.calibration
    with pytest.raises(ConfigError, match="signal is 'varance', expected one of auto, variance, residual, ranks"):
        calibrate_alarm(rom, heat.case, data, 0.1, signal="varance")
    with pytest.raises(ConfigError, match="signal is 'variance', which takes no residual"):
        calibrate_alarm(rom, heat.case, data, 0.1, residual=known_residual(heat.case))
    with pytest.raises(DataError, match=r"3 trajectories to learn the signal 'auto' on, expected at least 4"):
        calibrate_alarm(rom, heat.case, data, 0.1, level=0.8, signal="auto", learning=data.isel(trajectory=slice(0, 3)))
    with pytest.raises(DataError, match="24 trajectories, of which the signal 'ranks' is learned on 8, leave 16"):
        calibrate_alarm(rom, heat.case, data, 0.1, level=0.95, signal="ranks")


def test_records_know_their_signal_and_earlier_ones_are_of_the_variance(heat, tolerance, few, tmp_path, monkeypatch):
    rom, data, record = heat.rom, heat.parts.calibration, tmp_path / "heat.json"
    options = {"level": 0.8, "back": True, "record": record}
    first = calibrate_alarm(rom, "heat_1d", data, tolerance, **options)
    content = json.loads(record.read_text())
    assert content["key"].pop("signal") == "variance"
    record.write_text(json.dumps(content))  # as earlier versions wrote it
    with monkeypatch.context() as patch:
        patch.setattr(romvae.hybrid, "hybrid_rollout", lambda *args: pytest.fail("a trial was made again"))
        assert calibrate_alarm(rom, "heat_1d", data, tolerance, **options) == first
    options |= {"signal": "residual", "learning": heat.parts.variance}
    other = calibrate_alarm(rom, "heat_1d", data, tolerance, **options)
    assert json.loads(record.read_text())["key"]["signal"] == other.signal.formula
    assert other == calibrate_alarm(rom, "heat_1d", data, tolerance, **{**options, "record": None})
    old = Alarm(0.1)
    del old.__dict__["signal"]  # one that an earlier version has kept
    assert old.signal == VARIANCE


@pytest.mark.parametrize(("n", "level", "shares"), [(24, 0.9, {False: 0, True: 0}), (24, 0.8, {False: 2, True: 1})])
def test_two_ways_share_the_risk(heat, tolerance, monkeypatch, n, level, shares):
    """The sum over the ways of (v + 1) / (n + 1), which bounds the probability that either is lost, is the risk."""
    told = {}

    def found(rom, solver, data, alarm, allowed, *others):
        told[alarm.back] = allowed
        return alarm

    monkeypatch.setattr(romvae.hybrid, "_largest_threshold", found)
    data = heat.parts.calibration.isel(trajectory=slice(0, n))
    calibrate_alarm(heat.rom, heat.case, data, tolerance, level=level)
    assert told == shares
    assert sum(v + 1 for v in told.values()) / (n + 1) <= 1 - level + 1e-9
    told.clear()
    calibrate_alarm(heat.rom, heat.case, data, tolerance, level=0.95)
    assert told == {True: 0}  # not enough for two
    told.clear()
    calibrate_alarm(heat.rom, heat.case, data, tolerance, level=level, back=False)
    assert told == {False: sum(v + 1 for v in shares.values()) - 1}


def changed_grid(heat, **changes):
    """A solver that says of its axis something else than the ROM's data do."""

    def solver(values):
        made = heat.case.solver(**values)
        axis = made.grid.axes[0]
        made.grid = Grid((replace(axis, **{name: value(axis) for name, value in changes.items()}),))
        return made

    return solver


def test_a_solver_on_another_domain_or_with_other_boundaries_is_refused(heat):
    start = heat.parts.test.isel(time=0)

    def longer(axis):
        return tuple(2 * x for x in axis.coordinates)

    def rounded(axis):
        return tuple(np.float32(axis.coordinates).astype(float).tolist())

    def other(axis):
        return Boundary("open" if axis.lower.kind != "open" else "wall")

    with pytest.raises(SchemaError, match=r"the solver's axis 'x' is .* at index 0, this ROM's 'x' .* Use the solver"):
        hybrid_rollout(heat.rom, changed_grid(heat, coordinates=longer), start, Alarm(0.1), 1)
    with pytest.raises(SchemaError, match=r"the solver's boundaries of 'x' are open and open, this ROM's data say"):
        hybrid_rollout(heat.rom, changed_grid(heat, lower=other, upper=other), start, Alarm(0.1), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = hybrid_rollout(heat.rom, changed_grid(heat, coordinates=rounded), start, Alarm(np.inf), 1)
    assert (run["source"][:, 1] == 1).all()
