"""Progress: lines in a log, a bar on a terminal, silence on request."""

from __future__ import annotations

import io

import pytest

from romvae.progress import PlainProgress, duration, stage, terminal_progress


def test_progress_in_a_log_is_one_line_per_interval_and_one_at_the_end():
    stream, now = io.StringIO(), iter([0.0, 1.0, 11.0, 12.0, 20.0])
    progress = PlainProgress(stream, interval=10.0, clock=lambda: next(now))
    for done in (0, 10, 50, 60):
        progress("vae", done, 100, "loss 1.2")
    progress("vae", 100, 100)
    assert (
        stream.getvalue() == "vae: 50/100 (50 %), 11.0 s, about 11.0 s left, loss 1.2\nvae: 100/100 (100 %), 20.0 s\n"
    )


def test_progress_on_a_terminal_is_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with terminal_progress(stream=stream) as progress:
        progress("vae", 1, 2, "loss [1]")
        stage(progress, "simulate")(2, 2)
    assert "loss [1]" in stream.getvalue()
    assert "simulate" in stream.getvalue()


def test_no_progress_is_silent(capsys):
    with terminal_progress(quiet=True) as progress:
        progress("vae", 1, 1)
    stage(None, "vae")(1, 1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.25, "4.2 s"), (59.9, "59.9 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
