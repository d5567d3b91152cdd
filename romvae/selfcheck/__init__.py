"""What romvae promises about faults, bad input and exactness, tried for real in child processes."""

from __future__ import annotations

def run_selfcheck(*a, **k):
    from romvae.selfcheck.suite import run_selfcheck as run
    return run(*a, **k)

__all__ = ["run_selfcheck"]
