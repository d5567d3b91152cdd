"""`romvae check`: everything that is wrong with stores of snapshots."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from romvae.commands.options import Reader
from romvae.errors import ConfigError, DataError

__all__ = ["check"]


def check(*paths: Path, reader: Reader = None, json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Read stores to their end and list every finding with its file, variable and index.

    Arguments:
        paths: stores of snapshots.
        json: write JSON, for other programs.
    """
    if not paths:
        raise ConfigError("FILE is missing. Give one store of snapshots or several.")
    from romvae.data.audit import audit

    results = [audit(path, reader) for path in paths]
    if json:
        print(json_format.dumps([result.to_dict() for result in results], indent=2))
    else:
        for result in results:
            for finding in result.findings:
                print(f"finding: {finding.text(result.source)}")
            for note in result.notes:
                print(f"note: {result.source}: {note}")
            kept = (
                f"manifest {result.manifest[:16]}" if result.manifest else "no manifest: exchanged chunks are not seen"
            )
            print(f"{result.source}: {len(result.findings) or 'no'} finding{'s' * (len(result.findings) != 1)}; {kept}")
    bad = [result.source for result in results if result.findings]
    if bad:
        count = _count(sum(len(result.findings) for result in results))
        raise DataError(f"{', '.join(bad)}: {count}. Copy or simulate what is damaged again")


def _count(n: int) -> str:
    return f"{n or 'no'} finding{'s' if n != 1 else ''}"
