"""The report's texts and files: what it says, what it leaves out, and that names cannot add markup."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from romvae.errors import OutputError
from romvae.report import verdict, write_metrics, write_report
from romvae.report.animation import animate, frame_steps
from romvae.report.page import render
from romvae.report.reading import percent

from .conftest import SETTINGS
from .fake import FakeComparison, fake_comparison


@pytest.fixture(scope="module")
def page(reports: dict[str, Path]) -> str:
    return reports["1-D"].read_text(encoding="utf-8")


# A comparison with numbers only: quick to write.
BARE = FakeComparison({"rom": {"relative_l2": 0.05}}, xr.Dataset(), xr.Dataset())


class _Tags(HTMLParser):
    """All start tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def _metrics(**rom: Any) -> dict[str, Any]:
    """Without what test_certainty.py is about: tests, intervals and costs at equal accuracy."""
    metrics = copy.deepcopy(fake_comparison(shape=(4,), times=3, examples=1).metrics)
    for name in ("cost", "significance"):
        metrics.pop(name)
    metrics["rom"] |= {"coverage_90": 0.897, "intervals": {}, **rom}
    return metrics


# The verdict


def test_a_winning_rom_states_its_error_first_then_the_best_baseline() -> None:
    sentences = verdict(_metrics())
    assert sentences[0] == (
        "On the 32 held-out trajectories the forecast is on average 3.2 % off (relative L2 error), and "
        "at the worst moment of the worst trajectory 12 % of the typical size of the field."
    )
    text = " ".join(sentences)
    assert "POD with linear dynamics, is 17 % off: the ROM's error is 5.4 times smaller." in text
    assert "hold the truth 89.7 ± 1.2 % of the time" in text
    assert "they can be taken at their word" in text
    assert "4.0 times faster" in text
    assert "Do not use it for viscosity outside 0.005 to 0.05 m² s⁻¹; lead times beyond 1 s;" in sentences[-1]


def test_a_losing_rom_says_so_first_and_recommends_the_baseline() -> None:
    metrics = _metrics()
    metrics["baselines"]["pod_interpolation"] = {"relative_l2": 0.0012}
    assert verdict(metrics)[0] == (
        "The ROM loses here, use POD with interpolation instead: it forecasts held-out trajectories with "
        "0.12 % error, 27 times smaller than the ROM's 3.2 %."
    )


def test_a_narrow_win_is_not_called_a_success() -> None:
    metrics = _metrics(relative_l2=0.15)
    assert "1.1 times smaller. That is little for a trained model" in " ".join(verdict(metrics))


def test_a_large_error_and_few_trajectories_are_called_so() -> None:
    assert "rough picture at most" in verdict(_metrics(relative_l2=0.35, compression_relative_l2=None))[2]
    assert "as bad as forecasting zero" in " ".join(verdict(_metrics(relative_l2=1.2)))
    few = _metrics()
    few["data"]["split"]["test"] = 4
    assert verdict(few)[1] == "With 4 trajectories these figures are rough."


def test_a_rom_that_is_not_finite_loses() -> None:
    sentences = verdict(_metrics(relative_l2=None))
    assert sentences[0].startswith("The ROM loses here, use POD with linear dynamics instead")
    assert "not finite: it cannot be used" in sentences[1]


def test_a_slower_rom_says_so() -> None:
    metrics = _metrics()
    metrics["seconds"] |= {"rollout": 0.5, "solver": 0.1}
    text = " ".join(verdict(metrics))
    assert "The ROM is slower than the reference solver, 0.5 s against 0.1 s per trajectory" in text
    assert "faster" not in text


def test_training_pays_off_after_its_cost_over_the_gain() -> None:
    metrics = _metrics()
    metrics["seconds"] = {"vae": 60.0, "dynamics": 40.0, "rollout": 0.1, "solver": 1.1}
    assert "training took 1 min 40 s, which pays off after about 100 rollouts" in " ".join(verdict(metrics))


@pytest.mark.parametrize(("coverage", "words"), [(0.7, "too narrow"), (0.97, "too wide"), (0.92, "at their word")])
def test_coverage_in_words(coverage: float, words: str) -> None:
    assert words in " ".join(verdict(_metrics(coverage_90=coverage)))


def test_what_was_not_measured_gets_no_sentence() -> None:
    sentences = verdict({"rom": {"relative_l2": 0.05}, "seconds": {"rollout": 0.1}})
    assert len(sentences) == 3
    assert "no reference solver was timed" in sentences[1]
    assert "nan" not in " ".join(sentences)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.00012, "0.012 %"),
        (0.0999, "10 %"),
        (0.999, "100 %"),
        (33.0, "3300 %"),
        (1e9, "over 100000 %"),
    ],
)
def test_per_cent_has_two_significant_digits(share: float, text: str) -> None:
    assert percent(share) == text


# The page


def test_the_page_is_self_contained_and_small(page: str) -> None:
    assert len(page.encode()) < 5e6
    assert not re.search(r"https?://", page)
    tags = _Tags(page)
    sources = [attributes.get("src") or "" for attributes in tags.named("img")]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not [attributes for attributes in tags.named("script") if "src" in attributes]
    assert [attributes["href"] for attributes in tags.named("link")] == ["data:,"]


def test_the_pages_policy_admits_its_own_style_and_script_only(page: str) -> None:
    policy = next(each["content"] for each in _Tags(page).named("meta") if "http-equiv" in each)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    for pattern in (r"<style>(.*?)</style>", r"<script>(.*?)</script>"):
        content = re.search(pattern, page, re.DOTALL)
        assert content
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_each_picture_has_an_alternative_text_and_each_id_is_unique(page: str) -> None:
    tags = _Tags(page)
    assert all(len(attributes.get("alt") or "") > 10 for attributes in tags.named("img"))
    identities = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = {(attributes.get("href") or "")[1:] for attributes in tags.named("a")}
    assert targets <= set(identities)


def test_the_verdict_comes_before_everything_else(page: str) -> None:
    assert page.index("On the 32 held-out") < page.index("<table") < page.index("<img")


def test_a_losing_rom_is_marked_and_its_better_baseline_is_starred(reports: dict[str, Path]) -> None:
    page = reports["2-D, losing"].read_text(encoding="utf-8")
    assert 'class="verdict loses"' in page
    assert re.search(r"POD \+ interpolation</th>\s*<td class=best>0.12\u00a0%", page)


def test_the_same_comparison_gives_the_same_page(page: str) -> None:
    assert render(fake_comparison(examples=2, **SETTINGS["1-D"])) == page


def test_hostile_names_are_shown_not_run(reports: dict[str, Path]) -> None:
    tags = _Tags(reports["3-D, hostile"].read_text(encoding="utf-8"))
    assert not [attributes for _, attributes in tags.tags if "onerror" in attributes]
    assert len(tags.named("script")) == 2  # the player's frames and our own script
    assert all((attributes.get("src") or "").startswith("data:") for attributes in tags.named("img"))


def test_missing_parts_are_left_out() -> None:
    page = render(BARE)
    assert "5.0\u00a0%" in page
    assert "<img" not in page
    assert not re.search(r"\bnan\b", page)


def test_examples_without_an_interval_or_its_parts_are_still_shown() -> None:
    comparison = fake_comparison(shape=(12,), times=3, examples=1)
    names = ["lower_u", "upper_u", *(f"std_{part}_u" for part in ("decoder", "dynamics", "posterior", "ensemble"))]
    fewer = FakeComparison(comparison.metrics, xr.Dataset(), comparison.examples.drop_vars(names))
    page = render(fewer)
    assert "Predicted std" in page
    assert "parts of the spread" not in page
    assert "data-player" not in page.split("<body>")[1].split("<script>")[0]


@pytest.mark.parametrize(("name", "rows"), [("1-D", 1), ("2-D, losing", 2)])
def test_parts_of_the_spread_are_mapped_beside_the_total(reports: dict[str, Path], name: str, rows: int) -> None:
    """One row over all times where a map holds them, two lead times else; each picture says what it is."""
    alts = [attributes.get("alt") or "" for attributes in _Tags(reports[name].read_text(encoding="utf-8")).named("img")]
    for part in ("part of decoder", "part of posterior", "part of ensemble", "in all"):
        found = [alt for alt in alts if f"predicted standard deviation of u, {part}" in alt]
        assert len(found) == len(set(found)) == rows


# The frames


def test_frames_are_evenly_spread_and_keep_both_ends() -> None:
    np.testing.assert_array_equal(frame_steps(101, 5), [0, 25, 50, 75, 100])
    np.testing.assert_array_equal(frame_steps(3, 60), [0, 1, 2])


@pytest.mark.parametrize("shape", [(16,), (8, 12), (4, 6, 8)])
def test_each_panel_has_one_moving_picture_per_frame(shape: tuple[int, ...]) -> None:
    example = fake_comparison(shape=shape, times=4, examples=1).examples.isel(trajectory=0)
    panels = animate(example, "u", [0, 2, 3])
    assert [panel.title.split(" ")[0] for panel in panels] == ["Truth", "Forecast", "Error", "Predicted"]
    for panel in panels:
        assert len(set(panel.frames)) == 3
        assert all(frame[:4] == b"RIFF" and frame[8:12] == b"WEBP" for frame in panel.frames)


def test_a_still_field_gives_equal_frames() -> None:
    """Limits are fixed over all frames: only a change of value may change a picture."""
    example = fake_comparison(shape=(16,), times=4, examples=1).examples.isel(trajectory=0)
    example["truth_u"][:] = example["truth_u"].values[:1]
    truth = animate(example, "u", [0, 1, 3])[0]
    assert len(set(truth.frames)) == 1


# The files


def test_a_report_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    path = write_report(BARE, tmp_path)
    assert path == tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"report\.html"):
        write_report(BARE, tmp_path)
    assert path.read_text() == "mine"
    assert write_report(BARE, path, overwrite=True) == path
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_a_report_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = FakeComparison(BARE.metrics, xr.Dataset({"rom_relative_l2": ((), 0.5)}), xr.Dataset())
    with pytest.raises((KeyError, IndexError)):
        write_report(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_strict_json(tmp_path: Path) -> None:
    metrics = {
        "rom": {"relative_l2": np.float32(0.5), "crps": np.nan, "fifths": np.array([0.5, np.inf])},
        "n": 3,
    }
    path = write_metrics(FakeComparison(metrics, xr.Dataset(), xr.Dataset()), tmp_path)
    assert path == tmp_path / "metrics.json"
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read == {"rom": {"relative_l2": 0.5, "crps": None, "fifths": [0.5, None]}, "n": 3}
