"""Cards: what a data set of the project is, for people (`README.md`) and for programs (`metadata.yaml`).

Both follow from the case, so that they cannot drift away from the code. `python -m romvae.data.card CASE` prints the
metadata; with `--write datasets` the file `datasets/CASE/metadata.yaml` is written, and a card where there is none.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from romvae.canonical import TIME, TRAJECTORY
from romvae.errors import DataError
from romvae.grid import Axis
from romvae.settings_file import read_settings_file
from romvae.solvers import ensemble_bytes
from romvae.solvers.base import Case, Solver
from romvae.solvers.cases import get_case

__all__ = ["KEYS", "card", "case_metadata", "main", "read_metadata"]

KEYS = {
    "format": "version of this description",
    "name": "folder, and the case or the reader that belongs to it",
    "title": "one sentence",
    "kind": "generated (romvae simulate makes it) or public (somebody else made it)",
    "reader": "layout that romvae opens it with",
    "equation": "what was solved; 'several' for collections",
    "solver": "what solved it",
    "dims": "dims of a field in the canonical order",
    "fields": "name, units, and what it is",
    "axes": "name, points, units, first and last coordinate, boundary conditions",
    "times": "number, first and last time, units",
    "parameters": "name, units, range and how it is drawn",
    "trajectories": "number by default; null where it depends on the file",
    "bytes": "of the values, in memory; null where it depends on the file",
    "licence": "what may be done with the data",
    "source": "where they come from",
    "citation": "what to cite",
}
"""Keys of every `metadata.yaml`, all of them required; what is not known is null or empty."""

_FORMAT = "romvae-card-1"
_LICENCE = "BSD-3-Clause, as the code that makes it"


def case_metadata(case: Case | str) -> dict[str, Any]:
    """The facts about a generated data set, with the keys `KEYS`; nothing is simulated.

    Arguments:
        case: A case, or its name.

    Raises:
        ConfigError: There is no such case.
    """
    case = get_case(case) if isinstance(case, str) else case
    solver = case.draw(0).solver
    units = dict(solver.units)
    return {
        "format": _FORMAT,
        "name": case.name,
        "title": case.description,
        "kind": "generated",
        "reader": "romvae-1",
        "equation": solver.equation,
        "solver": f"romvae.solvers.{type(solver).__name__}: {solver.scheme}".removesuffix(": "),
        "dims": [TRAJECTORY, TIME, *solver.grid.names],
        "fields": [{"name": f.name, "units": f.units, "long_name": f.long_name} for f in solver.fields],
        "axes": [_axis(axis, units) for axis in solver.grid.axes],
        "times": {
            "count": len(case.times),
            "start": float(case.times[0]),
            "end": float(case.times[-1]),
            "units": units.get(TIME, "1"),
        },
        "parameters": _parameters(case, solver, units),
        "trajectories": case.n_trajectories,
        "bytes": int(ensemble_bytes(case)),
        "licence": _LICENCE,
        "source": f"romvae simulate {case.name}",
        "citation": "CITATION.cff of the project",
    }


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Reads a `metadata.yaml`.

    Raises:
        ConfigError: Not valid YAML.
        DataError: A key is missing or unknown.
    """
    found = read_settings_file(path).data
    missing, unknown = sorted(set(KEYS) - set(found)), sorted(set(found) - set(KEYS))
    if missing or unknown:
        raise DataError(
            f"{path}: missing {', '.join(missing) or 'nothing'}, unknown {', '.join(unknown) or 'nothing'}; expected "
            f"the keys {', '.join(KEYS)}. Write it again with python -m romvae.data.card"
        )
    return found


def card(metadata: dict[str, Any]) -> str:
    """The metadata of a generated data set as a page for people, with the command that makes it."""
    rows = [("equation", metadata["equation"]), ("solver", metadata["solver"])]
    rows += [(f"field `{f['name']}`", f"{f['long_name']}, units {f['units']}, float32") for f in metadata["fields"]]
    for axis in metadata["axes"]:
        ends = f"{axis['size']} points, {axis['lower']:.6g} to {axis['upper']:.6g}, units {axis['units']}"
        rows.append((f"axis `{axis['name']}`", f"{ends}; {' and '.join(axis['boundary'])}"))
    times = metadata["times"]
    when = f"{times['count']} times from {times['start']:g} to {times['end']:g}, units {times['units']}"
    rows.append(("`time`", when))
    rows += [(f"parameter `{p['name']}`", _range(p)) for p in metadata["parameters"]] or [("parameters", "none")]
    rows += [
        ("trajectories", f"{metadata['trajectories']}, seed 0"),
        ("size", f"{metadata['bytes'] / 1e6:.0f} MB of values"),
        ("made by", "whoever runs the command below; the project distributes no copy"),
        ("licence", metadata["licence"]),
    ]
    name, n = metadata["name"], metadata["trajectories"]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return (
        f"# {name}\n\n{metadata['title'].rstrip('.')}.\n\n| | |\n|---|---|\n{table}\n\n```bash\n"
        f"romvae simulate {name} --n {n} --seed 0 --out data/{name}.zarr\n```\n\n"
        "Same version and seed, same values on the same kind of machine, whatever the number of processes.\n"
        "Initial fields, what verifies the solver and where it breaks:\n"
        f"[`simulations/{name}`](../../simulations/{name}/README.md).\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the metadata of cases, or writes their files below a folder."""
    parser = argparse.ArgumentParser(prog="python -m romvae.data.card", description=main.__doc__)
    parser.add_argument("case", nargs="+", help="name of a case; romvae simulate --list shows them")
    parser.add_argument("--write", metavar="FOLDER", type=Path, help="folder of the data sets, such as datasets")
    given = parser.parse_args(arguments)
    for name in given.case:
        metadata = case_metadata(name)
        text = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=120)
        if given.write is None:
            print(text, end="")  # noqa: T201  (this is a command)
            continue
        folder = given.write / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metadata.yaml").write_text(text, encoding="utf-8")
        if not (folder / "README.md").exists():
            (folder / "README.md").write_text(card(metadata), encoding="utf-8")


def _axis(axis: Axis, units: dict[str, str]) -> dict[str, Any]:
    sides = [_side(side.entry) for side in (axis.lower, axis.upper)]
    return {
        "name": axis.name,
        "size": axis.size,
        "lower": _number(axis.coordinates[0]),
        "upper": _number(axis.coordinates[-1]),
        "units": units.get(axis.name, axis.units),
        "boundary": sides,
    }


def _number(value: float) -> float:
    """Twelve digits: the last bits differ between machines."""
    return float(f"{value:.12g}")


def _side(entry: str | dict[str, Any]) -> str:
    if isinstance(entry, str):
        return entry
    return "value " + ", ".join(f"{name}={number:g}" for name, number in entry["value"].items())


def _parameters(case: Case, solver: Solver, units: dict[str, str]) -> list[dict[str, Any]]:
    """What varies, and what the solver calls a parameter but the case holds fixed."""
    varied: list[dict[str, Any]] = [
        {
            "name": r.name,
            "units": units.get(r.name, "1"),
            "low": float(r.low),
            "high": float(r.high),
            "scale": r.scale,
            "of_initial": r.of_initial,
        }
        for r in case.ranges
    ]
    names = {entry["name"] for entry in varied}
    for name, value in solver.parameters.items():
        if name not in names and case.plan is None:
            fixed = {"low": _number(value), "high": _number(value), "scale": "fixed", "of_initial": False}
            varied.append({"name": name, "units": units.get(name, "1"), **fixed})
    return varied


def _range(p: dict[str, Any]) -> str:
    if p["scale"] == "fixed":
        return f"{p['low']:g}, units {p['units']}"
    how = "log-uniform" if p["scale"] == "log" else "uniform"
    more = ", shapes the initial field only" if p["of_initial"] else ""
    return f"{how} in [{p['low']:g}, {p['high']:g}], units {p['units']}{more}"


if __name__ == "__main__":
    main()
