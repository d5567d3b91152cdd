"""Tasks on the workers of a Dask cluster, on this or on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import scipy

from romvae.errors import ConfigError, optional_import
from romvae.solvers.workers import RETRIES, LostWorkerError
from romvae.version import __version__

__all__ = ["on_dask"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_CONNECT = "20s"


def on_dask(
    function: Callable[[Task], Result], tasks: Sequence[Task], scheduler: str, workers: int
) -> Iterator[tuple[Task, Result | LostWorkerError]]:
    """`(task, result)` of every task in the order in which they end.

    The workers need the same romvae, numpy and scipy as this process: bits differ between versions.

    Limit: where a worker is lost, Dask blames all tasks that it had, those that waited there too. Beside a task that
    kills every worker, a harmless one may be given up; simulating again solves it.

    Arguments:
        function: Importable by its name on the workers.
        tasks: Picklable.
        scheduler: Address of a Dask scheduler, such as `tcp://10.0.0.1:8786`, or `local` for a cluster of
            processes on this machine that lasts for these tasks.
        workers: Processes of a local cluster.

    Raises:
        ConfigError: Dask is not installed, the scheduler does not answer, or a worker has other versions.
    """
    distributed = optional_import("distributed", "dask", "a Dask scheduler")
    killed = optional_import("distributed.scheduler", "dask", "a Dask scheduler").KilledWorker
    with _client(distributed, scheduler, min(workers, len(tasks))) as client:
        _check_versions(client)
        futures = {client.submit(function, task, pure=False, retries=RETRIES): task for task in tasks}
        for future in distributed.as_completed(futures):
            task = futures.pop(future)
            try:
                result: Any = future.result()
            except killed as error:
                result = LostWorkerError(f"its Dask worker was lost, {error.allowed_failures + 1} times")
            yield task, result
            future.release()


@contextmanager
def _client(distributed: ModuleType, scheduler: str, workers: int) -> Iterator[Any]:
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
            f"simulate: no Dask scheduler answers at {scheduler!r} ({reason}). Start one with `dask scheduler`, or use "
            "scheduler local"
        ) from error
    with client:
        yield client


def _versions() -> str:
    return f"romvae {__version__}, numpy {np.__version__}, scipy {scipy.__version__}"


def _check_versions(client: Any) -> None:
    here = _versions()
    try:
        found = client.run(_versions)
    except (ImportError, AttributeError) as error:  # the function cannot be found on a worker
        raise ConfigError(
            f"simulate: the Dask workers have no usable romvae ({error}). Install {here} there"
        ) from error
    for worker, there in found.items():
        if there != here:
            raise ConfigError(f"simulate: the Dask worker {worker} has {there}, expected {here}. Install the same")
