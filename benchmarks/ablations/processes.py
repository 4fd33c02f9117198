"""Child processes whose CPU time is measured, in working folders that remember what is done."""

import fcntl
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from viq.errors import InputError, ViQError
from viq.evaluation.files import whole_text

WAIT = 1.0  # seconds between looks at a lock that another process has


class Ended(NamedTuple):
    """A process that is over."""

    code: int
    cpu_seconds: float  # of all its threads and children


class FailedError(InputError):
    """A process ended with an error; its path is that of the log."""


class StoppedError(ViQError):
    """All processes were asked to end."""


class Processes:
    """Processes that all end when they are asked to."""

    def __init__(self) -> None:
        self._live: set[int] = set()
        self._lock = threading.Lock()
        self.stopping = False

    def run(
        self, command: Sequence[str], log: Path, env: Mapping[str, str], keep_open: int
    ) -> Ended:
        """Runs a command to its end; what it says goes to the end of ``log``.

        Raises:
            StoppedError: nothing begins any more.
        """
        with log.open("ab") as output:
            with self._lock:
                if self.stopping:
                    raise StoppedError("stopped")
                # In a session of its own: Ctrl-C reaches it by way of stop() alone.
                pid = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**env},
                    pass_fds=(keep_open,),
                    start_new_session=True,
                ).pid
                self._live.add(pid)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            with self._lock:  # nobody signals a number that may be another process's by now
                self._live.discard(pid)
                _, status, usage = os.wait4(pid, 0)
        return Ended(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)

    def stop(self) -> None:
        """Asks all to end, as `viq train` does after it has saved its state; none begins anew."""
        with self._lock:
            self.stopping = True
            for pid in self._live:
                os.kill(pid, signal.SIGTERM)


@dataclass
class Tally:
    """What is known of one part of a run."""

    begun: int = 0
    ended: int = 0  # fewer than were begun where this program was killed beside them
    cpu_seconds: float = 0.0  # of those that ended
    done: bool = False


class Work:
    """A run's working folder."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.processes = folder, processes
        self._file = folder / "parts.json"

    @contextmanager
    def held(self, waiting: Callable[[str], None]) -> Iterator[int]:
        """Waits until no other process works here; gives a file that children keep open.

        Killed, this program leaves its children behind. They have its lock as long as they live,
        so that a second start does not train into the same folder.

        Raises:
            StoppedError: asked to end while it waited.
        """
        with (self.folder / "lock").open("w") as lock:
            said = False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not said:
                        waiting(f"{self.folder}: waits for a process of an earlier start")
                    said = True
                    if self.processes.stopping:
                        raise StoppedError("stopped") from None
                    threading.Event().wait(WAIT)
            yield lock.fileno()

    def do(self, part: str, command: Sequence[str], env: Mapping[str, str], lock: int) -> None:
        """Runs a part's command unless it was run to its end before.

        Raises:
            FailedError: it failed; names the log and what that says last.
            StoppedError: asked to end.
        """
        tallies = self.tallies()
        tally = tallies.setdefault(part, Tally())
        if tally.done:
            return
        tally.begun += 1
        self._keep(tallies)
        log = self.folder / f"{part}.log"
        ended = self.processes.run(command, log, env, lock)
        tally.ended += 1
        tally.cpu_seconds += ended.cpu_seconds
        tally.done = ended.code == 0
        self._keep(tallies)
        if self.processes.stopping and not tally.done:
            raise StoppedError("stopped")
        if not tally.done:
            raise FailedError(f"{part} ended with code {ended.code}: {_last_line(log)}", log)

    def tallies(self) -> dict[str, Tally]:
        """What is known of each part.

        Raises:
            InputError: the file is damaged.
        """
        try:
            known = json.loads(self._file.read_text())
            return {name: Tally(**one) for name, one in known.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"cannot be read ({error}); remove the folder", self._file) from error

    def _keep(self, tallies: Mapping[str, Tally]) -> None:
        whole_text(self._file, json.dumps({name: asdict(t) for name, t in tallies.items()}))


def _last_line(log: Path) -> str:
    """Of bars of progress only how they ended."""
    lines = log.read_text("utf-8", "replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
