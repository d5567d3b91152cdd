"""Three reports, rendered once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from romvae.report import write_ranking, write_report

from .fake import FakeComparison, fake_comparison, fake_ranking

EVIL = "<img src=x onerror=window.hit=1></script><script>window.hit=1</script>"

SETTINGS: dict[str, dict[str, Any]] = {
    "1-D": {"shape": (32,), "times": 9},
    "2-D, losing": {"shape": (12, 16), "times": 5, "loses": True},
    "3-D, hostile": {"shape": (4, 6, 8), "times": 4, "fields": (EVIL,)},
}


@pytest.fixture(scope="session", params=SETTINGS)
def report(request: pytest.FixtureRequest, reports: dict[str, Path]) -> Path:
    """Each of the reports in turn."""
    return reports[request.param]


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of all reports by name."""
    folder = tmp_path_factory.mktemp("reports")
    paths = {}
    for index, (name, settings) in enumerate(SETTINGS.items()):
        comparison = fake_comparison(examples=2, **settings)
        if "hostile" in name:
            _poison(comparison)
        paths[name] = write_report(comparison, folder / f"{index}.html")
    return paths


@pytest.fixture(scope="session")
def ranking_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs on one page, one of them with markup for a name."""
    return write_ranking(fake_ranking(EVIL), tmp_path_factory.mktemp("ranking") / "report.html")


def _poison(comparison: FakeComparison) -> None:
    """Put markup wherever a text may come from a file."""
    comparison.info |= {"title": EVIL, "case": EVIL, "verdict": [EVIL]}
    comparison.info["configuration"] |= {EVIL: {EVIL: EVIL * 5}, "w" * 150: "v" * 150}
    comparison.metrics["baselines"][EVIL] = {"relative_l2": 0.5}
    comparison.metrics["cost"]["rom"]["mean"]["solver"] = {"settings": {EVIL: EVIL}, "every": 2, "error": 0.03}
    comparison.metrics["data"]["parameters"][EVIL] = {"low": 0, "high": 1, "units": EVIL}
    comparison.examples["time"].attrs["units"] = EVIL
    comparison.info["history"][EVIL] = {"loss": [1.0, 2.0]}
