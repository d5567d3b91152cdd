"""A command line to run, and fakes to put in place of the science."""

from __future__ import annotations

import signal
import sys
import types

import pytest


@pytest.fixture(autouse=True)
def _unchanged_process():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


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
