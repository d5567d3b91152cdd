"""Weights of the parts of a variance: found where they are known, left alone where nothing is to be found."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

import romvae
from romvae.calibration import Calibration, PartWeights, RunFactor
from romvae.calibration.lead import stored_times
from romvae.distributions import moments
from romvae.errors import NumericsError
from romvae.grading import initial_grades, reconstruction_ratio
from romvae.rollout import Moments, calibrated
from romvae.training import recalibrate, weighing

LEADS = torch.tensor([1, 2, 4, 8])


def _runs(n: int = 120, factor: float = 1.0, power: float = 0.0, seed: int = 0) -> tuple[Tensor, ...]:
    """Squared errors, both variances and grades of runs whose true variance is g^power d + factor y."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    decoder = (0.5 * normal(1, 1, n, 1) + 0.3 * normal(len(LEADS), 1, n, 40)).exp()
    dynamics = (normal(1, 1, n, 1) + 0.3 * normal(len(LEADS), 1, n, 40)).exp()
    ratio = normal(n, 1).exp()
    true = (ratio.T[None, :, :, None] ** power) * decoder + factor * dynamics
    return true * normal(len(LEADS), 1, n, 40).square(), decoder, dynamics, 5 * ratio


@pytest.mark.parametrize("factor", [0.25, 1.0, 8.0])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_the_weights_of_a_known_variance_are_found(factor, power):
    square, decoder, dynamics, ratio = _runs(factor=factor, power=power)
    found = PartWeights(1).fit(LEADS, square, decoder, dynamics, ratio)
    # The usual grade is 1: what it was in the errors is part of the factor between decoder and dynamics.
    expected = factor / float(found.usual.sub(np.log(5)).exp()) ** power
    assert float(found.power) == power
    assert float(found.factor) == pytest.approx(expected, rel=0.45)


@pytest.mark.parametrize("seed", range(5))
def test_a_right_variance_is_left_as_it_is(seed):
    square, decoder, dynamics, ratio = _runs(seed=seed)
    found = PartWeights(1).fit(LEADS, square, decoder, dynamics, ratio)
    assert (float(found.power), float(found.factor)) == (0.0, 1.0)
    assert not found.graded


def test_weights_order_new_runs_by_their_error():
    """The point of it: which of two forecasts is the worse one."""
    found = PartWeights(1).fit(LEADS, *_runs(factor=8.0, power=1.0))
    square, decoder, dynamics, ratio = _runs(factor=8.0, power=1.0, seed=9)

    def rank(variance: Tensor) -> float:
        both = torch.stack([variance.mean((0, 1, 3)), square.mean((0, 1, 3))]).argsort(1).argsort(1).double()
        return float(torch.corrcoef(both)[0, 1])

    graded = found.grades(ratio)[:, 0].reshape(1, 1, -1, 1)
    assert rank(graded * decoder + found.factor * dynamics) > rank(decoder + dynamics) + 0.1


def test_few_runs_a_spread_of_nothing_and_an_unknown_grade_leave_things_alone():
    square, decoder, dynamics, ratio = _runs(n=19, factor=8.0, power=1.0)
    assert not PartWeights(1).fit(LEADS, square, decoder, dynamics, ratio).graded
    square, decoder, dynamics, ratio = _runs(factor=8.0)
    unknown = PartWeights(1).fit(LEADS, square, decoder, dynamics, torch.full_like(ratio, torch.nan))
    assert not unknown.graded
    assert float(unknown.factor) > 1
    nothing = PartWeights(1).fit(LEADS, square, torch.zeros_like(decoder), torch.zeros_like(dynamics), ratio)
    assert (float(nothing.power), float(nothing.factor)) == (0.0, 1.0)


def test_runs_that_end_early_count_where_they_are():
    square, decoder, dynamics, ratio = _runs(factor=8.0)
    reached = torch.ones(len(LEADS), 120, dtype=torch.bool)
    reached[2:, :60] = False
    garbage = torch.where(reached[:, None, :, None], square, torch.full_like(square, torch.nan))
    one = PartWeights(1).fit(LEADS, garbage, decoder, dynamics, ratio, reached)
    assert float(one.factor) == pytest.approx(8.0, rel=0.51)


def test_a_field_that_is_reconstructed_exactly_promises_no_exact_forecast():
    found = PartWeights(1).fit(LEADS, *_runs(power=1.0))
    least = found.grades(found.least.exp()[None])
    assert float(found.grades(torch.zeros(1, 1))) == pytest.approx(float(least))
    assert float(found.grades(torch.full((1, 1), 1e6))) > 100


@pytest.mark.parametrize("n", [24, 80])
def test_bands_hold_as_promised_though_the_weights_were_chosen_on_the_same_runs(n):
    """Over many draws of calibration and new runs, the share of runs held is that which is promised."""
    held = []
    for seed in range(40):
        square, decoder, dynamics, ratio = (part.float() for part in _runs(n=n + 40, factor=4.0, power=0.5, seed=seed))
        parts = PartWeights(1).fit(LEADS, square[:, :, :n], decoder[:, :, :n], dynamics[:, :, :n], ratio[:n])
        graded = parts.grades(ratio)[:, 0].reshape(1, 1, -1, 1)
        std = (graded * decoder + parts.factor * dynamics).sqrt()
        off = square.sqrt() / std
        calibration = Calibration(1).fit(LEADS, off[:, :, :n], None, None, std[:, :, :n])
        width = calibration.width(LEADS, 0.9, "run", 0.9)[:, :, None, None]
        zero = torch.zeros_like(std[:, :, n:]).transpose(1, 2)
        moments = Moments(LEADS, zero, std[:, :, n:].square().transpose(1, 2), zero)
        total = calibrated(moments, calibration, 0.9)["std"].transpose(1, 2)
        inside = (square[:, :, n:].sqrt() <= width * total).double()
        times = stored_times(LEADS).double() / 8
        held.append((torch.einsum("l,lfnp->fn", times, inside) / 40 >= 0.9 - 1e-9).double().mean())
    shares = torch.stack(held)
    rank = int(np.ceil((n + 1) * 0.9)) / (n + 1)
    assert float(shares.mean()) > rank - 3 * float(shares.std()) / len(shares) ** 0.5


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
def test_a_forecast_uses_the_grade_of_its_own_start(calibrated_rom):
    rom, parts = calibrated_rom
    plain, graded = copy.deepcopy(rom), copy.deepcopy(rom)
    for each in (plain, graded):
        each.calibration.parts.factor.fill_(1.0)
        each.calibration.parts.power.zero_()
        each.calibration.runs = RunFactor(2)
        each.calibration.shape = Calibration(2).shape  # what follows is then linear in the standard deviation
    graded.calibration.parts.power.copy_(torch.tensor([1.0, 0.0]))
    graded.calibration.parts.least.fill_(-20.0)
    graded.calibration.parts.usual.zero_()
    start = parts.test.isel(time=0)
    x, c = rom.normalised(start)
    with torch.no_grad():
        ratio = reconstruction_ratio(rom.vae, x[:, 0])
    with torch.no_grad():
        decoder, dynamics = initial_grades(rom.vae, graded.calibration, x[:, 0], c)
        assert initial_grades(rom.vae, plain.calibration, x[:, 0], c) is None
    torch.testing.assert_close(decoder[:, 0], ratio[:, 0])
    assert bool((dynamics == 1).all())
    one, other = plain.rollout(start, steps=5), graded.rollout(start, steps=5)
    np.testing.assert_allclose(
        other["u_std_decoder"] ** 2, ratio[:, 0].numpy()[:, None, None] * one["u_std_decoder"] ** 2, rtol=1e-3
    )
    for name in ("u", "u_std_dynamics", "v_std", "v_upper"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-6)


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
def test_the_decoder_alone_is_as_wrong_as_its_calibrated_deviation_says(calibrated_rom):
    """At the start of a forecast nothing but the representation is wrong, however the parts are weighed."""
    rom, parts = copy.deepcopy(calibrated_rom[0]), calibrated_rom[1]
    recalibrate(rom, parts.calibration)
    x, _ = rom.normalised(parts.calibration)
    with torch.no_grad():
        mean, variance = rom.vae.decoder.moments_of(moments(rom.vae.encoder(x[:, 0]))[0])
    claimed = rom.calibration.decoder_std(variance.sqrt(), 1)
    wrong = (x[:, 0] - mean).square().mean((0, 2)).sqrt()
    # The factors look at the mean over members, which start from samples of the code.
    np.testing.assert_allclose(claimed.square().mean((0, 2)).sqrt(), wrong, rtol=0.05)


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
def test_calibration_finds_them_saves_them_and_older_models_have_none(calibrated_rom, tmp_path):
    rom, parts = copy.deepcopy(calibrated_rom[0]), calibrated_rom[1]
    spoilt = rom.calibration.parts
    spoilt.power.fill_(0.75)
    spoilt.factor.fill_(16.0)
    rom.save(tmp_path / "rom")
    kept = romvae.ROM.load(tmp_path / "rom").calibration.parts
    assert kept.power.tolist() == [0.75, 0.75]
    assert kept.factor.tolist() == [16.0, 16.0]
    recalibrate(rom, parts.calibration)
    again = calibrated_rom[0].calibration.parts
    assert rom.calibration.parts.factor.tolist() == again.factor.tolist()
    assert rom.calibration.parts.power.tolist() == again.power.tolist()
    state = {name: value for name, value in rom.calibration.state_dict().items() if "parts." not in name}
    older = Calibration(2)
    older.load_state_dict(state)
    assert older.parts.power.tolist() == [0.0, 0.0]
    assert older.parts.factor.tolist() == [1.0, 1.0]
    assert "the dynamics counts" not in older.statement() + older.parts.statement()
    assert "counts 16, 16 times" in romvae.ROM.load(tmp_path / "rom").calibration.statement()


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
def test_a_forecast_that_diverges_early_leaves_the_parts_as_they_are(calibrated_rom, caplog, monkeypatch):
    rom, parts = copy.deepcopy(calibrated_rom[0]), calibrated_rom[1]

    def diverging(*args, **kwargs):
        raise NumericsError("rollout: the latent state stopped being finite at step 3 of 7.")

    monkeypatch.setattr(weighing, "latent_members", diverging)
    before = rom.calibration.parts.factor.clone()
    recalibrate(rom, parts.calibration)
    assert rom.calibration.fitted
    assert rom.calibration.parts.factor.equal(before)
    assert "count as they are: rollout: the latent state" in caplog.text


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
def test_more_runs_than_are_looked_at_are_chosen_evenly_and_ragged_ones_count(calibrated_rom, monkeypatch):
    """Beyond its end a run has no truth, which is NaN and must not decide."""
    rom, data = copy.deepcopy(calibrated_rom[0]), calibrated_rom[1].calibration
    seen = []

    def kept(self, lead, square, decoder, dynamics, ratio, reached=None):
        seen.append((square, ratio, reached))
        return self

    monkeypatch.setattr(PartWeights, "fit", kept)
    monkeypatch.setattr(weighing, "TRAJECTORIES", 10)
    x, c = rom.normalised(data)
    there = torch.ones(x.shape[:2], dtype=torch.bool)
    there[3, 5:] = False
    x[~there] = torch.nan
    weighing.weigh_parts(rom, x, c, 0, 7, lambda *_: None, kept=there)
    square, ratio, reached = seen[0]
    assert ratio.shape[0] == square.shape[2] == reached.shape[1] == 10
    torch.testing.assert_close(ratio, reconstruction_ratio(rom.vae, x[::3, 0]))
    assert torch.equal(reached, there[::3].T[1:])
    assert torch.equal(square.isfinite().all((1, 3)), reached)
