"""`romvae selfcheck`: what is promised about faults, bad input and exactness, tried here."""

from __future__ import annotations

import json as json_format
import logging
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from romvae.atomic import atomic_file
from romvae.commands.options import Quiet
from romvae.commands.outputs import check_output
from romvae.errors import QualityError
from romvae.progress import terminal_progress

__all__ = ["selfcheck"]


def selfcheck(
    *,
    quick: bool = False,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    only: list[str] | None = None,
    quiet: Quiet = False,
) -> None:
    """Kill, fill, damage and mistype for some minutes, and show what held. Nothing outside a temporary folder changes.

    Arguments:
        quick: fewer kills and files, and nothing that starts a new interpreter.
        json: file to write everything to that was tried.
        only: part of the name of a group, such as faults, inputs, exactness or files; may be given more than once.
    """
    if json is not None:
        check_output(json, overwrite=True)
    from romvae.selfcheck.record import table
    from romvae.selfcheck.suite import run_selfcheck

    logging.getLogger("romvae").setLevel(logging.ERROR)  # of this process; its children set their own
    with terminal_progress(quiet) as progress:
        groups, content = run_selfcheck(quick, progress, only or ())
    print(table(groups))
    print(f"{content['seconds']} s on {content['machine']['cpus']} processors")
    if json is not None:
        with atomic_file(json, overwrite=True) as temporary:
            temporary.write_text(json_format.dumps(content, indent=1) + "\n", encoding="utf-8")
    if content["failed"]:
        raise QualityError(f"selfcheck: {content['failed']} of what is promised did not hold, see the table.")
