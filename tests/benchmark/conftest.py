"""A benchmark small enough to run in a test: conduction on 32 points, networks that learn nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from romvae.benchmark import find_problems
from romvae.benchmark.result import write_result
from tests.benchmark import fake

RECIPE = """\
seeds: [0, 1]
split: {train: 8, variance: 3, calibration: 10, test: 4}
solver: {points: 32}
times: {end: 0.2, number: 9}
model: {latent: 3, channels: 4, hidden: 8, members: 2, blocks: 0}
training: {vae_steps: 3, variance_steps: 2, dynamics_steps: 3, batch_size: 16}
opponents: [persistence, pod_linear, pod_rbf]
bars:
- {metric: further.as_published.snapshot_relative_l2, at_most: 100.0, what: mean error of a snapshot}
published:
- {who: others, value: "0.5", metric: further.as_published.snapshot_relative_l2, what: nRMSE, note: another grid}
variants:
  more:
    about: more training trajectories
    split: {train: 12}
    long_run: {steps: 40, trajectories: 2}
"""


def make_folder(top: Path, text: str = RECIPE, case: str = "heat_1d") -> Path:
    folder = top / "simulations"
    (folder / case).mkdir(parents=True, exist_ok=True)
    (folder / case / "benchmark.yaml").write_text(text, encoding="utf-8")
    return folder


def forbidden(*args, **kwargs):
    raise AssertionError("should not have been called")


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """Folders of recipes and of data, in which seed 0 of both recipes was run."""
    from romvae.benchmark import find_problems, run_problems
    from romvae.progress import silent

    top = tmp_path_factory.mktemp("benchmark")
    folder = make_folder(top)
    failed = run_problems(find_problems(folder, which="all"), top / "data", silent, seeds=(0,), threads=1)
    assert not failed
    return folder, top / "data"


@pytest.fixture
def folder(tmp_path):
    """Two seeds of the main recipe, in which POD is ahead, and one of the variant, in which romvae is."""
    folder = make_folder(tmp_path, fake.RECIPE)
    main, more = find_problems(folder, which="all").values()
    write_result(main, 0, fake.content(0.01, {"persistence": 0.5, "pod_linear": 0.005}, horizon=2.0))
    write_result(main, 1, fake.content(0.02, {"persistence": 0.7, "pod_linear": 0.007}, horizon=3.0))
    write_result(more, 0, fake.content(0.01, {"persistence": 0.5, "pod_linear": 0.02}))
    return folder
