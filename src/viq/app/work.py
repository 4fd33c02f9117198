"""The line of people who wait for the models, and the one thread in which those run.

All that counts and orders lives in the event loop, so nothing here takes a lock. A person who
leaves loses their place; what runs for them already is told, and stops where it looks.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from viq.app.limits import RefusedError
from viq.errors import ViQError

T = TypeVar("T")
Event = dict[str, Any]

BEAT = 5.0  # seconds after which a line is sent even if nothing happened: who has left is noticed
FAILED = "Something went wrong on the server; its log says what."
NO_MEMORY = "There is not enough memory for this; a smaller picture takes less."


class LeftError(Exception):
    """Nobody waits for the result any more."""


class Job:
    """One request's place in line, from before its upload until its work is done."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.running = False
        self.events: deque[Event] = deque()  # not yet sent
        self.news = asyncio.Event()  # there are events, or the line has moved
        self._left = threading.Event()
        self._loop = asyncio.get_running_loop()

    def tell(self, **event: Any) -> None:
        """From the working thread: sends the page an event.

        Raises:
            LeftError: there is no one to send it to.
        """
        self.check()
        self._loop.call_soon_threadsafe(self._tell, event)

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        self.news.set()

    @property
    def left(self) -> bool:
        """Whether the person has left."""
        return self._left.is_set()

    def leave(self) -> None:
        """Marks that the person has left."""
        self._left.set()

    def check(self) -> None:
        """From the working thread, between two steps.

        Raises:
            LeftError: the person has left.
        """
        if self.left:
            raise LeftError


class Work:
    """Runs functions one after the other in a thread, in the order in which they came."""

    def __init__(self, *, max_jobs: int, max_session_jobs: int) -> None:
        self._max_jobs, self._max_session_jobs = max_jobs, max_session_jobs
        self._jobs: list[Job] = []  # all, those that still upload included
        self._line: list[Job] = []  # those whose work is known; the first may run
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="viq-work")

    @property
    def jobs(self) -> int:
        """How many requests there are now."""
        return len(self._jobs)

    def enter(self, owner: str) -> Job:
        """A place for one more request, before it is known what it brings.

        Raises:
            RefusedError: there are too many already, of all or of this owner.
        """
        if sum(job.owner == owner for job in self._jobs) >= self._max_session_jobs:
            raise RefusedError(
                429, "Several of your requests are in line already; wait for one to end."
            )
        if len(self._jobs) >= self._max_jobs:
            raise RefusedError(503, "Too many people are waiting; try again in a minute.")
        job = Job(owner)
        self._jobs.append(job)
        return job

    def leave(self, job: Job) -> None:
        """Gives a place up; where its work runs already, once that has stopped."""
        job.leave()
        if not job.running:
            self._remove(job)

    async def run(
        self, job: Job, do: Callable[[Job], T], finish: Callable[[T], Event | None]
    ) -> AsyncIterator[Event]:
        """What happens to a job: how many are ahead, what ``do`` tells, an error or the end.

        Args:
            job: from ``enter``. Whoever iterates calls ``leave`` after, however that ended.
            do: runs in the working thread.
            finish: makes one more event of its result, in the event loop.
        """
        self._line.append(job)
        while (ahead := self._line.index(job)) > 0:
            yield {"type": "waiting", "ahead": ahead}
            await _beat(job.news)
        job.running = True
        future = asyncio.get_running_loop().run_in_executor(self._thread, do, job)
        future.add_done_callback(lambda done: self._ended(job, done))
        yield {"type": "working"}
        while job.running or job.events:
            while job.events:
                yield job.events.popleft()
            if job.running and not await _beat(job.news):
                yield {"type": "working"}
        try:
            if (event := finish(await future)) is not None:
                yield event
        except LeftError:
            return
        except (RefusedError, ViQError) as error:
            yield {"type": "error", "message": str(error)}
            return
        except Exception as error:
            logging.getLogger("viq.app").exception("a request failed")
            yield {"type": "error", "message": NO_MEMORY if _no_memory(error) else FAILED}
            return
        yield {"type": "done"}

    def close(self) -> None:
        """Drops all that waits, and waits for what runs."""
        for job in self._jobs:
            job.leave()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _ended(self, job: Job, future: "asyncio.Future[Any]") -> None:
        if not future.cancelled():
            future.exception()  # seen here, should nobody be there to see it
        job.running = False
        job.news.set()
        self._remove(job)

    def _remove(self, job: Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
        if job in self._line:
            self._line.remove(job)
            for other in self._line:
                other.news.set()


async def _beat(news: asyncio.Event) -> bool:
    """Waits for news, but not long; whether there are any."""
    try:
        async with asyncio.timeout(BEAT):
            await news.wait()
    except TimeoutError:
        return False
    news.clear()
    return True


def _no_memory(error: Exception) -> bool:
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's
        or "can't allocate memory" in str(error)
    )
