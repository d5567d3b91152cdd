"""Snapshots: files in and out, the split by trajectory, and what a file holds."""

from __future__ import annotations

from romvae.data.describe import describe, summary
from romvae.data.split import PARTS, Parts, split
from romvae.data.store import open_snapshots, write_snapshots
from romvae.data.well_writer import write_well

__all__ = ["PARTS", "Parts", "describe", "open_snapshots", "split", "summary", "write_snapshots", "write_well"]
