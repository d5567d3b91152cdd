"""Every test draws the same random numbers, whatever ran before it; and a command line to run."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one process per core: more threads than that would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line; gives exit code, standard output and standard error."""
    from romvae import cli

    def run(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
