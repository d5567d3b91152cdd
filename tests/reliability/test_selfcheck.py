"""`romvae selfcheck` tries what README promises; all of it is among the slow tests, a little in every run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from romvae.selfcheck.fuzz import mutated
from romvae.selfcheck.record import Case, NotHeldError, SkippedError, require, table, try_cases

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="selfcheck forks and looks into /proc")


def _selfcheck(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "romvae", "selfcheck", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800)


def test_bad_settings_and_commands_are_refused(tmp_path):
    done = _selfcheck("--quick", "--only", "settings", "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "14 tried, 14 held" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["failed"], found["groups"][0]["held"]) == (0, 14)


@pytest.mark.slow
def test_everything_that_is_promised_holds(tmp_path):
    done = _selfcheck("--json", str(tmp_path / "found.json"))
    if "ROMVAE_SELFCHECK_TABLE" in os.environ:
        Path(os.environ["ROMVAE_SELFCHECK_TABLE"]).write_text(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    groups = {group["name"]: group for group in json.loads((tmp_path / "found.json").read_text())["groups"]}
    assert groups["faults"]["tried"] == 27
    assert sum(group["tried"] for name, group in groups.items() if name.startswith("inputs")) == 79
    assert groups["damaged files"]["tried"] == 300


def test_an_unknown_group_is_refused():
    done = _selfcheck("--only", "weather")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --only = weather: expected part of one of faults, ")


def test_a_table_counts_and_lists_what_did_not_hold():
    def fail() -> None:
        require(False, "weights\ndiffer")

    def skip() -> None:
        raise SkippedError("no GPU")

    def broken() -> None:
        raise ZeroDivisionError("oh")

    runs = {"A": lambda: "fine", "B": fail, "C": skip, "D": broken}
    group = try_cases("faults", [Case(k, "x", "y", run) for k, run in runs.items()], lambda *args: None)
    assert [r.outcome for r in group.records] == ["held", "failed", "skipped", "failed"]
    lines = table([group]).splitlines()
    assert " ".join(lines[0].split()) == "faults 4 tried, 1 held, 2 failed, 1 skipped (C: no GPU)"
    assert lines[3:] == [
        "  faults B (x): weights differ",
        "  faults D (x): the check itself broke: ZeroDivisionError: oh",
    ]
    with pytest.raises(NotHeldError):
        fail()


def test_damage_is_repeatable_and_mostly_damage():
    content = bytes(range(256))
    damaged = [mutated(content, random.Random(seed))[0] for seed in range(50)]
    assert damaged == [mutated(content, random.Random(seed))[0] for seed in range(50)]
    assert sum(one != content for one in damaged) > 45
