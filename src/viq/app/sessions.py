"""Who has which pictures: in memory only, for as long as a page is open or in use.

A page gets an unguessable token when it opens and sends it with every request. It is in no cookie,
so no other site can make a browser send it, and in no address, so it is in no history and no log.
"""

import ctypes
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from viq.app.limits import Limits, RefusedError
from viq.app.pictures import Picture

OVER = "This page was not used for long, or the server was restarted; reload it to go on."
GONE = "This picture is no longer kept; load it again."


class Session:
    """One open page."""

    def __init__(self, token: str, now: float) -> None:
        self.token, self.used = token, now
        self.pictures: OrderedDict[str, Picture] = OrderedDict()  # that used longest ago first

    def picture(self, number: str) -> Picture:
        """One of its pictures.

        Raises:
            RefusedError: there is none by that number, or no longer.
        """
        if (picture := self.pictures.get(number)) is None:
            raise RefusedError(404, GONE)
        self.pictures.move_to_end(number)
        return picture

    @property
    def nbytes(self) -> int:
        """Of all its pictures; an original that several share counts once."""
        sources = {id(one.source): one.source.nbytes for one in self.pictures.values()}
        return sum(one.nbytes for one in self.pictures.values()) + sum(sources.values())


class Sessions:
    """All open pages, the one used longest ago first. Lives in the event loop."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def nbytes(self) -> int:
        """Of all pictures."""
        return sum(session.nbytes for session in self._sessions.values())

    def new(self) -> Session:
        """A session for a page that opens; with too many open, one idle longest is over."""
        self.sweep()
        while len(self._sessions) >= self._limits.max_sessions:
            self._sessions.popitem(last=False)
        session = Session(secrets.token_urlsafe(24), self._clock())
        self._sessions[session.token] = session
        return session

    def find(self, token: str) -> Session:
        """The session of a token.

        Raises:
            RefusedError: there is none, or no longer.
        """
        self.sweep()
        if (session := self._sessions.get(token)) is None:
            raise RefusedError(401, OVER)
        session.used = self._clock()
        self._sessions.move_to_end(token)
        return session

    def forget(self, token: str) -> None:
        """Ends a session and drops its pictures."""
        self._sessions.pop(token, None)

    def keep(self, session: Session, picture: Picture) -> None:
        """Adds a picture to a session; older ones go where there are too many."""
        session.pictures[picture.number] = picture
        limits = self._limits
        while len(session.pictures) > 1 and (
            len(session.pictures) > limits.max_pictures or session.nbytes > limits.max_session_bytes
        ):
            session.pictures.popitem(last=False)
        for other in self._sessions.values():
            while self.nbytes > limits.max_total_bytes and other.pictures and other is not session:
                other.pictures.popitem(last=False)

    def sweep(self) -> None:
        """Ends the sessions that were not used for long."""
        last = self._clock() - self._limits.idle_seconds
        while self._sessions and next(iter(self._sessions.values())).used < last:
            self._sessions.popitem(last=False)


def give_back() -> None:
    """Gives memory that is free back to the system, which glibc does only at the heap's end."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
