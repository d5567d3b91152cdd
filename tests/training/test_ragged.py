"""Trajectories of different length: what lies beyond an end is never read, and nothing else changes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.baselines import PODRBF, PODLinear, default_baselines
from romvae.calibration import Calibration
from romvae.canonical import N_STEPS
from romvae.comparison import compare
from romvae.data import open_snapshots, split, write_snapshots
from romvae.errors import DataError, OutOfRangeWarning
from romvae.metrics import over_fields, relative_l2
from romvae.normalise import Normaliser
from romvae.ragged import even_part, even_snapshots, thinned
from romvae.rom import ROM
from romvae.schema import Schema
from romvae.statistics import field_statistics
from romvae.streamed import Trajectories
from romvae.tensors import existing_tensor, field_tensor
from romvae.testing import mock_snapshots
from romvae.training import fit
from romvae.training.batches import SnapshotBatches, WindowBatches
from romvae.training.calibrate import calibrate
from romvae.training.dynamics import Codes
from romvae.training.encoding import encode
from romvae.training.streamed import StreamedBatches

SMALL = {"latent": 3, "channels": 4, "hidden": 8, "members": 2}
STEPS = {"vae_steps": 6, "variance_steps": 4, "dynamics_steps": 6, "batch_size": 8}
LENGTHS = np.array([12, 7, 12, 3, 12, 9, 12, 12, 5, 12, 12, 10])


def cut(ds: xr.Dataset, lengths: np.ndarray, beyond: float = np.nan) -> xr.Dataset:
    """The same data with an end per trajectory; `beyond` stands where nothing is."""
    steps = xr.DataArray(lengths.astype(np.int32), dims="trajectory", attrs={"romvae_role": "valid_length"})
    there = xr.DataArray(np.arange(ds.sizes["time"]), dims="time") < steps
    return ds.map(lambda u: u.where(there, np.float32(beyond)), keep_attrs=True).assign_coords({N_STEPS: steps})


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    return mock_snapshots(1, ("u", "p"), trajectories=12, times=12)


def trained(ds: xr.Dataset, **options) -> ROM:
    parts = split(ds, seed=0)
    rom = ROM.for_data(parts.train, **SMALL, **options.pop("model", {}))
    fit(rom, parts, **{**STEPS, **options})
    return rom


def test_the_even_part_keeps_most_snapshots():
    rows, times = even_part(np.array([10, 4, 9, 9]))
    assert (rows.tolist(), times) == ([0, 2, 3], 9)
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(2, 30, 9)
        rows, times = even_part(lengths)
        assert (lengths[rows] >= times).all()
        assert len(rows) * (times - 1) == max(int((lengths >= n).sum()) * (n - 1) for n in range(1, 31))


def test_thinned_times_count_those_that_are_left(whole):
    some = thinned(cut(whole, LENGTHS), 4)
    np.testing.assert_array_equal(some[N_STEPS], np.isfinite(some["u"].values[..., 0]).sum(1))


def test_no_value_beyond_an_end_reaches_the_tensors(whole):
    ragged = cut(whole, LENGTHS, beyond=1e30)
    schema = Schema.of(ragged)
    normaliser = Normaliser.from_statistics(field_statistics(ragged, schema.field_names))
    x, kept = field_tensor(ragged, schema, normaliser), existing_tensor(ragged)
    assert bool(x[kept].isfinite().all())
    assert bool(x[~kept].isnan().all())
    np.testing.assert_array_equal(kept.sum(1), LENGTHS)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"finetune": "crps", "finetune_steps": 4},
        pytest.param({"model": {"dynamics": "linear"}}, marks=pytest.mark.slow),
        pytest.param({"model": {"dynamics": "gp"}}, marks=pytest.mark.slow),
        pytest.param({"model": {"dynamics": "gru", "history": 2}}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_training_gives_the_same_whatever_stands_beyond_the_ends(whole, options):
    one, other = (trained(cut(whole, LENGTHS, beyond), **options) for beyond in (np.nan, 1e30))
    state = one.state_dict()
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name]), name
        assert not value.is_floating_point() or not bool(value.isnan().any()), name


def test_trajectories_that_end_together_train_as_without_the_times_beyond(whole):
    """All of one length but for `n_steps`: the mean, which sees single snapshots, is that of the shorter data."""
    ends = np.full(12, 8)
    ragged, short = split(cut(whole, ends), seed=0), split(whole.isel(time=slice(0, 8)), seed=0)
    models = []
    for parts in (ragged, short):
        rom = ROM.for_data(parts.train, **SMALL)
        fit(rom, parts, **STEPS)
        models.append(rom)
    for name, value in models[0].vae.state_dict().items():
        # The same numbers in the same order, but added up in other blocks: single precision, a few steps.
        torch.testing.assert_close(value, models[1].vae.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_snapshots_are_drawn_as_from_those_that_there_are():
    x = torch.randn(5, 6, 1, 4)
    kept = torch.arange(6) < torch.tensor([6, 1, 4, 2, 6])[:, None]
    x[~kept] = torch.nan
    ragged = SnapshotBatches(x.flatten(0, 1), 4, 12, 0, group=6, neighbour=True, kept=kept.flatten())
    dense = SnapshotBatches(x[kept], 4, 12, 0)
    times = {float(x[i, t, 0, 0]): (i, t) for i in range(5) for t in range(6) if kept[i, t]}
    for a, b in zip(ragged, dense, strict=True):
        assert torch.equal(a["x"], b["x"])
        for one, beside in zip(a["x"], a["neighbour"], strict=True):
            (i, t), (j, s) = times[float(one[0, 0])], times[float(beside[0, 0])]
            assert i == j
            last = t == 5 or not kept[i, t + 1]
            assert s == (max(t - 1, 0) if last else t + 1)


def test_windows_never_cross_an_end():
    lengths = torch.tensor([11, 3, 6, 11, 8])
    kept = torch.arange(11) < lengths[:, None]
    mean = torch.randn(2, 5, 11, 3)
    mean[:, ~kept] = torch.nan
    batches = WindowBatches(mean, mean.abs(), torch.zeros(5, 1), 2, 64, 2, 4, 40, 0, window=2, lengths=lengths)
    seen, ends = set(), set()
    for step, batch in enumerate(batches):
        assert all(not bool(value.isnan().any()) for value in batch.values() if value.is_floating_point())
        short = lengths[batch["trajectory"]] <= 2 * batches.horizon_at(step)
        assert not bool(short.any())  # too short for the horizon: no window at all
        seen |= set(batch["trajectory"].flatten().tolist())
        ends |= {float(v) for v in batch["target"][..., -1, 0].flatten()}
    assert seen == set(range(5))  # the shortest has windows of one large step
    assert {float(mean[0, 0, 10, 0]), float(mean[0, 2, 5, 0])} <= ends  # up to the last time of each


def test_the_closed_form_start_takes_the_even_part():
    kept = torch.arange(10) < torch.tensor([10, 4, 9, 9])[:, None]
    z = torch.randn(1, 4, 10, 2)
    z[:, ~kept] = torch.nan
    even = Codes(z, z, torch.arange(4.0)[:, None], None, kept).even()
    assert even.mean.shape == (1, 3, 9, 2)
    assert even.c[:, 0].tolist() == [0, 2, 3]
    assert bool(even.mean.isfinite().all())


def test_codes_of_what_there_is_are_those_of_the_same_snapshots(whole):
    rom = ROM.for_data(whole, **SMALL)
    x, kept = field_tensor(whole, rom.schema, rom.normaliser), existing_tensor(cut(whole, LENGTHS))
    all_codes, some = encode(rom.vae, x)[0], encode(rom.vae, x, kept)[0]
    torch.testing.assert_close(some[kept], all_codes[kept], rtol=1e-5, atol=1e-6)  # another size of the batch
    assert bool(some[~kept].isnan().all())


def test_streamed_ragged_data_visit_every_snapshot_that_there_is_once(whole, tmp_path):
    path = write_snapshots(cut(whole, LENGTHS), tmp_path / "a.zarr")
    with open_snapshots(path) as ds:
        schema = Schema.of(ds)
        x = Trajectories(ds, schema, Normaliser.from_statistics(field_statistics(ds, schema.field_names)), 2000)
        total = int(LENGTHS.sum())
        batches = StreamedBatches(x, 1, total, seed=0)
        numbers = torch.cat([batches.fetch(step)[0] for step in range(total)]).tolist()
        found = torch.cat([batches.fetch(step)[1] for step in range(total)])
        assert sorted(numbers) == x.numbers.tolist()
        assert all(bool(each.isfinite().all()) for each in (found, x.some(), x.scattered()))
        torch.testing.assert_close(x[1:4].isnan()[:, :, 0, 0].sum(1), torch.from_numpy(12 - LENGTHS[1:4]))


@pytest.mark.slow
def test_streamed_ragged_data_train(whole, tmp_path):
    with open_snapshots(write_snapshots(cut(whole, LENGTHS), tmp_path / "a.zarr")) as ds:
        rom = trained(ds, model={"memory_budget": 2e-6}, memory_budget=2e-6)
    assert all(bool(v.isfinite().all()) for v in rom.vae.state_dict().values() if v.is_floating_point())
    assert rom.calibration.fitted


def test_a_factor_rests_on_the_trajectories_that_reach_its_lead_time():
    ratio = torch.rand(3, 1, 60, 7) + 0.5
    reached = torch.ones(3, 60, dtype=torch.bool)
    reached[1:, 55:] = False
    reached[2, 52:] = False
    hidden = ratio.clone()
    hidden[~reached[:, None].expand(3, 1, 60)] = torch.nan
    found = Calibration(1).fit(torch.arange(3), hidden, reached=reached)
    assert int(found.trajectories) == found.bands.trajectories == 52  # what every statement rests on
    for k, n in enumerate((60, 55, 52)):
        alone = Calibration(1).fit(torch.arange(1), ratio[k : k + 1, :, :n])
        torch.testing.assert_close(found.variance_factor[k], alone.variance_factor[0])
        torch.testing.assert_close(found.half_width[:, k], alone.half_width[:, 0])
    every = Calibration(1).fit(torch.arange(3), ratio, reached=torch.ones(3, 60, dtype=torch.bool))
    for name, value in Calibration(1).fit(torch.arange(3), ratio).state_dict().items():
        assert torch.equal(value, every.state_dict()[name])


def test_the_last_calibrated_lead_time_is_one_that_enough_trajectories_reach():
    data = mock_snapshots(1, trajectories=24, times=9)
    labels = ["train"] * 8 + ["variance"] * 2 + ["calibration"] * 12 + ["test"] * 2
    lengths = np.array([9] * 10 + [9] * 4 + [7] * 5 + [3] * 3 + [9] * 2)
    rom = trained(cut(data, lengths).assign_coords(split=("trajectory", labels)))
    assert float(rom.calibration.lead[-1]) == 6  # nine of twelve, as an interval of 90 % needs
    assert int(rom.calibration.trajectories) == 9
    few = torch.zeros(12, 9, 1, 16), torch.zeros(12, 1)
    with pytest.raises(DataError, match=r"0 of 12 trajectories have a second time, expected at least 9\. Leave"):
        calibrate(rom, *few, 0, lambda *_: None, kept=torch.arange(9) < torch.ones(12, 1))


def test_pod_with_linear_dynamics_fits_what_there_is(whole):
    ragged = cut(whole, LENGTHS, beyond=1e30)
    found = PODLinear(4).fit(ragged).rollout(whole.isel(time=0), whole["time"].values)
    error = float(((found - whole[["u", "p"]]) ** 2).to_dataarray().mean() ** 0.5)
    exact = PODLinear(4).fit(whole).rollout(whole.isel(time=0), whole["time"].values)
    assert error < 2 * float(((exact - whole[["u", "p"]]) ** 2).to_dataarray().mean() ** 0.5) + 1e-3
    assert "pod_rbf" not in [b.name for b in default_baselines(ragged, 4)]
    with pytest.raises(DataError, match=r"pod_rbf: trajectory 1 has 7 of 12 times"):
        PODRBF().fit(ragged)


@pytest.mark.slow
def test_a_comparison_leaves_out_the_truth_beyond_an_end(whole):
    rom = trained(whole)
    ends = np.where(LENGTHS > 4, LENGTHS, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        results = [compare(rom, cut(whole, ends, b), train=cut(whole, ends, b)) for b in (np.nan, 1e30)]
    found = results[0].metrics
    assert found["rom"]["relative_l2"] == results[1].metrics["rom"]["relative_l2"]
    even = even_snapshots(cut(whole, ends))
    restored = rom.decode(rom.encode(even)["latent_mean"])[["u", "p"]].assign_coords(even[["u", "p"]].coords)
    compressed = over_fields(relative_l2(even[["u", "p"]], restored), root_mean_square=True)
    assert found["rom"]["compression_relative_l2"] == pytest.approx(float(compressed), rel=1e-6)
    rows, times = even_part(ends)
    assert found["data"]["ragged"]["trajectories_left_out"] == 12 - len(rows)
    assert found["data"]["ragged"]["times_left_out"] == 12 - times
    assert found["baselines_left_out"]["pod_rbf"] == "needs training trajectories of one length"
    assert set(found["baselines"]) == {"persistence", "climatology", "pod_linear", "pod_linear_free", "dmd", "opinf"}
    ahead = rom.rollout(whole.isel(time=0), steps=11, members=32, seed=0)
    squares = []
    for name in ("u", "p"):
        pairs = [(ahead[name].values[i, 1:n], whole[name].values[i, 1:n]) for i, n in enumerate(ends)]
        error = sum(float(((v.astype(float) - u) ** 2).sum()) for v, u in pairs)
        squares.append(error / sum(float((u.astype(float) ** 2).sum()) for _, u in pairs))
    assert found["rom"]["relative_l2_all_times"] == pytest.approx(np.mean(squares) ** 0.5, rel=1e-6)
