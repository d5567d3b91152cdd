"""`python -m romvae` is `romvae`."""

from __future__ import annotations

from romvae.cli import run

__all__: list[str] = []

if __name__ == "__main__":
    run()
