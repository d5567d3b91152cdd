"""A comparison as files: `report.html`, one self-contained page, and `metrics.json` beside it."""

from __future__ import annotations

from romvae.report.page import Compared, write_metrics, write_report
from romvae.report.ranking import Ranked, write_ranking
from romvae.report.verdict import headlines, verdict

__all__ = ["Compared", "Ranked", "headlines", "verdict", "write_metrics", "write_ranking", "write_report"]
