"""Process seconds of a training's stages: counted beside the wall-clock, through interruptions, by all processes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from romvae.training import session as module
from romvae.training.session import History, Session


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Clocks that only the test moves on."""
    now = SimpleNamespace(wall=100.0, process=10.0)
    fake = SimpleNamespace(
        perf_counter=lambda: now.wall, process_time=lambda: now.process, monotonic=lambda: now.wall, time=lambda: 0.0
    )
    monkeypatch.setattr(module, "time", fake)
    return now


def work(session: Session, clock: SimpleNamespace, stage: str, wall: float, process: float) -> None:
    session.begin(stage)
    clock.wall, clock.process = clock.wall + wall, clock.process + process
    session.tick()
    session.tick()  # a second look adds nothing


def test_both_clocks_are_read_and_a_stage_that_is_taken_up_again_goes_on(clock):
    session = Session(None, {})
    work(session, clock, "vae", 3.0, 5.0)
    work(session, clock, "dynamics", 1.0, 2.0)
    session.history = History.from_dict(session.history.to_dict())
    work(session, clock, "dynamics", 1.0, 0.5)
    assert session.history.seconds == {"vae": 3.0, "dynamics": 2.0}
    assert session.history.process_seconds == {"vae": 5.0, "dynamics": 2.5}


def test_processes_that_train_together_are_all_counted(clock):
    session = Session(None, {}, ranks=SimpleNamespace(size=3, first=True))
    work(session, clock, "vae", 3.0, 5.0)
    assert session.history.process_seconds == {"vae": 15.0}


def test_histories_of_earlier_versions_load_and_a_stage_of_theirs_is_not_half_counted(clock):
    session = Session(None, {})
    session.history = History.from_dict({"curves": {}, "seconds": {"vae": 9.0, "dynamics": 4.0}, "notes": {}})
    assert session.history.process_seconds == {}
    work(session, clock, "dynamics", 3.0, 5.0)
    work(session, clock, "calibration", 1.0, 2.0)
    assert session.history.seconds == {"vae": 9.0, "dynamics": 7.0, "calibration": 1.0}
    assert session.history.process_seconds == {"calibration": 2.0}
