"""Units in several processes of this machine.

Each process has a pipe of its own. The end of a process ends its pipe, which is noticed at once: it
is replaced, and its unit done again. A process whose parent was killed notices the same way, and
ends in the midst of what it does.
"""

import multiprocessing
import os
import queue
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from viq.extraction.report import Event, Failure, Progress, Running
from viq.extraction.unit import Extractor, Work

MOST_DEATHS = 3  # of processes at one unit

_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class LocalEngine:
    """Does units in processes of this machine.

    Attributes:
        workers: how many; by default one a GPU, or one a CPU core.
    """

    workers: int | None = None

    def __call__(self, work: Work, units: Sequence[int]) -> Generator[Event]:
        """Does the units and tells of it. The processes end when the iterator does."""
        todo, deaths = deque(units), Counter[int]()
        device = work.settings.device
        workers: list[_Worker] = []
        _start_server()
        try:
            for number in range(min(len(units), self.workers or _default_workers(device))):
                workers.append(_Worker(work, _device(device, number)))
                workers[-1].begin(todo.popleft())
            while busy := [worker for worker in workers if worker.unit is not None]:
                ready = wait([worker.connection for worker in busy])
                for worker in (one for one in busy if one.connection in ready):
                    if (event := worker.receive()) is None:
                        event = worker.obituary()
                        deaths[event.unit] += 1
                        if deaths[event.unit] < MOST_DEATHS:
                            worker.restart()
                            worker.begin(event.unit)
                            event = Running(unit=event.unit, progress=Progress())
                    elif not isinstance(event, Running):
                        worker.begin(todo.popleft() if todo else None)
                    yield event
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """One process and what it is doing."""

    def __init__(self, work: Work, device: str) -> None:
        self._work, self._device = work, device
        self.unit: int | None = None
        self.restart()

    def restart(self) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        arguments = (theirs, self._work, self._device)
        self._process: BaseProcess = _CONTEXT.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # the child's is the only other end, so its death closes the pipe

    def begin(self, unit: int | None) -> None:
        self.unit = unit
        if unit is not None:
            with suppress(OSError):  # it is dead, which the next wait tells
                self.connection.send(unit)

    def receive(self) -> Event | None:
        """What the process says; None if it is dead."""
        try:
            event: Event = self.connection.recv()
        except (EOFError, OSError):
            return None
        return event

    def obituary(self) -> Failure:
        """What is to be said when processes die of a unit again and again."""
        assert self.unit is not None
        self.end()
        code = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended ({code})"
        reason = (
            f"the process that extracted unit {self.unit} ({self._work.source.where(self.unit)})"
            f" {how}, {MOST_DEATHS} times in all; if memory ran out, take fewer --workers, or a"
            " lower --batch-patches"
        )
        return Failure(unit=self.unit, reason=reason, is_final=True)

    def end(self) -> None:
        self.connection.close()
        self._process.join(0.5)  # a dead one tells how it died
        self._process.kill()  # what it has not finished is done again some other time
        self._process.join()


def _default_workers(device: str) -> int:
    if torch.device(device).type == "cpu":
        return len(os.sched_getaffinity(0))
    return torch.cuda.device_count() if device == "cuda" else 1


def _device(device: str, number: int) -> str:
    """The device of one of several processes: with "cuda" they share the GPUs out."""
    return f"cuda:{number % torch.cuda.device_count()}" if device == "cuda" else device


def _start_server() -> None:
    """Starts the process that forks the workers; this one must not be forked, torch's threads run.

    Ctrl-C reaches all processes of a terminal, but the workers are this one's to end. So it is held
    back while the server starts, which inherits that, and reaches this process alone.
    """
    _CONTEXT.set_forkserver_preload([__name__])  # torch takes seconds; now only once
    resource_tracker.ensure_running()  # it would unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, work: Work, device: str) -> None:
    """What a process does: answers each unit with how it goes, and then with what became of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff's words, which name no file
    units: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, units), daemon=True).start()
    extractor = Extractor(work, device)
    while True:
        connection.send(extractor.attempt(units.get(), connection.send))


def _listen(connection: Connection, units: "queue.SimpleQueue[int]") -> None:
    """Ends the process as soon as there is nobody to work for."""
    try:
        while True:
            units.put(connection.recv())
    except (EOFError, OSError):
        os._exit(1)
