"""Several runs that have learned nothing, ranked: what is finished stays, what cannot be ranked costs nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import romvae.report
from romvae.commands import several
from romvae.commands.compare import Asked, compare_opened, compare_run, open_run
from romvae.commands.run_folder import DataRecord, RunFolder
from romvae.commands.several import held_out
from romvae.data import write_snapshots
from romvae.errors import NumericsError
from romvae.progress import silent
from romvae.rom import ROM
from romvae.testing import mock_snapshots

QUICK = ["--cost-seconds", "0", "--members", "16", "--baselines", "persistence", "-q"]
ASK = Asked(members=16, cost_seconds=0.0, baselines=["persistence"])


@pytest.fixture(autouse=True)
def _quick_pages(monkeypatch):
    """Pages without pictures, which take most of the time."""
    for name in ("write_report", "write_ranking"):
        monkeypatch.setattr(romvae.report, name, lambda found, path, overwrite=False: path.write_text("page"))


def _begun(path: Path, store: Path, data, test: list[int]) -> Path:
    """A run folder with a ROM as it was initialised; two of its parts are the same ones in all runs."""
    rows = {"train": [0, 1, 2, 3], "variance": [4, 5], "calibration": [6, 7], "test": test}
    parts = SimpleNamespace(**{name: data.isel(trajectory=each) for name, each in rows.items()})
    path.mkdir()
    RunFolder(path).begin("seed: 0\n", DataRecord.of(store, parts, 0), "romvae train")
    RunFolder(path).record({})
    ROM.for_data(parts.train, latent=3, channels=4, hidden=8, members=2).save(path / "model")
    return path


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    """Runs `one`, `two` and, with other held-out trajectories, `other`; `ragged` is of trajectories of two lengths."""
    top = tmp_path_factory.mktemp("runs")
    data = mock_snapshots(1, ("u",), trajectories=12, times=6)
    write_snapshots(data, top / "data.h5")
    for name, test in (("one", [8, 9, 10]), ("two", [8, 9, 10]), ("other", [9, 10, 11])):
        _begun(top / name, top / "data.h5", data, test)
    lengths = np.where(np.arange(12) == 9, 5, 6).astype(np.int32)
    ragged = data.assign_coords(n_steps=("trajectory", lengths, {"romvae_role": "valid_length"}))
    ragged["u"] = ragged["u"].where(ragged["time"] < ragged["time"][-1] + 0.01 - 0.1 * (ragged["n_steps"] < 6))
    write_snapshots(ragged, top / "ragged.h5")
    _begun(top / "ragged", top / "ragged.h5", ragged, [8, 9, 10])
    return top


def test_what_is_finished_stays_where_a_later_run_fails_and_is_not_computed_again(run, top, tmp_path, monkeypatch):
    out, computed = tmp_path / "c", []

    def second_fails(opened, *args):
        if computed:
            raise NumericsError("no more")
        computed.append(opened.run.path.name)
        return compare_opened(opened, *args)

    monkeypatch.setattr(several, "compare_opened", second_fails)
    code, _, err = run("compare", top / "one", top / "two", "--out", out, *QUICK)
    assert (code, computed) == (4, ["one"])
    assert f"{out / 'one'}: compared already. Give these in the place of their runs, with --overwrite" in err
    assert {path.name for path in out.iterdir()} == {"one"}
    assert {path.name for path in (out / "one").iterdir()} == {"comparison", "metrics.json", "report.html"}
    before = json.loads((out / "one" / "metrics.json").read_text())

    computed.clear()
    code, _, err = run("compare", out / "one", top / "two", "--out", out, "--overwrite", *QUICK)
    assert (code, computed) == (0, ["two"]), err
    assert json.loads((out / "one" / "metrics.json").read_text()) == before
    assert {path.name for path in out.iterdir()} == {"one", "two", "metrics.json", "report.html"}


def test_runs_that_cannot_be_ranked_are_refused_before_one_of_them_is_compared(run, top, tmp_path, monkeypatch):
    compare_run(RunFolder.open(top / "one"), ASK, silent).save(tmp_path / "old" / "comparison")

    def forbidden(*args):
        raise AssertionError("should not have been called")

    monkeypatch.setattr(several, "compare_opened", forbidden)
    words = ["--out", tmp_path / "c", *QUICK]
    for first in (top / "one", tmp_path / "old"):
        code, _, err = run("compare", first, top / "two", top / "other", *words)
        assert code == 3
        assert f"{top / 'other'}: its held-out trajectories are not those of {first}, so the two cannot be" in err
    code, _, err = run("compare", top / "one", top / "missing", *words)
    assert (code, "missing: no such folder" in err) == (3, True)
    metrics = tmp_path / "old" / "comparison" / "metrics.json"
    metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "data": {}}))
    code, _, err = run("compare", tmp_path / "old", top / "two", *words)
    assert code == 3
    assert "old: its comparison tells no fingerprint of its data. Give the run itself instead" in err
    assert not (tmp_path / "c").exists()


def test_options_without_effect_on_what_is_compared_already_are_named(run, top, tmp_path):
    compare_run(RunFolder.open(top / "one"), ASK, silent).save(tmp_path / "one" / "comparison")
    shutil.copytree(tmp_path / "one", tmp_path / "again")
    both = ["compare", tmp_path / "one", tmp_path / "again", "-q"]
    code, _, err = run(*both, "--out", tmp_path / "a")
    assert (code, err) == (0, "")
    given = ["--members", "32", "--baselines", "cheap", "--data", top / "data.h5", "--long-run", "10"]
    code, _, err = run(*both, "--out", tmp_path / "b", *given)
    assert code == 0, err
    for name in ("one", "again"):
        told = f"{tmp_path / name}: is compared already and taken as it is, without effect of "
        assert f"{told}--data, --members, --baselines, --long-run. Give the run itself instead." in err


@pytest.mark.parametrize("name", ["one", "ragged"])
def test_the_held_out_data_are_known_before_as_they_are_after_the_comparison(top, name):
    found = RunFolder.open(top / name)
    assert held_out(open_run(found, ASK)) == compare_run(found, ASK, silent).metrics["data"]["fingerprint"]
