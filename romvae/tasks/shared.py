"""Tasks shared out over the workers that there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from romvae.tasks.dask_workers import on_dask
from romvae.tasks.workers import LostWorkerError, on_processes, one_by_one

__all__ = ["shared_out"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def shared_out(
    function: Callable[..., Result],
    tasks: Sequence[Task],
    workers: int,
    scheduler: str | None = None,
    *,
    common: Any = None,
    what: str = "simulate",
    packages: Sequence[str] = ("numpy", "scipy"),
) -> Iterator[tuple[Task, Result | LostWorkerError]]:
    """`(task, result)` of every task: on a Dask cluster, on processes of this machine, or here.

    Arguments:
        function: `function(task)`, or `function(task, common=...)`; importable by its name.
        tasks: Picklable; each is asked for when a worker is about to take it.
        workers: Processes of this machine, or of a local cluster.
        scheduler: Address of a Dask scheduler, or `local`; None for processes without Dask.
        common: What all tasks need, such as a model: it goes to every worker once.
        what: The command, for messages.
        packages: Whose versions Dask workers must share with this process.
    """
    if not tasks:
        return iter(())
    if scheduler is not None:
        return on_dask(function, tasks, scheduler, workers, common=common, what=what, packages=packages)
    call = function if common is None else partial(function, common=common)
    if min(workers, len(tasks)) == 1:
        return one_by_one(call, tasks)
    return on_processes(call, tasks, workers, what)
