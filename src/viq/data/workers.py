"""Processes that read samples, each at its own pipe.

``concurrent.futures`` has one pipe for the results of all its processes. One that is killed while
it writes a large result leaves the reader waiting for the rest for ever. Here the end of a process
ends its pipe, which is noticed at once; and a process whose parent was killed ends for the same
reason.
"""

import multiprocessing
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from viq.errors import ViQError

_Task = tuple[int, "Future[Any]"]


class WorkerPool:
    """Calls one function of a number in several processes, first come first served."""

    def __init__(self, function: Callable[[int], Any], workers: int) -> None:
        # Never a fork of this process: torch's threads run in it.
        name = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context: Any = multiprocessing.get_context(name)
        if name == "forkserver":
            context.set_forkserver_preload([__name__])  # torch takes seconds; now only once
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._processes: list[BaseProcess] = []
        self._threads: list[threading.Thread] = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, function), daemon=True)
            process.start()
            theirs.close()  # the worker's is the only other end, so its death closes the pipe
            thread = threading.Thread(target=self._serve, args=(process, ours), daemon=True)
            thread.start()
            self._processes.append(process)
            self._threads.append(thread)

    def submit(self, number: int) -> "Future[Any]":
        """Lets a process call the function.

        The result raises ViQError where the process died, and RuntimeError with the process's
        traceback where the function raised.
        """
        future: Future[Any] = Future()
        self._tasks.put((number, future))
        return future

    def close(self) -> None:
        """Ends the processes; what was not yet read is lost."""
        for process in self._processes:
            process.kill()  # they only read, so there is nothing to tidy up
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            process.join()

    def _serve(self, process: BaseProcess, connection: Connection) -> None:
        """Hands tasks to one process; once that is dead, lets every further task fail."""
        dead: ViQError | None = None
        with connection:
            while (task := self._tasks.get()) is not None:
                number, future = task
                if dead is None:
                    try:
                        connection.send(number)
                        trace, value = connection.recv()
                    except (EOFError, OSError):
                        dead = ViQError(_obituary(process))
                    except Exception as error:  # what came cannot be unpickled
                        future.set_exception(error)
                        continue
                if dead is not None:
                    future.set_exception(dead)
                elif trace is not None:
                    future.set_exception(RuntimeError(f"in a process that reads data:\n{trace}"))
                else:
                    future.set_result(value)


def _obituary(process: BaseProcess) -> str:
    process.join(5)
    code = process.exitcode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended ({code})"
    return (
        f"a process that reads data {how}; if memory ran out, use fewer workers, or 0 to read in"
        " the main process"
    )


def _work(connection: Connection, function: Callable[[int], Any]) -> None:
    """What a process does: answers each number with (traceback or None, result)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # the parent is gone
        while True:
            number = connection.recv()
            try:
                answer: tuple[str | None, Any] = (None, function(number))
            except Exception:
                answer = (traceback.format_exc(), None)
            connection.send(answer)
