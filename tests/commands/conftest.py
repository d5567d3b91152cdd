"""A command line to run, and fakes to put in place of the science."""

from __future__ import annotations

import signal
import sys
import types
from pathlib import Path

import pytest

from romvae import cli


@pytest.fixture(autouse=True)
def _unchanged_process():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(capsys):
    """Run a command line; gives exit code, standard output and standard error."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fake(monkeypatch):
    """Put a module made of the given names in place of a module of romvae."""

    def fake(name: str, **content: object) -> None:
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        monkeypatch.setattr(sys.modules[parent], last, module, raising=False)

    return fake
