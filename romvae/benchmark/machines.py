"""Where results were made: machines, threads, versions, commits and commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from romvae.benchmark.result import Result
from romvae.benchmark.words import markdown

if TYPE_CHECKING:
    from romvae.benchmark.page import Group

__all__ = ["machines_sentence", "machines_table", "on_what"]

_SHORT = 7
_CHANGED = "+changes"  # behind a commit in a result: tracked files differed from it
_VERSIONS = ("romvae", "python", "torch", "numpy", "scipy", "pydmd", "opinf", "neuraloperator")


def machines_table(groups: Sequence[Group]) -> str:
    """Where, with what, by which commands and at which commits the results were made.

    A `+` behind a commit: with changes to it. A command of several seeds has the commits of all of them.
    """
    found: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for _, results in groups:
        for seed, made in ((result.seed, made) for result in results for made in _made(result)):
            here, versions = made["machine"], made["versions"]
            gpu = here.get("gpu") or "none"
            where = f"{here.get('processor')}, {here.get('cpus')} cores, {_threads(here, 1)}, GPU: {gpu}"
            what = ", ".join(f"{name} {versions[name]}" for name in _VERSIONS if name in versions)
            command = f"`{made.get('command', '')}`".replace(f" --seeds {seed}", "")
            found.setdefault((where, what), {}).setdefault(command, {})[_commit(versions)] = None
    rows = []
    for (where, what), commands in found.items():
        each = (f"{command} ({', '.join(commits)})" for command, commits in commands.items())
        rows.append([where, what, ", ".join(each)])
    return markdown(["machine", "versions", "commands (commits)"], rows)


def machines_sentence(groups: Sequence[Group]) -> str:
    """On how many threads of which processors the results were made, and how many problems on each; or empty."""
    found: dict[str, dict[str, set[str]]] = {}
    for problem, results in groups:
        for here in (made["machine"] for result in results for made in _made(result)):
            found.setdefault(_threads(here), {}).setdefault(_processor(here), set()).add(problem.name)
    parts = []
    for threads, processors in found.items():
        each = [f"{name} ({len(problems)})" for name, problems in processors.items()]
        parts.append(f"on {threads} of {', '.join(each)}")
    return f"Measured, with the number of problems in brackets, {', and '.join(parts)}." if parts else ""


def on_what(results: Iterable[Result]) -> str:
    """On how many threads results were measured, and whether on one machine or on different ones."""
    machines = [result.content["machine"] for result in results]
    threads = " or ".join(dict.fromkeys(map(_threads, machines)))
    different = len(set(map(_processor, machines))) > 1
    return f"on {threads} of {'different machines' if different else 'one machine'}"


def _made(result: Result) -> Iterator[Mapping[str, Any]]:
    """The result, and what was added to it later."""
    yield result.content
    yield from result.content.get("added", ())


def _commit(versions: Mapping[str, Any]) -> str:
    commit = str(versions.get("commit") or "none")
    if commit == "none":
        return "commit unknown"
    return commit.removesuffix(_CHANGED)[:_SHORT] + ("+" if commit.endswith(_CHANGED) else "")


def _threads(here: Mapping[str, Any], one: object = "one") -> str:
    threads = here.get("threads")
    return f"{one} thread" if threads == 1 else f"{threads} threads"


def _processor(here: Mapping[str, Any]) -> str:
    return str(here.get("processor"))
