"""`romvae simulate`: what it passes on, lists and says. The science is faked where it is not looked at."""

from __future__ import annotations

import json

import pytest

from romvae.environment import available_cpus


def test_simulate_passes_the_settings_on(run, fake, tmp_path):
    calls = []

    def simulate_to(out, case, n, seed, workers, progress, **rest):
        calls.append((out, case, n, seed, workers, rest))
        progress("simulate", 1, 1)

    class Failed(Exception):
        pass

    fake("romvae.solvers", simulate_to=simulate_to, FailedTrajectoriesError=Failed)
    config = tmp_path / "simulate.yaml"
    config.write_text("case: burgers_1d\nn: 5\nseed: 1\ndesign: grid\nerror_estimate: false\n")
    words = [
        "simulate",
        "-c",
        config,
        "--seed",
        "4",
        "--out",
        tmp_path / "b.zarr",
        "--design",
        "sobol",
        "--skip-failed",
    ]
    code, out, err = run(*words)
    assert code == 0, err
    rest = {"design": "sobol", "scheduler": None, "error_estimate": False, "skip_failed": True, "overwrite": False}
    assert calls == [(tmp_path / "b.zarr", "burgers_1d", 5, 4, available_cpus(), rest)]
    assert "romvae train" in out
    assert "simulate: 1/1" in err


def test_simulate_says_how_to_continue_and_what_failed(run, tmp_path, monkeypatch):
    from romvae import solvers
    from romvae.solvers.blocks import Failure

    out, words = tmp_path / "b.h5", ["simulate", "heat_1d", "-q", "--n", "3", "--workers", "1", "--design", "grid"]

    def ending(error: BaseException):
        def simulate_to(*args, **kwargs):
            raise error

        monkeypatch.setattr(solvers, "simulate_to", simulate_to)
        return run(*words, "--out", out)

    code, _, err = ending(KeyboardInterrupt())
    assert code == 130
    assert err.startswith(f"Continue with: romvae simulate heat_1d --out {out} --n 3 --workers 1 --design grid\n")
    failures = [Failure(i, {"a": 0.5}, 0.1, f"heat: failed at t=0.1 (a=0.5): reason {i}") for i in (2, 0)]
    code, _, err = ending(solvers.FailedTrajectoriesError("there", failures, 3, "Do this"))
    assert code == 4
    assert err.splitlines() == [
        "failed: trajectory 0 (a=0.5): heat: failed at t=0.1 (a=0.5): reason 0",
        "failed: trajectory 2 (a=0.5): heat: failed at t=0.1 (a=0.5): reason 2",
        "error: there: 2 of 3 trajectories failed (0, 2). Do this",
    ]


def test_the_cases_are_listed_as_a_table_and_as_json(run):
    code, out, _ = run("simulate", "--list")
    assert code == 0
    row = next(line for line in out.splitlines() if line.split()[:1] == ["burgers_1d"])
    for part in ("u_t + (u^2 / 2)_x", "256", "101 to 1", "600", "viscosity 0.005 to 0.05", "62.1 MB"):
        assert part in row
    facts = {case["name"]: case for case in json.loads(run("simulate", "--list", "--json")[1])}
    assert facts["heat_2d"]["grid"] == {"y": 48, "x": 64}
    assert facts["heat_2d"]["boundary"] == {"y": ["value", "value"], "x": ["periodic", "periodic"]}
    assert facts["heat_2d"]["exact"]
    assert facts["burgers_1d"]["parameters"] == [{"name": "viscosity", "low": 0.005, "high": 0.05, "scale": "log"}]
    assert run("simulate", "heat_1d", "--json")[0] == 2


def test_the_cost_of_accuracy_is_shown_for_all_combinations(run):
    words = ["simulate", "fisher_1d", "--n", "1", "--cost-table", "resolution=128,256", "--cost-table", "step=0.02"]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    assert head[:2] == ["resolution", "step"]
    assert [row[:2] for row in rows] == [["as it is"] * 2, ["128", "0.02"], ["256", "0.02"]]
    found = json.loads(run(*words, "--json")[1])
    assert [row["settings"] for row in found] == [
        {},
        {"resolution": 128, "step": 0.02},
        {"resolution": 256, "step": 0.02},
    ]
    assert all(row["failed"] is None and row["seconds"] > 0 for row in found)
    assert found[0]["worst"] == max(found[0]["error"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fisher_1d", "--cost-table", "resolution"], "--cost-table = resolution: expected NAME=VALUE,VALUE"),
        (["fisher_1d", "--cost-table", "resolutoin=3"], "no setting 'resolutoin'. Did you mean 'resolution'?"),
        (["fisher_1d", "--cost-table", "points=64"], "{'points': 64} changes the output grid"),
        (["heat_1d", "--cost-table", "diffusivity=1"], "heat is exact. In Python, give the argument reference"),
        (["--cost-table", "resolution=3"], "CASE is missing"),
    ],
)
def test_settings_without_a_cost_are_refused(run, words, message):
    code, out, err = run("simulate", *words)
    assert (code, out) == (2, "")
    assert message in err
