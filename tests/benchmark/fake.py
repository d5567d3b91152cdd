"""Results that are made up, and rows of the tables made of them."""

from __future__ import annotations

from romvae.benchmark.page import grouped
from romvae.benchmark.result import read_results, write_result

RECIPE = """\
remark: it decays, and a linear model knows that.
bars:
- {metric: metrics.rom.relative_l2, at_most: 0.02, what: a small error}
- {metric: metrics.rom.horizon, at_least: 3.0, what: a long horizon}
published:
- {who: others, value: "0.5 | 0.6", metric: metrics.rom.nrmse, what: nRMSE, note: another grid}
variants:
  more: {split: {train: 300}}
"""


def content(rom, baselines, **more):
    return {
        "command": "romvae benchmark heat_1d --seeds 0 --threads 2",
        "machine": {"processor": "Some CPU", "cpus": 2, "threads": 2, "gpu": "Some GPU"},
        "versions": {"romvae": "0.1.0", "python": "3.11", "torch": "2.13"},
        "cost": {"process_seconds": {"simulate": 1.0, "train": 100.0, "compare": 10.0}},
        "metrics": {
            "rom": {
                "relative_l2": rom,
                "nrmse": 0.25,
                "coverage_90": 0.9,
                "coverage_90_fifths": [0.9, 0.85, 0.91],
                **more,
            },
            "baselines": {name: {"relative_l2": error, "rollout_seconds": 0.02} for name, error in baselines.items()},
            "cost": {
                "rom": {"mean": {"relative_l2": rom, "batch": 64, "seconds_batch": 0.01, "speed_up_batch": 12.5}},
                "solver": {
                    "complete": True,
                    "sweep": [{"error": 0.0, "seconds_batch": 1.0}, {"error": 0.01, "seconds_batch": 0.125}],
                },
            },
            "data": {"split": {"calibration": 200, "test": 100}},
        },
    }


def groups(folder):
    return grouped(folder, read_results(folder))[0]


def row(text, start):
    return [cell.strip() for line in text.splitlines() if line.startswith(f"| {start} |") for cell in line.split("|")]


def outcome(better, difference=0.01):
    test = {"best": "pod_linear", "p_value": 0.01, "difference": difference}
    return test | {"better_on": better, "trajectories": 100}


def rewrite(problem, seed, change, rom=0.01, baselines=None):
    one = content(rom, {"persistence": 0.5, "pod_linear": 0.02} if baselines is None else baselines)
    change(one["metrics"])
    return write_result(problem, seed, one)
