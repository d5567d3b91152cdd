"""The commands of `romvae`: one plain function per file, imported by `romvae.cli` when it is called."""

from __future__ import annotations

__all__: list[str] = []
