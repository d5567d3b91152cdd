"""The factor of a whole run: found where errors follow from what is known, 1 where they do not, and never a promise."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

import romvae
from romvae.calibration import Calibration, RunFactor, run_features
from romvae.calibration.lead import stored_times
from romvae.calibration.runs import PENALTIES
from romvae.grading import initial_grades
from romvae.rollout import Moments, calibrated
from romvae.training import recalibrate
from tests.deployment.roms import random_runs

LEADS = torch.tensor([1, 2, 4, 8])


def _runs(n: int = 120, slope: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared errors, claimed variances and features of runs, and the logarithm of how much is claimed too little."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    features = normal(n, 1, 5)
    wrong = slope * (features[..., 0] - 0.5 * features[..., 3])
    claimed = (0.3 * normal(len(LEADS), 1, n, 40) + LEADS.log()[:, None, None, None]).exp()
    square = wrong.T[None, :, :, None].exp() * claimed * normal(len(LEADS), 1, n, 40).square()
    return square, claimed, features, wrong


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_what_is_claimed_too_little_is_found_for_new_runs(slope):
    found = RunFactor(1)
    found.fit(LEADS, *_runs(slope=slope)[:3])
    *_, features, wrong = _runs(slope=slope, seed=9)
    inside = ((features >= found.least) & (features <= found.most)).all(2)[:, 0]
    assert int(inside.sum()) > 60
    off = (found(features) - wrong)[inside]
    assert float((off - off.mean()).std()) < 0.15 * float(wrong.std())


@pytest.mark.parametrize("seed", range(8))
def test_where_nothing_is_to_be_found_little_is_made_of_it(seed):
    found = RunFactor(1)
    found.fit(LEADS, *_runs(slope=0.0, seed=seed)[:3])
    assert float(found(_runs(seed=9)[2]).abs().max()) < 0.25


def test_predictions_of_runs_that_were_left_out_are_those_of_a_fit_to_the_others():
    square, claimed, features, _ = _runs(n=30)
    found = RunFactor(1)
    held_out = found.fit(LEADS, square, claimed, features)[:, 0].double()
    weight = stored_times(LEADS).double()
    square, claimed = square.mean(3)[:, 0], claimed.mean(3)[:, 0]
    factor = (square / claimed).median(1, keepdim=True).values
    y = ((weight @ square) / (weight @ (factor * claimed))).log()
    z = features[:, 0] / features[:, 0].std(0, correction=0)

    def left_out(penalty: float) -> Tensor:
        out = []
        for k in range(30):
            rest = torch.arange(30) != k
            a, b = z[rest] - z[rest].mean(0), y[rest] - y[rest].mean()
            w = torch.linalg.solve(a.T @ a + penalty * torch.eye(5, dtype=a.dtype), a.T @ b)
            out.append((z[k] - z[rest].mean(0)) @ w + y[rest].mean())
        return torch.stack(out)

    best = min((left_out(penalty) for penalty in PENALTIES), key=lambda p: float((p - y).square().mean()))
    torch.testing.assert_close(held_out, best - y.mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [24, 80])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_bands_hold_as_promised_though_the_factors_come_from_the_same_runs(n, slope):
    """Over many draws of calibration and new runs, the share of runs held is that which is promised."""
    held = []
    for seed in range(60):
        square, claimed, features, _ = (part.float() for part in _runs(n=n + 40, slope=slope, seed=seed))
        runs = RunFactor(1)
        known = runs.fit(LEADS, square[:, :, :n], claimed[:, :, :n], features[:n])
        factor = torch.cat([known, runs(features[n:])]).exp()[:, 0].reshape(1, 1, -1, 1)
        std = (factor * claimed).sqrt()
        calibration = Calibration(1).fit(LEADS, (square.sqrt() / std)[:, :, :n], None, None, std[:, :, :n])
        width = calibration.width(LEADS, 0.9, "run", 0.9)[:, :, None, None]
        zero = torch.zeros_like(std[:, :, n:]).transpose(1, 2)
        total = calibrated(Moments(LEADS, zero, std[:, :, n:].square().transpose(1, 2), zero), calibration, 0.9)["std"]
        inside = (square[:, :, n:].sqrt() <= width * total.transpose(1, 2)).double()
        times = stored_times(LEADS).double() / 8
        held.append((torch.einsum("l,lfnp->fn", times, inside) / 40 >= 0.9 - 1e-9).double().mean())
    shares = torch.stack(held)
    rank = int(np.ceil((n + 1) * 0.9)) / (n + 1)
    assert float(shares.mean()) > rank - 3 * float(shares.std()) / len(shares) ** 0.5


def test_few_runs_and_errors_or_features_that_are_no_numbers_leave_things_alone():
    square, claimed, features, _ = _runs(n=19)
    found = RunFactor(1)
    assert bool((found.fit(LEADS, square, claimed, features) == 0).all())
    assert not found.fitted
    square, claimed, features, _ = _runs()
    found.fit(LEADS, square, torch.zeros_like(claimed), features)
    assert not found.fitted
    found.fit(LEADS, square, claimed, torch.full_like(features, torch.inf))
    assert not found.fitted
    assert bool((found(features) == 0).all())
    assert found.statement() == ""


def test_runs_that_end_early_count_where_they_are():
    square, claimed, features, wrong = _runs()
    reached = torch.ones(len(LEADS), 120, dtype=torch.bool)
    reached[2:, :60] = False
    garbage = torch.where(reached[:, None, :, None], square, torch.full_like(square, torch.nan))
    found = RunFactor(1)
    without = found.fit(LEADS, garbage, claimed, features, reached)
    assert float(torch.corrcoef(torch.stack([without[:, 0].double(), wrong[:, 0]]))[0, 1]) > 0.95


def test_a_run_outside_of_what_was_seen_counts_as_one_at_the_edge():
    found = RunFactor(1)
    _, _, features, _ = given = _runs()
    found.fit(LEADS, *given[:3])
    far = 1e3 * features
    edge = torch.where(far > 0, found.most.double(), found.least.double())
    torch.testing.assert_close(found(far), found(edge))


def test_features_are_sizes_and_fineness_of_each_field_and_products_of_parameters():
    x = torch.randn(4, 2, 16, 32, generator=torch.Generator().manual_seed(0))
    c = torch.tensor([[1.0, 2.0, 3.0]]).expand(4, -1)
    ratio = torch.tensor([[2.0, 5.0]]).expand(4, -1)
    found = run_features(x, c, ratio)
    lags = 4  # 1, 2, 4 and, on the longer axis, 8
    assert found.shape == (4, 2, 1 + lags + 1 + 3 + 3 + 3)
    torch.testing.assert_close(found[..., 0], x.square().mean((2, 3)).log())
    last = (x[..., 8:] - x[..., :-8]).square().mean((2, 3)).log()
    torch.testing.assert_close(found[..., lags], last)
    torch.testing.assert_close(found[0, :, lags + 1], ratio[0].log())
    assert found[0, 0, lags + 2 :].tolist() == [1, 2, 3, 1, 4, 9, 2, 3, 6]
    grown = run_features(2 * x, c, ratio) - found
    torch.testing.assert_close(grown[..., : lags + 1], torch.full((4, 2, lags + 1), float(np.log(4))))
    assert bool((grown[..., lags + 1 :] == 0).all())
    assert bool(run_features(torch.zeros_like(x), c, 0 * ratio).isfinite().all())


def test_points_outside_of_the_domain_are_no_feature():
    generator = torch.Generator().manual_seed(0)
    x, other = (torch.randn(3, 1, 12, 12, generator=generator) for _ in range(2))
    mask = torch.ones(12, 12, dtype=torch.bool)
    mask[3:6, 2:8] = False
    c, ratio = torch.zeros(3, 0), torch.ones(3, 1)
    one, two = (run_features(torch.where(mask, x, outside), c, ratio, mask) for outside in (x, other))
    torch.testing.assert_close(one, two)
    whole = torch.ones_like(mask)
    torch.testing.assert_close(run_features(x, c, ratio, whole), run_features(x, c, ratio))


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
def test_a_forecast_has_the_spread_of_its_own_run_and_the_same_mean(calibrated_rom, tmp_path):
    rom, parts = calibrated_rom
    plain, wide = copy.deepcopy(rom), copy.deepcopy(rom)
    for each in (plain, wide):
        each.calibration.parts.power.zero_()
        each.calibration.shape = Calibration(2).shape  # what follows is then linear in the standard deviation
        each.calibration.runs = RunFactor(2)
    wide.calibration.runs = random_runs(rom, parts.calibration, torch.Generator().manual_seed(0))
    start = parts.test.isel(time=0)
    x, c = rom.normalised(start)
    with torch.no_grad():
        factor = initial_grades(rom.vae, wide.calibration, x[:, 0], c)[1].sqrt()
    assert float(factor.std()) > 0.1
    one, other = plain.rollout(start, steps=5), wide.rollout(start, steps=5)
    for k, name in enumerate(("u", "v")):
        for part in ("_std", "_std_decoder", "_std_dynamics", "_std_ensemble"):
            expected = factor[:, k].numpy()[:, None, None] * one[name + part]
            np.testing.assert_allclose(other[name + part], expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(other[name], one[name], rtol=1e-6)
    wide.save(tmp_path / "rom")
    again = romvae.ROM.load(tmp_path / "rom").rollout(start, steps=5)
    np.testing.assert_array_equal(again["u_std"], other["u_std"])
    assert "The deviation of a whole run is multiplied by 0.61 to 1.6, 0.61 to 1.6" in wide.calibration.statement()


def test_a_model_of_an_earlier_version_has_none(calibrated_rom):
    state = {name: value for name, value in calibrated_rom[0].calibration.state_dict().items() if "runs." not in name}
    older = Calibration(2)
    older.load_state_dict(state)
    assert not older.runs.fitted
    assert older.graded == older.parts.graded
    x = torch.ones(3, 2, 16)
    assert bool((older.runs(run_features(x, torch.ones(3, 1), torch.ones(3, 2))) == 0).all())


@pytest.mark.filterwarnings("ignore::romvae.errors.OutOfRangeWarning")
def test_calibration_finds_the_parameter_that_makes_forecasts_worse(calibrated_rom):
    """Truths that leave the forecast the further the larger the parameter is, which no spread of the ROM shows."""
    rom, parts = copy.deepcopy(calibrated_rom[0]), calibrated_rom[1]
    data = parts.calibration.load().copy(deep=True)
    generator = np.random.default_rng(0)
    size = np.exp(3 * (data["viscosity"] - data["viscosity"].mean()) / data["viscosity"].std())
    for name in ("u", "v"):
        noise = data[name].copy(data=generator.standard_normal(data[name].shape) * data[name].std().item())
        data[name] = data[name].where(data["time"] == data["time"][0], data[name] + 0.5 * size * noise)
    recalibrate(rom, data)
    assert rom.calibration.runs.fitted

    def order(rom: romvae.ROM) -> float:
        std = rom.rollout(data.isel(time=0), steps=5)["u_std"].mean(("time", "x"))
        return float(spearmanr(std, size).statistic)

    known = order(rom)
    rom.calibration.runs = RunFactor(2)
    assert known > max(0.8, order(rom) + 0.2)
