"""`romvae report`: the HTML page of a comparison, or of a run that has not been compared yet."""

from __future__ import annotations

from pathlib import Path

from romvae.commands.compare import Asked, compare_run
from romvae.commands.options import Out, Overwrite, Quiet
from romvae.commands.outputs import check_output
from romvae.commands.run_folder import RunFolder
from romvae.errors import DataError
from romvae.progress import terminal_progress

__all__ = ["report"]


def report(path: Path, /, *, out: Out, overwrite: Overwrite = False, quiet: Quiet = False) -> None:
    """Write one self-contained HTML page.

    Arguments:
        path: folder that romvae compare or romvae demo wrote (read again, nothing is computed), or a run
            (compared first).
        out: HTML file to write.
    """
    check_output(out, overwrite)
    from romvae.report import write_report

    if (path / "comparison").is_dir():
        from romvae.comparison import Comparison

        comparison = Comparison.load(path / "comparison")
    elif (path / "data.json").is_file():
        with terminal_progress(quiet) as progress:
            comparison = compare_run(RunFolder.open(path), Asked(), progress)
    else:
        raise DataError(f"{path}: holds neither a comparison nor a run. Expected a folder of romvae compare or train.")
    write_report(comparison, out, overwrite=overwrite)
    print(out)
