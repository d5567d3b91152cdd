"""`romvae demo`: the whole path on a built-in case, from simulation to report."""

from __future__ import annotations

from pathlib import Path

from romvae.commands.options import Out, Overwrite, Quiet, Seed
from romvae.commands.outputs import check_output
from romvae.commands.text import skill
from romvae.progress import terminal_progress

__all__ = ["demo"]


def demo(
    *,
    out: Out = Path("demo"),
    quick: bool = False,
    seed: Seed = 0,
    case: str = "burgers_1d",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Simulate, train, roll out, compare and report, on a built-in case.

    Arguments:
        out: folder for report.html, metrics.json and the files behind them.
        quick: a small version, to see that everything works; its figures say nothing about quality.
        case: name of the case; romvae simulate --list shows them.
    """
    check_output(out, overwrite, ("metrics.json", "report.html", "data.zarr"))  # the last: of one that was interrupted
    from romvae.demo import run_demo
    from romvae.environment import available_cpus

    with terminal_progress(quiet) as progress:
        metrics = run_demo(
            out, quick=quick, seed=seed, case=case, progress=progress, overwrite=overwrite, workers=available_cpus()
        )
    print(skill(metrics))
    print(f"\nreport:  {out / 'report.html'}\nmetrics: {out / 'metrics.json'}")
    print("\nNext, step by step or with your own data:")
    print(f"  romvae simulate {case} --out {case}.zarr")
    print(f"  romvae train {case}.zarr --out runs/{case}")
    print(f"  romvae compare runs/{case} --out comparison")
