"""All bad inputs of the readers in one table: `python -m tests.data.refusals` tries each and prints what became of it.

The rows are those of the tests beside this file; a row counts as refused where its test passes, so where one line names
the file and what is wrong, and nothing else happens.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import test_readers_hostile_zarr as zarr
from . import test_readers_mapping as mapping
from . import test_readers_refusals as layouts
from . import test_readers_security as security

__all__ = ["ROWS", "Row", "main"]


@dataclass(frozen=True)
class Row:
    """A bad input: the list it comes from, what is bad, and the test that refuses it in a folder of its own."""

    group: str
    what: str
    trial: Callable[[Path], None]


def _rows() -> list[Row]:
    rows = []
    for layout, inside, change, text in layouts.IN_HDF5:

        def hdf5(folder: Path, row: tuple = (layout, inside, change, text)) -> None:
            layouts.test_damaged_hdf5_is_refused_by_one_line(*row, folder)

        rows.append(Row("layouts in HDF5", f"{layout}: {_plain(text)}", hdf5))
    for layout, damage, text in layouts.IN_FOLDERS:

        def arrays(folder: Path, row: tuple = (layout, damage, text)) -> None:
            layouts.test_damaged_folder_is_refused_by_one_line(*row, folder)

        rows.append(Row("layouts of arrays", f"{layout}: {_plain(text)}", arrays))
    for make, text in security.HOSTILE:

        def hostile(folder: Path, row: tuple = (make, text)) -> None:
            security.test_hostile_hdf5_is_refused_before_anything_is_read(*row, None, folder)

        rows.append(Row("hostile HDF5", make.__name__.strip("_").replace("_", " "), hostile))
    for edit, version, text in zarr.HOSTILE:

        def store(folder: Path, row: tuple = (edit, version, text)) -> None:
            zarr.test_hostile_zarr_is_refused(*row, None, folder)

        rows.append(Row("hostile Zarr", edit.__name__.strip("_").replace("_", " "), store))
    for source, text in security.YAML:

        def yaml(folder: Path, row: tuple = (source, text)) -> None:
            security.test_hostile_yaml_is_refused(*row, folder)

        rows.append(Row("hostile mapping", _plain(text), yaml))
    for source, text in mapping.WRONG:

        def wrong(folder: Path, row: tuple = (source, text)) -> None:
            mapping.test_a_wrong_mapping_says_where(*row, folder)

        rows.append(Row("wrong mapping", _plain(source.replace("\n", "; ")), wrong))
    for old, new, text in mapping.CHANGES:

        def unfit(folder: Path, row: tuple = (old, new, text)) -> None:
            mapping.test_a_mapping_that_does_not_fit_the_file_is_refused(*row, folder)

        rows.append(Row("mapping that does not fit", _plain(text), unfit))
    return rows


def _plain(pattern: str) -> str:
    """A pattern as a person reads it."""
    return pattern.replace("\\", "").replace(".*", "...")[:80]


ROWS = _rows()


def main() -> int:
    """Tries every row and prints the table; returns how many were not refused."""
    warnings.simplefilter("ignore")
    outcome: Counter[tuple[str, str]] = Counter()
    for row in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                row.trial(Path(folder))
                found = "refused"
            except Exception as error:
                found = f"FAILED: {str(error).splitlines()[0][:60]}"
        outcome[row.group, found[:7]] += 1
        print(f"{row.group:<26} {row.what:<82} {found}")
    print()
    for (group, found), count in outcome.items():
        print(f"{group:<26} {found:<8} {count:>3}")
    failed = sum(count for (_, found), count in outcome.items() if found != "refused")
    print(f"{'all':<26} refused  {len(ROWS) - failed:>3} of {len(ROWS)}")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
