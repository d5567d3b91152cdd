"""The page in a real browser: nothing complained of, nothing fetched, and the player plays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .browser import Browser, Page, chromium_path

EXECUTABLE = chromium_path()
pytestmark = pytest.mark.skipif(
    EXECUTABLE is None,
    reason="chromium is not installed (Debian: apt-get install chromium): page not checked",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert EXECUTABLE is not None
    with Browser(EXECUTABLE) as running:
        yield running


def _decoded(page: Page) -> list[int]:
    """Natural widths of all pictures, once each has been decoded."""
    return page.evaluate(
        "Promise.all([...document.images].map(i => i.decode().catch(() => 0)))"
        ".then(() => [...document.images].map(i => i.naturalWidth))"
    )


def _scrolled(page: Page) -> list[list[object]]:
    """What scrolls sideways by itself: the place of each in the order of keys, its role and its name."""
    return page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))"
        ".map(e => [e.tabIndex, e.getAttribute('role'), !!e.getAttribute('aria-label')])"
    )


@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_is_sound_at_each_width(browser: Browser, report: Path, width: int) -> None:
    page = browser.open(report, width, dark=width == 360)
    widths = _decoded(page)
    assert len(widths) > 10
    assert min(widths) > 0
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hit === undefined")
    assert page.requests() == [report.resolve().as_uri()]
    assert page.complaints() == []
    # A table that is wider than a phone scrolls by itself, with the keyboard too.
    assert len(_scrolled(page)) >= 2  # the numbers, and the trust horizon within
    assert all(each == [0, "region", True] for each in _scrolled(page))


def test_pictures_are_dimmed_on_a_dark_screen_only(browser: Browser, reports: dict[str, Path]) -> None:
    """A factor for all channels: white paper gets less bright than the text, and hues stay."""
    shown = "[...new Set([...document.images].map(i => getComputedStyle(i).filter))]"
    (dimmed,) = browser.open(reports["1-D"], 1400, dark=True).evaluate(shown)
    assert dimmed == "brightness(0.78)"
    assert browser.open(reports["1-D"], 1400).evaluate(shown) == ["none"]
    assert browser.open(reports["1-D"], A4[0], dark=True, media="print").evaluate(shown) == ["none"]


@pytest.mark.parametrize("width", [360, 1400])
def test_the_ranking_is_sound_at_each_width(browser: Browser, ranking_page: Path, width: int) -> None:
    page = browser.open(ranking_page, width, dark=width == 360)
    widths = _decoded(page)
    assert len(widths) == 3
    assert min(widths) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hit === undefined")
    assert page.requests() == [ranking_page.resolve().as_uri()]
    assert page.complaints() == []
    # A table that is wider than a phone scrolls by itself, with the keyboard too.
    assert len(_scrolled(page)) == 2
    assert all(each == [0, "region", True] for each in _scrolled(page))


def test_the_slider_changes_all_pictures_and_the_label(browser: Browser, reports: dict[str, Path]) -> None:
    page = browser.open(reports["1-D"], 1400)
    sources = "[...document.querySelectorAll('[data-player] > .row img')].map(i => i.src)"
    middle = page.evaluate(sources)
    assert page.evaluate("document.querySelector('output').textContent") == "t = 0.5 s"
    page.evaluate(
        "(() => { const s = document.querySelector('[data-player] input'); s.value = 0;"
        " s.dispatchEvent(new Event('input')); })()"
    )
    first = page.evaluate(sources)
    assert len(first) == 4
    assert all(a != b for a, b in zip(first, middle, strict=True))
    assert page.evaluate("document.querySelector('output').textContent") == "t = 0 s"
    spoken = page.evaluate("document.querySelector('[data-player] input').getAttribute('aria-valuetext')")
    assert spoken == "t = 0 s, frame 1 of 9"
    assert min(_decoded(page)) > 0


def test_the_slider_moves_by_the_keyboard(browser: Browser, reports: dict[str, Path]) -> None:
    page = browser.open(reports["1-D"], 1400)
    page.evaluate("document.querySelector('[data-player] input').focus()")
    page.press("ArrowLeft", 37)
    assert page.evaluate("document.querySelector('[data-player] input').value") == "3"
    assert page.evaluate("document.querySelector('output').textContent") == "t = 0.375 s"


def test_the_button_plays_to_the_end_and_pauses(browser: Browser, reports: dict[str, Path]) -> None:
    page = browser.open(reports["2-D, losing"], 1400)
    page.evaluate("document.querySelector('[data-player] button').focus()")
    page.press(" ", 32)  # from the start, though the middle was shown
    assert "Pause" in page.evaluate("document.querySelector('[data-player] button').textContent")
    value = "Number(document.querySelector('[data-player] input').value)"
    assert page.evaluate(value) < 2
    deadline = time.monotonic() + 10
    while "Pause" in page.evaluate("document.querySelector('[data-player] button').textContent"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert page.evaluate(value) == 4


A4 = (688, 1017)
"""What the margins of 14 mm leave of the sheet, in CSS pixels."""


def _printed(browser: Browser, path: Path) -> Page:
    """The page as it is laid out for paper, though the reader's screen is dark."""
    page = browser.open(path, A4[0], dark=True, media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert min(_decoded(page)) > 0
    return page


def _visible(page: Page, selector: str) -> int:
    return page.evaluate(f"[...document.querySelectorAll('{selector}')].filter(e => e.getClientRects().length).length")


def test_on_paper_nothing_is_cut_dark_or_to_be_pressed(browser: Browser, report: Path) -> None:
    page = _printed(browser, report)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert _visible(page, "nav, button, input, output, .screen") == 0
    assert page.evaluate("[...document.querySelectorAll('details')].every(each => each.open)")
    sides = "[...document.querySelectorAll('img, table, figure, p')].map(e => e.getBoundingClientRect())"
    assert page.evaluate(f"Math.max(...{sides}.map(r => r.right))") <= A4[0]
    # What may not be broken over two sheets has to fit on one.
    heights = (
        "[...document.querySelectorAll('figure:not([data-player]), .stills > .row, tr, .verdict')].map(e =>"
        " [getComputedStyle(e).breakInside, e.getBoundingClientRect().height])"
    )
    assert all(kind == "avoid" and height < A4[1] for kind, height in page.evaluate(heights))
    assert page.complaints() == []


def test_on_paper_the_player_is_a_row_of_stills_with_their_times(browser: Browser, reports: dict[str, Path]) -> None:
    page = _printed(browser, reports["1-D"])
    assert _visible(page, "[data-player] > .row") == 0
    assert _visible(page, "[data-player] > .stills > .row") == 4
    times = "[...document.querySelectorAll('.stills > .name')].map(e => e.textContent)"
    assert page.evaluate(times) == ["t = 0 s", "t = 0.375 s", "t = 0.625 s", "t = 1 s"]
    rows = page.evaluate("[...document.querySelectorAll('.stills > .row')].map(r => r.querySelector('img').src)")
    assert len(set(rows)) == 4
    # In two dimensions two of these times have maps of their own.
    other = _printed(browser, reports["2-D, losing"])
    assert other.evaluate(times) == ["t = 0 s", "t = 0.25 s"]
    assert _visible(browser.open(reports["1-D"], 1400), ".stills, .when") == 0


def test_on_paper_the_table_of_runs_is_whole(browser: Browser, ranking_page: Path) -> None:
    page = _printed(browser, ranking_page)
    assert (
        page.evaluate("Math.max(...[...document.querySelectorAll('td')].map(e => e.getBoundingClientRect().right))")
        <= (A4[0])
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_pages_policy_stops_an_outside_request(browser: Browser, reports: dict[str, Path]) -> None:
    """What the other tests do not see would be stopped: even a script of our own cannot fetch."""
    page = browser.open(reports["1-D"], 1400)
    stopped = page.evaluate("fetch('https://example.org/').then(() => false, () => true)")
    assert stopped
    blocked = page.evaluate(
        "new Promise(done => { const i = new Image(); i.onerror = () => done(true);"
        " i.onload = () => done(false); i.src = 'https://example.org/a.png'; })"
    )
    assert blocked
    assert any("Content Security Policy" in each for each in page.complaints())


def test_without_scripts_there_is_no_dead_button(reports: dict[str, Path]) -> None:
    text = reports["1-D"].read_text(encoding="utf-8")
    assert '<div class="controls" hidden>' in text
    assert '<p class="name when">t = 0.5 s</p>' in text
