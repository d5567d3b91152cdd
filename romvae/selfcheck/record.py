"""What was tried, what must hold, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Case", "Group", "NotHeldError", "Outcome", "Record", "SkippedError", "require", "table", "try_cases"]

Outcome = Literal["held", "failed", "skipped"]


class NotHeldError(Exception):
    """A promise did not hold; the message says what was found."""


class SkippedError(Exception):
    """A case cannot be tried here; the message says why."""


@dataclass(frozen=True)
class Case:
    """Something to try.

    Arguments:
        id: Short name, such as `F1`.
        injected: What is done to the program or to its input.
        must: What has to hold.
        run: Does it; raises `NotHeldError` or `SkippedError`, and may return a note.
    """

    id: str
    injected: str
    must: str
    run: Callable[[], str | None]


@dataclass(frozen=True)
class Record:
    """What came of a case."""

    id: str
    injected: str
    must: str
    outcome: Outcome
    detail: str
    seconds: float


@dataclass
class Group:
    """The records of one part of the scoreboard."""

    name: str
    records: list[Record] = field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        """Number of records with an outcome."""
        return sum(record.outcome == outcome for record in self.records)

    @property
    def line(self) -> str:
        """One line such as `faults 27 tried, 26 held, 1 skipped (F27: no GPU)`; what was skipped was not tried."""
        skipped = [r for r in self.records if r.outcome == "skipped"]
        reasons = "; ".join(f"{r.id}: {r.detail}" for r in skipped)
        parts = [f"{len(self.records)} tried", f"{self.count('held')} held"]
        parts += [f"{self.count('failed')} failed"] if self.count("failed") else []
        parts += [f"{len(skipped)} skipped ({reasons})"] if skipped else []
        return f"{self.name:<32} {', '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "name": self.name,
            "tried": len(self.records),
            **{outcome: self.count(outcome) for outcome in ("held", "failed", "skipped")},
            "records": [asdict(record) for record in self.records],
        }


def require(holds: bool, found: str) -> None:
    """Raises `NotHeldError` with what was found unless `holds`."""
    if not holds:
        raise NotHeldError(" ".join(found.split())[:600])


def try_cases(name: str, cases: Iterable[Case], report: Callable[[str, int, int, str], None]) -> Group:
    """Runs cases one after the other; a case that fails does not stop the others."""
    group, waiting = Group(name), list(cases)
    for done, case in enumerate(waiting):
        report(name, done, len(waiting), case.id)
        group.records.append(_tried(case))
    report(name, len(waiting), len(waiting), f"{group.count('failed')} failed")
    return group


def _tried(case: Case) -> Record:
    begin = time.perf_counter()
    outcome: Outcome = "held"
    try:
        detail = case.run() or ""
    except SkippedError as error:
        outcome, detail = "skipped", str(error)
    except NotHeldError as error:
        outcome, detail = "failed", str(error)
    except Exception as error:  # a check that breaks has shown nothing, so it counts as failed
        outcome, detail = "failed", f"the check itself broke: {type(error).__name__}: {error}"
    return Record(case.id, case.injected, case.must, outcome, detail, round(time.perf_counter() - begin, 3))


def table(groups: Iterable[Group]) -> str:
    """A line per group, and below it everything that did not hold."""
    groups = list(groups)
    lines = [group.line for group in groups]
    failed = [(group, record) for group in groups for record in group.records if record.outcome == "failed"]
    if failed:
        lines += ["", "Did not hold:"]
        lines += [f"  {group.name} {r.id} ({r.injected}): {r.detail}" for group, r in failed]
    return "\n".join(lines)
