"""Tasks on the workers of a Dask cluster, on this or on other machines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType
from typing import Any, TypeVar

from romvae.errors import ConfigError, optional_import
from romvae.tasks.workers import RETRIES, LostWorkerError
from romvae.version import __version__

__all__ = ["on_dask"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_CONNECT = "20s"
_AHEAD, _LEAST = 4, 16
"""Tasks that are handed in at any time: so many per thread of the workers, and so many at least."""


def on_dask(
    function: Callable[..., Result],
    tasks: Sequence[Task],
    scheduler: str,
    workers: int,
    *,
    common: Any = None,
    what: str = "simulate",
    packages: Sequence[str] = ("numpy", "scipy"),
) -> Iterator[tuple[Task, Result | LostWorkerError]]:
    """`(task, result)` of every task in the order in which they end.

    The workers need the same versions of romvae and of what computes: bits differ between versions.

    Limit: where a worker is lost, Dask blames all tasks that it had, those that waited there too. Beside a task that
    kills every worker, a harmless one may be given up; the same command again does it.

    Arguments:
        function: Importable by its name on the workers, `function(task)` or `function(task, common=...)`.
        tasks: Picklable; each is asked for when workers are about to take it.
        scheduler: Address of a Dask scheduler, such as `tcp://10.0.0.1:8786`, or `local` for a cluster of
            processes on this machine that lasts for these tasks.
        workers: Processes of a local cluster.
        common: What all tasks need; it goes to every worker once, one that is started later included.
        what: The command, for messages.
        packages: Those that compute.

    Raises:
        ConfigError: Dask is not installed, the scheduler does not answer, or a worker has other versions.
    """
    distributed = optional_import("distributed", "dask", "a Dask scheduler")
    killed = optional_import("distributed.scheduler", "dask", "a Dask scheduler").KilledWorker
    with _client(distributed, scheduler, min(workers, len(tasks)), what) as client:
        _check_versions(client, what, packages)
        # The result of a task, not scattered data: Dask computes it again if all workers that hold it are lost.
        more = {} if common is None else {"common": _handed_in(client, _same, common)}
        waiting = iter(range(len(tasks)))
        running: dict[Any, Task] = {}
        ended = distributed.as_completed()

        def hand_in() -> None:
            most = max(_LEAST, _AHEAD * sum(client.nthreads().values()))
            for number in waiting:
                task = tasks[number]
                future = _handed_in(client, function, task, retries=RETRIES, **more)
                running[future] = task
                ended.add(future)
                if len(running) >= most:
                    return

        hand_in()
        for future in ended:
            task = running.pop(future)
            try:
                result: Any = future.result()
            except killed as error:
                result = LostWorkerError(f"its Dask worker was lost, {error.allowed_failures + 1} times")
            hand_in()
            yield task, result
            future.release()


def _same(value: Any) -> Any:
    return value


def _handed_in(client: Any, function: Callable[..., Any], *values: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)  # a model is as large as it is
        return client.submit(function, *values, pure=False, **options)


@contextmanager
def _client(distributed: ModuleType, scheduler: str, workers: int, what: str) -> Iterator[Any]:
    if scheduler == "local":
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT)
    except (OSError, ValueError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{what}: no Dask scheduler answers at {scheduler!r} ({reason}). Start one with `dask scheduler`, or use "
            "scheduler local"
        ) from error
    with client:
        yield client


def _versions(packages: Sequence[str] = ("numpy", "scipy")) -> str:
    return ", ".join([f"romvae {__version__}", *(f"{name} {version(name)}" for name in packages)])


def _check_versions(client: Any, what: str = "simulate", packages: Sequence[str] = ("numpy", "scipy")) -> None:
    here = _versions(packages)
    try:
        found = client.run(_versions, packages)
    except (ImportError, AttributeError) as error:  # the function cannot be found on a worker
        raise ConfigError(f"{what}: the Dask workers have no usable romvae ({error}). Install {here} there") from error
    for worker, there in found.items():
        if there != here:
            raise ConfigError(f"{what}: the Dask worker {worker} has {there}, expected {here}. Install the same")
