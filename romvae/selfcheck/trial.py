"""One bad or odd input: what must come of it is one line and an exit code, and nothing changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from romvae.selfcheck.child import Ended, Hook, forked, romvae
from romvae.selfcheck.record import Case, require
from romvae.selfcheck.workshop import Workshop, contents

__all__ = ["accepted", "refused"]

Make = Callable[[Path], None]


def _tried(shop: Workshop, make: Make, words: Sequence[object], hook: Hook | None) -> tuple[Path, Ended]:
    folder = shop.new()
    ended = forked(lambda: make(folder), timeout=60)
    require(ended.code == 0, f"the input could not be made: {ended.brief}")
    before = contents(folder)
    said = romvae(*(str(word).replace("HERE", str(folder)) for word in words), hook=hook, timeout=60)
    require("Traceback" not in said.err, f"a traceback: {said.brief}")
    require(contents(folder) == before or said.code == 0, "files were changed or made")
    return folder, said


def refused(
    shop: Workshop,
    name: str,
    make: Make,
    words: Sequence[object],
    pattern: str,
    code: int = 3,
    hook: Hook | None = None,
) -> Case:
    """A case that has to end in one error line that matches `pattern`; `HERE` in words stands for its folder.

    Arguments:
        shop: Where to try it.
        name: What is wrong.
        make: Makes the input in a folder.
        words: Command line.
        pattern: Regular expression that the line has to match: file, variable, index, reason.
        code: Exit code.
        hook: Called in the child first.
    """

    def run() -> str:
        _, said = _tried(shop, make, words, hook)
        lines = said.err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        require(said.code == code, f"expected exit status {code}: {said.brief}")
        require(len(errors) == 1, f"expected one error line: {said.brief}")
        require(all(line.startswith(("error: ", "warning: ")) for line in lines), f"other lines: {said.brief}")
        require(re.search(pattern, errors[0]) is not None, f"expected {pattern!r}: {said.brief}")
        return errors[0].replace(str(shop.folder), "...")

    return Case(name, name, f"exit {code}, one line, nothing changed", run)


def accepted(
    shop: Workshop, name: str, make: Make, words: Sequence[object], pattern: str = "", hook: Hook | None = None
) -> Case:
    """A case that has to work, with a line of warning that matches `pattern` if there is one."""

    def run() -> str:
        _, said = _tried(shop, make, words, hook)
        require(said.code == 0, said.brief)
        require(re.search(pattern, said.err + said.out) is not None, f"expected {pattern!r}: {said.brief}")
        return "accepted" + (" with a note" if pattern else "")

    return Case(name, name, "accepted, with a note where something was assumed", run)
