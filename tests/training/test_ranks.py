"""Processes that share every batch follow the training of one: same losses, same weights, to the rounding of sums."""

from __future__ import annotations

import logging
import multiprocessing
import socket
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from romvae.data import split, write_snapshots
from romvae.errors import ConfigError, TrainingStoppedError
from romvae.launch import Place, place_of, require_place
from romvae.nn.conv import ChannelDropout
from romvae.ranks import Ranks
from romvae.rom import ROM
from romvae.streamed import Trajectories
from romvae.symmetry import Symmetry
from romvae.testing import mock_snapshots
from romvae.training import fit
from romvae.training.batches import SnapshotBatches, StepSeeds, WindowBatches, step_generator
from romvae.training.finetune import FieldWindows
from romvae.training.stages import Stage
from romvae.training.streamed import StreamedBatches
from romvae.training.variance import _Pairs

from . import rank_work
from .test_streamed import _pair

EXACT = {"rtol": 1e-9, "atol": 1e-9}
"""In double precision sums of another order differ by 1e-15; AdamW's square roots of small gradients magnify that."""
SINGLE = {"rtol": 1e-4, "atol": 1e-5}
"""Calibration is kept in single precision."""


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> dict[str, Any]:
    """What two processes found; begun after a training of one was stopped, which they continue."""
    folder = tmp_path_factory.mktemp("ranks")
    with _double(), pytest.raises(TrainingStoppedError):
        rank_work.trained("residual", folder / "by_one", 2)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning.pytorch", "romvae.training", rank_work.__name__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=rank_work.work, args=(rank, port, folder)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(150)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return {"folder": folder, **torch.load(folder / "found.pt", weights_only=False)}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class _double:
    def __enter__(self) -> None:
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error: object) -> None:
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def double() -> Iterator[None]:
    with _double():
        yield


def _assert_same(state, curves, other_state, other_curves) -> None:
    assert curves.keys() == other_curves.keys()
    for stage, found in curves.items():
        for name, values in found.items():
            np.testing.assert_allclose(values, other_curves[stage][name], err_msg=f"{stage} {name}", **EXACT)
    for name, value in state.items():
        bounds = EXACT if value.dtype == torch.float64 else SINGLE
        torch.testing.assert_close(value, other_state[name], msg=lambda m, name=name: f"{name}: {m}", **bounds)


@pytest.mark.parametrize("case", list(rank_work.CASES))
def test_two_processes_have_the_losses_and_the_weights_of_one(together, double, case):
    rom, history = rank_work.trained(case)
    found = together[case]
    _assert_same(rom.state_dict(), history.curves, found["state"], found["curves"])
    assert {"vae", "dynamics"} <= history.curves.keys()
    assert ("forecast" in history.curves["dynamics"]) == (rank_work.CASES[case][1].get("patience", 0) > 0)


def test_all_processes_have_the_same_bits_and_only_the_first_one_writes(together):
    assert together["same"]
    assert together["files"] == ["True", "False"]


def test_held_out_snapshots_count_once_also_where_there_are_fewer_than_processes(together, double):
    rom, _ = rank_work.trained("residual")
    rom.load_state_dict(together["residual"]["state"])
    alone = rank_work.held_out(rom)
    assert together["bound"]["snapshots"] == alone.snapshots == 7
    np.testing.assert_allclose(together["bound"]["kl"], alone.kl, rtol=1e-12)
    np.testing.assert_allclose(together["bound"]["squares"], alone.squares, rtol=1e-12)


def test_a_signal_to_one_process_stops_both_and_they_continue_to_the_bit(together):
    assert "stopped by SIGTERM; the state is in" in together["by_two"]
    assert together["again_curves"] == together["residual"]["curves"]
    for name, value in together["residual"]["state"].items():
        assert torch.equal(value, together["again_state"][name]), name


def test_what_two_began_one_continues_and_the_other_way_round(together, double, caplog):
    found = together["residual"]
    with caplog.at_level(logging.WARNING):
        rom, history = rank_work.trained("residual", together["folder"] / "by_two")
    assert "continuing with 1 processes what was begun with 2" in caplog.text
    _assert_same(rom.state_dict(), history.curves, found["state"], found["curves"])
    _assert_same(together["by_one_state"], together["by_one_curves"], found["state"], found["curves"])


def test_a_batch_smaller_than_the_number_of_processes_is_refused(together):
    assert "a batch of 1 for 2 devices: expected at least one sample for each" in together["too_small"]


def test_dropout_ends_with_the_stage_that_it_is_for(double):
    rom, _ = rank_work.trained("gru")
    layers = [m for m in rom.modules() if isinstance(m, ChannelDropout)]
    assert layers
    assert all(layer.generator is None and layer.among is None for layer in layers)


# ---- batches: the shares of all processes are the whole batch, value by value


def _sources() -> Iterator[tuple[str, StepSeeds]]:
    g = torch.Generator().manual_seed(1)
    x, symmetry = torch.randn(6, 9, 2, 8, generator=g), Symmetry((0,))
    codes, c, controls = (torch.randn(*shape, generator=g) for shape in ((2, 6, 9, 3), (6, 1), (6, 9, 2)))
    snapshots = {"symmetry": symmetry, "noise": (2, 3), "group": 9, "neighbour": True, "input_noise": 0.1}
    yield "snapshots", SnapshotBatches(x.flatten(0, 1), 7, 20, 0, **snapshots)
    windows = {"window": 3, "controls": controls, "samples": 2}
    yield "windows", WindowBatches(codes, codes.exp(), c, 2, 7, 2, 3, 20, 0, **windows)
    uneven = torch.tensor([9, 8, 5, 9, 7, 4])
    yield "ragged windows", WindowBatches(codes, codes.exp(), c, 2, 7, 1, 3, 20, 0, lengths=uneven)
    yield "pairs", _Pairs(codes.flatten(0, 2), x.repeat(2, 1, 1, 1).flatten(0, 1), 7, 20, 0)
    fields = {"symmetry": symmetry, "controls": controls, "stochastic": True}
    yield "fields", FieldWindows(x, c, c, 2, 4, 3, 7, 2, 3, 20, 0, **fields)


ALONG = {"noise": {"windows": 3, "fields": -2}, "step_noise": {"fields": -2}, "target": {"fields": 1}}
"""Dimension of the batch where it is not the first (or, for windows, the second)."""
WHOLE = ("leads",)


@pytest.mark.parametrize(("name", "source"), list(_sources()), ids=[name for name, _ in _sources()])
@pytest.mark.parametrize("size", [2, 3])
def test_the_shares_of_all_processes_are_the_whole_batch(name, source, size):
    for step in (0, 3, 19):
        source.ranks = Ranks()
        whole = source.batch(step_generator(0, source.stream, step), step)
        parts = []
        for rank in range(size):
            source.ranks = Ranks(rank, size)
            parts.append(source.batch(step_generator(0, source.stream, step), step))
        for key, value in whole.items():
            shares = [part[key] for part in parts]
            if key in WHOLE:
                assert all(torch.equal(share, value) for share in shares)
                continue
            along = ALONG.get(key, {}).get(name.split()[-1], 1 if "windows" in name else 0)
            if name == "fields" and along == -2:  # one round after the other
                value = value.unflatten(-2, (-1, 7))
                shares = [share.unflatten(-2, (value.shape[-3], -1)) for share in shares]
            assert torch.equal(torch.cat(shares, along), value), key
    source.ranks = Ranks()


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory) -> Trajectories:
    data = mock_snapshots(2, ("u", "p"), trajectories=12, times=8)
    return _pair(write_snapshots(data, tmp_path_factory.mktemp("ranks") / "a.zarr"))[0]


def test_a_process_reads_its_share_of_streamed_data_and_nothing_else(on_disk, monkeypatch):
    read: list[int] = []
    original = Trajectories.snapshots

    def counting(self, index):
        read.extend(index)
        return original(self, index)

    monkeypatch.setattr(Trajectories, "snapshots", counting)
    mine = StreamedBatches(on_disk, 5, 40, 0)
    mine.ranks = Ranks(0, 5)
    for number in range(mine.order.pools):
        mine._load(number)
    assert len(read) == len(set(read)) == -(-len(on_disk.numbers) // 5)


def test_the_shares_of_streamed_batches_are_the_whole(on_disk):
    settings = {"symmetry": Symmetry((0,)), "noise": (1, 3)}
    batches = [StreamedBatches(on_disk, 5, 40, 0, **settings) for _ in range(4)]
    for rank in range(3):
        batches[rank].ranks = Ranks(rank, 3)
    for step in range(38):  # two epochs, so that pools and epochs end within batches
        *parts, whole = (one.batch(step_generator(0, "snapshots", step), step) for one in batches)
        for key, value in whole.items():
            assert torch.equal(torch.cat([part[key] for part in parts]), value), key


def test_dropout_of_a_share_is_that_of_the_whole_batch():
    x, layer = torch.ones(2 * 7, 4, 3), ChannelDropout(0.5)

    def dropped(rows: slice | None) -> torch.Tensor:
        layer.generator = torch.Generator().manual_seed(3)
        layer.among = None if rows is None else (7, rows)
        here = x if rows is None else x.unflatten(0, (2, 7))[:, rows].flatten(0, 1)  # two samples of each code
        return layer(here).unflatten(0, (2, -1))

    assert torch.equal(torch.cat([dropped(slice(0, 3)), dropped(slice(3, 7))], 1), dropped(None))


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ({"dynamics": "gru", "transition": "gaussian"}, {"finetune": "crps", "finetune_steps": 4}),
        ({"dynamics": "transformer", "prior": "mixture", "skip": True}, {}),
        ({"dynamics": "ode", "posterior": "flow", "variance": "joint"}, {"consistency": 0.0}),
        ({"compression": "ae"}, {}),
    ],
)
def test_every_trained_weight_has_a_gradient_in_every_step(monkeypatch, kinds, told):
    """What averages gradients over processes waits for all of them."""
    if "flow" in kinds.values():
        pytest.importorskip("zuko")
    lacking = []
    original = Stage.configure_gradient_clipping

    def looking(self, *args, **kwargs):
        lacking.extend((self.name, self.done) for p in self.trained() if p.grad is None)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Stage, "configure_gradient_clipping", looking)
    parts = split(mock_snapshots(1, trajectories=12, times=8), seed=0)
    rom = ROM.for_data(parts.train, latent=3, channels=4, hidden=8, members=2, **kinds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(rom, parts, **{**rank_work.STEPS, "vae_steps": 2, **told})
    assert not lacking


# ---- which process this is

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "1234",
}
SLURM = {
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[007-009,12],other",
    "SLURM_JOB_ID": "15007",
}


def test_the_place_is_that_of_torchrun_or_of_a_step_of_slurm():
    assert place_of(2, 2, TORCHRUN) == Place(3, 4, 1, 2, "node7", 1234)
    assert place_of(None, None, TORCHRUN, automatic=True) == Place(3, 4, 1, 2, "node7", 1234)
    assert place_of(2, 2, SLURM) == Place(3, 4, 1, 2, "gpu007", 15007)
    assert place_of(2, 2, SLURM | {"MASTER_PORT": "99", "SLURM_STEP_NODELIST": "a,b"}).port == 99


def test_processes_that_nobody_asked_for_stay_alone():
    assert place_of(None, None, TORCHRUN) is None
    assert place_of(None, None, SLURM) is None
    assert place_of(None, None, SLURM, automatic=True) is None  # tasks of srun may be trainings of their own
    assert place_of(2, None, {}) is None
    assert place_of(2, None, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # a batch script, no step


def test_numbers_that_do_not_agree_are_refused():
    with pytest.raises(ConfigError, match="2 processes on each of 2 machines, but --devices is 4"):
        place_of(4, None, TORCHRUN)
    with pytest.raises(ConfigError, match="srun has started 2 processes"):
        place_of(2, 4, SLURM)


def test_several_devices_need_processes_that_have_been_started():
    with pytest.raises(ConfigError, match=r"not started as one of several.* torchrun --nproc-per-node 3"):
        require_place(None, 3, None)
    parts = split(mock_snapshots(1, trajectories=12, times=8), seed=0)
    rom = ROM.for_data(parts.train, latent=3, channels=4, hidden=8, members=2)
    with pytest.raises(ConfigError, match="devices is 2 and nodes is 1"):
        fit(rom, parts, devices=2)


def test_a_share_is_never_empty():
    shares = [Ranks(rank, 3).share(8) for rank in range(3)]
    assert [(s.start, s.stop) for s in shares] == [(0, 2), (2, 5), (5, 8)]
    with pytest.raises(ConfigError, match="a batch of 2 for 3 devices"):
        Ranks(0, 3).share(2)
