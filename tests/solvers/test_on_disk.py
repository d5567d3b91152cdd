"""Ensembles on disk: whatever happens on the way, the store ends with the values of an unbroken run."""

from __future__ import annotations

import json
import os
import resource
import socket
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from romvae.data import open_snapshots
from romvae.errors import NumericsError, OutputError
from romvae.schema import Schema, check_snapshots, fields_of
from romvae.solvers import Case, Solver, blocks, ensemble_bytes, on_disk, simulate, simulate_to

from decay import DECAY, FRAGILE, Decay  # isort: skip


@pytest.fixture
def solved(monkeypatch) -> list[int]:
    """The trajectories that were solved, in order."""
    indices: list[int] = []
    original = blocks.solve_block

    def counted(block, keep):
        def counting(row):
            indices.append(row.index)
            return keep(row)

        return original(block, counting)

    monkeypatch.setattr(on_disk, "solve_block", counted)
    return indices


def stopping(after: int, stage: str = "simulate"):
    """Progress that is interrupted once `after` units of a stage are done."""

    def progress(name: str, done: int, total: int, note: str = "") -> None:
        if name == stage and done >= after:
            raise KeyboardInterrupt

    return progress


def partial_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_the_store_holds_what_simulate_gives(tmp_path, suffix):
    out = simulate_to(tmp_path / f"a.{suffix}", DECAY)
    with open_snapshots(out) as ds:
        expected = simulate(DECAY, error_estimate=True)
        assert ds.load().identical(expected)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_what_was_finished_is_kept_and_only_the_rest_is_added(tmp_path, solved):
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        simulate_to(out, DECAY, 40, progress=stopping(16))
    assert solved == list(range(16))
    assert not out.exists()
    assert len(list(partial_of(out).glob("*.shard"))) == 16
    assert not (partial_of(out) / "running.json").exists()
    simulate_to(out, DECAY, 40)
    assert solved == list(range(40))
    assert open_snapshots(out)["v"].identical(simulate(DECAY, 40)["v"])
    assert not partial_of(out).exists()


def test_trajectories_solved_one_by_one_are_kept_one_by_one(tmp_path, monkeypatch):
    """Of 64 trajectories four make a task here; the stop comes within the first."""
    case, out, original = replace(WIDE, n_trajectories=64), tmp_path / "a.h5", Wide._integrate
    calls: list[int] = []

    def stopped(self, u0, times):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, u0, times)

    with monkeypatch.context() as patch:
        patch.setattr(Wide, "_integrate", stopped)
        with pytest.raises(KeyboardInterrupt):
            simulate_to(out, case, error_estimate=False)
    assert sorted(path.stem for path in partial_of(out).glob("*.shard")) == ["00000000", "00000001"]
    simulate_to(out, case, error_estimate=False)
    assert np.array_equal(open_snapshots(out)["u"], simulate(case)["u"])


def test_a_part_of_a_block_gives_the_same_bits(tmp_path):
    """Ten of sixteen shards are lost: their trajectories are solved again among fillers, at their own places."""
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        simulate_to(out, "burgers_1d", 20, progress=stopping(20), error_estimate=False)
    for i in (0, 1, 2, 5, 7, 9, 11, 12, 13, 15):
        (partial_of(out) / f"{i:08d}.shard").unlink()
    simulate_to(out, "burgers_1d", 20, error_estimate=False)
    assert np.array_equal(open_snapshots(out)["u"], simulate("burgers_1d", 20)["u"])


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap"])
def test_a_damaged_trajectory_is_computed_again_and_said(tmp_path, solved, caplog, damage):
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        simulate_to(out, DECAY, 3, progress=stopping(3))
    shard = partial_of(out) / "00000001.shard"
    content = bytearray(shard.read_bytes())
    content[-7] ^= 1
    spoilt = {"flip": bytes(content), "cut": bytes(content[:-9]), "empty": b""}
    spoilt["swap"] = (partial_of(out) / "00000002.shard").read_bytes()
    shard.write_bytes(spoilt[damage])
    solved.clear()
    simulate_to(out, DECAY, 3)
    assert solved == [1]
    assert "a.h5.partial: trajectory 1: " in caplog.text
    assert "computed again" in caplog.text
    assert np.array_equal(open_snapshots(out)["u"], simulate(DECAY, 3)["u"])


def test_a_shard_that_is_cut_while_the_store_is_written_is_computed_again(tmp_path, caplog):
    out = tmp_path / "a.h5"

    def cut(name: str, done: int, total: int, note: str = "") -> None:
        shard = partial_of(out) / "00000001.shard"
        if name == "write" and done == 0 and "cut off" not in caplog.text:
            os.truncate(shard, shard.stat().st_size - 4)

    simulate_to(out, DECAY, 3, progress=cut)
    assert "trajectory 1: it is cut off; it is computed again" in caplog.text
    assert np.array_equal(open_snapshots(out)["v"], simulate(DECAY, 3)["v"])


def test_other_settings_are_refused_and_named(tmp_path):
    out = tmp_path / "a.h5"
    with pytest.raises(KeyboardInterrupt):
        simulate_to(out, DECAY, 20, progress=stopping(16))
    for settings, differs in (
        ({"seed": 1}, "seed 0 (now 1)"),
        ({"n": 19}, "n 20 (now 19)"),
        ({"design": "sobol"}, "design random (now sobol)"),
        ({"case": FRAGILE}, "solver_settings {'limit': 9.0, 'steps': 8} (now {'limit': 0.5, 'steps': 8})"),
        ({"case": replace(DECAY, times=(0.0, 2.0))}, "other initial fields, parameters, times or grid"),
    ):
        with pytest.raises(OutputError) as error:
            simulate_to(out, **{"case": DECAY, "n": 20, **settings})
        assert differs in str(error.value)
        assert "--overwrite" in str(error.value)
    simulate_to(out, DECAY, 20, seed=1, overwrite=True)
    assert np.array_equal(open_snapshots(out)["u"], simulate(DECAY, 20, seed=1)["u"])


def test_overwrite_continues_what_belongs_to_it_and_keeps_the_old_store_until_then(tmp_path, solved):
    out = simulate_to(tmp_path / "a.h5", DECAY, 20, seed=1)
    solved.clear()
    with pytest.raises(OutputError, match=r"a.h5: exists already"):
        simulate_to(out, DECAY, 20)
    with pytest.raises(KeyboardInterrupt):
        simulate_to(out, DECAY, 20, overwrite=True, progress=stopping(16))
    assert open_snapshots(out).attrs["seed"] == 1
    simulate_to(out, DECAY, 20, overwrite=True)
    assert solved == list(range(20))
    assert open_snapshots(out).attrs["seed"] == 0


def test_killed_before_its_folder_was_removed_it_is_done(tmp_path, solved, monkeypatch):
    out = tmp_path / "a.h5"
    with monkeypatch.context() as patch:
        patch.setattr(on_disk.WorkFolder, "remove", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            simulate_to(out, DECAY, 3)
    before = out.read_bytes()
    solved.clear()
    simulate_to(out, DECAY, 3)
    assert not solved
    assert out.read_bytes() == before
    assert not partial_of(out).exists()


def test_two_processes_refuse_each_other(tmp_path):
    out = tmp_path / "a.h5"
    partial_of(out).mkdir()
    lock = partial_of(out) / "running.json"
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getppid()}))
    with pytest.raises(OutputError, match=rf"a.h5.partial: process {os.getppid()} simulates here already"):
        simulate_to(out, DECAY, 2)
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))  # beyond the largest pid
    simulate_to(out, DECAY, 2)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    partial_of(tmp_path / "a.h5").mkdir()
    (partial_of(tmp_path / "a.h5") / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="holds no work of romvae simulate"):
        simulate_to(tmp_path / "a.h5", DECAY, 2, overwrite=True)
    assert (partial_of(tmp_path / "a.h5") / "letter.txt").read_text() == "dear"


def slow_ones(case: Case = FRAGILE, n: int = 20) -> list[int]:
    return [i for i in range(n) if case.draw(i).solver.parameters["rate"] > 0.5]


def test_failing_trajectories_do_not_end_the_others(tmp_path, solved):
    bad = slow_ones()
    assert 0 < len(bad) < 16  # otherwise this shows nothing
    out = tmp_path / "a.h5"
    with pytest.raises(NumericsError) as error:
        simulate_to(out, FRAGILE)
    assert f"{len(bad)} of 20 trajectories failed: trajectory {bad[0]} (rate=0." in str(error.value)
    assert "decay: failed at t=0.25 (rate=0." in str(error.value)
    assert "--skip-failed" in str(error.value)
    listed = json.loads((partial_of(out) / "failed.json").read_text())
    assert [entry["index"] for entry in listed] == bad
    assert all(entry["time"] == 0.25 and entry["parameters"]["rate"] > 0.5 for entry in listed)
    assert sorted(solved) == [i for i in range(20) if i not in bad]

    solved.clear()
    simulate_to(out, FRAGILE, skip_failed=True)
    assert not solved
    ds = open_snapshots(out)
    assert ds["trajectory"].values.tolist() == [i for i in range(20) if i not in bad]
    assert json.loads(ds.attrs["failed_trajectories"]) == bad
    whole = simulate(replace(DECAY, solver=partial(Decay, limit=9.0)))
    assert np.array_equal(ds["u"], whole["u"].sel(trajectory=ds["trajectory"]))


def test_a_rerun_tries_only_the_failed_ones_again(tmp_path, solved, monkeypatch):
    out = tmp_path / "a.h5"
    with pytest.raises(NumericsError):
        simulate_to(out, FRAGILE)
    solved.clear()
    monkeypatch.setattr(Decay, "_integrate_many", _without_limit(Decay.__dict__["_integrate_many"]))
    simulate_to(out, FRAGILE)
    assert solved == slow_ones()
    assert np.array_equal(open_snapshots(out)["u"], simulate(DECAY)["u"])
    assert "failed_trajectories" not in open_snapshots(out).attrs


def _without_limit(original: classmethod) -> classmethod:
    def integrate(cls, solvers, u0, times):
        return original.__func__(cls, [Decay(s.rate) for s in solvers], u0, times)

    return classmethod(integrate)


def test_where_all_fail_nothing_is_written(tmp_path):
    none = replace(DECAY, solver=partial(Decay, limit=0.0))
    for skip in (False, True):
        with pytest.raises(NumericsError, match="20 of 20 trajectories failed"):
            simulate_to(tmp_path / "a.h5", none, skip_failed=skip)
    assert not (tmp_path / "a.h5").exists()


def test_the_mask_is_stored_beside_the_fields(tmp_path):
    masked = replace(DECAY, solver=partial(Decay, masked=True))
    out = simulate_to(tmp_path / "a.h5", masked, 2)
    ds = open_snapshots(out)
    assert ds["mask"].dims == ("y", "x")
    assert ds["mask"].dtype == np.int8
    assert np.array_equal(ds["mask"], masked.draw(0).solver.mask)
    assert (ds["mask"].attrs["flag_meanings"], list(ds["mask"].attrs["flag_values"])) == ("outside inside", [0, 1])
    assert fields_of(ds) == ["u", "v"]
    assert Schema.of(ds).field_names == ("u", "v")
    check_snapshots(simulate(masked, 2))


def test_memory_stays_flat(tmp_path):
    """52 MB of values go through a third of that: a block in work, then the store block by block."""
    case = Case("wide", "", partial(Wide, points=10_000), tuple(np.linspace(0, 1, 13).tolist()), 100)
    assert ensemble_bytes(case) == 52_000_000
    simulate_to(tmp_path / "small.zarr", case, 2, error_estimate=False)  # imports and pools of threads
    tracemalloc.start()
    try:
        simulate_to(tmp_path / "a.h5", case, error_estimate=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 52_000_000 / 3


class Wide(Decay):
    """One field on many points, solved one by one."""

    name = "wide"
    fields = Decay.fields[:1]
    batched = False

    def __init__(self, points: int = 10) -> None:
        super().__init__()
        from romvae.schema import Grid
        from romvae.solvers.operators import uniform_axis

        axis = self.grid.axes[0]
        self.grid = Grid((uniform_axis("x", points, 1.0, (axis.lower, axis.upper)),))

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        return np.full(self.shape, rng.uniform())

    _integrate_many = Solver.__dict__["_integrate_many"]

    def _integrate(self, u0: np.ndarray, times: np.ndarray) -> np.ndarray:
        return u0 * np.exp(-times)[:, None, None]


WIDE = Case("wide", "", Wide, (0.0, 1.0), 2)


@pytest.mark.parametrize("room", [300, 1500])
def test_a_full_disk_is_one_line_and_what_is_finished_is_kept(tmp_path, room):
    """A limit on the size of files stands for the disk: no shard fits, or the shards do and the store does not."""
    out = tmp_path / "a.zarr"  # HDF5 crashes as it closes such a file: the command line leaves without closing
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            simulate_to(out, DECAY, error_estimate=False)
        except OSError as error:
            code = 5 if "\n" not in str(error) else 6
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert not out.exists()
    kept = len(list(partial_of(out).glob("*.shard")))
    assert kept == (20 if room > 1000 else 0)
    simulate_to(out, DECAY, error_estimate=False)
    assert np.array_equal(open_snapshots(out)["u"], simulate(DECAY)["u"])
