"""Tasks on worker processes of this machine: a worker that is killed costs its task one more try, and nothing else."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

from romvae.errors import ConfigError
from romvae.processes import end_with_parent, interrupts_held

__all__ = ["RETRIES", "LostWorkerError", "on_processes", "one_by_one"]

Task = TypeVar("Task")
Result = TypeVar("Result")

RETRIES = 3
"""How often a task is given to a fresh worker after one was killed with it."""

_SEND = "Write functions and classes of your own at the top of a module that can be imported, or use workers=1"


class LostWorkerError(Exception):
    """The worker that had a task was killed, and so were those that it was given to afterwards."""


def one_by_one(function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
    """`(task, result)` of every task, in this process."""
    for task in tasks:
        yield task, function(task)


def on_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, what: str = "simulate"
) -> Iterator[tuple[Task, Result | LostWorkerError]]:
    """`(task, result)` of every task in the order in which they end, from fresh processes ("spawn").

    What the function raises is raised here. Stopping the iteration ends the workers at once.

    Arguments:
        function: Importable by its name, or a `partial` of such a one; it goes to every worker once.
        tasks: Picklable; each is asked for when a worker is about to take it.
        workers: Processes, at most one per task.
        what: The command, for messages.

    Raises:
        ConfigError: The processes do not even start.
    """
    crew = _Crew(function, min(workers, len(tasks)), what)
    try:
        yield from crew.work(tasks)
    finally:
        crew.dismiss()


@dataclass
class _Worker:
    process: Any
    job: tuple[int, Any] | None = None
    ready: bool = False


class _Crew:
    """The workers, by the connection over which each is told its task."""

    def __init__(self, function: Callable[[Any], Any], workers: int, what: str) -> None:
        self.function, self.workers, self.what = function, workers, what
        self.crew: dict[Connection, _Worker] = {}
        self.never_started = 0

    def work(self, tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        waiting = deque(range(len(tasks)))
        lost = [0] * len(tasks)
        while waiting or any(worker.job is not None for worker in self.crew.values()):
            self._fill(waiting, tasks)
            for connection in cast("list[Connection]", wait(list(self.crew))):
                worker = self.crew[connection]
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    job = self._bury(connection)
                    if job is None:
                        continue
                    lost[job[0]] += 1
                    if lost[job[0]] <= RETRIES:
                        waiting.appendleft(job[0])
                    else:
                        yield job[1], LostWorkerError(_how_it_ended(worker.process.exitcode, lost[job[0]]))
                    continue
                if not worker.ready:
                    worker.ready, self.never_started = True, 0
                    continue
                fine, result = answer
                if not fine:
                    raise result
                done, worker.job = worker.job, None
                if done is not None:
                    yield done[1], result

    def _fill(self, waiting: deque[int], tasks: Sequence[Any]) -> None:
        """Starts workers as long as there are tasks for them, and gives a task to everyone who is idle."""
        idle = [c for c, worker in self.crew.items() if worker.job is None]
        while len(self.crew) < self.workers and len(idle) < len(waiting):
            idle.append(self._hire())
        for connection in idle:
            if not waiting:
                return
            if self.crew[connection].ready:
                number = waiting.popleft()
                job = number, tasks[number]
                self.crew[connection].job = job
                try:
                    connection.send(job[1])
                except OSError:  # it has just ended: noticed when it is waited for
                    pass
                except Exception as error:
                    raise ConfigError(
                        f"{self.what}: the work cannot be sent to another process ({error}). {_SEND}"
                    ) from error

    def _hire(self) -> Connection:
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(there, self.function, self.what), daemon=True)
        with interrupts_held():
            process.start()
        there.close()  # so that the end of the process is the end of the connection
        self.crew[here] = _Worker(process)
        return here

    def _bury(self, connection: Connection) -> tuple[int, Any] | None:
        worker = self.crew.pop(connection)
        connection.close()
        worker.process.join()
        if not worker.ready:
            self.never_started += 1
            if self.never_started > RETRIES:
                raise ConfigError(
                    f"{self.what}: worker processes end as they start, for want of memory or because the calling "
                    'script lacks `if __name__ == "__main__":`. Use workers=1'
                )
        return worker.job

    def dismiss(self) -> None:
        """Idle workers end by themselves; one with a task is stopped, since nobody waits for its result."""
        for connection, worker in self.crew.items():
            if worker.job is not None or not worker.ready:
                worker.process.terminate()
            connection.close()
        for worker in self.crew.values():
            worker.process.join()


def _how_it_ended(code: int | None, times: int) -> str:
    if code is not None and code < 0:
        how = f"killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", perhaps for want of memory"
    else:
        how = f"ended with status {code}"
    return f"its worker process was {how}, {times} times. Use fewer workers"


def _serve(connection: Connection, function: Callable[[Any], Any], what: str) -> None:
    """What a worker does: answers tasks until its parent closes the connection or ends."""
    end_with_parent()
    connection.send(None)
    while True:
        try:
            answer = _answer(function, connection.recv())
        except (EOFError, OSError):
            return
        except Exception as error:  # such as a function that only the parent knows
            answer = (False, ConfigError(f"{what}: another process cannot do the work ({error}). {_SEND}"))
        try:
            connection.send(answer)
        except OSError:
            return
        except Exception as error:
            wrong = answer[1] if isinstance(answer[1], Exception) else error
            connection.send((False, RuntimeError(f"{type(wrong).__name__}: {wrong}")))


def _answer(function: Callable[[Any], Any], task: Any) -> tuple[bool, Any]:
    try:
        return True, function(task)
    except Exception as error:
        error.add_note(traceback.format_exc())  # where it happened is lost with the process
        return False, error
